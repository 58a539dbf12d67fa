"""Repeated stages: `repeat` in a method's YAML becomes as many stages as its schedule has densities. Iterative pruning is then a chain of cached stages.

    - repeat: ${method.levels}   # a component, density -> falling densities: one round for each
      stages: [{name: prune, ...}, {name: train, masks: prune, ...}]
      last: {train: {data: null}}   # what differs in the last round

gives prune1, train1, prune2, train2, ... A name of the group means this round's stage, or the round before's when that comes later; `previous` is the stage
just before, in the first round the one before the group. After the group its names mean the last round's.

`pruned` is the last stage so far that prunes or searches, whatever its name: what is measured of a finished mask, for every method (conf/portrait), reads it.
"""

from typing import Any

from runner.config.instantiate import Alias, construct, flatten
from runner.errors import ConfigError
from runner.spec.durations import scaled

PREVIOUS = "previous"
PRUNED = "pruned"


def expand_rounds(items: list[Any], raw: list[Any], density: float | None, scale: float, key: str, alias: Alias) -> list[tuple[dict[str, Any], Any]]:
    """Stage nodes with every `repeat` spelled out, each with its unresolved twin.

    Args:
        items: resolved nodes; raw: the same ones unresolved, for messages.
        scale: multiplies `rounds` of a schedule that counts them: they are a duration.

    Raises:
        ConfigError: a schedule that cannot be built, or no density to go down to.
    """
    made: list[tuple[dict[str, Any], Any]] = []
    names: dict[str, str] = {}
    for node, twin in zip(items, raw, strict=True):
        if "repeat" not in node:
            names[node.get("name")] = node.get("name")
            made.append((_renamed(node, names, made), twin))
            continue
        for round_, reached in enumerate(densities := _densities(node["repeat"], density, scale, alias(f"{key}.repeat"), alias), start=1):
            for stage, own in zip(flatten(node["stages"]), flatten(twin["stages"]), strict=True):
                last = node.get("last", {}).get(stage["name"], {}) if round_ == len(densities) else {}
                one = {**_renamed({**stage, **last}, names, made), "name": f"{stage['name']}{round_}", "density": reached, "round": round_}
                made.append((one, own))
                names[stage["name"]] = one["name"]
    return made


def _densities(node: dict[str, Any], density: float | None, scale: float, key: str, alias: Alias) -> list[float]:
    if density is None:
        raise ConfigError("density is missing: rounds of pruning go down to the density that you give, e.g. density=0.1 keeps a tenth of the weights")
    if type(node.get("rounds")) is int:  # what is none, the component refuses
        node = {**node, "rounds": scaled(node["rounds"], scale)}
    densities: list[float] = construct(node, key, alias)(density)
    return densities


def _renamed(node: dict[str, Any], names: dict[str, str], made: list[tuple[dict[str, Any], Any]]) -> dict[str, Any]:
    """References to stages by the names that they have got."""
    before = made[-1][0]["name"] if made else "init"
    pruned = next((stage["name"] for stage, _ in reversed(made) if stage.get("kind") in ("prune", "search")), PRUNED)

    def of(name: Any) -> Any:
        return before if name == PREVIOUS else pruned if name == PRUNED else names.get(name, name)

    changed: dict[str, Any] = {}
    if node.get("start"):
        changed["start"] = {**node["start"], **({"from": of(node["start"]["from"])} if "from" in node["start"] else {})}
    if node.get("masks"):
        changed["masks"] = of(node["masks"])
    if node.get("needs"):
        changed["needs"] = [of(name) for name in node["needs"]]
    return {**node, **changed}
