"""Resolve references within a configuration, such as `${method.score}`, and record their origins.

OmegaConf parses every reference each time, which took five sixths of the time to build a run
(measured). This module follows references that are plain paths and resolves each node once.
Everything else, such as resolvers and escapes, is left to OmegaConf.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from runner.config.plain import Plain
from runner.errors import ConfigError, nearest
from runner.paths import CONF

# A plain path. A relative path, which begins with a dot, is left to OmegaConf.
REFERENCE = re.compile(r"\$\{(\w[\w.]*)\}")
# A path with a word that another value chooses: ${method.measures.${method.measure}.score}.
CHOSEN = re.compile(r"\$\{(\w[\w.]*)\.\$\{(\w[\w.]*)\}((?:\.\w+)*)\}")
# A path that begins with dots, and any reference.
RELATIVE, ANY = re.compile(r"\$\{(\.+)([\w.]*)\}"), re.compile(r"(?<!\\)\$\{")
# The beginning of a reference with a default; a part of its path may be a reference, too.
SELECT = re.compile(r"\$\{oc\.select:([\w.]+)")
NOT_PART_OF_A_RUN = ("env", "logger")


@dataclass(frozen=True)
class Origins:
    """Which key sets the value at each place of a resolved configuration.

    Args:
        whole: place -> the place that it refers to, for values that consist of one reference.
        read: place of a value -> all places that it refers to, also from within a longer text.
        choices: places of mappings one of whose values another value chooses.
        partly_unknown: whether a value refers to others in a way that `read` does not show, such as
            a resolver.
    """

    whole: Mapping[str, str]
    read: Mapping[str, tuple[str, ...]]
    choices: frozenset[str] = frozenset()
    partly_unknown: bool = False

    def key(self, place: str) -> str:
        """The key by which a user sets the value at `place`.

        Example: `method.stages.1.pruner` is `${method.pruner}` and `method.pruner.score` is
        `${method.score}`, so method.score.batches sets the value at
        method.stages.1.pruner.score.batches.
        """
        end = 0
        while end >= 0:  # over the places that contain it, the outermost first, then itself
            end = place.find(".", end + 1)
            above = place if end < 0 else place[:end]
            if above in self.whole:
                place, end = self.whole[above] + place[len(above) :], 0
        return place

    def groups_read(self, place: str) -> set[str]:
        """Top-level keys to which the values at and below `place` refer."""
        inside = (
            targets
            for at, targets in self.read.items()
            if at == place or at.startswith(f"{place}.")
        )
        return {target.partition(".")[0] for targets in inside for target in targets}


@dataclass(frozen=True)
class Resolved:
    """A run's part of a configuration with references replaced, and the origins of its values."""

    values: Plain
    origins: Origins

    def at(self, place: str) -> Any:
        """The value at a place, a dotted path of keys."""
        node: Any = self.values
        for word in place.split("."):
            node = node[word]
        return node

    @property
    def reads_seed(self) -> bool:
        """Whether any other value refers to the seed."""
        return any("seed" in targets for targets in self.origins.read.values())


def resolve(raw: Mapping[str, Any]) -> Resolved:
    """Replace the references in a run's part of a configuration (all but `env` and `logger`).

    Places that refer to the same value share one object: do not modify it.

    Raises:
        ConfigError: a reference to a missing key, or a circular reference.
    """
    walk = _Walk(raw)
    values = {
        key: walk.value(key, node) for key, node in raw.items() if key not in NOT_PART_OF_A_RUN
    }
    if walk.absent:
        raise ConfigError(*_messages(walk.absent, raw))
    return Resolved(
        values, Origins(walk.whole, walk.read, frozenset(walk.choices), walk.partly_unknown)
    )


class _Walk:
    """One pass over a configuration: every node is resolved once."""

    def __init__(self, raw: Mapping[str, Any]) -> None:
        self.raw = raw
        self.done: Plain = {}  # place -> value, of lists, mappings and references
        self.open: list[str] = []  # places that are being resolved
        self.whole: dict[str, str] = {}
        self.read: dict[str, tuple[str, ...]] = {}
        self.choices: set[str] = set()
        self.partly_unknown = False
        self.absent: dict[str, list[str]] = {}  # missing key -> the places that refer to it
        self.tree: DictConfig | None = None  # made when OmegaConf has to resolve a value

    def value(self, place: str, node: Any) -> Any:
        """The resolved value of `node`, which is at `place`."""
        if isinstance(node, str):
            return self._text(place, node) if "${" in node else node
        if not isinstance(node, (dict, list)):
            return node
        if place not in self.done:
            items = node.items() if isinstance(node, dict) else enumerate(node)
            resolved = {key: self.value(f"{place}.{key}", item) for key, item in items}
            self.done[place] = resolved if isinstance(node, dict) else list(resolved.values())
        return self.done[place]

    def _text(self, place: str, text: str) -> Any:
        if place in self.done:
            return self.done[place]
        if place in self.open:
            circle = " -> ".join([*self.open[self.open.index(place) :], place])
            raise ConfigError(f"{place}={text} refers to itself: {circle}")
        self.open.append(place)
        chosen = CHOSEN.fullmatch(text)
        if chosen:
            text = self._chosen(*chosen.groups())
        relative = [_absolute(place, *found) for found in RELATIVE.findall(text)]
        selected = [path.rstrip(".") for path in SELECT.findall(text)]
        choosing = [chosen[2]] if chosen else []
        self.read[place] = (*REFERENCE.findall(text), *relative, *selected, *choosing)
        self.partly_unknown |= len(self.read[place]) < len(ANY.findall(text))
        if whole := REFERENCE.fullmatch(text):
            self.whole[place] = whole[1]
            self.done[place] = self._target(whole[1], place)
        elif "${" in REFERENCE.sub("", text) or "\\" in text:
            self.done[place] = self._by_omegaconf(place)
        else:
            self.done[place] = REFERENCE.sub(lambda found: str(self._target(found[1], place)), text)
        self.open.pop()
        return self.done[place]

    def _chosen(self, choices: str, key: str, rest: str) -> str:
        """The plain reference to the one of `choices` that the value at `key` names.

        Raises:
            ConfigError: it names none of them.
        """
        name, found = self._target(key, choices), self._target(choices, key)
        among = found if isinstance(found, dict) else {}
        self.choices.add(choices)
        if not isinstance(name, str) or name not in among:
            hint = nearest(str(name), among)
            raise ConfigError(f"{key}={name} must be one of {', '.join(among) or 'none'}{hint}")
        return f"${{{choices}.{name}{rest}}}"

    def _target(self, target: str, reader: str) -> Any:
        """The value at `target`; references along the path are followed.

        A missing `target` is recorded for `reader`, the place that refers to it.
        """
        node: Any = self.raw
        place = ""
        for word in target.split("."):
            if isinstance(node, str) and (on := REFERENCE.fullmatch(node)):
                node, place = self.value(place, node), on[1]
            try:
                node = node[int(word)] if isinstance(node, list) else node[word]
            except (KeyError, IndexError, TypeError, ValueError):
                self.absent.setdefault(target, []).append(reader)
                return None
            place = f"{place}.{word}" if place else word
        return self.value(place, node)

    def _by_omegaconf(self, place: str) -> Any:
        try:
            self.tree = self.tree or OmegaConf.create(dict(self.raw))
            found = OmegaConf.select(self.tree, place, throw_on_missing=True)
        except OmegaConfBaseException as error:
            raise ConfigError(f"{place}: {str(error).splitlines()[0]}") from error
        return OmegaConf.to_container(found, resolve=True) if OmegaConf.is_config(found) else found


def _absolute(place: str, dots: str, path: str) -> str:
    """The place to which a relative path in the value at `place` refers: one dot is its node."""
    above = place.split(".")[: -len(dots)]
    return ".".join((*above, path) if path else above)


def _messages(absent: Mapping[str, list[str]], raw: Mapping[str, Any]) -> Iterator[str]:
    """One message for all references of the same readers to missing keys of one group."""
    together: dict[tuple[str, str], list[str]] = {}
    for key, places in absent.items():
        readers = [
            f"{name}={_name(raw[name])}"
            for name in dict.fromkeys(place.partition(".")[0] for place in places)
            if isinstance(raw[name], dict)
        ]
        reader = " and ".join(readers) or places[0]
        together.setdefault((reader, key.partition(".")[0]), []).append(key)
    for (reader, group), keys in together.items():
        yield _absent(reader, group, keys, raw)


def _absent(reader: str, group: str, keys: Sequence[str], raw: Mapping[str, Any]) -> str:
    """The message for references to `keys`, which a group's choice lacks.

    Example: a portrait reads method.score, and the chosen method ranks no weights.
    """
    having = choices_with(keys)
    lacking = f"{group}={_name(raw[group])}" if isinstance(raw.get(group), dict) else group
    them = "it" if len(keys) == 1 else "them"
    choices = f"; choices that have {them}: {group}={'|'.join(having)}" if having else ""
    return f"{reader} reads {' and '.join(keys)}, which {lacking} does not have{choices}"


def choices_with(keys: Sequence[str]) -> list[str]:
    """The choices of a group whose own files have all of `keys`; all keys are of this group."""
    group = keys[0].partition(".")[0]
    files = {
        path.stem: OmegaConf.to_container(OmegaConf.load(path))
        for path in sorted((CONF / group).glob("*.yaml"))
    }
    # a file writes its keys in the group's package or in the global one
    return [
        name
        for name, file in files.items()
        if all(_has(file, key.partition(".")[2]) or _has(file, key) for key in keys)
    ]


def _has(node: Any, key: str) -> bool:
    """Whether there is a dotted key; its value can be null."""
    for word in key.split("."):
        if not isinstance(node, dict) or word not in node:
            return False
        node = node[word]
    return True


def _name(node: Mapping[str, Any]) -> Any:
    return node.get("name")
