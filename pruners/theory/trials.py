"""Independent trials of a theory experiment: seeds, starts, and chunks that fit in memory."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from pruners.theory.students import Problems, Regression, Teacher

# Megabytes of inputs. On a CPU they stay in a core's cache while a thousand steps read them
# (measured: make bench).
CHUNK_MB = {"cpu": 2.0, "cuda": 4000.0}
NUMBER = 8  # bytes of a float64


@dataclass(frozen=True, eq=False)
class Chunk:
    """Trials that are solved together, on the solver's device."""

    seeds: Sequence[int]
    problem: Regression
    truth: Tensor  # (T, K, d), the teacher's weights
    energy: Tensor  # (T,)


def trial_seeds(trials: int, rng: Generator) -> list[int]:
    """Draw a seed for each trial. The seeds of fewer trials are the first ones of more."""
    return [int(torch.randint(2**62, (1,), generator=rng)) for _ in range(trials)]


def chunk_size(teacher: Teacher, device: torch.device, chunk_mb: float | None) -> int:
    """Number of trials whose inputs take `chunk_mb` megabytes (None: CHUNK_MB), at least one.

    The peak memory is about three times that while a chunk is drawn.
    """
    most = 1e6 * (CHUNK_MB.get(device.type, CHUNK_MB["cuda"]) if chunk_mb is None else chunk_mb)
    return max(1, int(most // (NUMBER * teacher.samples * teacher.dimension)))


def chunks(
    teacher: Teacher, seeds: Sequence[int], device: torch.device, chunk_mb: float | None
) -> Iterator[Chunk]:
    """Draw the trials of these seeds, in order. The division changes numbers only by rounding."""
    size = chunk_size(teacher, device, chunk_mb)
    for first in range(0, len(seeds), size):
        some = seeds[first : first + size]
        drawn: Problems = teacher.draw(some)
        problem = Regression(
            drawn.inputs.to(device), drawn.targets.to(device), drawn.masks.to(device)
        )
        yield Chunk(some, problem, drawn.weights.to(device), drawn.energy.to(device))


def directions(seeds: Sequence[int], masks: Tensor) -> Tensor:
    """Draw a direction for each trial, uniform on the sphere within its mask.

    Returns (T, K, d), of Frobenius norm 1.
    """
    rngs = [Generator().manual_seed(seed ^ 1) for seed in seeds]
    normal = [torch.randn(masks.shape[1:], generator=rng, dtype=torch.float64) for rng in rngs]
    drawn = torch.stack(normal).to(masks.device) * masks
    unit: Tensor = drawn / drawn.flatten(1).norm(dim=1)[:, None, None]
    return unit


def starts(chunk: Chunk, distance: float) -> Tensor:
    """W(0) at exactly `distance` * ||W*||_F from the teacher, in a random masked direction."""
    lengths: Tensor = distance * chunk.truth.flatten(1).norm(dim=1)[:, None, None]  # (T, 1, 1)
    return chunk.truth + lengths * directions(chunk.seeds, chunk.problem.masks)
