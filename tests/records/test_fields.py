"""Each field of a record in turn: a value of another type is named, and its record left out."""

import copy
import json
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from record_support import full_record, run_name

from runner.records import fields as schema
from runner.records.find import all_records
from runner.records.provenance import Cpu, Origin
from runner.records.valid import problem_of
from runner.spec.found import Found

ALIEN = {"alien": [{}]}  # of no field's type: neither text, number, truth, list nor its mapping
Path_ = tuple[str | int, ...]


def places(node: Any, above: Path_ = ()) -> Iterator[Path_]:
    """The place of every value: keys of mappings, positions in lists."""
    for key, value in node.items() if isinstance(node, dict) else enumerate(node):
        yield (*above, key)
        if isinstance(value, (dict, list)):
            yield from places(value, (*above, key))


def at(record: Any, place: Path_) -> Any:
    for key in place:
        record = record[key]
    return record


def changed(record: dict[str, Any], place: Path_, *value: Any) -> dict[str, Any]:
    """A copy with another value at a place; without the place if no value is given."""
    copied = copy.deepcopy(record)
    if value:
        at(copied, place[:-1])[place[-1]] = value[0]
    else:
        del at(copied, place[:-1])[place[-1]]
    return copied


def others(value: Any) -> list[Any]:
    """Values of other types than that of `value`."""
    return [v for v in (ALIEN, [ALIEN], "text", 2.5, True) if type(v) is not type(value)]


def field_of(place: Path_) -> str:
    """The field with the type of what is at a place: the last name, that of a list for its items.

    The names in mappings to text, numbers or truths are none.
    """
    names = [key for key in place if isinstance(key, str)]
    maps = ("report", "numerics", "installed", "versions", "libraries", "determinism")
    within = [key for key in names if key in (*maps, "profile", "own", "files")]
    if names == ["stages"]:
        return "stage"
    return str(within[0] if within else names[-1])


RECORD = full_record(1)
PLACES = list(places(RECORD))


def fits(place: Path_, value: Any, other: Any) -> bool:
    """Whether the value at a place may be `other`, which is of another type."""
    if type(value) in (int, float) and other == 2.5:
        return True  # both are numbers
    text = value is None and other == "text"  # what is null here may be text
    return text or place == ("report", "a") and other is not ALIEN  # a finding


def test_a_value_of_another_type_anywhere_is_named() -> None:
    assert problem_of(RECORD, run_name(1)) is None
    for place in PLACES:
        value = at(RECORD, place)
        for other in others(value):
            if not fits(place, value, other):
                problem = problem_of(changed(RECORD, place, other), run_name(1))
                assert problem and field_of(place) in problem and "\n" not in problem, place
        assert problem_of(changed(RECORD, place, ALIEN), run_name(1)), place


def test_a_missing_field_is_named_unless_earlier_records_lack_it() -> None:
    optional = {
        field.name
        for group in (schema.FIELDS, schema.PROVENANCE, schema.ORIGIN)
        for field in group
        if field.optional
    } - {"origins"}  # the stages name one
    for place in PLACES:
        name, above = place[-1], place[:-1]
        if isinstance(name, int) or above and field_of(place) != name:
            continue  # an item of a list, or of a mapping without fixed keys
        problem = problem_of(changed(RECORD, place), run_name(1))
        if name in optional and (not above or above[0] == "provenance"):
            assert problem is None, (place, problem)
        else:
            assert problem and name in problem, place


def test_exactly_the_record_with_a_wrong_field_is_named_and_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = []
    for seed in range(3):
        files.append(tmp_path / "runs" / run_name(seed) / "result.json")
        files[-1].parent.mkdir(parents=True)
        files[-1].write_text(json.dumps(without_files(full_record(seed))))
    assert len(list(all_records(tmp_path))) == 3
    for place in PLACES:
        if place[:2] == ("provenance", "files"):
            continue
        files[1].write_text(json.dumps(changed(without_files(RECORD), place, ALIEN)))
        assert [each["seed"] for each in all_records(tmp_path)] == [0, 2]
        (line,) = capsys.readouterr().err.splitlines() or [""]
        # the same problem is named once in a process
        assert (
            not line or line.startswith(f"{files[1]} is damaged: ") and field_of(place) in line
        ), place


def without_files(record: dict[str, Any]) -> dict[str, Any]:
    """The record without the checksums of files that do not exist in these tests."""
    return changed(record, ("provenance", "files"))


def test_an_origin_of_a_stage_is_one_of_the_origins() -> None:
    for value in (2, -1, True, 0.0, "0", None):
        problem = problem_of(changed(RECORD, ("stages", 1, "origin"), value), run_name(1))
        assert problem and problem.startswith("stage 2: origin="), (value, problem)
    alone = changed(RECORD, ("provenance", "origins"))
    assert problem_of(alone, run_name(1)) == "stage 1 has an origin, and provenance has 0 origins"
    null = changed(RECORD, ("provenance", "origins", 0), None)  # computed before version 0.2.0
    assert problem_of(null, run_name(1)) is None


def test_the_schema_has_all_that_the_code_writes_and_the_full_record_all_of_the_schema() -> None:
    def names(group: tuple[schema.Field, ...]) -> set[str]:
        return {field.name for field in group}

    assert names(schema.ORIGIN) == {field.name for field in fields(Origin)}
    assert names(schema.DATA) == {field.name for field in fields(Found)} | {"mean", "std"}
    assert names(schema.CPU) == {field.name for field in fields(Cpu)}
    for group, place in (
        (schema.FIELDS, ()),
        (schema.FLOPS, ("flops",)),
        (schema.DATA, ("data",)),
        (schema.NARROWED, ("narrowed",)),
        (schema.STAGE, ("stages", 0)),
        (schema.CPU, ("provenance", "cpu")),
        (schema.ORIGIN, ("provenance", "origins", 0)),
    ):
        assert names(group) == set(at(RECORD, place)), place
    assert names(schema.PROVENANCE) - {"checksum"} == set(RECORD["provenance"])
