"""Signal handlers that stop a run at a checkpoint."""

import math
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from runner.errors import EXIT_INTERRUPTED

# Windows has none of them.
SCHEDULERS_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGUSR1", "SIGUSR2") if hasattr(signal, name)
)
SAME_REQUEST = 1.0  # seconds


class StopRequests:
    """Counts the requests to stop among the stop signals that a process receives.

    `timeout`, `make` and batch systems send one request as several signals: to a process, to its
    group, to all processes of a job. Signals within `SAME_REQUEST` seconds are one request.
    """

    def __init__(self) -> None:
        self.count = 0
        self.since = -math.inf

    def add(self) -> bool:
        """Count a signal that has just arrived; whether it is a new request."""
        now = time.monotonic()
        new = now - self.since >= SAME_REQUEST
        if new:
            self.count, self.since = self.count + 1, now
        return new


class StopRequest:
    """A flag that becomes true on SIGTERM, Ctrl-C or a scheduler's signal.

    A training then stops at a checkpoint. The second Ctrl-C raises KeyboardInterrupt at once. Later
    ones are ignored until `ended` is true, which means that the final status has been written; then
    they end the process.
    """

    def __init__(self) -> None:
        self.event = threading.Event()
        self.requests = StopRequests()
        self.before: dict[int, Any] = {}
        self.schedulers: list[int] = []
        self.interrupted = False
        self.ended = False

    def __call__(self) -> bool:
        return self.event.is_set()

    def ask(self, number: int, frame: Any) -> None:
        """The signal handler."""
        new = self.requests.add()
        if self.event.is_set() and number == signal.SIGINT:
            if new and self.ended:
                os._exit(EXIT_INTERRUPTED)
            if new and not self.interrupted:
                self.interrupted = True
                raise KeyboardInterrupt
            return
        if number in SCHEDULERS_SIGNALS:
            self.schedulers.append(number)
        self.event.set()

    def pass_on(self) -> None:
        """Call the scheduler's own handlers after the checkpoint has been written.

        They requeue the job and end the process.
        """
        for number in self.schedulers:
            self.before[number](number, None)


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Install the signal handlers, and restore the previous ones at the end.

    A scheduler's signals are handled only where it has installed handlers itself (submitit: USR2).
    """
    request = StopRequest()
    if threading.current_thread() is threading.main_thread():
        theirs = [number for number in SCHEDULERS_SIGNALS if callable(signal.getsignal(number))]
        request.before = {
            number: signal.signal(number, request.ask)
            for number in (signal.SIGTERM, signal.SIGINT, *theirs)
        }
    try:
        yield request
    finally:
        for number, handler in request.before.items():
            signal.signal(number, handler)
