"""By which densities pruning goes down: the option group `schedule`. A schedule is `(density) -> densities`, falling, the last one being `density`."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Once:
    """One shot."""

    def __call__(self, density: float) -> list[float]:
        """[density]."""
        return [density]
