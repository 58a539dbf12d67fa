"""The density of the Hessian's spectrum as PyHessian plots it, and the position of cuts in it.

IMC (NeurIPS 2021), section 3.3; docs/methods/imc.md, 3.

Each Ritz value theta_j of a probe becomes a Gaussian of weight tau_j and variance
sigma2 * max(1, range), where range is that of the probe's own values, as in the rule
`smoothed_sign` (pruners/curvature/gap.py). Probes are averaged. The numbers come from the method's
own stages; nothing is measured again.

Deviations: PyHessian evaluates the density at 10,000 equally spaced points, most of them where the
density is zero. Here the exact mass in each of a few hundred bins is divided by the bin's width.
The bins are narrow around 0, where the bulk lies, and grow with the distance. 0 is one of their
edges, so the mass below it is the share that `smoothed_sign` prunes. The bins are the same for
every net and seed.
"""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn

from pruners.base import (
    CHANGE,
    CONVERGED,
    STANDARD_ERROR,
    Finding,
    Masks,
    Measurement,
    Task,
    Work,
)
from pruners.curvature.certainty import TOLERANCE, WITH_RUNS, Runs
from pruners.curvature.cuts import smoothing_width
from pruners.curvature.gap import Gap

HALVINGS = 100  # of an interval, until a quantile is exact in float64
# Shares that differ by less are equal. Between two distant eigenvalues the mass is constant up to
# rounding, and a cut lies in the middle.
TIE = 1e-9


@dataclass(frozen=True)
class SpectrumCurve:
    """Measure stage: density of the Hessian's spectrum over eigenvalues.

    It needs the stage `spectrum` and, for the cuts, `prune` (needs: [spectrum, prune]).

    Args:
        sigma2: variance of the smoothing as a share of the range: `method.gap.sigma2`. Default:
            PyHessian's.
        linear: the bins have equal width within +-linear; beyond, their width grows in proportion
            to the eigenvalue.
        limit: the outermost edges; the mass beyond them is reported.
        per_decade: bins per factor of ten beyond `linear`, and within it on either side of 0.
    """

    tag: ClassVar[str] = "spectrum_curve"
    sigma2: float = Gap.sigma2
    linear: float = 0.01
    limit: float = 10_000.0
    per_decade: int = 40

    def __post_init__(self) -> None:
        if not (self.sigma2 > 0 and 0 < self.linear < self.limit and self.per_decade >= 1):
            options = (
                f"sigma2={self.sigma2:g}, linear={self.linear:g}, limit={self.limit:g},"
                f" per_decade={self.per_decade}"
            )
            raise ValueError(
                f"portrait.measure: {options}:"
                " needs sigma2 > 0, 0 < linear < limit and at least one bin"
            )

    @property
    def edges(self) -> Tensor:
        """Edges of the bins, increasing and symmetric about the edge 0; float64."""
        steps = max(
            1,
            round(
                self.per_decade
                * float(torch.tensor(self.limit / self.linear, dtype=torch.float64).log10())
            ),
        )
        near = torch.linspace(0, self.linear, self.per_decade + 1, dtype=torch.float64)
        far = self.linear * (self.limit / self.linear) ** (
            torch.arange(1, steps + 1, dtype=torch.float64) / steps
        )
        positive = torch.cat([near[1:], far])
        return torch.cat([-positive.flip(0), near[:1], positive])

    def __call__(self, model: nn.Module, masks: Masks, task: Task) -> Measurement:
        """Return the density as series, and the mass outside and the cuts as a report.

        Series: `spectrum_edges` (n + 1) and `spectrum_density` (n). Report: `spectrum_outside`, and
        the eigenvalues at which the mask's k and `literal_k` cut. `spectrum_cut` has k / d of the
        mass below it. `literal_cut` has literal_k / d above it; it is None if no gap passes the
        paper's scan. Standard errors and convergence checks go with them: those of the curve are
        `spectrum_density_se` (a series; absent for one probe) and, as total variation distance,
        `spectrum_density_change`.
        """
        spectrum = _found(task, "spectrum")
        values, weights = (
            spectrum.tensors[name].double() for name in ("ritz_values", "ritz_weights")
        )
        below = self.mass_below(values, weights, self.edges)
        density = below.diff() / self.edges.diff()
        report: dict[str, Finding] = {"spectrum_outside": float(1 - below[-1] + below[0])}
        series = {"spectrum_edges": self.edges.tolist(), "spectrum_density": density.tolist()}
        runs = None
        if spectrum.report.get("spectrum_estimator") in WITH_RUNS:
            d = int(spectrum.report["dimension"])  # type: ignore[arg-type]
            runs = Runs.of(values, weights, d)
            report |= self._certain(runs)
            if len(values) > 1:
                series[f"spectrum_density{STANDARD_ERROR}"] = self._errors(values, weights)
        if "prune" in task.measured:
            report |= self._cuts(values, weights, _found(task, "prune"), runs)
        return Measurement(report=report, series=series)

    def _certain(self, runs: Runs) -> dict[str, Finding]:
        """Convergence of the curve: total variation distance between numbers of steps."""

        def masses(v: Tensor, w: Tensor) -> Tensor:
            return self.mass_below(v, w, self.edges).diff()

        changes = [
            max(float((masses(*row) - masses(*other)).abs().sum()) / 2 for other in others)
            for row, *others in zip(runs.whole, *runs.parts, strict=True)
        ]
        change = sum(changes) / len(changes)
        return {
            f"spectrum_density{CHANGE}": change,
            f"spectrum_density{CONVERGED}": int(change <= TOLERANCE),
        }

    def _errors(self, values: Tensor, weights: Tensor) -> list[float]:
        """Standard error of the density in each bin over the probes, (n,)."""
        each = torch.stack(
            [
                self.mass_below(v[None], w[None], self.edges).diff()
                for v, w in zip(values, weights, strict=True)
            ]
        )
        errors: Tensor = each.std(0) / len(each) ** 0.5 / self.edges.diff()
        return errors.tolist()

    def mass_below(self, values: Tensor, weights: Tensor, points: Tensor) -> Tensor:
        """Share of the smoothed spectrum below each of `points` (n,), mean over probes: (n,).

        `values` and `weights` are (probes, m).
        """
        width = smoothing_width(values, self.sigma2)[..., None]  # (probes, 1, 1)
        shares: Tensor = torch.special.ndtr((points - values[..., None]) / width)  # (probes, m, n)
        return (weights[..., None] * shares).sum(-2).mean(0)

    def quantile(self, values: Tensor, weights: Tensor, share: float) -> float:
        """The eigenvalue with `share` of the smoothed spectrum below it.

        If a whole interval has this property, its middle.
        """
        return (
            self._reaches(values, weights, share - TIE)
            + self._reaches(values, weights, share + TIE)
        ) / 2

    def _reaches(self, values: Tensor, weights: Tensor, share: float) -> float:
        """The smallest eigenvalue with `share` below it, by bisection: the mass is monotone."""
        reach = 10 * float(smoothing_width(values, self.sigma2).max())
        low, high = float(values.min()) - reach, float(values.max()) + reach
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            under = float(
                self.mass_below(values, weights, torch.tensor([middle], dtype=torch.float64))
            )
            low, high = (middle, high) if under < share else (low, middle)
        return high

    def _cuts(
        self, values: Tensor, weights: Tensor, pruned: Measurement, runs: Runs | None
    ) -> dict[str, Finding]:
        """Upper end of the pruned flat share k / d, and start of the paper's k steep directions."""
        k, literal, d = (pruned.report.get(name) for name in ("k", "literal_k", "dimension"))
        if not isinstance(k, int) or not isinstance(d, int):
            raise ValueError(
                "the stage 'prune' reports no k of d dimensions: portrait=spectrum is for methods"
                " that cut the Hessian's spectrum (method=imc)"
            )
        shares = {
            "spectrum_cut": k / d,
            "literal_cut": 1 - literal / d if isinstance(literal, int) else None,
        }
        width = float(smoothing_width(values, self.sigma2).mean())
        report: dict[str, Finding] = {}
        for name, share in shares.items():
            report[name] = None if share is None else self.quantile(values, weights, share)
            if runs is not None and share is not None:
                # What is closer than the smoothing's width cannot be told apart.
                certain = runs.certainty(partial(self.quantile, share=share), width / TOLERANCE)
                report |= certain.findings(name)
        return report

    def work(self, prunable: int, parameters: int, images: int) -> Work:
        """No pass through the net."""
        return Work(0, 0)


def _found(task: Task, stage: str) -> Measurement:
    if stage not in task.measured:
        raise ValueError(
            f"portrait=spectrum needs the results of the stage {stage!r} (needs: [spectrum, prune])"
        )
    return task.measured[stage]
