"""Options of the curvature measurements, and the check of an option's value."""

from dataclasses import dataclass
from typing import ClassVar

import torch

MASK_RULES = (
    "leverage_x_w2",
    "leverage",
    "projected_weight",
    "diag",
    "obd",
    "magnitude",
    "random",
)
SHRINKAGES = ("none", "layer", "auto")
DTYPES = {"float32": torch.float32, "float64": torch.float64}


def not_among(key: str, value: object, choices: tuple[str, ...]) -> list[str]:
    """Error message for a value that is not among `choices`, in a list; empty for a valid value."""
    return [] if value in choices else [f"{key}={value!r} must be one of {', '.join(choices)}"]


def knows_errors(estimator: str, probes: int, subspace: str) -> bool:
    """Whether a spectrum has the standard errors of its leverages.

    They come from the spread between probes, and are zero for `dense`. Those of a hard cut grow
    with the leverage, so they are not used.
    """
    sampled = estimator == "slq" and probes > 1
    return subspace == "smoothed_curved" and (sampled or estimator == "dense")


def uses_leverage(rule: str) -> bool:
    """Whether a value of `method.mask.rule` ranks weights by their leverage."""
    return rule.startswith("leverage")


@dataclass(frozen=True)
class HessianOptions:
    """Which Hessian is measured: `method.hessian`.

    Args:
        params: `prunable` (conv and linear weights that have a mask) or `all` (also biases and
            BatchNorm, as in PyHessian).
        n_samples: training images in the mean; the whole training set if it is smaller. Default
            512: our measurements, absent from the paper.
        batch_size: images per pass; with `eval` only cost and rounding vary. Default 128: Table 16.
        mode: BatchNorm uses running (`eval`) or batch statistics (`train`: `batch_size` matters).
        dtype: of the products and of Lanczos.
    """

    tag: ClassVar[str] = "hessian_options"
    params: str = "prunable"
    n_samples: int = 512
    batch_size: int = 128
    mode: str = "eval"
    dtype: str = "float32"

    def __post_init__(self) -> None:
        problems = not_among("method.hessian.params", self.params, ("prunable", "all"))
        problems += not_among("method.hessian.mode", self.mode, ("eval", "train"))
        problems += not_among("method.hessian.dtype", self.dtype, tuple(DTYPES))
        for name in ("n_samples", "batch_size"):
            if getattr(self, name) < 1:
                problems.append(f"method.hessian.{name}={getattr(self, name)} must be at least 1")
        if problems:
            raise ValueError("\n".join(problems))


@dataclass(frozen=True)
class SpectrumOptions:
    """How the spectrum is estimated: `method.spectrum`.

    Defaults: our measurements (docs/methods/imc.md), absent from the paper.

    Args:
        steps: Lanczos steps of a run; at most d are taken.
        probes: random sign vectors to average over (`slq`, `diag`; `lanczos_extremes` takes one).
        reorth: `full`, or `none`, which demonstrates ghost copies of the outliers.
        deflated_steps: of `slq` with the smoothed subspace: the first probe takes `steps` steps,
            and the others as many as this, without its converged directions
            (pruners/curvature/deflation.py). None: all take `steps`.
        check: `pyhessian` reports PyHessian's top eigenvalue and trace beside ours.
    """

    tag: ClassVar[str] = "spectrum_options"
    estimator: str = "slq"
    steps: int = 50
    probes: int = 10
    reorth: str = "full"
    check: str = "none"
    deflated_steps: int | None = None

    def __post_init__(self) -> None:
        problems = not_among(
            "method.spectrum.estimator",
            self.estimator,
            ("slq", "dense", "lanczos_extremes", "diag"),
        )
        problems += not_among("method.spectrum.reorth", self.reorth, ("full", "none"))
        problems += not_among("method.spectrum.check", self.check, ("none", "pyhessian"))
        problems += [
            f"method.spectrum.{n}={getattr(self, n)} must be at least 1"
            for n in ("steps", "probes", "deflated_steps")
            if getattr(self, n) is not None and getattr(self, n) < 1
        ]
        if problems:
            raise ValueError("\n".join(problems))
