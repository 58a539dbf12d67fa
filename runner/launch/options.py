"""A launcher's options from the command line: `hydra.launcher.NAME=VALUE` or `make reproduce`.

All invalid options are reported together.
"""

from collections.abc import Mapping
from dataclasses import fields
from types import NoneType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from runner.errors import ConfigError, nearest

T = TypeVar("T")
WANTED = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    dict: "a mapping, set as NAME.KEY=VALUE or '{KEY: VALUE}'",
    str: "a word",
}


def options_from(cls: type[T], values: dict[str, Any], prefix: str = "") -> T:
    """Create an instance of a dataclass from the values of a command line.

    Fields are numbers, words or mappings; optional fields may be null.

    Args:
        prefix: the text before a field's name on the command line, for messages.

    Raises:
        ConfigError: one message per unknown name, value of the wrong type and (raised by the class
            itself) value out of range.
    """
    hints, typed, problems = get_type_hints(cls), dict[str, Any](), list[str]()
    kinds = {f.name: hints[f.name] for f in fields(cls)}  # type: ignore[arg-type]
    for name, value in values.items():
        if name not in kinds:
            options = ", ".join(kinds)
            problems.append(f"{prefix}{name} is not an option: {options}{nearest(name, kinds)}")
            continue
        choices = get_args(kinds[name]) if get_origin(kinds[name]) is not dict else (kinds[name],)
        kind = next(iter(get_origin(choice) or choice for choice in choices), kinds[name])
        optional = NoneType in choices
        try:
            typed[name] = None if optional and value in (None, "null") else _typed(value, kind)
        except (TypeError, ValueError):
            or_null = " or null" if optional else ""
            problems.append(f"{prefix}{name}={value} must be {WANTED[kind]}{or_null}")
    try:
        found = cls(**typed)
    except ConfigError as error:
        problems += [f"{prefix}{message}" for message in error.messages]
    if problems:
        raise ConfigError(*problems)
    return found


def _typed(value: Any, kind: Any) -> Any:
    if kind is dict and isinstance(value, str):
        value = _mapping(value)
    if (
        isinstance(value, bool) != (kind is bool)
        or (kind is int and isinstance(value, float))
        or (kind is dict) != isinstance(value, Mapping)
    ):
        raise TypeError
    return kind(value)


def _mapping(text: str) -> Any:
    """The mapping that a text describes, as Hydra reads `{account: lab}`."""
    try:
        (parsed,) = OverridesParser.create().parse_overrides([f"mapping={text}"])
        return parsed.value()
    except HydraException:
        return None


def too_small(options: Any, least: Mapping[str, float]) -> list[str]:
    """One message for each value that is below its minimum or NaN."""
    values = {name: getattr(options, name) for name in least}
    return [
        f"{name}={value:g} must be at least {least[name]}"
        for name, value in values.items()
        if value is not None and not value >= least[name]
    ]
