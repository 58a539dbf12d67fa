"""A stage of a method's or portrait's YAML as typed dataclasses."""

from dataclasses import dataclass
from typing import Any, Literal

from runner.config import typed
from runner.config.repeat import Placed
from runner.config.typed import Alias


@dataclass(frozen=True)
class StartNode:
    """Where a stage's weights come from (runner/spec/run.py, `Start`).

    Args:
        from_: `init`, `reinit` or an earlier stage.
        rewind: the point in that stage's training, e.g. 10ep or 2000it; None = its end.
        replay: the point of the stage's own schedule at which it begins, in the same form.
    """

    from_: str = "init"
    rewind: int | str | None = None
    resume: bool = False
    advance: bool = False
    follow: bool = False
    replay: int | str | None = None


@dataclass(frozen=True)
class StageNode:
    """One entry of a method's or portrait's `stages`.

    Args:
        pruner: the component of a prune stage; in a stage that trains, it acts during the training.
        measure: the component of a measure stage.
        data: synthetic images to train on instead of the data set's.
        weights: if set, the stage loads these weights and does not train.
        file: of a read stage: the file of masks.
        match: how the names of the weights or masks are found: names, or shape.
        missing: of a read stage: whether a layer without a mask is refused, or stays dense.
        density: the density that it prunes to; the run's unless set.
        round: its round, in a repeated group.
        epochs, lr, lr_schedule, batch_size: replace those of `train`.
        segment: epochs after which the stage ends, within a longer schedule.
        draws: the stage whose random draws and order of images it repeats.
        if_: if null, the stage is left out.
        extra: a measurement beside the run (runner/spec/run.py, `Stage`).
    """

    name: str
    kind: Literal["train", "prune", "search", "measure", "read"]
    start: StartNode | None = None
    masks: str | None = None
    needs: tuple[str, ...] = ()
    pruner: Any = None
    measure: Any = None
    data: Any = None
    weights: Any = None
    file: Any = None
    missing: Literal["refused", "dense"] = "refused"
    draws: str | None = None
    match: Literal["names", "shape"] = "names"
    density: float | None = None
    round: int | None = None
    epochs: int | str | None = None
    segment: int | None = None
    lr: float | None = None
    lr_schedule: str | None = None
    lr_factor: float = 1.0
    batch_size: int | None = None
    nesterov: bool = False
    trainable_decay: float | None = None
    if_: Any = True
    extra: bool = False

    @property
    def component(self) -> Any:
        """The node of its pruner or measurement; None if it has none."""
        return self.measure if self.kind == "measure" else self.pruner

    @property
    def slot(self) -> str:
        """The key of its component: `pruner` or `measure`."""
        return "measure" if self.kind == "measure" else "pruner"

    @property
    def reads(self) -> set[str]:
        """Names of the stages that it reads, `init` and `reinit` included."""
        start = self.start.from_ if self.start else "init"
        return {name for name in (start, self.masks, self.draws, *self.needs) if name}


def read_stage(stage: Placed, density: float | None, alias: Alias) -> StageNode:
    """The stage, with its keys checked by name and type. Its components are not built.

    Args:
        density: the run's.

    Raises:
        ConfigError: with every problem found.
    """
    return typed.build(
        StageNode, {"density": density, **stage.node}, stage.place, alias, as_written
    )


def as_written(value: Any, key: str, alias: Alias) -> Any:
    """`value` itself: components are built later."""
    return value
