"""The training settings of a stage, with every duration already scaled."""

from dataclasses import dataclass
from typing import ClassVar, Protocol

from runner.spec.lr_schedule import LrSchedule, Step
from runner.spec.optimizer import Optimizer, Sgd

PRECISIONS = ("fp32", "bf16")
# What `Recipe` requires of its settings, for messages.
NESTEROV = "above 0: this method uses Nesterov momentum (method.nesterov=false uses plain momentum)"
EVERY = "0 or more: epochs between two tests; 0 tests only after the last epoch of each stage"


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


def step_of(epoch: float, per_epoch: int) -> int:
    """Number of steps after which a point in training is reached; at least one, except for 0."""
    return max(1, round(epoch * per_epoch)) if epoch else 0
