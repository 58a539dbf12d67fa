"""A sweep's jobs for the queue: every configuration is checked before the first starts, equal ones run once."""

import shlex
import sys
from typing import Any

from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from runner.build import build_run
from runner.compose import CONF
from runner.errors import ConfigError, SweepEnded
from runner.execute import EXIT_FAILED, EXIT_STOPPED, check
from runner.identity import run_id
from runner.launch import Interrupted, Job, run_queue, summary
from runner.machine import Machine, prepare
from runner.plan import plan, record_path
from runner.slots import Options, machine_slots
from runner.spec import Run

RUN_PY = CONF.parent / "run.py"


def launch(configs: list[DictConfig], words: list[list[str]], options: dict[str, Any]) -> None:
    """Run what is missing of a sweep on this machine.

    Raises:
        ConfigError: a job that could not start; none has been started then.
        SweepEnded: some jobs failed or the sweep was stopped.
    """
    chosen = Options(**options)
    jobs, device = checked_jobs(configs, words)
    console = Console(highlight=False)
    todo = sum(not job.done() for job in jobs)
    console.print(f"{len(jobs)} runs, {len(jobs) - todo} done, {todo} to do")
    code, said = run_all(jobs, chosen, device, console)
    if code:
        console.print(said)
        raise SweepEnded(code)


def checked_jobs(configs: list[DictConfig], words: list[list[str]]) -> tuple[list[Job], str]:
    """Each different run of a sweep as a job, and the device that they ask for.

    Raises:
        ConfigError: with every problem of every configuration.
    """
    jobs: dict[str, Job] = {}
    problems: list[str] = []
    for cfg, own in zip(configs, words, strict=True):
        try:
            run = build_run(cfg)
            machine = prepare(OmegaConf.to_container(cfg.env, resolve=True))  # type: ignore[arg-type]
            check(run, machine)
            jobs[run_id(run)] = make_job(run, machine, own)
        except ConfigError as error:
            problems += error.messages
    if problems:
        raise ConfigError(*dict.fromkeys(problems))
    devices = {cfg.env.device for cfg in configs}
    return list(jobs.values()), devices.pop() if len(devices) == 1 else "auto"


def make_job(run: Run, machine: Machine, words: list[str]) -> Job:
    """The command `python run.py WORDS` as a job of the queue; its claims are the stages that it would compute now."""
    identity = run_id(run)
    path = record_path(machine, identity)
    own = {f"env.{key}": f"env.{key}={getattr(machine, key)}" for key in ("results_dir", "cache_dir", "data_dir")} | {"env.progress": "env.progress=lines"}
    plain = [word for word in words if word.partition("=")[0] not in own]

    def claims() -> set[str]:
        return {step["key"] for step in plan(run, machine) if not step["cached"]}

    return Job(
        name=identity,
        command=(sys.executable, str(RUN_PY), *plain, *own.values()),
        folder=path.parent,
        done=path.is_file,
        claims=claims,
        again="python run.py " + shlex.join(words),
    )


def run_all(jobs: list[Job], options: Options, device: str, console: Console) -> tuple[int, str]:
    """Run what is missing; the command's exit code, and what is to be said of failed jobs at the very end."""
    missing = [job for job in jobs if not job.done()]
    try:
        ended = run_queue(missing, machine_slots(options, device), options, console)
    except Interrupted:
        return EXIT_STOPPED, "stopped: the running jobs are checkpointed; the same command goes on from there"
    said = summary(ended, len(missing))
    return (EXIT_FAILED if said else 0), said


def queue_options(words: list[str]) -> tuple[Options, list[str]]:
    """The queue's options among the words of a command line, and the other words.

    Raises:
        ConfigError: a value of the wrong type or out of range.
    """
    types: dict[str, Any] = {"slots": int, "jobs_per_gpu": int, "min_free_gb": float, "on_error": str, "grace_seconds": float}
    found: dict[str, Any] = {}
    rest = []
    for word in words:
        key, _, value = word.partition("=")
        if key not in types:
            rest.append(word)
            continue
        try:
            found[key] = types[key](value)
        except ValueError:
            raise ConfigError(f"{word}: it must be a {'whole number' if types[key] is int else 'number'}") from None
    return Options(**found), rest
