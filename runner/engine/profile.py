"""env.profile=true: where the time of a run goes.

The times are those of the thread that trains. It waits for its device before and after each batch,
so that the device's work counts where it was requested. Batches that are read ahead cost no reading
here, unless the training has to wait for them.
"""

import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, Final, cast

import torch
from torch import Generator, Tensor
from torch.overrides import TorchFunctionMode

from pruners.base import Batch
from runner.data.base import Data, Device, Images, Wanted
from runner.data.batches import Batches, TrainingBatches
from runner.engine.distributed import ProcessGroup

READING, COPYING, COMPUTING, WAITING = PHASES = ("reading", "copying", "computing", "waiting")
PROFILE: Final = "profile"  # key in a record's provenance: seconds by phase


@dataclass
class Profile:
    """The seconds of a run by phase.

    reading: read, decode and augment images. copying: from the host to the device. waiting: for
    other processes, until all have their share of a training batch. computing: all other time of
    the stages, with the exchange of gradients.
    """

    group: ProcessGroup
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PHASES, 0.0))

    @contextmanager
    def stage(self) -> Iterator[None]:
        """Count the time of a stage that is in no other phase as computing."""
        before, started = sum(self.seconds.values()), time.perf_counter()
        try:
            yield
        finally:
            self._synchronize()
            others = sum(self.seconds.values()) - before
            self.seconds[COMPUTING] += time.perf_counter() - started - others

    def read(self, batches: Iterable[Batch], together: bool = False) -> Iterator[Batch]:
        """The batches; the time for each is reading, copying and waiting.

        Args:
            together: whether all processes iterate, so that each waits for the slowest.
        """
        iterator, end = iter(batches), object()
        while (batch := self._next(iterator, end)) is not end:
            if together and self.group.size > 1:
                started = time.perf_counter()
                self.group.wait()
                self.seconds[WAITING] += time.perf_counter() - started
            yield batch

    def _next(self, iterator: Iterator[Batch], end: object) -> Any:
        self._synchronize()  # the work before this batch
        started = time.perf_counter()
        with _Copies() as copies:
            batch = next(iterator, end)
        read = time.perf_counter()
        self._synchronize()
        copying = copies.seconds + time.perf_counter() - read
        self.seconds[COPYING] += copying
        self.seconds[READING] += time.perf_counter() - started - copying
        return batch

    def _synchronize(self) -> None:
        """Wait for the device."""
        if self.group.device.type != "cpu":
            torch.accelerator.synchronize(self.group.device)

    def total(self) -> dict[str, float]:
        """The seconds by phase, summed over all processes; all of them call this."""
        sums = torch.tensor([self.seconds[phase] for phase in PHASES], dtype=torch.float64)
        return dict(zip(PHASES, self.group.total(sums).tolist(), strict=True))


class _Copies(TorchFunctionMode):
    """Measures the time of copies between devices in this thread."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds = 0.0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        started = time.perf_counter()
        result = func(*args, **(kwargs or {}))
        devices = {each.device for each in (*args, result) if isinstance(each, Tensor)}
        if len(devices) > 1:
            self.seconds += time.perf_counter() - started
        return result


@dataclass(frozen=True, eq=False)
class ProfiledImages:
    """Images the time of whose reading is measured.

    Args:
        together: whether all processes read them at the same time.
    """

    images: Images
    profile: Profile
    together: bool = False

    @property
    def augments(self) -> tuple[str, ...]:
        """Those of the images."""
        return self.images.augments

    @property
    def labels(self) -> Tensor:
        """The labels (N,)."""
        return self.images.labels

    def __len__(self) -> int:
        return len(self.images)

    def to(self, device: Device, workers: int = 0) -> Images:
        """The images on another device."""
        return _as_images(replace(self, images=self.images.to(device, workers)))

    def take(self, indices: Tensor) -> Images:
        """The images at these indices."""
        return _as_images(replace(self, images=self.images.take(indices)))

    def draws(self, count: int, rng: Generator) -> Tensor:
        """The random numbers that augment `count` images."""
        return self.images.draws(count, rng)

    def read(self, wanted: Wanted, augment: str) -> Iterator[Batch]:
        """Yield the requested batches."""
        return self.profile.read(self.images.read(wanted, augment), self.together)


def _as_images(images: ProfiledImages) -> Images:
    return cast(Images, images)  # `augments` is an attribute of a class there


def measuring(profile: Profile | None) -> AbstractContextManager[None]:
    """The context of a stage whose time is measured, if there is a profile."""
    return nullcontext() if profile is None else profile.stage()


def watched(data: Data, profile: Profile | None) -> Data:
    """The data, the time of whose reading is measured; the same data without a profile."""
    if profile is None:
        return data
    validation = data.validation and _as_images(ProfiledImages(data.validation, profile))
    return replace(
        data,
        train=_as_images(ProfiledImages(data.train, profile)),
        validation=validation,
        test=_as_images(ProfiledImages(data.test, profile)),
    )


def read_together(batches: TrainingBatches) -> TrainingBatches:
    """Training batches that all processes read at the same time."""
    if isinstance(batches, Batches) and isinstance(batches.split, ProfiledImages):
        return replace(batches, split=_as_images(replace(batches.split, together=True)))
    return batches


def shares(seconds: dict[str, float]) -> str:
    """The share of each phase as text."""
    total = sum(seconds.values())
    parts = (f"{phase} {100 * each / total:.0f} %" for phase, each in seconds.items())
    return (
        f"profile: {', '.join(parts)} of {total:.1f} s"
        if total
        else "profile: nothing was computed"
    )
