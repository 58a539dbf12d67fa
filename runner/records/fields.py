"""The fields of a record with their types and ranges (docs/records.md)."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias

SCHEMA = 1  # version of the format
STATUSES = ("done", "diverged")
Fits: TypeAlias = Callable[[Any], bool]


@dataclass(frozen=True)
class Field:
    """A field that every record has.

    Args:
        what: its values in words, for messages.
        fits: whether a value is one of them.
        nullable: whether null is one, too.
        optional: whether a record of an earlier version may lack it.
    """

    name: str
    what: str
    fits: Fits
    nullable: bool = False
    optional: bool = False

    def problem(self, record: Mapping[str, Any]) -> str | None:
        """Why the field of a record is not valid; None if it is."""
        if self.name not in record:
            return None if self.optional else f"it has no {self.name}"
        value = record[self.name]
        if value is None and self.nullable or value is not None and self.fits(value):
            return None
        return f"{self.name}={short(value)} is not {self.what}"


def short(value: Any) -> str:
    """A value in a message."""
    text = json.dumps(value) if isinstance(value, (dict, list)) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


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


def _each(fits: Fits) -> Fits:
    """Whether a value is a mapping or a list whose values all fit."""

    def every(value: Any) -> bool:
        values = value.values() if isinstance(value, dict) else value
        return isinstance(value, (dict, list)) and all(map(fits, values))

    return every


def _map_of(fits: Fits) -> Fits:
    every = _each(fits)
    return lambda value: _mapping(value) and every(value)


def list_of(fits: Fits) -> Fits:
    """Whether a value is a list whose values all fit."""
    every = _each(fits)
    return lambda value: _list(value) and every(value)


def _or_null(fits: Fits) -> Fits:
    return lambda value: value is None or fits(value)


def _finding(value: Any) -> bool:
    return not isinstance(value, (dict, list))


WHOLE, PERCENT, SHARE = "a whole number of 0 or more", "from 0 to 100", "from 0 to 1"
TIME, SOME, ONE = "a number of 0 or more", "above 0 and at most 1", "a whole number of 1 or more"
TEXTS, TRUTHS = "a mapping to text", "a mapping to true or false"
MOMENT = "a time with its zone, as 2026-11-28T06:07:40+00:00"
FIELDS = (
    Field("schema", f"{SCHEMA}, the format of this version", lambda v: _whole(v) and v == SCHEMA),
    Field("run_id", "text", text),
    Field("status", " or ".join(STATUSES), lambda value: value in STATUSES),
    *(Field(name, "text", text) for name in ("method", "label", "dataset", "model")),
    Field("data", "a mapping", _mapping, optional=True),
    Field("seed", WHOLE, _whole),
    Field("train_fraction", SOME, _some_share),
    Field("scale", "above 0", _positive),
    Field("density_target", SOME, _some_share, nullable=True),
    *(Field(name, SHARE, _share, nullable=True) for name in ("density", "sparsity")),
    *(Field(name, WHOLE, _whole, nullable=True) for name in ("prunable", "kept")),
    *(
        Field(name, PERCENT, _percent, nullable=True)
        for name in ("accuracy", "accuracy_best", "accuracy_top5", "val_accuracy")
    ),
    Field("test_loss", TIME, _at_least_0, nullable=True),
    Field("train_flops", WHOLE, _whole, nullable=True, optional=True),
    Field("train_flops_ratio", TIME, _at_least_0, nullable=True, optional=True),
    *(Field(name, WHOLE, _whole) for name in ("epochs", "epochs_total")),
    Field("epoch_kind", "train or search", lambda value: value in ("train", "search")),
    *(Field(name, TIME, _at_least_0) for name in ("runtime_s", "wall_s")),
    *(Field(name, "a mapping", _mapping) for name in ("flops", "provenance")),
    Field("report", "a mapping to numbers, text or null", _map_of(_finding)),
    Field("stages", "a list", _list),
)
FLOPS = (
    Field("dense", TIME, _at_least_0),
    Field("nonzero", TIME, _at_least_0, nullable=True),
    Field("unit", "text", text),
)
DATA = (  # what was found in the user's own files of images
    Field("content", "text", text),
    *(
        Field(name, WHOLE, _whole)
        for name in ("channels", "height", "width", "train", "validation", "test")
    ),
    Field("classes", "a list of text", list_of(text)),
    Field("scale", "above 0", _positive),
    *(Field(name, "a list of numbers", list_of(number)) for name in ("mean", "std")),
)
STAGE = (
    *(Field(name, "text", text) for name in ("name", "key")),
    Field("cached", "true or false", _truth),
    Field("epochs", WHOLE, _whole),
    Field("seconds", TIME, _at_least_0),
    Field("origin", WHOLE, _whole, optional=True),
)
CPU = (
    *(Field(name, "text", text) for name in ("name", "capability")),
    Field("instruction_sets", "a list of text", list_of(text)),
    Field("libraries", TEXTS, _map_of(text)),
)
# How a stage was computed. Optional is what records from before version 0.2.0 can lack.
ORIGIN = (
    Field("git_sha", "text", text, nullable=True),
    Field("git_dirty", "true or false", _truth, nullable=True),
    Field("installed", "a mapping to text or null", _map_of(_or_null(text)), optional=True),
    Field("versions", TEXTS, _map_of(text), optional=True),
    *(Field(name, "text", text, optional=True) for name in ("device", "host")),
    Field("device_name", "text", text),
    Field("cuda", "text", text, nullable=True, optional=True),
    Field("cpu", "a mapping", _mapping, optional=True),
    Field("threads", ONE, _at_least_1),
    Field("processes", ONE, _at_least_1, optional=True),
    Field("determinism", TRUTHS, _map_of(_truth), optional=True),
)
PROVENANCE = (
    *ORIGIN,
    Field("origins", "a list of mappings or null", list_of(_or_null(_mapping)), optional=True),
    Field("precision", "text", text),
    Field("numerics", "a mapping to whole numbers", _map_of(_whole)),
    Field("finished", MOMENT, _time),
    Field("started", MOMENT, _time, optional=True),
    Field("memory_gb", "above 0", _positive, nullable=True, optional=True),
    *(Field(name, "text", text, optional=True) for name in ("command", "checksum")),
    Field("dataset_checksum", "text", text, nullable=True, optional=True),
    Field("profile", "a mapping to numbers of 0 or more", _map_of(_at_least_0), optional=True),
    Field("own", "a mapping to mappings to text", _map_of(_map_of(text)), optional=True),
    Field("files", TEXTS, _map_of(text), optional=True),
)
ROW = (  # an epoch of a history
    Field("stage", "text", text),
    Field("epoch", WHOLE, _whole, optional=True),
    *(
        Field(name, TIME, _at_least_0, nullable=True, optional=True)
        for name in ("lr", "train_loss", "test_loss")
    ),
    *(
        Field(name, PERCENT, _percent, nullable=True, optional=True)
        for name in ("accuracy", "accuracy_top5", "val_accuracy")
    ),
    Field("density", SHARE, _share, nullable=True, optional=True),
)


def problems(record: Mapping[str, Any], fields: tuple[Field, ...]) -> Iterator[str]:
    """Every problem of a mapping with these fields."""
    return (problem for field in fields if (problem := field.problem(record)))
