"""Training by a team: two processes of one thread beside one process of two threads."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection

import torch
import torch.distributed as dist

from runner.bench.figures import Figure
from runner.bench.timing import Comparison, compare
from runner.bench.training import LARGE, epoch_of, images_of
from runner.engine.distributed import ProcessGroup

PROCESSES = 2


def team_figure(name: str, rounds: int) -> Figure:
    """Measure an epoch of ResNet-20 on the CPU; ratio = the speed of the team / of one process."""
    size, channels, images, augment = LARGE
    alone = epoch_of(images_of(images, channels, size), augment, torch.device("cpu"))
    threads = torch.get_num_threads()
    torch.set_num_threads(PROCESSES)
    try:
        with _team() as members:
            return compare(
                Comparison(
                    name,
                    f"an epoch of ResNet-20, {channels}x{size}x{size}, two processes of one thread",
                    "one process of two threads",
                    lambda: _epoch(members),
                    alone,
                ),
                rounds,
            )
    finally:
        torch.set_num_threads(threads)


def _epoch(members: list[Connection]) -> None:
    for member in members:
        member.send(True)
    for member in members:
        member.recv()


@contextmanager
def _team() -> Iterator[list[Connection]]:
    """Connections to the processes of a team, which train an epoch for each message."""
    context = get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        pipes = [context.Pipe() for _ in range(PROCESSES)]
        processes = [
            context.Process(target=_member, args=(rank, f"{folder}/meeting", theirs), daemon=True)
            for rank, (_, theirs) in enumerate(pipes)
        ]
        for process in processes:
            process.start()
        members = [ours for ours, _ in pipes]
        try:
            for member in members:
                member.recv()  # all have met
            yield members
        finally:
            for member in members:
                member.send(False)
            for process in processes:
                process.join(30)


def _member(rank: int, meeting: str, orders: Connection) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{meeting}", rank=rank, world_size=PROCESSES
    )
    size, channels, images, augment = LARGE
    group, data = ProcessGroup(rank, PROCESSES), images_of(images, channels, size)
    epoch = epoch_of(data, augment, group.device, group=group)
    orders.send(True)
    while orders.recv():
        epoch()
        orders.send(True)
    dist.destroy_process_group()
