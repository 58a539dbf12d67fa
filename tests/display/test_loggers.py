"""Loggers write all metrics, read back by independent code.

TensorBoard's own reader reads its events, and a parser of LevelDB's log format the .wandb file.
"""

import json
import struct
import time
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig
from rich.console import Console

from runner.commands.run import run_config
from runner.config.build import build_run
from runner.config.compose import compose_config
from runner.display import loggers
from runner.display.progress import Watcher, display
from runner.errors import EXIT_CONFIG
from runner.spec.identity import run_id

# two epochs of dense training, two of fine-tuning
TICKET = (
    "method=magnitude",
    "density=0.1",
    "model=mlp",
    "start=dense",
    "retrain=finetune",
    "train.scale=0.0125",
)
# fields in which records of equal runs may differ (docs/records.md); their stages may, too
WITHIN = {"runtime_s", "wall_s", "stages", "provenance"}


def command(tmp_path: Path, *overrides: str) -> DictConfig:
    return compose_config(
        [
            *TICKET,
            *overrides,
            "env.progress=none",
            f"env.results_dir={tmp_path / 'results'}",
            f"env.cache_dir={tmp_path / 'cache'}",
        ]
    )


def perform_logged(tmp_path: Path, *overrides: str) -> Path:
    """Perform a run and return its folder."""
    cfg = command(tmp_path, *overrides)
    assert run_config(cfg) == 0
    return tmp_path / "results" / "runs" / run_id(build_run(cfg))


def metrics_of(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """`<stage>/<key>` -> (epoch, value), from metrics.jsonl."""
    found: dict[str, list[tuple[int, float]]] = {}
    for row in map(json.loads, (folder / "metrics.jsonl").read_text().splitlines()):
        for key, value in row.items():
            if key not in ("stage", "epoch") and value is not None:
                found.setdefault(f"{row['stage']}/{key}", []).append((row["epoch"], value))
    return found


def test_tensorboard_contains_all_metrics_of_all_epochs_including_cached_stages(
    tmp_path: Path,
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    perform_logged(tmp_path, "density=0.2")  # the next run reads its dense net from the cache
    folder = perform_logged(tmp_path, "logger=tensorboard")
    assert [
        stage["cached"] for stage in json.loads((folder / "result.json").read_text())["stages"]
    ] == [True, False, False]
    events = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0}).Reload()
    found = {
        tag: [(event.step, event.value) for event in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
        if not tag.startswith("record/")
    }
    expected = metrics_of(folder)
    assert {tag.partition("/")[0] for tag in found} == {"dense", "train"}
    assert set(found) == set(expected)
    for tag, points in expected.items():
        assert [epoch for epoch, _ in found[tag]] == [epoch for epoch, _ in points] == [1, 2]
        # the file contains float32
        assert [value for _, value in found[tag]] == pytest.approx(
            [value for _, value in points], rel=1e-6
        )
    record = json.loads((folder / "result.json").read_text())
    assert events.Scalars("record/accuracy")[0].value == pytest.approx(record["accuracy"], rel=1e-6)


def test_a_logger_does_not_change_the_record(tmp_path: Path) -> None:
    records = [
        json.loads((perform_logged(tmp_path / name, f"logger={name}") / "result.json").read_text())
        for name in ("none", "tensorboard")
    ]
    plain, logged = (
        {key: value for key, value in record.items() if key not in WITHIN} for record in records
    )
    assert json.dumps(plain) == json.dumps(logged)


def records_of(file: Path) -> list[Any]:
    """Records of a .wandb file, which consists of blocks of 32 KiB of fragments.

    A fragment has a checksum, a length and a kind: full, first, middle or last.
    """
    from wandb.proto import wandb_internal_pb2

    data, at, part, found = file.read_bytes(), 7, b"", []
    while at + 7 <= len(data):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + 7])
        if at + 7 + length > len(data):
            break  # this fragment is being written
        part += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            found.append(wandb_internal_pb2.Record())
            found[-1].ParseFromString(part)
            part = b""
    return found


def finished_records_of(file: Path) -> list[Any]:
    """The records once the last one, `exit`, is there: wandb's service writes after `finish`."""
    end = time.monotonic() + 600  # only a test that hangs waits so long
    while True:
        records = records_of(file)
        if any(r.HasField("exit") for r in records) or time.monotonic() > end:
            return records
        time.sleep(0.1)


def test_wandb_contains_all_metrics_and_the_record_as_summary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    folder = perform_logged(tmp_path, "logger=wandb")
    (file,) = folder.glob("wandb/offline-run-*/*.wandb")
    records = finished_records_of(file)
    rows = [
        {
            "/".join(item.nested_key) or item.key: json.loads(item.value_json)
            for item in r.history.item
        }
        for r in records
        if r.HasField("history")
    ]
    found: dict[str, list[tuple[int, float]]] = {}
    for row in rows:
        (stage,) = {key.partition("/")[0] for key in row if not key.startswith("_")}
        for key, value in row.items():
            if not key.startswith("_") and key != f"{stage}/epoch":
                found.setdefault(key, []).append((row[f"{stage}/epoch"], value))
    assert found == metrics_of(folder)
    summary = {
        "/".join(item.nested_key) or item.key: item.value_json
        for r in records
        if r.HasField("summary")
        for item in r.summary.update
    }
    record = json.loads((folder / "result.json").read_text())
    assert json.loads(summary["record/accuracy"]) == record["accuracy"]
    assert json.loads(summary["record/kept"]) == record["kept"]
    assert next(r.run.run_id for r in records if r.HasField("run")) == record["run_id"]


def test_a_disabled_or_misspelt_wandb_mode_is_respected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    folder = perform_logged(tmp_path, "logger=wandb")
    assert (folder / "result.json").is_file() and not (folder / "wandb").exists()
    monkeypatch.setenv("WANDB_MODE", "ofline")
    assert run_config(command(tmp_path, "logger=wandb", "seed=5")) == EXIT_CONFIG
    error = capsys.readouterr().err
    assert error.startswith("error: logger=wandb: ") and "ofline" in error


def test_wandb_without_a_login_gives_an_error_with_a_solution_before_any_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))  # no ~/.netrc
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    assert run_config(command(tmp_path, "logger=wandb")) == EXIT_CONFIG
    error = capsys.readouterr().err
    assert error.startswith("error: logger=wandb: ")
    assert "wandb login" in error
    assert "logger.mode=offline" in error
    assert not list((tmp_path / "cache").glob("stages/*"))


@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
def test_a_missing_logger_package_gives_an_error_with_the_pip_command(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(loggers, "find_spec", lambda package: None)
    assert run_config(command(tmp_path, f"logger={name}")) == EXIT_CONFIG
    assert (
        f"logger={name}: the package {name} is not installed; pip install -e '.[{name}]'"
        in capsys.readouterr().err
    )


def test_an_invalid_mode_gives_an_error_with_the_choices(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_config(command(tmp_path, "logger=wandb", "logger.mode=off")) == EXIT_CONFIG
    error = capsys.readouterr().err
    assert error.startswith("error: logger.mode='off' must be one of online, offline, disabled")
    assert error.count("\n") == 1


def test_a_logger_receives_each_epoch_and_the_final_record_once(tmp_path: Path) -> None:
    class RecordingLogger:
        def __init__(self) -> None:
            self.calls: list[Any] = []

        def epoch(self, stage: str, row: dict[str, Any]) -> None:
            self.calls.append((stage, row["epoch"]))

        def close(self, record: dict[str, Any] | None) -> None:
            self.calls.append(record)

    log, rows = (
        RecordingLogger(),
        [{"epoch": epoch, "train_loss": 0.5, "accuracy": 90.0} for epoch in (1, 2, 3)],
    )
    watcher = Watcher(tmp_path, display("none", Console()), {}, log=log)
    watcher.stage("train", "train", 3)
    # two epochs come twice: trained again for a rewinding point, or read from a checkpoint
    for row in [*rows[:2], *rows]:
        watcher.epoch(row, 3)
    watcher.restore("train", rows)
    watcher.restore("dense", rows[:1])
    watcher.end("done")
    watcher.log.close({"accuracy": 90.0})
    assert log.calls == [("train", 1), ("train", 2), ("train", 3), ("dense", 1), {"accuracy": 90.0}]
