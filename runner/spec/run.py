"""What is run: frozen descriptions of stages and runs, with every duration already scaled.

A run is a list of stages; a stage is one cached step. `Start` says where a stage's weights come from, so that reinitialising, rewinding and fine-tuning are
values, not code. Components (data set, model, pruner, measurement) are frozen dataclasses of the packages `runner.data`, `models` and `pruners`.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar

from pruners.base import (
    Approximate,
)
from runner.spec.lr_schedule import LrSchedule, Step

KINDS = ("train", "prune", "search", "measure")  # as YAML writes them
LOAD = "load"  # what a training becomes whose weights come from elsewhere
PRECISIONS = ("fp32", "bf16")


@dataclass(frozen=True)
class Start:
    """Where a stage's weights come from.

    Args:
        stage: `init` (the initial weights), `reinit` (a new draw) or the name of an earlier stage.
        epoch: epochs after which that stage's weights are taken (rewinding), a fraction where the paper counts iterations; None = its end.
        resume: also take its optimizer state and go on with its learning-rate schedule.
        advance: go on with its learning-rate schedule from that epoch, with a fresh optimizer (and, as every stage, its own order of images).
    """

    tag: ClassVar[str] = "start"
    stage: str = "init"
    epoch: float | None = None
    resume: bool = False
    advance: bool = False


@dataclass(frozen=True)
class Weights:
    """Weights from elsewhere (runner/engine/pretrained.py).

    Args:
        content: what they are, which is their identity: `sha256:...` of a file, or `torchvision:` and the name of an entry.
        path: where the file is, as it was given; no part of identity or equality. None = torchvision's own place.
    """

    tag: ClassVar[str] = "pretrained_weights"
    content: str
    path: str | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Recipe:
    """How one stage trains. Durations are epochs as really run (scaled).

    Args:
        epochs: length of the learning-rate schedule; 0 of a mask search that ends with its first mask.
        first_epoch: where in it the stage begins.
        last_epoch: where in it the stage ends; None = at its end.
        warmup: epochs, or a fraction of one, in which lr grows linearly from nearly zero to its first value.
        nesterov: the momentum's kind.
        trainable_decay: weight decay of what a masking trains besides the weights; None = as the weights'.
        lr_schedule: the rate of each step (runner/spec/lr_schedule.py).
        test_every: epochs between tests on held-out images, counted from the schedule's start; a stage's last epoch is always tested; 0 = that one alone.
    """

    tag: ClassVar[str] = "recipe"
    epochs: int
    lr: float
    batch_size: int
    momentum: float
    weight_decay: float
    lr_schedule: LrSchedule = Step()
    precision: str = "fp32"
    first_epoch: int = 0
    last_epoch: int | None = None
    warmup: float = 0.0
    nesterov: bool = False
    trainable_decay: float | None = None
    test_every: int = 1

    def __post_init__(self) -> None:
        problems = [
            f"train.{key}={getattr(self, key)} must be {what}"
            for key, ok, what in (
                ("epochs", self.epochs >= 0, "0 or more"),
                ("lr", self.lr > 0, "positive"),
                ("batch_size", self.batch_size >= 2, "at least 2: BatchNorm needs two examples"),
                ("momentum", 0 <= self.momentum < 1, "in [0, 1)"),
                (
                    "momentum",
                    self.momentum > 0 or not self.nesterov,
                    "above 0: this method's momentum is Nesterov's (method.nesterov=false takes the plain one)",
                ),
                ("weight_decay", self.weight_decay >= 0, "0 or more"),
                ("test_every", self.test_every >= 0, "0 or more: epochs from one test to the next, 0 = the last epoch of each stage alone"),
                ("precision", self.precision in PRECISIONS, f"one of {', '.join(PRECISIONS)}"),
                ("warmup", 0 <= self.warmup < max(self.epochs, 1), f"0ep or more, and shorter than the training ({self.epochs} epochs)"),
            )
            if not ok
        ]
        if problems:
            raise ValueError("\n".join(problems))

    @property
    def trained_epochs(self) -> int:
        """Epochs that this stage itself trains."""
        return self.end - self.first_epoch

    def tests(self, epoch: int) -> bool:
        """Whether held-out images are looked at when `epoch` epochs of the schedule are done."""
        return epoch == self.end or bool(self.test_every and epoch % self.test_every == 0)

    @property
    def decay_of_trainables(self) -> float:
        """Weight decay of a masking's own trainables."""
        return self.weight_decay if self.trainable_decay is None else self.trainable_decay

    @property
    def end(self) -> int:
        """The epoch of the schedule after which the stage is done."""
        return self.epochs if self.last_epoch is None else self.last_epoch


@dataclass(frozen=True)
class Stage:
    """One cached step of a run.

    Args:
        masks: earlier stage whose masks are applied; None = those of `start.stage`, or full ones.
        needs: measure stages whose findings the component gets; `init` stands for the initial weights.
        density: what a prune stage has to reach; None = the method finds it.
        recipe: for stages that train.
        component: the pruner (prune; optional for train and search: a masking that acts during training) or the measurement.
        data: synthetic images to train on instead of the data set's (pruners/selection/source.py); None = the data set's.
        weights: of a stage of kind `load`, which has them in place of a training.
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

    @property
    def parents(self) -> tuple[str, ...]:
        """Names of the earlier stages that this one reads."""
        names = (self.start.stage, self.masks, *self.needs)
        return tuple(dict.fromkeys(n for n in names if n not in (None, "init", "reinit")))  # type: ignore[misc]

    @property
    def exact(self) -> bool:
        """False where the component reaches its density in expectation alone, and says so."""
        return not isinstance(self.component, Approximate) or self.component.exact


@dataclass(frozen=True)
class Run:
    """One resolved configuration with one seed. `label`, `scale` and `epoch_column` are for the record."""

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

    @property
    def precision(self) -> str:
        """Arithmetic of the last training; of a run that trains nothing, its measurement's own."""
        own = (getattr(stage.component, "precision", "fp32") for stage in reversed(self.stages))
        return next((stage.recipe.precision for stage in reversed(self.stages) if stage.recipe), next(own, "fp32"))

    def stage(self, name: str) -> Stage:
        """The stage of that name."""
        return next(stage for stage in self.stages if stage.name == name)


def family(name: str) -> str:
    """What the rounds of a repeated stage have in common: `prune12` is a `prune`."""
    return name.rstrip("0123456789")


def rounds_of(name: str, stages: list[str]) -> list[str]:
    """The stages that `name` stands for: itself, or all rounds of a repeated one."""
    return [stage for stage in stages if name in (stage, family(stage))]


def snapshots_wanted(run: Run) -> dict[str, frozenset[float]]:
    """Stage name -> epochs that later stages rewind to."""
    wanted: dict[str, set[float]] = {}
    for stage in run.stages:
        if stage.start.epoch:
            wanted.setdefault(stage.start.stage, set()).add(stage.start.epoch)
    return {name: frozenset(epochs) for name, epochs in wanted.items()}


def trains(stage: Stage) -> int:
    """Epochs that a stage trains; 0 for one that does not."""
    return stage.recipe.trained_epochs if stage.recipe else 0
