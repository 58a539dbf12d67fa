"""Expand `repeat` in a method's YAML into rounds of stages, one round for each density.

Iterative pruning thereby becomes a chain of cached stages:

    - repeat: ${method.levels}   # a component: density -> falling densities, one for each round;
                                 # None for a round that prunes to none
      stages: [{name: prune, ...}, {name: train, masks: prune, ...}]
      last: {train: {data: null}}   # what differs in the last round

gives prune1, train1, prune2, train2, ... Within the group, a stage's name refers to the stage of
this round, or of the previous round if this round's comes later. After the group it refers to the
stage of the last round. `previous` is the stage directly before; for the first stage of the first
round it is the stage before the group.

`pruned` is the latest stage that prunes or searches, whatever its name. Measurements of the final
mask, which work for every method (conf/portrait), refer to it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from runner.config.instantiate import construct
from runner.config.plain import Plain
from runner.config.typed import Alias
from runner.errors import ConfigError
from runner.spec.durations import scaled

PREVIOUS = "previous"
PRUNED = "pruned"
Node = Plain  # a stage as YAML writes it, resolved


@dataclass(frozen=True)
class Placed:
    """A stage and its place in the resolved configuration."""

    place: str
    node: Node


def placed(items: Sequence[Any], place: str) -> Iterator[Placed]:
    """The stages of a list. Items may be lists: stage lists are composed from shared parts."""
    for i, item in enumerate(items):
        if isinstance(item, list):
            yield from placed(item, f"{place}.{i}")
        else:
            yield Placed(f"{place}.{i}", item)


def files_read(stages: Sequence[Any]) -> list[str]:
    """The keys that name the files which stages of kind `read` read.

    Args:
        stages: of a configuration that is not resolved.
    """
    nodes = [stage for stage in stages if isinstance(stage, dict)]
    return [node["file"][2:-1] for node in nodes if node.get("kind") == "read"]  # of ${KEY}


def left_out(node: Node) -> bool:
    """Whether a stage has an `if` that is null."""
    return node.get("if", True) is None


def expand_rounds(
    items: Sequence[Placed], density: float | None, scale: float, alias: Alias
) -> list[Placed]:
    """The stages with every `repeat` expanded into rounds. No stage refers to one that is left out.

    Args:
        density: the run's, from which a schedule computes those of the rounds.
        scale: multiplies the `rounds` of a schedule that has them, since they are a duration.
        alias: place of a value -> the key that sets it, for messages.

    Raises:
        ConfigError: a schedule that cannot be built, or no density.
    """
    made, without = list[Placed](), list[Placed]()
    names: dict[str, str] = {}  # name as written -> name of the latest stage made from it
    for item in items:
        if left_out(item.node):
            without.append(Placed(item.place, _renamed(item.node, names, made)))
            continue
        if "repeat" not in item.node:
            names[item.node.get("name", "")] = item.node.get("name", "")
            made.append(Placed(item.place, _renamed(item.node, names, made)))
            continue
        group = list(placed(item.node["stages"], f"{item.place}.stages"))
        densities = _densities(
            item.node["repeat"], density, scale, alias(f"{item.place}.repeat"), alias
        )
        for round_, reached in enumerate(densities, start=1):
            last = item.node.get("last", {}) if round_ == len(densities) else {}
            for stage in group:
                name = stage.node["name"]
                one = _renamed({**stage.node, **last.get(name, {})}, names, made)
                made.append(
                    Placed(
                        stage.place,
                        {**one, "name": f"{name}{round_}", "density": reached, "round": round_},
                    )
                )
                names[name] = f"{name}{round_}"
    return made + without


def _densities(
    node: Node, density: float | None, scale: float, key: str, alias: Alias
) -> list[float | None]:
    schedule = construct(node, key, alias)
    if not callable(schedule):
        raise ConfigError(f"{key}={schedule!r} is not a schedule of densities")
    if density is None and getattr(schedule, "needs_density", True):
        raise ConfigError(
            "density is missing: rounds of pruning end at the density that you give, e.g."
            " density=0.1 keeps a tenth of the weights"
        )
    try:
        if "rounds" in node:
            schedule = replace(schedule, rounds=scaled(schedule.rounds, scale))
        densities: list[float | None] = schedule(density)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    return densities


def _renamed(node: Node, names: dict[str, str], made: list[Placed]) -> Node:
    """The stage with its references to other stages replaced by the names of the stages made."""
    before = made[-1].node["name"] if made else "init"
    pruned = next(
        (
            stage.node["name"]
            for stage in reversed(made)
            if stage.node.get("kind") in ("prune", "search")
        ),
        PRUNED,
    )
    known = {**names, PREVIOUS: before, PRUNED: pruned}
    changed: Node = {}
    if node.get("start"):
        changed["start"] = {
            **node["start"],
            **({"from": known.get(name, name)} if (name := node["start"].get("from")) else {}),
        }
    for key in ("masks", "draws"):
        if node.get(key):
            changed[key] = known.get(node[key], node[key])
    if node.get("needs"):
        needed = (known.get(name, name) for name in node["needs"])
        changed["needs"] = list(dict.fromkeys(needed))  # two names may mean one stage
    return {**node, **changed}
