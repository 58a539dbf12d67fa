"""Publish tables and figures: pack their records into results/published, write pages and the index.

All runs must be done, with committed code. Each line of the index has a file of records, and each
table and figure has pages of the same name. A finished run that is published stays as it is: its
record is neither dropped nor replaced. docs/records.md describes the files.
tests/repository/test_published.py compares them with the index.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from runner.commands.published import (
    INDEX,
    SECTIONS,
    PublishedLine,
    published_line,
    read_index,
    section_of,
)
from runner.commands.write import write
from runner.config.build import parse_run
from runner.config.compose import Composer
from runner.config.environment import environment
from runner.config.overrides import with_search_path
from runner.config.plain import Plain, parse_plain
from runner.errors import ConfigError
from runner.files import atomically
from runner.paths import PUBLISHED, typed
from runner.records.find import sources
from runner.records.packed import as_line, read_lines, write_lines
from runner.records.predictions import without_predictions
from runner.records.provenance import OWN
from runner.records.stored import StoredRun, last_training
from runner.records.wanted import Wanted
from runner.spec.findings import is_diverged
from runner.spec.identity import run_id
from runner.spec.planned import PlannedRun
from runner.suites.expand import OF_MACHINE, Suite, parse_arguments

ALL = "all"  # the word for every line of the index
KEPT = ("md", "csv")  # forms of tables and verdicts


def publish(words: list[str], console: Console, published: Path = PUBLISHED) -> int:
    """Pack the records of tables, figures or a sweep, write their pages and index them.

    Records come from `published` if they are already there, otherwise from env.results_dir.

    Args:
        words: as for `make reproduce`; without a table, as for `python run.py -m`; or `all`, which
            writes every page of the index again.

    Raises:
        ConfigError: runs are not done, or were measured with uncommitted code.
    """
    results_dir = environment(words).results_dir
    names, composer = [], Composer()
    for words_of_line in _lines(words, published):
        section = section_of(words_of_line)
        listed = list(dict.fromkeys([*read_index(published).get(section, ()), words_of_line]))
        line = published_line(words_of_line, listed, composer)
        runs = [_gather(job, line, [published, results_dir]) for job in line.jobs]
        _refuse(line, runs)
        _pack(published / "records" / f"{line.name}.jsonl", line.jobs, runs)
        _add_to_index(published / INDEX, section, line.words)
        if line.page:
            console.print(_write_page(line.page, published / section), markup=False, soft_wrap=True)
        names.append(line.name)
    console.print(f"published in {published}: {', '.join(names)}", soft_wrap=True)
    return 0


def _lines(words: list[str], published: Path) -> list[str]:
    """The lines of the index that a command line stands for, without what is this machine's."""
    index = read_index(published)
    if words and words[0] == ALL:
        return [line for section in SECTIONS for line in index.get(section, ())]
    words = with_search_path(words)
    chosen = [word for word in words if "=" in word and not word.startswith(OF_MACHINE)]
    if not any("=" not in word for word in words) and chosen:
        return [" ".join(chosen)]
    return [" ".join([name, *chosen]) for name in parse_arguments(words)[0]]


def _gather(job: PlannedRun, line: PublishedLine, roots: Sequence[Path]) -> StoredRun | None:
    """A finished run with what the line requests and its figure reads; None if it is not done.

    Different places can hold different parts of the same measurement.
    """
    wanted = Wanted(stages=job.required)
    stored = [source.run(job.run_id) for source in sources(*roots)]
    found = [run for run in stored if run and wanted.complete(run)]
    if not found:
        return None
    same = [run for run in found if run.record == found[0].record]
    series = next((run.series for run in same if run.series), {})
    history = next((run.history for run in same if run.history), ())
    return replace(
        found[0],
        series=without_predictions(series) if line.reads & series.keys() else {},
        history=last_training(history) if line.reads_history else (),
    )


def _refuse(line: PublishedLine, runs: Sequence[StoredRun | None]) -> None:
    """Check that all runs are done, complete and measured with committed code.

    Raises:
        ConfigError: the line is incomplete or not reproducible.
    """
    name = line.words if line.suite is None else line.suite.name
    if undone := sum(run is None for run in runs):
        how = "python run.py -m" if line.suite is None else typed("reproduce", name)
        raise ConfigError(
            f"{name}: {undone} of {len(runs)} runs are not done; {how} with the same ARGS,"
            " then publish"
        )
    found = [run for run in runs if run]
    dirty = [run.run_id for run in found if run.record["provenance"]["git_dirty"] is not False]
    if dirty:
        raise ConfigError(
            f"{name}: {len(dirty)} runs were measured by uncommitted code, e.g. {dirty[0]};"
            " run them again from a clean checkout"
        )
    if own := [run.run_id for run in found if OWN in run.record["provenance"]]:
        raise ConfigError(
            f"{name}: {len(own)} runs have parts of your own, e.g. {own[0]}, which the published"
            " code lacks; keep their records in env.results_dir"
        )
    bare = [
        run.run_id
        for run in found
        if line.reads_history and not run.history and not is_diverged(run.record)
    ]
    if bare:
        raise ConfigError(
            f"{name}: {len(bare)} runs have no history by epoch, which the figure draws, e.g."
            f" {bare[0]}; their published records were measured elsewhere"
        )


def _pack(path: Path, jobs: Sequence[PlannedRun], runs: Sequence[StoredRun | None]) -> None:
    """Add runs to a packed file. A run that is in it stays, unless it lacks a part that is read.

    Raises:
        ConfigError: the configuration of an added run does not give its run id, or a published run
            with the part that is missing has another result.
    """
    own = read_lines(path)
    fresh = [
        run
        for job, run in zip(jobs, runs, strict=True)
        if run and _lacks(own.get(job.run_id), run, job.required)
    ]
    for run in fresh:
        if not _reproducible(run):
            raise ConfigError(f"{run.run_id}: its stored configuration does not give this run id")
        if run.run_id in own and _result(own[run.run_id]["record"]) != _result(run.record):
            raise ConfigError(
                f"{run.run_id}: its published record lacks a measurement that the line requests,"
                " and the record that has it is of another result; remove the run from"
                f" {path} first if the new one is to replace it"
            )
    write_lines(path, {run.run_id: as_line(run, _config(run)) for run in fresh})


def _result(record: Mapping[str, Any]) -> tuple[object, ...]:
    """What two runs of one identity have in common if they computed the same numbers."""
    return tuple(record[key] for key in ("status", "accuracy", "test_loss", "kept"))


def _reproducible(run: StoredRun) -> bool:
    """Whether a run's configuration gives its run id."""
    try:
        return run_id(parse_run(run.config)) == run.run_id
    except (KeyError, TypeError, ValueError):  # empty, or written by an older version of the code
        return False


def _lacks(own: Mapping[str, Any] | None, run: StoredRun, required: frozenset[str]) -> bool:
    """Whether a file lacks a run, its series, its history, or a measurement by its cache key."""
    return own is None or bool(
        (run.series and "series" not in own)
        or (run.history and "history" not in own)
        or required - {stage["key"] for stage in own["record"]["stages"]}
    )


def _config(run: StoredRun) -> Plain:
    return parse_plain(run.config, resolve=False)


def _write_page(page: Suite, folder: Path) -> str:
    """Write the published forms of a table or figure; return its text for a terminal.

    A picture is drawn again if it is published already: only those that a document shows are.
    """
    pictures = ["png"] if (folder / f"{page.file_name}.png").is_file() else []
    text = write(page, folder.parent, KEPT, pictures, with_leads=False)
    for ending in ("txt", "tex"):
        (folder / f"{page.file_name}.claims.{ending}").unlink(missing_ok=True)
    return text


def _add_to_index(path: Path, section: str, line: str) -> None:
    """Add a line to a section of the index unless it is there; comments are kept."""
    if line in (read_index(path.parent).get(section, ())):
        return
    lines = path.read_text(encoding="utf-8").splitlines()
    if f"{section}:" not in lines:
        lines.append(f"{section}:")
    end = lines.index(f"{section}:") + 1
    while end < len(lines) and lines[end].startswith(" "):
        end += 1
    text = "\n".join([*lines[:end], f"  - {line}", *lines[end:]]) + "\n"
    atomically(path, partial(_write, text=text))


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
