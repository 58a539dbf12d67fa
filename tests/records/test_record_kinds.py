"""The kind of machine and versions of a record."""

from typing import Any

from runner.records.kinds import kind_of, mixed, told_apart
from runner.suites.titles import origins

CPU = {
    "capability": "AVX512",
    "instruction_sets": ["avx2", "avx512f"],
    "libraries": {"BLAS": "mkl"},
}


def origin(**changes: Any) -> dict[str, Any]:
    return {
        "device_name": "EPYC",
        "threads": 1,
        "processes": 1,
        "versions": {"torch": "2.14.1", "numpy": "2.4.6", "python": "3.11.7"},
        "cuda": None,
        "cpu": CPU,
        "host": "a",
        "git_sha": "b",
        **changes,
    }


def record(**provenance: Any) -> dict[str, Any]:
    return {"provenance": {"precision": "fp32", "numerics": {"train": 1}, **provenance}}


def test_equal_kinds_differ_in_nothing_that_changes_numbers() -> None:
    one = record(**origin())
    others = (
        origin(host="b", git_sha="c"),
        origin(versions={"torch": "2.14.1", "numpy": "2.4.6", "python": "3.12.1"}),
    )
    assert {kind_of(record(**each)) for each in others} == {kind_of(one)}
    changes: dict[str, dict[str, Any]] = {
        "devices": {"device_name": "Xeon"},
        "PyTorch versions": {"versions": {"torch": "2.15.0", "numpy": "2.4.6"}},
        "versions of numpy": {"versions": {"torch": "2.14.1", "numpy": "2.5.0"}},
        "kinds of CPU": {"cpu": {**CPU, "capability": "AVX2"}},
        "versions of BLAS": {"cpu": {**CPU, "libraries": {"BLAS": "open"}}},
        "numbers of processes": {"processes": 2},
    }
    for part, change in changes.items():
        other = kind_of(record(**origin(**change)))
        assert list(mixed([kind_of(one), other])) == [part]
    threads = kind_of(record(**origin(threads=2)))
    assert told_apart([kind_of(one), threads]) == [
        "device EPYC, 1 thread(s)",
        "device EPYC, 2 thread(s)",
    ]


def test_records_that_state_less_are_of_a_kind_of_their_own() -> None:
    bare = origin()
    del bare["cpu"]
    old = record(**bare)
    assert told_apart([kind_of(old), kind_of(record(**origin()))]) == [
        "CPU not stated",
        "CPU AVX512 of avx2 avx512f",
    ]
    # before there were several processes, there was one
    del bare["processes"]
    assert kind_of(record(**bare)) == kind_of(old)


def test_all_stages_count_and_the_page_names_every_mixture() -> None:
    two = record(**origin(), origins=[origin(), origin(threads=2), origin(git_sha="c")])
    assert dict(kind_of(two))["devices"] == "EPYC, 1 thread(s) and EPYC, 2 thread(s)"
    unknown = record(**origin(), origins=[None, origin()])
    assert dict(kind_of(unknown))["PyTorch versions"] == "2.14.1 and not stated"
    older = origin(versions={"torch": "2.13.0", "numpy": "2.3.0"})
    # the last stage is as that of the other record; an earlier one has other versions
    found = origins([record(**origin()), record(**origin(), origins=[older, origin()])])
    assert found == [
        "Device: EPYC, 1 thread(s).",
        "Precision: fp32.",
        "Mixes PyTorch versions: 2.13.0 and 2.14.1; 2.14.1.",
        "Mixes versions of numpy: 2.3.0 and 2.4.6; 2.4.6.",
    ]
