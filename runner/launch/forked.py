"""A process that another one has forked, and that is a child of this one all the same."""

import os
import select
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass
class Forked:
    """A job that is a child of this process, with the methods of `subprocess.Popen`."""

    pid: int
    returncode: int | None = None

    def poll(self) -> int | None:
        """Exit code, or minus the signal that ended it; None while it runs."""
        return self._ended(os.WNOHANG)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end; the exit code as for `poll`.

        Raises:
            subprocess.TimeoutExpired: it has not ended after `timeout` seconds.
        """
        if timeout is not None and self.poll() is None:
            with _watched(self.pid) as number:
                if not select.select([number], [], [], timeout)[0]:
                    raise subprocess.TimeoutExpired(str(self.pid), timeout)
        code = self._ended(0)
        assert code is not None
        return code

    def send_signal(self, number: int) -> None:
        """Send it a signal, if it has not ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send it SIGTERM, if it has not ended."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kill it, if it has not ended."""
        self.send_signal(signal.SIGKILL)

    def _ended(self, options: int) -> int | None:
        if self.returncode is None:
            try:
                pid, status = os.waitpid(self.pid, options)
            except ChildProcessError:  # SIGCHLD is ignored: the code is lost, as for Popen
                pid, status = self.pid, 0
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode


@contextmanager
def _watched(pid: int) -> Iterator[int]:
    """A descriptor that is readable when the process has ended."""
    number = os.pidfd_open(pid)
    try:
        yield number
    finally:
        os.close(number)
