"""Translate errors of Hydra and OmegaConf into one message each.

A message has the key, the value, the choices and the nearest spelling. No torch is imported here.
"""

import re
import shlex
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra import compose
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError  # type: ignore[import-untyped]

from runner.config.interpolation import choices_with
from runner.config.overrides import command, conf_folders, corrected_word, search_path
from runner.config.parsed_files import hydra_on
from runner.config.plain import to_plain
from runner.config.quoting import override
from runner.config.synonyms import SHARES, corrected, other_choice, other_key
from runner.errors import ConfigError, nearest, one_of
from runner.paths import typed

# Groups of which a message says which choice has an unknown key.
SHOWN = ("method", "start", "retrain", "model", "dataset", "portrait")


def translate(error: Exception, conf: str, overrides: list[str]) -> str | None:
    """The message for an error in the command line `overrides`.

    Returns None for any other error: a bug keeps its traceback.
    """
    if isinstance(error, ConfigError):
        return "\nerror: ".join(error.messages)
    if isinstance(error, OverrideParseException):
        return _unreadable(str(error.override), str(error).splitlines()[0])
    if isinstance(error, MissingConfigException):
        return _unknown_choice(error, conf, overrides)
    if isinstance(error, YAMLError):  # of a file of the user's own
        return f"a configuration file is no YAML: {' '.join(str(error).split())}"
    if isinstance(error, ValueError) and _raised_by_hydra(error):  # flags that exclude each other
        return str(error)
    if not isinstance(error, (HydraException, OmegaConfBaseException)):
        return None
    text = str(error).strip()
    if ambiguous := re.match(r"Ambiguous value for argument '(.*)'", text):
        return (
            f"{ambiguous[1]} has several values, which is a sweep: write"
            f" {command(['-m', *map(corrected_word, overrides)])}"
        )
    unknown = re.search(r"Could not override '([^']+)'", text)
    if unknown:
        describe = _unknown_hydra_key if unknown[1].startswith("hydra.") else _unknown_key
        return describe(unknown[1], conf, overrides)
    for cause in _causes(error):
        if isinstance(cause, OmegaConfBaseException) and getattr(cause, "full_key", None):
            return _wrong_value(str(cause.full_key), str(cause).splitlines()[0])
    first = " ".join(line.strip() for line in text.splitlines()[:2])
    return first or f"{type(error).__name__} in one of these overrides: {' '.join(overrides)}"


def _unreadable(each: str, reason: str) -> str:
    """The message for an override that Hydra cannot parse, with the line to type instead."""
    key, sign, value = each.partition("=")
    if not sign or not re.fullmatch(r"[\w./@]+", key):
        return f"{each!r} is not an override: write key=value, e.g. density=0.1 ({reason})"
    line = shlex.quote(override(key, value))
    return f"{each!r} is not an override ({reason}); to set {key} to this text, type {line}"


def _raised_by_hydra(error: Exception) -> bool:
    frames = list(traceback.walk_tb(error.__traceback__))
    return bool(frames) and str(frames[-1][0].f_globals.get("__name__", "")).startswith("hydra.")


def _wrong_value(key: str, text: str) -> str:
    """The message for a value that OmegaConf refuses."""
    wanted = {
        "Float": "a number",
        "Integer": "a whole number",
        "Boolean": "true or false",
        "String": "a word",
    }
    found = re.match(r"Value '(.*)' of type '\w+' could not be converted to (\w+)", text)
    return (
        f"{key}={found[1]} must be {wanted.get(found[2], found[2])}" if found else f"{key}: {text}"
    )


def _unknown_choice(error: MissingConfigException, conf: str, overrides: list[str]) -> str:
    missing = error.missing_cfg_file
    path = missing if isinstance(missing, str) else (missing or ["?"])[0]
    # method/theory/recovery is theory/recovery of the group method, as the user typed it
    typed = [each.lstrip("+~").partition("=")[0] for each in overrides]
    group = next((key for key in typed if path.startswith(f"{key}/")), path.rpartition("/")[0])
    name = path.removeprefix(f"{group}/")
    if not group:
        return _unknown_key(name, conf, overrides)
    if other := other_choice(group, name):
        return f"{group}={name} is not a choice; it is called {group}={other} here"
    choices = [option for option in error.options or [] if not option.startswith("_")]
    return one_of(group, name, dict.fromkeys([*choices, *_inner_choices(group, overrides)]))


def _inner_choices(group: str, overrides: Sequence[str]) -> list[str]:
    """Choices in folders of a group's folder: theory/recovery. Parts of other files are none."""
    found = [
        path.relative_to(folder / group).with_suffix("").as_posix()
        for folder in conf_folders(overrides)
        for path in sorted((folder / group).glob("*/*.yaml"))
    ]
    return [choice for choice in found if not choice.startswith("base/")]


def _unknown_key(key: str, conf: str, overrides: list[str]) -> str:
    value = next((each.partition("=")[2] for each in overrides if each.startswith(f"{key}=")), "")
    if known := _known_by(key, value, conf_folders(overrides)):
        return known
    # `key` can be a folder of conf that is not a group of a run; composing it would fail
    keys = _all_keys(conf, [each for each in overrides if each.partition("=")[0] != key])
    parent, _, last = key.rpartition(".")
    siblings = [k.rpartition(".")[2] for k in keys if k.rpartition(".")[0] == parent]
    if siblings:
        shown = ", ".join(siblings)
        # the same name under another key: for lr_schedule, train.lr_schedule
        namesakes = [k for k in keys if k.rpartition(".")[2] == last]
        others = choices_with([key]) if parent in SHOWN else []
        guess = "" if others else nearest(last, siblings) or nearest(key, keys)
        if namesakes:
            guess = f"; did you mean {namesakes[0]!r}?"
        elsewhere = f"; it is one of {parent}={'|'.join(others)}" if others else ""
        return f"{key} is not a key; {parent or 'the top level'} has: {shown}{guess}{elsewhere}"
    return f"{key} is not a key{nearest(key, keys)}; see --cfg job for all of them"


def _known_by(key: str, value: str, folders: Sequence[Path]) -> str | None:
    """The message for a key that exists under another name or in another command."""
    if key in SHARES:
        return f"{key} is not a key: the share that is kept is set, {corrected(key, value)}"
    if key in ("table", "figure"):
        return (
            f"{key}={value} is many runs, not one: {typed('reproduce', value or 'NAME')} runs"
            f" them, and {typed('plan', value or 'NAME')} prints their cost"
        )
    if other := other_key(key):
        written = corrected(key, value or "VALUE")
        flag = "-m " if key == "seeds" and "," in value else ""
        return f"{key} is not a key; did you mean {other!r}? (write {flag}{written})"
    if any((folder / key).is_dir() for folder in folders[1:]):
        return f"{key}={value} is a choice of your own group; write +{key}={value}"
    return None


def _unknown_hydra_key(key: str, conf: str, overrides: list[str]) -> str:
    """The message for an unknown `hydra.` key; for a launcher it lists the keys of its file."""
    name = next(
        (
            each.partition("=")[2]
            for each in reversed(overrides)
            if each.startswith("hydra/launcher=")
        ),
        None,
    )
    folders = [folder / "hydra" / "launcher" for folder in conf_folders(overrides)]
    path = next((p for each in folders if (p := each / f"{name}.yaml").is_file()), None)
    if not key.startswith("hydra.launcher.") or path is None:
        message = f"{key} is not a key; see --cfg hydra for Hydra's own"
        if not key.startswith("hydra.launcher."):
            return message
        launchers = sorted({p.stem for each in folders for p in each.glob("*.yaml")})
        return f"{message}; a launcher's options need hydra/launcher={'|'.join(launchers)}"
    options = [str(option) for option in OmegaConf.load(path) if not str(option).startswith("_")]
    return (
        f"{key} is not a key; hydra/launcher={name} has:"
        f" {', '.join(options)}{nearest(key.rpartition('.')[2], options)}"
    )


def _all_keys(conf: str, overrides: list[str]) -> list[str]:
    """All dotted keys of the configuration that the groups among `overrides` select.

    Those of the defaults if Hydra refuses the groups: this is the message of another error.
    """
    groups = {path.name for path in Path(conf).iterdir() if path.is_dir()}
    chosen = search_path(overrides) + [
        each for each in overrides if each.partition("=")[0] in groups and "," not in each
    ]
    GlobalHydra.instance().clear()
    with hydra_on(conf):
        try:
            cfg = compose("config", overrides=chosen)
        except (HydraException, OmegaConfBaseException):
            cfg = compose("config")
    return list(_keys_below(to_plain(cfg, resolve=False)))


def _keys_below(node: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for name, child in node.items():
        yield f"{prefix}{name}"
        if isinstance(child, dict):
            yield from _keys_below(child, f"{prefix}{name}.")


def _causes(error: BaseException | None) -> list[BaseException]:
    chain: list[BaseException] = []
    while error is not None and error not in chain:
        chain.append(error)
        error = error.__cause__ or error.__context__
    return chain
