"""Executes a run: checks it, looks up its record, computes missing stages, writes the record."""

import contextlib
import json
import sys
import time
import traceback
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from typing import Any

from rich.console import Console

from runner.config.instantiate import construct
from runner.data.base import Data
from runner.display.loggers import Log, Logger
from runner.display.progress import NO_LOG, Watcher, display
from runner.display.summary import summary
from runner.engine.context import RunContext
from runner.engine.data_checks import checked_data
from runner.engine.divergence import is_diverged
from runner.engine.machine import Machine, prepare
from runner.engine.preflight import check
from runner.engine.record import make_record
from runner.engine.signals import asked_to_stop
from runner.engine.stages import run_stage
from runner.engine.store import Store
from runner.errors import EXIT_FAILED, EXIT_STOPPED, Damaged, Stopped
from runner.files import clear_leftovers, sha256, write_bytes
from runner.locks import held
from runner.records.folders import (
    FILES,
    HISTORY,
    SERIES,
    RunFolders,
    read_record,
    record_path,
    set_aside_record,
    write_record,
)
from runner.spec.identity import run_id
from runner.spec.request import RunRequest

ATTEMPTS = 3  # visits of a run's stages, if cached ones are damaged or removed meanwhile


def execute(request: RunRequest) -> int:
    """Execute a run unless it is done, print the summary of its record, and return the exit code.

    Raises:
        ConfigError: the run cannot be executed on this machine; nothing was computed.
    """
    machine = prepare(request.environment)
    data = checked_data(request.run, machine, check(request.run, machine))
    logger: Logger = construct(request.config.values["logger"], "logger")
    logger.check()
    attempt = _Attempt(request, machine, logger, Console(highlight=False), data)
    try:
        return _finish(attempt)
    except OSError as error:  # the run's folder cannot be made, locked or written
        _report_failure(attempt, error, attempt.record.parent)
        return EXIT_FAILED


@dataclass(frozen=True)
class _Attempt:
    """A run that is being executed on this machine."""

    request: RunRequest
    machine: Machine
    logger: Logger
    console: Console
    data: Data | None  # of the run, on the CPU; None if a record or the cache makes it needless

    @cached_property
    def run_id(self) -> str:
        """The run's identity."""
        return run_id(self.request.run)

    @property
    def record(self) -> Path:
        """Path of the run's record, written or not."""
        return record_path(self.machine.results_dir, self.run_id)

    def is_done(self) -> bool:
        """Whether the run has a record and its files are as they were written."""
        return RunFolders(self.machine.results_dir).has(self.run_id)


def _finish(attempt: _Attempt) -> int:
    """Lock the run's folder, find or compute the record, print its summary; the exit code."""
    path, group, console = attempt.record, attempt.machine.group, attempt.console
    if not group.broadcast_decision(attempt.is_done):

        def waiting(holder: str) -> None:
            console.print(f"waiting for {attempt.run_id}, which {holder} runs")

        with group.lead(held(path.with_name(".lock"), waiting)):
            if not group.broadcast_decision(attempt.is_done) and (code := _compute(attempt)):
                return code
    if group.first and (record := read_record(path.parent)):
        console.print(summary(record, path, attempt.request))
    return 0


def _compute(attempt: _Attempt) -> int:
    """Compute and write the record; the exit code.

    The status becomes done, diverged, stopped or failed.
    """
    request, machine, folder = attempt.request, attempt.machine, attempt.record.parent
    first = machine.group.first
    log: Log = NO_LOG
    if first:
        clear_leftovers(folder)
        set_aside_record(attempt.record)
        text = request.config.text
        write_bytes(folder / "config.yaml", text.encode())
        log = attempt.logger.open(folder, attempt.run_id, request.config)
    shown = display(machine.progress, attempt.console)
    watcher = Watcher(folder, shown, {"run_id": attempt.run_id}, writes=first, log=log)
    try:
        with asked_to_stop() as stop:
            store, data = Store(machine.cache_dir), attempt.data
            context = RunContext(request.run, machine, store, watcher, stop, data)
            record = perform(context, attempt.run_id)
        if first:
            write_record(attempt.record, record)
            with contextlib.suppress(OSError):
                (folder / "traceback.txt").unlink()
        watcher.finish(record["status"], record)
    except Stopped:
        watcher.finish("stopped")
        shown.close()
        stop.pass_on()
        if first:
            _report_stop(attempt)
        return EXIT_STOPPED
    except Exception as error:
        path = folder / "traceback.txt"
        with contextlib.suppress(OSError):  # a full disk can be what failed
            write_bytes(path, traceback.format_exc().encode(errors="replace"))
            watcher.finish("failed")
        shown.close()
        _report_failure(attempt, error, path)
        return EXIT_FAILED
    finally:
        shown.close()
    return 0


def _report_stop(attempt: _Attempt) -> None:
    line = f"stopped: {attempt.run_id} wrote a checkpoint; repeat the command to continue"
    print(line, file=sys.stderr)


def _report_failure(attempt: _Attempt, error: Exception, path: Path) -> None:
    line = f"failed: {attempt.run_id}: {type(error).__name__}: {error}\n  where: {path}"
    print(line, file=sys.stderr)


def perform(context: RunContext, identity: str) -> dict[str, Any]:
    """Run or load every stage in order, up to one that diverged, and return the record.

    If a cached stage is damaged or removed while the run uses it, the stages are visited again,
    which computes it again.

    Raises:
        Damaged: that happened in each of `ATTEMPTS` attempts, or with several processes.
    """
    for left in reversed(range(ATTEMPTS)):
        try:
            return _perform(context, identity)
        except Damaged as error:
            if not left or context.machine.group.size > 1:
                raise
            context.watcher.warn(f"{error}; the run visits its stages again")
    raise AssertionError


def _perform(context: RunContext, identity: str) -> dict[str, Any]:
    clock, started = time.monotonic(), _now()
    stages = []
    for stage in context.run.stages:
        meta, cached = run_stage(context, stage)
        context.watcher.restore(stage.name, meta["history"])
        key = context.keys[stage.name]
        stages.append({**meta, "name": stage.name, "key": key, "cached": cached})
        if context.machine.group.any(context.stop()):
            raise Stopped
        if is_diverged(meta):
            break
    series = {name: numbers for meta in stages for name, numbers in meta.get("series", {}).items()}
    record = make_record(context, stages, identity, time.monotonic() - clock, started, _now())
    record["provenance"][FILES] = _write_files(context, identity, series)
    return record


def _write_files(context: RunContext, identity: str, series: dict[str, Any]) -> dict[str, str]:
    """Write series.json, if the run has any, and metrics.jsonl; the SHA-256 of each by name.

    They are written before the record, whose presence means that the run is complete.
    """
    sealed = {HISTORY: sha256(context.watcher.history_text.encode())}
    context.watcher.save_history()
    if series:
        text = json.dumps(series, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        sealed[SERIES] = sha256(text.encode())
        if context.machine.group.first:
            path = record_path(context.machine.results_dir, identity)
            write_bytes(path.with_name(SERIES), text.encode())
    return sealed


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
