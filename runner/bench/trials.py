"""Theory experiments in `make bench`: trials in chunks against one after another, and memory.

Chunks fit a core's cache; on a GPU a chunk is all trials. Both sides do the same steps of the same
trials with the same code; only the chunk size differs. Memory is that of a separate process.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace

import torch

from pruners.theory.agd import Agd
from pruners.theory.trials import CHUNK_MB, NUMBER, chunk_size, chunks, starts
from runner.bench.memory import resident
from runner.bench.timing import Comparison
from runner.data.teacher import GaussianTeacher
from runner.paths import CONF

# docs/methods/sample_complexity.md: the middle of Fig. 4.
TEACHER = GaussianTeacher(dimension=100, neurons=5, inputs=100, samples=400)
TRIALS = {"cpu": 16, "cuda": 400}
SOLVER = Agd(steps=150, tolerance=0.0)  # equally many steps for every trial


def trial_comparison(device: torch.device) -> Comparison:
    """Compare chunks of trials with one trial after another, on `device`."""
    trials, steps = TRIALS.get(device.type, TRIALS["cuda"]), SOLVER.steps
    sizes = f"d = {TEACHER.dimension}, K = {TEACHER.neurons}, N = {TEACHER.samples}"
    together = chunk_size(TEACHER, device, None)
    work = f"{trials} trials of AGD, {sizes}, {steps} steps, {together} at a time"
    return Comparison(
        "trials",
        work,
        "the same, one after another",
        solving(device, trials, None),
        solving(device, trials, 1e-6),
    )


def solving(device: torch.device, trials: int, chunk_mb: float | None) -> Callable[[], object]:
    """Return a function that solves drawn trials in chunks of `chunk_mb`.

    Drawing the trials is not timed.
    """
    drawn = list(chunks(TEACHER, range(trials), device, chunk_mb))
    pairs = [(chunk.problem, starts(chunk, 0.2)) for chunk in drawn]
    return lambda: [SOLVER(problem, start).weights for problem, start in pairs]


def trial_memory() -> tuple[int, int]:
    """Return the bytes of the inputs of a chunk on a CPU, and the peak memory of the trials.

    The peak covers drawing and solving chunks, beyond the memory that the process had before.
    """
    done = subprocess.run(
        [sys.executable, "-m", "runner.bench.trials"],
        cwd=CONF.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    inputs, taken = json.loads(done.stdout.splitlines()[-1])
    return inputs, taken


def main() -> None:
    """Draw and solve sixteen trials in chunks, as an experiment does; print both numbers."""
    cpu, short = torch.device("cpu"), replace(SOLVER, steps=20)
    size = chunk_size(TEACHER, cpu, CHUNK_MB["cpu"])
    warm = next(chunks(TEACHER, [0], cpu, None))
    # What a library keeps after its first call does not count as the trials' memory.
    short(warm.problem, starts(warm, 0.2))
    before = resident()
    for chunk in chunks(TEACHER, range(TRIALS["cpu"]), cpu, None):
        short(chunk.problem, starts(chunk, 0.2))
    inputs = NUMBER * size * TEACHER.samples * TEACHER.dimension
    print(json.dumps([inputs, resident(peak=True) - before]))


if __name__ == "__main__":
    main()
