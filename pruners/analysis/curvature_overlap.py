"""How much of OBD's exact mask the sampled diagonals find, on the net that would be pruned.

docs/methods/obd.md. The exact mask keeps the largest h w^2 with the exact Gauss-Newton diagonal h
(`ggn`). Each sampled estimator is drawn several times. The overlap is the share of the exact mask's
weights that the other mask keeps, too.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from pruners.base import (
    STANDARD_ERROR,
    Finding,
    Masks,
    Measurement,
    Task,
    keep_count,
)
from pruners.curvature.certainty import standard_error
from pruners.scores.obd import Estimator, Obd
from pruners.selection.ranks import largest

SAMPLED: tuple[Estimator, ...] = ("mc_fisher", "ggn_rademacher")
BATCH = 256  # images of a batch; affects only rounding


@dataclass(frozen=True)
class CurvatureOverlap:
    """Measure stage: overlap of masks by sampled Gauss-Newton diagonals with the exact mask.

    Args:
        densities: of the masks, over all layers.
        draws: diagonals of one draw an image that are measured of each estimator.
        images: as in `Obd`.
    """

    tag: ClassVar[str] = "curvature_overlap"
    densities: tuple[float, ...] = (0.5, 0.2, 0.1, 0.05)
    draws: int = 4
    images: int = Obd.images

    def __post_init__(self) -> None:
        problems = [
            f"portrait.{key}={getattr(self, key)} must be at least 1"
            for key in ("draws", "images")
            if getattr(self, key) < 1
        ]
        if not self.densities or not all(0 < density <= 1 for density in self.densities):
            problems.append(f"portrait.densities={list(self.densities)} must be in (0, 1]")
        if problems:
            raise ValueError("\n".join(problems))

    def __call__(self, model: nn.Module, masks: Masks, task: Task) -> Measurement:
        """Return the overlaps as series over `densities`; the model is not changed.

        Series: `overlap_density`, `overlap_magnitude` and, for both sampled estimators,
        `overlap_<estimator>_1` with its standard error over the draws (`_se`; not for one), and
        `overlap_<estimator>_<draws>`, by the mean of all. The report has the same numbers, with the
        density at the end of the name.
        """
        w = torch.cat([model.get_parameter(name).detach().flatten() for name in masks])
        total, done = 1 + len(SAMPLED) * self.draws, 0

        def diagonal(estimator: Estimator) -> Tensor:
            nonlocal done
            found = Obd(estimator, self.images).diagonal(
                model, masks, task.batches(BATCH), task.loss, task.rng, task.memory, task.team
            )
            done += 1
            task.progress(done, total, "diagonals")
            return torch.cat([found[name].flatten() for name in masks])

        overlap = self._overlap(diagonal("ggn") * w**2)
        series = {"overlap_magnitude": overlap(w.abs())}
        for estimator in SAMPLED:
            drawn = [diagonal(estimator) for _ in range(self.draws)]
            single = [overlap(h * w**2) for h in drawn]
            name = f"overlap_{estimator}"
            series[f"{name}_1"] = [sum(each) / len(each) for each in zip(*single, strict=True)]
            if self.draws > 1:
                errors = [standard_error(list(each)) for each in zip(*single, strict=True)]
                series[f"{name}_1{STANDARD_ERROR}"] = [e for e in errors if e is not None]
                series[f"{name}_{self.draws}"] = overlap(torch.stack(drawn).sum(0) * w**2)
        report: dict[str, Finding] = {
            f"{name}_{density:g}": value
            for name, values in series.items()
            for density, value in zip(self.densities, values, strict=True)
        }
        return Measurement(report=report, series={"overlap_density": [*self.densities], **series})

    def _overlap(self, exact: Tensor) -> Callable[[Tensor], list[float]]:
        """Scores (d,) -> overlap of their mask with that of the scores `exact` (d,), by density."""
        counts = [keep_count(density, len(exact)) for density in self.densities]
        wanted = [largest(exact, kept) for kept in counts]

        def overlap(scores: Tensor) -> list[float]:
            return [
                int((mask & largest(scores, kept)).sum()) / kept
                for mask, kept in zip(wanted, counts, strict=True)
            ]

        return overlap
