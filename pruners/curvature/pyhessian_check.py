"""PyHessian's estimates of the same Hessian, reported beside ours (`method.spectrum.check`)."""

import copy
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch
from torch import Generator, Tensor

from pruners.curvature.hessian import HessianOperator


def pyhessian_check(operator: HessianOperator, rng: Generator) -> dict[str, float]:
    """Top eigenvalue and trace of the same H by PyHessian, the paper's own estimator.

    Raises:
        ValueError: PyHessian is not installed.
    """
    with _pyhessian(operator, rng) as theirs:
        values, _ = theirs.eigenvalues(top_n=1)
        traces = theirs.trace()
    return {
        "pyhessian_lambda_max": float(values[0]),
        "pyhessian_trace": float(sum(traces) / len(traces)),
    }


def pyhessian_ritz_values(operator: HessianOperator, rng: Generator, steps: int) -> Tensor:
    """The Ritz values (`steps`,) of one run of PyHessian's `density()`, ascending, float64.

    Its code, its start vector of signs, its orthogonalisation; only `torch.eig`, which torch has
    removed and which it calls on the tridiagonal matrix, is `torch.linalg.eigh`.

    Raises:
        ValueError: PyHessian is not installed.
    """
    with _pyhessian(operator, rng) as theirs, _with_eig():
        values, _ = theirs.density(iter=steps, n_v=1)
    return torch.tensor(values[0], dtype=torch.float64).sort().values


@contextmanager
def _pyhessian(operator: HessianOperator, rng: Generator) -> Iterator[Any]:
    """PyHessian's object for the operator's net and samples.

    PyHessian sets eval mode, leaves gradients with graphs and draws from the global generator, so
    it gets copies of both.
    """
    try:
        from pyhessian import hessian  # optional and slow to import
    except ImportError as error:
        raise ValueError(
            "check=pyhessian needs PyHessian: pip install pyhessian, or take check=none"
            " (method.spectrum.check, portrait.check)"
        ) from error
    model = copy.deepcopy(operator.unfolded)
    data = tuple(torch.cat(parts) for parts in zip(*operator.given, strict=True))
    on_gpu = operator.point.is_cuda
    seed = int(torch.randint(2**31, (1,), generator=rng))
    with (
        torch.random.fork_rng(devices=[operator.point.device] if on_gpu else []),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")  # about create_graph's reference cycle
        torch.manual_seed(seed)
        yield hessian(model, operator.loss, data=data, cuda=on_gpu)
    for p in model.parameters():
        p.grad = None  # breaks the reference cycle


class _TorchWithEig(ModuleType):
    """torch with the `eig` of symmetric matrices that it had before version 1.13."""

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)

    @staticmethod
    def eig(matrix: Tensor, eigenvectors: bool) -> tuple[Tensor, Tensor]:
        """Eigenvalues as pairs (real, imaginary) (m, 2), and eigenvectors in columns (m, m)."""
        values, vectors = torch.linalg.eigh(matrix)
        return torch.stack([values, torch.zeros_like(values)], 1), vectors


@contextmanager
def _with_eig() -> Iterator[None]:
    """Let PyHessian's module, and nothing else, see a torch with `eig`."""
    names = vars(sys.modules["pyhessian.hessian"])
    before = names["torch"]
    names["torch"] = _TorchWithEig("torch")
    try:
        yield
    finally:
        names["torch"] = before
