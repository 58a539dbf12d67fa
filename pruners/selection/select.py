"""One round of pruning by scores: scores and masks -> smaller masks.

All layers are one vector. Where one threshold for the whole net decides, its entries are the mask;
otherwise each layer's part of the vector is cut by itself. A device waits for the host at most
once.
"""

from typing import Protocol

from torch import Generator, Tensor

from pruners.base import Finding, FixedMasking, Scores
from pruners.selection.allocate import Allocation, Global
from pruners.selection.pick import Top
from pruners.selection.ranked import Ranked
from pruners.selection.structured import Structured


class Pick(Protocol):
    """Choice of the weights of a layer that are kept."""

    @property
    def tag(self) -> str: ...

    @property
    def exact(self) -> bool: ...  # False: about k weights are kept, or k in expectation

    @property
    def draws(self) -> bool: ...  # True: at random, on the CPU

    # (n,): bool, or factors of the weights, where 0 prunes; a `Structured` pick has the layer's
    # shape in place of (n,)
    def __call__(self, scores: Tensor, k: int, rng: Generator) -> Tensor: ...

    # for the record, summed over the layers
    def findings(self, scores: Tensor, k: int) -> dict[str, float]: ...


def select(
    scores: Scores,
    before: FixedMasking,
    density: float,
    allocate: Allocation,
    pick: Pick,
    rng: Generator,
) -> FixedMasking:
    """Allocate and pick once, among the weights that `before` keeps: pruned stays pruned.

    Raises:
        ValueError: the density cannot be reached, or the pick rejects the scores.
        FloatingPointError: a score is NaN or infinite.
    """
    ranked = Ranked.of(scores, before.masks)
    if isinstance(allocate, Global) and isinstance(pick, Top):
        return FixedMasking(ranked.split(allocate.select(ranked, density)))
    device = ranked.scores.device
    if pick.draws:
        ranked = ranked.on_host()
    (left,) = ranked.count()
    values = ranked.values()
    if not (pick.exact and allocate.exact):
        # Rounds that are not exact may leave fewer weights than the next one requests.
        density = min(density, sum(left.values()) / len(values))
    layers = ranked.split(values)
    if isinstance(allocate, Global):
        _, keep = ranked.count(allocate.select(ranked, density))
    else:
        keep = allocate(layers, ranked.split(ranked.left), density, left)
    if not isinstance(pick, Structured):
        layers = {name: layer.flatten() for name, layer in layers.items()}
    shapes = ranked.layout.shapes
    picked = {n: pick(s, keep[n], rng).view(shapes[n]) for n, s in layers.items()}
    found = [pick.findings(layer, keep[name]) for name, layer in layers.items()]
    report: dict[str, Finding] = {key: sum(layer[key] for layer in found) for key in found[0]}
    result = ranked.split(ranked.layout.join(picked).to(device, non_blocking=True))
    soft = {name: m for name, m in result.items() if m.is_floating_point()}
    factors = {name: m * before.factors.get(name, 1.0) for name, m in soft.items()}
    return FixedMasking({n: m != 0 for n, m in result.items()}, report=report, factors=factors)
