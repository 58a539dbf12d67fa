"""The metadata of stages, as stage.json has them (docs/records.md); without torch."""

from typing import Final, TypedDict

from pruners.declared import Finding
from runner.spec.record import Epoch, RecordedOrigin

# Keys of the metadata.
COST: Final = "cost"  # of a stage that computes
ENTRY: Final = "divergence"  # an entry, or None for a finite stage


class Cost(TypedDict):
    """Multiply-accumulates of a stage, None if they are not known.

    `total`: as it was computed. `dense`: what its training steps cost without masks.
    """

    total: int | None
    dense: int | None


class DivergenceEntry(TypedDict):
    """What is not finite in a stage, and since which epoch."""

    what: str
    epoch: int


class StageMeta(TypedDict, total=False):
    """The metadata of a stage. What computes it gives the first ones, and the store the others.

    `series` is there if the stage measured any. Before version 0.2.0, stages had neither
    `divergence` nor `origin`.
    """

    report: dict[str, Finding]
    seconds: float
    epochs: int
    history: list[Epoch]
    series: dict[str, list[float]]
    cost: Cost
    divergence: DivergenceEntry | None
    stage: str
    kind: str
    dataset_checksum: str
    origin: RecordedOrigin


class PlannedStage(TypedDict):
    """A stage of a plan."""

    name: str
    kind: str
    key: str
    epochs: int
    cached: bool


class DoneStage(StageMeta):
    """The metadata of a stage of a run that has been performed."""

    name: str
    key: str
    cached: bool
