"""Networks and masks of finished runs, for a user's own code."""

from pathlib import Path
from typing import Literal, get_args

import torch
from torch import Generator, nn

from pruners.base import Masks, apply_masks
from runner.config.build import parse_run
from runner.display.progress import Quiet, Watcher
from runner.engine.checkpoint import State
from runner.engine.context import RunContext
from runner.engine.machine import Machine
from runner.engine.record import final_stage
from runner.engine.starting_point import starting_point
from runner.engine.store import Store
from runner.errors import Damaged, nearest, one_of
from runner.records.find import finished_runs, run_in
from runner.records.folders import CONFIG, RECORD, record_path
from runner.records.stored import StoredRun
from runner.spec.findings import is_diverged
from runner.spec.identity import stage_keys
from runner.spec.run import Run, Stage

Point = Literal["end", "rewind", "init"]
UNWATCHED = Watcher(Path(), Quiet(), {}, writes=False)


def load_ticket(
    run_id: str,
    results_dir: str | Path = "results",
    cache_dir: str | Path = ".cache",
    at: Point = "end",
) -> tuple[nn.Module, Masks]:
    """A network of a finished run and the run's masks by parameter name (True = kept).

    The network is on the CPU. Its pruned weights are zero, and pruners/keep.py keeps them so while
    it trains.

    Args:
        at: end: the trained network, in eval mode. rewind: the weights from which the run's last
            training began, in training mode; with the masks it is the ticket. init: the initial
            weights, in training mode.

    Raises:
        FileNotFoundError: `results_dir` has no such finished run, the run diverged or is a
            measurement only, or `cache_dir` no longer has its weights as they were written.
        ValueError: `at` is something else.
    """
    if at not in get_args(Point):
        raise ValueError(one_of("at", at, get_args(Point)))
    results, store = Path(results_dir), Store(Path(cache_dir))
    finished = _finished(run_id, results)
    run = _run(finished, results)
    name = _network_stage(run, finished)
    keys = {stage["name"]: stage["key"] for stage in finished.record["stages"]}
    if name not in keys:
        raise _foreign(run_id, results, f"its stage {name!r} is not in the record")
    try:
        artefact = store.load(keys[name])
        if at == "end":
            return _network(run, artefact.weights), artefact.masks
        return _at_start(run, run.stage(name), store, artefact.masks, at), artefact.masks
    except Damaged as error:
        again = _way_out(record_path(results, run_id), stage_keys(run)[name] == keys[name])
        raise FileNotFoundError(_lost(run_id, name, store.path(keys[name]), error, again)) from None
    except RuntimeError as error:  # sealed weights, so the network is not theirs
        raise _foreign(run_id, results, str(error).splitlines()[0]) from None


def _finished(run_id: str, results: Path) -> StoredRun:
    """What is stored about the run.

    Raises:
        FileNotFoundError: there is no such finished run.
    """
    finished = run_in([results], run_id)
    if finished is None:
        others = [name for name in finished_runs(results) if name != run_id]
        raise FileNotFoundError(_unfinished(run_id, results / "runs", others))
    return finished


def _way_out(record: Path, current: bool) -> str:
    """How to get lost weights again. `current`: whether this code would compute them."""
    if not current:
        return "use the code of its time: its NUMERICS are older"
    return f"{f'delete {record} and ' if record.exists() else ''}run it again"


def _at_start(run: Run, stage: Stage, store: Store, masks: Masks, at: Point) -> nn.Module:
    """The masked network at the beginning of the run, or of its last stage."""
    machine = Machine(torch.device("cpu"), store.root, store.root, store.root, 0.0, "none")
    context = RunContext(run, machine, store, UNWATCHED)
    model = context.fresh_model() if at == "init" else starting_point(context, stage).model
    apply_masks(model, masks)
    return model.train()


def _network_stage(run: Run, finished: StoredRun) -> str:
    """The stage whose network is the run's result.

    Raises:
        FileNotFoundError: the run diverged or is a measurement only, so it has no network.
    """
    if is_diverged(finished.record):
        raise FileNotFoundError(
            f"run_id={finished.run_id} diverged, so it has no network: its record has the stage"
            " and epoch"
        )
    name = final_stage(run)
    if name is None:
        raise FileNotFoundError(
            f"run_id={finished.run_id} only measures: there are numbers in its record and in"
            " series.json, but no network"
        )
    return name


def _network(run: Run, weights: State) -> nn.Module:
    info = run.dataset.info()
    model: nn.Module = run.model(info.channels, info.classes, info.size, Generator())
    model.load_state_dict(weights)
    return model.eval()


def _run(finished: StoredRun, results: Path) -> Run:
    """The run of a record, built from its configuration.

    Raises:
        FileNotFoundError: the configuration cannot be read.
    """
    try:
        return parse_run(finished.config)
    except (KeyError, TypeError, ValueError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise _foreign(finished.run_id, results, reason) from None


def _lost(run_id: str, stage: str, folder: Path, error: Damaged, again: str) -> str:
    return (
        f"run_id={run_id}: the weights of stage {stage!r} are not in {folder}: {error}; pass their"
        f" cache_dir, or {again}"
    )


def _foreign(run_id: str, results: Path, reason: str) -> FileNotFoundError:
    path = record_path(results, run_id).with_name(CONFIG)
    return FileNotFoundError(
        f"run_id={run_id}: {path} is damaged, or another version of the code wrote it: {reason};"
        f" delete {path.with_name(RECORD)} and run it again"
    )


def _unfinished(run_id: str, folder: Path, finished: list[str]) -> str:
    """A message that the run is not finished, with the nearest name and some finished runs."""
    some = "".join(f"\n  {name}" for name in finished[:10])
    return (
        f"run_id={run_id} is not finished under {folder}{nearest(run_id, finished)};"
        f" {len(finished)} runs are{some}"
    )
