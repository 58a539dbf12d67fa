"""Frozen descriptions of runs and their stages, with every duration already scaled.

A run is a list of stages; a stage is one cached step. A stage's `Start` describes where its weights
come from, so that reinitialising, rewinding and fine-tuning are values, not code. Components (data
set, model, pruner, measurement) are frozen dataclasses of the packages `runner.data`, `models` and
`pruners`.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from pruners.declared import Approximate
from runner.spec.inputs import MaskFile, Weights
from runner.spec.lr_schedule import LrSchedule, Step
from runner.spec.optimizer import Optimizer, Sgd

KINDS = ("train", "prune", "search", "measure", "read")  # as YAML writes them
LOAD = "load"  # a training whose weights are loaded instead
PRECISIONS = ("fp32", "bf16")
# What `Recipe` requires of its settings, for messages.
NESTEROV = "above 0: this method uses Nesterov momentum (method.nesterov=false uses plain momentum)"
EVERY = "0 or more: epochs between two tests; 0 tests only after the last epoch of each stage"


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


class Settings(Protocol):
    """The settings that `train` and the recipe of a stage have in common."""

    @property
    def lr(self) -> float: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def momentum(self) -> float: ...
    @property
    def weight_decay(self) -> float: ...
    @property
    def test_every(self) -> int: ...
    @property
    def precision(self) -> str: ...


def invalid_settings(settings: Settings) -> list[str]:
    """One message for each setting that is out of its range."""
    return [
        f"train.{key}={getattr(settings, key)} must be {what}"
        for key, ok, what in (
            ("lr", settings.lr > 0, "positive"),
            ("batch_size", settings.batch_size >= 2, "at least 2: BatchNorm needs two examples"),
            ("momentum", 0 <= settings.momentum < 1, "in [0, 1)"),
            ("weight_decay", settings.weight_decay >= 0, "0 or more"),
            ("test_every", settings.test_every >= 0, EVERY),
            ("precision", settings.precision in PRECISIONS, f"one of {', '.join(PRECISIONS)}"),
        )
        if not ok
    ]


@dataclass(frozen=True)
class Recipe:
    """Training settings of one stage. Durations are in epochs actually run (scaled).

    Args:
        epochs: length of the learning-rate schedule; 0 for a mask search that ends with its first
            mask.
        first_epoch: epoch of the schedule at which the stage begins; a fraction where it begins
            within an epoch.
        last_epoch: epoch of the schedule at which the stage ends; None = the schedule's end.
        warmup: epochs, or a fraction of one, in which lr grows linearly from nearly zero to its
            first value.
        nesterov: use Nesterov momentum.
        trainable_decay: weight decay of the parameters that a masking trains besides the weights;
            None = that of the weights.
        lr_schedule: gives the learning rate of each step (runner/spec/lr_schedule.py).
        optimizer: changes the weights (runner/spec/optimizer.py).
        test_every: epochs between tests on held-out images, counted from the schedule's start. A
            stage's last epoch is always tested; 0 = only this one.
    """

    tag: ClassVar[str] = "recipe"
    epochs: int
    lr: float
    batch_size: int
    momentum: float
    weight_decay: float
    lr_schedule: LrSchedule = Step()
    precision: str = "fp32"
    first_epoch: float = 0
    last_epoch: int | None = None
    warmup: float = 0.0
    nesterov: bool = False
    trainable_decay: float | None = None
    test_every: int = 1
    optimizer: Optimizer = Sgd()

    def __post_init__(self) -> None:
        problems = invalid_settings(self) + [
            f"train.{key}={getattr(self, key)} must be {what}"
            for key, ok, what in (
                ("epochs", self.epochs >= 0, "0 or more"),
                ("momentum", self.momentum > 0 or not self.nesterov, NESTEROV),
                (
                    "warmup",
                    0 <= self.warmup < max(self.epochs, 1),
                    f"0ep or more, and shorter than the training ({self.epochs} epochs)",
                ),
            )
            if not ok
        ]
        if self.nesterov and not self.optimizer.nesterov:
            problems.append(
                f"train.optimizer={self.optimizer.tag}: this method uses Nesterov momentum, which"
                " only SGD has; take train.optimizer=sgd or method.nesterov=false"
            )
        if problems:
            raise ValueError("\n".join(problems))

    @property
    def trained_epochs(self) -> int:
        """Epochs that this stage itself trains; the first one possibly in part."""
        return self.end - int(self.first_epoch)

    def first_step(self, per_epoch: int) -> int:
        """Step of the schedule, of `per_epoch` in an epoch, at which the stage begins.

        At least one step is left to train.
        """
        first = step_of(self.first_epoch, per_epoch)
        return min(first, self.end * per_epoch - 1) if first else 0

    def tests(self, epoch: int) -> bool:
        """Whether to test on held-out images after `epoch` epochs of the schedule."""
        return epoch == self.end or bool(self.test_every and epoch % self.test_every == 0)

    @property
    def decay_of_trainables(self) -> float:
        """Weight decay of the parameters that a masking trains besides the weights."""
        return self.weight_decay if self.trainable_decay is None else self.trainable_decay

    @property
    def end(self) -> int:
        """The epoch of the schedule at which the stage ends."""
        return self.epochs if self.last_epoch is None else self.last_epoch


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

    def stage(self, name: str) -> Stage:
        """The stage of that name."""
        return next(stage for stage in self.stages if stage.name == name)


def step_of(epoch: float, per_epoch: int) -> int:
    """Number of steps after which a point in training is reached; at least one, except for 0."""
    return max(1, round(epoch * per_epoch)) if epoch else 0


def family(name: str) -> str:
    """The common name of the rounds of a repeated stage: `prune` for `prune12`."""
    return name.rstrip("0123456789")


def rounds_of(name: str, stages: list[str]) -> list[str]:
    """The stages that `name` refers to: the stage itself, or all rounds of a repeated one."""
    return [stage for stage in stages if name in (stage, family(stage))]


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
