"""Finished runs as flat rows: the record's numbers, its findings and the configuration, by column.

`winnow table` groups such rows, and `runner.load_records` gives them as a pandas DataFrame.
"""

import glob
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from pruners.declared import Finding
from runner.errors import ConfigError
from runner.paths import expand_user
from runner.records.find import sources
from runner.records.folders import RECORD
from runner.records.stored import StoredRun
from runner.spec.record import single_values

Cells = dict[str, Finding]  # column -> number, text, truth value or None
OF_MACHINE = ("env", "logger")  # parts of a configuration that are not part of a run
SCALARS = (bool, int, float, str, type(None))
RUNS, PACKED = "runs", "records"  # folders of a results directory


def load_records(*places: str | Path) -> Any:
    """A pandas DataFrame of finished runs: one row for each, sorted by run id.

    Columns are the fields of the record (accuracy, density, seed, ...; docs/records.md), the
    method's findings by name, and the values of the configuration by key (`train.lr`,
    `method.score.batches`, `retrain.name`).

    Args:
        places: results directories, folders of runs, files of packed records, or patterns of these
            (`results/*`); by default `results`.

    Raises:
        ConfigError: they have no finished run, or a record is damaged.
    """
    import pandas

    rows = [row_of(run) for run in stored_runs(*places)]
    return pandas.DataFrame(rows).sort_values("run_id", ignore_index=True)


def stored_runs(*places: str | Path) -> list[StoredRun]:
    """The finished runs in some places, as for `load_records`; each run once.

    Raises:
        ConfigError: they have none.
    """
    names = [expand_user(str(place)) for place in places or ("results",)]
    found: dict[str, StoredRun] = {}
    for name in names:
        for path in map(Path, sorted(glob.glob(name)) or [name]):  # noqa: PTH207  (also absolute)
            for run in _runs_in(path):
                found.setdefault(run.run_id, run)
    if not found:
        raise ConfigError(
            f"{' '.join(names)}: there is no finished run; name results directories, folders of"
            " runs or files of packed records"
        )
    return [found[run_id] for run_id in sorted(found)]


def _runs_in(path: Path) -> Iterator[StoredRun]:
    """The finished runs in one place; none if it has no records."""
    path = path.parent if path.name == RECORD else path
    if path.suffix == ".jsonl" and path.parent.name == PACKED:
        root, wanted = path.parent.parent, _ids_in(path)
    elif (path / RECORD).is_file() and path.parent.name == RUNS:
        root, wanted = path.parent.parent, {path.name}
    elif path.name in (RUNS, PACKED):
        root, wanted = path.parent, None
    elif path.is_dir():
        root, wanted = path, None
    else:
        return
    for source in sources(root):
        ids = source.run_ids()
        for run_id in ids if wanted is None else wanted.intersection(ids):
            if run := source.run(run_id):
                yield run


def _ids_in(path: Path) -> set[str]:
    from runner.records.packed import read_lines

    return set(read_lines(path))


def row_of(run: StoredRun) -> Cells:
    """The columns of one run; those of the record come first and keep their names."""
    config = yaml.load(run.config, Loader=LOADER) if run.config else {}
    row = single_values(run.record)
    findings = {key: value for key, value in run.record["report"].items() if key not in row}
    own = {key: value for key, value in config.items() if key not in OF_MACHINE}
    return row | findings | {k: v for k, v in _leaves(own) if k not in row}


LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _leaves(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The scalars, and the lists of scalars as text, below a configuration node by dotted key."""
    for name, value in node.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{key}.")
        elif isinstance(value, SCALARS):
            yield key, value
        elif isinstance(value, list) and all(isinstance(item, SCALARS) for item in value):
            yield key, ",".join(map(str, value))
