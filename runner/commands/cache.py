"""List the contents of the cache by type and age, and remove what is unused.

A stage is used if a record names it, an unfinished run will read it, or a table requires it. Items
whose lock a process holds are never removed. Only file names, sizes and JSON are read, no tensors.
"""

import json
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG

from filelock import FileLock, Timeout
from rich.console import Console
from rich.table import Table as Grid

from runner.config.build import load_run
from runner.config.compose import Composer
from runner.config.request import environment
from runner.display.sizes import readable
from runner.errors import ConfigError
from runner.records.find import all_records, results_roots
from runner.spec.identity import stage_keys
from runner.suites.expand import expand, parse_arguments
from runner.suites.spec import figure_names, table_names, variants_of

DAY = 86400.0
AGES = ((1, "under a day"), (7, "under a week"), (30, "under 30 days"))
OLDER = "older"
LOCK_WAIT = 0  # seconds; an item whose lock is held is skipped


@dataclass(frozen=True)
class Item:
    """An item in the cache.

    It is a stage's artefact, a checkpoint of an unfinished training, or a leftover of a killed
    process in tmp/.

    Args:
        kind: the stage's kind, or `checkpoint`, `leftover` or `damaged` (no stage.json).
        days: days since it was written.
    """

    path: Path
    key: str
    kind: str
    size: int
    days: float
    used: bool

    @property
    def removable(self) -> bool:
        """Whether it is unused. Items in tmp/ may still be written to during their first day."""
        return self.days >= 1 if self.kind == "leftover" else not self.used


def items(cache_dir: Path, used: set[str]) -> Iterator[Item]:
    """All items in the cache: artefacts, checkpoints and leftovers."""
    now = time.time()
    for folder, kind in (("stages", ""), ("checkpoints", "checkpoint"), ("tmp", "leftover")):
        for path in sorted((cache_dir / folder).glob("*")):
            try:
                size, written = _size(path)
                key = path.name.lstrip(".").partition(".")[0].partition("-")[0]
                yield Item(path, key, kind or _kind(path), size, (now - written) / DAY, key in used)
            except FileNotFoundError:  # renamed or removed since it was listed
                continue


def _size(path: Path) -> tuple[int, float]:
    """Size in bytes of a file or of a folder's files, and the time of the last change."""
    files = [path, *path.iterdir()] if path.is_dir() else [path]
    states = [file.stat() for file in files]
    size = sum(state.st_size for state in states if S_ISREG(state.st_mode))
    return size, max(state.st_mtime for state in states)


def _kind(path: Path) -> str:
    meta = path / "stage.json"
    return str(json.loads(meta.read_text())["kind"]) if meta.is_file() else "damaged"


def used_keys(results: Iterable[Path], words: list[str]) -> tuple[set[str], set[str], int]:
    """The stage keys in use.

    Args:
        words: as for `make plan`; if they name no table, all tables and figures in all variants.

    Returns:
        The keys of records and unfinished runs under `results`, the keys of the tables, and the
        number of unfinished runs whose configuration this version of the code cannot read.
    """
    recorded, broken = set[str](), 0
    for root in results:
        recorded |= {stage["key"] for record in all_records(root) for stage in record["stages"]}
        for folder in (root / "runs").glob("*"):
            if (folder / "config.yaml").is_file() and not (folder / "result.json").is_file():
                try:
                    recorded |= set(stage_keys(load_run(folder / "config.yaml")).values())
                except (KeyError, TypeError, ValueError):  # written by an older version of the code
                    broken += 1
    return recorded, _table_keys(words), broken


def _table_keys(words: list[str]) -> set[str]:
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


def remove(item: Item, cache_dir: Path) -> bool:
    """Remove an item under its stage's lock; False if another process holds the lock."""
    path = cache_dir / "locks" / f"{item.key}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(path).acquire(timeout=LOCK_WAIT):
            doomed = cache_dir / "tmp" / f"{item.key}-{uuid.uuid4().hex}-removed"
            doomed.parent.mkdir(parents=True, exist_ok=True)
            item.path.rename(doomed)  # atomic: no process reads half an artefact
            shutil.rmtree(doomed) if doomed.is_dir() else doomed.unlink()
    except Timeout:
        return False
    except FileNotFoundError:  # another process removed it first
        return True
    return True


@dataclass(frozen=True)
class Options:
    """The words of the command: whether to remove, further folders of records, and the others."""

    remove: bool
    others: list[Path]
    rest: list[str]


def read_options(words: list[str]) -> Options:
    """Read remove=true|false and results=DIR[,DIR]; the other words are tables and overrides.

    Raises:
        ConfigError: an invalid value of these two.
    """
    pairs = {word: word.partition("=")[::2] for word in words}
    own = {key: value for key, value in pairs.values() if key in ("remove", "results")}
    if own.get("remove", "false") not in ("true", "false"):
        raise ConfigError(
            f"remove={own['remove']} must be true or false; false, the default, shows what would be"
            " removed"
        )
    rest = [word for word in words if pairs[word][0] not in own]
    return Options(own.get("remove") == "true", _others(own.get("results", "")), rest)


def upkeep(words: list[str], console: Console) -> int:
    """List the cache and its removable items; with remove=true, remove them.

    Args:
        words: tables and overrides as for plans, results=DIR[,DIR], remove=true|false.

    Raises:
        ConfigError: an invalid word.
    """
    options = read_options(words)
    env = environment(options.rest)
    roots = [*results_roots(env.results_dir), *options.others]
    recorded, tabled, broken = used_keys(roots, options.rest)
    found = list(items(env.cache_dir, recorded | tabled))
    _show(found, env.cache_dir, recorded, console)
    if broken:
        console.print(
            f"{broken} unfinished runs cannot be read by this code: their stages count as unused"
        )
    doomed = [item for item in found if item.removable]
    console.print(
        f"unused: {len(doomed):,} of {len(found):,}, {_sum(doomed)}; records searched:"
        f" {_folders(env.results_dir, options.others)}"
    )
    if options.remove:
        return _remove(doomed, env.cache_dir, console)
    for item in doomed:
        console.print(f"  would remove {_line(item)}", soft_wrap=True)
    if doomed:
        console.print('Nothing was removed. To remove these: make cache ARGS="remove=true"')
    return 0


def _others(names: str) -> list[Path]:
    """The further directories of records that results=DIR[,DIR] names."""
    others = [Path(name) for name in names.split(",") if name]
    for folder in others:
        if not folder.is_dir():
            raise ConfigError(
                f"results={folder} is not a directory: results=DIR[,DIR] names directories whose"
                " records use this cache"
            )
    return others


def _folders(results_dir: Path, others: list[Path]) -> str:
    hint = "" if others else '; if another directory uses this cache, add ARGS="results=DIR"'
    return ", ".join(str(path) for path in (results_dir, *others)) + hint


def _remove(doomed: list[Item], cache_dir: Path, console: Console) -> int:
    gone = 0
    for item in doomed:
        if remove(item, cache_dir):
            gone += item.size
            console.print(f"  removed {_line(item)}", soft_wrap=True)
        else:
            console.print(f"  kept, a process holds its lock: {_line(item)}", soft_wrap=True)
    console.print(f"freed {readable(gone)}")
    return 0


def _line(item: Item) -> str:
    return f"{item.kind} {item.path}, {readable(item.size)}, {item.days:.1f} days old"


def _show(found: list[Item], cache_dir: Path, recorded: set[str], console: Console) -> None:
    """Print the sizes of used and unused items in two tables: by kind and by age."""
    kinds = {kind: [i for i in found if i.kind == kind] for kind in sorted({i.kind for i in found})}
    ages = {
        age: [i for i in found if _age(i) == age] for age in (*(name for _, name in AGES), OLDER)
    }
    for title, rows in ((f"{cache_dir} by kind", kinds), ("by age", ages)):
        grid = Grid(title=title, title_justify="left")
        for column in ("", "number", "size", "of records", "of tables only", "unused"):
            grid.add_column(column, justify="left" if not column else "right")
        for name, part in {**rows, "all": found}.items():
            grid.add_row(
                name,
                f"{len(part):,}",
                _sum(part),
                _sum(i for i in part if i.key in recorded),
                _sum(i for i in part if i.used and i.key not in recorded),
                _sum(i for i in part if i.removable),
            )
        console.print(grid)


def _age(item: Item) -> str:
    return next((name for days, name in AGES if item.days < days), OLDER)


def _sum(part: Iterable[Item]) -> str:
    return readable(sum(item.size for item in part))
