"""The page of a figure in Markdown: what is drawn, notes, verdicts, and by what it was measured."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from runner.spec.record import Record, RecordedOrigin, origins_of
from runner.suites.expand import Suite
from runner.suites.titles import title
from runner.suites.verdicts import Verdict, as_markdown
from runner.tables.text import MISSING

DAY = len("2026-11-28")  # characters of the date in a time
OUTSIDE = "outside a checkout"  # in place of a commit
SHA = 12  # characters of a commit that are printed


def page(
    suite: Suite,
    drawn: Mapping[str, Sequence[str]],
    notes: Sequence[str],
    lines: Sequence[Verdict],
    records: Sequence[Record],
    results_dir: Path,
) -> str:
    """The page of a figure.

    Args:
        drawn: panel -> a line about each of its series.
        lines: the verdicts on its claims.
        records: of its finished runs.
        results_dir: where its files are.
    """
    name = suite.file_name
    picture = results_dir / "figures" / f"{name}.png"
    parts = [f"**{title(suite)}**"]
    parts += [f"![{suite.spec.title}]({picture.name})"] if picture.is_file() else []
    parts.append("\n".join(_items(notes)))
    for panel, series in drawn.items():
        parts += [f"Panel: {panel}", "\n".join(_items(series))]
    parts += ["## Verdicts", as_markdown(lines)] if lines else []
    parts += ["## Provenance", "\n".join(_items(_provenance(suite, records, results_dir)))]
    return "\n\n".join(parts) + "\n"


def _items(lines: Sequence[str]) -> list[str]:
    return [f"- {line}" for line in lines]


def _provenance(suite: Suite, records: Sequence[Record], results_dir: Path) -> list[str]:
    """How the figure is made again, where its numbers are, and by what they were measured."""
    name = suite.file_name
    packed = results_dir / "records" / f"{name}.jsonl"
    where = f", the records in [{packed.name}](../records/{packed.name})"
    lines = [
        f"Made by `{suite.command}`.",
        f"The numbers are in [{name}.csv]({name}.csv){where if packed.is_file() else ''}.",
    ]
    if not records:
        return lines
    origins = [_origins(record) for record in records]
    commits = Counter(sha for each in origins for sha in {o["git_sha"] or OUTSIDE for o in each})
    ended = sorted(record["provenance"]["finished"][:DAY] for record in records)
    by = ", ".join(f"{_commit(sha)} ({n})" for sha, n in sorted(commits.items()))
    versions = sorted({_versions(origin) for each in origins for origin in each})
    return [
        *lines,
        f"{len(records)} runs, finished {_days(ended)}; commit (runs with a stage that it"
        f" measured): {by}.",
        f"Versions: {'; '.join(versions)}.",
    ]


def _origins(record: Record) -> list[RecordedOrigin]:
    """The origins of a record's stages that are known."""
    return [origin for origin in origins_of(record["provenance"]) if origin]


def _days(ended: Sequence[str]) -> str:
    """When runs finished, given their sorted days."""
    first, last = ended[0], ended[-1]
    return f"on {first}" if first == last else f"from {first} to {last}"


def _commit(sha: str) -> str:
    return sha if sha == OUTSIDE else f"`{sha[:SHA]}`"


def _versions(origin: RecordedOrigin) -> str:
    known = origin.get("versions", {})
    return f"Python {known.get('python', MISSING)}, torch {known.get('torch', MISSING)}"
