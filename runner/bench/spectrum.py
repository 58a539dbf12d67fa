"""The Hessian's spectrum compared with PyHessian's estimate of it.

Two things are measured: the distance of each to the exact spectrum after equally many products, and
the memory of each step. PyHessian's `density` calls torch.eig, which torch no longer has. It is
called unchanged, with torch.linalg.eigh in that place, which is equivalent for its symmetric matrix
of a few dozen rows. PyHessian's own Lanczos run keeps single vectors in a list and orthogonalises
each new one against all before it, once.

`python -m runner.bench.spectrum WHOSE STEPS` takes STEPS Lanczos steps and prints their memory on
its last line; WHOSE is "ours" or "theirs".
"""

import copy
import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from models.mlp import perceptron
from models.resnet_cifar import ResNetCifar
from pruners.base import Batch, full_masks
from pruners.curvature.hessian import HessianOperator
from pruners.curvature.lanczos import as_matrix, exact_spectrum, krylov, signs
from pruners.curvature.options import HessianOptions
from runner.bench.figures import Figure
from runner.bench.memory import resident
from runner.data.digits import read_digits
from runner.paths import CONF
from runner.spec.rng import stream

STEPS, PROBES = 50, 10  # for the accuracy; the defaults of the spectrum stage
SHORT, LONG = 2, 50  # Lanczos steps of the two runs whose memory is compared
# Of the network with a cheap exact spectrum (910 parameters): images, SGD steps, hidden units.
IMAGES, TRAINED, HIDDEN = 512, 100, 12
MISSING = (
    "PyHessian is not installed, so its rows are left out; to have them:"
    " pip install --no-deps pyhessian==0.1"
)
OURS, THEIRS = "ours", "theirs"


def has_pyhessian() -> bool:
    """Whether PyHessian can be imported."""
    try:
        importlib.import_module("pyhessian")
    except ImportError:
        return False
    return True


@dataclass(frozen=True)
class Ritz:
    """An estimated spectrum: values and their weights (n,), which sum to 1; float64."""

    values: Tensor
    weights: Tensor


def ours(model: nn.Module, batches: list[Batch], steps: int, probes: int) -> Ritz:
    """Estimate the spectrum by our Lanczos runs over all parameters, as in PyHessian."""
    options = HessianOptions(params="all")
    operator = HessianOperator(model, full_masks(model), batches, F.cross_entropy, options)
    rng = stream(0, "bench", "probes")
    runs = [
        krylov(operator.matvec, signs(operator.dimension, rng, operator.point), steps)
        for _ in range(probes)
    ]
    return Ritz(
        torch.cat([run.theta for run in runs]), torch.cat([run.tau for run in runs]) / probes
    )


def theirs(model: nn.Module, batches: list[Batch], steps: int, probes: int) -> Ritz:
    """Estimate the spectrum by PyHessian's Lanczos runs.

    It can keep the graph of the gradient between products only with a single batch.
    """
    from pyhessian import hessian

    one = {"data": batches[0]} if len(batches) == 1 else {"dataloader": batches}
    estimator = hessian(copy.deepcopy(model), F.cross_entropy, cuda=batches[0][0].is_cuda, **one)
    with symmetric_eig(), torch.random.fork_rng():
        torch.manual_seed(0)
        values, weights = estimator.density(iter=steps, n_v=probes)
    return Ritz(
        torch.tensor(values, dtype=torch.float64).flatten(),
        torch.tensor(weights, dtype=torch.float64).flatten() / probes,
    )


@contextmanager
def symmetric_eig() -> Iterator[None]:
    """Restore torch.eig for symmetric matrices inside the context.

    It returns eigenvalues (m, 2), real and imaginary parts, and eigenvectors (m, m).
    """

    def eig(matrix: Tensor, eigenvectors: bool = False) -> tuple[Tensor, Tensor]:
        values, vectors = torch.linalg.eigh(matrix.double())
        return torch.stack([values, torch.zeros_like(values)], 1).to(matrix), vectors.to(matrix)

    before = vars(torch).get("eig")
    torch.eig = eig  # type: ignore[attr-defined, assignment]
    try:
        yield
    finally:
        if before is None:
            del torch.eig  # type: ignore[attr-defined]
        else:
            torch.eig = before  # type: ignore[attr-defined]


def distance(one: Ritz, other: Ritz) -> float:
    """Return the area between the two cumulative distributions (Wasserstein-1)."""
    values, order = torch.cat([one.values, other.values]).sort()
    above = torch.cat([one.weights, -other.weights])[order].cumsum(0)
    return float((above[:-1].abs() * values.diff()).sum())


def exact(model: nn.Module, batches: list[Batch]) -> Ritz:
    """Return all eigenvalues, from the whole matrix in float64."""
    options = HessianOptions(params="all", dtype="float64")
    operator = HessianOperator(model, full_masks(model), batches, F.cross_entropy, options)
    values, _, _ = exact_spectrum(as_matrix(operator.matvec, operator.point))
    return Ritz(values, torch.full_like(values, 1 / len(values)))


def errors() -> dict[str, float]:
    """Return each estimator's distance to the exact spectrum, as a share of its range.

    Each takes STEPS x PROBES products on a small trained network.
    """
    model, batches = small_net()
    truth = exact(model, batches)
    found = {OURS: ours, **({THEIRS: theirs} if has_pyhessian() else {})}
    spread = float(truth.values.max() - truth.values.min())
    return {
        whose: distance(estimate(model, batches, STEPS, PROBES), truth) / spread
        for whose, estimate in found.items()
    }


def spectrum_figures(error: dict[str, float], taken: dict[str, float]) -> Iterator[Figure]:
    """Yield the figures of `errors` and `memory`; the ratio is PyHessian's / ours.

    If PyHessian is missing, the figure says how to install it.
    """
    for kind, unit, found in (
        ("error", f"of the exact spectrum's range after {PROBES} x {STEPS} products", error),
        ("memory", "times the weights in a Lanczos step", taken),
    ):
        theirs = found.get(THEIRS)
        ratio = None if theirs is None else theirs / found[OURS]
        rival = MISSING if theirs is None else "PyHessian's"
        yield Figure(f"spectrum_{kind}", found[OURS], unit, rival, theirs, ratio)


def small_net() -> tuple[nn.Module, list[Batch]]:
    """Return a trained MLP of 910 parameters and the images of its Hessian, in one batch.

    It is trained for TRAINED steps on scikit-learn's digits.
    """
    split = read_digits().train
    x, y = split.images[:IMAGES].float() / 8 - 1, split.labels[:IMAGES]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = perceptron(64, [HIDDEN], 10)
    opt = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for _ in range(TRAINED):
        opt.zero_grad()
        torch.autograd.backward(F.cross_entropy(model(x), y))
        opt.step()
    opt.zero_grad()
    return model, [(x, y)]


def memory() -> dict[str, float]:
    """Return the peak memory that a Lanczos step adds, in multiples of the network's weights.

    Each estimator runs in its own processes. Closed form: one vector.
    """
    found = {}
    for whose in (OURS, *([THEIRS] if has_pyhessian() else [])):
        (weights, long), (_, short) = (_in_a_process(whose, steps) for steps in (LONG, SHORT))
        found[whose] = (long - short) / weights / (LONG - SHORT)
    return found


def _in_a_process(whose: str, steps: int) -> tuple[int, int]:
    line = [sys.executable, "-m", "runner.bench.spectrum", whose, str(steps)]
    done = subprocess.run(line, cwd=CONF.parent, capture_output=True, text=True, check=True)
    weights, taken = json.loads(done.stdout.splitlines()[-1])
    return weights, taken


def main(whose: str, steps: int) -> None:
    """Run Lanczos once on ResNet-20 of width 32; print bytes of the weights and at the peak.

    Images are few and small, so that vectors take most of the memory.
    """
    model = ResNetCifar("net", depth=20, width=32)(1, 10, 8, stream(0, "bench", "weights"))
    batch = (torch.randn(16, 1, 8, 8, generator=Generator().manual_seed(0)), torch.arange(16) % 10)
    before = resident()
    {OURS: ours, THEIRS: theirs}[whose](model, [batch], steps, 1)
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    print(json.dumps([weights, resident(peak=True) - before]))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
