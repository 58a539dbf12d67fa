"""Measured pruning error of Algorithm 1, compared with the lemmas on it.

"Pruning at Initialization - A Sketching Perspective" (arXiv:2305.17559), Sec. 4. X in R^(d x n) has
rows of N(0, I/n). m_i = c_i / (s p_i), where c counts s draws from p. The error is
||X^T w* - X^T (w* . m)||^2. p_i ~ ||X_(i)|| |w0_i| (Eq. 2), uniform in Lemma 4.5. The bounds as the
paper states them (printed) and corrected (docs/methods/mask_randomization.md):

    4.1  printed    ((sum_k ||X_k|| |w_k|)^2 - ||X^T w||) / s
         corrected  the last norm squared: an identity
    4.2  printed    ||w||^2 / s: wrong, (sum a_k)^2 is not below sum a_k^2
         corrected  (||w||_1^2 - ||w||^2) / s
    4.3  printed    sum_k (sum_j ||X_j|| |w0_j|) ||X_k||^2 w*_k^2 / (||X_k|| |w0_k| s)
         corrected  less ||X^T w*||^2 / s: an identity (so in its proof)
    4.4  printed    ||w0||_1 (||w*-w0||^2 / ||w0||_inf + 2 ||w*-w0||_1 + ||w0||_1) / s: wrong
         corrected  the minimum of |w0_k| in place of the maximum
    4.5  printed    d ||w*||^2 / s
         corrected  less ||X^T w*||^2 / s: an identity given X

`average=simulate` draws new masks each time and, where the lemma averages over X, new data.
`average=exact` takes the mean over masks in closed form (Lemma 4.3) and draws only data. It is
meant for the counter-example to Theorem 4.4, where one weight in thousands of masks determines the
mean. `pruners/selection/pick.py` draws the counts.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from torch import Generator, Tensor, nn

from pruners.base import Finding, Masks, Measurement, Task
from pruners.selection.pick import draw_counts

Name = Literal["lemma41", "lemma42", "lemma43", "theorem44", "lemma45"]
Weights = Literal["gaussian", "ones"]
Change = Literal["none", "all", "smallest"]
Average = Literal["simulate", "exact"]
IDENTITIES = ("lemma41", "lemma43", "lemma45")  # corrected form is an equation, else a bound
GIVEN = ("lemma41", "lemma43")  # hold for one X; the others hold on average over X
SPREAD = 0.3  # of change=all
NORMAL = 1.96  # 97.5 % quantile


@dataclass(frozen=True)
class Lemma:
    """Measure stage: compare the error of masks with a lemma, for several numbers of draws.

    Args:
        lemma: a lemma of Sec. 4; theorem44 is Theorem 4.4.
        features, examples: d and n. Default 200 and 128: those of
            docs/methods/mask_randomization.md.
        draws: values of s.
        at: the s of the verdict. Default 20: as there.
        weights: w0.
        change: from w0 to w*: `none`; `all`: each entry times 1 + 0.3 of a Gaussian; `smallest`:
            `size` added to the smallest entry (Theorem 4.4's counter-example). No Gaussian is added
            to all entries: those with tiny p_k would then determine the mean, which no feasible
            number of masks can estimate.
        size: the amount that `smallest` adds. Default 3.
        repeats: masks, or data sets, to average over.
        average: see the module's docstring.
    """

    tag: ClassVar[str] = "lemma"
    lemma: Name
    features: int = 200
    examples: int = 128
    draws: tuple[int, ...] = (5, 10, 20, 50, 100, 200)
    at: int = 20
    weights: Weights = "gaussian"
    change: Change = "none"
    size: float = 3.0
    repeats: int = 4000
    average: Average = "simulate"
    precision: ClassVar[str] = "fp64"  # for the record

    def __post_init__(self) -> None:
        choices = (("lemma", Name), ("weights", Weights), ("change", Change), ("average", Average))
        problems = [
            f"method.{key}={getattr(self, key)} must be one of {', '.join(get_args(kind))}"
            for key, kind in choices
            if getattr(self, key) not in get_args(kind)
        ]
        problems += [
            f"method.{key}={getattr(self, key)} must be at least 2"
            for key in ("features", "examples", "repeats")
            if getattr(self, key) < 2
        ]
        if not self.draws or min(self.draws) < 1 or self.at not in self.draws:
            problems.append(
                f"method.draws={list(self.draws)} must be numbers of at least 1,"
                f" method.at={self.at} among them"
            )
        if self.lemma in ("lemma41", "lemma42") and self.change != "none":
            problems.append(
                f"method.change={self.change}: {self.lemma} is about w0 itself; method.change=none"
            )
        if problems:
            raise ValueError("\n".join(problems))

    def __call__(self, model: nn.Module, masks: Masks, task: Task) -> Measurement:
        """Return series over `draws` and a report with verdicts.

        Series: `measured`, `half` (half-width of its 95 % interval), `printed`, `corrected`.
        Report: error / bound at s = `at` for both bounds, with verdicts.
        """
        w0, w = self._vectors(task.rng)
        fixed = self._data(task.rng) if self.lemma in GIVEN else None
        rows = []
        for i, s in enumerate(self.draws):
            found = [self._once(fixed, w0, w, s, task.rng) for _ in range(self.repeats)]
            error, printed, corrected = (
                torch.tensor(column, dtype=torch.float64) for column in zip(*found, strict=True)
            )
            half = NORMAL * float(error.std()) / self.repeats**0.5
            rows.append((float(error.mean()), half, float(printed.mean()), float(corrected.mean())))
            task.progress(i + 1, len(self.draws), "numbers of draws")
        names = ("measured", "half", "printed", "corrected")
        series = {
            "draws": [float(s) for s in self.draws],
            **{name: [row[i] for row in rows] for i, name in enumerate(names)},
        }
        return Measurement(report=self._verdicts(*rows[self.draws.index(self.at)]), series=series)

    def _vectors(self, rng: Generator) -> tuple[Tensor, Tensor]:
        """Draw w0 and w*, (d,)."""
        w0 = torch.ones(self.features, dtype=torch.float64)
        if self.weights == "gaussian":
            w0 = torch.randn(self.features, generator=rng, dtype=torch.float64)
        w = w0.clone()
        if self.change == "all":
            w *= 1 + SPREAD * torch.randn(self.features, generator=rng, dtype=torch.float64)
        elif self.change == "smallest":
            w[w0.abs().argmin()] += self.size
        return w0, w

    def _data(self, rng: Generator) -> Tensor:
        """Draw X, (d, n), with rows of N(0, I/n)."""
        shape, scale = (self.features, self.examples), float(self.examples**0.5)
        return torch.randn(shape, generator=rng, dtype=torch.float64) / scale

    def _once(
        self, fixed: Tensor | None, w0: Tensor, w: Tensor, s: int, rng: Generator
    ) -> tuple[float, float, float]:
        """Return one error and the lemma's printed and corrected bounds."""
        x = self._data(rng) if fixed is None else fixed
        norms = x.norm(dim=1)
        uniform = self.lemma == "lemma45"
        p = torch.full_like(w, 1 / self.features) if uniform else probabilities(norms, w0)
        if self.average == "exact":
            error = mean_error(x, norms, w, p, s)
        else:
            error = simulated_error(x, w, p, s, rng)
        return error, *bounds(self.lemma, x, norms, w0, w, p, s)

    def _verdicts(
        self, error: float, half: float, printed: float, corrected: float
    ) -> dict[str, Finding]:
        """Report error / bound and whether the lemma holds.

        A bound holds unless the whole interval is above 1, an identity if 1 is in the interval.
        """
        report: dict[str, Finding] = {
            "error": error,
            "error_half": half,
            "printed": printed,
            "corrected": corrected,
        }
        for name, bound in (("printed", printed), ("corrected", corrected)):
            low, high = (error - half) / bound, (error + half) / bound
            equal = self.lemma in IDENTITIES and (name == "corrected" or self.lemma == "lemma41")
            report |= {
                f"{name}_measured": error / bound,
                f"{name}_low": low,
                f"{name}_high": high,
                f"{name}_holds": int(low <= 1 and (high >= 1 or not equal)),
            }
        return report


def probabilities(norms: Tensor, w: Tensor) -> Tensor:
    """Eq. 2: ||X_(i)|| |w_i| over their sum, (d,)."""
    score = norms * w.abs()
    return score / score.sum()


def simulated_error(x: Tensor, w: Tensor, p: Tensor, s: int, rng: Generator) -> float:
    """||X^T w - X^T (w . m)||^2 for one mask of Algorithm 1."""
    m = draw_counts(s, p, rng) / (s * p.where(p > 0, 1.0))
    return float((x.T @ (w - w * m)).square().sum())


def mean_error(x: Tensor, norms: Tensor, w: Tensor, p: Tensor, s: int) -> float:
    """Mean of the simulated error over masks (Lemma 4.3's identity)."""
    return float(((norms * w).square() / p.where(p > 0, 1.0)).sum() - (x.T @ w).square().sum()) / s


def bounds(
    lemma: str, x: Tensor, norms: Tensor, w0: Tensor, w: Tensor, p: Tensor, s: int
) -> tuple[float, float]:
    """Return a lemma's bounds on the mean error: printed, corrected."""
    output, size, change = (x.T @ w).norm(), w0.abs(), w - w0
    if lemma == "lemma41":
        whole = (norms * size).sum().square()
        pair = whole - output, whole - output**2
    elif lemma == "lemma42":
        pair = w0.square().sum(), size.sum() ** 2 - w0.square().sum()
    elif lemma in ("lemma43", "lemma45"):
        whole = (
            ((norms * w).square() / p).sum() if lemma == "lemma43" else len(w) * w.square().sum()
        )
        exact = ((norms * w).square() / p).sum() - output**2
        pair = whole, exact
    else:
        pair = tuple(
            size.sum() * (change.square().sum() / by + 2 * change.abs().sum() + size.sum())
            for by in (size.max(), size.min())
        )  # type: ignore[assignment]
    return float(pair[0]) / s, float(pair[1]) / s
