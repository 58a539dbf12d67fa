"""Processes of a group (gloo) for a test: forks of a server that has imported torch."""

import multiprocessing
import os
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["runner.commands.run", "support", "pytest"])
SECONDS = 500.0  # until a test counts as hanging


def _member(
    target: Callable[..., None], rank: int, size: int, folder: Path, more: tuple[Any, ...]
) -> None:
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    try:
        address = f"file://{folder / f'meeting{size}'}"
        dist.init_process_group("gloo", init_method=address, rank=rank, world_size=size)
        target(rank, size, folder, *more)
        dist.barrier()  # a process that ends closes the connections of the others
    except BaseException:
        (folder / f"error{rank}").write_text(traceback.format_exc())
        raise
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


class Members:
    """Processes that call `target(rank, size, folder, *more)` as a group.

    Args:
        target: a function of a module. It is called in `size` processes at a time.
        folder: where the processes meet, and write what they find.
    """

    def __init__(self, target: Callable[..., None], size: int, folder: Path, *more: Any) -> None:
        self.folder = folder
        self.processes = [
            FORKS.Process(target=_member, args=(target, rank, size, folder, more))
            for rank in range(size)
        ]
        for process in self.processes:
            process.start()

    def join(self) -> None:
        """Wait for the end of all; each has to have ended without an error."""
        for process in self.processes:
            process.join(SECONDS)
            process.kill()
        errors = [path.read_text() for path in sorted(self.folder.glob("error*"))]
        assert not errors and all(process.exitcode == 0 for process in self.processes), errors


def run_members(target: Callable[..., None], size: int, folder: Path, *more: Any) -> None:
    """Call `target(rank, size, folder, *more)` in each process of a group of `size`."""
    Members(target, size, folder, *more).join()
