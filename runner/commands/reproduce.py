"""`make reproduce`: run what tables and figures need, then print and draw them.

Missing runs go through the queue of this machine or through Slurm. Shared stages run first, and no
stage runs twice. The command is idempotent: repeat it after a crash, and it does the rest.
"""

from rich.console import Console

from runner.commands.arguments import launcher, load, unique_jobs
from runner.commands.plan import without_runs
from runner.commands.write import write, written
from runner.engine.data_checks import problems_of_all
from runner.errors import EXIT_STOPPED, ConfigError
from runner.launch.launcher import EXIT_WAITING, print_lines
from runner.launch.sweep import make_job
from runner.planning.survey import survey
from runner.records.find import is_done
from runner.records.wanted import Wanted
from runner.spec.findings import DIVERGED


def reproduce(words: list[str], console: Console) -> int:
    """Run the missing runs of the tables, then write and print the tables and any failures.

    Returns:
        The command's exit code.
    """
    chosen, words = launcher(words)
    tables, place = load(words)
    machine, threads = place.machine, place.env.threads
    jobs = unique_jobs(tables)
    predicts = machine.save_predictions
    missing = [
        job
        for job in jobs
        if not is_done(machine.results_dir, job.run_id, Wanted(predicts, job.required))
    ]
    if problems := problems_of_all([job.run for job in missing], machine):
        raise ConfigError(*problems)
    found = survey([(job, machine) for job in jobs])
    diverged = sum(state == DIVERGED for state in found.states.values())
    done = f"{len(jobs) - len(missing)} done{f' ({diverged} diverged)' if diverged else ''}"
    console.print(f"{len(jobs)} runs, {done}, {len(missing)} to do. {found.line}")
    for line in without_runs(tables):
        console.print(line, soft_wrap=True)
    todo = [make_job(job.run, machine, list(job.overrides)) for job in missing]
    code, message = chosen.run(todo, machine, threads, console)
    for table in tables if code not in (EXIT_STOPPED, EXIT_WAITING) else ():
        console.print()
        print(write(table, machine.results_dir))
        console.print(f"written to {written(table, machine.results_dir)}", soft_wrap=True)
    if message:
        print_lines(console, message)
    return code
