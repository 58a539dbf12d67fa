"""The details of runs as compact JSON: what many runs share is stored once, and referred to."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pruners.declared import Finding
from runner.paths import ROOT
from runner.records.find import place_of, record_in
from runner.records.stored import ORIGIN, ORIGINS
from runner.spec.record import Record, RecordedOrigin, single_values

# A folder that has none of the runs, so that every number is computed again.
AFRESH = "env.results_dir=again/results env.cache_dir=again/cache"
ORIGIN_FIELDS = (
    "git_sha",
    "git_dirty",
    "versions",
    "device_name",
    "cuda",
    "cpu",
    "threads",
    "processes",
    "host",
    "determinism",
)
NUMBERS = (
    "seed",
    "accuracy",
    "accuracy_best",
    "accuracy_top5",
    "test_loss",
    "val_accuracy",
    "density",
    "kept",
    "prunable",
    "epochs",
    "epochs_total",
    "scale",
    "runtime_s",
    "wall_s",
)
LOGS = ("run.log", "metrics.jsonl")  # of a run's folder


@dataclass
class Shared:
    """Values in the order in which they were added, each once."""

    values: list[Any] = field(default_factory=list)
    places: dict[str, int] = field(default_factory=dict)

    def add(self, value: Any) -> int:
        """The position of a JSON value."""
        key = json.dumps(value, sort_keys=True)
        if key not in self.places:
            self.places[key] = len(self.values)
            self.values.append(value)
        return self.places[key]


@dataclass
class Runs:
    """The runs of a page, in the order in which they were added.

    Args:
        roots: the results directories to search, in order.
        rows: for each run: id, home, line, names of the numbers, numbers, names of the findings,
            findings, stages, the rest of the provenance, end of the run. Home, names, stages and
            rest are positions in `shared`; a stage is a triple of its name, whether it came from
            the cache, and the position of its origin, or null where no record states it.
    """

    roots: Sequence[Path]
    rows: list[list[Any]] = field(default_factory=list)
    places: dict[str, int] = field(default_factory=dict)
    shared: Shared = field(default_factory=Shared)

    def add(self, run_id: str) -> int | None:
        """The position of a run; None if there is no record of it."""
        if run_id not in self.places:
            record = record_in(self.roots, run_id)
            if record is None:
                return None
            self.places[run_id] = len(self.rows)
            self.rows.append(self._row(run_id, record))
        return self.places[run_id]

    def _row(self, run_id: str, record: Record) -> list[Any]:
        origin, numbers = record["provenance"], _numbers(record)
        place = place_of(self.roots, run_id)
        home, line = _home(run_id, *place) if place else (("", "", ""), 0)
        rest = {
            "precision": origin["precision"],
            "numerics": origin["numerics"],
            "dataset_checksum": origin.get("dataset_checksum"),
        }
        return [
            run_id,
            self.shared.add(home),
            line,
            self.shared.add(list(numbers)),
            list(numbers.values()),
            self.shared.add(list(record["report"])),
            list(record["report"].values()),
            self.shared.add([[*stage, self._origin(made)] for *stage, made in _stages(record)]),
            self.shared.add({**rest, "status": record["status"]}),
            origin["finished"],
        ]

    def _origin(self, origin: RecordedOrigin | None) -> int | None:
        if origin is None:
            return None
        stated: Mapping[str, object] = origin
        return self.shared.add({key: stated[key] for key in ORIGIN_FIELDS if key in stated})


def _stages(record: Record) -> Iterator[tuple[str, bool, RecordedOrigin | None]]:
    """Name of each stage, whether it came from the cache, and its origin if the record states it.

    Until version 0.2.0 the provenance was that of the process that wrote the record.
    """
    origin = record["provenance"]
    for stage in record["stages"]:
        made = origin[ORIGINS][stage[ORIGIN]] if ORIGIN in stage else origin
        yield stage["name"], stage["cached"], made


def _numbers(record: Record) -> dict[str, Finding]:
    """The numbers of a record that are there."""
    values = single_values(record)
    found = {key: values[key] for key in NUMBERS if values.get(key) is not None}
    nonzero = record["flops"]["nonzero"]
    return found if nonzero is None else {**found, "nonzero multiply-accumulates": nonzero}


def _home(run_id: str, path: Path, line: int) -> tuple[tuple[str, str, str], int]:
    """Command that repeats a run, its record and its log; `{}` is the run id, `#` the line."""
    if path.suffix == ".jsonl":
        record = f"{shown_path(path)}, line #"
        return (f"python run.py --again {{}} {AFRESH}", record, "not published"), line
    folder = path.parent
    logs = [
        f"{shown_path(folder.parent)}/{{}}/{name}" for name in LOGS if (folder / name).is_file()
    ]
    again = f"python run.py --again {shown_path(folder.parent)}/{{}} {AFRESH}"
    record = f"{shown_path(folder.parent)}/{{}}/{path.name}"
    return (again, record, ", ".join(logs) or "none"), line


def shown_path(path: Path) -> str:
    """A path relative to the repository, where commands are typed, or else whole."""
    whole = path.resolve()
    return str(whole.relative_to(ROOT) if whole.is_relative_to(ROOT) else whole)
