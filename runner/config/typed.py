"""From plain dicts to frozen dataclasses: every field checked by name and type, every problem told at once.

Used for components (runner/config/instantiate.py) and for what tables and figures say (runner/suites). A class that is written in several forms has a class
method `from_plain(value, key)` that makes it: of a short form, or as the subclass that the value's keys ask for.
"""

import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import cache
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from runner.errors import ConfigError, nearest

EXCERPT = 80  # characters of a value in a message

T = TypeVar("T")
Alias = Callable[[str], str]  # where a node stands -> the key by which a user sets it, if it was interpolated from elsewhere
Fallback = Callable[[Any, str, Alias], Any]  # a value whose annotation is no plain type, its key -> what it stands for


def same(key: str) -> str:
    """No alias: an option is named after the place where it was found."""
    return key


def refuse(value: Any, key: str, alias: Alias) -> Any:
    """No value but those of plain types and dataclasses.

    Raises:
        ConfigError: always.
    """
    raise ConfigError(f"{key}={value!r} has a value that is not expected here")


def build(cls: type[T], options: Mapping[str, Any], key: str, alias: Alias = same, fallback: Fallback = refuse) -> T:
    """An instance of the dataclass `cls`; fields that are dataclasses themselves are built from plain dicts.

    Args:
        options: field -> value, plain dicts, lists and scalars.
        key: where they stand, for messages; empty at the top of a file.
        fallback: for values whose annotation is a Protocol, a Callable or Any.

    Raises:
        ConfigError: every problem found: unknown or missing field, value of the wrong type, value refused by the class.
    """
    hints, known = _declared(cls)  # type: ignore[arg-type]  # mypy takes a generic type for unhashable
    problems: list[str] = []
    values: dict[str, Any] = {}
    for name, value in options.items():
        if name not in known:
            takes = f"{key or 'this file'} takes {', '.join(known) or 'none'}"
            problems.append(f"{below(key, name)} is not an option; {takes}{nearest(str(name), known)}")
            continue
        try:
            values[known[name].name] = coerce(value, hints[known[name].name], alias(below(key, name)), alias, fallback)
        except ConfigError as error:
            problems.extend(error.messages)
    missing = [n for n, f in known.items() if n not in options and f.default is MISSING and f.default_factory is MISSING]
    problems += [f"{below(key, name)} is missing: give it a value" for name in missing]
    if not problems:
        try:
            return cls(**values)
        except ValueError as error:
            problems = str(error).splitlines()
    raise ConfigError(*problems)


@cache
def _declared(cls: type) -> tuple[dict[str, Any], dict[str, Field[Any]]]:
    """Field -> its type, and key -> field; `from_` is the key `from`. Kept for each class: evaluating annotations takes longer than all the rest."""
    return get_type_hints(cls), {f.name.removesuffix("_"): f for f in fields(cls) if f.init}


def below(key: str, name: object) -> str:
    """The key of what stands under `key`."""
    return f"{key}.{name}" if key else str(name)


def excerpt(value: Any) -> str:
    """A value for a message, of a long one its beginning."""
    text = repr(value)
    return text if len(text) <= EXCERPT else f"{text[: EXCERPT - 3]}..."


def coerce(value: Any, hint: Any, key: str, alias: Alias = same, fallback: Fallback = refuse) -> Any:
    """`value` as the annotated type: ints become floats, lists tuples, dicts dataclasses; everything else must fit already.

    Raises:
        ConfigError: it does not fit.
    """
    options = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    if value is None and type(None) in options:
        return None
    for option in options:
        origin = get_origin(option) or option
        if hasattr(origin, "from_plain"):
            return origin.from_plain(value, key)
        if isinstance(origin, type) and is_dataclass(origin) and isinstance(value, dict) and "_target_" not in value:
            return build(origin, value, key, alias, fallback)
        if origin is tuple and isinstance(value, (list, tuple)) and _fits(option, value):
            inner = get_args(option)[0] if get_args(option) else Any
            return tuple(_each([(f"{key}.{i}", v) for i, v in enumerate(value)], inner, alias, fallback))
        if origin in (dict, Mapping) and isinstance(value, dict):
            inner = get_args(option)[1] if get_args(option) else Any
            return dict(zip(map(str, value), _each([(f"{key}.{name}", v) for name, v in value.items()], inner, alias, fallback), strict=True))
        if origin is float and isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value)
        if origin in (int, str, bool) and type(value) is origin:
            return value
        if origin is Literal and value in get_args(option):
            return value
    simple = (int, float, str, bool, tuple, dict, Mapping, Literal, type(None))
    if fallback is refuse or all((get_origin(o) or o) in simple for o in options):
        wanted = " or ".join(_name(o) for o in options)
        raise ConfigError(f"{key}={excerpt(value)} must be {wanted}")
    return fallback(value, key, alias)


def _fits(hint: Any, value: list[Any] | tuple[Any, ...]) -> bool:
    """Whether a list is as long as its annotation says: tuple[float, float] has two items, tuple[float, ...] any number."""
    return not get_args(hint) or get_args(hint)[-1] is Ellipsis or len(get_args(hint)) == len(value)


def _each(items: list[tuple[str, Any]], hint: Any, alias: Alias, fallback: Fallback) -> list[Any]:
    """Values of one type with their keys, coerced; every problem of mappings told, of plain values the first."""
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
    if get_origin(hint) is tuple and get_args(hint) and get_args(hint)[-1] is not Ellipsis:
        return f"a list of {len(get_args(hint))}"
    if hint is type(None):
        return "null"
    if get_origin(hint) is Literal:
        return "one of " + ", ".join(str(a) for a in get_args(hint))
    kinds = {"int": "a whole number", "float": "a number", "str": "a word", "bool": "true or false", "dict": "a mapping", "Mapping": "a mapping"}
    return "a mapping" if is_dataclass(hint) else kinds.get(getattr(get_origin(hint) or hint, "__name__", ""), "a list")
