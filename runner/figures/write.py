"""Write figures to files: a picture in three formats, and the numbers of the series as CSV."""

import csv
import io
from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path

from runner.figures.as_ran import x_as_ran
from runner.figures.claims import judged
from runner.figures.draw import ENDINGS, WITH_BANDS, Panel, draw
from runner.figures.page import page
from runner.figures.points import Series
from runner.figures.series import figure_spec, series_of
from runner.files import atomically
from runner.records.read import find_run
from runner.spec.findings import is_diverged, number
from runner.suites.expand import Suite
from runner.suites.layouts import series_key
from runner.suites.notes import notes_of
from runner.suites.titles import origins, title
from runner.suites.verdicts import Verdict, as_table
from runner.tables.entries import collapsed, collapsed_note
from runner.tables.marks import page_notes
from runner.tables.text import MISSING

COLUMNS = ("figure", "panel", "series", "draw", "point", "n", "x", "x_end", "y", "y_std")
VALUE = "value"  # an additional column for phase diagrams


def notes(suite: Suite, found: list[Series], results_dir: Path) -> list[str]:
    """Return the notes: seeds, the YAML's notes, devices, mixed code, missing runs."""
    done = {
        job.run_id: run.record for job in suite.jobs if (run := find_run(job.run_id, results_dir))
    }
    seeds = sorted({len(cell.jobs) for cell in suite.cells.values() if cell.jobs})
    spread = ": means over seeds, bands and bars ± standard deviation" if seeds[-1:] > [1] else ""
    trials = sorted(
        {n for record in done.values() if (n := number(record["report"], "trials")) is not None}
    )
    each = f" Each run: {'/'.join(map(str, trials))} independent trials." if trials else ""
    lines = [
        f"n={'/'.join(map(str, seeds))} seed{'s' if seeds[-1:] > [1] else ''}{spread}.{each}",
        *notes_of(suite),
        *_ran(suite),
        *page_notes(suite),
        *origins(list(done.values())),
    ]
    if diverged := sum(map(is_diverged, done.values())):
        lines.append(
            f"{diverged} {'run' if diverged == 1 else 'runs'} diverged (a loss, weight or score is"
            " not finite) and left out of points, lines and claims."
        )
    lines += collapsed_note(
        collapsed(suite.jobs, done),
        "Points, lines and claims have them; legends state their number.",
    )
    absent: dict[str, list[str]] = {}
    for series in found:
        if not series.done and not series.diverged:
            absent.setdefault(series.panel, []).append(series.label)
    lines += [f"Missing in {panel}: {', '.join(labels)}." for panel, labels in absent.items()]
    if any(map(partial(_below_zero, suite), found)):
        lines.append("Arrows at the end of a logarithmic axis: numbers of zero or less.")
    undone = len(suite.jobs) - len(done)
    return lines + ([f"{undone} runs are not done: {suite.command}"] if undone else [])


def _below_zero(suite: Suite, series: Series) -> bool:
    """Whether a series has numbers that its logarithmic axis has not."""
    panel = next(each for each in figure_spec(suite).panels if each.ref == series.key[0])
    heights = [p.y for p in series.points if p.y is not None and series.kind in WITH_BANDS]
    return panel.y.scale == "log" and any(y <= 0 for y in heights)


def _ran(suite: Suite) -> list[str]:
    """State which values of an axis of what ran stand for which of the paper's."""
    pairs: dict[str, str] = {}
    for panel in figure_spec(suite).panels:
        for series, network, _ in panel.names(suite.networks) if panel.x.ran else ():
            for point in panel.points_of(series):
                cell = suite.cells[series_key(panel.ref, series.ref, network), point]
                asked = point.partition("=")[2]
                ran = f"{x_as_ran(panel.x, cell, float(asked)):g}"
                pairs |= {asked: ran} if ran != asked else {}
    if not pairs:
        return []
    return [f"x is what ran: {', '.join(pairs.values())} for {', '.join(pairs)}."]


def as_csv(suite: Suite, found: list[Series]) -> str:
    """Format a CSV with one line per drawn number."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    cells = any(p.value is not None for series in found for p in series.points)
    writer.writerow((*COLUMNS, VALUE) if cells else COLUMNS)
    for series in found:
        for p in series.points:
            row = (
                suite.file_name,
                series.panel,
                series.label,
                series.kind,
                p.name,
                p.n,
                p.x,
                p.x_end,
                p.y,
                p.spread,
                *((p.value,) if cells else ()),
            )
            writer.writerow(["" if value is None else value for value in row])
    return text.getvalue()


def as_text(suite: Suite, found: list[Series], results_dir: Path) -> str:
    """Format a summary for a terminal: the drawn series, the missing ones, and the notes."""
    lines = [title(suite), ""]
    for panel, series in summaries(found).items():
        lines += [panel, *(f"  {text}" for text in series)]
    return "\n".join([*lines, "", *notes(suite, found, results_dir)]) + "\n"


def summaries(found: list[Series]) -> dict[str, list[str]]:
    """Panel -> a line about each of its series."""
    return {
        panel: [f"{s.label}: {_summary(s)}" for s in found if s.panel == panel]
        for panel in dict.fromkeys(series.panel for series in found)
    }


def _summary(series: Series) -> str:
    """Summarise a series: ends of a curve, size of a histogram, position of a mark."""
    if not series.points:
        if series.diverged:
            return f"{MISSING} ({series.state})"
        return "none" if series.done else f"{MISSING} ({series.requested} runs to do)"
    first, last = series.points[0], series.points[-1]
    runs = "".join(f"; {text}" for text in (series.state, series.doubt) if text)
    if series.kind == "heat":
        mean = sum(p.value or 0 for p in series.points) / len(series.points)
        return f"{len(series.points)} cells, mean {mean:.3g}{runs}"
    runs = f"; {series.fit.equation}{runs}" if series.fit else runs
    if series.kind == "mark":
        return f"{first.x:.4g}{runs}"
    if series.kind == "histogram":
        total = sum(p.y or 0 for p in series.points)
        ends = f"from {first.x:g} to {last.x_end:g}"
        return f"{len(series.points)} bins {ends}, {total:.4g} in all{runs}"
    ends = f"{first.y:.4g} at {first.x:.4g} to {last.y:.4g} at {last.x:.4g}"
    return f"{len(series.points)} points, {ends}{runs}"


def write_figure(
    suite: Suite, results_dir: Path, endings: Collection[str] = ENDINGS, paged: bool = True
) -> str:
    """Write the figure's pictures, numbers, verdicts and page to <results_dir>/figures.

    Args:
        endings: formats of the pictures, some of ENDINGS.
        paged: whether to write the page, in Markdown.

    Returns:
        The summary and the verdicts for a terminal.

    Raises:
        ConfigError: matplotlib is not installed, or a run lacks what is drawn.
    """
    found = series_of(suite, results_dir)
    shown = [panel for panel in figure_spec(suite).panels if panel.networks_of(suite.networks)]
    panels = [
        Panel(panel.label, panel.x, panel.y, [s for s in found if s.key[0] == panel.ref])
        for panel in shown
    ]
    folder = results_dir / "figures"
    numbers = as_csv(suite, found)
    atomically(
        folder / f"{suite.file_name}.csv", lambda path: path.write_text(numbers, encoding="utf-8")
    )
    below = notes(suite, found, results_dir)
    for ending in endings:
        picture = partial(draw, title(suite), panels, below, figure_spec(suite).look, ending)
        atomically(folder / f"{suite.file_name}.{ending}", picture)
    lines = judged(suite, found, partial(find_run, results_dir=results_dir), folder)
    if paged:
        text = as_page(suite, found, lines, results_dir)
        path = folder / f"{suite.file_name}.md"
        atomically(path, partial(Path.write_text, data=text, encoding="utf-8"))
    return as_text(suite, found, results_dir) + (f"\n{as_table(lines)}\n" if lines else "")


def as_page(suite: Suite, found: list[Series], lines: Sequence[Verdict], results_dir: Path) -> str:
    """Format the page in Markdown. `lines`: the verdicts on the figure's claims."""
    runs = (find_run(job.run_id, results_dir) for job in suite.jobs)
    records = [run.record for run in runs if run]
    below = notes(suite, found, results_dir)
    return page(suite, summaries(found), below, lines, records, results_dir)
