"""Benchmarks of Hessian-vector products and of a spectrum.

Products are compared with curvlinops' and PyHessian's, the spectrum with PyHessian's.
"""

import copy
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import nn

from pruners.base import Batch, full_masks
from pruners.curvature.hessian import HessianOperator
from pruners.curvature.options import HessianOptions
from runner.bench import spectrum as bench_spectrum
from runner.bench.timing import Comparison
from runner.bench.training import BATCH, images_of, net, pairs

SPECTRUM_STEPS = 10
WORK = "a Hessian-vector product, ResNet-20, 512 x 1x8x8"


def hessian_comparisons(device: torch.device) -> Iterator[Comparison]:
    """Yield comparisons of one product with the Hessian over 512 images, and of a spectrum.

    The products of all three agree to rounding (tests/pruners/test_hessian.py).
    """
    model = net(1, 8, device)
    batches = [(x.to(device), y.to(device)) for x, y in pairs(images_of(512, 1, 8))]
    product = _our_product(model, batches, "prunable")
    theirs = _curvlinops_product(model, batches)
    yield Comparison("hessian_curvlinops", WORK, "curvlinops'", product, theirs)
    if not bench_spectrum.has_pyhessian():
        return  # bench_spectrum.lines reports it
    yield Comparison(
        "hessian_pyhessian",
        WORK,
        "PyHessian's (over all parameters)",
        product,
        _pyhessian_product(model, batches),
    )
    yield Comparison(
        "hessian_pyhessian_all",
        f"{WORK}, all parameters",
        "PyHessian's",
        _our_product(model, batches, "all"),
        _pyhessian_product(model, batches),
    )
    # PyHessian is faster with a single batch, since it keeps the graph of that batch.
    whole = [(torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches]))]
    yield Comparison(
        "hessian_spectrum",
        f"a spectrum of {SPECTRUM_STEPS} products, all else as before",
        "PyHessian's (density, with linalg.eigh for torch.eig)",
        lambda: bench_spectrum.ours(model, batches, SPECTRUM_STEPS, 1),
        lambda: bench_spectrum.theirs(model, whole, SPECTRUM_STEPS, 1),
    )


def _our_product(model: nn.Module, batches: list[Batch], params: str) -> Callable[[], object]:
    options = HessianOptions(batch_size=BATCH, params=params)
    operator = HessianOperator(model, full_masks(model), batches, F.cross_entropy, options)
    v = torch.randn(operator.dimension, device=operator.point.device)
    return lambda: operator.matvec(v)


def _pyhessian_product(model: nn.Module, batches: list[Batch]) -> Callable[[], object]:
    from pyhessian import hessian

    theirs = hessian(
        copy.deepcopy(model), F.cross_entropy, dataloader=batches, cuda=batches[0][0].is_cuda
    )
    direction = [torch.randn_like(p) for p in theirs.params]
    return lambda: theirs.dataloader_hv_product(direction)


def _curvlinops_product(model: nn.Module, batches: list[Batch]) -> Callable[[], object]:
    from curvlinops import HessianLinearOperator

    net, names = copy.deepcopy(model).eval(), full_masks(model)
    parameters = [p for name, p in net.named_parameters() if name in names]
    operator = HessianLinearOperator(
        net, nn.CrossEntropyLoss(), parameters, batches, check_deterministic=False
    )
    v = torch.randn(sum(p.numel() for p in parameters), device=parameters[0].device)
    return lambda: operator @ v
