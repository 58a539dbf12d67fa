"""The jobs of a sweep.

Every configuration is checked before the first job starts. Equal configurations run once.
"""

import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig

from runner.config.build import build_run
from runner.config.compose import compose_config
from runner.config.environment import environment_of
from runner.config.overrides import search_path
from runner.config.plain import to_plain
from runner.config.quoting import FOLDERS, literal_paths, override
from runner.config.unread import unread
from runner.console import console
from runner.engine.data_checks import problems_of_all
from runner.engine.machine import Machine, prepare
from runner.engine.store import Store
from runner.errors import EXIT_STOPPED, ConfigError, SweepEnded
from runner.launch.jobs import QueueJob
from runner.launch.launcher import EXIT_WAITING, Launcher, print_lines
from runner.launch.sweep_table import Sweep
from runner.paths import RUN_PY
from runner.records.folders import RunFolders, record_path
from runner.records.wanted import Wanted
from runner.spec.identity import run_id, stage_keys
from runner.spec.run import Run, snapshots_wanted


def check_sweep(words: Sequence[str], plans: bool) -> Sweep | None:
    """Check every job of a sweep without a launcher, which Hydra runs one after another.

    Args:
        words: the sweep's overrides.
        plans: whether the jobs are only planned, which requires no data.

    Returns:
        The jobs; None if only Hydra can tell which these are.

    Raises:
        ConfigError: a job could not start, or an override has no effect on any job.
    """
    own, rest = search_path(words), [each for each in words if not each.startswith("hydra")]
    try:
        parsed = OverridesParser.create().parse_overrides(rest)
        (jobs,) = BasicSweeper.split_arguments(parsed, None)
    except (HydraException, AssertionError):
        return None  # Hydra reports what it cannot read; it expands glob(...) itself
    overrides = [[*own, *job] for job in jobs]
    configs = [compose_config(each) for each in overrides]
    runs, _ = checked_runs(configs, overrides, plans)
    return Sweep(runs, overrides, environment_of(configs[0]).results_dir)


def run_sweep(launcher: Launcher, configs: list[DictConfig], overrides: list[list[str]]) -> None:
    """Check every job of a sweep and run those that are not done.

    Args:
        overrides: the overrides of each configuration, as typed by the user.

    Raises:
        ConfigError: a job could not start; none has been started.
        SweepEnded: some jobs failed, or the sweep was stopped.
    """
    runs, jobs, machine = checked_jobs(configs, overrides)
    shown = console()
    shown.print(counted(jobs, len(overrides)))
    code, message = launcher.run(jobs, machine, configs[0].env.threads, shown)
    if code not in (EXIT_STOPPED, EXIT_WAITING):
        Sweep(runs, overrides, machine.results_dir).show(shown)
    if code:
        print_lines(shown, message)
        raise SweepEnded(code)


def checked_jobs(
    configs: list[DictConfig], overrides: list[list[str]]
) -> tuple[list[Run], list[QueueJob], Machine]:
    """The runs of a sweep, one job for each different one, and the machine that the jobs share.

    Raises:
        ConfigError: one message for each problem of each configuration.
    """
    problems = swept_environment(configs)
    if problems:
        raise ConfigError(*problems)
    runs, effective = checked_runs(configs, overrides)
    machine = prepare(environment_of(configs[0]))
    jobs: dict[str, QueueJob] = {}
    for run, own in zip(runs, effective, strict=True):
        jobs.setdefault(run_id(run), make_job(run, machine, own))
    return runs, list(jobs.values()), machine


def checked_runs(
    configs: Sequence[DictConfig], overrides: Sequence[list[str]], plans: bool = False
) -> tuple[list[Run], list[list[str]]]:
    """The run of each job of a sweep, and those of its overrides that have an effect on it.

    Nothing is computed. Data sets are read once each.

    Args:
        plans: as for `check_sweep`.

    Raises:
        ConfigError: one message for each problem of each configuration, and for each override that
            has no effect on any job.
    """
    problems: list[str] = []
    runs: list[Run] = []
    idle: list[dict[str, str]] = []
    for cfg, own in zip(configs, overrides, strict=True):
        try:
            runs.append(build_run(cfg))
            idle.append(unread(to_plain(cfg, resolve=False), own))
        except ConfigError as error:
            problems += error.messages
    if not problems:
        problems += _without_effect(overrides, idle)
    if not problems and not plans:
        problems = problems_of_all(runs, prepare(environment_of(configs[0])))
    if problems:
        raise ConfigError(*dict.fromkeys(problems))
    kept = [
        [each for each in own if each not in of] for own, of in zip(overrides, idle, strict=True)
    ]
    return runs, kept


def _without_effect(
    overrides: Sequence[list[str]], idle: Sequence[Mapping[str, str]]
) -> Iterator[str]:
    """A message for each override that no job reads; a key's values are one override here."""
    read = {
        _key(each)
        for own, of in zip(overrides, idle, strict=True)
        for each in own
        if each not in of
    }
    messages = {_key(each): message for of in idle for each, message in of.items()}
    yield from (message for key, message in messages.items() if key not in read)


def _key(override_: str) -> str:
    return override_.partition("=")[0]


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
    wanted = Wanted.of(run, machine.save_predictions)
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
        done=lambda: wanted.complete(RunFolders(machine.results_dir).run(path.parent.name)),
        makes=frozenset({*keys.values(), *points}),
        there=there,
        again="python run.py " + shlex.join(overrides),
        model=run.model.name,
    )
