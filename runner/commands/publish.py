"""Publish tables and figures: copy their records to results/published, write pages and the index.

All runs of a table must be done, with committed code. Pages are named after the table; the pages of
a second setting of the same table add the words of that setting. tests/repository/test_published.py
compares
the published files with the index.
"""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from runner.commands.arguments import load
from runner.commands.write import write
from runner.errors import ConfigError
from runner.files import atomically
from runner.paths import PUBLISHED
from runner.records.find import RECORD, find_folder, read_record
from runner.records.read import HISTORY
from runner.suites.expand import Suite, parse_arguments
from runner.suites.schema_figures import FigureSpec


def publish(words: list[str], console: Console, published: Path = PUBLISHED) -> int:
    """Copy the records of tables and figures to `published`, write their pages and index them.

    Records come from env.results_dir, or from `published` if they are already there.

    Raises:
        ConfigError: runs are not done, or were measured with uncommitted code.
    """
    names, _, _ = parse_arguments(words)
    tables, machine, _ = load(words)
    chosen = [word for word in words if "=" in word and not word.startswith("env.")]
    for table in tables:
        folders = [find_folder(job.run_id, (machine.results_dir, published)) for job in table.jobs]
        _refuse(table, folders)
        for folder in folders:
            if folder:
                _copy(folder, published / "runs" / folder.name, _reads_history(table))
        line = " ".join([table.name, *chosen])
        listed = _index(published / "index.yaml", "figures" if table.drawn else "tables", line)
        console.print(
            write(replace(table, name=page_name(line, listed)), published),
            markup=False,
            soft_wrap=True,
        )
    console.print(f"published in {published}: {', '.join(names)}")
    return 0


def page_name(line: str, listed: list[str]) -> str:
    """The name of the pages of an index line.

    This is the table's name for the first line with that table. For others, the line's words are
    joined by plus signs.
    """
    name, *words = line.split()
    return (
        name
        if line == next(other for other in listed if other.split()[0] == name)
        else "+".join([name, *words])
    )


def _refuse(table: Suite, folders: list[Path | None]) -> None:
    """Check that all runs of the table are done and were measured with committed code.

    Raises:
        ConfigError: the table is incomplete or not reproducible.
    """
    undone = sum(folder is None for folder in folders)
    if undone:
        raise ConfigError(
            f"{table.name}: {undone} of {len(folders)} runs are not done; make reproduce"
            f" TABLE={table.name} with the same ARGS, then publish"
        )
    records = [record for folder in folders if folder and (record := read_record(folder))]
    dirty = [
        record["run_id"] for record in records if record["provenance"]["git_dirty"] is not False
    ]
    if dirty:
        raise ConfigError(
            f"{table.name}: {len(dirty)} runs were measured by uncommitted code, e.g. {dirty[0]};"
            " run them again from a clean checkout"
        )


def _reads_history(table: Suite) -> bool:
    """Whether the figure draws values of each epoch."""
    if not isinstance(table.spec, FigureSpec):
        return False
    return any(
        key.startswith(HISTORY)
        for panel in table.spec.panels
        for series in panel.series
        for key in series.reads
    )


def _copy(folder: Path, target: Path, history: bool) -> None:
    """Copy a run's config.yaml, series.json and result.json.

    With `history`, also copy the rows of metrics.jsonl that figures read: the last training.
    """
    if folder == target:
        return
    for name in ("config.yaml", "series.json", RECORD):
        if (folder / name).is_file():
            text = (folder / name).read_text()
            atomically(target / name, partial(_write, text=text))
    if history:
        rows = (folder / "metrics.jsonl").read_text().splitlines()
        last: Any = json.loads(rows[-1])["stage"]
        kept = "".join(f"{row}\n" for row in rows if json.loads(row)["stage"] == last)
        atomically(target / "metrics.jsonl", partial(_write, text=kept))


def _write(path: Path, text: str) -> None:
    path.write_text(text)


def _index(path: Path, section: str, line: str) -> list[str]:
    """Add a line to a section of the index unless it is there; return all lines of the section.

    Comments in the index are kept.
    """
    lines = path.read_text().splitlines()
    begin = end = lines.index(f"{section}:") + 1
    while end < len(lines) and lines[end].startswith(" "):
        end += 1
    listed = [
        found.partition("#")[0].strip().removeprefix("- ")
        for found in lines[begin:end]
        if not found.strip().startswith("#")
    ]
    if line in listed:
        return listed
    text = "\n".join([*lines[:end], f"  - {line}", *lines[end:]]) + "\n"
    atomically(path, partial(_write, text=text))
    return [*listed, line]
