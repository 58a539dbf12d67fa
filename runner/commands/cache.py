"""List the contents of the cache by type and age, verify them, and remove what is unused.

A stage is used if a record names it, an unfinished run will read it, or a table requires it. Items
whose lock a process holds are never removed, nor young ones. Without verify=true, only file names,
sizes and JSON are read, no tensors.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table as Grid

from runner.commands.cache_items import Item, damage, items, remove
from runner.commands.cache_uses import RunKeys, table_keys
from runner.config.environment import environment
from runner.display.sizes import readable
from runner.errors import ConfigError
from runner.paths import typed, user_path
from runner.records.find import results_roots

AGES = ((1, "under a day"), (7, "under a week"), (30, "under 30 days"))
OLDER = "older"


@dataclass(frozen=True)
class Options:
    """The words of the command.

    Args:
        remove: remove what is unused.
        verify: read everything and compare it with its checksums.
        young: hours; what is younger is not removed.
        others: further directories of records.
        rest: tables and overrides.
    """

    remove: bool
    verify: bool
    young: float
    others: list[Path]
    rest: list[str]


SWITCHES = {"remove": "shows what would be removed", "verify": "reads no tensors"}


def read_options(words: list[str]) -> Options:
    """Read remove=, verify=, young= and results=; the other words are tables and overrides.

    Raises:
        ConfigError: an invalid value of these.
    """
    pairs = {word: word.partition("=")[::2] for word in words}
    own = {k: v for k, v in pairs.values() if k in (*SWITCHES, "young", "results")}
    for key, default in SWITCHES.items():
        if own.get(key, "false") not in ("true", "false"):
            raise ConfigError(
                f"{key}={own[key]} must be true or false; false, the default, {default}"
            )
    rest = [word for word in words if pairs[word][0] not in own]
    switches = {key: own.get(key) == "true" for key in SWITCHES}
    young, others = _hours(own.get("young", "1")), _others(own.get("results", ""))
    return Options(**switches, young=young, others=others, rest=rest)


def _hours(text: str) -> float:
    try:
        hours = float(text)
    except ValueError:
        hours = math.nan
    if not 0 <= hours < math.inf:
        raise ConfigError(
            f"young={text} must be a number of hours, at least 0; what is younger than this, by"
            " default 1, is not removed"
        )
    return hours


def upkeep(words: list[str], console: Console) -> int:
    """List the cache and its removable items; with remove=true, remove them.

    Args:
        words: tables and overrides as for plans, results=DIR[,DIR], remove=true|false,
            verify=true|false, young=HOURS.

    Returns:
        1 if verify=true finds a damaged item, otherwise 0.

    Raises:
        ConfigError: an invalid word.
    """
    options = read_options(words)
    env = environment(options.rest)
    # Listed first: what a run adds or finishes from now on is not among the items.
    listed = list(items(env.cache_dir))
    code = _verify(listed, env.cache_dir, console) if options.verify else 0
    runs = RunKeys([*results_roots(env.results_dir), *options.others])
    tabled, recorded = table_keys(options.rest), runs.read()
    found = [
        replace(item, used=item.key in recorded | tabled, young=options.young) for item in listed
    ]
    _show(found, env.cache_dir, recorded, console)
    _show_unused(found, runs, _folders(env.results_dir, options.others), options.young, console)
    doomed = [item for item in found if item.removable]
    if options.remove:
        _remove(doomed, env.cache_dir, runs, console)
        return code
    for item in doomed:
        console.print(f"  would remove {_line(item)}", soft_wrap=True)
    if doomed:
        console.print(f"Nothing was removed. To remove these: {typed('cache', '', 'remove=true')}")
    return code


def _show_unused(
    found: list[Item], runs: RunKeys, folders: str, young: float, console: Console
) -> None:
    """Print how many items are unused, and what was not searched or is too young."""
    if runs.unreadable:
        console.print(
            f"{runs.unreadable} unfinished runs cannot be read by this code: their stages count as"
            " unused"
        )
    doomed = [item for item in found if item.removable]
    console.print(
        f"unused: {len(doomed):,} of {len(found):,}, {_sum(doomed)}; records searched: {folders}"
    )
    if kept := sum(item.young_and_unused for item in found):
        console.print(f"{kept:,} more are unused but younger than young={young:g} hours: kept")


def _verify(listed: list[Item], cache_dir: Path, console: Console) -> int:
    """Verify all artefacts and checkpoints and print the damaged ones; 1 if there are any."""
    whole = [item for item in listed if item.path.parent.name in ("stages", "checkpoints")]
    found = [
        error
        for item in track(
            whole, f"verifying {_sum(whole)}", console=console, transient=True, update_period=1
        )
        if (error := damage(item, cache_dir))
    ]
    for error in found:
        console.print(f"  {error}", soft_wrap=True)
    remedy = "; the next run that needs one sets it aside and computes it again" if found else ""
    console.print(
        f"verified: {len(whole):,} artefacts and checkpoints, {_sum(whole)}; damaged:"
        f" {len(found):,}{remedy}",
        soft_wrap=True,
    )
    return 1 if found else 0


def _others(names: str) -> list[Path]:
    """The further directories of records that results=DIR[,DIR] names."""
    whole = user_path(names)  # a comma may be part of a name
    others = [whole] if names and whole.is_dir() else [user_path(n) for n in names.split(",") if n]
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


def _remove(doomed: list[Item], cache_dir: Path, runs: RunKeys, console: Console) -> None:
    gone = 0
    for item in doomed:
        kept = remove(item, cache_dir, runs.read)
        if kept:
            console.print(f"  kept, {kept}: {_line(item)}", soft_wrap=True)
        else:
            gone += item.size
            console.print(f"  removed {_line(item)}", soft_wrap=True)
    console.print(f"freed {readable(gone)}")


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
