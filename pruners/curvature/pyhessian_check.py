"""PyHessian's estimates of the same Hessian, reported beside ours (`method.spectrum.check`)."""

import copy
import warnings

import torch
from torch import Generator

from pruners.curvature.hessian import HessianOperator


def pyhessian_check(operator: HessianOperator, rng: Generator) -> dict[str, float]:
    """Top eigenvalue and trace of the same H by PyHessian, the paper's own estimator.

    Its density() fails on current torch and is not called. PyHessian sets eval mode, leaves
    gradients with graphs and draws from the global generator, so it gets copies of both.

    Raises:
        ValueError: PyHessian is not installed.
    """
    try:
        from pyhessian import hessian  # optional and slow to import
    except ImportError as error:
        raise ValueError(
            "method.spectrum.check=pyhessian needs PyHessian: pip install pyhessian, or take"
            " method.spectrum.check=none"
        ) from error
    model = copy.deepcopy(operator.unfolded)
    data = tuple(torch.cat(parts) for parts in zip(*operator.batches, strict=True))
    on_gpu = operator.point.is_cuda
    seed = int(torch.randint(2**31, (1,), generator=rng))
    with (
        torch.random.fork_rng(devices=[operator.point.device] if on_gpu else []),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")  # about create_graph's reference cycle
        torch.manual_seed(seed)
        theirs = hessian(model, operator.loss, data=data, cuda=on_gpu)
        values, _ = theirs.eigenvalues(top_n=1)
        traces = theirs.trace()
    for p in model.parameters():
        p.grad = None  # breaks the reference cycle
    return {
        "pyhessian_lambda_max": float(values[0]),
        "pyhessian_trace": float(sum(traces) / len(traces)),
    }
