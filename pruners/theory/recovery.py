"""Recovery of teachers by students: many trials, counted by their outcomes.

"Why Lottery Ticket Wins?" (Zhang et al., Sec. 5.1, Figs. 2 to 5). A trial draws teacher, data and
start anew, solves the problem, and compares W with W*. The outcomes are

    converged      ||W - W*||_F / ||W*||_F < success, the paper's only criterion (1e-4)
    capped         not converged, and all `steps` were used: it might still converge
    wrong minimum  not converged, and the solver's tolerance was met, so it would stay there;
                   diverged trials are counted here and also separately

Left open by the paper: its set of starts is a ball. Ours are exactly at `distance`, so that the
axis of Fig. 2 is a controlled value. The paper writes its error with the 2-norm; ours uses
Frobenius' norm. Rates are fitted to the logarithm of the error after the first fifth of a trial's
steps.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from pruners.base import Finding, Masks, Measurement, Task
from pruners.theory.agd import Agd, Solution
from pruners.theory.students import Teacher, check_teacher, distances
from pruners.theory.trials import chunks, starts, trial_seeds

SKIPPED = 0.2  # share of a trial's steps before the fit of its rate


@dataclass(frozen=True)
class Recovery:
    """Measure stage: solve `trials` problems of `teacher`.

    Args:
        teacher: dataset=gaussian_teacher.
        distance: ||W(0) - W*|| / ||W*||. Default 0.2: inside every basin that was examined
            (docs/methods/sample_complexity.md).
        trials: Default 100: the paper's.
        success: error below which a trial has converged. Default 1e-4: the paper's.
        trace: steps between two recorded errors, for curves and rates; 0 = none.
        chunk_mb: megabytes of inputs solved together; None = the default of
            pruners/theory/trials.py. Results differ only by rounding.
    """

    tag: ClassVar[str] = "recovery"
    teacher: Teacher
    solver: Agd = Agd()
    distance: float = 0.2
    trials: int = 100
    success: float = 1e-4
    trace: int = 0
    chunk_mb: float | None = None
    precision: ClassVar[str] = "fp64"  # for the record

    def __post_init__(self) -> None:
        check_teacher(self.teacher)
        problems = [
            f"method.{key}={getattr(self, key):g} must be {what}"
            for key, ok, what in (
                (
                    "distance",
                    self.distance >= 0,
                    "0 or more: of the start from the teacher, relative",
                ),
                ("trials", self.trials >= 1, "at least 1"),
                (
                    "success",
                    self.success > 0,
                    "positive: the relative error below which a trial has converged",
                ),
                ("trace", self.trace >= 0, "0 or more: steps between two errors that are kept"),
                (
                    "chunk_mb",
                    self.chunk_mb is None or self.chunk_mb > 0,
                    "positive: megabytes of inputs solved together",
                ),
            )
            if not ok
        ]
        if problems:
            raise ValueError("\n".join(problems))

    def __call__(self, model: nn.Module, masks: Masks, task: Task) -> Measurement:
        """Return outcomes as a report, and series by trial; only the model's device is used.

        Series: `error` and `steps` by trial. With a trace also `rate_by_trial`, `iterations` and
        the geometric mean `error_trace`.
        """
        device = next(model.parameters()).device
        found, errors, energies = list[Solution](), list[Tensor](), list[Tensor]()
        for chunk in chunks(
            self.teacher, trial_seeds(self.trials, task.rng), device, self.chunk_mb
        ):
            found.append(
                self.solver(chunk.problem, starts(chunk, self.distance), chunk.truth, self.trace)
            )
            errors.append(distances(found[-1].weights, chunk.truth).cpu())
            energies.append(chunk.energy.cpu())
            task.progress(sum(map(len, errors)), self.trials, "trials")
        error, steps = torch.cat(errors), torch.cat([s.steps.cpu() for s in found])
        settled, diverged = (
            torch.cat([getattr(s, name).cpu() for s in found]) for name in ("settled", "diverged")
        )
        report = (
            self._setting()
            | _outcomes(error < self.success, settled, diverged)
            | _statistics(error, steps)
        )
        report["energy"] = float(torch.cat(energies).mean())
        series = {"error": error.tolist(), "steps": [float(n) for n in steps]}
        if self.trace:
            more, curves = self._curves(found, steps)
            report, series = report | more, series | curves
        return Measurement(report=report, series=series)

    def _setting(self) -> dict[str, Finding]:
        """The values that figures plot along their axes."""
        t = self.teacher
        return {
            "inputs": t.inputs,
            "samples": t.samples,
            "noise": t.noise,
            "distance": self.distance,
            "trials": self.trials,
        }

    def _curves(
        self, found: list[Solution], steps: Tensor
    ) -> tuple[dict[str, Finding], dict[str, list[float]]]:
        longest = max(s.trace.shape[1] for s in found)
        traces = torch.cat([_held(s.trace.cpu(), longest) for s in found])  # (trials, looks)
        rates = [rate(trace, int(n), self.trace) for trace, n in zip(traces, steps, strict=True)]
        known = torch.tensor([r for r in rates if r is not None], dtype=torch.float64)
        report: dict[str, Finding] = {
            "rate": float(known.mean()) if len(known) else None,
            "rates_fitted": len(known),
        }
        report["rate_std"] = float(known.std()) if len(known) > 1 else None
        looks = [float(i * self.trace) for i in range(longest)]
        return report, {
            "iterations": looks,
            "error_trace": traces.clamp(min=1e-300).log().mean(0).exp().tolist(),
            "rate_by_trial": known.tolist(),
        }


def rate(trace: Tensor, steps: int, every: int) -> float | None:
    """Fit nu of an error that falls as nu^t; None for fewer than three points.

    nu comes from the least-squares slope of the error's logarithm after the first fifth of `steps`.

    Args:
        trace: (looks,), the error at steps 0, every, 2 every, ...
    """
    first, last = math.ceil(SKIPPED * steps / every), steps // every
    if last - first < 2:
        return None
    t = torch.arange(first, last + 1, dtype=torch.float64) * every
    log = trace[first : last + 1].clamp(min=1e-300).log()
    slope = ((t - t.mean()) * (log - log.mean())).sum() / (t - t.mean()).square().sum()
    return float(slope.exp())


def _held(trace: Tensor, length: int) -> Tensor:
    """Extend a trace (T, looks) to `length` by repeating its last value."""
    return torch.cat([trace, trace[:, -1:].expand(-1, length - trace.shape[1])], 1)


def _outcomes(success: Tensor, settled: Tensor, diverged: Tensor) -> dict[str, Finding]:
    """Count the trials by outcome; converged, capped and wrong minimum add up to all."""
    wrong = ~success & (settled | diverged)
    counts = {
        "converged": success,
        "capped": ~success & ~wrong,
        "wrong_minimum": wrong,
        "diverged": diverged,
    }
    share = {
        name: float(which.double().mean()) for name, which in counts.items() if name != "diverged"
    }
    return {
        **{name: int(which.sum()) for name, which in counts.items()},
        **{f"{name}_share": value for name, value in share.items()},
    }


def _statistics(error: Tensor, steps: Tensor) -> dict[str, Finding]:
    """Statistics over all trials, of any outcome."""
    spread = float(error.std()) if len(error) > 1 else None
    return {
        "error_mean": float(error.mean()),
        "error_std": spread,
        "error_median": float(error.median()),
        "steps_mean": float(steps.double().mean()),
    }
