"""Commits that measured published records and are outside the history of this repository.

Nobody can check out the code of such a commit. `results/published/outside_history.csv` lists them,
and pages mark their runs. A new record needs a commit of the history
(tests/repository/test_published.py); the list only shrinks, as runs are measured again.
"""

import csv
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from runner.paths import PUBLISHED
from runner.records.stored import Record

LIST = PUBLISHED / "outside_history.csv"
SHOWN = 8  # digits of a commit on a page


@cache
def outside_history(path: Path = LIST) -> dict[str, int]:
    """Commit -> the number of its published records."""
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        return {line["commit"]: int(line["records"]) for line in csv.DictReader(file)}


def marked(records: Sequence[Record]) -> list[str]:
    """The note about those of the records that such commits measured; empty if there are none."""
    commits = [record["provenance"].get("git_sha") for record in records]
    found = [commit for commit in commits if commit in outside_history()]
    if not found:
        return []
    names = ", ".join(sorted({commit[:SHOWN] for commit in found}))
    runs = "1 run was" if len(found) == 1 else f"{len(found)} of {len(records)} runs were"
    return [f"{runs} measured by a commit outside the history ({names})."]
