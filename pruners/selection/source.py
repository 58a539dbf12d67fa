"""Data that a score uses: the option group `source`.

A source is `(task) -> batches`. Within one pruning round, every call gives the same batches.

Noise is drawn in normalised space, where the training set has mean 0 and variance 1
(docs/decisions.md 7), and anew in each pruning round ("Pruning at Initialization - A Sketching
Perspective", arXiv:2305.17559, Sec. 8). Its generator is derived from the seed of the stage's
stream and does not advance that stream. The paper specifies no labels for its noise; ours are
uniform over the classes. A source with `trains = True` can also replace a whole training set; its
option `fresh` draws every batch of the training anew, where the paper does not say which. A source
with `labelled = False` gives a single image with a meaningless label, for scores that read
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
READ = 1000  # images that source=balanced reads at a time, at most
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
        fresh: as a training set: False is one fixed set of images, True draws every batch anew, of
            the training's batch size.
    """

    tag: ClassVar[str] = "normal"
    trains: ClassVar[bool] = True
    batch_size: int = 256
    fresh: bool = False

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
        fresh: as for Normal. Each place is then non-zero in one image of every batch.
    """

    tag: ClassVar[str] = "sparse_normal"
    trains: ClassVar[bool] = True
    batch_size: int = 256
    location: Location = "pixel"
    fresh: bool = False

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
            with ResNet-32, 1 on Tiny-ImageNet; docs/methods/grasp.md). They take ImageNet's images
            at random (`Train`).
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

        Only the images of one batch are held; each batch reads the pass from its beginning.

        Raises:
            ValueError: the training set cannot fill one batch.
        """
        number = 0
        while (batch := self._batch(task, number)) is not None:
            yield batch
            number += 1

    def _batch(self, task: Task, number: int) -> Batch | None:
        """The batch of that number, from 0; None if a class has too few images.

        Its images of a class are those after the first number * per_class in the pass.

        Raises:
            ValueError: the first batch cannot be filled.
        """
        first, wanted = number * self.per_class, self.per_class * task.classes
        seen = torch.zeros(task.classes, dtype=torch.int64)
        parts: list[Batch] = []
        for x, y in task.batches(min(wanted, READ)):
            places = seen[None].to(y.device) + F.one_hot(y, task.classes).cumsum(dim=0)  # from 1
            place = places.gather(1, y[:, None]).squeeze(1)  # (n,), of each image in its class
            seen = places[-1].cpu()
            chosen = (place > first) & (place <= first + self.per_class)
            if chosen.any():  # an empty part would change the memory format of the batch
                parts.append((x[chosen], y[chosen]))
            if int(seen.min()) >= first + self.per_class:
                images, labels = zip(*parts, strict=True)
                return torch.cat(images), torch.cat(labels)
        if not number:
            self.check_images(seen, lambda: True)
        return None

    def check_images(self, counts: Tensor, accepts_one: Callable[[], bool]) -> None:
        """`pruners.base.ReadsImages`."""
        rarest = int(counts.argmin())
        if int(counts[rarest]) < self.per_class:
            raise ValueError(
                f"source.per_class={self.per_class}: class {rarest} has {int(counts[rarest])}"
                " training images; take fewer per class, a larger train_fraction, or source=train"
            )


@dataclass(frozen=True)
class Examples:
    """The batches of a source on a device; every iteration gives the same ones.

    Args:
        source: None = no batches.
    """

    source: Callable[[Task], Iterable[Batch]] | None
    task: Task
    device: torch.device

    def __iter__(self) -> Iterator[Batch]:
        for x, y in self.source(self.task) if self.source else ():
            # non_blocking: the host does not wait for the work before this batch
            yield x.to(self.device, non_blocking=True), y.to(self.device, non_blocking=True)


@dataclass
class Counted:
    """The same batches.

    Args:
        images: in the longest pass so far.
    """

    batches: Iterable[Batch]
    images: int = 0

    def __iter__(self) -> Iterator[Batch]:
        images = 0
        for x, y in self.batches:
            images += len(y)
            self.images = max(self.images, images)
            yield x, y


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
