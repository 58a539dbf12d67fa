"""Repeated stages: `repeat` in a method's YAML becomes as many stages as its schedule has densities.

Iterative pruning is then a chain of cached stages:

    - repeat: ${method.levels}   # a component, density -> falling densities: one round for each
      stages: [{name: prune, ...}, {name: train, masks: prune, ...}]
      last: {train: {data: null}}   # what differs in the last round

gives prune1, train1, prune2, train2, ... A name of the group means this round's stage, or the round
before's when that comes later; `previous` is the stage just before, in the first round the one before
the group. After the group its names mean the last round's.

`pruned` is the last stage so far that prunes or searches, whatever its name: what is measured of a
finished mask, for every method (conf/portrait), reads it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from runner.config.instantiate import construct
from runner.config.typed import Alias
from runner.errors import ConfigError
from runner.spec.durations import scaled

PREVIOUS = "previous"
PRUNED = "pruned"
Node = dict[str, Any]  # a stage as YAML writes it, resolved


@dataclass(frozen=True)
class Placed:
    """A stage and where it is written in the resolved configuration."""

    place: str
    node: Node


def placed(items: Sequence[Any], place: str) -> Iterator[Placed]:
    """The stages of a list, of which some may be lists themselves: stage lists are composed from shared parts."""
    for i, item in enumerate(items):
        if isinstance(item, list):
            yield from placed(item, f"{place}.{i}")
        else:
            yield Placed(f"{place}.{i}", item)


def expand_rounds(items: Sequence[Placed], density: float | None, scale: float, alias: Alias) -> list[Placed]:
    """The stages with every `repeat` spelled out.

    Args:
        scale: multiplies `rounds` of a schedule that counts them: they are a duration.
        alias: where a value stands -> the key that sets it, for messages.

    Raises:
        ConfigError: a schedule that cannot be built, or no density to go down to.
    """
    made: list[Placed] = []
    names: dict[str, str] = {}  # of a group -> of its stage so far
    for item in items:
        if "repeat" not in item.node:
            names[item.node.get("name", "")] = item.node.get("name", "")
            made.append(Placed(item.place, _renamed(item.node, names, made)))
            continue
        group = list(placed(item.node["stages"], f"{item.place}.stages"))
        densities = _densities(item.node["repeat"], density, scale, alias(f"{item.place}.repeat"), alias)
        for round_, reached in enumerate(densities, start=1):
            last = item.node.get("last", {}) if round_ == len(densities) else {}
            for stage in group:
                name = stage.node["name"]
                one = _renamed({**stage.node, **last.get(name, {})}, names, made)
                made.append(Placed(stage.place, {**one, "name": f"{name}{round_}", "density": reached, "round": round_}))
                names[name] = f"{name}{round_}"
    return made


def _densities(node: Node, density: float | None, scale: float, key: str, alias: Alias) -> list[float]:
    if density is None:
        raise ConfigError("density is missing: rounds of pruning go down to the density that you give, e.g. density=0.1 keeps a tenth of the weights")
    if type(node.get("rounds")) is int:  # what is none, the component refuses
        node = {**node, "rounds": scaled(node["rounds"], scale)}
    densities: list[float] = construct(node, key, alias)(density)
    return densities


def _renamed(node: Node, names: dict[str, str], made: list[Placed]) -> Node:
    """References to stages by the names that they have got."""
    before = made[-1].node["name"] if made else "init"
    pruned = next((stage.node["name"] for stage in reversed(made) if stage.node.get("kind") in ("prune", "search")), PRUNED)
    known = {**names, PREVIOUS: before, PRUNED: pruned}
    changed: Node = {}
    if node.get("start"):
        changed["start"] = {**node["start"], **({"from": known.get(name, name)} if (name := node["start"].get("from")) else {})}
    if node.get("masks"):
        changed["masks"] = known.get(node["masks"], node["masks"])
    if node.get("needs"):
        changed["needs"] = [known.get(name, name) for name in node["needs"]]
    return {**node, **changed}
