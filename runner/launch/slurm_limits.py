"""What a Slurm cluster allows, and what to change when it refuses a job."""

import re
import subprocess

UNKNOWN_SIZE = 1000  # jobs per array if the cluster does not say: one less than Slurm's default
# Parts of sbatch's messages in small letters, and what to change.
REMEDIES = (
    ("policy", "submit fewer jobs at a time, or change hydra.launcher.extra.qos"),
    ("array", "submit fewer jobs at a time"),
    ("account", "change hydra.launcher.extra.account"),
    ("qos", "change hydra.launcher.extra.qos"),
    ("partition", "change hydra.launcher.partition"),
    ("time limit", "change hydra.launcher.timeout_min"),
    ("memory", "change hydra.launcher.mem_gb"),
    ("gres", "change hydra.launcher.gpus_per_node"),
    ("cpu", "change hydra.launcher.cpus_per_task"),
    ("node configuration", "change hydra.launcher.cpus_per_task, mem_gb or gpus_per_node"),
    ("option", "change hydra.launcher.extra"),
)


def array_size() -> int:
    """The number of jobs in an array that the cluster allows."""
    try:
        shown = subprocess.run(
            ["scontrol", "show", "config"], capture_output=True, text=True, timeout=60, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return UNKNOWN_SIZE
    return most_jobs(shown)


def most_jobs(shown: str) -> int:
    """The number of jobs in an array, from the output of `scontrol show config`.

    MaxArraySize is one more than the largest index, and indices begin at 0. Where it forbids
    arrays, jobs are submitted one by one.
    """
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", shown, re.MULTILINE)
    return max(1, int(found[1])) if found else UNKNOWN_SIZE


def refusal(words: str) -> str:
    """The message for a job that sbatch refused.

    Args:
        words: sbatch's output.
    """
    lines = [re.sub(r"^sbatch: (error: |fatal: )?", "", line) for line in words.splitlines()]
    message = "; ".join(dict.fromkeys(line.strip() for line in lines if line.strip()))
    remedies = [remedy for part, remedy in REMEDIES if part in message.lower()]
    remedy = next(iter(remedies), "options are set as hydra.launcher.NAME=VALUE")
    return f"hydra/launcher=slurm: sbatch refused the jobs: {message}; {remedy}"
