"""Judge the claims in a figure's YAML by its points over seeds, or over the trials of a run.

    claims:
      # y of S is below that of OTHER, on average over the points that both have; with
      # `everywhere: true` at each. `margin` is added to OTHER. `of` names a number of the records
      # that is compared in place of y.
      - {claim: TEXT, panel: P, series: S, below: OTHER}
      # y of S is least at an x in the range; `highest`: greatest.
      - {claim: TEXT, panel: P, series: S, lowest: [LOW, HIGH]}
      # y of S differs by less than 1 between any two points; `range` of x.
      - {claim: TEXT, panel: P, series: S, within: 1}
      # The last points of S and of OTHERS differ by less than 1.
      - {claim: TEXT, panel: P, series: S, beside: [OTHER, ...], apart: 1}
      # y of S falls from one x to another, by more than 1.
      - {claim: TEXT, panel: P, series: S, falls: [FROM, TO], by: 1}
      # The slope; with rival powers of x also: a line fits, and these powers do not.
      - {claim: TEXT, panel: P, series: S, slope: {above: 0}, powers: [0.5, 2]}
      # The ratio in NAME_measured of the run's report is at most 1; `equal: true`: it is 1.
      - {claim: TEXT, panel: P, series: S, reads: NAME}

P and S are ids or lists of ids, with a verdict for each; without `panel` the claim is about all
panels. `slope` takes above, below and between: [LOW, HIGH]. Every claim is judged by tests
whose errors come from the seeds (runner/stats), with p-values adjusted for the number of verdicts
on the page. Without runs the verdict is "not run"; with one seed and no trials it is "open".
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from runner.errors import ConfigError, one_of
from runner.figures.judges import (
    of_extreme,
    of_fall,
    of_last_points,
    of_order,
    of_ratio,
    of_slope,
    of_stability,
)
from runner.figures.points import Point, Series
from runner.figures.series import by_seed, figure_spec
from runner.records.read import FinishedRun
from runner.spec.findings import is_diverged, number
from runner.suites.expand import Suite
from runner.suites.layouts import series_key
from runner.suites.schema_claims import (
    BelowClaim,
    FallsClaim,
    FigureClaim,
    HighestClaim,
    LowestClaim,
    ReportClaim,
    SlopeClaim,
    StableClaim,
    TogetherClaim,
)
from runner.suites.schema_series import BoundarySpec, CurveSpec, SeriesSpec, TraceSpec
from runner.suites.verdicts import (
    OPEN,
    UNKNOWN,
    Verdict,
    decided,
    told_by,
    write_claims,
)

Ids = tuple[str, str]  # of panel and series
Runs = tuple[FinishedRun, ...]


def verdicts(
    claims: Sequence[FigureClaim], found: Sequence[Series], runs: Mapping[Ids, Runs]
) -> list[Verdict]:
    """Judge every claim of a figure.

    Args:
        runs: (panel, series) -> its runs, one per seed, for series with a single point.

    Raises:
        ConfigError: a claim about an unknown series.
    """
    by_id = {series.key: series for series in found}
    lines = []
    for claim, panel, name, text in _subjects(claims, [panel for panel, _ in by_id]):
        keys = [(panel, each) for each in dict.fromkeys((name, *claim.others))]
        for key in keys:
            if key not in by_id:
                known = [ref for where, ref in by_id if where == panel]
                raise ConfigError(one_of("claims.series", key[1], known))
        series = [by_id[key] for key in keys]
        line = _judge(claim, series, [runs.get(key, ()) for key in keys])
        line = replace(line, claim=text)
        lines.append(_counted(line, sum(each.diverged for each in series)))
    return decided(lines)


def _subjects(
    claims: Sequence[FigureClaim], panels: Sequence[str]
) -> Iterator[tuple[FigureClaim, str, str, str]]:
    """Each claim with every panel and series that it is about, and its text with their names."""
    shown = list(dict.fromkeys(panels))
    for claim in claims:
        about = claim.panel.ids if claim.panel else tuple(shown)
        for panel in (panel for panel in about if panel in shown):
            for series in claim.series.ids:
                several = [panel] if len(about) > 1 else []
                several += [series] if len(claim.series.ids) > 1 else []
                text = f"{claim.claim}: {', '.join(several)}" if several else claim.claim
                yield claim, panel, series, text


def _counted(verdict: Verdict, diverged: int) -> Verdict:
    """The verdict with the number of diverged runs, which it does not use."""
    if not diverged:
        return verdict
    holds = OPEN if verdict.holds == UNKNOWN else verdict.holds
    measured = f"{verdict.measured} ({diverged} runs left out, diverged)"
    return replace(verdict, measured=measured, holds=holds)


def judged(
    suite: Suite, found: Sequence[Series], find: Callable[[str], FinishedRun | None], folder: Path
) -> list[Verdict]:
    """Judge the claims in the figure's YAML and write the verdicts, if any, to `folder`."""
    lines = verdicts(figure_spec(suite).claims, found, _runs(suite, find))
    if lines:
        write_claims(lines, folder, suite.file_name)
    return lines


def power(suite: Suite) -> Iterator[str]:
    """Lines for a plan: which differences the seeds can tell, or that trials take their place."""
    spec = figure_spec(suite)
    about = list(_subjects(spec.claims, [panel.ref for panel in spec.panels]))
    if not about:
        return
    series = {
        (panel.ref, drawn.ref + more): drawn
        for panel in spec.panels
        for drawn, _, more in panel.names(suite.networks)
    }
    seeds = min((len(cell.jobs) for cell in suite.cells.values() if cell.jobs), default=0)
    trials = sum(_by_trials(claim, series.get((panel, s)), seeds) for claim, panel, s, _ in about)
    if trials:
        yield f"power of {suite.name}: {trials} verdicts come from the trials of a run"
    if trials < len(about):
        yield f"power of {suite.name}: {told_by(seeds, len(about))}"


def _by_trials(claim: FigureClaim, series: SeriesSpec | None, seeds: int) -> bool:
    """Whether a verdict comes from the trials of runs instead of their seeds."""
    if isinstance(claim, ReportClaim) or isinstance(series, BoundarySpec):
        return True
    return seeds == 1 and isinstance(series, CurveSpec | TraceSpec) and series.spread is not None


def _runs(suite: Suite, find: Callable[[str], FinishedRun | None]) -> dict[Ids, Runs]:
    """The finite runs of the series that have a single point."""
    runs = {}
    for panel in figure_spec(suite).panels:
        for series, network, more in panel.names(suite.networks):
            row = series_key(panel.ref, series.ref, network)
            cells = [suite.cells[row, point] for point in panel.points_of(series)]
            if len(cells) == 1:
                there = (find(job.run_id) for job in cells[0].jobs)
                runs[panel.ref, series.ref + more] = tuple(
                    run for run in there if run and not is_diverged(run.record)
                )
    return runs


def _judge(claim: FigureClaim, series: Sequence[Series], runs: Sequence[Runs]) -> Verdict:
    """The verdict, before it is decided; `series` and `runs`: the claim's own, then others'."""
    own, *others = series
    match claim:
        case SlopeClaim():
            return of_slope(own, *claim.slope.ends, claim.powers)
        case BelowClaim(of=str(key)):
            one, two = (
                replace(s, points=_number(r, key)) for s, r in zip(series, runs, strict=True)
            )
            return of_order(one, two, claim.margin, claim.everywhere)
        case BelowClaim():
            return of_order(own, others[0], claim.margin, claim.everywhere)
        case LowestClaim():
            return of_extreme(own, claim.lowest, -1)
        case HighestClaim():
            return of_extreme(own, claim.highest, 1)
        case StableClaim():
            return of_stability(own, claim.range, claim.within)
        case TogetherClaim():
            return of_last_points(series, claim.apart)
        case FallsClaim():
            return of_fall(own, *claim.falls, claim.by)
        case ReportClaim():
            return _of_report(claim, runs[0])
    raise TypeError(f"{type(claim).__name__} has no judge")


def _number(runs: Runs, key: str) -> tuple[Point, ...]:
    """A number of the runs of a series as its only point; empty without runs."""
    known = by_seed(runs, [run.number(key) for run in runs])
    if not known:
        return ()
    mean = sum(number.value for _, number in known) / len(known)
    return (Point(key, len(known), 0.0, mean, by_seed=known),)


def _of_report(claim: ReportClaim, runs: Runs) -> Verdict:
    if len(runs) != 1:
        return Verdict(claim.claim, holds=OPEN if runs else UNKNOWN)
    report = runs[0].record["report"]
    names = [f"{claim.reads}_{part}" for part in ("measured", "low", "high")]
    if lacking := [name for name in names if name not in report]:
        raise ConfigError(f"claims.reads={claim.reads}: the run's report has no {lacking[0]!r}")
    numbers = [each for name in names if (each := number(report, name)) is not None]
    if len(numbers) < len(names):  # one of them was not finite
        return Verdict(claim.claim, holds=OPEN)
    measured, low, high = numbers
    return of_ratio(measured, low, high, claim.equal)
