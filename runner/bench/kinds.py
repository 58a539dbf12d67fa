"""`winnow kinds`: how much the kind of CPU changes an accuracy, at equal commit and seed.

The published runs that results/cpu_kinds.json lists are performed twice on this machine, with all
instruction sets and with AVX2 alone, as on an older processor. Each record states the kernels that
PyTorch took. The accuracies are written to that file and to a block of docs/records.md, which are
part of the repository; they are measured by committed code.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from functools import partial
from pathlib import Path

from rich.console import Console

from runner.blocks import renewed
from runner.code import git_state
from runner.errors import ConfigError
from runner.files import atomically, write_json
from runner.paths import PUBLISHED, ROOT
from runner.records.find import record_in
from runner.spec.record import Record

COMMAND = "kinds"
RESULTS = ROOT / "results" / "cpu_kinds.json"
PAGES = (ROOT / "docs" / "records.md", ROOT / "RESULTS.md")
# All runs of a kind are performed by one process, which imports torch once.
PERFORM = """\
import sys
from runner.commands.again import again
runs, *settings = sys.argv[1:]
sys.exit(max(again(["--again", run, *settings]) for run in runs.split(",")))
"""
# What PyTorch and oneDNN read when they start.
KINDS: tuple[Mapping[str, str], ...] = (
    {},
    {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"},
)


@dataclass(frozen=True)
class Repeated:
    """A run on two kinds.

    Args:
        published: the accuracy of its published record, whose kind may be a third one.
        accuracies: in percent, one for each of `KINDS`.
        test_loss: likewise.
    """

    run_id: str
    method: str
    seed: int
    published: float | None
    accuracies: tuple[float, float]
    test_loss: tuple[float, float]

    @property
    def difference(self) -> float:
        """The accuracy on the second kind minus that on the first, in points."""
        return self.accuracies[1] - self.accuracies[0]


@dataclass(frozen=True)
class Measurement:
    """All runs, and what measured them.

    Args:
        kinds: the kernels that PyTorch took, one for each of `KINDS`.
        origin: commit, PyTorch, processor and date.
    """

    kinds: tuple[str, str]
    origin: Mapping[str, str]
    runs: tuple[Repeated, ...]


def kinds(words: Sequence[str], console: Console) -> int:
    """Perform the runs on both kinds, and write the file and the page.

    Raises:
        ConfigError: words, uncommitted code, a run fails, or the machine has one kind only.
    """
    if words:
        raise ConfigError(f"{COMMAND} takes no words: {' '.join(words)}")
    if git_state()["git_dirty"] is not False:
        raise ConfigError(f"{COMMAND}: the code is not committed; commit it, then measure")
    runs = [run.run_id for run in read_measurement().runs]
    with tempfile.TemporaryDirectory() as folder:
        one, other = (
            _performed(runs, kind, Path(folder) / str(i), console) for i, kind in enumerate(KINDS)
        )
    made = measurement(one, other)
    write_json(RESULTS, asdict(made))
    for path in PAGES:
        page = renewed(path.read_text(encoding="utf-8"), COMMAND, texts(made))
        atomically(path, partial(Path.write_text, data=page, encoding="utf-8"))
    console.print(markdown(made), markup=False, soft_wrap=True)
    return 0


def _performed(
    runs: Sequence[str], kind: Mapping[str, str], folder: Path, console: Console
) -> list[Record]:
    """The records of published runs that are performed again.

    Raises:
        ConfigError: a run fails.
    """
    settings = [f"env.{key}_dir={folder / key}" for key in ("results", "cache")]
    settings += ["env.device=cpu", "env.progress=none"]
    done = subprocess.run(
        [sys.executable, "-c", PERFORM, ",".join(runs), *settings],
        env={**os.environ, **kind},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    records = [record_in([folder / "results"], run) for run in runs]
    found = [record for record in records if record is not None]
    if len(found) < len(runs):
        raise ConfigError(f"{COMMAND}: a run failed: {done.stderr.strip()[-500:]}")
    for record in found:
        accuracy = _known(record, record["accuracy"])
        console.print(f"{record['run_id']}: {accuracy:.2f} % with {_kernels(record)}")
    return found


def measurement(
    one: Sequence[Record], other: Sequence[Record], published: Path = PUBLISHED
) -> Measurement:
    """The measurement that records of the same runs on two kinds are.

    Raises:
        ConfigError: the records are of one kind, or of different commits.
    """
    origin = one[0]["provenance"]
    names = (_kernels(one[0]), _kernels(other[0]))
    if len(set(names)) < len(names):
        raise ConfigError(f"{COMMAND}: this machine has no other kernels than {names[0]}")
    commits = {record["provenance"]["git_sha"] for record in (*one, *other)}
    if len(commits) > 1:
        raise ConfigError(f"{COMMAND}: the commit changed meanwhile; measure again")
    return Measurement(
        names,
        {
            "commit": str(origin["git_sha"])[:8],
            "PyTorch": origin["versions"]["torch"],
            "processor": origin["cpu"]["name"],
            "date": datetime.now(timezone.utc).date().isoformat(),
        },
        tuple(_repeated(a, b, published) for a, b in zip(one, other, strict=True)),
    )


def _repeated(one: Record, other: Record, published: Path) -> Repeated:
    before = record_in([published], one["run_id"])
    return Repeated(
        one["run_id"],
        one["method"],
        one["seed"],
        before["accuracy"] if before else None,
        (_known(one, one["accuracy"]), _known(other, other["accuracy"])),
        (_known(one, one["test_loss"]), _known(other, other["test_loss"])),
    )


def _known(record: Record, value: float | None) -> float:
    """A number of a record.

    Raises:
        ConfigError: the run diverged, so that it has none.
    """
    if value is None:
        raise ConfigError(
            f"{COMMAND}: {record['run_id']} has no accuracy with {_kernels(record)}; remove it from"
            f" {RESULTS.name}"
        )
    return value


def _kernels(record: Record) -> str:
    return str(record["provenance"]["cpu"]["capability"])


def read_measurement(path: Path = RESULTS) -> Measurement:
    """The measurement in a file."""
    plain = json.loads(path.read_text(encoding="utf-8"))
    pairs = ("accuracies", "test_loss")
    return Measurement(
        tuple(plain["kinds"]),
        plain["origin"],
        tuple(
            Repeated(**{**run, **{key: tuple(run[key]) for key in pairs}}) for run in plain["runs"]
        ),
    )


def texts(made: Measurement) -> dict[str, str]:
    """The text of each block: the whole measurement, or what it says."""
    return {"begin": markdown(made), "in short": "\n".join(_sentences(made))}


def markdown(made: Measurement) -> str:
    """The measurement as a Markdown table, with what it says and its origin."""
    head = ("run", "seed", "published", *made.kinds, "difference")
    rows = [
        (
            run.method,
            str(run.seed),
            "–" if run.published is None else f"{run.published:.2f}",
            *(f"{accuracy:.2f}" for accuracy in run.accuracies),
            f"{run.difference:+.2f}",
        )
        for run in made.runs
    ]
    lines = ["| " + " | ".join(row) + " |" for row in (head, *rows)]
    lines.insert(1, "|---" * len(head) + "|")
    origin = ", ".join(f"{key} {value}" for key, value in made.origin.items())
    return "\n".join([*lines, "", *_sentences(made), "", f"Measured with {origin}."])


def _sentences(made: Measurement) -> list[str]:
    """How many runs differ and by how much, beside what seeds change."""
    gaps = [run.difference for run in made.runs]
    spread = statistics.fmean(gap**2 for gap in gaps) ** 0.5
    differ = sum(loss[0] != loss[1] for loss in (run.test_loss for run in made.runs))
    by_method: dict[str, list[Repeated]] = {}
    for run in made.runs:
        by_method.setdefault(run.method, []).append(run)
    over_seeds = [
        statistics.variance(run.accuracies[i] for run in runs)
        for runs in by_method.values()
        for i in range(len(KINDS))
    ]
    seeds = (2 * statistics.fmean(over_seeds)) ** 0.5
    return [
        f"The test loss of {differ} of {len(gaps)} runs differs between the kinds. Accuracies",
        f"differ by up to {max(map(abs, gaps)):.2f} points, {spread:.2f} in the root mean square;",
        f"those of two seeds of one kind differ by {seeds:.2f}.",
    ]
