"""Hand-designed layer budgets that decrease with depth: allocate=smart_ratio ("sanity-check").

Su et al., 2020, arXiv:2009.11094; their code, docs/decisions.md 17. Layer i of n has the ratio
(n - i)^2 + (n - i), which is divided by (i + 1)^2 for nets other than ResNets. Densities are
proportional to these ratios. What exceeds a layer's size goes to the layers of the next smaller
ratios. The last linear layer has its own density, independent of the net's.

Deviations of counts=exact (docs/methods/sanity_check.md): the total is exact (docs/decisions.md 4).
The authors round down: the kept number of each layer, and the surplus of each layer that
overflows, so that the one layer which takes the rest of the surplus gets up to one weight less for
each full layer. Their total is smaller by up to two weights a layer. What exceeds the size of all
other layers goes to the last linear one; their code drops it. counts=authors is their rule, in
float64.

Their code handles one linear layer; of several, all but the last are treated like convolutions.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar, Literal, get_args

from pruners.base import Masks, Scores, count_prunable, kept_by_layer
from pruners.selection.allocate import apportion, weights_to_keep

Ratio = Literal["quadratic", "linear", "cubic", "ascending"]
Counts = Literal["exact", "authors"]


@dataclass(frozen=True)
class SmartRatio:
    """Layer budgets that decrease with depth, whatever the scores are.

    Args:
        net: the net's name. It is part of the identity of published records and chooses nothing.
        linear: density of the last linear layer. Default 0.3, the authors'.
        resnet: False divides the ratio of layer i by (i + 1)^2, as the authors do for VGG. A model
            declares it.
        ratio: of layer i of n, counted from 0, with k = n - i: `quadratic`, k^2 + k, the authors'
            default; `linear`, k; `cubic`, k^3; `ascending`, (i + 1)^2 + (i + 1). All four are
            options of the authors' code.
        counts: `exact`: round(density * prunable) weights in total; `authors`: their floors.
    """

    tag: ClassVar[str] = "smart_ratio"
    reads_scores: ClassVar[bool] = False
    net: str
    linear: float = 0.3
    resnet: bool = True
    ratio: Ratio = "quadratic"
    counts: Counts = "exact"

    def __post_init__(self) -> None:
        problems = []
        if not 0 <= self.linear <= 1:
            problems.append(
                f"allocate.linear={self.linear} must be in [0, 1]: the density of the last linear"
                " layer, 0.3 in the authors' code"
            )
        for key, choices in (("ratio", get_args(Ratio)), ("counts", get_args(Counts))):
            if getattr(self, key) not in choices:
                problems.append(
                    f"allocate.{key}={getattr(self, key)!r} must be one of {', '.join(choices)}"
                )
        if problems:
            raise ValueError("\n".join(problems))

    @property
    def exact(self) -> bool:
        """Whether the counts add up to round(density * prunable)."""
        return self.counts == "exact"

    def __call__(
        self,
        scores: Scores,
        masks: Masks,
        density: float,
        left: Mapping[str, int] | None = None,
    ) -> dict[str, int]:
        """Weights to keep in each layer, in the order of `masks`.

        Raises:
            ValueError: the last linear layer leaves no weights for the others.
        """
        limits = kept_by_layer(masks) if left is None else left
        total = (
            weights_to_keep(masks, density, limits)
            if self.exact
            else int(count_prunable(masks) * density)
        )
        sizes = {name: mask.numel() for name, mask in masks.items()}
        last = next((name for name in reversed(masks) if masks[name].dim() == 2), None)
        linear = int(self.linear * sizes[last]) if last else 0
        if linear >= total:
            raise ValueError(
                f"density={density:g} keeps {total:,} weights, but the last linear layer alone"
                f" takes {linear:,} (allocate.linear={self.linear:g}):"
                " raise density, or lower allocate.linear"
            )
        others = {name: n for name, n in sizes.items() if name != last}
        ratios = self._ratios(others, len(sizes))
        if not self.exact:
            counts = rounded_down(ratios, others, total - linear) | ({last: linear} if last else {})
            return {name: min(counts[name], limits[name]) for name in masks}
        shares, lost = spilled(in_proportion(ratios, others, total - linear), others, ratios)
        if last:
            shares[last] = linear + lost
        return apportion({name: shares[name] for name in masks}, limits, total)

    def _ratios(self, layers: Mapping[str, int], count: int) -> dict[str, Fraction]:
        """The ratio of each layer; `count` also counts the last linear one."""
        ratios = {}
        for i, name in enumerate(layers):
            k = count - i
            ratio = {
                "quadratic": k**2 + k,
                "linear": k,
                "cubic": k**3,
                "ascending": (i + 1) ** 2 + (i + 1),
            }[self.ratio]
            ratios[name] = Fraction(ratio, 1 if self.resnet else (i + 1) ** 2)
        return ratios


def in_proportion(
    ratios: Mapping[str, Fraction], sizes: Mapping[str, int], goal: int
) -> dict[str, Fraction]:
    """Weights of each layer, possibly more than it has; they add up to `goal`."""
    whole = sum((ratios[name] * n for name, n in sizes.items()), start=Fraction(0))
    return {name: ratios[name] * n * goal / whole for name, n in sizes.items()}


def spilled(
    shares: Mapping[str, Fraction], sizes: Mapping[str, int], ratios: Mapping[str, Fraction]
) -> tuple[dict[str, Fraction], Fraction]:
    """Cut `shares` to the layers' sizes, and return the surplus that no layer could take.

    What exceeds a layer's size goes to those of the next smaller ratios, each filled before the
    next. Layers of equal ratios are in their order in the net.
    """
    filled, surplus = {}, Fraction(0)
    for name in sorted(shares, key=lambda name: -ratios[name]):  # stable
        filled[name] = min(shares[name] + surplus, Fraction(sizes[name]))
        surplus += shares[name] - filled[name]
    return filled, surplus


def rounded_down(
    ratios: Mapping[str, Fraction], sizes: Mapping[str, int], goal: int
) -> dict[str, int]:
    """Weights of each layer by the authors' rule, which add up to nearly `goal`.

    It computes with densities in floating point. A layer that overflows hands the whole number of
    its surplus weights on; a layer with room takes them until it is full. The walk over the layers
    ends once no surplus is left, so a layer that would overflow later is cut.
    """
    whole = sum(int(n * float(ratios[name])) for name, n in sizes.items())
    densities = {name: float(ratio) * (goal / whole) for name, ratio in ratios.items()}
    surplus = 0
    for name, n in sizes.items():
        if densities[name] >= 1:
            surplus += int((densities[name] - 1) * n)
        else:
            room = int((1 - densities[name]) * n)
            taken = min(room, surplus)
            densities[name] = 1 if taken < surplus else densities[name] + taken / n
            surplus -= taken
        if not surplus:
            break
    return {name: int(min(densities[name], 1) * n) for name, n in sizes.items()}
