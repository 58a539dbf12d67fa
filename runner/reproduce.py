"""Plan, run and print tables, draw figures: what is missing is run by the queue of this machine or on Slurm, shared stages first and none twice.

Every job is idempotent: repeat the command after any crash and it does what is left.
"""

from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from rich.console import Console

from runner.cells import Table, expand_all, parse_arguments
from runner.compose import compose_config
from runner.errors import ConfigError, one_of
from runner.execute import EXIT_STOPPED, check
from runner.figure_page import write_figure
from runner.layout import write_table
from runner.machine import Machine, prepare
from runner.options import options_from
from runner.plan import record_path, show_tables, survey, without_runs
from runner.planned import PlannedRun
from runner.slots import Options
from runner.slurm import EXIT_WAITING, SlurmOptions, run_remote
from runner.sweep import PREFIX, make_job, run_all, say, slots_for
from runner.table_specs import figure_names, table_names

LAUNCHERS: dict[str, type[Options] | type[SlurmOptions]] = {"gpu_queue": Options, "slurm": SlurmOptions}


def launcher(words: list[str]) -> tuple[Options | SlurmOptions, list[str]]:
    """What runs the jobs, by its options, and the other words of a command line.

    `hydra/launcher=NAME hydra.launcher.KEY=VALUE` as in a sweep; the queue, which is the default, takes its options as plain KEY=VALUE too.

    Raises:
        ConfigError: another launcher, an unknown option, a value of the wrong kind or out of range.
    """
    pairs = [word.partition("=")[::2] for word in words]
    name = dict(pairs).get("hydra/launcher", "gpu_queue")
    if name not in LAUNCHERS:
        raise ConfigError(one_of("hydra/launcher", name, LAUNCHERS))
    plain = set(Options.__dataclass_fields__) if name == "gpu_queue" else set[str]()
    own = {key for key, _ in pairs if key in plain or key.startswith(PREFIX)}
    given = OmegaConf.from_dotlist([f"{key.removeprefix(PREFIX)}={value}" for key, value in pairs if key in own])
    rest = [word for word, (key, _) in zip(words, pairs, strict=True) if key not in own | {"hydra/launcher"}]
    return options_from(LAUNCHERS[name], OmegaConf.to_container(given), "" if plain else PREFIX), rest  # type: ignore[arg-type]


def load(words: list[str]) -> tuple[list[Table], Machine, int | None]:
    """The tables that the words of a command line ask for, the machine of their runs, and env.threads if it is set.

    Raises:
        ConfigError: anything that no run could start with.
    """
    names, chosen, overrides = parse_arguments(words)
    tables = expand_all(names, chosen, overrides)
    env: dict[str, Any] = OmegaConf.to_container(compose_config([w for w in overrides if w.startswith("env.")]).env, resolve=True)  # type: ignore[assignment]
    return tables, prepare(env), env["threads"]


def unique_jobs(tables: list[Table]) -> list[PlannedRun]:
    """Every run of the tables, each once."""
    return list({job.run_id: job for table in tables for job in table.jobs}.values())


def show_plan(words: list[str], console: Console) -> int:
    """Print what the tables need and what is there. Nothing is run."""
    options, words = launcher(words)
    tables, machine, threads = load(words)
    each = slots_for(machine, options, threads)[0].threads if isinstance(options, Options) else threads or options.cpus_per_task
    show_tables(tables, machine, each or torch.get_num_threads(), console)
    return 0


def reproduce(words: list[str], console: Console) -> int:
    """Run what the tables miss, then write and print them, then name what failed; the command's exit code."""
    options, words = launcher(words)
    tables, machine, threads = load(words)
    jobs = unique_jobs(tables)
    missing = [job for job in jobs if not record_path(machine, job.run_id).is_file()]
    for job in {repr((job.run.dataset, job.run.model, job.run.density)): job for job in missing}.values():
        check(job.run, machine)  # data, net, density: say what is wrong before the first begins
    console.print(f"{len(jobs)} runs, {len(jobs) - len(missing)} done, {len(missing)} to do. " + survey([(job, machine) for job in jobs]).line)
    for line in without_runs(tables):
        console.print(line, soft_wrap=True)
    todo = [make_job(job.run, machine, list(job.overrides)) for job in missing]
    if isinstance(options, Options):
        code, said = run_all(todo, slots_for(machine, options, threads), options, console)
    else:
        code, said = run_remote(todo, options, console)
    for table in tables if code not in (EXIT_STOPPED, EXIT_WAITING) else ():
        console.print()
        print(write(table, machine.results_dir))
        console.print(f"written to {written(table, machine.results_dir)}", soft_wrap=True)
    if said:
        say(console, said)
    return code


def print_tables(words: list[str]) -> int:
    """Write and print the tables from the records that are there; every table that we have when none is named."""
    named = any("=" not in word for word in words)
    tables, machine, _ = load(words if named else [*table_names(), *words])
    for table in tables:
        print(write(table, machine.results_dir))
    return 0


def draw_figures(words: list[str]) -> int:
    """Draw the figures from the records that are there; every figure that we have when none is named."""
    named = any("=" not in word for word in words)
    figures, machine, _ = load(words if named else [*figure_names(), *words])
    for figure in figures:
        print(write(figure, machine.results_dir))
        print(f"written to {written(figure, machine.results_dir)}\n")
    return 0


def write(table: Table, results_dir: Path) -> str:
    """Write a table or draw a figure; its text for a terminal."""
    return write_figure(table, results_dir) if table.drawn else write_table(table, results_dir)


def written(table: Table, results_dir: Path) -> str:
    """Where that is."""
    return f"{results_dir / 'figures' / table.name}.{{svg,pdf,png,csv}}" if table.drawn else f"{results_dir / 'tables' / table.name}.{{txt,md,tex,csv,html}}"
