"""Build frozen dataclasses from plain dicts, with every field checked by name and type.

All problems are reported at once. Components (runner/config/instantiate.py) and the files of tables
and figures (runner/suites) are built this way. A class with several written forms has a class
method `from_plain(value, key)`, which builds it from a short form, or builds the subclass that the
value's keys select.
"""

import math
import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from runner.config.plain import Plain
from runner.errors import ConfigError, nearest

EXCERPT = 80  # characters of a value in a message
PLAIN = (int, float, str, bool, Path, tuple, dict, Mapping, Literal, type(None))
NAMES = {  # of types in messages
    "NoneType": "null",
    "int": "a whole number",
    "float": "a number",
    "str": "a word",
    "bool": "true or false",
    "Path": "the path of a file or folder",
    "dict": "a mapping",
    "Mapping": "a mapping",
}
# The words of YAML 1.1 and of OmegaConf for truth values, in lower case.
WORDS = {
    **dict.fromkeys(("true", "yes", "y", "on", "1"), True),
    **dict.fromkeys(("false", "no", "n", "off", "0"), False),
}
LARGEST = 3.4028234663852886e38  # of float32, in which nets and optimizers compute
MOST = 2**63 - 1  # largest whole number of torch
NO_FIT = object()  # the result for a value that does not have the requested type

T = TypeVar("T")
# Place of a node -> the key by which a user sets it; they differ if the node was interpolated.
Alias = Callable[[str], str]
# Builds a value whose annotation is not a plain type: (value, key, alias) -> object.
Fallback = Callable[[Any, str, Alias], Any]


def same(key: str) -> str:
    """The identity alias: messages name an option by its place."""
    return key


def refuse(value: Any, key: str, alias: Alias) -> Any:
    """The fallback that accepts plain types and dataclasses only.

    Raises:
        ConfigError: always.
    """
    raise ConfigError(f"{key}={value!r} has a value that is not expected here")


def build(
    cls: type[T],
    options: Mapping[str, Any],
    key: str,
    alias: Alias = same,
    fallback: Fallback = refuse,
) -> T:
    """An instance of the dataclass `cls`; fields that are dataclasses are built from plain dicts.

    Args:
        options: field -> value: plain dicts, lists and scalars.
        key: where they are in the configuration, for messages; empty at the top of a file.
        fallback: builds values whose annotation is a Protocol, a Callable or Any.

    Raises:
        ConfigError: every problem found: unknown or missing field, value of the wrong type, value
            refused by the class.
    """
    values, problems = _field_values(cls, options, key, alias, fallback)
    if not problems:
        try:
            return cls(**values)
        except ValueError as error:
            problems = str(error).splitlines()
    raise ConfigError(*problems)


def _field_values(
    cls: type, options: Mapping[str, Any], key: str, alias: Alias, fallback: Fallback
) -> tuple[Plain, list[str]]:
    """The converted values of the given fields, and a message for each problem."""
    hints, known = _declared(cls)
    values: Plain = {}
    problems: list[str] = []
    for name, value in options.items():
        place = below(key, name)
        if name not in known:
            takes = f"{key or 'this file'} takes {', '.join(known) or 'none'}"
            problems.append(f"{place} is not an option; {takes}{nearest(str(name), known)}")
            continue
        field = known[name].name
        try:
            values[field] = coerce(value, hints[field], alias(place), alias, fallback)
        except ConfigError as error:
            problems += error.messages
    problems += [
        f"{below(key, name)} is missing: give it a value"
        for name, f in known.items()
        if name not in options and f.default is MISSING and f.default_factory is MISSING
    ]
    return values, problems


@cache
def _declared(cls: type) -> tuple[Plain, dict[str, Field[Any]]]:
    """The types by field name, and the fields by key (`from` is the key of `from_`).

    Cached for each class, since evaluating the annotations takes most of the time of `build`.
    """
    return get_type_hints(cls), {f.name.removesuffix("_"): f for f in fields(cls) if f.init}


def below(key: str, name: object) -> str:
    """The key of `name` within `key`."""
    return f"{key}.{name}" if key else str(name)


def excerpt(value: Any) -> str:
    """The text of a value for a message, cut to EXCERPT characters."""
    text = repr(value)
    return text if len(text) <= EXCERPT else f"{text[: EXCERPT - 3]}..."


def coerce(
    value: Any, hint: Any, key: str, alias: Alias = same, fallback: Fallback = refuse
) -> Any:
    """Convert `value` to the annotated type.

    Ints become floats, lists become tuples, dicts become dataclasses, words become paths, and the
    words of `WORDS` truth values. Any other value must have the type already. Numbers must be
    finite and fit in float32 or in 64 bits.

    Raises:
        ConfigError: the value has another type.
    """
    options = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    if value is None and type(None) in options:
        return None
    for option in options:
        converted = _convert(value, option, key, alias, fallback)
        if converted is not NO_FIT:
            return converted
    plain = all((get_origin(o) or o) in PLAIN or is_dataclass(o) for o in options)
    component = isinstance(value, dict) and "_target_" in value
    if fallback is refuse or (plain and not component):
        wanted = " or ".join(_name(o) for o in options)
        raise ConfigError(f"{key}={excerpt(value)} must be {wanted}")
    return fallback(value, key, alias)


def _convert(value: Any, option: Any, key: str, alias: Alias, fallback: Fallback) -> Any:
    """Convert `value` to one type, which is not a union; NO_FIT if the value has another type."""
    origin = get_origin(option) or option
    if hasattr(origin, "from_plain"):
        return origin.from_plain(value, key)
    if isinstance(value, dict):
        if isinstance(origin, type) and is_dataclass(origin) and "_target_" not in value:
            return build(origin, value, key, alias, fallback)
        if origin not in (dict, Mapping):
            return NO_FIT
        inner = get_args(option)[1] if get_args(option) else Any
        items = [(f"{key}.{name}", item) for name, item in value.items()]
        return dict(zip(map(str, value), _each(items, inner, alias, fallback), strict=True))
    if isinstance(value, (list, tuple)):
        if origin is not tuple or not _fits(option, value):
            return NO_FIT
        inner = get_args(option)[0] if get_args(option) else Any
        items = [(f"{key}.{i}", item) for i, item in enumerate(value)]
        return tuple(_each(items, inner, alias, fallback))
    return _convert_scalar(value, option, key)


def _convert_scalar(value: Any, option: Any, key: str) -> Any:
    """Convert a scalar to a number, text, truth value or literal; NO_FIT if it is none of them.

    Raises:
        ConfigError: a number that is not finite or too large.
    """
    origin = get_origin(option) or option
    if origin in (int, float) and isinstance(value, (int, float)) and not isinstance(value, bool):
        return _number(value, origin, key)
    if origin is bool and not isinstance(value, float):
        return WORDS.get(str(value).lower(), NO_FIT)
    if origin is Path and isinstance(value, str) and value:
        return Path(value)
    fits = value in get_args(option) if origin is Literal else origin is str and type(value) is str
    return value if fits else NO_FIT


def _number(value: int | float, kind: type, key: str) -> Any:
    """The number as an int or a float; NO_FIT for a float where an int is wanted.

    Raises:
        ConfigError: it is not finite, or too large.
    """
    if kind is int and not isinstance(value, int):
        return NO_FIT
    if isinstance(value, int) and abs(value) > MOST:
        raise ConfigError(f"{key}={excerpt(value)} must be a whole number of at most {MOST}")
    if not abs(value) <= LARGEST:
        finite = "at most 3.4e38 in size, the limit of float32"
        what = finite if math.isfinite(value) else "a finite number"
        raise ConfigError(f"{key}={value} must be {what}")
    return kind(value)


def _fits(hint: Any, value: list[Any] | tuple[Any, ...]) -> bool:
    """Whether a list has the length that its annotation requires.

    tuple[float, float] requires two items; tuple[float, ...] allows any number.
    """
    return not get_args(hint) or get_args(hint)[-1] is Ellipsis or len(get_args(hint)) == len(value)


def _each(items: list[tuple[str, Any]], hint: Any, alias: Alias, fallback: Fallback) -> list[Any]:
    """Convert (key, value) pairs to one type.

    Raises:
        ConfigError: every problem up to and including the first in a value that is not a dict.
    """
    found: list[Any] = []
    problems: list[str] = []
    for key, value in items:
        try:
            found.append(coerce(value, hint, key, alias, fallback))
        except ConfigError as error:
            problems.extend(error.messages)
            if not isinstance(value, dict):
                break
    if problems:
        raise ConfigError(*problems)
    return found


def _name(hint: Any) -> str:
    """The name of a type for messages."""
    origin = get_origin(hint) or hint
    if origin is tuple and get_args(hint) and get_args(hint)[-1] is not Ellipsis:
        return f"a list of {len(get_args(hint))}"
    if origin is Literal:
        return "one of " + ", ".join(str(a) for a in get_args(hint))
    if is_dataclass(hint):
        return "a mapping"
    return NAMES.get(getattr(origin, "__name__", ""), "a list")
