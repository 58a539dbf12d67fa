"""Data that a score uses: the option group `source`.

A source is `(task) -> batches`. Within one pruning round, every call gives the same batches.

Noise is drawn in normalised space, where the training set has mean 0 and variance 1
(docs/decisions.md 7), and anew in each pruning round ("Pruning at Initialization - A Sketching
Perspective", arXiv:2305.17559, Sec. 8). Its generator is derived from the seed of the stage's
stream and does not advance that stream. The paper specifies no labels for its noise; ours are
uniform over the classes. A source with `trains = True` can also replace a whole training set. A
source with `labelled = False` gives a single image with a meaningless label, for scores that read
no labels.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from pruners.base import Batch, Task

# batches in a pass of noise: more than a score needs, and finite for one that reads all of them
PASS = 64
Location = Literal["pixel", "coordinate"]


@dataclass(frozen=True)
class Train:
    """Training images and their labels, shuffled once, not augmented.

    Args:
        batch_size: Default 256 (sketching paper, Sec. 8); snip-public has 100 on MNIST and 128 on
            CIFAR.
    """

    tag: ClassVar[str] = "training_images"
    batch_size: int = 256

    def __post_init__(self) -> None:
        _refuse_single(self.batch_size)

    def __call__(self, task: Task) -> Iterable[Batch]:
        """A pass over the training set."""
        return task.batches(self.batch_size)


@dataclass(frozen=True)
class Normal:
    """Independent N(0, 1) in every pixel and channel, with random labels.

    Args:
        batch_size: Default 256 (sketching paper, Sec. 8).
    """

    tag: ClassVar[str] = "normal"
    trains: ClassVar[bool] = True
    batch_size: int = 256

    def __post_init__(self) -> None:
        _refuse_single(self.batch_size)

    def __call__(self, task: Task) -> Iterator[Batch]:
        """Batches of noise (B, C, H, W) with labels (B,)."""
        rng = noise_stream(task)
        for _ in range(PASS):
            yield (
                torch.randn(self.batch_size, *task.image, generator=rng),
                _labels(self.batch_size, task, rng),
            )


@dataclass(frozen=True)
class SparseNormal:
    """N(0, 1) at each place in one random image of the batch; exact zeros in the others.

    The image is drawn independently for each place (Sec. 6 and 8). Zero is the mean colour, not
    black: in the theory, each row of the data has one non-zero entry.

    Args:
        batch_size: Default 256 (Sec. 8).
        location: a place is a `pixel` with all its channels (the paper's words, docs/decisions.md
            22) or a `coordinate`, one channel of a pixel (its theory).
    """

    tag: ClassVar[str] = "sparse_normal"
    trains: ClassVar[bool] = True
    batch_size: int = 256
    location: Location = "pixel"

    def __post_init__(self) -> None:
        _refuse_single(self.batch_size)
        if self.location not in get_args(Location):
            raise ValueError(
                f"source.location={self.location!r} must be one of {', '.join(get_args(Location))}"
            )

    def __call__(self, task: Task) -> Iterator[Batch]:
        """Batches of sparse noise (B, C, H, W) with labels (B,)."""
        rng = noise_stream(task)
        channels, height, width = task.image
        places = (1, 1 if self.location == "pixel" else channels, height, width)
        image = torch.arange(self.batch_size).view(-1, 1, 1, 1)
        for _ in range(PASS):
            chosen = torch.randint(self.batch_size, places, generator=rng)
            noise = torch.randn(self.batch_size, *task.image, generator=rng)
            yield noise.where(image == chosen, 0.0), _labels(self.batch_size, task, rng)


@dataclass(frozen=True)
class Chi:
    """One image of independent chi variables, in place of SynFlow's ones (Sec. 5 and 8).

    Every pixel and channel is the norm of n standard normal variables. In the theory, entries have
    variance 1/n, so the norm is smaller by sqrt(n). The paper's text omits this factor; SynFlow's
    scores are homogeneous in the input.

    Args:
        n: degrees of freedom. Default 128 (Sec. 8): mean 11.29, standard deviation 0.71.
    """

    tag: ClassVar[str] = "chi"
    labelled: ClassVar[bool] = False
    n: int = 128

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ValueError(
                f"source.n={self.n} must be at least 1: the degrees of freedom of the chi"
                " distribution, 128 in the paper"
            )

    def __call__(self, task: Task) -> Iterable[Batch]:
        """One batch: inputs (1, C, H, W), labels (1,)."""
        z = torch.randn(*task.image, self.n, generator=noise_stream(task))
        return [(z.norm(dim=-1)[None], torch.zeros(1, dtype=torch.int64))]


@dataclass(frozen=True)
class Ones:
    """One image of ones, with label 0: SynFlow's input."""

    tag: ClassVar[str] = "ones"
    labelled: ClassVar[bool] = False

    def __call__(self, task: Task) -> Iterable[Batch]:
        """One batch: inputs (1, C, H, W), labels (1,)."""
        return [(torch.ones(1, *task.image), torch.zeros(1, dtype=torch.int64))]


@dataclass(frozen=True)
class Balanced:
    """Training images with equally many of each class in every batch, not augmented.

    The images follow the order of the shuffled pass.

    Args:
        per_class: images of each class in a batch. Default 10: GraSP's on CIFAR (5 on CIFAR-100
            with ResNet-32, 1 on Tiny-ImageNet; docs/methods/grasp.md).
    """

    tag: ClassVar[str] = "balanced"
    per_class: int = 10

    def __post_init__(self) -> None:
        if self.per_class < 1:
            raise ValueError(
                f"source.per_class={self.per_class} must be at least 1:"
                " images of each class in a batch"
            )

    def __call__(self, task: Task) -> Iterator[Batch]:
        """Batches of per_class * classes images until a class runs out.

        Raises:
            ValueError: the training set cannot fill one batch.
        """
        images, labels = None, torch.empty(0, dtype=torch.int64)
        batches = 0
        for x, y in task.batches(self.per_class * task.classes):
            images, labels = (
                (x, y) if images is None else (torch.cat([images, x]), torch.cat([labels, y]))
            )
            while (chosen := self._first_of_each(labels, task.classes)) is not None:
                yield images[chosen], labels[chosen]
                batches += 1
                images, labels = images[~chosen], labels[~chosen]
        if not batches:
            self.check_images(torch.bincount(labels, minlength=task.classes), lambda: True)

    def check_images(self, counts: Tensor, accepts_one: Callable[[], bool]) -> None:
        """`pruners.base.ReadsImages`."""
        rarest = int(counts.argmin())
        if int(counts[rarest]) < self.per_class:
            raise ValueError(
                f"source.per_class={self.per_class}: class {rarest} has {int(counts[rarest])}"
                " training images; take fewer per class, a larger train_fraction, or source=train"
            )

    def _first_of_each(self, labels: Tensor, classes: int) -> Tensor | None:
        """Bool (n,): the first per_class entries of every class among `labels` (n,).

        None if a class has fewer.
        """
        so_far = F.one_hot(labels, classes).cumsum(dim=0)  # (n, classes)
        if not len(labels) or int(so_far[-1].min()) < self.per_class:
            return None
        return so_far.gather(1, labels[:, None]).squeeze(1) <= self.per_class


def noise_stream(task: Task) -> Generator:
    """Separate generator for the noise of this stage and pruning round."""
    digest = hashlib.sha256(f"{task.rng.initial_seed()}/source/{task.round}".encode()).digest()
    # manual_seed takes a signed 64-bit number
    return Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def _labels(count: int, task: Task, rng: Generator) -> Tensor:
    return torch.randint(task.classes, (count,), generator=rng)


def _refuse_single(batch_size: int) -> None:
    if batch_size < 2:
        raise ValueError(
            f"source.batch_size={batch_size} must be at least 2: BatchNorm needs two examples"
        )
