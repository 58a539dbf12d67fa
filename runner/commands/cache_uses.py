"""The stage keys that runs and tables use."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from runner.config.build import load_run
from runner.config.compose import Composer
from runner.records.folders import CONFIG, RECORD, read_record
from runner.records.packed import PackedRecords
from runner.spec.identity import stage_keys
from runner.suites.expand import expand, parse_arguments
from runner.suites.spec import figure_names, table_names, variants_of


@dataclass
class RunKeys:
    """The stage keys of records and unfinished runs in directories of results.

    Args:
        known: the keys found so far in a run's folder or a folder of packed records, with the times
            of its files. None: this code cannot read the configuration of an unfinished run.
    """

    roots: list[Path]
    known: dict[Path, tuple[object, frozenset[str] | None]] = field(default_factory=dict)

    def read(self) -> set[str]:
        """The keys in use now. Only folders that have changed since the last call are read."""
        for root in self.roots:
            packed = PackedRecords(root)
            self._update(packed.folder, (_time(packed.folder),))
            for folder in (root / "runs").glob("*"):
                self._update(folder, (_time(folder / RECORD), _time(folder / CONFIG)))
        return {key for _, keys in self.known.values() for key in keys or ()}

    @property
    def unreadable(self) -> int:
        """The number of unfinished runs whose configuration this code cannot read."""
        return sum(keys is None for _, keys in self.known.values())

    def _update(self, folder: Path, times: tuple[int, ...]) -> None:
        if any(times) and self.known.get(folder, (None, None))[0] != times:
            packed = folder.parent in self.roots
            keys = frozenset(_packed_keys(folder.parent)) if packed else _folder_keys(folder)
            self.known[folder] = (times, keys)


def _time(path: Path) -> int:
    """The time of the last change; 0 if there is no such file."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _packed_keys(results_dir: Path) -> Iterator[str]:
    packed = PackedRecords(results_dir)
    for run_id in packed.run_ids():
        yield from (stage["key"] for stage in (packed.record(run_id) or {"stages": ()})["stages"])


def _folder_keys(folder: Path) -> frozenset[str] | None:
    """The keys of a run: those of its record, or those of its configuration while it is not done.

    A run whose record is damaged is not done.
    """
    record = read_record(folder)
    if record is not None:
        return frozenset(stage["key"] for stage in record["stages"])
    if not (folder / CONFIG).is_file():
        return frozenset()
    try:
        return frozenset(stage_keys(load_run(folder / CONFIG)).values())
    except (KeyError, TypeError, ValueError):  # damaged, or written by an older version of the code
        return None


def table_keys(words: list[str]) -> set[str]:
    """The keys of tables and figures.

    Args:
        words: as for `make plan`; if they name no table, all tables and figures in all variants.
    """
    tables_named = [word for word in words if "=" not in word]
    settings = [word for word in words if "=" in word]
    names, chosen, overrides = parse_arguments([*(tables_named or _every_table()), *settings])
    composer = Composer()
    tables = [expand(name, chosen, overrides, composer) for name in names]
    return {key for table in tables for job in table.jobs for key in job.keys.values()}


def _every_table() -> list[str]:
    """The names of all tables and figures, and of their variants on other data sets."""
    forms: list[str] = []
    for name in table_names() + figure_names():
        forms += [name, *(f"{name}@{variant}" for variant in variants_of(name))]
    return forms
