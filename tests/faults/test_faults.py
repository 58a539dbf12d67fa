"""The harness of `make faults` itself: every fault that it is there for is reported, with oracles
made by hand."""

import io
import json
import os
import pickle
import signal
import tarfile
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, ClassVar

import pytest
from rich.console import Console

from runner.config.compose import method_names
from runner.errors import ConfigError
from runner.faults import run as driver
from runner.faults.cases import Home, Stock
from runner.faults.damage import DAMAGES, Damage
from runner.faults.fuzz import attempt, plan_verdict
from runner.faults.grammar import Grammar
from runner.faults.hostile import Bomb, pack
from runner.faults.kills import interrupted, judged, last_of_traceback
from runner.faults.kind import Unavailable
from runner.faults.lab import call
from runner.faults.page import BEGIN, END, Figures, Origin, markdown, renewed
from runner.faults.trial import Ended, Trial, Verdict, classify, worst

RAISED = "Traceback (most recent call last):\n  File x\nKeyError: 'a'\n"

# --- verdicts

VERDICTS = [  # exit code, output, record is right, names -> verdict
    (0, "", True, (), Verdict.EQUAL),
    (0, "", False, (), Verdict.UNEQUAL),
    (0, RAISED, True, (), Verdict.TRACEBACK),
    (1, RAISED, True, (), Verdict.TRACEBACK),
    (2, "error: density=2", False, (), Verdict.REFUSED),
    (2, "", False, (), Verdict.UNCLEAR),
    (1, "failed: /c/stages/k/masks.safetensors is damaged", False, ("masks.safetensors",), "named"),
    (
        1,
        "failed: /c/stages/k/masks.saf\n  etensors is damaged",
        False,
        ("masks.safetensors",),
        "named",
    ),
    (1, "failed: header too short", False, ("masks.safetensors",), Verdict.UNCLEAR),
    (1, "failed: no space left", False, (), Verdict.FAILED),
    (1, "", False, (), Verdict.UNCLEAR),
    (None, "", True, (), Verdict.HANG),
    (-signal.SIGSEGV, "", True, (), Verdict.TRACEBACK),
    (120, "", True, (), Verdict.TRACEBACK),
]


@pytest.mark.parametrize(("code", "output", "same", "names", "verdict"), VERDICTS)
def test_a_known_end_has_its_verdict(
    code: int | None, output: str, same: bool, names: tuple[str, ...], verdict: Any
) -> None:
    wanted = Verdict.FAILED if verdict == "named" else verdict
    assert classify(Ended(code, output), same, names) == wanted


def test_silent_wrong_numbers_tracebacks_and_hangs_are_faults_and_a_clear_failure_is_not() -> None:
    faults = {v for v in Verdict if Trial("k", "w", v).is_fault}
    assert faults == {Verdict.UNEQUAL, Verdict.TRACEBACK, Verdict.HANG, Verdict.UNCLEAR}
    assert worst([Verdict.EQUAL, Verdict.HANG, Verdict.UNEQUAL]) == Verdict.HANG
    assert worst([Verdict.EQUAL, Verdict.FAILED]) == Verdict.FAILED


@pytest.mark.parametrize(
    ("ended", "verdict"),
    [
        (Ended(-signal.SIGKILL), None),
        (Ended(143, "stopped: x"), None),
        (Ended(1, RAISED), Verdict.TRACEBACK),
        (Ended(None), Verdict.HANG),
    ],
)
def test_a_killed_command_may_end_as_it_likes_but_not_hang_or_print_a_traceback(
    ended: Ended, verdict: Verdict | None
) -> None:
    assert interrupted(ended) == verdict


@pytest.mark.parametrize(
    ("ended", "verdict"),
    [
        (Ended(0, "plan"), Verdict.EQUAL),
        (Ended(2, "error: x"), Verdict.REFUSED),
        (Ended(2, "usage: run.py [--help]"), Verdict.REFUSED),
        (Ended(1, "failed: x"), Verdict.UNCLEAR),  # of words, nothing but exit 2 is right
        (Ended(None), Verdict.HANG),
    ],
)
def test_a_plan_is_printed_or_its_words_are_refused(ended: Ended, verdict: Verdict) -> None:
    assert plan_verdict(ended)[0] == verdict


# --- records

RECORD = {
    "run_id": "r",
    "accuracy": 21.11,
    "runtime_s": 1.0,
    "wall_s": 1.0,
    "stages": [{"name": "train", "key": "k", "cached": False, "seconds": 1.0}],
    "provenance": {"host": "a"},
}


def left(folder: Path, series: str | None = None, **changes: Any) -> Home:
    """A home in which a run left that record."""
    home = Home(folder)
    run = home.results / "runs" / "r"
    run.mkdir(parents=True, exist_ok=True)
    (run / "result.json").write_text(json.dumps({**RECORD, **changes}))
    if series is not None:
        (run / "series.json").write_text(series)
    return home


def test_a_run_that_ignored_damage_is_unequal_and_the_fields_are_named(tmp_path: Path) -> None:
    wanted = left(tmp_path / "alone").records()
    verdict, message = judged(Ended(0), left(tmp_path / "damaged", accuracy=9.72), wanted)
    assert verdict == Verdict.UNEQUAL
    assert "accuracy: 9.72 not 21.11" in message


@pytest.mark.parametrize("change", [{"stages": []}, {"run_id": "other"}, {"new": 1}])
def test_every_other_field_counts(change: dict[str, Any], tmp_path: Path) -> None:
    wanted = left(tmp_path / "alone").records()
    assert judged(Ended(0), left(tmp_path / "b", **change), wanted)[0] == Verdict.UNEQUAL


def test_another_series_a_missing_and_an_unreadable_record_are_unequal(tmp_path: Path) -> None:
    wanted = left(tmp_path / "alone", series="[1]").records()
    assert judged(Ended(0), left(tmp_path / "a", series="[2]"), wanted)[0] == Verdict.UNEQUAL
    assert judged(Ended(0), Home(tmp_path / "none"), wanted)[0] == Verdict.UNEQUAL
    home = left(tmp_path / "b", series="[1]")
    (home.results / "runs" / "r" / "result.json").write_text("")
    assert judged(Ended(0), home, wanted)[0] == Verdict.UNEQUAL


def test_times_and_provenance_do_not_count(tmp_path: Path) -> None:
    wanted = left(tmp_path / "alone").records()
    stages = [{**RECORD["stages"][0], "cached": True, "seconds": 9.0}]  # type: ignore[index]
    same = left(tmp_path / "b", runtime_s=2.0, wall_s=0.1, provenance={}, stages=stages)
    assert judged(Ended(0), same, wanted) == (Verdict.EQUAL, "")


# --- damage

CHANGED = {  # name -> what is left of 1,000 bytes of zeros, beside 1,000 bytes of ones
    "flipped bit": lambda new: len(new) == 1000 and sum(byte.bit_count() for byte in new) == 1,
    "scrambled block": lambda new: len(new) == 1000 and new != bytes(1000),
    "truncated": lambda new: len(new) < 1000 and new == bytes(len(new)),
    "emptied": lambda new: new == b"",
    "swapped": lambda new: new == b"\1" * 1000,
}


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.name)
def test_damage_does_what_it_says_under_the_same_date(damage: Damage, tmp_path: Path) -> None:
    file, other = tmp_path / "a", tmp_path / "b"
    for seed in range(20):
        file.write_bytes(bytes(1000))
        os.utime(file, (1e9, 1e9))
        other.write_bytes(b"\1" * 1000)
        damage.apply(file, Random(seed), other)
        if damage.name in CHANGED:
            assert CHANGED[damage.name](file.read_bytes())
            assert file.stat().st_mtime == 1e9
        elif damage.name == "deleted":
            assert not file.exists()
        else:
            assert file.is_dir()
            file.rmdir()
        assert other.read_bytes() == b"\1" * 1000


def test_damage_leaves_what_shares_the_file_alone(tmp_path: Path) -> None:
    file, link = tmp_path / "a", tmp_path / "b"
    file.write_bytes(bytes(100))
    os.link(file, link)
    DAMAGES[0].apply(file, Random(0), file)
    assert link.read_bytes() == bytes(100) != file.read_bytes()


# --- hostile files are hostile: who opens them without care is hurt


def test_a_naive_reader_runs_the_code_of_the_pickle(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    pickle.loads(pickle.dumps(Bomb(marker)))
    assert marker.exists()


def test_a_naive_reader_of_the_archive_writes_outside_its_folder(tmp_path: Path) -> None:
    inside, outside = tmp_path / "in", tmp_path / "out"
    for folder in (inside, outside):
        folder.mkdir()
    pack(tmp_path / "a.tar.gz", "link/marker", outside)
    pack(tmp_path / "a.zip", "../marker", outside)
    with tarfile.open(tmp_path / "a.tar.gz") as tar:
        tar.extractall(inside, filter="fully_trusted")
    assert (outside / "marker").is_file()
    with zipfile.ZipFile(tmp_path / "a.zip") as packed:
        (name,) = packed.namelist()
    assert (inside / name).resolve() == tmp_path / "marker"


# --- commands


def sleeps() -> None:
    time.sleep(600)


def dies() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def raises() -> None:
    raise KeyError("a")


def test_a_command_that_hangs_dies_or_raises_is_told_apart(tmp_path: Path) -> None:
    commands = [call(function, (), tmp_path) for function in (dies, raises)]
    died, raised = (command.wait(60) for command in commands)
    assert classify(died, same=True) == Verdict.TRACEBACK
    assert classify(raised, same=True) == Verdict.TRACEBACK
    assert last_of_traceback(raised.output) == "KeyError: 'a'"
    command = call(sleeps, (), tmp_path)
    assert classify(command.wait(0.2), same=True) == Verdict.HANG
    with pytest.raises(ProcessLookupError):
        os.kill(command.pid, 0)


# --- driver and page


@dataclass(frozen=True)
class Fake:
    """A kind whose trials have one verdict."""

    verdict: Verdict | type[BaseException]
    name: ClassVar[str] = "fake"
    title: ClassVar[str] = "a fake"
    planned: ClassVar[int] = 3

    def trials(self, stock: Stock, rng: Random) -> Iterator[Trial]:
        yield Trial(self.title, "the first", Verdict.EQUAL)
        if not isinstance(self.verdict, Verdict):
            raise self.verdict("no such disk")
        while True:
            yield Trial(self.title, "bad [/nope]", self.verdict, "python run.py x", "why")


@pytest.mark.parametrize(
    ("verdict", "code", "row"),
    [
        (Verdict.EQUAL, 0, "a fake              3      3        0"),
        (Verdict.FAILED, 0, "a fake              3      1        0       2"),
        (Verdict.UNEQUAL, 1, "a fake              3      1        0       0        0        2"),
        (Unavailable, 0, "not tried: a fake: no such disk"),
        (KeyboardInterrupt, 0, "a fake              1      1        0"),
    ],
)
def test_the_exit_code_and_the_table_say_what_was_found(
    verdict: Any, code: int, row: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "KINDS", (Fake(verdict),))
    text = io.StringIO()
    assert driver.faults(["write=false"], Console(file=text, width=200)) == code
    assert row in text.getvalue()
    assert ("bad [/nope]\n  python run.py x\n  why" in text.getvalue()) == bool(code)


@pytest.mark.parametrize("word", ["hours=1", "minutes=0", "minutes=x", "seed=x", "only=kill"])
def test_an_unknown_argument_is_refused(word: str) -> None:
    with pytest.raises(ConfigError, match=r"kill|make faults takes|above 0"):
        driver.parse([word])


def test_the_page_has_the_figures_between_its_markers_and_the_rest_stays() -> None:
    trials = [Trial("one", "w", Verdict.EQUAL), Trial("two", "w", Verdict.HANG)]
    origin = Origin("a machine", "2026-01-02", "abc", 7, 3.2)
    figures = Figures(origin, ["one", "two", "three"], trials, {"three": "no mount"})
    page = renewed(f"before\n{BEGIN}\nold\n{END}\nafter\n", markdown(figures))
    assert page.startswith(f"before\n{BEGIN}\n| kind of fault | trials |")
    assert page.endswith(f"{END}\nafter\n")
    assert "| two | 1 | 0 | 0 | 0 | 0 | 0 | 0 | 1 |\n| all | 2 | 1 |" in page
    assert "a machine;\n2026-01-02;\ncommit abc" in page
    assert "- not tried: three: no mount" in page
    assert "old" not in page
    assert figures.as_json()["rows"][-1]["trials"] == 2
    assert [fault["verdict"] for fault in figures.as_json()["faults"]] == ["hang"]
    with pytest.raises(ValueError, match="lacks"):
        renewed("no markers", "text")


def test_every_page_that_is_written_has_its_markers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "KINDS", (Fake(Verdict.UNEQUAL),))
    pages = [tmp_path / page.name for page in driver.PAGES]
    for old, new in zip(driver.PAGES, pages, strict=True):
        new.write_text(old.read_text())
    monkeypatch.setattr(driver, "PAGES", pages)
    monkeypatch.setattr(driver, "RESULTS", tmp_path / "faults.json")
    driver.faults([], Console(file=io.StringIO()))
    assert "| a fake | 3 | 1 | 0 | 0 | 0 | 2 | 0 | 0 |" in pages[0].read_text()
    sentence = "3 trials: 2 silent wrong results, 0 tracebacks, 0 hangs, 0 unclear messages ("
    assert sentence in pages[1].read_text()
    (row, total) = json.loads((tmp_path / "faults.json").read_text())["rows"]
    assert (row["unequal"], total["trials"]) == (2, 3)


# --- fuzzed input


def test_an_error_that_is_no_message_is_a_traceback_and_only_its_words_are_shown() -> None:
    class Broken:
        def plain(self, words: list[str]) -> dict[str, Any]:
            raise KeyError("a")

    broken: Any = Broken()
    assert attempt(["seed=1"], broken) == (Verdict.TRACEBACK, "KeyError: 'a'")
    assert attempt(["density=2"], None)[0] == Verdict.REFUSED


def test_two_hundred_fuzzed_lines_build_a_run_or_are_refused() -> None:
    # All methods, keys and values; few lines with the words that Hydra takes long to refuse, of
    # which `make faults` tries more.
    grammar = Grammar(wild=0.03, quoted=0.85, chosen=("train", "dataset", "model"))
    rng = Random(1)
    lines = [grammar.line(rng) for _ in range(180)]
    assert len({tuple(line) for line in lines}) > 170
    named = {word.partition("=")[2] for line in lines for word in line if word[:7] == "method="}
    assert named >= set(method_names())
    verdicts = [attempt(line, grammar.composer) for line in lines]
    wrong = [
        (line, message)
        for line, (verdict, message) in zip(lines, verdicts, strict=True)
        if verdict not in (Verdict.EQUAL, Verdict.REFUSED)
    ]
    assert not wrong
    accepted = sum(verdict == Verdict.EQUAL for verdict, _ in verdicts)
    assert 10 < accepted < 170  # else the lines show nothing
