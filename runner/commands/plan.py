"""`make plan`: the runs of tables and figures, their state, and the cost of the rest."""

from collections.abc import Iterator

import torch
from rich.console import Console

from runner.commands.arguments import launcher, load
from runner.engine.machine import Machine
from runner.figures import claims as figures
from runner.planning.show import lines
from runner.planning.survey import survey
from runner.suites.expand import Suite
from runner.tables import claims
from runner.tables.entries import entries


def show_tables(tables: list[Suite], machine: Machine, threads: int, console: Console) -> None:
    """Print the plan of tables, and the rows whose method is not implemented yet."""
    jobs = {job.run_id: job for table in tables for job in table.jobs}
    for line in lines(survey([(job, machine) for job in jobs.values()]), machine, threads):
        console.print(line, soft_wrap=True)
    for line in without_runs(tables):
        console.print(line, soft_wrap=True)
    for table in tables:
        for line in _power(table, machine):
            console.print(line, soft_wrap=True)


def _power(table: Suite, machine: Machine) -> Iterator[str]:
    """What its seeds can tell about the claims of a table or figure."""
    if table.drawn:
        return figures.power(table)
    return claims.powers(table, entries(table, machine.results_dir))


def without_runs(tables: list[Suite]) -> Iterator[str]:
    """One line for each table that needs no runs."""
    for table in tables:
        if all(cell.value is not None for cell in table.cells.values()):
            yield (
                f"{table.name} needs no runs: its entries are read from the configuration (make"
                f" tables TABLE={table.name})"
            )


def show_plan(words: list[str], console: Console) -> int:
    """Print which runs the tables need and which are done, without running any."""
    chosen, words = launcher(words)
    tables, machine, threads = load(words)
    job_threads = chosen.job_threads(machine, threads) or torch.get_num_threads()
    show_tables(tables, machine, job_threads, console)
    return 0
