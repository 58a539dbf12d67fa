"""Benchmarks of Hessian-vector products and of a spectrum.

Products are compared with curvlinops' and PyHessian's, the spectrum with PyHessian's.
"""

import copy
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pruners.base import full_masks
from pruners.curvature.hessian import HessianOperator
from pruners.curvature.options import HessianOptions
from runner.bench import spectrum as bench_spectrum
from runner.bench.timing import Duel
from runner.bench.training import BATCH, images_of, net, pairs

SPECTRUM_STEPS = 10


def hessian_duels(device: torch.device) -> Iterator[Duel]:
    """Yield comparisons of one product with the Hessian over 512 images, and of a spectrum.

    The products of all three agree to rounding (tests/pruners/test_hessian.py).
    """
    model = net(1, 8, device)
    batches = [(x.to(device), y.to(device)) for x, y in pairs(images_of(512, 1, 8))]
    masks, options = full_masks(model), HessianOptions(batch_size=BATCH)
    ours = HessianOperator(model, masks, batches, F.cross_entropy, options)
    everything = HessianOperator(
        model, masks, batches, F.cross_entropy, HessianOptions(batch_size=BATCH, params="all")
    )
    v, w = (
        torch.randn(ours.dimension, device=device),
        torch.randn(everything.dimension, device=device),
    )
    work = "a Hessian-vector product, ResNet-20, 512 x 1x8x8"
    yield Duel(
        work,
        "curvlinops'",
        lambda: ours.matvec(v),
        _curvlinops_product(model, list(masks), batches, v),
    )
    if not bench_spectrum.has_pyhessian():
        return  # bench_spectrum.lines reports it
    yield Duel(
        work,
        "PyHessian's (over all parameters)",
        lambda: ours.matvec(v),
        _pyhessian_product(model, batches),
    )
    yield Duel(
        f"{work}, all parameters",
        "PyHessian's",
        lambda: everything.matvec(w),
        _pyhessian_product(model, batches),
    )
    # PyHessian is faster with a single batch, since it keeps the graph of that batch.
    whole = [(torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches]))]
    steps, spectra = SPECTRUM_STEPS, (bench_spectrum.ours, bench_spectrum.theirs)
    mine, rival = (
        lambda f=f, b=b: f(model, b, steps, 1)
        for f, b in zip(spectra, (batches, whole), strict=True)
    )
    yield Duel(
        f"a spectrum of {steps} products, all else as before",
        "PyHessian's (density, with linalg.eigh for torch.eig)",
        mine,
        rival,
    )


def _pyhessian_product(
    model: nn.Module, batches: list[tuple[Tensor, Tensor]]
) -> Callable[[], object]:
    from pyhessian import hessian

    theirs = hessian(
        copy.deepcopy(model), F.cross_entropy, dataloader=batches, cuda=batches[0][0].is_cuda
    )
    direction = [torch.randn_like(p) for p in theirs.params]
    return lambda: theirs.dataloader_hv_product(direction)


def _curvlinops_product(
    model: nn.Module, names: list[str], batches: list[tuple[Tensor, Tensor]], v: Tensor
) -> Callable[[], object]:
    from curvlinops import HessianLinearOperator

    net = copy.deepcopy(model).eval()
    parameters = [p for name, p in net.named_parameters() if name in names]
    operator = HessianLinearOperator(
        net, nn.CrossEntropyLoss(), parameters, batches, check_deterministic=False
    )
    return lambda: operator @ v
