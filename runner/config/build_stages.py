"""Build the stages of a configuration.

Starts are resolved, durations scaled and components built. Each stage is checked against the stages
before it.
"""

from dataclasses import dataclass, field
from typing import Any

from runner.config.instantiate import construct
from runner.config.interpolation import Resolved
from runner.config.lr_schedule import named_schedule
from runner.config.repeat import Placed, expand_rounds, placed
from runner.config.stage_node import StageNode, StartNode, read_stage
from runner.errors import ConfigError
from runner.spec.durations import epochs_of, point_of, scaled, scaled_point
from runner.spec.pretrained import weights_of
from runner.spec.run import LOAD, Recipe, Stage, Start


@dataclass
class _Built:
    """The stages built so far and the epoch at which each ends."""

    resolved: Resolved
    model: Any
    finished: bool  # the run was done once: files may have been deleted since
    stages: dict[str, Stage] = field(default_factory=dict)
    # stage name -> its last epoch in the paper's numbers, for messages
    ends: dict[str, int] = field(default_factory=dict)
    # stage name -> epoch of the schedule at its end; a stage that does not train keeps its start's
    reached: dict[str, int] = field(default_factory=dict)

    @property
    def train(self) -> dict[str, Any]:
        """The `train` group: settings that all training stages share."""
        train: dict[str, Any] = self.resolved.values["train"]
        return train

    def key(self, place: str) -> str:
        """The key by which a user sets the value at `place`."""
        return self.resolved.origins.key(place)


def build_stages(resolved: Resolved, model: Any, finished: bool = False) -> tuple[Stage, ...]:
    """The stages of a configuration in order: the method's, then the portrait's.

    Args:
        model: the net's component; its `torchvision` names its published weights.
        finished: as for `build_run`.

    Raises:
        ConfigError: with every problem found.
    """
    built, problems = _Built(resolved, model, finished), list[str]()
    broken: set[str] = set()  # stages with a problem; those that read them are not checked
    for stage in _written(resolved):
        name = str(stage.node.get("name"))
        try:
            node = read_stage(stage, resolved.values["density"], built.key)
            if broken & node.reads:
                broken.add(name)
                continue
            if name in built.stages:
                raise ConfigError(
                    f"{stage.place}.name={name} is the name of an earlier stage: give it a new name"
                )
            _add_stage(node, stage.place, built)
        except ValueError as error:  # ConfigError is one
            problems += str(error).splitlines()
            broken.add(name)
    if problems:
        raise ConfigError(*dict.fromkeys(problems))
    return tuple(built.stages.values())


def _written(resolved: Resolved) -> list[Placed]:
    """Every stage to build, with repeated groups expanded into rounds."""
    values = resolved.values
    # config.yaml of old runs has no portrait
    groups = {group: values.get(group, {}).get("stages") or [] for group in ("method", "portrait")}
    listed = [
        stage for group, stages in groups.items() for stage in placed(stages, f"{group}.stages")
    ]
    present = [stage for stage in listed if stage.node.get("given", True) is not None]
    return expand_rounds(present, values["density"], values["train"]["scale"], resolved.origins.key)


def _add_stage(node: StageNode, place: str, built: _Built) -> None:
    """Build the stage that `node` describes and add it to `built`.

    Raises:
        ValueError: with every problem of the first part that is invalid.
    """
    key, earlier = built.key, built.stages
    start = _build_start(node.start or StartNode(), built, key(f"{place}.start.rewind"))
    for name in filter(None, [node.masks, *node.needs]):
        if name not in earlier and name != "init":
            raise ConfigError(
                f"{place} ({node.name}) needs {name!r}, which is no earlier stage:"
                f" {', '.join(earlier) or 'there is none'}"
            )
    weights = (
        None
        if node.weights is None
        else weights_of(key(f"{place}.weights"), node.weights, built.model, built.finished)
    )
    kind = LOAD if weights else node.kind
    trains = kind in ("train", "search")
    component = (
        None
        if node.component is None
        else construct(node.component, key(f"{place}.{node.slot}"), key)
    )
    recipe = _build_recipe(node, built, start, place) if trains else None
    if recipe and not recipe.epochs:
        _refuse_no_epochs(node, component, key(f"{place}.epochs"))
    data = (
        construct(node.data, key(f"{place}.data"), key)
        if trains and node.data is not None
        else None
    )
    _refuse_untrainable(data, key(f"{place}.data"))
    built.stages[node.name] = Stage(
        name=node.name,
        kind=kind,
        start=start,
        masks=node.masks,
        needs=node.needs,
        density=node.density if node.slot == "pruner" and component is not None else None,
        recipe=recipe,
        component=component,
        data=data,
        weights=weights,
    )
    built.ends[node.name] = 0 if weights else _paper_epochs(node, built, place)
    built.reached[node.name] = recipe.end if recipe else built.reached.get(start.stage, 0)


def _refuse_no_epochs(node: StageNode, component: Any, key: str) -> None:
    """Refuse zero epochs, except for a search that begins with a mask.

    Raises:
        ConfigError: the stage is a training, or a search that learns its first mask.
    """
    if node.kind != "search" or not getattr(component, "begins_with_mask", False):
        what = (
            "would train nothing"
            if node.kind == "train"
            else "has no mask before it has learned one"
        )
        raise ConfigError(
            f"{key}=0: stage {node.name!r} {what}; take 1 or more (0, a first mask alone, is for"
            " searches that begin with a criterion's mask)"
        )


def _refuse_untrainable(data: Any, key: str) -> None:
    """Refuse a source that is no synthetic training set (its `trains` is not True).

    Raises:
        ConfigError: the source gives a single image or the training images themselves.
    """
    if data is not None and not getattr(data, "trains", False):
        problem = (
            f"{key}={type(data).__name__.lower()}: nets are trained on it here, which takes noise"
            " with labels"
        )
        raise ConfigError(
            f"{problem}: {key}=normal or {key}=sparse_normal; leave it out for the training images"
        )


def _build_start(node: StartNode, built: _Built, key: str) -> Start:
    """The stage's `Start`, with its rewinding point scaled.

    Args:
        key: the key that sets the rewinding point, for messages.

    Raises:
        ConfigError: there is no such stage, or the rewinding point cannot be taken from it.
    """
    earlier, ends, stage, rewind = built.stages, built.ends, node.from_, node.rewind
    if stage not in ("init", "reinit", *earlier):
        raise ConfigError(
            f"start.from={stage} is no earlier stage: init,"
            f" reinit{''.join(', ' + n for n in earlier)}"
        )
    if rewind is None:
        return Start(stage, resume=node.resume, advance=node.advance)
    epoch = point_of(key, rewind, built.train["batch_size"])
    if stage not in ends:
        raise ConfigError(
            f"{key}={rewind}: there is no trained stage to rewind to; take start=dense, or leave"
            " retrain out"
        )
    if earlier[stage].weights:
        problem = (
            f"{key}={rewind}: start.weights gives stage {stage!r} the end of a training, not its"
            " first epochs"
        )
        raise ConfigError(
            f"{problem}; take retrain=finetune or retrain=reinit, or leave start.weights out: then"
            " the net is trained"
        )
    if epoch > ends[stage]:
        problem = (
            f"{key}={rewind} is after the end of stage {stage!r}, which trains {ends[stage]} epochs"
        )
        raise ConfigError(f"{problem}: take 0ep to {ends[stage]}ep, or train it for longer")
    end = earlier[stage].recipe.end  # type: ignore[union-attr]
    point = end if epoch == ends[stage] else min(scaled_point(epoch, built.train["scale"]), end)
    if node.advance and not float(point).is_integer():
        raise ConfigError(
            "retrain.resume_schedule=true goes on with the schedule at a whole epoch, but"
            f" {key}={rewind} is {point:g} epochs here"
        )
    # With a masking, the end has the weights that the net computed with, a snapshot the parameters.
    replaced = earlier[stage].component is not None
    return Start(
        stage, epoch=None if point == end and not replaced else point, advance=node.advance
    )


def _paper_epochs(node: StageNode, built: _Built, place: str) -> int:
    return epochs_of(
        built.key(f"{place}.epochs"), built.train["epochs"] if node.epochs is None else node.epochs
    )


def _build_recipe(node: StageNode, built: _Built, start: Start, place: str) -> Recipe:
    """The stage's training recipe, with scaled durations.

    Raises:
        ConfigError: no epochs are left to train, or the recipe refuses a setting. Messages name the
            key that sets it.
    """
    train, first = built.train, _first_epoch(node, built, start, place)
    paper = _paper_epochs(node, built, place)
    epochs = scaled(paper, train["scale"])
    if first > epochs or (start.advance and first == epochs > 1):  # exempt: a training of one epoch
        problem = f"stage {node.name!r} begins after {first} epochs of a training of {epochs}"
        raise ConfigError(f"{problem}: fewer rounds, or a larger train.epochs or train.scale")
    # Scaled durations are at least 1, so the first part of a short run can take all its epochs.
    epochs = max(epochs, first + 1) if paper else 0
    try:
        return Recipe(
            epochs=epochs,
            lr=(float(train["lr"]) if node.lr is None else node.lr) * node.lr_factor,
            batch_size=node.batch_size or train["batch_size"],
            momentum=float(train["momentum"]),
            weight_decay=float(train["weight_decay"]),
            lr_schedule=named_schedule(
                node.lr_schedule or train["lr_schedule"], "train.lr_schedule"
            ),
            precision=train["precision"],
            first_epoch=first,
            last_epoch=(
                first + node.segment if node.segment and first + node.segment < epochs else None
            ),
            # config.yaml of old runs has neither warmup nor test_every
            warmup=scaled_point(
                point_of("train.warmup", train.get("warmup", 0), train["batch_size"]),
                train["scale"],
            ),
            nesterov=node.nesterov,
            trainable_decay=node.trainable_decay,
            test_every=train.get("test_every", 1),
        )
    except ValueError as error:
        raise ConfigError(*_named_by_key(str(error).splitlines(), node, built, place)) from None


def _first_epoch(node: StageNode, built: _Built, start: Start, place: str) -> int:
    """The epoch of the schedule at which the stage begins.

    It is 0 for a new schedule. A stage that continues an earlier one's schedule begins at the epoch
    of `start`, or else where the earlier stage ended.

    Raises:
        ConfigError: the earlier stage has used up the training's epochs already.
    """
    if not (start.resume or start.advance) or start.stage not in built.stages:
        return 0
    first = int(start.epoch) if start.epoch is not None else built.reached[start.stage]
    paper, before = _paper_epochs(node, built, place), built.ends[start.stage]
    if start.resume and first and paper <= before:
        raise ConfigError(
            f"retrain=finetune goes on where {start.stage!r} ended, after {before} epochs, but"
            f" train.epochs={paper}: raise it"
        )
    return first


def _named_by_key(problems: list[str], node: StageNode, built: _Built, place: str) -> list[str]:
    """A recipe's messages; the stage's own settings are named by the key that sets them."""
    own = [name for name in ("lr", "lr_schedule", "batch_size") if getattr(node, name) is not None]
    keys = {f"train.{name}=": f"{built.key(f'{place}.{name}')}=" for name in own}
    return [
        next((line.replace(old, new, 1) for old, new in keys.items() if line.startswith(old)), line)
        for line in problems
    ]
