"""By which densities pruning goes down: the option group `schedule`. A schedule is `(density) -> densities`, falling, the last one being `density`."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Once:
    """One shot."""

    def __call__(self, density: float) -> list[float]:
        """[density]."""
        return [density]


@dataclass(frozen=True)
class Exponential:
    """density ** (i / iterations) for i = 1 ... iterations: each round keeps the same share of what is left (SynFlow; methods/synflow.md).

    Args:
        iterations: rounds. Default 100: SynFlow's published runs (its authors' command line has 1).
    """

    iterations: int = 100

    def __post_init__(self) -> None:
        if self.iterations < 1:
            raise ValueError(f"schedule.iterations={self.iterations} must be at least 1: rounds of pruning, 100 for SynFlow")

    def __call__(self, density: float) -> list[float]:
        """`iterations` densities, falling; the last one is `density` itself."""
        return [density ** (i / self.iterations) for i in range(1, self.iterations + 1)]
