"""A sweep's jobs for the queue: every configuration is checked before the first starts, equal ones run once."""

import shlex
import sys
from typing import Any

import torch
from omegaconf import DictConfig
from rich.console import Console

from runner.config.build import build_run
from runner.config.request import environment_of
from runner.engine.machine import Machine, prepare
from runner.engine.preflight import check
from runner.engine.store import Store
from runner.errors import EXIT_FAILED, EXIT_STOPPED, ConfigError, SweepEnded
from runner.launch.jobs import Job
from runner.launch.options import options_from
from runner.launch.queue import Interrupted, run_queue, summary
from runner.launch.slots import Options, Slot, machine_slots
from runner.paths import RUN_PY
from runner.records.find import record_path
from runner.spec.identity import run_id, stage_keys
from runner.spec.run import Run, snapshots_wanted

PREFIX = "hydra.launcher."


def launch(configs: list[DictConfig], words: list[list[str]], options: dict[str, Any]) -> None:
    """Run what is missing of a sweep on this machine.

    Raises:
        ConfigError: an option or a job that could not start; none has been started then.
        SweepEnded: some jobs failed or the sweep was stopped.
    """
    chosen = options_from(Options, options, PREFIX)
    jobs, machine = checked_jobs(configs, words)
    console = Console(highlight=False)
    console.print(counted(jobs, len(words)))
    code, said = run_all(jobs, slots_for(machine, chosen, configs[0].env.threads), chosen, console)
    if code:
        say(console, said)
        raise SweepEnded(code)


def checked_jobs(configs: list[DictConfig], words: list[list[str]]) -> tuple[list[Job], Machine]:
    """Each different run of a sweep as a job, and the machine that they share.

    Raises:
        ConfigError: with every problem of every configuration.
    """
    problems = swept_environment(configs)
    if problems:
        raise ConfigError(*problems)
    jobs: dict[str, Job] = {}
    machine: Machine | None = None
    for cfg, own in zip(configs, words, strict=True):
        try:
            run = build_run(cfg)
            machine = machine or prepare(environment_of(cfg))
            check(run, machine)
            jobs.setdefault(run_id(run), make_job(run, machine, own))
        except ConfigError as error:
            problems += error.messages
    if problems or machine is None:
        raise ConfigError(*dict.fromkeys(problems))
    return list(jobs.values()), machine


def swept_environment(configs: list[DictConfig]) -> list[str]:
    """A message for each key of `env` that a sweep gives several values."""
    found = []
    for key in configs[0].env:
        values = list(dict.fromkeys(str(cfg.env[key]) for cfg in configs))
        if len(values) > 1:
            found.append(
                f"env.{key}={','.join(values)}: env.* is this machine and no part of a run, so these would be the same runs; "
                f"the jobs of one launcher share one env.{key}: give it one value, or make a sweep for each"
            )
    return found


def counted(jobs: list[Job], asked: int) -> str:
    """How many runs there are, and how many are to do."""
    todo = sum(not job.done() for job in jobs)
    equal = f" ({asked - len(jobs)} more asked for are equal to one of these)" if asked > len(jobs) else ""
    return f"{len(jobs)} runs, {len(jobs) - todo} done, {todo} to do{equal}"


def make_job(run: Run, machine: Machine, words: list[str]) -> Job:
    """The command `python run.py WORDS` as a job of the queue."""
    path = record_path(machine.results_dir, run_id(run))
    own = {f"env.{key}": f"env.{key}={getattr(machine, key)}" for key in ("results_dir", "cache_dir", "data_dir")} | {"env.progress": "env.progress=lines"}
    plain = [word for word in words if word.partition("=")[0] not in own]
    store, keys = Store(machine.cache_dir), stage_keys(run)
    points = {f"{keys[name]}@{epoch}" for name, epochs in snapshots_wanted(run).items() if name in keys for epoch in epochs}

    def there(item: str) -> bool:
        key, _, epoch = item.partition("@")
        return store.has(key) and (not epoch or store.has_snapshot(key, float(epoch)))

    return Job(
        name=path.parent.name,
        command=(sys.executable, str(RUN_PY), *plain, *own.values()),
        folder=path.parent,
        done=path.is_file,
        makes=frozenset({*keys.values(), *points}),
        there=there,
        again="python run.py " + shlex.join(words),
    )


def slots_for(machine: Machine, options: Options, threads: int | None) -> list[Slot]:
    """The slots for jobs on the machine's kind of device.

    Args:
        threads: env.threads as the user set it; None = not set.
    """
    return machine_slots(options, torch.cuda.device_count() if machine.device.type == "cuda" else 0, threads)


def run_all(jobs: list[Job], slots: list[Slot], options: Options, console: Console) -> tuple[int, str]:
    """Run what is missing; the command's exit code, and what is to be said at the very end."""
    missing = [job for job in jobs if not job.done()]
    try:
        ended = run_queue(missing, slots, options, console)
    except Interrupted as stop:
        failed = summary([outcome for outcome in stop.ended if not outcome.stopped], missing)
        return EXIT_STOPPED, "\n".join([*filter(None, [failed]), "stopped: the running jobs are checkpointed; the same command goes on from there"])
    said = summary(ended, missing)
    return (EXIT_FAILED if said else 0), said


def say(console: Console, text: str) -> None:
    """Whole lines: a command that is cut cannot be copied."""
    console.print(text, soft_wrap=True, markup=False, highlight=False)
