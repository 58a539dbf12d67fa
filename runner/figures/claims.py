"""Predictions of a theory as lines: claim, what was measured, confidence interval, holds or not. A figure's YAML lists them; records and fitted lines judge.

    claims:
      - {claim: TEXT, panel: P, series: S, slope: {above: 0}, r2: 0.9}          of the series' fitted line (its 95 % interval by Student's t)
      - {claim: TEXT, panel: P, series: S, below: OTHER}                        y of S is below that of OTHER at every point that both have
      - {claim: TEXT, panel: P, series: S, lowest: [LOW, HIGH]}                 y of S is least at an x in that range; `highest`: greatest
      - {claim: TEXT, panel: P, series: S, reads: NAME}                         NAME_measured, NAME_low, NAME_high, NAME_holds (1 or 0) of the run's report

`slope` takes above, below and between: [LOW, HIGH]. A claim on a slope holds if its whole interval obeys and R2 is at least `r2`; it fails if the
interval disobeys, or obeys without a line; where it does both, the data cannot tell ("open"). What was not run has no verdict.
"""

from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from runner.errors import ConfigError, one_of
from runner.figures.points import Point, Series
from runner.records.read import Found
from runner.suites.expand import Table
from runner.suites.layouts import networks_of, points_of, series_key
from runner.suites.verdicts import FAILS, HOLDS, OPEN, Verdict, as_table, write_claims


def verdicts(claims: Sequence[dict[str, Any]], found: Sequence[Series], runs: dict[tuple[str, str], Found]) -> list[Verdict]:
    """Every claim of a figure, judged.

    Args:
        runs: (panel, series) -> its run, where it has one alone.

    Raises:
        ConfigError: a claim about a series that there is not.
    """
    by_name = {(s.panel, s.label): s for s in found}
    lines = []
    for item in claims:
        key = item["panel"], item["series"]
        for name in (key, *([(item["panel"], item["below"])] if "below" in item else [])):
            if name not in by_name:
                raise ConfigError(one_of("claims.series", name[1], [label for panel, label in by_name if panel == name[0]]))
        lines.append(_judge(item, by_name[key], by_name, runs.get(key)))
    return lines


def judged(table: Table, found: Sequence[Series], find: Callable[[str], Found | None], folder: Path) -> str:
    """Judge and write to `folder` what the figure's YAML claims; the same for a terminal, nothing where it claims nothing."""
    setting = table.spec["elsewhere"][table.variant] if table.variant else table.spec
    panels = setting.get("panels", table.spec["panels"])
    left_out = {panel["label"] for panel in panels if not networks_of(panel, table.networks)}
    claims = [claim for claim in setting.get("claims", table.spec.get("claims", [])) if claim["panel"] not in left_out]
    if not claims:
        return ""
    runs = {}
    for panel in panels:
        for series, network in product(panel["series"], networks_of(panel, table.networks)):
            row = series_key(panel["label"], series["label"], network)
            jobs = [job for point in points_of(panel, series) for job in table.cells[row, point].jobs]
            if len(jobs) == 1 and (run := find(jobs[0].run_id)):
                runs[panel["label"], series["label"]] = run
    lines = verdicts(claims, found, runs)
    write_claims(lines, folder, table.name)
    return f"\n{as_table(lines)}\n"


def _judge(item: dict[str, Any], series: Series, others: dict[tuple[str, str], Series], run: Found | None) -> Verdict:
    if "slope" in item:
        return _of_slope(item, series)
    if "below" in item:
        return _of_order(item["claim"], series, others[item["panel"], item["below"]])
    for which, pick in (("lowest", min), ("highest", max)):
        if which in item:
            return _of_extreme(item["claim"], series, which, pick, *item[which])
    return Verdict(item["claim"]) if run is None else _of_report(item["claim"], run.record["report"], item["reads"])


def _of_slope(item: dict[str, Any], series: Series) -> Verdict:
    line, claim = series.fit, item["claim"]
    if line is None or line.interval is None:
        return Verdict(claim)
    low, high = line.interval
    rule = item["slope"]
    least, most = rule.get("between", (rule.get("above", -float("inf")), rule.get("below", float("inf"))))
    inside, outside = least <= low and high <= most, high < least or low > most
    straight = line.r2 >= item.get("r2", 0.0)
    shown = f"slope {line.slope:.3g}, R² = {line.r2:.3f}, {line.n} points"
    return Verdict(claim, shown, f"[{low:.3g}, {high:.3g}]", HOLDS if inside and straight else FAILS if inside or outside else OPEN)


def _of_order(claim: str, series: Series, other: Series) -> Verdict:
    theirs = {p.x: p.y for p in other.points}
    pairs = [(p.y, theirs[p.x]) for p in series.points if p.y is not None and theirs.get(p.x) is not None]
    if not pairs:
        return Verdict(claim)
    gaps = [(b or 0.0) - a for a, b in pairs]
    below = sum(gap > 0 for gap in gaps)
    return Verdict(claim, f"{below} of {len(gaps)} points, mean gap {sum(gaps) / len(gaps):.3g}", "–", HOLDS if below == len(gaps) else FAILS)


def _of_extreme(claim: str, series: Series, which: str, pick: Callable[..., Point], low: float, high: float) -> Verdict:
    known = [p for p in series.points if p.y is not None]
    if not known:
        return Verdict(claim)
    best = pick(known, key=lambda p: p.y or 0.0)
    return Verdict(claim, f"{'least' if which == 'lowest' else 'greatest'}, {best.y:.3g}, at {best.x:.3g}", "–", HOLDS if low <= best.x <= high else FAILS)


def _of_report(claim: str, report: dict[str, Any], name: str) -> Verdict:
    try:
        measured, low, high, holds = (report[f"{name}_{part}"] for part in ("measured", "low", "high", "holds"))
    except KeyError as error:
        raise ConfigError(f"claims.reads={name}: the run's report has no {error}") from error
    return Verdict(claim, f"{measured:.4g}", f"[{low:.4g}, {high:.4g}]", HOLDS if holds else FAILS)
