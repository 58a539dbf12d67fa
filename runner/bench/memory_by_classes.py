"""Peak memory of scores and Hessian products with four images of one class and of 100 classes.

Every measurement runs in a separate process: `python -m runner.bench.memory_by_classes NAME
CLASSES`. The network enlarges 8x8 images, so that the graph of an image is thousands of times as
large as the image. The bound is little more than half of what a Hessian product with one class
takes, so that the four images of one class and the images of 100 are cut into parts of two alike. A
score that can give chunks statistics of their own does so; the others have batches of 256 images.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pruners.base import Batch, Task, full_masks, in_batches
from pruners.curvature.hessian import HessianOperator
from pruners.curvature.options import HessianOptions
from pruners.curvature.samples import fixed_batches
from pruners.scores.chunks import product_bytes
from pruners.selection.score import Score
from pruners.selection.score_pruner import ScorePruner
from pruners.selection.source import Balanced
from runner.bench.memory import resident
from runner.bench.stages import stages_of
from runner.config.compose import method_names
from runner.paths import CONF
from runner.spec.rng import stream

Work = Callable[[nn.Module, Batch, float], None]
CLASSES = (1, 100)
PER_CLASS = 4
BATCH = 256
SHARE = 0.55  # bound / what one class needs
PRODUCT = "Hessian product"
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
    batches = fixed_batches(_task(batch, int(batch[1].max()) + 1), options)
    operator = HessianOperator(net, full_masks(net), batches, F.cross_entropy, options, memory)
    operator.matvec(torch.ones_like(operator.point))


def _score(name: str) -> Score | None:
    """The score of a method that reads images, else None."""
    for stage in stages_of(name):
        if isinstance(stage.component, ScorePruner) and stage.component.score.needs_data:
            return stage.component.score
    return None


def _scoring(name: str) -> Work:
    """A method's score of all images."""
    score: Any = _score(name)
    whole = any(field.name == "chunk" for field in fields(score))
    score = replace(score, chunk=PER_CLASS // 2) if whole else score

    def work(net: nn.Module, batch: Batch, memory: float) -> None:
        batches = list(in_batches(*batch, len(batch[1]) if whole else BATCH))
        rng = stream(0, "bench", "score")
        score(net, full_masks(net), batches, F.cross_entropy, rng, memory)

    return work


@dataclass(frozen=True)
class Peaks:
    """Peak memory in bytes beside network and images, for each number of classes."""

    name: str
    taken: tuple[int, ...]


def measured() -> Iterator[Peaks]:
    """Yield the peaks of the score of every method that reads images, and of a Hessian product."""
    for name in [PRODUCT, *(name for name in method_names() if _score(name) is not None)]:
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


def main(name: str, classes: int) -> None:
    """Do the work once under the bound; print the bytes taken at the peak."""
    torch.set_num_threads(1)
    count = PER_CLASS * classes
    images = torch.randn(count, 1, 8, 8, generator=stream(0, "bench", "images"))
    data = (images, torch.arange(count) % classes)
    (batch,) = Balanced(PER_CLASS)(_task(data, classes))
    net = Enlarging(classes)
    one = (batch[0][:PER_CLASS], batch[1][:PER_CLASS])
    weights = [net.get_parameter(each) for each in full_masks(net)]
    memory = SHARE * product_bytes(net, weights, one, F.cross_entropy, PER_CLASS)
    work = _product if name == PRODUCT else _scoring(name)
    work(net, one, memory)  # loads kernels
    before = resident()
    work(net, batch, memory)
    print(json.dumps(resident(peak=True) - before))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
