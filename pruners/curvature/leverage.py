"""Leverages from noisy estimates: empirical Bayes, layer by layer, and the overlap of their masks.

The mean of a few probes is a noisy estimate x_i of a weight's exact leverage l_i, which varies
little within a layer (docs/methods/imc.md). Model of a layer:

    l_i ~ N(m, tau),    x_i given l_i ~ N(l_i, v),

with m the mean of the estimates, v the mean squared standard error of the layer's estimates (from
the spread between probes) and tau = max(0, r - v), where r is the mean squared deviation of the
estimates from m. The posterior of l_i is

    N(m + s (x_i - m), s v),    s = tau / (tau + v).

Where a part of the leverage is known exactly (pruners/curvature/deflation.py), x is the sampled
rest, and the known part is added to the posterior.

The posterior's mean shrinks the estimate towards the layer's mean (Efron & Morris, JASA 1973;
Morris, JASA 1983). If leverages are drawn from the posterior, the mask of the drawn ones overlaps
with a given mask by what the mask of the exact ones overlaps with it, in expectation. This leaves
out errors that weights share: of m and tau, of Lanczos, and of the choice of images.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Generator, Tensor

from pruners.base import STANDARD_ERROR, Finding, Masks, Measurement, count_kept
from pruners.curvature.certainty import standard_error

# kinds of tensors of the stage `spectrum`
LEVERAGE, VARIANCE, KNOWN = "leverage", "leverage_variance", "leverage_known"
OVERLAP = "mask_overlap"  # finding
DRAWS = 20  # standard error of the mean about 0.0005 at a density of 0.1 of 5,000 weights


@dataclass(frozen=True)
class Posterior:
    """Leverages of a layer given their estimates: independent normals.

    Args:
        mean: shape of the layer's weights, float32, on the CPU.
        variance: of each.
    """

    mean: Tensor
    variance: float

    @classmethod
    def of(cls, estimate: Tensor, error: float, known: Tensor | None = None) -> "Posterior":
        """The posterior of a layer.

        Args:
            estimate: of the whole leverage, any shape.
            error: v.
            known: the part of the estimate that has no error, same shape.
        """
        x = estimate.double().cpu()
        if known is not None:
            rest = cls.of(x - known.double().cpu(), error)
            return cls((known.double().cpu() + rest.mean.double()).float(), rest.variance)
        m, tau = x.mean(), max(0.0, float(x.var(correction=0)) - error)
        s = tau / (tau + error) if tau else 0.0
        return cls((x + (1 - s) * (m - x)).float(), s * error)

    def draw(self, rng: Generator) -> Tensor:
        """Leverages from the posterior; same shape as `mean`."""
        return self.mean + math.sqrt(self.variance) * torch.randn(self.mean.shape, generator=rng)


def posteriors(spectrum: Measurement, masks: Masks) -> dict[str, Posterior] | None:
    """The posterior of each layer in `masks`; None if the leverage's errors were not measured."""
    found = spectrum.tensors
    if any(f"{VARIANCE}/{name}" not in found for name in masks):
        return None
    return {
        name: Posterior.of(
            found[f"{LEVERAGE}/{name}"],
            float(found[f"{VARIANCE}/{name}"]),
            found.get(f"{KNOWN}/{name}"),
        )
        for name in masks
    }


def with_leverages(spectrum: Measurement, leverages: Mapping[str, Tensor]) -> Measurement:
    """The measurement with other leverages."""
    named = {f"{LEVERAGE}/{name}": t for name, t in leverages.items()}
    return replace(spectrum, tensors=spectrum.tensors | named)


def expected_overlap(chosen: Masks, draw: Callable[[], Masks]) -> dict[str, Finding]:
    """Share of the weights of `chosen` that the exact mask keeps, too: mean and standard error.

    Args:
        draw: a mask of leverages from the posterior, at the same count; called `DRAWS` times.
    """
    shares = []
    for _ in range(DRAWS):
        exact = draw()
        both = count_kept({name: mask & exact[name] for name, mask in chosen.items()})
        shares.append(both / count_kept(chosen))
    return {OVERLAP: sum(shares) / DRAWS, OVERLAP + STANDARD_ERROR: standard_error(shares)}
