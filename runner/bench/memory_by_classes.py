"""Peak memory of scores and Hessian products with four images of each of 1 to 1,000 classes.

Every measurement runs in a separate process: `python -m runner.bench.memory_by_classes NAME
CLASSES`. The network enlarges 8x8 images, so that the graph of an image is thousands of times as
large as the image. The bound is three quarters of what one class needs.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pruners.base import Batch, Task, full_masks, in_batches
from pruners.curvature.hessian import HessianOperator, fixed_batches
from pruners.curvature.options import HessianOptions
from pruners.scores.chunks import loss_bytes, product_bytes
from pruners.scores.grasp import Grasp
from pruners.scores.obd import Obd
from pruners.scores.snip import Snip
from pruners.scores.synflow import SynFlow
from pruners.selection.source import Balanced
from runner.bench.memory import resident
from runner.paths import CONF
from runner.spec.rng import stream

CLASSES = (1, 10, 100, 1000)
PER_CLASS = 4
SHARE = 0.75  # bound / what one class needs
CHANNELS, ENLARGED = 8, 8
# Memory is returned to the system as soon as it is free, so that the peak is that of the work.
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "32768", "MALLOC_TRIM_THRESHOLD_": "0"}


class Enlarging(nn.Module):
    """Two convolutions with BatchNorm on images that are enlarged to 64x64, and a linear layer."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        c = CHANNELS
        self.conv1, self.bn1 = nn.Conv2d(1, c, 3, padding=1, bias=False), nn.BatchNorm2d(c)
        self.conv2, self.bn2 = nn.Conv2d(c, c, 3, padding=1, bias=False), nn.BatchNorm2d(c)
        self.fc = nn.Linear(c, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, classes) of images (B, 1, 8, 8)."""
        x = F.relu(self.bn1(self.conv1(F.interpolate(x, scale_factor=float(ENLARGED)))))
        found: Tensor = self.fc(F.relu(self.bn2(self.conv2(x))).mean((2, 3)))
        return found


def _product(net: nn.Module, batch: Batch, memory: float) -> None:
    """A product of the Hessian and a vector of ones."""
    options = HessianOptions(n_samples=len(batch[1]))
    task = _task(batch, int(batch[1].max()) + 1)
    batches = fixed_batches(task, options)
    operator = HessianOperator(net, full_masks(net), batches, F.cross_entropy, options, memory)
    operator.matvec(torch.ones_like(operator.point))


def _score(
    score: Callable[..., object], batch_size: int | None = None
) -> Callable[[nn.Module, Batch, float], object]:
    """A score of all images: one batch, or batches of a given size."""

    def work(net: nn.Module, batch: Batch, memory: float) -> object:
        rng = stream(0, "bench", "score")
        batches = list(in_batches(*batch, batch_size or len(batch[1])))
        return score(net, full_masks(net), batches, F.cross_entropy, rng, memory)

    return work


WORK: Mapping[str, Callable[[nn.Module, Batch, float], object]] = {
    "snip": _score(Snip()),
    "grasp in chunks": _score(Grasp(chunk=PER_CLASS)),
    "obd": _score(Obd(), batch_size=256),
    "synflow on data": _score(SynFlow()),
    "hessian product": _product,
}


@dataclass(frozen=True)
class Peaks:
    """Peak memory in bytes beside network and images, for each number of classes."""

    name: str
    taken: tuple[int, ...]

    def __str__(self) -> str:
        """A line of the bench."""
        ratios = ", ".join(f"{taken / self.taken[0]:.2f}" for taken in self.taken[1:])
        return f"{self.name} {self.taken[0] / 2**20:.1f} MiB, then {ratios} times as much"


def measured(names: tuple[str, ...] = tuple(WORK)) -> Iterator[Peaks]:
    """Yield the peaks of every kind of work."""
    for name in names:
        yield Peaks(name, tuple(_peak(name, classes) for classes in CLASSES))


def _peak(name: str, classes: int) -> int:
    done = subprocess.run(
        [sys.executable, "-m", "runner.bench.memory_by_classes", name, str(classes)],
        cwd=CONF.parent,
        env={**os.environ, **ALLOCATOR},
        capture_output=True,
        text=True,
        check=True,
    )
    peak: int = json.loads(done.stdout.splitlines()[-1])
    return peak


def _task(batch: Batch, classes: int) -> Task:
    def batches(size: int) -> Iterator[Batch]:
        return in_batches(*batch, size)

    rng = stream(0, "bench", "classes")
    return Task(F.cross_entropy, batches, 0.1, 0, rng, image=(1, 8, 8), classes=classes)


def bound(name: str, net: nn.Module, batch: Batch) -> float:
    """The bound on the memory of this work, for a batch of one class."""
    parameters = [net.get_parameter(each) for each in full_masks(net)]
    products = name.startswith(("grasp", "hessian"))
    taken = (
        product_bytes(net, parameters, batch, F.cross_entropy, PER_CLASS)
        if products
        else loss_bytes(net, batch, F.cross_entropy, PER_CLASS)
    )
    return SHARE * taken


def main(name: str, classes: int) -> None:
    """Do the work once under the bound; print the bytes taken at the peak."""
    torch.set_num_threads(1)
    count = PER_CLASS * classes
    images = torch.randn(count, 1, 8, 8, generator=stream(0, "bench", "images"))
    data = (images, torch.arange(count) % classes)
    (batch,) = Balanced(PER_CLASS)(_task(data, classes))
    net = Enlarging(classes)
    one = (batch[0][:PER_CLASS], batch[1][:PER_CLASS])
    memory = bound(name, net, one)
    WORK[name](net, one, memory)  # loads kernels
    before = resident()
    WORK[name](net, batch, memory)
    print(json.dumps(resident(peak=True) - before))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
