"""Schema of a figure's claims, which are predictions about its series.

runner/figures/claims.py judges them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from runner.config.typed import build, excerpt
from runner.errors import ConfigError, nearest
from runner.suites.schema import Names, Rivals


@dataclass(frozen=True, kw_only=True)
class FigureClaim:
    """A prediction about a series. Each kind is a class and has one key that no other kind has.

    Args:
        panel: ids of panels, each with a verdict of its own; by default all.
        series: ids of series, each with a verdict of its own.
    """

    claim: str
    series: Rivals
    panel: Rivals | None = None

    @property
    def others(self) -> Names:
        """The other series of the panel that it is about."""
        return ()

    @classmethod
    def from_plain(cls, value: Any, key: str) -> "FigureClaim":
        """Build the kind of claim that has the keys of `value`."""
        if not isinstance(value, dict):
            raise ConfigError(f"{key}={excerpt(value)} must be a mapping")
        kinds = [kind for name, kind in CLAIMS.items() if name in value]
        if len(kinds) == 1:
            return build(kinds[0], value, key)
        known = dict.fromkeys(f.name for kind in CLAIMS.values() for f in fields(kind))
        unknown = [
            f"{key}.{name} is not an option; {key} takes"
            f" {', '.join(known)}{nearest(str(name), known)}"
            for name in value
            if name not in known
        ]
        raise ConfigError(*unknown, f"{key} must have one of {', '.join(CLAIMS)}")


@dataclass(frozen=True, kw_only=True)
class Slope:
    """The range of a slope: above, below or between two numbers."""

    above: float = -float("inf")
    below: float = float("inf")
    between: tuple[float, float] | None = None

    @property
    def ends(self) -> tuple[float, float]:
        """The lower and the upper end of the range."""
        return self.between or (self.above, self.below)


@dataclass(frozen=True, kw_only=True)
class SlopeClaim(FigureClaim):
    """The slope of the series is in a range.

    Args:
        powers: rival powers of x. With any, the claim is also that the series is a line: the line
            is not rejected by a test of its lack of fit, and each of the rivals is.
    """

    slope: Slope
    powers: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class BelowClaim(FigureClaim):
    """The series' y is below that of another series, on average over the points that both have.

    Args:
        everywhere: whether it is below at each of these points.
        margin: what is added to the other series.
        of: a number of the runs' records that is compared in place of y.
    """

    below: str
    everywhere: bool = False
    margin: float = 0.0
    of: str | None = None

    @property
    def others(self) -> Names:
        """The series that it is compared with."""
        return (self.below,)


@dataclass(frozen=True, kw_only=True)
class LowestClaim(FigureClaim):
    """The series' y is least at an x in this range."""

    lowest: tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class HighestClaim(FigureClaim):
    """The series' y is greatest at an x in this range."""

    highest: tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class StableClaim(FigureClaim):
    """The series' y differs by less than `within` between any two points.

    Args:
        range: the range of x; by default all points.
    """

    within: float
    range: tuple[float, float] = (-float("inf"), float("inf"))


@dataclass(frozen=True, kw_only=True)
class TogetherClaim(FigureClaim):
    """The last points of the series and of others differ by less than `apart`."""

    apart: float
    beside: Names

    @property
    def others(self) -> Names:
        """The series that it is compared with."""
        return self.beside


@dataclass(frozen=True, kw_only=True)
class FallsClaim(FigureClaim):
    """The series' y falls by more than `by` from the first to the second x of `falls`."""

    falls: tuple[float, float]
    by: float = 0.0


@dataclass(frozen=True, kw_only=True)
class ReportClaim(FigureClaim):
    """A ratio in the run's report is at most 1: NAME_measured, with the interval NAME_low/high.

    Args:
        equal: whether the claim is that it is 1.
    """

    reads: str
    equal: bool = False


CLAIMS: Mapping[str, type[FigureClaim]] = {
    "slope": SlopeClaim,
    "below": BelowClaim,
    "lowest": LowestClaim,
    "highest": HighestClaim,
    "within": StableClaim,
    "apart": TogetherClaim,
    "falls": FallsClaim,
    "reads": ReportClaim,
}
