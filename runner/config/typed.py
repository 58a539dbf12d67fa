"""From plain dicts to frozen dataclasses: every field checked by name and type, every problem told at once.

Used for components (runner/config/instantiate.py) and for what tables and figures say (runner/suites).
"""

import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import cache
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from runner.errors import ConfigError, nearest

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
        key: where they stand, for messages.
        fallback: for values whose annotation is a Protocol, a Callable or Any.

    Raises:
        ConfigError: every problem found: unknown or missing field, value of the wrong type, value refused by the class.
    """
    hints, known = _declared(cls)  # type: ignore[arg-type]  # mypy takes a generic type for unhashable
    problems: list[str] = []
    values: dict[str, Any] = {}
    for name, value in options.items():
        if name not in known:
            problems.append(f"{key}.{name} is not an option; {key} takes {', '.join(known) or 'none'}{nearest(str(name), known)}")
            continue
        try:
            values[known[name].name] = coerce(value, hints[known[name].name], alias(f"{key}.{name}"), alias, fallback)
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


@cache
def _declared(cls: type) -> tuple[dict[str, Any], dict[str, Field[Any]]]:
    """Field -> its type, and key -> field; `from_` is the key `from`. Kept for each class: evaluating annotations takes longer than all the rest."""
    return get_type_hints(cls), {f.name.removesuffix("_"): f for f in fields(cls) if f.init}


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
        if isinstance(origin, type) and is_dataclass(origin) and isinstance(value, dict) and "_target_" not in value:
            return build(origin, value, key, alias, fallback)
        if origin is tuple and isinstance(value, (list, tuple)):
            inner = get_args(option)[0] if get_args(option) else Any
            return tuple(coerce(v, inner, f"{key}.{i}", alias, fallback) for i, v in enumerate(value))
        if origin is dict and isinstance(value, dict):
            inner = get_args(option)[1] if get_args(option) else Any
            return {str(name): coerce(v, inner, f"{key}.{name}", alias, fallback) for name, v in value.items()}
        if origin is float and isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value)
        if origin in (int, str, bool) and type(value) is origin:
            return value
        if origin is Literal and value in get_args(option):
            return value
    simple = (int, float, str, bool, tuple, dict, Literal, type(None))
    if all((get_origin(o) or o) in simple for o in options):
        wanted = " or ".join(_name(o) for o in options)
        raise ConfigError(f"{key}={value!r} must be {wanted}")
    return fallback(value, key, alias)


def _name(hint: Any) -> str:
    if hint is type(None):
        return "null"
    if get_origin(hint) is Literal:
        return "one of " + ", ".join(str(a) for a in get_args(hint))
    kinds = {"int": "a whole number", "float": "a number", "str": "a word", "bool": "true or false", "dict": "a mapping"}
    return kinds.get(getattr(get_origin(hint) or hint, "__name__", ""), "a list")
