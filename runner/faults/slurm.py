"""Jobs of a real Slurm are requeued, cancelled or killed, then the same sweep again."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from random import Random
from typing import ClassVar

from runner.faults.cases import Home, Stock, discard
from runner.faults.cluster import missing, slurm
from runner.faults.kills import SIGNALS, interrupted, judged, last_of_traceback
from runner.faults.kind import Part, Unavailable
from runner.faults.lab import ROOT, Command, Terms, environment, start_program, typed
from runner.faults.launchers import SEEDS, processes_in, send
from runner.faults.trial import Ended, Trial

OPTIONS = ("hydra/launcher=slurm", "hydra.launcher.cpus_per_task=1", "hydra.launcher.poll_s=0.5")
BEGIN = 60.0  # seconds until a job runs
LATEST = 10.0  # seconds in which a job begins and ends
EMPTY = 120.0  # seconds until the queue is empty; a requeued job waits for its credential


@dataclass(frozen=True)
class SlurmKills:
    """A job of a sweep on Slurm is requeued, cancelled or killed, or the waiting sweep is."""

    name: ClassVar[str] = "slurm"
    title: ClassVar[str] = "requeued, cancelled and killed jobs of Slurm, and their sweep"
    planned: ClassVar[int] = 7

    def trials(self, stock: Stock, rng: Random, part: Part) -> Iterator[Trial]:
        """A trial for each job.

        Raises:
            Unavailable: no Slurm can be started here.
        """
        if missing():
            raise Unavailable(f"not installed: {', '.join(missing())} (slurm-wlm, munge)")
        if os.geteuid() != 0:
            raise Unavailable("only root can start a Slurm of one node")
        with contextlib.ExitStack() as stack:
            try:
                cluster = stack.enter_context(slurm(stock.empty().folder / "cluster"))
            except (OSError, RuntimeError) as error:
                raise Unavailable(f"Slurm does not start: {str(error)[:200]}") from None
            own = {"SLURM_CONF": cluster["SLURM_CONF"]}
            while True:
                for act in (_requeue, _cancel, _kill, _signal_sweep):
                    yield self._trial(stock, rng, environment(**own), act)

    def _trial(self, stock: Stock, rng: Random, env: Mapping[str, str], act: "Act") -> Trial:
        case, home, moment = stock.draw(rng), stock.empty(), rng.uniform(0, LATEST)
        wanted = {a.identity: a.record for a in (stock.alone(case.seeded(s)) for s in SEEDS)}
        words = ["-m", *case.words, f"seed={','.join(map(str, SEEDS))}", *OPTIONS]

        def begin() -> Command:
            run = [sys.executable, str(ROOT / "run.py"), *words, *home.words]
            return start_program(run, home.folder, Terms(environment=env))

        command = begin()
        what = act(Sweep(command, home, env, rng), moment)
        first = command.wait()
        empty = _until(lambda: not _jobs(env), EMPTY)
        ended = begin().wait() if empty else Ended(None, "jobs stay in the queue")
        verdict, message = judged(ended, home, wanted)
        mine = interrupted(first)
        shown = last_of_traceback(first.output) if mine else message
        discard(home)
        return Trial(
            self.title, f"{what} after {moment:.1f} s", mine or verdict, typed(words), shown
        )


@dataclass(frozen=True)
class Sweep:
    """A sweep whose jobs Slurm runs."""

    command: Command
    home: Home
    environment: Mapping[str, str]
    rng: Random

    def job(self, moment: float) -> str:
        """Id of a job that has run for `moment` seconds; empty if all have ended before."""
        _until(lambda: self.command.code is not None or self._running(), BEGIN)
        time.sleep(moment)
        running = self._running()
        return self.rng.choice(running) if running else ""

    def _running(self) -> list[str]:
        return [job for job, state in _jobs(self.environment).items() if state == "RUNNING"]


Act = Callable[[Sweep, float], str]  # does something to a sweep after a while, and says what


def _requeue(sweep: Sweep, moment: float) -> str:
    if job := sweep.job(moment):
        _slurm(sweep.environment, "scontrol", "requeue", job)
    return "requeue"


def _cancel(sweep: Sweep, moment: float) -> str:
    if job := sweep.job(moment):
        _slurm(sweep.environment, "scancel", job)
    return "scancel"


def _kill(sweep: Sweep, moment: float) -> str:
    sweep.job(moment)
    if processes := sorted(processes_in(sweep.home.folder, sweep.command)):
        send(sweep.rng.choice(processes), signal.SIGKILL)
    return "SIGKILL to a process of a job"


def _signal_sweep(sweep: Sweep, moment: float) -> str:
    sweep.job(moment)
    number = sweep.rng.choice(SIGNALS)
    send(sweep.command.pid, number)
    return f"{number.name} to the waiting sweep"


def _jobs(env: Mapping[str, str]) -> dict[str, str]:
    """State of each job in the queue, by id."""
    lines = _slurm(env, "squeue", "--noheader", "--array", "--format=%i %T").splitlines()
    return dict(line.split() for line in lines)


def _slurm(env: Mapping[str, str], *words: str) -> str:
    return subprocess.run(words, env=dict(env), capture_output=True, text=True).stdout


def _until(true: Callable[[], object], seconds: float) -> bool:
    """Whether `true()` becomes true in this time."""
    until = time.monotonic() + seconds
    while not (found := bool(true())) and time.monotonic() < until:
        time.sleep(0.2)
    return found
