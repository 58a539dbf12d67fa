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
    results, store = Path(results_dir), Store(Path(cache_dir))
    finished = run_in([results], run_id)
    if finished is None:
        raise FileNotFoundError(_unfinished(run_id, results / "runs", finished_runs(results)))
    run = parse_run(finished.config)
    name = final_stage(run)
    if name is None:
        raise FileNotFoundError(
            f"run_id={run_id} only measures: there are numbers in its record and in series.json,"
            " but no network"
        )
    key = next(stage["key"] for stage in finished.record["stages"] if stage["name"] == name)
    if not store.has(key):
        current = stage_keys(run)[name] == key
        again = "run it again" if current else "use the code of its time: its NUMERICS are older"
        raise FileNotFoundError(
            f"run_id={run_id}: the weights of stage {name!r} are not in {store.path(key)}; pass"
            f" their cache_dir, or {again}"
        )
    artefact, info = store.load(key), run.dataset.info()
    model: nn.Module = run.model(info.channels, info.classes, info.size, Generator())
    model.load_state_dict(artefact.weights)
    return model.eval(), artefact.masks


def _unfinished(run_id: str, folder: Path, finished: list[str]) -> str:
    """A message that the run is not finished, with the nearest name and some finished runs."""
    some = "".join(f"\n  {name}" for name in finished[:10])
    return (
        f"run_id={run_id} is not finished under {folder}{nearest(run_id, finished)};"
        f" {len(finished)} runs are{some}"
    )
