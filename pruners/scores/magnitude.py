"""Magnitude and random scores, which use no data.

Sources: docs/methods/magnitude.md, docs/methods/random.md.

Magnitude, s_j = |w_j|: at initialization, this is the "Magnitude" row of Sketching Table 2
(ganguli-lab/Synaptic-Flow, `Mag`). On a trained net (start=dense), it is one-shot magnitude pruning
after training (Han et al., 2015, arXiv:1506.02626). Random, s_j ~ U(0, 1) i.i.d.: the top K form a
uniformly random subset of size K.

Deviations: exact counts with ties by index. Synaptic-Flow, open_lth and rethinking-network-pruning
compare with a threshold and miss the count by one or by all ties. Synaptic-Flow's random scores are
N(0, 1); the subset has the same distribution under any continuous law. Its masks change when its
data pipeline draws more random numbers; ours depend only on shapes, density and seed.

At initialization, the initialiser (models/init.py) determines how many weights magnitude keeps in
each layer; name it beside the result.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import inf
from typing import ClassVar

import torch
from torch import Generator, nn

from pruners.base import Batch, LossFn, Masks, Scores
from pruners.team import ALONE, Team


@dataclass(frozen=True)
class Magnitude:
    """Magnitude score |w|."""

    tag: ClassVar[str] = "magnitude"
    needs_data: ClassVar[bool] = False

    def __call__(
        self,
        model: nn.Module,
        masks: Masks,
        batches: Iterable[Batch],
        loss: LossFn,
        rng: Generator,
        memory: float = inf,
        team: Team = ALONE,
    ) -> Scores:
        """Score every prunable weight; same keys and shapes as `masks`, >= 0.

        Data, `loss`, `rng` and `memory` are not used.
        """
        return {name: model.get_parameter(name).detach().abs() for name in masks}


@dataclass(frozen=True)
class Random:
    """Random score from U(0, 1), independent of weights and data."""

    tag: ClassVar[str] = "random"
    needs_data: ClassVar[bool] = False

    def __call__(
        self,
        model: nn.Module,
        masks: Masks,
        batches: Iterable[Batch],
        loss: LossFn,
        rng: Generator,
        memory: float = inf,
        team: Team = ALONE,
    ) -> Scores:
        """Score every prunable weight; same keys and shapes as `masks`, in [0, 1).

        The scores depend only on the masks' shapes and on `rng`.
        """
        # float32 has 2**24 values: a net of 2e7 weights would have ties, which the index decides
        # instead of chance.
        return {
            name: torch.rand(mask.shape, generator=rng, dtype=torch.float64).to(mask.device)
            for name, mask in masks.items()
        }
