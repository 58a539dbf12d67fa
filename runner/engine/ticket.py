"""Access to the trained network and masks of a finished run."""

from pathlib import Path

from torch import Generator, nn

from pruners.base import Masks
from runner.config.build import parse_run
from runner.engine.record import final_stage
from runner.engine.store import Store
from runner.errors import nearest
from runner.records.find import finished_runs, run_in
from runner.spec.identity import stage_keys


def load_ticket(
    run_id: str, results_dir: str | Path = "results", cache_dir: str | Path = ".cache"
) -> tuple[nn.Module, Masks]:
    """The trained network of a finished run and its masks by parameter name (True = kept).

    The network is on the CPU and in eval mode.

    Raises:
        FileNotFoundError: `results_dir` has no such finished run, the run is a measurement only, or
            `cache_dir` no longer has its weights.
    """
    finished = run_in([Path(results_dir)], run_id)
    if finished is None:
        others = finished_runs(Path(results_dir))
        some = "".join(f"\n  {name}" for name in others[:10])
        runs = Path(results_dir) / "runs"
        raise FileNotFoundError(
            f"run_id={run_id} is not finished under {runs}{nearest(run_id, others)};"
            f" {len(others)} runs are{some}"
        )
    run = parse_run(finished.config)
    name = final_stage(run)
    if name is None:
        raise FileNotFoundError(
            f"run_id={run_id} is a measurement alone: it left numbers in its record and in"
            " series.json, but no net"
        )
    key = next(stage["key"] for stage in finished.record["stages"] if stage["name"] == name)
    store = Store(Path(cache_dir))
    if not store.has(key):
        again = (
            "run it again"
            if stage_keys(run)[name] == key
            else "its NUMERICS are older than this code's"
        )
        raise FileNotFoundError(
            f"run_id={run_id}: the weights of stage {name!r} are not in {store.path(key)}; name"
            f" their cache_dir, or {again}"
        )
    artefact = store.load(key)
    info = run.dataset.info()
    model: nn.Module = run.model(info.channels, info.classes, info.size, Generator())
    model.load_state_dict(artefact.weights)
    return model.eval(), artefact.masks
