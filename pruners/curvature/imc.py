"""Prune stage of IMC (Inertial-Manifold Compression), section 3.3 of the paper.

Zhang et al., NeurIPS 2021, "Validating the Lottery Ticket Hypothesis with Inertial Manifold
Theory". The stage takes k from the measured spectrum (Eq. 15-17; `pruners/curvature/gap.py`), then
selects the d - k weights that stay. Two measure stages come before it: `lipschitz` (K of Eq. 22 and
23) and `spectrum`. The report contains k and the paper's own k (`literal_k`, None when no gap of -H
exceeds 4K).

Deviations (docs/methods/imc.md; docs/decisions.md 14): the paper does not say how a subspace
becomes a mask on coordinates. Ours ranks weights by their leverage in the kept subspace, by default
times w^2. The paper's text keeps the flat side of the spectrum, W+. In our measurements this is
worse than random (section 4), so the default keeps the curved side, smoothed. The scan as printed
finds no usable cut, hence `gap.rule`. Call the default "IMC (our reading)" in every table.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn

from pruners.base import (
    Finding,
    FixedMasking,
    Masks,
    Measurement,
    Scores,
    Task,
    apply_masks,
    count_kept,
    count_prunable,
    keep_count,
)
from pruners.curvature.certainty import WITH_RUNS
from pruners.curvature.cuts import literal_k, literal_probes, smoothed_k
from pruners.curvature.gap import SUBSPACES, Gap, measured_lipschitz
from pruners.curvature.leverage import (
    UPPER,
    Posterior,
    expected_overlap,
    limited,
    posteriors,
    with_leverages,
)
from pruners.curvature.options import (
    MASK_RULES,
    SHRINKAGES,
    SpectrumOptions,
    knows_errors,
    not_among,
    uses_leverage,
)
from pruners.curvature.select import layer_floors, select


@dataclass(frozen=True)
class MaskOptions:
    """Which weights stay: `method.mask`.

    Args:
        rule: score of a weight w, where l is the leverage, h the Hessian's diagonal and Pi the kept
            subspace: `leverage_x_w2` l * w^2, `leverage` l, `projected_weight` |Pi W*|, `diag` h,
            `obd` h * w^2 / 2, `magnitude` |w|, `random`.
        subspace: in which the leverage is taken (pruners/curvature/spectrum.py). The paper's text
            uses `flat`.
        scope: rank over all layers (`global`), or within each `layer`; all layers then have the
            same density.
        min_layer_keep: share of each layer that stays for any scores, in [0, 1].
        shrinkage: `layer` shrinks each layer's leverages towards their mean by empirical Bayes
            (pruners/curvature/leverage.py), `none` takes the mean over the probes, `auto` is
            `layer` where the leverages' errors are known, else `none`. It has no effect on rules
            without a leverage and is then set to its default.
    """

    tag: ClassVar[str] = "imc_mask"
    rule: str = "leverage_x_w2"
    subspace: str = "smoothed_curved"
    scope: str = "global"
    min_layer_keep: float = 0.0
    shrinkage: str = "none"

    def __post_init__(self) -> None:
        problems = not_among("method.mask.rule", self.rule, MASK_RULES)
        problems += not_among("method.mask.shrinkage", self.shrinkage, SHRINKAGES)
        problems += not_among("method.mask.subspace", self.subspace, SUBSPACES)
        problems += not_among("method.mask.scope", self.scope, ("global", "layer"))
        if not 0 <= self.min_layer_keep <= 1:
            problems.append(
                f"method.mask.min_layer_keep={self.min_layer_keep} must be in [0, 1]:"
                " it is a share of each layer"
            )
        if problems:
            raise ValueError("\n".join(problems))
        if not uses_leverage(self.rule):
            object.__setattr__(self, "shrinkage", "none")


@dataclass(frozen=True)
class Imc:
    """Prune stage of IMC.

    It needs the measurements `spectrum` and `lipschitz`. A given density overrides `gap`.

    Args:
        density: that of the run, if it is given. All of `gap` but `sigma2` then has no effect and
            is set to its default, as is this field, so that such runs share one result.
        spectrum: how the spectrum is measured; resolves `mask.shrinkage=auto` and is then set to
            its default.
    """

    tag: ClassVar[str] = "imc"
    gap: Gap = field(default_factory=Gap)
    mask: MaskOptions = field(default_factory=MaskOptions)
    density: float | None = None
    spectrum: SpectrumOptions = field(default_factory=SpectrumOptions)

    def __post_init__(self) -> None:
        if self.mask.shrinkage == "auto":
            s = self.spectrum
            known = knows_errors(s.estimator, s.probes, self.mask.subspace)
            shrinkage = "layer" if known else "none"
            object.__setattr__(self, "mask", replace(self.mask, shrinkage=shrinkage))
        object.__setattr__(self, "spectrum", SpectrumOptions())
        if self.density is not None:
            if not 0 < self.density <= 1:
                raise ValueError(f"density={self.density:g} must be in (0, 1]")
            object.__setattr__(self, "gap", Gap(sigma2=self.gap.sigma2))
            object.__setattr__(self, "density", None)

    def __call__(self, model: nn.Module, masks: Masks, task: Task) -> FixedMasking:
        """Prune `model` to the found or given density, and report the findings.

        Raises:
            ValueError: the rule finds no usable cut in the measured spectrum.
        """
        spectrum, lipschitz = _measured_spectrum(task), measured_lipschitz(task)
        values, weights = spectrum.tensors["ritz_values"], spectrum.tensors["ritz_weights"]
        d = int(spectrum.report["dimension"])  # type: ignore[arg-type]
        prunable = count_prunable(masks)
        k, rule = self._cut(values, weights, d, lipschitz, task.density)
        density = 1 - k / d if task.density is None else task.density
        # With params=all, the share found among all parameters applies to the prunable weights.
        kept = d - k if d == prunable else keep_count(density, prunable)
        shrunk = self._shrunk(spectrum, masks)
        chosen = self._select(self._scores(model, masks, shrunk, task), masks, kept)
        overlap = self._overlap(chosen, model, masks, spectrum, task)
        apply_masks(model, chosen)
        report: dict[str, Finding] = {
            "found_density": kept / prunable,
            "k": k,
            "gap_rule": rule,
            "literal_k": literal_k(values, weights, d, lipschitz),
            "literal_probes": literal_probes(values, weights, lipschitz),
            "smoothed_density": 1 - smoothed_k(values, weights, d, self.gap.sigma2) / d,
            "lipschitz": lipschitz,
            "mask_rule": self.mask.rule,
            **(self._certainties(spectrum, d, lipschitz, rule) | overlap),
        }
        passed_on = (
            "leverage_ratio",
            "lambda_max",
            "lambda_min",
            "trace",
            "negative_share",
            "dimension",
        )
        return FixedMasking(
            chosen, report=report | {name: spectrum.report.get(name) for name in passed_on}
        )

    def _cut(
        self, values: Tensor, weights: Tensor, d: int, lipschitz: float, density: float | None
    ) -> tuple[int, str]:
        try:
            return self.gap.cut(values, weights, d, lipschitz, density)
        except ValueError as error:
            raise ValueError(
                f"{error}. The spectrum stays in the cache: another choice measures nothing again"
            ) from error

    def _certainties(
        self, spectrum: Measurement, d: int, lipschitz: float, rule: str
    ) -> dict[str, Finding]:
        """Standard errors and convergence checks of what the spectrum gave.

        They are empty for an estimator without Lanczos runs, and for a spectrum of the cache that
        was measured before there were checks.
        """
        if spectrum.report.get("spectrum_estimator") not in WITH_RUNS:
            return {}
        values, weights = spectrum.tensors["ritz_values"], spectrum.tensors["ritz_weights"]
        return self.gap.certainties(values, weights, d, lipschitz, found=rule == self.gap.rule)

    def _select(self, scores: Scores, masks: Masks, kept: int) -> Masks:
        return select(scores, masks, kept, self.mask.scope, self.mask.min_layer_keep)

    def _shrunk(self, spectrum: Measurement, masks: Masks) -> Measurement:
        """The spectrum with the leverages that `mask.shrinkage` makes of the measured ones.

        Raises:
            ValueError: the spectrum comes from a cache of before there were errors of leverages.
        """
        if self.mask.shrinkage == "none":
            return spectrum
        found = posteriors(spectrum, masks)
        if found is None:
            raise ValueError(
                f"method.mask.shrinkage={self.mask.shrinkage} needs the errors of the leverages,"
                " and this spectrum of the cache was measured without them: delete the folder of"
                " the stage spectrum in the cache, or take method.mask.shrinkage=none"
            )
        return with_leverages(spectrum, {name: p.mean for name, p in found.items()})

    def _overlap(
        self, chosen: Masks, model: nn.Module, masks: Masks, spectrum: Measurement, task: Task
    ) -> dict[str, Finding]:
        """Expected overlap with the mask of the exact leverages; empty if errors are not known."""
        found, wider = (posteriors(spectrum, masks, wider) for wider in (0.0, UPPER))
        if not (found and wider and uses_leverage(self.mask.rule)):
            return {}

        def exact(posterior: dict[str, Posterior]) -> Masks:
            drawn = with_leverages(spectrum, {n: p.draw(task.rng) for n, p in posterior.items()})
            return self._select(self._scores(model, masks, drawn, task), masks, count_kept(chosen))

        overlaps = [expected_overlap(chosen, partial(exact, p)) for p in (found, wider)]
        return limited(*overlaps)

    def check_budget(self, model: nn.Module, masks: Masks, density: float) -> None:
        """Check, before any work, that a density can keep `min_layer_keep` of every layer.

        Raises:
            ValueError: it cannot.
        """
        kept = keep_count(density, count_prunable(masks))
        layer_floors(masks, kept, self.mask.min_layer_keep)

    @torch.no_grad()
    def _scores(self, model: nn.Module, masks: Masks, spectrum: Measurement, task: Task) -> Scores:
        """Scores by the rule, with the keys and shapes of `masks`."""
        if self.mask.rule.startswith("leverage") or self.mask.rule == "projected_weight":
            found = spectrum.report.get("subspace")
            if found != self.mask.subspace:
                raise ValueError(
                    f"method.mask.subspace={self.mask.subspace}, but the spectrum was measured for"
                    f" {found}: they must be one value"
                )

        def of(kind: str, name: str) -> Tensor:
            if f"{kind}/{name}" not in spectrum.tensors:
                raise ValueError(
                    f"the spectrum has no {kind} for {name}: measure it with"
                    f" mask_rule={self.mask.rule}"
                )
            return spectrum.tensors[f"{kind}/{name}"].to(masks[name].device)

        def weight(name: str) -> Tensor:
            return model.get_parameter(name).detach()

        rules: dict[str, Callable[[str], Tensor]] = {
            "leverage_x_w2": lambda name: of("leverage", name) * weight(name) ** 2,
            "leverage": lambda name: of("leverage", name),
            "projected_weight": lambda name: of("projected", name).abs(),
            "diag": lambda name: of("diagonal", name),
            "obd": lambda name: of("diagonal", name) * weight(name) ** 2 / 2,
            "magnitude": lambda name: weight(name).abs(),
            "random": (
                lambda name: torch.rand(masks[name].shape, generator=task.rng).to(
                    masks[name].device
                )
            ),
        }
        return {name: rules[self.mask.rule](name) for name in masks}


def _measured_spectrum(task: Task) -> Measurement:
    found = task.measured.get("spectrum")
    if found is None:
        raise ValueError(
            "IMC prunes by a measured spectrum: give the prune stage needs: [spectrum, lipschitz]"
        )
    return found
