"""From configuration nodes to components: frozen dataclasses of our own packages, every option checked by name and type before anything runs.

Hydra's own `instantiate` would admit any importable callable and reports one problem at a time; this admits what declares a tag and reports all.
"""

import types
from collections.abc import Callable, Sequence
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from runner.errors import ConfigError, nearest
from runner.identity import tag_of
from runner.registry import UnknownTag, find_class, tags

Alias = Callable[[str], str]  # where a node stands -> the key by which a user sets it, if it was interpolated from elsewhere


def same(key: str) -> str:
    """No alias: an option is named after the place where it was found."""
    return key


def construct(node: Any, key: str, alias: Alias = same) -> Any:
    """The component that a resolved node describes: `_target_` is the tag of a dataclass, the other keys are its fields; nested nodes likewise.

    Args:
        node: plain dicts, lists and scalars; anything without `_target_` is returned as it is, built inside.
        key: where the node stands in the configuration, for messages.

    Raises:
        ConfigError: every problem found: unknown class or option, missing option, value of the wrong type, value refused by the class.
    """
    if isinstance(node, list):
        return [construct(item, f"{key}.{i}", alias) for i, item in enumerate(node)]
    if not isinstance(node, dict):
        return node
    if "_target_" not in node:
        return {name: construct(value, alias(f"{key}.{name}"), alias) for name, value in node.items()}
    cls = locate(node["_target_"], key)
    return build(cls, {name: value for name, value in node.items() if name != "_target_"}, key, alias)


def build(cls: type, options: dict[str, Any], key: str, alias: Alias = same) -> Any:
    """An instance of the dataclass `cls`; fields that are dataclasses themselves are built from plain dicts."""
    _require_tag(cls, key)
    hints = get_type_hints(cls)
    known = {f.name: f for f in fields(cls) if f.init}
    problems: list[str] = []
    values: dict[str, Any] = {}
    for name, value in options.items():
        if name not in known:
            problems.append(f"{key}.{name} is not an option; {key} takes {', '.join(known) or 'none'}{nearest(name, known)}")
            continue
        try:
            values[name] = _coerce(value, hints[name], alias(f"{key}.{name}"), alias)
        except ConfigError as error:
            problems.extend(error.messages)
    missing = [n for n, f in known.items() if n not in options and f.default is MISSING and f.default_factory is MISSING]
    problems += [f"{key}.{name} is missing: give it a value" for name in missing]
    if not problems:
        try:
            return cls(**values)
        except ValueError as error:
            problems = str(error).splitlines()
    raise ConfigError(*problems)


def _require_tag(cls: type, key: str) -> None:
    """Refuse what could not be hashed later, when the run's identity is made.

    Raises:
        ConfigError: the class declares no tag of its own.
    """
    try:
        tag_of(cls)
    except TypeError as error:
        raise ConfigError(f"{key}: {error}") from error


def locate(tag: str, key: str) -> type:
    """The component class that declares `tag`.

    Raises:
        ConfigError: none does, or it is no dataclass.
    """
    try:
        cls = find_class(tag)
    except UnknownTag:
        raise ConfigError(f"{key}._target_={tag} is no component's tag{nearest(tag, tags())}; a component declares its own: tag: ClassVar[str]") from None
    except ImportError as error:
        raise ConfigError(f"{key}._target_={tag} cannot be imported: {error}") from error
    if not is_dataclass(cls):
        raise ConfigError(f"{key}._target_={tag} is not a dataclass: options must be fields, so that they are checked and hashed")
    return cls


def _coerce(value: Any, hint: Any, key: str, alias: Alias) -> Any:
    """`value` as the annotated type: ints become floats, lists tuples, dicts dataclasses; everything else must fit already."""
    options = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    if value is None and type(None) in options:
        return None
    for option in options:
        origin = get_origin(option) or option
        if isinstance(origin, type) and is_dataclass(origin) and isinstance(value, dict) and "_target_" not in value:
            return build(origin, value, key, alias)
        if origin is tuple and isinstance(value, (list, tuple)):
            inner = get_args(option)[0] if get_args(option) else Any
            return tuple(_coerce(v, inner, f"{key}.{i}", alias) for i, v in enumerate(value))
        if origin is float and isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value)
        if origin in (int, str, bool) and type(value) is origin:
            return value
        if origin is Literal and value in get_args(option):
            return value
    simple = (int, float, str, bool, tuple, Literal, type(None))
    if all((get_origin(o) or o) in simple for o in options):
        wanted = " or ".join(_name(o) for o in options)
        raise ConfigError(f"{key}={value!r} must be {wanted}")
    return construct(value, key, alias)  # a component behind a Protocol or Callable annotation: checked by its own class


def _name(hint: Any) -> str:
    if hint is type(None):
        return "null"
    if get_origin(hint) is Literal:
        return "one of " + ", ".join(str(a) for a in get_args(hint))
    return {"int": "a whole number", "float": "a number", "str": "a word", "bool": "true or false"}.get(getattr(hint, "__name__", ""), "a list")


def flatten(items: Sequence[Any]) -> list[Any]:
    """Nested lists as one: stage lists are composed from shared parts."""
    return [leaf for item in items for leaf in (flatten(item) if isinstance(item, list) else [item])]
