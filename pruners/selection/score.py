"""What a score of weights is, and what it may declare besides its values.

A score is `(model, masks, batches, loss, rng, memory, team) -> Scores` and leaves the model
bit-identical. `rng` is the stage's random stream, for scores that are themselves random; `memory`
is the number of bytes that its graphs may take (pruners/memory.py); `team` are the processes that
divide the batches (pruners/team.py).
"""

from collections.abc import Callable, Iterable
from typing import Protocol, runtime_checkable

from torch import Generator, nn

from pruners.base import Batch, LossFn, Masks, Passes, Scores
from pruners.team import Team

# Model, masks, batches, loss, random stream of the stage, bytes that graphs may take, processes
# that divide the batches -> scores.
ScoreFn = Callable[[nn.Module, Masks, Iterable[Batch], LossFn, Generator, float, Team], Scores]


class Score(Protocol):
    """A score for each weight; larger = more worth keeping."""

    @property
    def needs_data(self) -> bool: ...  # False: `batches` is empty

    def __call__(
        self,
        model: nn.Module,
        masks: Masks,
        batches: Iterable[Batch],
        loss: LossFn,
        rng: Generator,
        memory: float,
        team: Team,
    ) -> Scores: ...


@runtime_checkable
class StatesCost(Protocol):
    """A score that states what it costs; one that needs no data costs nothing."""

    # in forward passes of one image, if the source has given so many images
    def passes(self, images: int, classes: int) -> int: ...


@runtime_checkable
class InRounds(Protocol):
    """A score that shares work between the rounds of one pruning."""

    # From the net before the first round. Only the masks change between the rounds; they shrink,
    # unless the score `Revives`.
    def for_rounds(self, model: nn.Module, masks: Masks) -> ScoreFn: ...


@runtime_checkable
class Revives(Protocol):
    """A score that declares whether weights pruned in earlier rounds may be kept again."""

    @property
    def revives(self) -> bool: ...


@runtime_checkable
class ReadsOn(Protocol):
    """A score whose rounds read different batches of one pass over the images."""

    @property
    def batches(self) -> int: ...  # in each round

    @property
    def reads_on(self) -> bool: ...


@runtime_checkable
class Mapped(Protocol):
    """A score that has both signs if its option `map` is `signed`."""

    @property
    def map(self) -> str: ...


def cost(score: Score, images: int, classes: int) -> Passes | None:
    """What a score of so many images costs, in all; None if the score does not state it."""
    if isinstance(score, StatesCost):
        return Passes(score.passes(images, classes))
    return None if score.needs_data else Passes(0)
