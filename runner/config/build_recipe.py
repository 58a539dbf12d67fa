"""Build the `Recipe` of a stage: its training settings, with scaled durations."""

from runner.config.built_stages import BuiltStages
from runner.config.named_parts import named_part
from runner.config.own_parts import LR_SCHEDULE, OPTIMIZER
from runner.config.stage_node import StageNode
from runner.errors import ConfigError
from runner.spec.durations import point_of, scaled, scaled_point
from runner.spec.recipe import Recipe
from runner.spec.run import Start


def build_recipe(node: StageNode, built: BuiltStages, start: Start, place: str) -> Recipe:
    """The stage's training recipe, with scaled durations.

    Raises:
        ConfigError: no epochs are left to train, or the recipe refuses a setting. Messages name the
            key that sets it.
    """
    values = built.resolved.values
    train, (first, epochs) = built.train, _epochs(node, built, start, place)
    warmup = point_of("train.warmup", train.warmup, train.batch_size, built.images)
    last = int(first) + node.segment if node.segment else epochs
    try:
        return Recipe(
            epochs=epochs,
            lr=(train.lr if node.lr is None else node.lr) * node.lr_factor,
            batch_size=train.batch_size if node.batch_size is None else node.batch_size,
            momentum=train.momentum,
            weight_decay=train.weight_decay,
            lr_schedule=named_part(
                LR_SCHEDULE,
                train.lr_schedule if node.lr_schedule is None else node.lr_schedule,
                "train.lr_schedule",
                values,
            ),
            optimizer=named_part(OPTIMIZER, train.optimizer, "train.optimizer", values),
            precision=train.precision,
            first_epoch=first,
            last_epoch=last if last < epochs else None,
            warmup=scaled_point(warmup, train.scale),
            nesterov=node.nesterov,
            trainable_decay=node.trainable_decay,
            test_every=train.test_every,
        )
    except ValueError as error:
        raise ConfigError(*_named_by_key(str(error).splitlines(), node, built, place)) from None


def _epochs(node: StageNode, built: BuiltStages, start: Start, place: str) -> tuple[float, int]:
    """The epoch of the schedule at which the stage begins, and the schedule's length, scaled.

    Raises:
        ConfigError: no epochs are left to train.
    """
    first, paper = _first_epoch(node, built, start, place), built.paper_epochs(node, place)
    epochs = scaled(paper, built.train.scale)
    goes_on = start.advance or start.follow or start.replay is not None
    if first > epochs or (goes_on and first == epochs > 1):  # exempt: a training of one epoch
        problem = f"stage {node.name!r} begins after {first:g} epochs of a training of {epochs}"
        raise ConfigError(f"{problem}: take fewer rounds, or a larger train.epochs or train.scale")
    # Scaled durations are at least 1, so the first part of a short run can take all its epochs.
    return first, max(epochs, int(first) + 1) if paper else 0


def _first_epoch(node: StageNode, built: BuiltStages, start: Start, place: str) -> float:
    """The epoch of the schedule at which the stage begins.

    It is 0 for a new schedule, and `start.replay` for one that is replayed. A stage that continues
    an earlier one's schedule begins at the epoch of `start`, or else where the earlier stage ended.

    Raises:
        ConfigError: the earlier stage has used up the training's epochs already, or nothing is left
            to replay.
    """
    if start.replay is not None:
        _refuse_nothing_to_replay(node, built, place)
        return start.replay
    if not start.continues or start.stage not in built.stages:
        return 0
    first = built.reached[start.stage] if start.epoch is None else start.epoch
    paper, before = built.paper_epochs(node, place), built.ends[start.stage]
    if start.resume and first and paper <= before:
        raise ConfigError(
            f"retrain=finetune continues stage {start.stage!r} after its {before} epochs, but"
            f" train.epochs={paper}: raise it"
        )
    return first


def _refuse_nothing_to_replay(node: StageNode, built: BuiltStages, place: str) -> None:
    """Refuse a point of the schedule that is not before its end.

    Raises:
        ConfigError: the point is at the end or after it.
    """
    assert node.start is not None and node.start.replay is not None
    key, paper = built.key(f"{place}.start.replay"), built.paper_epochs(node, place)
    point = point_of(key, node.start.replay, built.train.batch_size, built.images)
    if point >= paper:
        raise ConfigError(
            f"{key}={node.start.replay} is not before the end of stage {node.name!r}, which trains"
            f" {paper} epochs: take 0ep to {paper - 1}ep, or a longer training"
        )


def _named_by_key(
    problems: list[str], node: StageNode, built: BuiltStages, place: str
) -> list[str]:
    """A recipe's messages; the stage's own settings are named by the key that sets them."""
    own = [name for name in ("lr", "lr_schedule", "batch_size") if getattr(node, name) is not None]
    keys = {f"train.{name}=": f"{built.key(f'{place}.{name}')}=" for name in own}
    return [
        next((line.replace(old, new, 1) for old, new in keys.items() if line.startswith(old)), line)
        for line in problems
    ]
