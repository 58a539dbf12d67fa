"""Decisions that all processes of a training take in the same step, without waiting in each."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.distributed as dist
from torch import Tensor

from runner.engine.distributed import ProcessGroup

EVERY = 10  # steps between two votes


@dataclass(frozen=True)
class Wishes:
    """Whether to stop, and whether to save a checkpoint: of one process, or agreed on."""

    stop: bool = False
    save: bool = False


@dataclass
class _Vote:
    """A vote under way: the sums of all wishes, which arrive while the processes train on."""

    sums: Tensor
    work: dist.Work | None

    def result(self) -> Wishes:
        if self.work:
            self.work.wait()
        stop, save = (self.sums > 0).tolist()
        return Wishes(stop, save)


@dataclass
class Agreement:
    """What the processes of a group do next.

    A single process does what it wishes, in every step. Several processes vote in every tenth step
    and act on the result ten steps later, when it has arrived at all of them.
    """

    group: ProcessGroup
    _vote: _Vote | None = field(default=None, init=False)

    def reached(self, step: int, wishes: Callable[[], Wishes]) -> Wishes:
        """What all processes do after `step`, which all of them count alike."""
        if self.group.size == 1:
            return wishes()
        if step % EVERY:
            return Wishes()
        agreed, own = self.close(), wishes()
        sums = torch.tensor([float(own.stop), float(own.save)])
        self._vote = _Vote(sums, dist.all_reduce(sums, async_op=True))
        return agreed

    def close(self) -> Wishes:
        """The result of the vote under way, after which there is none."""
        vote, self._vote = self._vote, None
        return vote.result() if vote else Wishes()


@dataclass
class Session:
    """A training's start, moved back by earlier sessions, its last checkpoint and its decisions."""

    agreement: Agreement
    started: float
    saved: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """Duration of the training so far, over all its sessions."""
        return time.monotonic() - self.started

    def end(self) -> float:
        """Wait for a vote under way; the duration."""
        self.agreement.close()
        return self.seconds
