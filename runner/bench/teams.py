"""Several processes beside one: training and scores on the CPU, and images that are decoded."""

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Generator, Tensor

from pruners.base import full_masks
from pruners.scores.grasp import Grasp
from runner.bench.decoding import CROP, IMAGES, SIZE, files
from runner.bench.figures import Figure
from runner.bench.timing import Comparison, compare
from runner.bench.training import LARGE, MEAN, STD, epoch_of, images_of, net, normalised
from runner.data.augment import ResizedCrop
from runner.data.batches import Batches, evaluation_batches
from runner.data.files import Files
from runner.engine.allocator import keep_freed_memory
from runner.engine.distributed import ALONE, ProcessGroup, connected

PROCESSES = 2
SCORED = 512  # images
Work = Callable[[], object]
Member = Callable[[ProcessGroup], Work]  # what a process of the group does each time


def training_figures(name: str, rounds: int) -> Iterator[Figure]:
    """Measure an epoch of ResNet-20 on the CPU; ratio = the speed of the team / of one process."""
    size, channels, _, _ = LARGE
    work = f"an epoch of ResNet-20, {channels}x{size}x{size}, two processes of one thread"
    yield from _beside_one(name, work, _training, PROCESSES, rounds)


def scores_figures(name: str, rounds: int) -> Iterator[Figure]:
    """Measure GraSP's scores on the CPU; ratio = the speed of two processes / of one."""
    size, channels, _, _ = LARGE
    work = f"GraSP's scores of ResNet-20, {SCORED}x{channels}x{size}x{size}, two processes"
    yield from _beside_one(name, work, _scoring, 1, rounds)


def _beside_one(
    name: str, work: str, member: Member, threads: int, rounds: int
) -> Iterator[Figure]:
    """Compare two processes of one thread with one process of `threads`: speed and CPU time."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with team(member) as ours:
            rival = f"one process of {threads} thread{'s' if threads > 1 else ''}"
            alone = member(ALONE)
            yield compare(Comparison(name, work, rival, ours, alone), rounds)
            torch.set_num_threads(1)  # several would count the time in which they wait and spin
            yield _cpu_time(f"{name}_work", ours, alone, rounds)
    finally:
        torch.set_num_threads(before)


def _cpu_time(name: str, ours: "_Team", alone: Work, rounds: int) -> Figure:
    """Measure the CPU time of all processes beside that of one; ratio = ours / that of one.

    It counts work and no waiting. Other load on the machine lengthens it by what it takes from the
    caches, so that the least of all rounds counts.
    """
    team, one = [], []
    for _ in range(rounds):
        team.append(sum(taken for _, taken in ours.results()))
        one.append(_cpu_seconds(alone)[1])
    rival = "one process of one thread"
    return Figure(name, min(team), "CPU s", rival, min(one), min(team) / min(one))


def _cpu_seconds(work: Work) -> tuple[object, float]:
    """The result of some work, and the CPU time that this process takes for it."""
    before = time.process_time()
    result = work()
    return result, time.process_time() - before


def _training(group: ProcessGroup) -> Work:
    size, channels, images, augment = LARGE
    epoch = epoch_of(images_of(images, channels, size), augment, group.device, group=group)

    def work() -> None:
        epoch()  # its result is not sent

    return work


def _scoring(group: ProcessGroup) -> Work:
    size, channels, _, _ = LARGE
    model, data = net(channels, size, group.device), images_of(SCORED, channels, size)
    masks, batch = full_masks(model), (normalised(data), data.labels)

    def work() -> None:
        rng = Generator().manual_seed(0)
        Grasp()(model, masks, [batch], F.cross_entropy, rng, inf, group)

    return work


def decodes_figure(name: str) -> Figure:
    """Count the images that two processes decode in an epoch; ratio = times each is decoded."""
    with team(_reading) as read:
        decoded = sum(count for count in read() if isinstance(count, int))
    images = 2 * IMAGES
    rival = "images of an epoch and of its evaluation"
    return Figure(name, decoded, "images decoded", rival, images, decoded / images)


class _Counted(Files):
    """Image files that count how many of them are decoded."""

    decoded = 0

    def _image(self, path: Path, draws: Tensor | None, crop: ResizedCrop | None) -> Tensor:
        _Counted.decoded += 1
        return super()._image(path, draws, crop)


def _reading(group: ProcessGroup) -> Callable[[], int]:
    """Return a function that reads an epoch and its evaluation; it returns the images decoded."""
    made = files()
    part = _Counted(made.folder, made.names, made.labels, SIZE)
    batches = Batches(part, MEAN, STD, 255.0, 5, CROP, 0, "bench", group.shard)

    def read() -> int:
        before = _Counted.decoded
        for _ in batches.epoch(0):
            pass
        for _ in evaluation_batches(part, MEAN, STD, 255.0, 7, group.shard):
            pass
        return _Counted.decoded - before

    return read


@dataclass(frozen=True, eq=False)
class _Team:
    """The processes of a group, which do their work each time that this is called."""

    members: list[Connection]

    def __call__(self) -> list[object]:
        """The results of all processes."""
        return [result for result, _ in self.results()]

    def results(self) -> list[tuple[object, float]]:
        """The results of all processes, and the CPU seconds that each took."""
        for member in self.members:
            member.send(True)
        return [member.recv() for member in self.members]


@contextmanager
def team(member: Member) -> Iterator[_Team]:
    """Start processes of one thread that form a group on this machine.

    Args:
        member: a function of a module, which new processes can import.
    """
    context = get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        pipes = [context.Pipe() for _ in range(PROCESSES)]
        processes = [
            context.Process(
                target=_serve, args=(rank, f"{folder}/meeting", theirs, member), daemon=True
            )
            for rank, (_, theirs) in enumerate(pipes)
        ]
        for process in processes:
            process.start()
        members = [ours for ours, _ in pipes]
        try:
            for connection in members:
                connection.recv()  # all have met
            yield _Team(members)
        finally:
            for connection in members:
                connection.send(False)
            for process in processes:
                process.join(30)


def _serve(rank: int, meeting: str, orders: Connection, member: Member) -> None:
    keep_freed_memory()  # as in every run, and in the process that measures
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{meeting}", rank=rank, world_size=PROCESSES
    )
    work = member(connected(torch.device("cpu")))
    orders.send(True)
    while orders.recv():
        orders.send(_cpu_seconds(work))
    dist.destroy_process_group()
