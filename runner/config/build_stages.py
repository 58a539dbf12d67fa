"""The stages of a configuration: starts resolved, durations scaled, components built, each checked against the stages before it."""

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
    """The stages so far, and how far each has gone."""

    resolved: Resolved
    model: Any
    finished: bool  # the run was done once: files may be gone
    stages: dict[str, Stage] = field(default_factory=dict)
    ends: dict[str, int] = field(default_factory=dict)  # stage name -> its last epoch in the paper's numbers, for messages
    reached: dict[str, int] = field(default_factory=dict)  # stage name -> epoch of the schedule at its end; pruning passes it on

    @property
    def train(self) -> dict[str, Any]:
        """The settings of every training."""
        train: dict[str, Any] = self.resolved.values["train"]
        return train

    def key(self, place: str) -> str:
        """The key by which a user sets what stands at `place`."""
        return self.resolved.origins.key(place)


def build_stages(resolved: Resolved, model: Any, finished: bool = False) -> tuple[Stage, ...]:
    """The stages of a configuration, in order: the method's, then the portrait's.

    Args:
        model: the net's component, which knows what weights are published for it.
        finished: as for `build_run`.

    Raises:
        ConfigError: with every problem found.
    """
    built, problems = _Built(resolved, model, finished), list[str]()
    broken: set[str] = set()  # what reads a stage that has a problem adds no problem of its own
    for stage in _written(resolved):
        name = str(stage.node.get("name"))
        try:
            node = read_stage(stage, resolved.values["density"], built.key)
            if broken & node.reads:
                broken.add(name)
                continue
            if name in built.stages:
                raise ConfigError(f"{stage.place}.name={name} is the name of an earlier stage: give it a new name")
            _add_stage(node, stage.place, built)
        except ValueError as error:  # ConfigError is one
            problems += str(error).splitlines()
            broken.add(name)
    if problems:
        raise ConfigError(*dict.fromkeys(problems))
    return tuple(built.stages.values())


def _written(resolved: Resolved) -> list[Placed]:
    """Every stage that is to be built, rounds spelled out."""
    values = resolved.values
    groups = {group: values.get(group, {}).get("stages") or [] for group in ("method", "portrait")}  # config.yaml of old runs has no portrait
    listed = [stage for group, stages in groups.items() for stage in placed(stages, f"{group}.stages")]
    present = [stage for stage in listed if stage.node.get("given", True) is not None]
    return expand_rounds(present, values["density"], values["train"]["scale"], resolved.origins.key)


def _add_stage(node: StageNode, place: str, built: _Built) -> None:
    """Build the stage that `node` describes.

    Raises:
        ValueError: with every problem of the part that is wrong.
    """
    key, earlier = built.key, built.stages
    start = _build_start(node.start or StartNode(), built, key(f"{place}.start.rewind"))
    for name in filter(None, [node.masks, *node.needs]):
        if name not in earlier and name != "init":
            raise ConfigError(f"{place} ({node.name}) needs {name!r}, which is no earlier stage: {', '.join(earlier) or 'there is none'}")
    weights = None if node.weights is None else weights_of(key(f"{place}.weights"), node.weights, built.model, built.finished)
    kind = LOAD if weights else node.kind
    trains = kind in ("train", "search")
    component = None if node.component is None else construct(node.component, key(f"{place}.{node.slot}"), key)
    recipe = _build_recipe(node, built, start, place) if trains else None
    if recipe and not recipe.epochs:
        _refuse_no_epochs(node, component, key(f"{place}.epochs"))
    data = construct(node.data, key(f"{place}.data"), key) if trains and node.data is not None else None
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
    """No epoch at all is something for a search that begins with a mask, and for nothing else.

    Raises:
        ConfigError: of a training, or of a search that has to learn before it has a mask.
    """
    if node.kind != "search" or not getattr(component, "begins_with_mask", False):
        what = "would train nothing" if node.kind == "train" else "has no mask before it has learned one"
        raise ConfigError(f"{key}=0: stage {node.name!r} {what}; take 1 or more (0, a first mask alone, is for searches that begin with a criterion's mask)")


def _refuse_untrainable(data: Any, key: str) -> None:
    """A source that gives one image, or the training images themselves, is no synthetic training set.

    Raises:
        ConfigError: it is one of these.
    """
    if data is not None and not getattr(data, "trains", False):
        problem = f"{key}={type(data).__name__.lower()}: nets are trained on it here, which takes noise with labels"
        raise ConfigError(f"{problem}: {key}=normal or {key}=sparse_normal; leave it out for the training images")


def _build_start(node: StartNode, built: _Built, key: str) -> Start:
    """Where the stage begins.

    Args:
        key: what sets the point that it rewinds to.
    """
    earlier, ends, stage, rewind = built.stages, built.ends, node.from_, node.rewind
    if stage not in ("init", "reinit", *earlier):
        raise ConfigError(f"start.from={stage} is no earlier stage: init, reinit{''.join(', ' + n for n in earlier)}")
    if rewind is None:
        return Start(stage, resume=node.resume, advance=node.advance)
    epoch = point_of(key, rewind, built.train["batch_size"])
    if stage not in ends:
        raise ConfigError(f"{key}={rewind}: there is no trained stage to rewind to; take start=dense, or leave retrain out")
    if earlier[stage].weights:
        problem = f"{key}={rewind}: start.weights gives stage {stage!r} the end of a training, not its first epochs"
        raise ConfigError(f"{problem}; take retrain=finetune or retrain=reinit, or leave start.weights out: then the net is trained")
    if epoch > ends[stage]:
        problem = f"{key}={rewind} is after the end of stage {stage!r}, which trains {ends[stage]} epochs"
        raise ConfigError(f"{problem}: take 0ep to {ends[stage]}ep, or train it for longer")
    end = earlier[stage].recipe.end  # type: ignore[union-attr]
    point = end if epoch == ends[stage] else min(scaled_point(epoch, built.train["scale"]), end)
    if node.advance and not float(point).is_integer():
        raise ConfigError(f"retrain.resume_schedule=true goes on with the schedule at a whole epoch, but {key}={rewind} is {point:g} epochs here")
    replaced = earlier[stage].component is not None  # its end keeps the weights that the net computed with; a snapshot keeps the parameters
    return Start(stage, epoch=None if point == end and not replaced else point, advance=node.advance)


def _paper_epochs(node: StageNode, built: _Built, place: str) -> int:
    return epochs_of(built.key(f"{place}.epochs"), built.train["epochs"] if node.epochs is None else node.epochs)


def _build_recipe(node: StageNode, built: _Built, start: Start, place: str) -> Recipe:
    """How the stage trains, durations scaled.

    Raises:
        ConfigError: nothing is left to train, or a setting that a recipe refuses: it is named by the key that sets it.
    """
    train, first = built.train, _first_epoch(node, built, start, place)
    paper = _paper_epochs(node, built, place)
    epochs = scaled(paper, train["scale"])
    if first > epochs or (start.advance and first == epochs > 1):  # of one epoch nothing can be left
        problem = f"stage {node.name!r} begins after {first} epochs of a training of {epochs}"
        raise ConfigError(f"{problem}: fewer rounds, or a larger train.epochs or train.scale")
    epochs = max(epochs, first + 1) if paper else 0  # every duration is at least 1: a short run's first part may take all
    try:
        return Recipe(
            epochs=epochs,
            lr=(float(train["lr"]) if node.lr is None else node.lr) * node.lr_factor,
            batch_size=node.batch_size or train["batch_size"],
            momentum=float(train["momentum"]),
            weight_decay=float(train["weight_decay"]),
            lr_schedule=named_schedule(node.lr_schedule or train["lr_schedule"], "train.lr_schedule"),
            precision=train["precision"],
            first_epoch=first,
            last_epoch=first + node.segment if node.segment and first + node.segment < epochs else None,
            warmup=scaled_point(point_of("train.warmup", train.get("warmup", 0), train["batch_size"]), train["scale"]),  # config.yaml of old runs has none
            nesterov=node.nesterov,
            trainable_decay=node.trainable_decay,
            test_every=train.get("test_every", 1),  # nor this
        )
    except ValueError as error:
        raise ConfigError(*_named_by_key(str(error).splitlines(), node, built, place)) from None


def _first_epoch(node: StageNode, built: _Built, start: Start, place: str) -> int:
    """The epoch of the schedule at which the stage begins: 0, or where the stage that it goes on from has ended."""
    if not (start.resume or start.advance) or start.stage not in built.stages:
        return 0
    first = int(start.epoch) if start.epoch is not None else built.reached[start.stage]
    paper, before = _paper_epochs(node, built, place), built.ends[start.stage]
    if start.resume and first and paper <= before:
        raise ConfigError(f"retrain=finetune goes on where {start.stage!r} ended, after {before} epochs, but train.epochs={paper}: raise it")
    return first


def _named_by_key(problems: list[str], node: StageNode, built: _Built, place: str) -> list[str]:
    """What a recipe refuses, of train: a setting of the stage's own is named by the key that sets it."""
    own = [name for name in ("lr", "lr_schedule", "batch_size") if getattr(node, name) is not None]
    keys = {f"train.{name}=": f"{built.key(f'{place}.{name}')}=" for name in own}
    return [next((line.replace(old, new, 1) for old, new in keys.items() if line.startswith(old)), line) for line in problems]
