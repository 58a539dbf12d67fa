"""The record of a finished run, one JSON file: docs/records.md."""

import shlex
import sys
from dataclasses import asdict, dataclass
from fractions import Fraction
from math import inf
from pathlib import Path
from typing import Any

from models.count import counted_layers, forward, multiply_accumulates
from pruners.base import count_kept, count_prunable, keep_count
from runner.engine.context import RunContext
from runner.engine.divergence import ENTRY
from runner.engine.memory import GIB
from runner.engine.training_cost import training_cost
from runner.records.fields import SCHEMA
from runner.records.provenance import ORIGIN, ORIGINS, OWN, Origin
from runner.registry import find_part, own_version
from runner.spec.findings import DIVERGED, DIVERGED_EPOCH, DIVERGED_STAGE, DIVERGED_WHAT
from runner.spec.found import Surveyed
from runner.spec.identity import NUMERICS, own_parts
from runner.spec.network import prunable_weights, shapes_of
from runner.spec.run import Run, trains

UNIT = "multiply-accumulates per example"  # of `flops`
# May differ between equal records: of the record, and of a stage.
NOT_COMPARED = ("runtime_s", "wall_s", "provenance")
NOT_COMPARED_OF_STAGE = ("seconds", "cached", ORIGIN)


def make_record(
    context: RunContext,
    stages: list[dict[str, Any]],
    identity: str,
    wall_s: float,
    started: str,
    finished: str,
) -> dict[str, Any]:
    """The record of a run whose stages are all done, or whose last stage in `stages` diverged.

    A diverged run has no result: its accuracies, test loss and density are None.

    Args:
        stages: metadata of each stage as stored in the cache, with `name`, `key` and `cached`.

    Raises:
        RuntimeError: the density reached is not the requested one.
    """
    run, divergence = context.run, stages[-1][ENTRY]
    final = None if divergence else final_stage(run)
    counts = _counts(context, final)
    _check_density(run, counts, identity)
    trained = [meta for meta in stages if meta["history"] and not divergence]
    return {
        "schema": SCHEMA,
        "run_id": identity,
        "status": DIVERGED if divergence else "done",
        **_settings(run),
        **_own_files(context),
        **counts,
        **training_cost(run, stages, final, _times_whole(context, counts)),
        **_accuracies(trained[-1]["history"] if trained else []),
        **_epochs(run),
        "scale": run.scale,
        "runtime_s": round(sum(meta["seconds"] for meta in stages), 3),
        "wall_s": round(wall_s, 3),
        "stages": [_stage_row(meta) | Origins.of(stages).row(meta) for meta in stages],
        "report": _report(stages),
        "provenance": _provenance(context, stages) | {"started": started, "finished": finished},
    }


def _settings(run: Run) -> dict[str, Any]:
    return {
        "method": run.method,
        "label": run.label,
        "dataset": run.dataset.name,
        "train_fraction": run.train_fraction,
        "model": run.model.name,
        "seed": run.seed,
        "density_target": run.density,
        **_narrowed(run),
    }


def _own_files(context: RunContext) -> dict[str, Any]:
    """What was found in the user's own files of images; {} for other data sets."""
    dataset = context.run.dataset
    if not isinstance(dataset, Surveyed) or dataset.found is None:
        return {}
    constants = {"mean": context.data.mean.tolist(), "std": context.data.std.tolist()}
    return {"data": {**asdict(dataset.found), **constants}}


def _stage_row(meta: dict[str, Any]) -> dict[str, Any]:
    row = {key: meta[key] for key in ("name", "key", "cached", "epochs")}
    return {**row, "seconds": round(meta["seconds"], 3)}


def _report(stages: list[dict[str, Any]]) -> dict[str, Any]:
    """The findings of all stages, and those on a divergence."""
    found = {key: value for meta in stages for key, value in meta["report"].items()}
    return found | _divergence(stages[-1])


def _divergence(last: dict[str, Any]) -> dict[str, Any]:
    """The findings on the divergence of the last computed stage; {} if it is finite."""
    if not last[ENTRY]:
        return {}
    return {
        DIVERGED_STAGE: last["name"],
        DIVERGED_EPOCH: last[ENTRY]["epoch"],
        DIVERGED_WHAT: last[ENTRY]["what"],
    }


def _check_density(run: Run, counts: dict[str, Any], identity: str) -> None:
    """Check the final density against the target of the last pruning, or else of the run.

    Raises:
        RuntimeError: the densities differ although all stages are exact.
    """
    densities = [stage.density for stage in run.stages if stage.density is not None]
    target = densities[-1] if densities else run.masked_density
    exact = all(stage.exact for stage in run.stages)
    if target is None or not exact or counts["kept"] is None:  # without a result
        return
    kept, requested = counts["kept"], keep_count(target, counts["prunable"])
    if kept != requested:
        raise RuntimeError(
            f"run {identity} ends with {kept} weights instead of {requested} (density={target:g})"
        )


def _accuracies(history: list[dict[str, Any]]) -> dict[str, float | None]:
    """Accuracies in percent and test loss of the last epoch, and the best accuracy of all epochs.

    None where nothing was trained or tested.
    """
    last = history[-1] if history else {}
    tested = [row["accuracy"] for row in history if row["accuracy"] is not None]
    return {
        "accuracy": last.get("accuracy"),
        "accuracy_best": max(tested, default=None),
        "accuracy_top5": last.get("accuracy_top5"),
        "test_loss": last.get("test_loss"),
        "val_accuracy": last.get("val_accuracy"),
    }


def _epochs(run: Run) -> dict[str, Any]:
    """Epochs of the paper's Epoch column, epochs of all stages, and their kind: search or train.

    A stage that continues a schedule counts with all epochs of that schedule.
    """
    column = [stage for stage in run.stages if stage.name in run.epoch_column]
    counted = [s.recipe.epochs if s.start.continues else trains(s) for s in column if s.recipe]
    return {
        "epochs": sum(counted),
        "epochs_total": sum(trains(stage) for stage in run.stages),
        "epoch_kind": "search" if any(stage.kind == "search" for stage in column) else "train",
    }


@dataclass(frozen=True)
class Origins:
    """By what the stages of a run were computed (`Origin` as JSON; None if that was not stored).

    Args:
        distinct: each origin once, in the order of the stages.
        last: the last stage's.
    """

    distinct: list[dict[str, Any] | None]
    last: dict[str, Any] | None

    @classmethod
    def of(cls, stages: list[dict[str, Any]]) -> "Origins":
        """The origins of stages, given their metadata."""
        distinct: list[dict[str, Any] | None] = []
        for meta in stages:
            if meta.get(ORIGIN) not in distinct:
                distinct.append(meta.get(ORIGIN))
        return cls(distinct, stages[-1].get(ORIGIN))

    def row(self, meta: dict[str, Any]) -> dict[str, int]:
        """The stage's place in `distinct`; {} if all stages have the last stage's origin."""
        mixed = len(self.distinct) > 1
        return {ORIGIN: self.distinct.index(meta.get(ORIGIN))} if mixed else {}

    def provenance(self, present: Origin) -> dict[str, Any]:
        """The last stage's origin, or the present process's if it is unknown, and any mixture."""
        mixed = {ORIGINS: self.distinct} if len(self.distinct) > 1 else {}
        return {**(self.last or present.as_json()), **mixed}


def _provenance(context: RunContext, stages: list[dict[str, Any]]) -> dict[str, Any]:
    """Provenance of the record's numbers, without the times."""
    run = context.run
    return {
        **Origins.of(stages).provenance(context.origin),
        "memory_gb": None if context.memory == inf else context.memory / GIB,
        "command": shlex.join([Path(sys.executable).name, *sys.argv]),
        "numerics": {kind: NUMERICS[kind] for kind in sorted({s.kind for s in run.stages})},
        "precision": run.precision,
        "dataset_checksum": stages[-1]["dataset_checksum"],
        **_own(run),
    }


def _own(run: Run) -> dict[str, dict[str, dict[str, str]]]:
    """Where the parts of the user's own in a run are from, by tag; {} if it has none."""
    found = {
        tag: {"from": find_part(tag).source, "version": own_version(cls)}
        for tag, cls in sorted(own_parts(run).items())
    }
    return {OWN: found} if found else {}


def _counts(context: RunContext, final: str | None) -> dict[str, Any]:
    """Densities and multiply-accumulates of the masks of the stage `final`; None without it.

    Of a narrower form of a net, they are its shares of the whole net.
    """
    run, info = context.run, context.run.dataset.info()
    shape, net = (info.channels, info.size, info.size), shapes_of(run.model, info)
    masks = context.store.load(context.keys[final]).masks if final else {}
    dense, nonzero = multiply_accumulates(net, shape, masks)
    prunable = count_prunable(masks) if masks else prunable_weights(net)
    kept = count_kept(masks) if masks else prunable
    if run.narrowed_from is not None:
        whole = shapes_of(run.narrowed_from, info)
        prunable, dense = prunable_weights(whole), forward(counted_layers(whole, shape))
    return {
        "density": kept / prunable if final else None,
        "sparsity": 1 - kept / prunable if final else None,
        "prunable": prunable,
        "kept": kept if final else None,
        "flops": {"dense": dense, "nonzero": nonzero if final else None, "unit": UNIT},
    }


def _times_whole(context: RunContext, counts: dict[str, Any]) -> Fraction:
    """How many times as much a pass through the whole net costs as one through the run's."""
    if context.run.narrowed_from is None:
        return Fraction(1)
    return Fraction(counts["flops"]["dense"], forward(context.layers))


def _narrowed(run: Run) -> dict[str, Any]:
    """Channels of the widest layer of a narrower form and of the whole net; {} for whole nets."""
    if run.narrowed_from is None:
        return {}
    whole, own = (each.widest or max(each.channels) for each in (run.narrowed_from, run.model))
    return {"narrowed": {"widest": own, "from": whole}}


def final_stage(run: Run) -> str | None:
    """Name of the stage whose weights and masks are the run's result.

    The last stage that is not a measurement; None for a run of measurements only.
    """
    return next((stage.name for stage in reversed(run.stages) if stage.kind != "measure"), None)


def comparable(record: dict[str, Any]) -> dict[str, Any]:
    """The part of a record that a repeated run must reproduce exactly (docs/records.md)."""
    kept = {key: value for key, value in record.items() if key not in NOT_COMPARED}
    return {
        **kept,
        "stages": [
            {k: v for k, v in stage.items() if k not in NOT_COMPARED_OF_STAGE}
            for stage in record["stages"]
        ],
    }
