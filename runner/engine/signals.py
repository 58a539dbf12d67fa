"""Signals that ask a run to stop at a checkpoint."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

SCHEDULERS_SIGNALS = (signal.SIGUSR1, signal.SIGUSR2)


class StopRequest:
    """Turns true on SIGTERM, on Ctrl-C and on a scheduler's signal, so that a training can end at a checkpoint; a second Ctrl-C ends at once."""

    def __init__(self) -> None:
        self.event = threading.Event()
        self.before: dict[int, Any] = {}
        self.schedulers: list[int] = []

    def __call__(self) -> bool:
        return self.event.is_set()

    def ask(self, number: int, frame: Any) -> None:
        """The signal handler."""
        if self.event.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        if number in SCHEDULERS_SIGNALS:
            self.schedulers.append(number)
        self.event.set()

    def pass_on(self) -> None:
        """Now that the checkpoint is there, let the scheduler's own handler do what it would have done at once: requeue the job and end the process."""
        for number in self.schedulers:
            self.before[number](number, None)


@contextmanager
def asked_to_stop() -> Iterator[StopRequest]:
    """Listen to signals; what was set before is put back at the end. A scheduler's signals count where it listens to them itself (submitit: USR2)."""
    request = StopRequest()
    if threading.current_thread() is threading.main_thread():
        theirs = [number for number in SCHEDULERS_SIGNALS if callable(signal.getsignal(number))]
        request.before = {number: signal.signal(number, request.ask) for number in (signal.SIGTERM, signal.SIGINT, *theirs)}
    try:
        yield request
    finally:
        for number, handler in request.before.items():
            signal.signal(number, handler)
