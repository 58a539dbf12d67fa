"""Build the `Start` of a stage: the stage that gives its weights, and the rewinding point."""

from runner.config.built_stages import BuiltStages
from runner.config.stage_node import StartNode
from runner.errors import ConfigError
from runner.spec.durations import point_of, scaled_point
from runner.spec.recipe import Recipe
from runner.spec.run import Start


def build_start(node: StartNode, built: BuiltStages, place: str) -> Start:
    """The stage's `Start`, with its rewinding point scaled.

    Args:
        place: of the node, e.g. `method.stages.1.start`.

    Raises:
        ConfigError: there is no such stage, or the rewinding point cannot be taken from it.
    """
    earlier, stage = built.stages, node.from_
    if stage not in ("init", "reinit", *earlier):
        raise ConfigError(_no_such_stage(stage, built, built.key(f"{place}.from")))
    if node.replay is not None:
        key = built.key(f"{place}.replay")
        epoch = point_of(key, node.replay, built.train.batch_size, built.images)
        return Start(stage, replay=scaled_point(epoch, built.train.scale))
    if node.rewind is None:
        return Start(stage, resume=node.resume, advance=node.advance)
    key = built.key(f"{place}.rewind")
    epoch = point_of(key, node.rewind, built.train.batch_size, built.images)
    recipe = _recipe_at(f"{key}={node.rewind}", epoch, stage, built)
    point = (
        recipe.end
        if epoch == built.ends[stage]
        else min(scaled_point(epoch, built.train.scale), recipe.end)
    )
    # With a masking, the end has the weights that the net computed with, a snapshot the parameters.
    replaced = earlier[stage].component is not None
    at_end = point == recipe.end and not replaced
    return Start(stage, epoch=None if at_end else point, advance=node.advance, follow=node.follow)


def _no_such_stage(stage: str, built: BuiltStages, set_by: str) -> str:
    """The message for a stage that a method does not have; a choice of `start` may name it."""
    earlier = ", ".join(("init", "reinit", *built.stages))
    values = built.resolved.values
    if not set_by.startswith("start."):
        return f"start.from={stage} is not an earlier stage: {earlier}"
    start, method = values["start"].get("name"), values["method"].get("name")
    return (
        f"start={start} continues from stage {stage!r}, which method={method} does not have"
        f" ({earlier}); choose another start, e.g. start=dense"
    )


def _recipe_at(setting: str, epoch: float, stage: str, built: BuiltStages) -> Recipe:
    """The recipe of the stage that is rewound to `epoch`.

    Args:
        setting: the key of the rewinding point and its value, for messages.
        epoch: in the paper's numbers.

    Raises:
        ConfigError: the stage does not train, loads its weights, or ends before `epoch`.
    """
    source = built.stages.get(stage)
    if source is not None and source.weights:
        raise ConfigError(
            f"{setting}: start.weights loads the end of a training into stage {stage!r}, not its"
            " first epochs; take retrain=finetune or retrain=reinit, or leave start.weights out to"
            " train the net"
        )
    if source is None or source.recipe is None:
        raise ConfigError(
            f"{setting}: there is no trained stage to rewind to; take start=dense, or leave retrain"
            " out"
        )
    end = built.ends[stage]
    if epoch > end:
        problem = f"{setting} is after the end of stage {stage!r}, which trains {end} epochs"
        raise ConfigError(f"{problem}: take 0ep to {end}ep, or a longer training")
    return source.recipe
