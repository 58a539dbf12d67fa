"""Schema of a figure's claims, which are predictions about its series.

runner/figures/claims.py judges them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from runner.config.typed import build, excerpt
from runner.errors import ConfigError, nearest


@dataclass(frozen=True, kw_only=True)
class FigureClaim:
    """A prediction about a series. Each kind is a class and has one key that no other kind has."""

    claim: str
    panel: str
    series: str

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
    """The slope of the series' fitted line is in a range, and the line's R2 is at least `r2`."""

    slope: Slope
    r2: float = 0.0


@dataclass(frozen=True, kw_only=True)
class BelowClaim(FigureClaim):
    """The series' y is below that of another series of the panel at every point that both have."""

    below: str


@dataclass(frozen=True, kw_only=True)
class LowestClaim(FigureClaim):
    """The series' y is least at an x in this range."""

    lowest: tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class HighestClaim(FigureClaim):
    """The series' y is greatest at an x in this range."""

    highest: tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class ReportClaim(FigureClaim):
    """A verdict in the run's report: NAME_measured, NAME_low, NAME_high and NAME_holds (1 or 0)."""

    reads: str


CLAIMS: Mapping[str, type[FigureClaim]] = {
    "slope": SlopeClaim,
    "below": BelowClaim,
    "lowest": LowestClaim,
    "highest": HighestClaim,
    "reads": ReportClaim,
}
