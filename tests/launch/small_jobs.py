"""Small scripts as jobs of a queue. Processes under test import this module, so it is light."""

import sys
from pathlib import Path

from runner.launch.jobs import QueueJob
from runner.launch.slots import Slot

# Seconds until a test counts as hanging. The machine may be busy: nothing else depends on the time.
HANGS = 600
# F is the folder of a job. The job counts its attempts, writes its result by done(), and can wait
# for a file beside its folder.
PRELUDE = (
    f"HANGS = {HANGS}"
    + """
import json, os, pathlib, resource, signal, subprocess, sys, time
F = pathlib.Path(sys.argv[1])
STARTED = time.monotonic()
with (F / "attempts").open("a") as file:
    file.write(f"{os.getpid()}\\n")
def done(**more):
    times = {"started": STARTED, "ended": time.monotonic()}
    (F / "result.json").write_text(json.dumps({**times, **more}))
def until(name):
    end = time.monotonic() + HANGS
    while not (F.parent / name).exists():
        if time.monotonic() > end:
            sys.exit(f"waited for {name} in vain")
        time.sleep(0.01)
"""
)


def small_job(
    folder: Path, name: str, does: str, makes: tuple[str, ...] = (), script: bool = False
) -> QueueJob:
    """A job whose stages are represented by files beside its folder.

    Args:
        script: whether it is the job of a file, which a fork server can start.
    """
    command = (sys.executable, "-S", "-c", PRELUDE + does, str(folder / name))
    if script:
        path = folder / f"{name}.py"
        path.write_text(PRELUDE + does)
        command = (sys.executable, str(path), str(folder / name))
    there = lambda key: (folder / key).exists()  # noqa: E731
    return QueueJob(
        name,
        command,
        folder / name,
        (folder / name / "result.json").is_file,
        frozenset(makes),
        there,
        f"again {name}",
    )


def plain_slots(count: int) -> list[Slot]:
    return [Slot() for _ in range(count)]
