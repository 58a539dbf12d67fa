"""gaussian_teacher: sparse one-hidden-layer teachers on Gaussian inputs.

    y = (1/K) sum_j relu(w*_j . x[Omega*_j]) + xi,    x ~ N(0, I_d),    xi ~ N(0, sigma^2)

Source: Zhang et al., "Why Lottery Ticket Wins?", Sec. 5. Nothing is read or stored: every trial of
a theory experiment draws its own supports, weights, inputs and noise, in float64. There are no
images, so no network of the runner trains on it. Supports: indices without replacement, independent
for each neuron. Weights: uniform on [-0.5, 0.5].

Left open by the paper: sigma / E_y uses each trial's own E_y, the root mean square of its noiseless
outputs. The student's supports contain the teacher's (Sec. 2); the additional indices are uniform
too.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Generator, Tensor

from pruners.base import PAPER_IMAGES
from runner.data.base import Data, Info, Split
from runner.data.sources import Included, Source

HALF_WIDTH = 0.5  # of the teacher's weights


@dataclass(frozen=True, eq=False)
class Problems:
    """Regression problems of T trials, all of the same sizes, in float64 on the CPU."""

    inputs: Tensor  # (T, N, d)
    targets: Tensor  # (T, N), with noise
    weights: Tensor  # (T, K, d), the teacher's, zero outside its supports
    masks: Tensor  # (T, K, d), bool: the supports of the students
    energy: Tensor  # (T,), E_y


@dataclass(frozen=True)
class GaussianTeacher:
    """A distribution of teachers; fields: conf/dataset/gaussian_teacher.yaml.

    Args:
        dimension: d, number of inputs.
        neurons: K, of the teacher and of every student.
        inputs: r, inputs of each neuron of the student.
        teacher_inputs: r*, inputs of each neuron of the teacher; None = r.
        samples: N, training examples of a trial.
        noise: sigma / E_y.
    """

    tag: ClassVar[str] = "gaussian_teacher"
    name: str = "gaussian_teacher"
    dimension: int = 100
    neurons: int = 5
    inputs: int = 20
    teacher_inputs: int | None = None
    samples: int = 1000
    noise: float = 0.0
    size: ClassVar[None] = None
    validation: ClassVar[float] = 0.0
    augment: ClassVar[str] = "none"
    normalise: ClassVar[str] = "none"
    source: ClassVar[Source] = Included()
    stands_for: ClassVar[None] = None
    paper_images: ClassVar[int] = PAPER_IMAGES  # no training counts them

    def __post_init__(self) -> None:
        of_student = f"from 1 to dataset.dimension={self.dimension}: inputs of a student's neuron"
        of_teacher = f"from 1 to dataset.inputs={self.inputs}: the student has the teacher's inputs"
        rules = {
            "name": (self.name == self.tag, f"{self.tag}: it is the data's name in records"),
            "dimension": (self.dimension >= 1, "at least 1: the number of inputs"),
            "neurons": (self.neurons >= 1, "at least 1"),
            "inputs": (1 <= self.inputs <= self.dimension, of_student),
            "teacher_inputs": (1 <= self.seen <= self.inputs, of_teacher),
            "samples": (self.samples >= 1, "at least 1"),
            "noise": (0 <= self.noise < float("inf"), "0 or more: sigma / E_y"),
        }
        problems = [
            f"dataset.{key}={getattr(self, key)} must be {what}"
            for key, (valid, what) in rules.items()
            if not valid
        ]
        if problems:
            raise ValueError("\n".join(problems))

    @property
    def seen(self) -> int:
        """r*, inputs of each neuron of the teacher."""
        return self.inputs if self.teacher_inputs is None else self.teacher_inputs

    def info(self) -> Info:
        """An example counts as an image of d channels and one pixel; the output is one number."""
        return Info(
            channels=self.dimension, size=1, classes=1, train=self.samples, test=0, images=False
        )

    def places(self, data_dir: Path) -> list[Path]:
        """Return no folders: there are no files."""
        return []

    def verify(self, data_dir: Path) -> None:
        """Do nothing: there are no files."""

    def check(self, data_dir: Path) -> None:
        """Do nothing: there are no files."""

    def load(self, data_dir: Path, train_fraction: float) -> Data:
        """Return a data set without images; its checksum stands for the way trials are drawn."""
        nothing = Split(
            torch.empty((0, self.dimension, 1, 1), dtype=torch.uint8),
            torch.empty(0, dtype=torch.int64),
        )
        zeros = torch.zeros(self.dimension)
        checksum = hashlib.sha256(b"gaussian_teacher: drawn, version 1").hexdigest()
        return Data(self.name, nothing, None, nothing, zeros, zeros + 1, 1.0, 1, "none", checksum)

    def draw(self, seeds: Sequence[int]) -> Problems:
        """Draw a trial for each seed, independent of the other seeds and of the batch.

        Another noise or N does not change the teacher.
        """
        inputs, targets, weights, masks, energy = (
            torch.stack(parts) for parts in zip(*map(self._trial, seeds), strict=True)
        )
        return Problems(inputs, targets, weights, masks, energy)

    def _trial(self, seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        rng, shape = Generator().manual_seed(seed), (self.neurons, self.dimension)
        # (K, d), rank of each input in a random order
        order = torch.rand(shape, generator=rng, dtype=torch.float64).argsort(1).argsort(1)
        weights = HALF_WIDTH * (2 * torch.rand(shape, generator=rng, dtype=torch.float64) - 1)
        weights.masked_fill_(order >= self.seen, 0.0)
        inputs = torch.randn((self.samples, self.dimension), generator=rng, dtype=torch.float64)
        clean = (inputs @ weights.T).clamp(min=0).mean(1)  # (N,)
        energy = clean.square().mean().sqrt()
        noise = self.noise * energy * torch.randn(self.samples, generator=rng, dtype=torch.float64)
        return inputs, clean + noise, weights, order < self.inputs, energy
