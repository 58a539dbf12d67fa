"""Masks of a file (`MaskFile`), for the stage that reads them and for weights beside them.

Names are found as those of weights are (runner/engine/weight_names.py). Each prunable layer must
have a mask of its shape, and nothing else may be pruned.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from pruners.base import Finding, Masks, count_kept, prunable_names
from runner.engine.checkpoint import State
from runner.engine.context import RunContext
from runner.engine.pretrained import read_as
from runner.engine.stage_checks import untrained
from runner.engine.store import Artefact
from runner.engine.weight_names import Found, by_order, found, misfits, some
from runner.engine.weights_file import Content, masks_of
from runner.errors import ConfigError
from runner.paths import user_path
from runner.spec.findings import MASKS_MISSING, MASKS_ORIGIN, MASKS_RENAMED
from runner.spec.inputs import MaskFile
from runner.spec.run import Run, Stage


@dataclass(frozen=True)
class FittedMasks:
    """Masks that fit a network.

    Args:
        masks: of all prunable layers in the network's order, on the CPU.
        renamed: what was renamed, for the record; None if nothing was.
        missing: layers without a mask in the file, which stay dense.
    """

    masks: Masks
    renamed: str | None
    missing: tuple[str, ...]


def read(context: RunContext, stage: Stage) -> Artefact:
    """An artefact whose findings are the masks of the stage's file.

    Raises:
        ConfigError: the masks can no longer be read, or do not fit.
    """
    assert stage.mask_file is not None
    started = time.monotonic()
    fitted = fitting_masks(stage.mask_file, context.fresh_model(), context.run)
    report: dict[str, Finding] = {MASKS_ORIGIN: stage.mask_file.content}
    if fitted.renamed is not None:
        report[MASKS_RENAMED] = fitted.renamed
    if fitted.missing:
        report[MASKS_MISSING] = some(fitted.missing)
    return Artefact(findings=dict(fitted.masks), meta=untrained(report, started))


def fitting_masks(file: MaskFile, model: nn.Module, run: Run) -> FittedMasks:
    """The masks of a file for a network.

    Args:
        model: the run's network.

    Raises:
        ConfigError: the file cannot be read or contains no masks, a mask has other values than 0
            and 1, a layer's mask is missing or has another shape, a mask belongs to no layer or
            prunes what is not prunable, or nothing is kept.
    """
    setting, own = f"{file.key}={file.path}", frozenset(model.state_dict())
    content = read_as(setting, user_path(file.path), file.content, partial(masks_of, own=own))
    names = prunable_names(model)
    parameters = {n: torch.empty_like(p, dtype=torch.bool) for n, p in model.named_parameters()}
    result, lines = _found(content, file, parameters, names, run)
    if lines:
        title = f"{setting} does not fit model={run.model.name} on dataset={run.dataset.name}"
        raise ConfigError("\n".join([title, *lines]))
    full = {name: torch.ones(parameters[name].shape, dtype=torch.bool) for name in names}
    masks = {name: result.state.get(name, mask).cpu() for name, mask in full.items()}
    if not count_kept(masks):
        raise ConfigError(f"{setting} keeps no weight: a mask is 1 (True) where a weight is kept")
    missing = tuple(name for name in names if name not in result.state)
    return FittedMasks(masks, result.description, missing)


def _found(
    content: Content, file: MaskFile, parameters: State, names: list[str], run: Run
) -> tuple[Found, list[str]]:
    """The masks by the network's names, and one line for each kind of problem.

    Args:
        parameters: tensors of the shapes of all parameters of the network, bool.
        names: of the prunable ones.
    """
    result = found(content.state, parameters, getattr(run.model, "renamings", ()))
    lines = list(_problems(result.state, parameters, names, file))
    if not lines:
        return result, []
    layers = {name: parameters[name] for name in names}
    key, ordered = file.beside("match"), content.ordered
    paired, advice = by_order(content.state, layers, ordered, file.match, key)
    return (result, [*lines, *advice]) if paired is None else (paired, [])


def _problems(masks: State, parameters: State, names: list[str], file: MaskFile) -> Iterator[str]:
    """One line for each kind of misfit."""
    required = file.missing == "refused"
    layers = {name: parameters[name] for name in names if name in masks or required}
    others = {n: masks[n] for n in masks if n in parameters and n not in names}
    lines = misfits({n: m for n, m in masks.items() if n not in others}, layers)
    yield from lines
    if any("missing:" in line for line in lines):
        yield f"  {file.beside('missing')}=dense keeps all weights of layers without a mask"
    if pruned := sorted((n for n, m in others.items() if not m.all()), key=len):
        yield f"  pruned, but only weights of layers can be: {some(pruned)}"
