"""What is shown never stops what is computed; Ctrl-C ends a command with one line."""

import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import ROOT, SMALL, environment, last_of_each, records
from rich.panel import Panel
from rich.table import Table

from runner.commands.run import run_config
from runner.config.compose import compose_config
from runner.console import console
from runner.engine import execute, signals
from runner.engine.context import RunContext
from runner.engine.signals import stop_requests
from runner.errors import EXIT_FAILED, EXIT_INTERRUPTED
from runner.streams import TolerantFile, say, tolerant

ASCII_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
CONSTRUCTED = re.compile(r"Console\(")


def test_a_run_ends_as_done_although_nothing_can_be_printed(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    overrides = ["method=dense", "method.label='[/nope] é'", "env.progress=lines", "env.data_dir=d"]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, str(ROOT / "run.py"), *last_of_each(*SMALL, *overrides)],
            cwd=tmp_path,
            env={**environment(), "PYTHONIOENCODING": "ascii"},
            stdout=full,
            stderr=writing,
            timeout=300,
        )
    os.close(writing)
    assert done.returncode == 0
    assert [record["label"] for record in records(tmp_path)] == ["[/nope] é"]


def test_control_characters_do_not_reach_the_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    label = "\x1b[2J\x9b\x7f\r é [red]\t日"
    table = Table(title=label)
    table.add_column(label)
    table.add_row(label)
    for shown in (label, table, Panel(label)):
        console().print(shown)
    say(f"error: {label}\nsecond")
    out, err = capsys.readouterr()
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", out + err)
    assert out.count("␛[2J\ufffd␡␍ é [red]") == 5  # the title, a heading and a cell, too
    assert err == "error: ␛[2J\ufffd␡␍ é [red]\t日\nsecond\n"


@pytest.mark.parametrize(("encoding", "letter"), [("ascii", "?"), ("latin-1", "é")])
def test_characters_that_the_terminal_lacks_are_replaced(
    encoding: str, letter: str, tmp_path: Path
) -> None:
    path = tmp_path / "out"
    with path.open("w", encoding=encoding) as file:
        stream = tolerant(file, "replace")
        print("density … ≥ 1 é", file=stream)
        stream.flush()
    assert (
        path.read_text(encoding)
        == ("density ? ? 1 " + ("?" if encoding == "ascii" else "é")) + "\n"
    )


def test_a_full_or_closed_file_loses_the_text_without_an_error(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    for number in (os.open("/dev/full", os.O_WRONLY), writing):
        file = TolerantFile(number, "w")
        assert file.write(b"x" * 100_000) == 100_000
        stream = io.TextIOWrapper(io.BufferedWriter(file))
        print("x" * 100_000, file=stream, flush=True)
        stream.close()
    assert tolerant(None, "replace").write("lost") == 4
    shown = io.StringIO()
    assert tolerant(shown, "replace") is shown


def test_text_of_users_is_printed_as_it_is(
    command: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    folder = tmp_path / "[old] [/nope]"
    overrides = [
        *SMALL,
        "method=dense",
        f"env.cache_dir={tmp_path}/c",
        "method.label='[/nope] :x:'",
    ]
    done = command(*overrides, f"env.results_dir={folder}", own_dirs=False)
    assert done.returncode == 0, done.stderr
    assert "[/nope] :x: (dense)" in done.stdout
    assert str(folder) in done.stdout
    planned = command(*overrides, f"env.results_dir={folder}2", "env.plan=true", own_dirs=False)
    assert planned.returncode == 0 and "to do 1" in planned.stdout


def test_there_is_one_place_that_makes_consoles() -> None:
    found = [
        path
        for folder in ("runner", "scripts", "hydra_plugins")
        for path in (ROOT / folder).rglob("*.py")
        if CONSTRUCTED.search(path.read_text())
    ]
    assert found == [ROOT / "runner" / "console.py"]


def test_a_console_prints_markup_and_emoji_codes(capsys: pytest.CaptureFixture[str]) -> None:
    console().print("[/nope] [old] :smile:")
    assert capsys.readouterr().out == "[/nope] [old] :smile:\n"


def test_records_are_utf_8_in_every_locale(tmp_path: Path) -> None:
    value = {"label": "é", "path": os.fsdecode(b"caf\xe9")}
    line = "import sys; from runner.files import write_json; from pathlib import Path"
    subprocess.run(
        [sys.executable, "-c", f"{line}; write_json(Path('x.json'), {ascii(value)})"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), **ASCII_LOCALE},
        check=True,
    )
    assert json.loads((tmp_path / "x.json").read_text(encoding="utf-8")) == value


# --- Ctrl-C

WAITING = """
import sys, time
from runner.entry import command
assert not {"hydra", "torch", "rich", "omegaconf"} & sys.modules.keys()
def work():
    print("ready", flush=True)
    while True:
        try:
            time.sleep(60)
        except BaseException:  # code that swallows the interrupt, such as an import
            pass
command(work)
"""


def test_ctrl_c_before_any_work_gives_one_line_and_exit_code_130(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", WAITING],
        cwd=tmp_path,
        env={**environment(), "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == EXIT_INTERRUPTED == 130
    assert error == "stopped: Ctrl-C; repeat the command to continue\n"


def test_commands_import_nothing_slow_before_ctrl_c_is_handled() -> None:
    line = "import run, sys; assert not {'hydra', 'torch', 'rich'} & sys.modules.keys()"
    names = [path.stem for path in sorted((ROOT / "scripts").glob("*.py"))]
    lines = [line, *(f"import scripts.{name}" for name in names), line]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def interrupted(context: RunContext, identity: str) -> dict[str, object]:
    context.watcher.stage("train", "train", 1)
    signal.raise_signal(signal.SIGINT)
    assert context.stop()
    signal.raise_signal(signal.SIGINT)
    raise AssertionError("the second Ctrl-C raises KeyboardInterrupt")


def short_of_memory(context: RunContext, identity: str) -> dict[str, object]:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.\nMore.")


def run_in(folder: Path, *overrides: str) -> int:
    own = [f"env.{key}_dir={folder / key}" for key in ("results", "cache", "data")]
    return run_config(compose_config([*SMALL, *overrides, *own]))


def test_a_second_ctrl_c_ends_the_run_with_exit_code_130_and_its_status_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(execute, "perform", interrupted)
    monkeypatch.setattr(signals, "SAME_REQUEST", 0.0)
    assert run_in(tmp_path, "method=dense") == 130
    (path,) = tmp_path.glob("results/runs/*/status.json")
    assert json.loads(path.read_text())["status"] == "stopped"
    error = capsys.readouterr().err
    assert error.startswith("stopped: dense-mlp") and error.count("\n") == 1


def test_after_the_second_ctrl_c_the_status_is_written_undisturbed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(signals, "SAME_REQUEST", 0.0)
    with stop_requests() as stop:
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        assert stop() and stop.interrupted and not stop.ended


def test_signals_within_a_second_are_one_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """`timeout -s INT` sends a command two signals, and `make` a third."""
    now = [50.0]
    monkeypatch.setattr(signals.time, "monotonic", lambda: now[0])
    with stop_requests() as stop:
        for number in (signal.SIGINT, signal.SIGINT, signal.SIGTERM, signal.SIGINT):
            signal.raise_signal(number)
            now[0] += 0.3
        assert stop() and not stop.interrupted and stop.requests.count == 1
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_a_gpu_without_enough_memory_gives_a_message_with_the_run_and_a_solution(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(execute, "perform", short_of_memory)
    assert run_in(tmp_path, "method=imc", "train.batch_size=64") == EXIT_FAILED
    error = capsys.readouterr().err
    for part in (
        "failed: imc-mlp-",
        "GPU out of memory",
        "Tried to allocate 20.00 GiB.",
        "train.batch_size=64",
        "method.hessian.batch_size=128",
        "hydra.launcher.jobs_per_gpu",
        "traceback.txt",
    ):
        assert part in error
    assert "OutOfMemoryError" in next(tmp_path.glob("results/runs/*/traceback.txt")).read_text()


def test_modules_with_signals_can_be_imported_where_unix_signals_are_missing() -> None:
    lines = [
        "import os, signal",
        "for name in ('SIGUSR1', 'SIGUSR2', 'SIGHUP', 'SIGKILL'): delattr(signal, name)",
        "del os.killpg",
        "import runner.engine.signals, runner.launch.queue, runner.entry",
        "assert not runner.engine.signals.SCHEDULERS_SIGNALS",
    ]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
