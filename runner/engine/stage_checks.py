"""Checks of a stage's result, and the findings that follow from its masks."""

import math
from typing import Any

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
from runner.spec.findings import CONNECTED, EMPTY, REACHED
from runner.spec.run import Stage


def check_masked(model: nn.Module, masks: Masks, stage: Stage) -> None:
    """Check a finished stage: pruned weights are exact zeros, and the density is the requested one.

    The density is not checked where it holds in expectation only.

    Raises:
        RuntimeError: a check failed, so the method or the loop is wrong; nothing is stored.
    """
    # Compared with zero rather than multiplied by the mask: NaN times 0 is NaN.
    wrong = {name: (model.get_parameter(name) != 0) & ~mask for name, mask in masks.items()}
    for name, alive in kept_by_layer(wrong).items():
        if alive:
            raise RuntimeError(
                f"stage {stage.name!r}: {alive} pruned weights of {name} are not zero"
            )
    if stage.density is None or not stage.exact:
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


def series_entry(stage: Stage, series: dict[str, list[float]]) -> dict[str, Any]:
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
