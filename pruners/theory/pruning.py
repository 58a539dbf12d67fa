"""One-shot and iterative magnitude pruning of students.

"Why Lottery Ticket Wins?" (Zhang et al.), Sec. 4.1 and Fig. 6. The dense student is trained.
Each level then removes the smallest of the remaining weights (over all neurons), resets the others
to W(0) and trains again. One level down to the teacher's share, `levels=1 keep=r*/d`, is Sec. 4.1:
with enough examples the resulting mask is the teacher's own, "a proper student".

Left open by the paper, chosen here:
- AGD instead of the Adam of the code that the paper cites: that code's gradients vanish on negative
  weights (docs/methods/sample_complexity.md).
- The dense student starts as in all of Sec. 5: at a given distance from the teacher, in a random
  direction over all its weights.
- Test error: root of the mean squared difference from the teacher's noiseless output on fresh
  inputs, divided by the root of that output's mean square.
- The number of remaining weights is exactly round(keep^level of all); ties are broken by index.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor, nn

from pruners.base import Finding, Masks, Measurement, Task, keep_count
from pruners.theory.agd import Agd
from pruners.theory.students import Regression, Teacher, check_teacher
from pruners.theory.trials import Chunk, chunks, starts, trial_seeds

# (T, 1 + levels) each: test error, share of the teacher's weights kept, whether all are kept
Levels = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class Pruning:
    """Measure stage: iterative magnitude pruning of `trials` students.

    Args:
        teacher: dataset=gaussian_teacher with inputs = dimension: a dense student.
        keep: share of the remaining weights that a level keeps. Default 0.8: 20 % are removed, as
            in the paper.
        levels: Default 16: 0.8^16 = 2.8 %, the end of Fig. 6's axis.
        distance: relative distance of W(0) from the teacher.
        trials: Default 20.
        fresh: number of test examples.
        chunk_mb: see pruners/theory/trials.py.
    """

    tag: ClassVar[str] = "pruning"
    teacher: Teacher
    solver: Agd = Agd()
    keep: float = 0.8
    levels: int = 16
    distance: float = 0.2
    trials: int = 20
    fresh: int = 10_000
    chunk_mb: float | None = None
    precision: ClassVar[str] = "fp64"  # for the record

    def __post_init__(self) -> None:
        check_teacher(self.teacher)
        total = self.teacher.neurons * self.teacher.dimension
        leaves_one = not 0 < self.keep < 1 or round(self.keep ** max(self.levels, 1) * total) >= 1
        valid = {
            "keep": (
                0 < self.keep < 1,
                "in (0, 1): the share of the remaining weights that a level keeps",
            ),
            "levels": (self.levels >= 1 and leaves_one, "at least 1, and leave a weight"),
            "distance": (self.distance >= 0, "0 or more: of the start from the teacher, relative"),
            "trials": (self.trials >= 1, "at least 1"),
            "fresh": (self.fresh >= 1, "at least 1: examples of the test"),
            "chunk_mb": (
                self.chunk_mb is None or self.chunk_mb > 0,
                "positive: megabytes of inputs solved together",
            ),
        }
        problems = [
            f"method.{key}={getattr(self, key)} must be {what}"
            for key, (ok, what) in valid.items()
            if not ok
        ]
        if self.teacher.inputs != self.teacher.dimension:
            problems.append(
                f"dataset.inputs={self.teacher.inputs} must be"
                f" dataset.dimension={self.teacher.dimension}: pruning starts from a dense student"
            )
        if problems:
            raise ValueError("\n".join(problems))

    def __call__(self, model: nn.Module, masks: Masks, task: Task) -> Measurement:
        """Return series by level; only the model's device is used.

        Series: `remaining` in percent, `test_error` and `test_error_std` over trials,
        `support_kept`, `proper`.
        """
        device, seeds = next(model.parameters()).device, trial_seeds(self.trials, task.rng)
        fresh = torch.randn(
            (self.fresh, self.teacher.dimension),
            generator=Generator().manual_seed(trial_seeds(1, task.rng)[0]),
            dtype=torch.float64,
        )
        parts, done = list[Levels](), 0
        for chunk in chunks(self.teacher, seeds, device, self.chunk_mb):
            parts.append(self._prune(chunk, fresh.to(device)))
            done += len(chunk.seeds)
            task.progress(done, self.trials, "trials")
        errors, kept, proper = (torch.cat(columns) for columns in zip(*parts, strict=True))
        return self._measurement(errors, kept, proper)

    def _measurement(self, errors: Tensor, kept: Tensor, proper: Tensor) -> Measurement:
        """Means over the trials of `Levels`, by level."""
        total = self.teacher.neurons * self.teacher.dimension
        remaining = [100 * count / total for count in counts(total, self.keep, self.levels)]
        spread = errors.std(0).tolist() if self.trials > 1 else [0.0] * errors.shape[1]
        series = {
            "remaining": remaining,
            "test_error": errors.mean(0).tolist(),
            "test_error_std": spread,
            "support_kept": kept.mean(0).tolist(),
            "proper": proper.double().mean(0).tolist(),
        }
        best = int(errors.mean(0).argmin())
        report: dict[str, Finding] = {
            "samples": self.teacher.samples,
            "noise": self.teacher.noise,
            "trials": self.trials,
            "error_dense": series["test_error"][0],
            "error_best": series["test_error"][best],
            "remaining_best": remaining[best],
            "error_last": series["test_error"][-1],
            "support_kept_last": series["support_kept"][-1],
            "proper_last": series["proper"][-1],
        }
        return Measurement(report=report, series=series)

    def _prune(self, chunk: Chunk, fresh: Tensor) -> Levels:
        """Prune the trials of a chunk; return all levels, on the CPU."""
        start, support = starts(chunk, self.distance), chunk.truth != 0
        rows: list[Levels] = []
        for mask, weights in self._rounds(chunk, start):
            kept = (mask & support).flatten(1).sum(1)
            whole = support.flatten(1).sum(1)
            rows.append(
                (
                    test_error(weights, chunk.truth, fresh).cpu(),
                    (kept / whole).cpu(),
                    (kept == whole).cpu(),
                )
            )
        errors, kept, proper = (torch.stack(column, 1) for column in zip(*rows, strict=True))
        return errors, kept, proper

    def _rounds(self, chunk: Chunk, start: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield mask and trained weights of each level, the dense one first."""
        mask = weights = chunk.problem.masks
        for level, count in enumerate(counts(mask[0].numel(), self.keep, self.levels)):
            mask = largest_weights(weights, mask, count) if level else mask
            weights = self.solver(
                Regression(chunk.problem.inputs, chunk.problem.targets, mask), start * mask
            ).weights
            yield mask, weights


def counts(total: int, keep: float, levels: int) -> list[int]:
    """Numbers of remaining weights by level, the dense one first."""
    return [keep_count(keep**level, total) for level in range(levels + 1)]


def largest_weights(weights: Tensor, masks: Tensor, count: int) -> Tensor:
    """Keep the `count` largest weights of each trial within its mask, over all neurons.

    Returns a bool (T, K, d) nested in `masks`. Ties go to the lower index.
    """
    size = weights.abs().masked_fill(~masks, -1.0).flatten(1)  # (T, K d)
    order = size.sort(dim=1, descending=True, stable=True).indices[:, :count]
    return torch.zeros_like(size, dtype=torch.bool).scatter_(1, order, True).view_as(masks)


def test_error(weights: Tensor, truth: Tensor, fresh: Tensor) -> Tensor:
    """Relative error of the output on inputs `fresh` (N, d) for each trial, (T,)."""
    theirs, ours = ((w @ fresh.T).clamp(min=0).mean(1) for w in (truth, weights))  # (T, N)
    relative: Tensor = (ours - theirs).norm(dim=1) / theirs.norm(dim=1)
    return relative
