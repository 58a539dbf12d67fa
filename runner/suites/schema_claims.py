"""Claims of a figure as frozen dataclasses: predictions about its series. runner/figures/claims.py judges them."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from runner.config.typed import build, excerpt
from runner.errors import ConfigError, nearest


@dataclass(frozen=True, kw_only=True)
class FigureClaim:
    """A prediction about a series. Each kind is a class, by the key that only it has."""

    claim: str
    panel: str
    series: str

    @classmethod
    def from_plain(cls, value: Any, key: str) -> "FigureClaim":
        """The claim of the kind that its keys ask for."""
        if not isinstance(value, dict):
            raise ConfigError(f"{key}={excerpt(value)} must be a mapping")
        kinds = [kind for name, kind in CLAIMS.items() if name in value]
        if len(kinds) == 1:
            return build(kinds[0], value, key)
        known = dict.fromkeys(f.name for kind in CLAIMS.values() for f in fields(kind))
        unknown = [f"{key}.{name} is not an option; {key} takes {', '.join(known)}{nearest(str(name), known)}" for name in value if name not in known]
        raise ConfigError(*unknown, f"{key} must have one of {', '.join(CLAIMS)}")


@dataclass(frozen=True, kw_only=True)
class Slope:
    """What a slope must be: above, below or between two numbers."""

    above: float = -float("inf")
    below: float = float("inf")
    between: tuple[float, float] | None = None

    @property
    def ends(self) -> tuple[float, float]:
        """Its least and its largest value."""
        return self.between or (self.above, self.below)


@dataclass(frozen=True, kw_only=True)
class SlopeClaim(FigureClaim):
    """The slope of its fitted line, and the least R2 of that line."""

    slope: Slope
    r2: float = 0.0


@dataclass(frozen=True, kw_only=True)
class BelowClaim(FigureClaim):
    """Its y is below that of another series of the panel at every point that both have."""

    below: str


@dataclass(frozen=True, kw_only=True)
class LowestClaim(FigureClaim):
    """Its y is least at an x in that range."""

    lowest: tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class HighestClaim(FigureClaim):
    """Its y is greatest at an x in that range."""

    highest: tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class ReportClaim(FigureClaim):
    """What its run reports itself: NAME_measured, NAME_low, NAME_high and NAME_holds (1 or 0)."""

    reads: str


CLAIMS: Mapping[str, type[FigureClaim]] = {
    "slope": SlopeClaim,
    "below": BelowClaim,
    "lowest": LowestClaim,
    "highest": HighestClaim,
    "reads": ReportClaim,
}
