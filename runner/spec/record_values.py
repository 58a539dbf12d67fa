"""The kinds of values that fields of records have, each as a static type with its check.

A field of `runner.spec.record` is annotated with one of them. mypy reads the type, and the reader
of a record the check.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal, TypeAlias

from pruners.declared import Finding

SCHEMA = 1  # version of the format
STATUSES = ("done", "diverged")
Fits: TypeAlias = Callable[[Any], bool]


@dataclass(frozen=True)
class Values:
    """The values that a field may have.

    Args:
        what: in words, for messages.
        fits: whether a value is one of them.
    """

    what: str
    fits: Fits


def number(value: Any) -> bool:
    """Whether a value is a number; true and false are none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _at_least_1(value: Any) -> bool:
    return _whole(value) and value > 0


def _positive(value: Any) -> bool:
    return number(value) and value > 0


def _at_least_0(value: Any) -> bool:
    return number(value) and value >= 0


def _share(value: Any) -> bool:
    return number(value) and 0 <= value <= 1


def _some_share(value: Any) -> bool:
    return _share(value) and value > 0


def _percent(value: Any) -> bool:
    return number(value) and 0 <= value <= 100


def text(value: Any) -> bool:
    """Whether a value is text."""
    return isinstance(value, str)


def _truth(value: Any) -> bool:
    return isinstance(value, bool)


def _time(value: Any) -> bool:
    try:
        return text(value) and datetime.fromisoformat(value).tzinfo is not None
    except ValueError:
        return False


def _mapping(value: Any) -> bool:
    return isinstance(value, dict)


def _list(value: Any) -> bool:
    return isinstance(value, list)


def _map_of(fits: Fits) -> Fits:
    return lambda value: _mapping(value) and all(map(fits, value.values()))


def list_of(fits: Fits) -> Fits:
    """Whether a value is a list whose values all fit."""
    return lambda value: _list(value) and all(map(fits, value))


def _or_null(fits: Fits) -> Fits:
    return lambda value: value is None or fits(value)


def _finding(value: Any) -> bool:
    return not isinstance(value, (dict, list))


Schema: TypeAlias = Annotated[
    int, Values(f"{SCHEMA}, the format of this version", lambda v: _whole(v) and v == SCHEMA)
]
Status: TypeAlias = Annotated[
    Literal["done", "diverged"], Values(" or ".join(STATUSES), lambda value: value in STATUSES)
]
EpochKind: TypeAlias = Annotated[
    Literal["train", "search"],
    Values("train or search", lambda value: value in ("train", "search")),
]
Text: TypeAlias = Annotated[str, Values("text", text)]
Moment: TypeAlias = Annotated[
    str, Values("a time with its zone, as 2026-11-28T06:07:40+00:00", _time)
]
Truth: TypeAlias = Annotated[bool, Values("true or false", _truth)]
Whole: TypeAlias = Annotated[int, Values("a whole number of 0 or more", _whole)]
AtLeast1: TypeAlias = Annotated[int, Values("a whole number of 1 or more", _at_least_1)]
Positive: TypeAlias = Annotated[float, Values("above 0", _positive)]
AtLeast0: TypeAlias = Annotated[float, Values("a number of 0 or more", _at_least_0)]
Percent: TypeAlias = Annotated[float, Values("from 0 to 100", _percent)]
Share: TypeAlias = Annotated[float, Values("from 0 to 1", _share)]
SomeShare: TypeAlias = Annotated[float, Values("above 0 and at most 1", _some_share)]
Texts: TypeAlias = Annotated[dict[str, str], Values("a mapping to text", _map_of(text))]
TextList: TypeAlias = Annotated[list[str], Values("a list of text", list_of(text))]
Numbers: TypeAlias = Annotated[list[float], Values("a list of numbers", list_of(number))]
Truths: TypeAlias = Annotated[
    dict[str, bool], Values("a mapping to true or false", _map_of(_truth))
]
TextsOrNull: TypeAlias = Annotated[
    dict[str, str | None], Values("a mapping to text or null", _map_of(_or_null(text)))
]
TextMaps: TypeAlias = Annotated[
    dict[str, dict[str, str]], Values("a mapping to mappings to text", _map_of(_map_of(text)))
]
WholeNumbers: TypeAlias = Annotated[
    dict[str, int], Values("a mapping to whole numbers", _map_of(_whole))
]
Amounts: TypeAlias = Annotated[
    dict[str, float], Values("a mapping to numbers of 0 or more", _map_of(_at_least_0))
]
Findings: TypeAlias = Annotated[
    Mapping[str, Finding], Values("a mapping to numbers, text or null", _map_of(_finding))
]
# Of parts with fields of their own, which are checked after those of the whole.
MAPPING, LIST = Values("a mapping", _mapping), Values("a list", _list)
MAPPINGS_OR_NULL = Values("a list of mappings or null", list_of(_or_null(_mapping)))
