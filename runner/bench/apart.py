"""Work in a process of its own, for settings that are one of a process, such as the allocator's."""

import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Generic, TypeVar

import torch

Result = TypeVar("Result")


class Apart(Generic[Result]):
    """Work that a process of its own does whenever it is called; its result must be picklable.

    The process starts at the first call with as many threads of torch as this one has, and ends
    with it at the latest.

    Args:
        prepare: called once in that process; returns the work. It must be picklable.
    """

    def __init__(self, prepare: Callable[[], Callable[[], Result]]) -> None:
        self._prepare = prepare
        self._pipe: Connection | None = None

    def __call__(self) -> Result:
        """Let the process do the work once.

        Raises:
            EOFError: the process has ended, after printing why.
        """
        if self._pipe is None:
            self._pipe = self._start()
        self._pipe.send(True)
        result: Result = self._pipe.recv()
        return result

    def _start(self) -> Connection:
        context = multiprocessing.get_context("spawn")
        here, there = context.Pipe()
        arguments = (there, self._prepare, torch.get_num_threads())
        context.Process(target=_serve, args=arguments, daemon=True).start()
        there.close()
        return here

    def close(self) -> None:
        """End the process."""
        if self._pipe is not None:
            self._pipe.close()
            self._pipe = None


def _serve(pipe: Connection, prepare: Callable[[], Callable[[], Result]], threads: int) -> None:
    torch.set_num_threads(threads)
    work = prepare()
    try:
        while pipe.recv():
            pipe.send(work())
    except EOFError:  # the caller has closed its end
        pass
