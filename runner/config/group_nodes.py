"""The option groups of a configuration as typed dataclasses.

Components (data set, model, the options of a score) are typed by their own classes; what a method
sets for a stage by `StageNode`. These classes hold the rest, so that a value has the right type and
range even where the run does not use it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, TypeVar

from runner.config import typed
from runner.config.named_parts import named_part
from runner.config.own_parts import LR_SCHEDULE, OPTIMIZER
from runner.config.stage_node import StartNode, as_written
from runner.config.typed import Alias
from runner.errors import ConfigError
from runner.spec.durations import point_of
from runner.spec.recipe import invalid_settings

NAMED = ("dataset", "model", "train", "start", "retrain", "method", "portrait", "logger")
# A name is part of the names of folders, so it is never a path.
NAME = re.compile(r"\w[\w.+-]*")
KEY = re.compile(r"^[\w.]+(?==)")  # at the beginning of a message
T = TypeVar("T")
Point = int | str | None  # a point in training: 10ep, 10, 2000it; None = the end


@dataclass(frozen=True)
class TrainNode:
    """A paper's training settings. Its durations are multiplied by `scale`.

    Fields with a default are absent from the config.yaml of old runs.
    """

    name: str
    epochs: int
    scale: float
    lr: float
    lr_schedule: str
    batch_size: int
    momentum: float
    weight_decay: float
    precision: str
    warmup: int | str = 0
    test_every: int = 1
    optimizer: str = "sgd"

    def __post_init__(self) -> None:
        problems = invalid_settings(self)
        if not self.scale > 0:
            problems.append(
                f"train.scale={self.scale:g} must be positive: it multiplies every duration, 1 is"
                " the paper's"
            )
        if self.epochs < 1:
            problems.append(f"train.epochs={self.epochs} must be at least 1")
        if self.batch_size >= 2:
            problems += _refused_point("train.warmup", self.warmup, self.batch_size)
        if problems:
            raise ValueError("\n".join(problems))


@dataclass(frozen=True)
class FinetuneNode:
    """How retraining continues from the trained weights of a choice of `start`.

    Args:
        from_: the stage that has them.
        resume, lr_factor: of retrain=finetune alone.
    """

    from_: str
    resume: bool
    lr_factor: float

    def __post_init__(self) -> None:
        _require_factor("start.finetune.lr_factor", self.lr_factor)


@dataclass(frozen=True)
class StartGroup:
    """A choice of `start`.

    Args:
        trained: the stage whose network is pruned: init, or one of `before`.
        before: the stages before pruning.
    """

    name: str
    trained: str
    before: tuple[Any, ...]
    finetune: FinetuneNode
    rewind: Point = None
    weights: str | None = None
    match: Literal["names", "shape"] = "names"

    def __post_init__(self) -> None:
        problems = _refused_point("start.rewind", self.rewind, 1)
        if self.weights == "":
            problems.append("start.weights='' must be null, torchvision or the name of a file")
        if problems:
            raise ValueError("\n".join(problems))


@dataclass(frozen=True)
class RetrainGroup:
    """A choice of `retrain`."""

    name: str
    label: str | None
    start: StartNode
    lr_factor: float
    rewind: Point = None
    resume_schedule: bool = False

    def __post_init__(self) -> None:
        _require_factor("retrain.lr_factor", self.lr_factor)
        if problems := _refused_point("retrain.rewind", self.rewind, 1):
            raise ValueError("\n".join(problems))


@dataclass(frozen=True)
class MethodNode:
    """What every method's YAML has; its own options are further keys.

    Args:
        density: whether the run has to set one; a theory experiment refuses it.
        uses: the option groups to which the method refers.
        why: option group -> why the method does not use it.
        epoch_column: the stages whose epochs the papers count.
        start: the only choice of `start` that fits.
        retrain: `optional` if the method's own result needs no retraining.
        narrows: whether a narrower net with as many weights as the density keeps takes the place of
            the net; nothing is pruned then.
    """

    name: str
    label: str
    density: Literal["required", "optional", "refused"]
    uses: tuple[str, ...]
    epoch_column: tuple[str, ...]
    stages: tuple[Any, ...]
    why: Mapping[str, str] = field(default_factory=dict)
    highlights: tuple[str, ...] = ()
    start: str | None = None
    retrain: Literal["optional"] | None = None
    paper_command: str | None = None
    narrows: bool = False

    def __post_init__(self) -> None:
        if self.narrows and self.density != "required":
            raise ValueError(
                "method.narrows=true requires method.density=required: the density says how narrow"
            )


@dataclass(frozen=True)
class PortraitNode:
    """What every portrait's YAML has; its own options are further keys."""

    name: str
    stages: tuple[Any, ...]


def check_groups(values: Mapping[str, Any], alias: Alias) -> list[str]:
    """A message for each value of the wrong type or out of its range, and for each unsafe name.

    Args:
        alias: place of a value -> the key that sets it, for messages.
    """
    problems: list[str] = []
    for group, cls in (
        ("method", MethodNode),
        ("train", TrainNode),
        ("start", StartGroup),
        ("retrain", RetrainGroup),
        ("portrait", PortraitNode),
    ):
        try:
            _read(cls, values[group], group, alias)
        except ConfigError as error:  # a class names its options by their place
            problems += [
                KEY.sub(lambda key: alias(key[0]), message, count=1) for message in error.messages
            ]
    for part in (LR_SCHEDULE, OPTIMIZER):
        name = values["train"].get(part)  # TrainNode has refused another type
        if isinstance(name, str):
            try:
                named_part(part, name, f"train.{part}", values)
            except ConfigError as error:
                problems += error.messages
    for group in NAMED:
        name = values.get(group, {}).get("name", "unnamed")
        if not isinstance(name, str) or not NAME.fullmatch(name):
            problems.append(
                f"{group}.name={name!r} must be letters, digits and _ + - . alone: it is part of"
                " the names of folders"
            )
    return problems


def read_train(values: Mapping[str, Any]) -> TrainNode:
    """The training settings of a configuration.

    Raises:
        ConfigError: with every problem found.
    """
    return _read(TrainNode, values["train"], "train")


def _read(cls: type[T], node: Mapping[str, Any], group: str, alias: Alias = typed.same) -> T:
    """The fields of `cls` in a group; methods and portraits have further keys."""
    known = {f.name.removesuffix("_") for f in fields(cls)}  # type: ignore[arg-type]
    own = cls in (MethodNode, PortraitNode)
    given = {key: value for key, value in node.items() if key in known or not own}
    return typed.build(cls, given, group, alias, as_written)


def _refused_point(key: str, value: Point, batch_size: int) -> list[str]:
    """The message for a text that is no point in training; empty for a valid one."""
    try:
        if value is not None:
            point_of(key, value, batch_size)
    except ValueError as error:
        return [str(error)]
    return []


def _require_factor(key: str, value: float) -> None:
    if not value > 0:
        raise ValueError(f"{key}={value:g} must be positive: it multiplies train.lr")
