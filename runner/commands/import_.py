"""`winnow import DIR|FILE`: take over the records of another machine.

Nothing is overwritten. A record that differs from the one here is kept beside it, under
`<results_dir>/conflicts/`, where no table reads it. Every record is verified first.
"""

import argparse
import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path

from runner.config.build import parse_run
from runner.config.environment import environment
from runner.engine.record import comparable
from runner.engine.training_cost import COUNTED_LATER
from runner.errors import ConfigError, Damaged
from runner.files import read_bytes, sha256, write_bytes
from runner.locks import is_held
from runner.paths import user_path
from runner.records.find import record_in
from runner.records.folders import CONFIG, HISTORY, RECORD, SERIES, record_path
from runner.records.folders import parse_run as stored_run
from runner.records.packed import as_line, read_lines, write_lines
from runner.records.stored import StoredRun
from runner.spec.identity import run_id as identity
from runner.spec.record import Config, Record
from runner.streams import say

CONFLICTS = "conflicts"
PACKED = "imported.jsonl"
NAME = re.compile(r"[\w.+-]*\w[\w.+-]*")  # part of a path, never a path
REQUIRED = ("run_id", "status", "method", "seed", "report", "stages", "provenance", "accuracy")


@dataclass(frozen=True)
class Incoming:
    """A record of another machine.

    Args:
        files: name -> content of the files of a run's folder; empty for a packed record.
        config: the configuration of a packed record.
    """

    run: StoredRun
    files: dict[str, bytes] = field(default_factory=dict)
    config: Config = field(default_factory=dict)

    def write(self, results: Path) -> None:
        """Add the record to a results directory that does not have the run."""
        if self.files:
            self._into(record_path(results, self.run.run_id).parent)
        else:
            self._pack(results / "records" / PACKED)

    def keep_apart(self, results: Path) -> Path:
        """Keep the record beside another one of the same run; its path."""
        content = self.files.get(RECORD) or as_line(self.run, self.config)
        name = f"{self.run.run_id}-{sha256(content)[:8]}"
        path = results / CONFLICTS / (name if self.files else f"{name}.jsonl")
        if self.files:
            self._into(path)
        else:
            self._pack(path)
        return path

    def _into(self, folder: Path) -> None:
        for name in sorted(self.files, key=lambda name: name == RECORD):  # the record is the last
            write_bytes(folder / name, self.files[name])

    def _pack(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_lines(path, {self.run.run_id: as_line(self.run, self.config)})


def main(argv: Sequence[str]) -> int:
    """Import records and print what happened to each that is not simply new; the exit code.

    It is 0 if every record found is here now, and 1 if one was refused or differs.

    Raises:
        ConfigError: no place is named, or one of them has no records.
    """
    settings = [word for word in argv if word.startswith("env.")]
    places = _parser().parse_args([word for word in argv if word not in settings]).places
    results = environment(settings).results_dir
    sources = [_sources(place) for place in places]  # all exist before any is imported
    counts: Counter[str] = Counter()
    for source in chain.from_iterable(sources):
        try:
            for incoming in source():
                counts[_import(incoming, results)] += 1
        except (Damaged, ConfigError, OSError) as error:
            say(f"refused: {error}")
            counts["refused"] += 1
    print(f"{', '.join(f'{n} {what}' for what, n in counts.items())}: {results}")
    return 1 if counts["different"] or counts["refused"] else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="winnow import",
        usage="%(prog)s [-h] DIR|FILE [DIR|FILE ...] [env.results_dir=DIR]",
        description="Take over the records of another machine. Nothing is overwritten: a record"
        f" that differs from the one here is kept in {CONFLICTS} of the results, and is named.",
        epilog="The exit code is 1 if a record differs or was refused. Weights are not records:"
        " copy the cache for them.",
    )
    what = "results, runs, the folder of one run, or a file of packed records (*.jsonl)"
    parser.add_argument("places", nargs="+", metavar="DIR|FILE", type=user_path, help=what)
    return parser


def _import(incoming: Incoming, results: Path) -> str:
    """Import one record; what happened.

    Raises:
        ConfigError: the record is not one of a run, or a process runs it here.
    """
    _check(incoming)
    run_id = incoming.run.run_id
    if is_held(record_path(results, run_id).with_name(".lock")):
        raise ConfigError(f"{run_id}: a process runs it here; import it again later")
    here = record_in([results], run_id)
    if here is None:
        incoming.write(results)
        return "new"
    if not (keys := _differences(here, incoming.run.record)):
        return "there already"
    path = incoming.keep_apart(results)
    say(f"different: {run_id} in {', '.join(keys)}; kept as {path}, the record here stays")
    return "different"


def _check(incoming: Incoming) -> None:
    """Check that a record is complete and is that of its configuration.

    Raises:
        ConfigError: it is not.
    """
    record, run_id = incoming.run.record, incoming.run.run_id
    if not NAME.fullmatch(run_id):
        raise ConfigError(f"run_id={run_id!r} is no name of a run")
    if missing := [key for key in REQUIRED if key not in record]:
        raise ConfigError(f"{run_id}: the record has no {', '.join(missing)}")
    try:
        run = parse_run(incoming.run.config)
    except (KeyError, TypeError, ValueError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        say(f"note: {run_id}: another version of the code wrote it ({reason})")
        return
    files = any(stage.weights or stage.mask_file for stage in run.stages)
    if not files and identity(run) != run_id:  # a file that is not here has no checksum
        say(f"note: {run_id}: this code gives its configuration another id, {identity(run)}")


def _differences(here: Record, other: Record) -> list[str]:
    """The keys in which two records of one run differ that a repeated run must reproduce."""
    left, right = comparable(here), comparable(other)
    found = {key for key in {*left, *right} if left.get(key) != right.get(key)}
    # one of the records can be from before these were counted
    later = {key for key in COUNTED_LATER if None in (left.get(key), right.get(key))}
    return sorted(found - later)


def _sources(place: Path) -> list[Callable[[], list[Incoming]]]:
    """What reads the records of a place: results, runs, the folder of a run, or a packed file.

    Raises:
        ConfigError: there are none.
    """
    if place.is_file():
        folder = place.parent if place.name == RECORD else None
        return [partial(_unpacked, place) if folder is None else partial(_in_folder, folder)]
    patterns = (RECORD, f"*/{RECORD}", f"runs/*/{RECORD}")
    folders = [path.parent for each in patterns for path in sorted(place.glob(each))]
    packed = sorted(place.glob("records/*.jsonl"))
    packed = packed if folders or packed else sorted(place.glob("*.jsonl"))
    found = [partial(_in_folder, folder) for folder in folders]
    if not found and not packed:
        raise ConfigError(
            f"{place}: there are no records; name a folder of results, of runs or of one run, or a"
            " file *.jsonl of packed records"
        )
    return [*found, *(partial(_unpacked, path) for path in packed)]


def _in_folder(folder: Path) -> list[Incoming]:
    """The record in the folder of a run.

    Raises:
        Damaged: one of its files is not as it was written.
    """
    run = stored_run(folder / RECORD)
    assert run is not None
    names = (RECORD, CONFIG, SERIES, HISTORY)
    return [Incoming(run, {n: read_bytes(folder / n) for n in names if (folder / n).is_file()})]


def _unpacked(path: Path) -> list[Incoming]:
    """The records of a packed file.

    Raises:
        ConfigError: a line is damaged.
    """
    return [
        Incoming(
            StoredRun(
                line["record"],
                json.dumps(line["config"]),
                line.get("series", {}),
                line.get("history", []),
            ),
            config=line["config"],
        )
        for line in read_lines(path).values()
    ]
