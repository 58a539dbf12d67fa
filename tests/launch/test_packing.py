"""Jobs of several sizes on the slots of a queue, simulated: no slot twice, no large job starves."""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.launch.packing import Packing, Waiting, distinct


@dataclass
class Simulation:
    """A queue whose jobs take given times.

    Args:
        gpus: of each slot.
        jobs: size and duration of each job, in order; all could start at once.
    """

    gpus: Sequence[str | None]
    jobs: Sequence[tuple[int, int]]
    slots: dict[int, tuple[int, ...]] = field(default_factory=dict)  # of started jobs
    started: dict[int, int] = field(default_factory=dict)
    ends: dict[int, int] = field(default_factory=dict)
    promised: dict[int, int] = field(default_factory=dict)  # job -> latest start, once reserved

    def run(self) -> "Simulation":
        packing, now, running = Packing(self.gpus), 0, list[tuple[int, int]]()
        waiting = list(range(len(self.jobs)))
        while waiting or running:
            while found := packing.next(
                [Waiting(str(job), self.jobs[job][0]) for job in waiting],
                [self.slots[job] for _, job in sorted(running, key=self.age)],
            ):
                job = int(found.name)
                waiting.remove(job)
                self.slots[job], self.started[job] = found.slots, now
                self.ends[job] = now + self.jobs[job][1]
                heapq.heappush(running, (self.ends[job], job))
            assert running, "jobs wait, and nothing runs"
            self.check(now, packing, waiting, [job for _, job in running])
            now, ended = heapq.heappop(running)
        return self

    def age(self, item: tuple[int, int]) -> int:
        return self.started[item[1]]

    def check(self, now: int, packing: Packing, waiting: list[int], running: list[int]) -> None:
        taken = [slot for job in running for slot in self.slots[job]]
        assert len(set(taken)) == len(taken)
        free = [slot for slot in range(len(self.gpus)) if slot not in taken]
        for job in waiting:  # whoever fits beside the reservation runs
            kept = packing.reserved if job != waiting[0] else frozenset()
            usable = distinct([slot for slot in free if slot not in kept], self.gpus)
            assert len(usable) < self.jobs[job][0]
        if waiting:
            latest = max(self.ends[job] for job in running)
            self.promised.setdefault(waiting[0], latest)


SIZES = st.lists(st.tuples(st.integers(1, 8), st.integers(1, 20)), min_size=1, max_size=25)


@given(SIZES, st.integers(1, 8), st.integers(1, 3))
def test_every_job_runs_on_different_gpus_and_none_waits_for_a_job_that_started_after_it(
    jobs: list[tuple[int, int]], cards: int, shared: int
) -> None:
    gpus = [str(card) for _ in range(shared) for card in range(cards)]
    fitting = [(min(size, cards), seconds) for size, seconds in jobs]
    done = Simulation(gpus, fitting).run()
    assert len(done.started) == len(jobs)
    for job, slots in done.slots.items():
        assert len(slots) == fitting[job][0] == len({gpus[slot] for slot in slots})
    # The first job in the order starts at the latest when the jobs that ran then have ended.
    assert all(done.started[job] <= latest for job, latest in done.promised.items())


@given(SIZES, st.integers(8, 12))
def test_slots_of_cores_have_no_cards(jobs: list[tuple[int, int]], slots: int) -> None:
    done = Simulation([None] * slots, jobs).run()
    assert {len(done.slots[job]) for job in range(len(jobs))} == {size for size, _ in jobs}


@given(st.lists(st.integers(1, 20), min_size=1, max_size=20), st.integers(1, 5))
def test_jobs_of_one_slot_never_leave_a_slot_idle(seconds: list[int], slots: int) -> None:
    done = Simulation([None] * slots, [(1, each) for each in seconds]).run()
    ends = [0] * slots  # list scheduling: the next job starts where a slot is free first
    for job, each in enumerate(seconds):
        assert done.started[job] == min(ends)
        ends[ends.index(min(ends))] += each


def test_a_large_job_is_not_overtaken_for_ever() -> None:
    # Two slots: a job of two waits for the long job, and no small one starts beside that.
    done = Simulation([None, None], [(1, 10), (2, 1), *[(1, 1)] * 30]).run()
    assert done.started[1] == 10
    assert min(done.started[job] for job in range(2, 32)) == 11


def test_small_jobs_run_beside_the_reservation_of_a_large_one() -> None:
    # Eight slots: of four jobs of three, two run. The third will get the slots of the first, so
    # that the free two are open to the jobs of one slot.
    done = Simulation([None] * 8, [*[(3, 10)] * 4, *[(1, 5)] * 4]).run()
    assert [done.started[job] for job in range(8)] == [0, 0, 10, 10, 0, 0, 5, 5]


def test_a_reservation_moves_when_its_free_gpu_has_too_little_memory() -> None:
    packing = Packing(["0", "1", "2"])
    large = [Waiting("large", 2), Waiting("small", 1)]
    assert packing.next(large, [(0,)], unusable={2}) is None  # 0 and 1 are reserved
    assert packing.reserved == {0, 1}
    found = packing.next(large, [(0,)], unusable={1})
    assert packing.reserved == {0, 2} and found is None
    found = packing.next(large, [(0,)])
    assert found is not None and (found.name, found.slots) == ("large", (1, 2))


@pytest.mark.parametrize(
    ("gpus", "largest"), [(["0", "1", "0", "1"], 2), ([None] * 4, 4), (["MIG-a"], 1)]
)
def test_the_largest_job_has_each_gpu_once(gpus: list[str | None], largest: int) -> None:
    assert Packing(gpus).largest == largest
