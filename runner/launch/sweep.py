"""The jobs of a sweep.

Every configuration is checked before the first job starts. Equal configurations run once.
"""

import shlex
import sys

from omegaconf import DictConfig

from runner.config.build import build_run
from runner.config.quoting import FOLDERS, literal_paths, override
from runner.config.request import environment_of
from runner.console import console
from runner.engine.machine import Machine, prepare
from runner.engine.preflight import check
from runner.engine.store import Store
from runner.errors import ConfigError, SweepEnded
from runner.launch.jobs import QueueJob
from runner.launch.launcher import Launcher, print_lines
from runner.paths import RUN_PY
from runner.records.folders import RunFolders, record_path
from runner.spec.identity import run_id, stage_keys
from runner.spec.run import Run, snapshots_wanted


def run_sweep(launcher: Launcher, configs: list[DictConfig], overrides: list[list[str]]) -> None:
    """Check every job of a sweep and run those that are not done.

    Args:
        overrides: the overrides of each configuration, as typed by the user.

    Raises:
        ConfigError: a job could not start; none has been started.
        SweepEnded: some jobs failed, or the sweep was stopped.
    """
    jobs, machine = checked_jobs(configs, overrides)
    shown = console()
    shown.print(counted(jobs, len(overrides)))
    code, message = launcher.run(jobs, machine, configs[0].env.threads, shown)
    if code:
        print_lines(shown, message)
        raise SweepEnded(code)


def checked_jobs(
    configs: list[DictConfig], overrides: list[list[str]]
) -> tuple[list[QueueJob], Machine]:
    """One job for each different run of a sweep, and the machine that the jobs share.

    Raises:
        ConfigError: one message for each problem of each configuration.
    """
    problems = swept_environment(configs)
    if problems:
        raise ConfigError(*problems)
    jobs: dict[str, QueueJob] = {}
    machine: Machine | None = None
    for cfg, own in zip(configs, overrides, strict=True):
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
    """One message for each key of `env` that has several values in a sweep."""
    found = []
    for key in configs[0].env:
        values = list(dict.fromkeys(str(cfg.env[key]) for cfg in configs))
        if len(values) > 1:
            found.append(
                f"env.{key}={','.join(values)}: env.* describes this machine and is not part of a"
                f" run, so these would be the same runs; give env.{key} one value, or start one"
                " sweep for each value"
            )
    return found


def counted(jobs: list[QueueJob], requested: int) -> str:
    """A text with the number of runs, of finished runs and of runs to do."""
    todo, repeated = sum(not job.done() for job in jobs), requested - len(jobs)
    equal = f" ({repeated} more that were requested are equal to one of these)" if repeated else ""
    return f"{len(jobs)} runs, {len(jobs) - todo} done, {todo} to do{equal}"


def make_job(run: Run, machine: Machine, overrides: list[str]) -> QueueJob:
    """The command `python run.py OVERRIDES` as a job."""
    path, overrides = record_path(machine.results_dir, run_id(run)), literal_paths(overrides)
    own = {
        key: override(key, str(getattr(machine, key.removeprefix("env.")).absolute()))
        for key in FOLDERS
    } | {"env.progress": "env.progress=lines"}
    plain = [each for each in overrides if each.partition("=")[0] not in own]
    store, keys = Store(machine.cache_dir), stage_keys(run)
    points = {
        f"{keys[name]}@{epoch}"
        for name, epochs in snapshots_wanted(run).items()
        if name in keys
        for epoch in epochs
    }

    def there(item: str) -> bool:
        key, _, epoch = item.partition("@")
        return store.has(key) and (not epoch or store.has_snapshot(key, float(epoch)))

    return QueueJob(
        name=path.parent.name,
        command=(sys.executable, str(RUN_PY), *plain, *own.values()),
        folder=path.parent,
        done=lambda: RunFolders(machine.results_dir).has(path.parent.name),
        makes=frozenset({*keys.values(), *points}),
        there=there,
        again="python run.py " + shlex.join(overrides),
    )
