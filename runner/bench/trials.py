"""Theory experiments in `make bench`: trials solved together, in chunks that stay in a core's cache, against one after another; and the memory that takes.

Both do the same steps of the same trials with the same code; only the chunk differs. On a GPU a chunk is all trials. Memory is that of a process of its own.
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
from runner.bench.scores import Contest
from runner.data.teacher import GaussianTeacher
from runner.paths import CONF

TEACHER = GaussianTeacher(dimension=100, neurons=5, inputs=100, samples=400)  # methods/sample_complexity.md: the middle of Fig. 4
TRIALS = {"cpu": 16, "cuda": 400}
SOLVER = Agd(steps=150, tolerance=0.0)  # as many steps for every trial


def trial_contest(device: torch.device) -> Contest:
    """Ours against one after another, on `device`."""
    trials, steps = TRIALS.get(device.type, TRIALS["cuda"]), SOLVER.steps
    sizes = f"d = {TEACHER.dimension}, K = {TEACHER.neurons}, N = {TEACHER.samples}"
    work = f"{trials} trials of AGD, {sizes}, {steps} steps, {chunk_size(TEACHER, device, None)} at a time"
    return Contest(work, "the same, one after another", solving(device, trials, None), solving(device, trials, 1e-6))


def solving(device: torch.device, trials: int, chunk_mb: float | None) -> Callable[[], object]:
    """Solve drawn trials in chunks of that size; drawing them is not timed."""
    drawn = list(chunks(TEACHER, range(trials), device, chunk_mb))
    begun = [starts(chunk, 0.2) for chunk in drawn]
    return lambda: [SOLVER(chunk.problem, start).weights for chunk, start in zip(drawn, begun, strict=True)]


def trial_memory() -> tuple[int, int]:
    """Bytes of the inputs of a chunk on a CPU, and the peak that drawing and solving chunks took beyond what the process had."""
    done = subprocess.run([sys.executable, "-m", "runner.bench.trials"], cwd=CONF.parent, capture_output=True, text=True, check=True)
    inputs, taken = json.loads(done.stdout.splitlines()[-1])
    return inputs, taken


def main() -> None:
    """Draw and solve sixteen trials, a chunk at a time, as an experiment does; print both numbers."""
    cpu, short = torch.device("cpu"), replace(SOLVER, steps=20)
    size = chunk_size(TEACHER, cpu, CHUNK_MB["cpu"])
    warm = next(chunks(TEACHER, [0], cpu, None))
    short(warm.problem, starts(warm, 0.2))  # what the first call of a library keeps is not the trials'
    before = resident()
    for chunk in chunks(TEACHER, range(TRIALS["cpu"]), cpu, None):
        short(chunk.problem, starts(chunk, 0.2))
    print(json.dumps([NUMBER * size * TEACHER.samples * TEACHER.dimension, resident(peak=True) - before]))


if __name__ == "__main__":
    main()
