"""Plan, run and print tables: what is missing is run as a process per job, side by side on the CPU's cores, in an order that never computes a stage twice.

Every job is idempotent: repeat the command after any crash and it does what is left.
"""

import torch
from omegaconf import OmegaConf
from rich.console import Console

from runner.cells import Job, Table, expand, parse_arguments, table_names
from runner.compose import Composer, compose_config
from runner.execute import EXIT_STOPPED, check
from runner.layout import write_table
from runner.machine import Machine, prepare
from runner.plan import plan_line, record_path, show_tables
from runner.slots import machine_slots
from runner.sweep import make_job, queue_options, run_all


def load(words: list[str]) -> tuple[list[Table], Machine]:
    """The tables that the words of a command line ask for, and the machine of their runs.

    Raises:
        ConfigError: anything that no run could start with.
    """
    names, chosen, overrides = parse_arguments(words)
    composer = Composer()
    tables = [expand(name, chosen, overrides, composer) for name in names]
    env = [word for word in overrides if word.startswith("env.")]
    machine = prepare(OmegaConf.to_container(compose_config(env).env, resolve=True))  # type: ignore[arg-type]
    return tables, machine


def unique_jobs(tables: list[Table]) -> list[Job]:
    """Every run of the tables, each once."""
    return list({job.run_id: job for table in tables for job in table.jobs}.values())


def show_plan(words: list[str], console: Console) -> int:
    """Print what the tables need and what is there. Nothing is run."""
    options, words = queue_options(words)
    tables, machine = load(words)
    own = any(word.startswith("env.threads=") for word in words)
    threads = None if own else machine_slots(options, machine.device.type)[0].threads
    show_tables(tables, machine, threads or torch.get_num_threads(), console)
    return 0


def reproduce(words: list[str], console: Console) -> int:
    """Run what the tables miss, then write and print them, then name what failed; the command's exit code."""
    options, words = queue_options(words)
    tables, machine = load(words)
    jobs = unique_jobs(tables)
    missing = [job for job in jobs if not record_path(machine, job.run_id).is_file()]
    for job in missing[:1]:
        check(job.run, machine)  # data, device and directories are the same for all: say what is wrong before the first
    console.print(f"{len(jobs)} runs, {len(jobs) - len(missing)} done, {len(missing)} to do. " + plan_line([(job.run, machine) for job in jobs]))
    code, said = run_all([make_job(job.run, machine, list(job.overrides)) for job in missing], options, machine.device.type, console)
    for table in tables if code != EXIT_STOPPED else ():
        console.print()
        print(write_table(table, machine.results_dir))
        console.print(f"written to {machine.results_dir / 'tables' / table.name}.{{txt,md,tex,csv,html}}")
    if said:
        console.print(said)
    return code


def print_tables(words: list[str]) -> int:
    """Write and print the tables from the records that are there; every table that we have when none is named."""
    named = any("=" not in word for word in words)
    tables, machine = load(words if named else [*table_names(), *words])
    for table in tables:
        print(write_table(table, machine.results_dir))
    return 0
