"""`make plan`: the runs of tables and figures, their state, and the cost of the rest."""

from collections.abc import Iterator

from rich.console import Console

from runner.commands.arguments import launcher, load, unique_jobs
from runner.engine.machine import Place
from runner.launch.launcher import Launcher
from runner.planning.cards import Card, card_of
from runner.planning.hours import Team
from runner.planning.show import lines
from runner.planning.survey import Site, Survey, survey
from runner.records.index import indexed
from runner.suites.expand import Suite
from runner.tables import claims
from runner.tables.entries import entries


def show_tables(tables: list[Suite], site: Site, team: Team, console: Console) -> None:
    """Print the plan of tables, and the rows whose method is not implemented yet."""
    _print(survey([(job, site) for job in unique_jobs(tables)]), tables, site, team, console)


def _print(found: Survey, tables: list[Suite], site: Site, team: Team, console: Console) -> None:
    for line in lines(found, site, team):
        console.print(line, soft_wrap=True)
    for line in without_runs(tables):
        console.print(line, soft_wrap=True)
    for table in tables:
        for line in _power(table, site):
            console.print(line, soft_wrap=True)


def _power(table: Suite, site: Site) -> Iterator[str]:
    """What its seeds can tell about the claims of a table or figure."""
    if table.drawn:
        from runner.figures import claims as figures  # tables need no library for figures

        return figures.power(table)
    return claims.powers(table, entries(table, site.results_dir))


def without_runs(tables: list[Suite]) -> Iterator[str]:
    """One line for each table that needs no runs."""
    for table in tables:
        if all(cell.value is not None for cell in table.cells.values()):
            yield (
                f"{table.name} needs no runs: its entries are read from the configuration (make"
                f" tables TABLE={table.name})"
            )


def show_plan(words: list[str], console: Console) -> int:
    """Print which runs the tables need and which are done, without running any.

    Among the words, `card=`, `tflops=` and `utilisation=` state another device than this one.
    """
    card, words = card_of(words)
    chosen, words = launcher(words)
    tables, place = load(words)
    with indexed(place.results_dir):
        found = survey([(job, place) for job in unique_jobs(tables)])
        team = team_of(chosen, place, card) if found.needed else Team(1)
        _print(found, tables, place, team, console)
    return 0


def team_of(chosen: Launcher, place: Place, card: Card | None = None) -> Team:
    """Who computes a launcher's jobs: threads and processes."""
    import torch

    threads = chosen.job_threads(place.machine, place.env.threads) or torch.get_num_threads()
    return Team(threads, chosen.job_processes, card)
