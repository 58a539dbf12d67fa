"""The HTML of the report: its pages, and the details of their runs in one embedded JSON block."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from runner.errors import ConfigError
from runner.records.find import all_records
from runner.report.pages import Listed, Shown
from runner.report.pictures import Styles
from runner.report.runs import Runs, Shared
from runner.spec.findings import is_diverged
from runner.suites.verdicts import COLUMNS, FAILS, HOLDS, OPEN, UNKNOWN
from runner.tables.html import STYLE
from runner.tables.leads import Lead

TEMPLATE, SHEET, SCRIPT = (Path(__file__).with_name(f"report.{of}") for of in ("html", "css", "js"))
VERDICTS = (HOLDS, FAILS, OPEN, UNKNOWN)
# Within a script element, text could end it or begin a comment.
ESCAPES = {ord(char): f"\\u{ord(char):04x}" for char in "<>&\u2028\u2029"}


def render(papers: Mapping[str, Sequence[Listed]], styles: Styles, roots: Sequence[Path]) -> str:
    """The report as one HTML document, which requires no other file and no network.

    Args:
        papers: title of each paper -> its tables and figures.
        styles: those of the pictures.
        roots: results directories in the order in which records are searched.

    Raises:
        ConfigError: jinja2 is not installed.
    """
    try:
        import jinja2
    except ImportError as error:
        raise ConfigError("winnow report needs jinja2: pip install -e '.[report]'") from error
    pages = [shown for entries in papers.values() for entry in entries for shown in entry.shown]
    page = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(
        _read(TEMPLATE)
    )
    return page.render(
        papers=papers,
        provenance=provenance(roots),
        verdicts=VERDICTS,
        columns=COLUMNS,
        style="\n".join([_read(STYLE), _read(SHEET), styles.sheet]),
        script=_read(SCRIPT),
        details=embedded(details(pages, Runs(roots))),
    )


def details(pages: Iterable[Shown], runs: Runs) -> Mapping[str, object]:
    """What the script shows of the entries of pages.

    `pages` has, for each anchor, a list of entries: label, three lists of positions in `runs`
    (shown, diverged, not chosen), commands of missing runs, and the position of the paper's line in
    `texts`. Empty values at the end are left out. `runs` and `shared`: see `Runs`.
    """
    texts = Shared()
    entries = {
        shown.anchor: [_entry(lead, runs, texts) for lead in shown.leads.entries] for shown in pages
    }
    return {
        "pages": entries,
        "texts": texts.values,
        "runs": runs.rows,
        "shared": runs.shared.values,
    }


def _entry(lead: Lead, runs: Runs, texts: Shared) -> list[Any]:
    found = [
        lead.label,
        *(
            [at for name in names if (at := runs.add(name)) is not None]
            for names in (lead.runs, lead.diverged, lead.others)
        ),
        list(lead.todo),
        texts.add(lead.paper) if lead.paper else None,
    ]
    while found[-1] in (None, []):
        found.pop()
    return found


def embedded(content: Mapping[str, Any]) -> str:
    """Compact JSON that cannot end the script element around it."""
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.translate(ESCAPES)


def provenance(roots: Sequence[Path]) -> list[str]:
    """A summary of the provenance of all records, one sentence per item."""
    everything = (record for root in reversed(roots) for record in all_records(root))
    records = list({record["run_id"]: record for record in everything}.values())
    if not records:
        return ["No run is done yet."]
    made = [record["provenance"] for record in records]
    days = sorted(str(origin["finished"])[:10] for origin in made if "finished" in origin) or [""]
    versions = len({origin.get("git_sha") for origin in made})
    devices = Counter(origin["device_name"] for origin in made).most_common()
    data_sets = Counter(record["dataset"] for record in records).most_common()
    dirty = sum(origin.get("git_dirty") is not False for origin in made)
    diverged = sum(map(is_diverged, records))
    runs = f"{len(records):,} runs, finished {days[0]} to {days[-1]}"
    return [
        f"{runs}, by {versions} versions of the code.",
        f"Devices: {', '.join(f'{name} ({count:,} runs)' for name, count in devices)}.",
        f"Data sets: {', '.join(f'{name} ({count:,})' for name, count in data_sets)}.",
        *([f"{diverged:,} runs diverged and have no result."] if diverged else []),
        *([f"{dirty:,} runs were measured by code that was not committed."] if dirty else []),
    ]


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")
