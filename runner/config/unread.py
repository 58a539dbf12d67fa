"""Options that a user sets and no part of the run reads.

A value is read if it is part of the data set, the network or the run itself, or if a stage of the
run refers to it, directly or through other values. What a component does with its options is its
own matter: they all count as read.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from runner.config.group_nodes import MethodNode, TrainNode
from runner.config.interpolation import NOT_PART_OF_A_RUN, Resolved, resolve
from runner.config.overrides import conf_folders, keys_set
from runner.config.repeat import Node, Placed, placed

# Groups whose values count only where a stage refers to them.
THROUGH_STAGES = (
    "method",
    "train",
    "start",
    "retrain",
    "portrait",
    "source",
    "allocate",
    "pick",
    "schedule",
)
AUGMENT = "dataset.augment"  # of images that a stage trains on; scores and measures read others
OF_STAGE = ("epochs", "lr", "lr_schedule", "batch_size")  # a stage can replace those of `train`
OF_RUN = ("name", "scale")  # of `train`


def unread(raw: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, str]:
    """Override -> message, for each override that has no effect on the run.

    Args:
        raw: the configuration that the overrides give, as plain dicts with unresolved references.
        overrides: as the user typed them; choices of groups always have an effect.
    """
    keys = {each: [key for key in _leaves(each) if _is_value(key)] for each in overrides}
    if not any(keys.values()):
        return {}
    run = _Run(resolve(raw), conf_folders(overrides))
    if run.resolved.origins.partly_unknown:
        return {}
    found = {each: [key for key in own if not run.reads(key)] for each, own in keys.items()}
    return {
        each: f"{each} has no effect: {run.reason(missing[0])}, or leave {missing[0]} out"
        for each, missing in found.items()
        if missing
    }


def _leaves(override: str) -> list[str]:
    """The keys that an override sets; of a mapping, those inside it."""
    keys = list(keys_set(override))
    return [key for key in keys if not any(other.startswith(f"{key}.") for other in keys)]


def _is_value(key: str) -> bool:
    group, _, inner = key.partition(".")
    return bool(inner) and "/" not in key and group not in ("hydra", *NOT_PART_OF_A_RUN)


@dataclass
class _Run:
    """What a run reads of its configuration."""

    resolved: Resolved
    folders: Sequence[Path]  # Winnow's configuration folder and the user's

    def __post_init__(self) -> None:
        values = self.resolved.values
        listed = [
            stage
            for group in ("method", "portrait")
            for stage in placed(values[group].get("stages") or [], f"{group}.stages")
        ]
        self.left_out = [stage for stage in listed if stage.node.get("if", True) is None]
        present = [stage for stage in listed if stage not in self.left_out]
        self.trained = [
            stage
            for stage in _single(present)
            if stage.node.get("kind") in ("train", "search") and not stage.node.get("weights")
        ]
        self.reached: set[str] = set()
        for place in (*self._always(), *(stage.place for stage in present)):
            self._reach(place)

    def _always(self) -> Iterator[str]:
        """Places that are read without a stage's reference."""
        yield from (key for key in self.resolved.values if key not in THROUGH_STAGES)
        yield from (f"method.{f.name}" for f in fields(MethodNode) if f.name != "stages")
        yield from (f"train.{name}" for name in self._of_train())

    def _of_train(self) -> set[str]:
        """The keys of `train` that the training stages read."""
        used = set(OF_RUN)
        if self.trained:
            used |= {f.name for f in fields(TrainNode)} - set(OF_STAGE)
        for stage in self.trained:
            used |= {name for name in OF_STAGE if stage.node.get(name) is None}
            start = stage.node.get("start") or {}
            if any(str(start.get(point)).endswith("it") for point in ("rewind", "replay")):
                used.add("batch_size")  # 2000it is a share of the paper's epoch
        return used

    def _reach(self, place: str) -> None:
        if place in self.reached:
            return
        self.reached.add(place)
        self._reach(self._key(place))
        for at, targets in self.resolved.origins.read.items():
            if at == place or at.startswith(f"{place}."):
                for target in targets:
                    self._reach(target)

    def reads(self, key: str) -> bool:
        """Whether a value at, above or below `key` is read."""
        if key == AUGMENT and all(stage.node.get("data") for stage in self.trained):
            return False
        return any(_overlap(key, place) for place in self.reached)

    def reason(self, key: str) -> str:
        """Why `key` is not read, and the way out."""
        method = f"method={self.resolved.values['method'].get('name')}"
        group, _, name = key.partition(".")
        if group in ("train", "dataset"):
            if not self.trained or key == AUGMENT:
                what = "trains on images" if key == AUGMENT else "trains"
                return f"no stage of {method} {what} here; choose another method"
            own = {self._key(f"{stage.place}.{name}") for stage in self.trained}
            keys = sorted(each for each in own if not re.search(r"\.(stages|before)\.", each))
            way = f"set {' and '.join(keys)}" if keys else "choose another method"
            return f"each training of {method} sets {name} itself; {way}"
        readers = self._readers(key)
        for stage in self.left_out:
            if any(_overlap(reader, self._key(stage.place)) for reader in readers):
                condition = self._key(f"{stage.place}.if").partition(".")[0]
                return (
                    f"{self._chosen(condition)} leaves out stage {stage.node.get('name')!r}, which"
                    f" reads it; choose another {condition}"
                )
        for other, names in self._choices(readers).items():
            choice = f"{other}={'|'.join(names)}"
            return f"only {choice} reads it, and this run has {self._chosen(other)}; add {choice}"
        return f"no stage of {method} reads it here; choose another method"

    def _key(self, place: str) -> str:
        return self.resolved.origins.key(place)

    def _readers(self, key: str) -> list[str]:
        """`key` and the places that refer to it, also through others."""
        found = [key]
        for target in found:
            found += [
                at
                for at, targets in self.resolved.origins.read.items()
                if at not in found and any(_overlap(target, each) for each in targets)
            ]
        return found

    def _choices(self, readers: Iterable[str]) -> dict[str, list[str]]:
        """Group -> its choices whose files refer to one of the readers, except the present ones."""
        found: dict[str, list[str]] = {}
        for folder in self.folders:
            for path in sorted(folder.glob("*/*.yaml")):
                group, text = path.parent.name, path.read_text(encoding="utf-8")
                if group not in THROUGH_STAGES or path.stem == self._name(group):
                    continue
                for reader in readers:
                    own = reader.startswith(f"{group}.") or group == "method"
                    if not own and re.search(rf"\$\{{{re.escape(reader)}[.}}]", text):
                        found.setdefault(group, []).append(path.stem)
                        break
        return found

    def _name(self, group: str) -> str:
        node = self.resolved.values.get(group)
        return str(node.get("name")) if isinstance(node, dict) else "none"

    def _chosen(self, group: str) -> str:
        return f"{group}={self._name(group)}"


def _single(stages: Iterable[Placed]) -> Iterator[Placed]:
    """The stages; those of a repeated group twice, as in the last round and as in the others."""
    for stage in stages:
        if "repeat" not in stage.node:
            yield stage
            continue
        for inner in placed(stage.node["stages"], f"{stage.place}.stages"):
            yield inner
            last: Node = stage.node.get("last", {}).get(inner.node.get("name"), {})
            yield Placed(inner.place, {**inner.node, **last})


def _overlap(one: str, other: str) -> bool:
    """Whether two places are equal or one contains the other."""
    return f"{one}.".startswith(f"{other}.") or f"{other}.".startswith(f"{one}.")
