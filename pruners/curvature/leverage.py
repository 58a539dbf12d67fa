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
with a given mask by what the mask of the exact ones overlaps with it, in expectation. This takes
tau as known. Where r is below v, it says that all leverages of the layer are equal, and the overlap
is 1. The lower limit of the overlap takes the upper limit of tau in every layer instead,

    tau + 1.645 sqrt(2 (r^2 + v^2) / n),

with n weights: r and v have the variances 2 r^2 / n and, from two probes, 2 v^2 / n, if the noise
is normal; from more probes, that of v is smaller. Neither contains the errors of Lanczos and of the
choice of images.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Generator, Tensor

from pruners.base import LEAST, OF, STANDARD_ERROR, Finding, Masks, Measurement, count_kept
from pruners.curvature.certainty import standard_error

# kinds of tensors of the stage `spectrum`
LEVERAGE, VARIANCE, KNOWN = "leverage", "leverage_variance", "leverage_known"
OVERLAP = "mask_overlap"  # finding
UPPER = 1.645  # standard errors of tau: its limit with a confidence of 95 %, in one layer
# standard error of the mean of 20 about 0.0005 at a density of 0.1 of 5,000 weights
LEAST_DRAWS, DRAWS = 4, 20


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
    def of(
        cls, estimate: Tensor, error: float, known: Tensor | None = None, wider: float = 0.0
    ) -> "Posterior":
        """The posterior of a layer.

        Args:
            estimate: of the whole leverage, any shape.
            error: v.
            known: the part of the estimate that has no error, same shape.
            wider: standard errors that are added to tau.
        """
        x = estimate.double().cpu()
        if known is not None:
            rest = cls.of(x - known.double().cpu(), error, wider=wider)
            return cls((known.double().cpu() + rest.mean.double()).float(), rest.variance)
        m, r = x.mean(), float(x.var(correction=0))
        tau = max(0.0, r - error) + wider * math.sqrt(2 * (r**2 + error**2) / x.numel())
        s = tau / (tau + error) if tau else 0.0
        return cls((x + (1 - s) * (m - x)).float(), s * error)

    def draw(self, rng: Generator) -> Tensor:
        """Leverages from the posterior; same shape as `mean`."""
        return self.mean + math.sqrt(self.variance) * torch.randn(self.mean.shape, generator=rng)


def posteriors(
    spectrum: Measurement, masks: Masks, wider: float = 0.0
) -> dict[str, Posterior] | None:
    """The posterior of each layer in `masks`; None if the leverage's errors were not measured.

    Args:
        wider: as in `Posterior.of`.
    """
    found = spectrum.tensors
    if any(f"{VARIANCE}/{name}" not in found for name in masks):
        return None
    return {
        name: Posterior.of(
            found[f"{LEVERAGE}/{name}"],
            float(found[f"{VARIANCE}/{name}"]),
            found.get(f"{KNOWN}/{name}"),
            wider,
        )
        for name in masks
    }


def with_leverages(spectrum: Measurement, leverages: Mapping[str, Tensor]) -> Measurement:
    """The measurement with other leverages."""
    named = {f"{LEVERAGE}/{name}": t for name, t in leverages.items()}
    return replace(spectrum, tensors=spectrum.tensors | named)


def expected_overlap(
    chosen: Masks, draw: Callable[[], Masks], enough: float = 0.0
) -> dict[str, Finding]:
    """Share of the weights of `chosen` that the exact mask keeps, too: mean and standard error.

    Args:
        draw: a mask of scores from the posterior, at the same count; called `DRAWS` times at most.
        enough: standard error at which the drawing ends, after `LEAST_DRAWS` draws or more.
    """
    shares: list[float] = []
    while len(shares) < DRAWS:
        exact = draw()
        both = count_kept({name: mask & exact[name] for name, mask in chosen.items()})
        shares.append(both / count_kept(chosen))
        error = standard_error(shares)
        if len(shares) >= LEAST_DRAWS and error is not None and error <= enough:
            break
    return {OVERLAP: sum(shares) / len(shares), OVERLAP + STANDARD_ERROR: standard_error(shares)}


def limited(overlap: dict[str, Finding], least: dict[str, Finding]) -> dict[str, Finding]:
    """An expected overlap with its lower limit, and what both cover.

    Args:
        least: the overlap with masks of the posteriors that are `UPPER` wider.
    """
    values = [found[OVERLAP] for found in (overlap, least)]
    limit = min(value for value in values if isinstance(value, float))
    return overlap | {OVERLAP + LEAST: limit, OVERLAP + OF: "probes"}
