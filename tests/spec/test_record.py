"""The types of records agree with what readers check, and with what records have."""

import json
import types
from collections.abc import Mapping, Sequence
from typing import (
    Annotated,
    Any,
    Literal,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

import pytest
from record_support import full_record, run_name

from runner.errors import ConfigError
from runner.paths import PUBLISHED
from runner.records.fields import fields_of
from runner.records.read import FinishedRun
from runner.records.valid import problem_of
from runner.spec.record import (
    Flops,
    Line,
    Narrowed,
    OwnImages,
    Provenance,
    Record,
    RecordedCpu,
    RecordedOrigin,
    RecordedStage,
    Row,
)

FORMS = (
    *(Record, Flops, Narrowed, OwnImages, RecordedStage),
    *(RecordedCpu, RecordedOrigin, Provenance, Row),
)
PLAIN = (
    *(None, True, False, -1, 0, 1, 100, 101, -0.5, 0.0, 0.5, 2.5, "", "text", "done", "diverged"),
    *("train", "search", "2026-11-28T06:07:40+00:00"),
)
POOL = (*PLAIN, *([each] for each in PLAIN), *({"a": each} for each in PLAIN), [], {}, [{}], [[]])
NESTED = ({"a": {"b": "text"}}, {"a": {"b": 1}}, {"a": [1]}, [{"a": 1}])


def has(value: Any, hint: Any, parts: bool = True) -> bool:
    """Whether JSON is of a type, as mypy understands it: an int is a float, and true no number.

    Args:
        parts: whether the keys of a TypedDict are compared, too.
    """
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return has(value, inner[0], parts)
    if origin in (Union, types.UnionType):
        return any(has(value, each, parts) for each in inner)
    if origin is Literal:
        return value in inner
    if origin in (list, Sequence):
        return isinstance(value, list) and all(has(each, inner[0], parts) for each in value)
    if origin in (dict, Mapping):
        return isinstance(value, dict) and all(has(v, inner[1], parts) for v in value.values())
    if is_typeddict(hint):
        return isinstance(value, dict) and (not parts or not wrong(value, hint))
    if hint is types.NoneType:
        return value is None
    if hint is Any:
        return True
    numbers = {float: (int, float), int: (int,)}.get(hint, (hint,))
    return isinstance(value, numbers) and (hint is bool or not isinstance(value, bool))


def wrong(value: Mapping[str, Any], form: Any) -> list[str]:
    """The keys that a TypedDict does not declare, lacks, or has with another type."""
    hints = get_type_hints(form)
    odd = [key for key in value if key not in hints or not has(value[key], hints[key])]
    return odd + [key for key in form.__required_keys__ if key not in value]


def test_a_check_admits_values_of_the_fields_type_alone() -> None:
    refused = 0
    for form in FORMS:
        hints = get_type_hints(form, include_extras=True)
        fields = fields_of(form)
        assert [field.name for field in fields] == [*hints]
        for field in fields:
            admitted = [v for v in (*POOL, *NESTED) if field.problem({field.name: v}) is None]
            whole = field.name in ("report", "stages")  # the one admits truths, as its records may
            for value in admitted:
                assert whole or has(value, hints[field.name], parts=False), (form, field, value)
            assert len({json.dumps(value) for value in admitted}) < len(POOL)
            assert field.optional == (field.name not in form.__required_keys__)
            assert field.nullable == has(None, hints[field.name])
            refused += len(POOL) - len(admitted)
    assert refused > len(POOL)


def test_a_complete_record_and_every_published_line_have_the_declared_keys_and_types() -> None:
    assert wrong(full_record(1), Record) == []
    for path in sorted(PUBLISHED.glob("records/*.jsonl")):
        with path.open(encoding="utf-8") as lines:
            line = json.loads(next(lines))
        assert wrong(line, Line) == [], path
    assert wrong({**full_record(1), "other": 1}, Record) == ["other"]


@pytest.mark.parametrize("form", [{"widest": 0, "from": 8}, {"widest": 4}, 4, None])
def test_the_narrower_form_is_checked(form: Any) -> None:
    assert problem_of({**full_record(1), "narrowed": {"widest": 4, "from": 8}}, run_name(1)) is None
    assert problem_of({**full_record(1), "narrowed": form}, run_name(1))


def test_a_figure_names_the_run_whose_field_is_text_or_lacks_a_number() -> None:
    run = FinishedRun(full_record(1), {"history.lr": [0.1, None]})
    assert run.number("accuracy") == 90.0 and run.number("a") == 1e-300
    assert run.number("history.lr", 1) is None
    for read, problem in (
        (lambda: run.number("label"), "'SNIP' as label"),
        (lambda: run.number("flops"), "has no flops"),
        (lambda: run.numbers("accuracy"), "has no accuracy"),
        (lambda: run.whole_list("history.lr"), "null in history.lr"),
    ):
        with pytest.raises(ConfigError, match=problem):
            read()
