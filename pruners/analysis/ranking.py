"""Masks by scores, for measurements of them: of a pruner, and the first mask of a search."""

from dataclasses import dataclass
from typing import Any, Protocol

from torch import Generator, nn
from torch.nn import functional as F

from pruners.base import Masks, Scores
from pruners.dense_layers import with_classifier
from pruners.scores.magnitude import Magnitude
from pruners.search.init import searched, top
from pruners.search.popup import EdgePopup, SrPopup
from pruners.selection.pick import Top
from pruners.selection.score import Score
from pruners.selection.score_pruner import ScorePruner
from pruners.selection.source import Ones


class Ranking(Protocol):
    """Masks of the largest scores."""

    @property
    def score(self) -> Score: ...

    # (task) -> batches for the score; None for scores that need no data
    @property
    def source(self) -> Any: ...

    def layers(self, model: nn.Module, masks: Masks) -> Masks: ...  # those to prune

    # how many weights each layer keeps
    def keep(
        self, model: nn.Module, scores: Scores, masks: Masks, density: float
    ) -> dict[str, int]: ...

    @property
    def rounds(self) -> int: ...  # in which weights are pruned

    def problems(self) -> list[str]: ...  # why its masks are not those of the largest scores


@dataclass(frozen=True)
class PrunerRanking:
    """Masks of a pruner."""

    pruner: ScorePruner

    @property
    def score(self) -> Score:
        """`Ranking`."""
        return self.pruner.score

    @property
    def source(self) -> Any:
        """`Ranking`."""
        return self.pruner.source

    def layers(self, model: nn.Module, masks: Masks) -> Masks:
        """`Ranking`."""
        return self.pruner.pruned(model, masks)

    def keep(
        self, model: nn.Module, scores: Scores, masks: Masks, density: float
    ) -> dict[str, int]:
        """`Ranking`."""
        return self.pruner.allocate(scores, masks, density)

    @property
    def rounds(self) -> int:
        """`Ranking`."""
        return 1 if self.pruner.when == "oneshot" else len(self.pruner.schedule(0.5))

    def problems(self) -> list[str]:
        """`Ranking`."""
        if isinstance(self.pruner.pick, Top):
            return []
        return [" needs pick=top: other picks do not keep the largest scores of a layer"]


@dataclass(frozen=True)
class SearchRanking:
    """The first mask of a search, by its criterion. The mask that it finds is no mean."""

    search: SrPopup | EdgePopup

    @property
    def score(self) -> Score:
        """`Ranking`."""
        return self.search.init.ranked_by()[0]

    @property
    def source(self) -> Any:
        """`Ranking`."""
        return self.search.init.ranked_by()[1]

    def layers(self, model: nn.Module, masks: Masks) -> Masks:
        """`Ranking`."""
        return searched(model, masks, with_classifier(self.search.dense, self.search.classifier))

    def keep(
        self, model: nn.Module, scores: Scores, masks: Masks, density: float
    ) -> dict[str, int]:
        """`Ranking`: by default those of the magnitudes, for any criterion."""
        if self.search.init.budgets == "magnitude":
            scores = Magnitude()(model, masks, (), F.cross_entropy, Generator())
        return self.search.allocate(scores, masks, density)

    @property
    def rounds(self) -> int:
        """`Ranking`."""
        return 1

    def problems(self) -> list[str]:
        """`Ranking`."""
        return []


def exact(ranking: Ranking) -> bool:
    """Whether the masks come from scores that sample nothing: they have no sampling error."""
    return isinstance(ranking.score, Magnitude) or isinstance(ranking.source, Ones)


def ranking_of(pruner: ScorePruner | SrPopup | EdgePopup) -> Ranking:
    """The ranking of a pruner or search."""
    return PrunerRanking(pruner) if isinstance(pruner, ScorePruner) else SearchRanking(pruner)


def chosen(
    ranking: Ranking, model: nn.Module, scores: Scores, masks: Masks, density: float
) -> Masks:
    """The masks of a ranking inside `masks`."""
    keep = ranking.keep(model, scores, masks, density)
    inside = {name: s.masked_fill(~masks[name], float("-inf")) for name, s in scores.items()}
    return top(inside, keep, inside)
