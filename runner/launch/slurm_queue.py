"""Waiting for submitted jobs: which of them Slurm has in its queue, and why they wait."""

import subprocess
import time
from collections.abc import Collection

from rich.console import Console

from runner.launch.jobs import Outcome, QueueJob, last_message
from runner.launch.launcher import print_lines

ABSENT = 3  # polls until a missing job counts as ended; a requeued one may be missing briefly
# Slurm's reasons that end without anybody's help: earlier jobs, or a requeued job's delay. None and
# Cleaning last for moments.
USUAL = frozenset(
    ("None", "Priority", "Resources", "Dependency", "JobArrayTaskLimit", "BeginTime", "Cleaning")
)


def wait_for_jobs(jobs: dict[str, QueueJob], poll: float, console: Console) -> list[Outcome]:
    """Wait until every job has left the queue; a job is done if its record exists.

    A reason for which Slurm may never start a job is printed once.

    Args:
        jobs: by their Slurm ids; this function removes the ended ones.
        poll: seconds between two polls of the queue.
    """
    started, missed, ended = time.time(), dict.fromkeys(jobs, 0), list[Outcome]()
    # Offsets in the logs at which this attempt's output begins.
    before = {i: job.log.stat().st_size if job.log.is_file() else 0 for i, job in jobs.items()}
    shown: set[str] = set()
    while jobs:
        time.sleep(poll)
        queued = queued_jobs(jobs)
        if queued is None:
            continue  # the controller does not respond: poll again
        for identity in [i for i in jobs if i not in queued]:
            missed[identity] += 1
            if not jobs[identity].done() and missed[identity] < ABSENT:
                continue
            job = jobs.pop(identity)
            how = "" if job.done() else "left Slurm's queue without a result"
            seconds, message = time.time() - started, last_message(job.log, before[identity])
            ended.append(Outcome(job, 0, seconds, not how, how, message))
            state = "failed" if how else "done"
            print_lines(console, f"{state}: {job.name} (Slurm job {identity})")
        for identity in queued.keys() & missed.keys():
            missed[identity] = 0
        for reason in sorted(set(queued.values()) - USUAL - shown):
            waiting = [identity for identity, why in queued.items() if why == reason]
            print_lines(console, waiting_message(reason, waiting))
            shown.add(reason)
    return ended


def waiting_message(reason: str, waiting: Collection[str]) -> str:
    """A line about jobs that Slurm does not start.

    Args:
        reason: Slurm's word for it, e.g. PartitionTimeLimit.
        waiting: the ids of these jobs.
    """
    arrays = " ".join(dict.fromkeys(identity.partition("_")[0] for identity in waiting))
    return (
        f"Slurm does not start {len(waiting)} jobs for now: {reason}; if that does not change, stop"
        f" them with scancel {arrays}, and repeat the command with other hydra.launcher options"
    )


def queued_jobs(ids: Collection[str]) -> dict[str, str] | None:
    """The jobs in the queue, with the reasons for which they are pending ("None": no reason).

    A list of nodes after a reason is left out, because it changes while a job waits.

    Returns:
        None if Slurm does not respond.
    """
    arrays = sorted({identity.partition("_")[0] for identity in ids})
    line = ["squeue", "--noheader", "--array", "--format=%i %r", f"--jobs={','.join(arrays)}"]
    done = subprocess.run(line, capture_output=True, text=True)
    if done.returncode:
        return {} if "Invalid job id" in done.stderr else None  # unknown jobs have all ended
    rows = (row.partition(" ") for row in done.stdout.splitlines())
    return {i: reason.partition(",")[0].strip() for i, _, reason in rows if i in ids}
