"""The record of a finished run, one JSON file: docs/records.md."""

from collections.abc import Sequence
from fractions import Fraction

from models.count import counted_layers, forward, multiply_accumulates
from pruners.base import Finding, count_kept, count_prunable, keep_count
from runner.engine.context import RunContext
from runner.engine.record_origins import Origins, provenance_of
from runner.engine.stage_meta import ENTRY, DoneStage
from runner.engine.training_cost import training_cost
from runner.records.stored import ORIGIN
from runner.spec.findings import DIVERGED, DIVERGED_EPOCH, DIVERGED_STAGE, DIVERGED_WHAT
from runner.spec.found import Surveyed
from runner.spec.network import prunable_weights, shapes_of
from runner.spec.record import (
    Accuracies,
    Counts,
    Epoch,
    EpochCounts,
    Occasional,
    OwnImages,
    Record,
    RecordedStage,
    RunSettings,
)
from runner.spec.record_values import SCHEMA
from runner.spec.run import Run, trains

UNIT = "multiply-accumulates per example"  # of `flops`
# May differ between equal records: of the record, and of a stage.
NOT_COMPARED = ("runtime_s", "wall_s", "provenance")
NOT_COMPARED_OF_STAGE = ("seconds", "cached", ORIGIN)


def make_record(
    context: RunContext,
    stages: Sequence[DoneStage],
    identity: str,
    wall_s: float,
    started: str,
    finished: str,
) -> Record:
    """The record of a run whose stages are all done, or whose last stage in `stages` diverged.

    Measurements beside the run can be missing, or have no result. A diverged run has none: its
    accuracies, test loss and density are None.

    Raises:
        RuntimeError: the density reached is not the requested one.
    """
    run = context.run
    essential = [meta for meta in stages if not run.stage(meta["name"]).extra]
    final = None if essential[-1][ENTRY] else final_stage(run)
    counts = _counts(context, final)
    _check_density(run, counts, identity)
    trained = [meta for meta in stages if meta["history"] and final]
    return {
        "schema": SCHEMA,
        "run_id": identity,
        "status": DIVERGED if essential[-1][ENTRY] else "done",
        **_settings(run),
        **_narrowed(run),
        **_own_files(context),
        **counts,
        **training_cost(run, stages, final, _times_whole(context, counts)),
        **_accuracies(trained[-1]["history"] if trained else []),
        **_epochs(run),
        "scale": run.scale,
        "runtime_s": round(sum(meta["seconds"] for meta in essential), 3),
        "wall_s": round(wall_s, 3),
        "stages": [_stage_row(meta, Origins.of(stages)) for meta in stages],
        "report": _findings(stages) | _divergence(essential[-1]),
        "provenance": provenance_of(context, stages, started, finished),
    }


def _settings(run: Run) -> RunSettings:
    return {
        "method": run.method,
        "label": run.label,
        "dataset": run.dataset.name,
        "train_fraction": run.train_fraction,
        "model": run.model.name,
        "seed": run.seed,
        "density_target": run.density,
    }


def _own_files(context: RunContext) -> Occasional:
    """What was found in the user's own files of images; {} for other data sets."""
    dataset = context.run.dataset
    if not isinstance(dataset, Surveyed) or dataset.found is None:
        return {}
    found = dataset.found
    data: OwnImages = {
        "content": found.content,
        "channels": found.channels,
        "height": found.height,
        "width": found.width,
        "classes": list(found.classes),
        "train": found.train,
        "validation": found.validation,
        "test": found.test,
        "scale": found.scale,
        "mean": context.data.mean.tolist(),
        "std": context.data.std.tolist(),
    }
    return {"data": data}


def _stage_row(meta: DoneStage, origins: Origins) -> RecordedStage:
    """The row of a stage, with the place of its origin where the stages' origins differ."""
    row: RecordedStage = {
        "name": meta["name"],
        "key": meta["key"],
        "cached": meta["cached"],
        "epochs": meta["epochs"],
        "seconds": round(meta["seconds"], 3),
    }
    if origins.mixed:
        row[ORIGIN] = origins.distinct.index(meta.get(ORIGIN))
    return row


def _findings(stages: Sequence[DoneStage]) -> dict[str, Finding]:
    """The findings of all stages."""
    return {key: value for meta in stages for key, value in meta["report"].items()}


def _divergence(last: DoneStage) -> dict[str, Finding]:
    """The findings on the divergence of the last computed stage; {} if it is finite."""
    entry = last[ENTRY]
    if entry is None:
        return {}
    return {
        DIVERGED_STAGE: last["name"],
        DIVERGED_EPOCH: entry["epoch"],
        DIVERGED_WHAT: entry["what"],
    }


def _check_density(run: Run, counts: Counts, identity: str) -> None:
    """Check the final density against the target of the last pruning, or else of the run.

    Raises:
        RuntimeError: the densities differ although all stages are exact.
    """
    densities = [stage.density for stage in run.stages if stage.density is not None]
    target = densities[-1] if densities else run.masked_density
    exact = all(stage.exact for stage in run.stages)
    kept, prunable = counts["kept"], counts["prunable"]
    if target is None or not exact or kept is None or prunable is None:  # without a result
        return
    requested = keep_count(target, prunable)
    if kept != requested:
        raise RuntimeError(
            f"run {identity} ends with {kept} weights instead of {requested} (density={target:g})"
        )


def _accuracies(history: Sequence[Epoch]) -> Accuracies:
    """Accuracies in percent and test loss of the last epoch, and the best accuracy of all epochs.

    None where nothing was trained or tested.
    """
    last: Epoch = history[-1] if history else {}
    tested = [found for row in history if (found := row["accuracy"]) is not None]
    return {
        "accuracy": last.get("accuracy"),
        "accuracy_best": max(tested, default=None),
        "accuracy_top5": last.get("accuracy_top5"),
        "test_loss": last.get("test_loss"),
        "val_accuracy": last.get("val_accuracy"),
    }


def _epochs(run: Run) -> EpochCounts:
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


def _counts(context: RunContext, final: str | None) -> Counts:
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


def _times_whole(context: RunContext, counts: Counts) -> Fraction:
    """How many times as much a pass through the whole net costs as one through the run's."""
    if context.run.narrowed_from is None:
        return Fraction(1)
    return Fraction(int(counts["flops"]["dense"]), forward(context.layers))


def _narrowed(run: Run) -> Occasional:
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


def comparable(record: Record) -> dict[str, object]:
    """The part of a record that a repeated run must reproduce exactly (docs/records.md)."""
    kept = {key: value for key, value in record.items() if key not in NOT_COMPARED}
    return {
        **kept,
        "stages": [
            {k: v for k, v in stage.items() if k not in NOT_COMPARED_OF_STAGE}
            for stage in record["stages"]
        ],
    }
