"""Build the stages of a configuration.

Starts are resolved, durations scaled and components built. Each stage is checked against the stages
before it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pruners.declared import AddsToGradients, Optional, Reads, Targeted
from runner.config.build_recipe import build_recipe
from runner.config.build_start import build_start
from runner.config.built_stages import BuiltStages
from runner.config.instantiate import construct
from runner.config.interpolation import Resolved
from runner.config.repeat import Node, Placed, expand_rounds, left_out, placed
from runner.config.stage_node import StageNode, StartNode, read_stage
from runner.config.typed import Alias
from runner.errors import ConfigError
from runner.spec.inputs import MaskFile, Weights
from runner.spec.optimizer import Optimizer
from runner.spec.pretrained import mask_file_of, weights_of
from runner.spec.run import LOAD, Stage


def build_stages(
    resolved: Resolved, model: Any, images: int, finished: bool = False
) -> tuple[Stage, ...]:
    """The stages of a configuration in order: the method's, then the portrait's.

    Args:
        model: the net's component; its `torchvision` names its published weights.
        images: training images in an epoch to which durations in iterations refer.
        finished: as for `build_run`.

    Raises:
        ConfigError: with every problem found.
    """
    built, problems = BuiltStages(resolved, model, images, finished), list[str]()
    broken: set[str] = set()  # stages with a problem; those that read them are not checked
    present, without = _written(resolved, finished)
    for stage in present:
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
    made = tuple(built.stages.values())
    if not problems and not finished:
        problems = [*_problems_of(without, built), *_target_problems(made)]
    if problems:
        raise ConfigError(*dict.fromkeys(problems))
    return made


def _target_problems(stages: Sequence[Stage]) -> list[str]:
    """The problems of the last pruning with the density to which it prunes."""
    pruning = [stage for stage in stages if isinstance(stage.component, Targeted)]
    if not pruning or pruning[-1].density is None:
        return []
    try:
        pruning[-1].component.check_target(pruning[-1].density)
    except ValueError as error:
        return str(error).splitlines()
    return []


def _problems_of(without: list[Placed], built: BuiltStages) -> list[str]:
    """The problems of stages that this run leaves out: their options are checked all the same."""
    problems: list[str] = []
    for stage in without:
        try:
            node = read_stage(stage, built.resolved.values["density"], built.key)
            _add_stage(node, stage.place, built)
        except ValueError as error:
            problems += str(error).splitlines()
    return problems


def written_names(resolved: Resolved) -> set[str]:
    """The names of all stages of a method as its YAML writes them, those left out included."""
    stages = resolved.values["method"].get("stages") or []
    outer = list(placed(stages, "method.stages"))
    inner = [
        stage
        for group in outer
        if "repeat" in group.node
        for stage in placed(group.node["stages"], group.place)
    ]
    return {str(stage.node["name"]) for stage in (*outer, *inner) if "name" in stage.node}


def _written(resolved: Resolved, finished: bool) -> tuple[list[Placed], list[Placed]]:
    """Every stage to build, with repeated groups expanded into rounds, and the stages left out."""
    values = resolved.values
    # config.yaml of old runs has no portrait
    groups = {group: values.get(group, {}).get("stages") or [] for group in ("method", "portrait")}
    listed = [
        stage for group, stages in groups.items() for stage in placed(stages, f"{group}.stages")
    ]
    if finished:
        listed = [Placed(stage.place, _renamed(stage.node)) for stage in listed]
    scale = float(values["train"]["scale"])
    made = expand_rounds(listed, values["density"], scale, resolved.origins.key)
    without = [stage for stage in made if left_out(stage.node)]
    return [stage for stage in made if stage not in without], without


def _renamed(node: Node) -> Node:
    """A stage of a finished run with today's names of its keys: `if` was called `given`."""
    return {"if" if key == "given" else key: value for key, value in node.items()}


def _weights(node: StageNode, key: str, built: BuiltStages) -> Weights | None:
    """The weights that a stage loads; None if it computes them."""
    if node.weights is None:
        return None
    return replace(weights_of(key, node.weights, built.model, built.finished), match=node.match)


def _mask_file(node: StageNode, key: str, built: BuiltStages) -> MaskFile | None:
    """The file that a read stage reads; None for other stages."""
    if node.kind != "read":
        return None
    file = mask_file_of(key, node.file, built.finished)
    return replace(file, match=node.match, missing=node.missing)


def _add_stage(node: StageNode, place: str, built: BuiltStages) -> None:
    """Build the stage that `node` describes and add it to `built`.

    Raises:
        ValueError: with every problem of the first part that is invalid.
    """
    key = built.key
    start = build_start(node.start or StartNode(), built, f"{place}.start")
    _refuse_unknown_stages(node, place, built.stages)
    component, recipe, data = _component(node, key(f"{place}.{node.slot}"), key), None, None
    if node.extra and isinstance(component, Optional) and not component.applies:
        return
    weights = _weights(node, key(f"{place}.weights"), built)
    kind = LOAD if weights else node.kind
    if kind in ("train", "search"):
        recipe = build_recipe(node, built, start, place)
        if not recipe.epochs:
            _refuse_no_epochs(node, component, key(f"{place}.epochs"))
        _refuse_other_steps(recipe.optimizer, component)
        data = _build_data(node, key(f"{place}.data"), key)
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
        mask_file=_mask_file(node, key(f"{place}.file"), built),
        draws=node.draws,
        extra=node.extra,
    )
    built.ends[node.name] = 0 if weights else built.paper_epochs(node, place)
    built.reached[node.name] = recipe.end if recipe else built.reached.get(start.stage, 0)


def _component(node: StageNode, key: str, alias: Alias) -> Any:
    """The component of the stage; None if it has none.

    Raises:
        ConfigError: it reads the findings of a stage that its own stage does not need.
    """
    if node.component is None:
        return None
    component = construct(node.component, key, alias)
    if isinstance(component, Reads):
        _refuse_unread(component.reads, node, key)
    return component


def _refuse_unknown_stages(node: StageNode, place: str, earlier: Mapping[str, Stage]) -> None:
    """Refuse `masks`, `needs` and `draws` that name no earlier stage, and to read an extra one.

    Raises:
        ConfigError: for the first such name.
    """
    if node.extra and node.kind != "measure":
        raise ConfigError(f"{place} ({node.name}): extra=true is for stages of kind measure")
    for name in sorted(node.reads & {name for name, stage in earlier.items() if stage.extra}):
        raise ConfigError(
            f"{place} ({node.name}) reads {name!r}, which is extra: the run must not depend on it;"
            f" leave extra out of stage {name!r}"
        )
    for name in filter(None, [node.masks, node.draws, *node.needs]):
        if name not in earlier and name != "init":
            raise ConfigError(
                f"{place} ({node.name}) needs {name!r}, which is not an earlier stage:"
                f" {', '.join(earlier) or 'there is none'}"
            )


def _refuse_unread(reads: tuple[str, ...], node: StageNode, key: str) -> None:
    """Refuse a component that reads the findings of a stage that its own stage does not need.

    Raises:
        ConfigError: for the first such stage.
    """
    for name in reads:
        if name not in node.needs:
            raise ConfigError(
                f"{key}.stage={name!r} is not among the stages that stage {node.name!r} needs:"
                f" {', '.join(node.needs) or 'none'}"
            )


def _refuse_no_epochs(node: StageNode, component: Any, key: str) -> None:
    """Refuse zero epochs, except for a search that begins with a mask.

    Raises:
        ConfigError: the stage is a training, or a search that learns its first mask.
    """
    if node.kind != "search" or not getattr(component, "begins_with_mask", False):
        what = "would train nothing" if node.kind == "train" else "has to learn its first mask"
        raise ConfigError(
            f"{key}=0: stage {node.name!r} {what}; take 1 or more (only searches that begin with a"
            " criterion's mask accept 0)"
        )


def _refuse_other_steps(optimizer: Optimizer, component: Any) -> None:
    """Refuse an optimizer that rescales gradients for a component that adds to them.

    Raises:
        ConfigError: its rule would not be the one that it declares.
    """
    if isinstance(component, AddsToGradients) and not optimizer.follows_gradients:
        raise ConfigError(
            f"train.optimizer={optimizer.tag}: this method adds {component.adds_to_gradients} to"
            " the gradients, which this optimizer rescales; take train.optimizer=sgd"
        )


def _build_data(node: StageNode, key: str, alias: Alias) -> Any:
    """The synthetic training set of the stage; None = the data set's images.

    Raises:
        ConfigError: the source is not a training set (its `trains` is not True): it gives a single
            image or the training images themselves.
    """
    if node.data is None:
        return None
    data = construct(node.data, key, alias)
    if not getattr(data, "trains", False):
        raise ConfigError(
            f"{key}={type(data).__name__.lower()} is not a training set: take noise with labels,"
            f" {key}=normal or {key}=sparse_normal, or leave it out for the training images"
        )
    return data
