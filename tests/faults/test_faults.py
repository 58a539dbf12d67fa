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
from itertools import count
from pathlib import Path
from random import Random
from typing import Any, ClassVar

import pytest
from rich.console import Console

from runner.config.compose import method_names
from runner.data import cifar
from runner.errors import ConfigError
from runner.faults import run as driver
from runner.faults.cases import Home, Stock
from runner.faults.damage import DAMAGES, Damage
from runner.faults.data import SMALL, Small
from runner.faults.fuzz import attempt, plan_verdict
from runner.faults.grammar import Grammar
from runner.faults.hostile import Bomb, pack
from runner.faults.journal import Journal, counted
from runner.faults.kills import interrupted, judged, last_of_traceback
from runner.faults.kind import Part, Unavailable
from runner.faults.lab import ROOT, call
from runner.faults.launchers import own_output
from runner.faults.page import Figures, Origin, markdown, summary
from runner.faults.together import together
from runner.faults.trial import Ended, Trial, Verdict, classify, worst
from runner.faults.work import PARTS, Event, Work, events, parts_of, seconds_left, share_out
from runner.registry import find_class

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

    def trials(self, stock: Stock, rng: Random, part: Part) -> Iterator[Trial]:
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


@dataclass(frozen=True)
class Drawn:
    """A kind whose trials show their random numbers; the third of each process ends as told."""

    error: type[BaseException] | None = None
    name: ClassVar[str] = "drawn"
    title: ClassVar[str] = "drawn"
    planned: ClassVar[int] = 10

    def trials(self, stock: Stock, rng: Random, part: Part) -> Iterator[Trial]:
        for i in count():
            if i == 2 and self.error is not None:
                raise self.error("no such thing")
            yield Trial(self.title, f"{part.index}: {rng.random()}", Verdict.EQUAL)


def work(folder: Path, kind: Any) -> Work:
    return Work((kind,), range(PARTS), 0, float("inf"), folder, {})


@pytest.mark.parametrize("planned", [1, 7, 8, 10, 300])
def test_parts_share_out_all_planned_trials_and_all_items(planned: int) -> None:
    parts = parts_of(type("Kind", (Drawn,), {"planned": planned})())
    assert len(parts) == (PARTS if planned >= 2 * PARTS else 1)
    assert sum(part.share(planned) for part in parts) == planned
    assert sorted(item for part in parts for item in part.of("abcde")) == list("abcde")
    assert Part(3, 4).of("ab") == ["a", "b"]  # no part is left without items


def test_the_trials_are_the_same_for_any_number_of_processes(tmp_path: Path) -> None:
    found = []
    for workers in (1, 2):
        folder = tmp_path / str(workers)
        folder.mkdir()
        shared = share_out(work(folder, Drawn()), workers)
        found.append(sorted(event.trial.what for event in events(shared) if event.trial))
    assert found[0] == found[1] and len(set(found[0])) == Drawn.planned


def test_an_error_of_the_harness_is_a_fault_and_the_trials_go_on(tmp_path: Path) -> None:
    (whole,) = share_out(work(tmp_path, Drawn(RuntimeError)), 1)
    trials = [event.trial for event in events([whole]) if event.trial]
    assert len(trials) == Drawn.planned
    faults = [trial for trial in trials if trial.is_fault]
    assert [trial.message for trial in faults] == ["RuntimeError: no such thing"] * 2


def test_an_interrupted_command_continues_and_counts_what_was_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("JOURNAL", tmp_path / "j"), ("RESULTS", tmp_path / "r"), ("PAGES", ())):
        monkeypatch.setattr(driver, name, value)
    texts = []
    for error, words in ((KeyboardInterrupt, []), (None, []), (None, ["seed=1"])):
        monkeypatch.setattr(driver, "KINDS", (Drawn(error),))
        text = io.StringIO()
        assert driver.faults(words, Console(file=text, width=200)) == 0
        texts.append(text.getvalue())
        made = json.loads((tmp_path / "r").read_text())["rows"][-1]["trials"]
        if error:
            assert 2 <= made < Drawn.planned and (tmp_path / "j").is_file()
            with (tmp_path / "j").open("a") as file:
                file.write('{"kind": "dra')  # the command was killed while it wrote
        else:
            assert made == Drawn.planned and not (tmp_path / "j").exists()
    kept = "trials of an interrupted command are kept"
    assert [kept in text for text in texts] == [False, True, False]


def test_trials_of_another_commit_or_seed_are_not_continued(tmp_path: Path) -> None:
    event = Event("k", 1, Trial("K", "w", Verdict.HANG, "c", "m"), seconds=2.0)
    journal = Journal(tmp_path / "j", "seed 0, commit a")
    assert journal.begin() == []
    journal.add(event)
    assert journal.begin() == [event]
    assert counted(journal.begin()) == {("k", 1): 1}
    assert Journal(tmp_path / "j", "seed 0, commit b").begin() == []
    assert journal.begin() == []


def test_the_time_left_is_what_the_other_trials_take_at_the_mean_of_their_kind() -> None:
    trial = Trial("K", "w", Verdict.EQUAL)
    made = [Event("drawn", 0, trial, seconds=2.0), Event("drawn", 1, trial, seconds=4.0)]
    gone = Event("fake", 0, None, "no such disk")
    kinds = (Drawn(), Fake(Verdict.EQUAL))
    assert seconds_left([*made, gone], kinds, 2) == (10 - 2) * 3.0 / 2
    assert seconds_left(made, kinds, 1) == 8 * 3.0 + 3 * 3.0  # of another kind: the mean of all


def test_of_tracebacks_under_torchrun_only_its_own_is_no_fault() -> None:
    theirs = 'Traceback (most recent call last):\n File "x/torch/distributed/run.py"\nFailed: x\n'
    cause = (
        'Traceback (most recent call last):\n File "x/torch/distributed/elastic/api.py"\nSignal\n'
    )
    assert interrupted(own_output(Ended(1, f"stopped: x\n{theirs}"))) is None
    assert interrupted(own_output(Ended(1, f"{cause}\nDuring handling:\n\n{theirs}"))) is None
    ours = f'{cause} File "{ROOT}/runner/engine/distributed.py"\n'
    assert interrupted(own_output(Ended(1, ours))) == Verdict.TRACEBACK
    imports = (
        'Traceback (most recent call last):\n  File "<frozen runpy>", line 189, in _run_module\n'
        '  File "x/torch/__init__.py", line 496, in <module>\nKeyboardInterrupt\n'
    )
    assert interrupted(own_output(Ended(-signal.SIGINT, imports))) is None
    assert interrupted(own_output(Ended(1, imports + ours))) == Verdict.TRACEBACK
    assert interrupted(own_output(Ended(1, f"{RAISED}{theirs}"))) == Verdict.TRACEBACK
    assert interrupted(own_output(Ended(1, f"{theirs}{RAISED}"))) == Verdict.TRACEBACK


@pytest.mark.parametrize("small", SMALL, ids=lambda small: small.name)
def test_made_files_are_read_by_the_real_reader_of_their_data_set(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    component: Any = find_class(small.name)
    monkeypatch.setattr(component, "native", small.info)
    layout = small.write(tmp_path / small.folder)
    monkeypatch.setattr(cifar, "published", lambda source, key: layout)
    component().check(tmp_path)
    data = component().load(tmp_path, 1.0)
    assert (len(data.train), len(data.test)) == (small.info.train, small.info.test)


@pytest.mark.parametrize(
    "word", ["workers=0", "workers=5", "hours=1", "minutes=0", "minutes=x", "seed=x", "only=kill"]
)
def test_an_unknown_argument_is_refused(word: str) -> None:
    with pytest.raises(ConfigError, match=r"kill|make faults takes|above 0|from 1 to 4"):
        driver.parse([word])


def test_the_table_of_figures_has_a_row_for_each_kind_that_was_tried_and_their_sum() -> None:
    trials = [Trial("one", "w", Verdict.EQUAL), Trial("two", "w", Verdict.HANG)]
    origin = Origin("a machine", "2026-01-02", "abc", 7, 3.2)
    figures = Figures(origin, ["one", "two", "three"], trials, {"three": "no mount"})
    text = markdown(figures)
    assert text.startswith("| kind of fault | trials |")
    assert "| two | 1 | 0 | 0 | 0 | 0 | 0 | 0 | 1 |\n| all | 2 | 1 |" in text
    assert "a machine;\n2026-01-02;\ncommit abc" in text
    assert "- not tried: three: no mount" in text
    assert figures.as_json()["rows"][-1]["trials"] == 2
    assert [fault["verdict"] for fault in figures.as_json()["faults"]] == ["hang"]


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


def test_one_fault_is_in_the_singular() -> None:
    trials = [Trial("a kind", "", verdict, "", "") for verdict in (Verdict.UNCLEAR, Verdict.EQUAL)]
    text = summary(Figures(Origin("", "2026-11-30", "", 0, 1), ["a kind"], trials, {}))
    assert "2 trials: 0 silent wrong results, 0 tracebacks, 0 hangs, 1 unclear message (" in text


# --- fuzzed input


def test_an_error_that_is_no_message_is_a_traceback_and_only_its_words_are_shown() -> None:
    class Broken:
        def plain(self, words: list[str]) -> dict[str, Any]:
            raise KeyError("a")

    broken: Any = Broken()
    assert attempt(["seed=1"], broken) == (Verdict.TRACEBACK, "KeyError: 'a'")
    assert attempt(["density=2"], None)[0] == Verdict.REFUSED


def test_a_hundred_and_fifty_fuzzed_lines_build_a_run_or_are_refused() -> None:
    # All methods, keys and values; few lines with the words that Hydra takes long to refuse, of
    # which `make faults` tries more.
    grammar = Grammar(wild=0.03, quoted=0.85, chosen=("train", "dataset", "model"))
    rng = Random(1)
    lines = [grammar.line(rng) for _ in range(150)]
    assert len({tuple(line) for line in lines}) > 140
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
    assert 8 < accepted < 140  # else the lines show nothing


def test_a_run_of_which_all_processes_were_killed_owes_no_record_yet(tmp_path: Path) -> None:
    home = Home(tmp_path)
    for name in ("a", "b"):
        (home.results / "runs" / name).mkdir(parents=True)
        (home.results / "runs" / name / "result.json").write_text(f'"{name}"')
    wanted = home.records()
    killed, done = Ended(-signal.SIGKILL, ""), Ended(0, "")
    (home.results / "runs" / "b" / "result.json").unlink()
    assert together([done, killed], home, wanted, 1)[0] == Verdict.EQUAL
    assert together([done, done], home, wanted, 0)[0] == Verdict.UNEQUAL
    (home.results / "runs" / "a" / "result.json").write_text('{"accuracy": 1}')
    assert together([done, killed], home, wanted, 1)[0] == Verdict.UNEQUAL
