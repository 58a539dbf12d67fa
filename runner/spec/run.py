"""Frozen descriptions of runs and their stages, with every duration already scaled.

A run is a list of stages; a stage is one cached step. A stage's `Start` describes where its weights
come from, so that reinitialising, rewinding and fine-tuning are values, not code. Components (data
set, model, pruner, measurement) are frozen dataclasses of the packages `runner.data`, `models` and
`pruners`.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar

from pruners.declared import Approximate, Optional
from runner.spec.inputs import MaskFile, Weights
from runner.spec.recipe import Recipe

KINDS = ("train", "prune", "search", "measure", "read")  # as YAML writes them
LOAD = "load"  # a training whose weights are loaded instead


@dataclass(frozen=True)
class Start:
    """Where a stage's weights come from.

    Args:
        stage: `init` (the initial weights), `reinit` (a new draw) or the name of an earlier stage.
        epoch: epochs after which that stage's weights are taken (rewinding), a fraction where the
            paper counts iterations; None = its end.
        resume: also take its optimizer state and continue its learning-rate schedule.
        advance: continue its learning-rate schedule where it ended, with a new optimizer. As in
            every stage, the order of the images is the stage's own.
        follow: go on from `epoch` as that stage did: with its learning rates, the order of its
            images and their augmentation, but with a new optimizer (open_lth).
        replay: epoch of the stage's own schedule at which it begins, with the weights of that
            stage's end and a new optimizer (learning-rate rewinding); None = its beginning.
    """

    tag: ClassVar[str] = "start"
    stage: str = "init"
    epoch: float | None = None
    resume: bool = False
    advance: bool = False
    follow: bool = False
    replay: float | None = None

    @property
    def continues(self) -> bool:
        """Whether the stage continues the earlier one's learning-rate schedule."""
        return self.resume or self.advance or self.follow


@dataclass(frozen=True)
class Stage:
    """One cached step of a run.

    Args:
        masks: earlier stage whose masks are applied; `init` = full ones; None = those of
            `start.stage`, or full ones.
        needs: measure stages whose findings the component receives; `init` is the initial weights.
        density: the target of a prune stage; None = the method finds it.
        recipe: for stages that train.
        component: the pruner of a prune stage, the measurement of a measure stage, or the masking
            that acts during training (optional for train and search).
        data: synthetic images to train on (pruners/selection/source.py); None = the data set's.
        weights: those of a stage of kind `load`, which loads them instead of training.
        mask_file: that of a stage of kind `read`, whose findings are the file's masks.
        draws: earlier stage whose random draws, and order of the images, this one repeats; None =
            its own.
        extra: a measurement of the run that changes nothing in it. It is neither part of the run's
            identity nor of its cost, and no other stage reads it.
    """

    tag: ClassVar[str] = "stage"
    name: str
    kind: str
    start: Start = Start()
    masks: str | None = None
    needs: tuple[str, ...] = ()
    density: float | None = None
    recipe: Recipe | None = None
    component: Any = None
    data: Any = None
    weights: Weights | None = None
    mask_file: MaskFile | None = None
    draws: str | None = None
    extra: bool = field(default=False, compare=False)

    @property
    def required(self) -> bool:
        """Whether a finished run without this stage lacks something."""
        return not (isinstance(self.component, Optional) and self.component.optional)

    @property
    def streams(self) -> str:
        """Name of the stage whose random streams this one uses."""
        return self.draws or self.name

    @property
    def parents(self) -> tuple[str, ...]:
        """Names of the earlier stages that this one reads."""
        names = (self.start.stage, self.masks, *self.needs)
        return tuple(dict.fromkeys(n for n in names if n not in (None, "init", "reinit")))

    @property
    def exact(self) -> bool:
        """False if the component declares that it reaches its density only in expectation."""
        return not isinstance(self.component, Approximate) or self.component.exact


@dataclass(frozen=True)
class Run:
    """One resolved configuration with one seed.

    `label`, `scale` and `epoch_column` are for the record.

    Args:
        density: requested of the whole net; None = the method finds it, or keeps every weight.
        narrowed_from: the whole net, if `model` is a narrower form of it with as many weights as
            the density keeps; None = `model` is the whole net.
    """

    tag: ClassVar[str] = "run"
    method: str
    label: str
    dataset: Any
    model: Any
    seed: int
    stages: tuple[Stage, ...]
    density: float | None = None
    train_fraction: float = 1.0
    scale: float = 1.0
    epoch_column: tuple[str, ...] = ()
    narrowed_from: Any = None

    @property
    def masked_density(self) -> float | None:
        """The density that masks have to reach; None = any. Those of a narrower net keep all."""
        return self.density if self.narrowed_from is None else None

    @property
    def precision(self) -> str:
        """Precision of the last training, or of the measurement if the run trains nothing."""
        own = (getattr(stage.component, "precision", "fp32") for stage in reversed(self.stages))
        return next(
            (stage.recipe.precision for stage in reversed(self.stages) if stage.recipe),
            next(own, "fp32"),
        )

    @property
    def essential(self) -> tuple[Stage, ...]:
        """The stages that make the run what it is: those that are not `extra`."""
        return tuple(stage for stage in self.stages if not stage.extra)

    def stage(self, name: str) -> Stage:
        """The stage of that name."""
        return next(stage for stage in self.stages if stage.name == name)


def family(name: str) -> str:
    """The common name of the rounds of a repeated stage: `prune` for `prune12`."""
    return name.rstrip("0123456789")


def rounds_of(name: str, stages: list[str]) -> list[str]:
    """The stages that `name` refers to: the stage itself, or all rounds of a repeated one."""
    return [stage for stage in stages if name in (stage, family(stage))]


def required_extras(run: Run) -> tuple[str, ...]:
    """The stages beside the run without which it lacks something."""
    return tuple(stage.name for stage in run.stages if stage.extra and stage.required)


def snapshots_wanted(run: Run) -> dict[str, frozenset[float]]:
    """Stage name -> epochs that later stages rewind to."""
    wanted: dict[str, set[float]] = {}
    for stage in run.stages:
        if stage.start.epoch:
            wanted.setdefault(stage.start.stage, set()).add(stage.start.epoch)
    return {name: frozenset(epochs) for name, epochs in wanted.items()}


def trains(stage: Stage) -> int:
    """Number of epochs that a stage trains; 0 if it does not train."""
    return stage.recipe.trained_epochs if stage.recipe else 0
