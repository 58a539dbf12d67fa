"""Judge the claims in a figure's YAML by its fitted lines and records.

    claims:
      # The slope of the fitted line, with its 95 % interval by Student's t.
      - {claim: TEXT, panel: P, series: S, slope: {above: 0}, r2: 0.9}
      # y of S is below that of OTHER at every point that both have.
      - {claim: TEXT, panel: P, series: S, below: OTHER}
      # y of S is least at an x in the range; `highest`: greatest.
      - {claim: TEXT, panel: P, series: S, lowest: [LOW, HIGH]}
      # NAME_measured, NAME_low, NAME_high and NAME_holds (1 or 0) in the run's report.
      - {claim: TEXT, panel: P, series: S, reads: NAME}

P and S are ids. `slope` takes above, below and between: [LOW, HIGH]. A claim about a slope holds if
the whole interval is inside the range and R2 is at least `r2`. It fails if the whole interval is
outside the range, or inside the range with a smaller R2. Otherwise the verdict is "open". Without
runs, and for a slope with fewer than three points, the verdict is "not run".
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from runner.errors import ConfigError, one_of
from runner.figures.points import Point, Series
from runner.figures.series import figure_spec
from runner.records.read import FinishedRun
from runner.spec.findings import is_diverged
from runner.suites.expand import Suite
from runner.suites.layouts import series_key
from runner.suites.schema_claims import (
    BelowClaim,
    FigureClaim,
    HighestClaim,
    LowestClaim,
    ReportClaim,
    SlopeClaim,
)
from runner.suites.verdicts import FAILS, HOLDS, OPEN, UNKNOWN, Verdict, as_table, write_claims

Ids = tuple[str, str]  # of panel and series


def verdicts(
    claims: Sequence[FigureClaim], found: Sequence[Series], runs: Mapping[Ids, FinishedRun]
) -> list[Verdict]:
    """Judge every claim of a figure.

    Args:
        runs: (panel, series) -> its run, for series with a single run.

    Raises:
        ConfigError: a claim about an unknown series.
    """
    by_id = {series.key: series for series in found}
    lines = []
    for claim in claims:
        for name in (claim.series, *([claim.below] if isinstance(claim, BelowClaim) else [])):
            if (claim.panel, name) not in by_id:
                known = [ref for panel, ref in by_id if panel == claim.panel]
                raise ConfigError(one_of("claims.series", name, known))
        verdict = _judge(claim, by_id, runs.get((claim.panel, claim.series)))
        names = {claim.series, *([claim.below] if isinstance(claim, BelowClaim) else [])}
        lines.append(_counted(verdict, sum(by_id[claim.panel, name].diverged for name in names)))
    return lines


def _counted(verdict: Verdict, diverged: int) -> Verdict:
    """The verdict with the number of diverged runs, which it does not use."""
    if not diverged:
        return verdict
    holds = OPEN if verdict.holds == UNKNOWN else verdict.holds
    measured = f"{verdict.measured} ({diverged} runs left out, diverged)"
    return replace(verdict, measured=measured, holds=holds)


def judged(
    suite: Suite, found: Sequence[Series], find: Callable[[str], FinishedRun | None], folder: Path
) -> str:
    """Judge the claims in the figure's YAML and write the verdicts to `folder`.

    Returns:
        The verdicts for a terminal; empty if there are no claims.
    """
    spec = figure_spec(suite)
    left_out = {panel.ref for panel in spec.panels if not panel.networks_of(suite.networks)}
    claims = [claim for claim in spec.claims if claim.panel not in left_out]
    if not claims:
        return ""
    lines = verdicts(claims, found, _single_runs(suite, find))
    write_claims(lines, folder, suite.name)
    return f"\n{as_table(lines)}\n"


def _single_runs(suite: Suite, find: Callable[[str], FinishedRun | None]) -> dict[Ids, FinishedRun]:
    """The runs of the series that have a single run."""
    runs = {}
    for panel in figure_spec(suite).panels:
        for series, network, more in panel.names(suite.networks):
            row = series_key(panel.ref, series.ref, network)
            jobs = [
                job for point in panel.points_of(series) for job in suite.cells[row, point].jobs
            ]
            run = find(jobs[0].run_id) if len(jobs) == 1 else None
            if run and not is_diverged(run.record):
                runs[panel.ref, series.ref + more] = run
    return runs


def _judge(claim: FigureClaim, by_id: Mapping[Ids, Series], run: FinishedRun | None) -> Verdict:
    series = by_id[claim.panel, claim.series]
    match claim:
        case SlopeClaim():
            return _of_slope(claim, series)
        case BelowClaim():
            return _of_order(claim.claim, series, by_id[claim.panel, claim.below])
        case LowestClaim():
            return _of_extreme(claim.claim, series, "least", min, *claim.lowest)
        case HighestClaim():
            return _of_extreme(claim.claim, series, "greatest", max, *claim.highest)
        case ReportClaim():
            if run is None:
                return Verdict(claim.claim)
            return _of_report(claim.claim, run.record["report"], claim.reads)
    raise TypeError(f"{type(claim).__name__} has no judge")


def _of_slope(claim: SlopeClaim, series: Series) -> Verdict:
    line = series.fit
    if line is None or line.interval is None:
        return Verdict(claim.claim)
    low, high = line.interval
    least, most = claim.slope.ends
    inside, outside = least <= low and high <= most, high < least or low > most
    straight = line.r2 >= claim.r2
    shown = f"slope {line.slope:.3g}, R² = {line.r2:.3f}, {line.n} points"
    holds = HOLDS if inside and straight else FAILS if inside or outside else OPEN
    return Verdict(claim.claim, shown, f"[{low:.3g}, {high:.3g}]", holds)


def _of_order(claim: str, series: Series, other: Series) -> Verdict:
    theirs = {p.x: p.y for p in other.points}
    pairs = [
        (p.y, theirs[p.x]) for p in series.points if p.y is not None and theirs.get(p.x) is not None
    ]
    if not pairs:
        return Verdict(claim)
    gaps = [(b or 0.0) - a for a, b in pairs]
    below = sum(gap > 0 for gap in gaps)
    shown = f"{below} of {len(gaps)} points, mean gap {sum(gaps) / len(gaps):.3g}"
    return Verdict(claim, shown, "–", HOLDS if below == len(gaps) else FAILS)


def _of_extreme(
    claim: str, series: Series, word: str, pick: Callable[..., Point], low: float, high: float
) -> Verdict:
    known = [p for p in series.points if p.y is not None]
    if not known:
        return Verdict(claim)
    best = pick(known, key=lambda p: p.y or 0.0)
    holds = HOLDS if low <= best.x <= high else FAILS
    return Verdict(claim, f"{word}, {best.y:.3g}, at {best.x:.3g}", "–", holds)


def _of_report(claim: str, report: dict[str, Any], name: str) -> Verdict:
    try:
        measured, low, high, holds = (
            report[f"{name}_{part}"] for part in ("measured", "low", "high", "holds")
        )
    except KeyError as error:
        raise ConfigError(f"claims.reads={name}: the run's report has no {error}") from error
    return Verdict(claim, f"{measured:.4g}", f"[{low:.4g}, {high:.4g}]", HOLDS if holds else FAILS)
