"""Checks of a stage's result, and the findings that follow from its masks."""

import math
import time
from collections.abc import Callable

from torch import nn

from models.connected import empty_layers, reached_outputs
from pruners.base import (
    Finding,
    Masks,
    count_kept,
    count_prunable,
    keep_count,
    kept_by_layer,
)
from runner.engine.checkpoint import State
from runner.engine.divergence import Divergence, divergence_of, is_diverged
from runner.engine.stage_meta import ENTRY, StageMeta
from runner.engine.store import Artefact
from runner.spec.findings import CONNECTED, EMPTY, REACHED
from runner.spec.run import Stage


def checked(stage: Stage, compute: Callable[[], Artefact]) -> Artefact:
    """The result of `compute` after all checks; without tensors and findings if it diverged.

    Its metadata has the entry `divergence`. Whether all numbers are finite is checked first: other
    checks of numbers that are not would name a wrong cause.

    Raises:
        RuntimeError: the numbers are finite, but the masks are wrong.
    """
    started = time.monotonic()
    try:
        artefact = compute()
    except FloatingPointError as error:
        return diverged(untrained({}, started), Divergence(str(error)))
    if is_diverged(artefact.meta):
        return artefact
    if found := divergence_of(artefact):
        return diverged(artefact.meta, found)
    check_masked(artefact.weights, artefact.masks, stage)
    artefact.meta[ENTRY] = None
    return artefact


def diverged(meta: StageMeta, found: Divergence) -> Artefact:
    """The artefact of a stage that diverged: its history and cost alone, no tensor or finding."""
    kept: StageMeta = {
        "seconds": meta["seconds"],
        "epochs": meta["epochs"],
        "history": meta["history"],
        "report": {},
        ENTRY: found.entry,
    }
    return Artefact(meta=kept)


def untrained(report: dict[str, Finding], started: float) -> StageMeta:
    """The metadata of a stage without training that started at `started`."""
    return {
        "report": report,
        "seconds": time.monotonic() - started,
        "epochs": 0,
        "history": [],
    }


def check_masked(weights: State, masks: Masks, stage: Stage) -> None:
    """Check a finished stage: pruned weights are exact zeros, and the density is the requested one.

    The density is not checked where it holds in expectation only.

    Raises:
        RuntimeError: a check failed, so the method or the loop is wrong; nothing is stored.
    """
    # Compared with zero rather than multiplied by the mask: NaN times 0 is NaN.
    wrong = {
        name: (weights[name] != 0) & ~mask.to(weights[name].device) for name, mask in masks.items()
    }
    for name, alive in kept_by_layer(wrong).items():
        if alive:
            raise RuntimeError(
                f"stage {stage.name!r}: {alive} pruned weights of {name} are not zero"
            )
    if stage.density is None or not stage.exact or not masks:
        return
    kept, requested = count_kept(masks), keep_count(stage.density, count_prunable(masks))
    if kept != requested:
        raise RuntimeError(
            f"stage {stage.name!r} kept {kept:,} weights instead of {requested:,}"
            f" (density={stage.density:g})"
        )


def disconnected(model: nn.Module, masks: Masks, image: tuple[int, int, int]) -> dict[str, Finding]:
    """Findings on what the masks disconnect; {} for most masks.

    They count outputs that no input reaches, and layers without a kept weight.
    """
    reached, outputs = reached_outputs(model, masks, image)
    empty = empty_layers(masks)
    findings: dict[str, Finding] = {CONNECTED: 0} if not reached else {}
    findings |= {REACHED: reached} if reached < outputs else {}
    return findings | ({EMPTY: empty} if empty else {})


def series_entry(stage: Stage, series: dict[str, list[float]]) -> StageMeta:
    """A stage's series of numbers for figures, as an entry of its metadata; {} without any.

    Raises:
        FloatingPointError: a number is not finite.
    """
    for name, numbers in series.items():
        if not all(map(math.isfinite, numbers)):
            raise FloatingPointError(
                f"stage {stage.name!r}: series {name} is not finite: the weights, or numbers"
                " computed from them, have overflowed"
            )
    return {"series": series} if series else {}
