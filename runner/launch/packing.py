"""Which slots a job gets: a job of several cards needs as many slots, on different cards.

Slots are numbers from 0. All functions depend on their arguments only.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Waiting:
    """A job that could start.

    Args:
        name: unique among the jobs of a queue.
        size: how many slots it needs.
    """

    name: str
    size: int


@dataclass(frozen=True)
class Placement:
    """A job that starts now, and its slots."""

    name: str
    slots: tuple[int, ...]


@dataclass
class Packing:
    """First fit in the order of the jobs; no later job can hold up one that does not fit.

    The first job that does not fit reserves slots. Jobs after it start in the other slots only, so
    that it waits at most for the jobs that ran when it reserved them. It reserves the slots of the
    largest running jobs, so that free slots stay open to small jobs.

    Args:
        gpus: the GPU of each slot; None = the slot has cores only. A GPU can have several slots.
    """

    gpus: Sequence[str | None]
    reserved_for: str = ""
    reserved: frozenset[int] = frozenset()

    @property
    def largest(self) -> int:
        """The size of the largest job that fits when nothing runs."""
        return len(distinct(range(len(self.gpus)), self.gpus))

    def next(
        self,
        waiting: Sequence[Waiting],
        running: Sequence[tuple[int, ...]],
        unusable: Collection[int] = (),
    ) -> Placement | None:
        """The next job to start, and where; None if no job can start now.

        Args:
            waiting: the jobs that could start, in order.
            running: the slots of each running job, the oldest first.
            unusable: free slots whose GPU has too little memory now.
        """
        taken = {slot for slots in running for slot in slots} | set(unusable)
        free = [slot for slot in range(len(self.gpus)) if slot not in taken]
        kept: frozenset[int] | None = None
        for job in waiting:
            found = self._fitting(job.size, [slot for slot in free if slot not in (kept or ())])
            if found:
                return Placement(job.name, found)
            if kept is None:
                kept = self._reserve(job, running, free)
        return None

    def _fitting(self, size: int, slots: Sequence[int]) -> tuple[int, ...]:
        """The first `size` of these slots that are on different GPUs; empty if there are fewer."""
        found = distinct(slots, self.gpus)
        return found[:size] if len(found) >= size else ()

    def _reserve(
        self, job: Waiting, running: Sequence[tuple[int, ...]], free: Sequence[int]
    ) -> frozenset[int]:
        """The slots that are kept for a job; they stay the same while they can become free."""
        usable = [slot for slots in sorted(running, key=len, reverse=True) for slot in slots]
        usable += free
        if self.reserved_for != job.name or not self.reserved.issubset(usable):
            self.reserved_for = job.name
            self.reserved = frozenset(self._fitting(job.size, usable))
        return self.reserved


def distinct(slots: Sequence[int], gpus: Sequence[str | None]) -> tuple[int, ...]:
    """These slots without those on the GPU of an earlier one."""
    found: list[int] = []
    used = set[str]()
    for slot in slots:
        gpu = gpus[slot]
        if gpu is None or gpu not in used:
            found.append(slot)
            used |= {gpu} if gpu is not None else set()
    return tuple(found)
