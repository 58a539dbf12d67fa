"""The stages of a run built so far, against which the next stage is checked."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from runner.config.group_nodes import TrainNode, read_train
from runner.config.interpolation import Resolved
from runner.config.stage_node import StageNode
from runner.spec.durations import epochs_of
from runner.spec.run import Stage


@dataclass
class BuiltStages:
    """The stages built so far and the epoch at which each ends.

    Args:
        images: training images in an epoch to which durations in iterations refer.
        finished: as for `build_run`: files may have been deleted since the run.
        ends: stage name -> its last epoch in the paper's numbers, for messages.
        reached: stage name -> epoch of the schedule at its end; a stage that does not train keeps
            that of its start.
    """

    resolved: Resolved
    model: Any
    images: int
    finished: bool
    stages: dict[str, Stage] = field(default_factory=dict)
    ends: dict[str, int] = field(default_factory=dict)
    reached: dict[str, int] = field(default_factory=dict)

    @cached_property
    def train(self) -> TrainNode:
        """The `train` group: settings that all training stages share."""
        return read_train(self.resolved.values)

    def key(self, place: str) -> str:
        """The key by which a user sets the value at `place`."""
        return self.resolved.origins.key(place)

    def paper_epochs(self, node: StageNode, place: str) -> int:
        """The epochs of a stage in the paper's numbers, before scaling."""
        epochs = self.train.epochs if node.epochs is None else node.epochs
        return epochs_of(self.key(f"{place}.epochs"), epochs)
