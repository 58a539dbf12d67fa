"""The verdicts of all published pages beside the former ones, before seeds were the sample."""

import csv
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from runner.commands.result_claims import CLAIM, VERDICT
from runner.commands.result_pages import Row
from runner.paths import ROOT
from runner.suites.verdicts import FAILS, HOLDS, OPEN

NAME = "verdicts"  # of the block
FORMER = ROOT / "results" / "templates" / "former_verdicts.csv"
NONE = "–"  # no verdict
GONE = "withdrawn"
DECIDED = (HOLDS, FAILS)


@dataclass(frozen=True)
class Change:
    """A verdict before and after.

    Args:
        page: the section of the index and the name of its files.
    """

    page: str
    claim: str
    before: str
    after: str


def changes(former: Sequence[Row], published: Path) -> list[Change]:
    """The verdicts of former and of published pages, by page.

    Args:
        former: lines with page, claim and verdict; the claims have their present words.
    """
    before = {(row["page"], row["claim"]): row["verdict"] for row in former}
    after = dict(_verdicts(published))
    keys = dict.fromkeys([*before, *after])
    found = [Change(*key, before.get(key, NONE), after.get(key, GONE)) for key in keys]
    return sorted(found, key=lambda each: each.page)


def _verdicts(published: Path) -> Iterator[tuple[tuple[str, str], str]]:
    for path in sorted(published.glob("*/*.claims.csv")):
        page = f"{path.parent.name}/{path.name.removesuffix('.claims.csv')}"
        for row in _read(path):
            yield (page, row[CLAIM]), row[VERDICT]


def _read(path: Path) -> list[Row]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def verdicts_text(published: Path, former: Path = FORMER) -> str:
    """The block: counts, then a table of the verdicts of each page."""
    found = changes(_read(former), published)
    parts = [_counted(found)]
    for page in dict.fromkeys(each.page for each in found):
        lines = [each for each in found if each.page == page]
        rows = "\n".join(f"| {each.claim} | {each.before} | {each.after} |" for each in lines)
        head = page if all(each.after == GONE for each in lines) else _link(page)
        parts.append(f"| {head} | before | now |\n|---|---|---|\n{rows}")
    return "\n\n".join(parts)


def _link(page: str) -> str:
    return f"[{page}](../results/published/{page}.claims.md)"


def _counted(found: Sequence[Change]) -> str:
    """A table of how many verdicts of tables and of figures became what."""
    rows = [
        f"| {section} | {_kinds([each for each in found if each.page.startswith(section)])} |"
        for section in ("tables", "figures")
    ]
    head = "| | decided before | open now | reversed | as before | withdrawn | new |"
    return "\n".join([head, f"|---{'|---' * 6}|", *rows])


def _kinds(found: Sequence[Change]) -> str:
    counts: Mapping[str, int] = Counter(_kind(each) for each in found)
    decided = sum(each.before in DECIDED for each in found)
    kinds = ("open now", "reversed", "as before", "withdrawn", "new")
    return " | ".join([str(decided), *(str(counts[kind]) for kind in kinds)])


def _kind(change: Change) -> str:
    """What became of a verdict. One that was open and is decided now counts as new."""
    if change.after == GONE:
        return "withdrawn"
    if change.before == change.after:
        return "as before"
    if change.before not in DECIDED:
        return "new"
    return "open now" if change.after == OPEN else "reversed"
