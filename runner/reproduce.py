"""Plan, run and print tables: what is missing is run as a process per job, side by side on the CPU's cores, in an order that never computes a stage twice.

Every job is idempotent: repeat the command after any crash and it does what is left.
"""

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from runner.cells import Job, Table, expand, parse_arguments, table_names
from runner.compose import CONF, Composer, compose_config
from runner.execute import check
from runner.layout import write_table
from runner.machine import Machine, prepare
from runner.plan import plan, plan_line, record_path, show_tables

RUN_PY = CONF.parent / "run.py"


@dataclass
class Running:
    """A job's process, the keys of the stages that it computes, and when it began."""

    job: Job
    process: subprocess.Popen[bytes]
    stages: set[str]
    log: Path
    begun: float = field(default_factory=time.monotonic)


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
    tables, machine = load(words)
    own = any(word.startswith("env.threads=") for word in words)
    show_tables(tables, machine, torch.get_num_threads() if own else _slots(machine)[1] or torch.get_num_threads(), console)
    return 0


def reproduce(words: list[str], console: Console) -> int:
    """Run what the tables miss, then write and print them; exit code 1 if a run failed."""
    tables, machine = load(words)
    jobs = unique_jobs(tables)
    missing = [job for job in jobs if not record_path(machine, job.run_id).is_file()]
    for job in missing[:1]:
        check(job.run, machine)  # data, device and directories are the same for all: say what is wrong before the first
    console.print(f"{len(jobs)} runs, {len(jobs) - len(missing)} done, {len(missing)} to do. " + plan_line([(job.run, machine) for job in jobs]))
    failed = run_jobs(missing, machine, console) if missing else []
    for table in tables:
        console.print()
        print(write_table(table, machine.results_dir))
        console.print(f"written to {machine.results_dir / 'tables' / table.name}.{{txt,md,tex,csv,html}}")
    for item in failed:
        console.print(f"failed: {item.job.run_id}\n  log: {item.log}\n  again: python run.py {' '.join(item.job.overrides)}")
    return 1 if failed else 0


def print_tables(words: list[str]) -> int:
    """Write and print the tables from the records that are there; every table that we have when none is named."""
    named = any("=" not in word for word in words)
    tables, machine = load(words if named else [*table_names(), *words])
    for table in tables:
        print(write_table(table, machine.results_dir))
    return 0


def run_jobs(jobs: list[Job], machine: Machine, console: Console) -> list[Running]:
    """Run the jobs, as many at a time as there are slots; the ones that failed."""
    pending, running, failed = list(jobs), list[Running](), list[Running]()
    slots, threads = _slots(machine)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    progress = Progress(*columns, console=console, disable=not console.is_terminal)
    with progress:
        bar = progress.add_task(f"runs, {slots} at a time", total=len(jobs))
        try:
            while pending or running:
                while len(running) < slots and (job := _next(pending, running, machine)):
                    pending.remove(job)
                    running.append(_start(job, machine, threads))
                    console.print(f"begun: {job.run_id}")
                time.sleep(0.1)
                for item in [r for r in running if r.process.poll() is not None]:
                    running.remove(item)
                    failed += [item] if item.process.returncode else []
                    progress.advance(bar)
                    console.print(_ended(item, machine))
        finally:
            for item in running:
                item.process.terminate()  # it checkpoints and ends
            for item in running:
                item.process.wait()
    return failed


def _slots(machine: Machine) -> tuple[int, int | None]:
    """Jobs at a time and threads for each: two one-threaded jobs do 1.67 times the work of one two-threaded job on small images (measured)."""
    if machine.device.type == "cuda":
        return max(1, torch.cuda.device_count()), None
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores, 1


def _next(pending: list[Job], running: list[Running], machine: Machine) -> Job | None:
    """The first job that would not wait for a stage which a running job computes."""
    busy = set().union(*(item.stages for item in running)) if running else set()
    return next((job for job in pending if not busy & _to_compute(job, machine)), None)


def _to_compute(job: Job, machine: Machine) -> set[str]:
    return {step["key"] for step in plan(job.run, machine) if not step["cached"]}


def _start(job: Job, machine: Machine, threads: int | None) -> Running:
    folder = record_path(machine, job.run_id).parent
    folder.mkdir(parents=True, exist_ok=True)
    own = [f"env.results_dir={machine.results_dir}", f"env.cache_dir={machine.cache_dir}", f"env.data_dir={machine.data_dir}", "env.progress=lines"]
    own += [f"env.threads={threads}"] if threads and not any(w.startswith("env.threads=") for w in job.overrides) else []
    words = [word for word in job.overrides if word.partition("=")[0] not in {w.partition("=")[0] for w in own}]
    log = folder / "run.log"
    with log.open("ab") as file:
        process = subprocess.Popen(
            [sys.executable, str(RUN_PY), *words, *own], stdout=file, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True
        )
    return Running(job, process, _to_compute(job, machine), log)


def _ended(item: Running, machine: Machine) -> str:
    seconds = time.monotonic() - item.begun
    if item.process.returncode:
        last = item.log.read_text(errors="replace").strip().splitlines()[-1:]
        return f"failed (exit {item.process.returncode}) after {seconds:.0f} s: {item.job.run_id}: {' '.join(last)}"
    record: dict[str, Any] = json.loads(record_path(machine, item.job.run_id).read_text())
    return f"done: {item.job.run_id}: {record['accuracy']:.2f} % at density {record['density']:.3f}, {seconds:.0f} s"
