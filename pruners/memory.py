"""Memory of derivatives: bytes that a graph holds for its backward passes, and images that fit.

Nearly all memory of a derivative is the tensors that autograd saves, and their size is linear in
the number of images: fixed + each * images. Both numbers are measured on a few images of the batch
itself, with the very computation that follows, so they hold for every net, type and order.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf
from types import TracebackType

import torch
from torch import Tensor, nn

GIB = 2**30
PROBED = 2  # images of the first measurement, the fewest that BatchNorm accepts


class SavedBytes:
    """Counts the bytes of all tensors that autograd saves while this context is entered.

    A storage counts once, from the moment at which a graph saves it until no graph holds it.

    Args:
        apart: tensors that exist anyway, such as weights and inputs; their storages do not count.

    Attributes:
        now: bytes that graphs hold at present.
        peak: the most that they held.
    """

    def __init__(self, apart: Iterable[Tensor] = ()) -> None:
        self.now = self.peak = 0
        self._apart = {t.untyped_storage().data_ptr() for t in apart}
        self._uses: dict[int, int] = {}  # address of a storage -> how often it is saved
        self._hooks = torch.autograd.graph.saved_tensors_hooks(self._pack, lambda held: held.tensor)

    def __enter__(self) -> "SavedBytes":
        self._hooks.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._hooks.__exit__(kind, error, at)

    def _pack(self, t: Tensor) -> "_Held":
        t = t.detach()  # a node that saves its own output would otherwise never be freed
        storage = t.untyped_storage()
        address = storage.data_ptr()
        if address in self._apart:
            return _Held(t)
        if not self._uses.get(address):
            self.now += storage.nbytes()
            self.peak = max(self.peak, self.now)
        self._uses[address] = self._uses.get(address, 0) + 1
        return _Held(t, self)

    def release(self, t: Tensor) -> None:
        """Count one use less of a saved tensor."""
        storage = t.untyped_storage()
        self._uses[storage.data_ptr()] -= 1
        if not self._uses[storage.data_ptr()]:
            self.now -= storage.nbytes()


class _Held:
    """A saved tensor, which a graph holds until it is freed."""

    def __init__(self, tensor: Tensor, count: SavedBytes | None = None) -> None:
        self.tensor, self._count = tensor, count

    def __del__(self) -> None:
        if self._count is not None:
            self._count.release(self.tensor)


@dataclass(frozen=True)
class Need:
    """Bytes that a computation takes for a number of images.

    Args:
        fixed: for any number of images.
        each: for each image.
        images: for which it was measured, at most.
    """

    fixed: float
    each: float
    images: int

    def of(self, images: int) -> float:
        """Bytes for so many images."""
        return self.fixed + self.each * images

    def within(self, memory: float, vectors: float = 0.0) -> int:
        """The number of images that fit in `memory` bytes, at least one.

        Args:
            vectors: bytes of the bound that something else takes, and `memory` does not contain.

        Raises:
            ValueError: not even one image fits.
        """
        if self.each <= 0:
            return self.images if self.fixed <= memory else self._refuse(memory, vectors)
        fit = int((memory - self.fixed) // self.each) if memory < inf else self.images
        return fit if fit >= 1 else self._refuse(memory, vectors)

    def _refuse(self, memory: float, vectors: float) -> int:
        least = (self.fixed + self.each + vectors) / GIB
        beside = f" beside {vectors / GIB:.2g} GiB of Lanczos vectors" if vectors else ""
        fewer = ", fewer steps or probes" if vectors else ""
        raise ValueError(
            f"env.memory_gb={(memory + vectors) / GIB:.2g} is not enough for the derivatives of one"
            f" image{beside}, which take {least:.2g} GiB with this net: set"
            f" env.memory_gb={least * 1.1:.2g} or more, take a device with more memory{fewer}, or a"
            " smaller net or image (dataset.size)"
        )


def measured(images: int, cost: Callable[[int], float]) -> Need:
    """What a computation on up to `images` images needs, from two measurements.

    Args:
        cost: bytes that the computation takes on so many images.
    """
    few, more = min(PROBED, images), min(2 * PROBED, images)
    used = cost(few)
    if more == few:
        return Need(0.0, used / few, images)
    each = max(0.0, (cost(more) - used) / (more - few))
    return Need(max(0.0, used - few * each), each, images)


def at_once(images: int, memory: float, cost: Callable[[int], float]) -> int:
    """Images of each part of a batch of `images` whose computation takes at most `memory` bytes.

    All of them if they fit; else parts of nearly equal size, as few as possible.

    Args:
        cost: as for `measured`.

    Raises:
        ValueError: not even one image fits.
    """
    few = min(PROBED, images)
    if memory == inf or not images or cost(few) * -(-images // few) <= memory:
        return images  # nearly always, after one measurement
    return equal_parts(images, measured(images, cost).within(memory))


def equal_parts(images: int, most: int) -> int:
    """Size of the fewest parts of `images` with at most `most` in each, nearly equal in size."""
    parts = -(-images // max(1, most))
    return -(-images // parts)


def tensors_of(net: nn.Module) -> list[Tensor]:
    """Parameters and buffers of a net, which exist without any graph."""
    return [*net.parameters(), *net.buffers()]


@contextmanager
def same_draws(device: torch.device) -> Iterator[None]:
    """Let layers such as dropout draw the same numbers in every such block, and none outside."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(torch.initial_seed())
        yield
