"""The fields of records that are checked on reading, as `runner.spec.record` declares them."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import NoneType
from typing import Any, get_args, get_type_hints

from runner.spec import record as declared
from runner.spec.record_values import Values


@dataclass(frozen=True)
class Field:
    """A field that every record has.

    Args:
        nullable: whether null is one of its values, too.
        optional: whether a record may lack it, as those of an earlier version.
    """

    name: str
    values: Values
    nullable: bool
    optional: bool

    def problem(self, record: Mapping[str, Any]) -> str | None:
        """Why the field of a record is not valid; None if it is."""
        if self.name not in record:
            return None if self.optional else f"it has no {self.name}"
        value = record[self.name]
        if value is None and self.nullable or value is not None and self.values.fits(value):
            return None
        return f"{self.name}={short(value)} is not {self.values.what}"


def short(value: Any) -> str:
    """A value in a message."""
    text = json.dumps(value) if isinstance(value, (dict, list)) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def fields_of(part: Any) -> tuple[Field, ...]:
    """The fields that a TypedDict declares, each `Annotated` with its values, or that or None."""
    hints = get_type_hints(part, include_extras=True)
    return tuple(_field(name, hint, name in part.__optional_keys__) for name, hint in hints.items())


def _field(name: str, hint: Any, optional: bool) -> Field:
    choices = (hint,) if hasattr(hint, "__metadata__") else get_args(hint)
    (values,) = (choice.__metadata__[0] for choice in choices if choice is not NoneType)
    return Field(name, values, NoneType in choices, optional)


FIELDS = fields_of(declared.Record)
FLOPS = fields_of(declared.Flops)
NARROWED = fields_of(declared.Narrowed)
DATA = fields_of(declared.OwnImages)
STAGE = fields_of(declared.RecordedStage)
CPU = fields_of(declared.RecordedCpu)
ORIGIN = fields_of(declared.RecordedOrigin)
PROVENANCE = fields_of(declared.Provenance)
ROW = fields_of(declared.Row)


def problems(record: Mapping[str, Any], fields: tuple[Field, ...]) -> Iterator[str]:
    """Every problem of a mapping with these fields."""
    return (problem for field in fields if (problem := field.problem(record)))
