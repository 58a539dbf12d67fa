"""Threads that decode images, as long as the process lives.

Decoding, scaling and reading release the interpreter's lock, so threads are as fast as processes
(measured: docs/data_sets.md) without copies between them: nothing is sent through /dev/shm, no
process can be killed apart from the run, and no pass over the images begins with a fork.
"""

import os
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from threading import Barrier

import torch


@cache
def decoders(threads: int) -> ThreadPoolExecutor:
    """Return the process' pool of that many threads, each with one thread of torch's own."""
    pool, all_here, of_torch = (
        ThreadPoolExecutor(threads),
        Barrier(threads),
        torch.get_num_threads(),
    )

    def begin() -> None:
        torch.get_num_threads()  # otherwise the first operation sets it to the process' number
        torch.set_num_threads(1)  # of this thread, and the default of new threads
        all_here.wait()

    wait([pool.submit(begin) for _ in range(threads)])
    torch.set_num_threads(of_torch)
    return pool


if hasattr(os, "register_at_fork"):  # a fork has none of these threads
    os.register_at_fork(after_in_child=decoders.cache_clear)
