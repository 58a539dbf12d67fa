"""Executes a run: checks it, looks up its record, computes missing stages, writes the record."""

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
from runner.console import console
from runner.display.loggers import Log, Logger
from runner.display.progress import NO_LOG, Watcher, display
from runner.display.summary import summary
from runner.engine.context import RunContext
from runner.engine.machine import Machine, prepare
from runner.engine.out_of_memory import describe
from runner.engine.preflight import check
from runner.engine.record import make_record
from runner.engine.signals import StopRequest, asked_to_stop
from runner.engine.stages import run_stage
from runner.engine.store import Store
from runner.errors import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_STOPPED, Stopped
from runner.files import atomically, clear_leftovers, held, write_json
from runner.records.folders import record_path
from runner.spec.identity import run_id
from runner.spec.request import RunRequest
from runner.torchrun import ignored


def execute(request: RunRequest) -> int:
    """Execute a run unless it is done, print the summary of its record, and return the exit code.

    Raises:
        ConfigError: the run cannot be executed on this machine; nothing was computed.
    """
    if note := ignored():
        _report(f"note: {note}")
    machine = prepare(request.environment, trains=True)
    check(request.run, machine)
    logger: Logger = construct(request.config.values["logger"], "logger")
    logger.check()
    return _finish(_Attempt(request, machine, logger, console()))


@dataclass(frozen=True)
class _Attempt:
    """A run that is being executed on this machine."""

    request: RunRequest
    machine: Machine
    logger: Logger
    console: Console

    @cached_property
    def run_id(self) -> str:
        """The run's identity."""
        return run_id(self.request.run)

    @property
    def record(self) -> Path:
        """Path of the run's record, written or not."""
        return record_path(self.machine.results_dir, self.run_id)


def _finish(attempt: _Attempt) -> int:
    """Lock the run's folder, find or compute the record, print its summary; the exit code."""
    path, group, shown = attempt.record, attempt.machine.group, attempt.console
    if not group.broadcast_decision(path.is_file):

        def waiting(holder: str) -> None:
            shown.print(f"waiting for {attempt.run_id}, which {holder} runs")

        with group.lead(held(path.with_name(".lock"), waiting)):
            if not group.broadcast_decision(path.is_file) and (code := _compute(attempt)):
                return code
    if group.first:
        shown.print(summary(json.loads(path.read_text(encoding="utf-8")), path, attempt.request))
    return 0


def _compute(attempt: _Attempt) -> int:
    """Compute and write the record; the exit code. The status becomes done, stopped or failed."""
    request, machine, folder = attempt.request, attempt.machine, attempt.record.parent
    first = machine.group.first
    log: Log = NO_LOG
    if first:
        clear_leftovers(folder)
        text = request.config.text
        atomically(folder / "config.yaml", lambda p: p.write_text(text, encoding="utf-8"))
        log = attempt.logger.open(folder, attempt.run_id, request.config)
    shown = display(machine.progress, attempt.console)
    watcher = Watcher(folder, shown, {"run_id": attempt.run_id}, writes=first, log=log)
    with asked_to_stop() as stop:
        try:
            return _observed(attempt, watcher, stop)
        except KeyboardInterrupt:
            _end(watcher, stop, "stopped")
            if first:
                last = "without another checkpoint; repeat the command to continue"
                _report(f"stopped: {attempt.run_id} at the second Ctrl-C, {last}")
            return EXIT_INTERRUPTED
        finally:
            shown.close()


def _observed(attempt: _Attempt, watcher: Watcher, stop: StopRequest) -> int:
    """Compute and write the record; the exit code.

    Raises:
        KeyboardInterrupt: at the second Ctrl-C, at most once.
    """
    request, machine, folder = attempt.request, attempt.machine, attempt.record.parent
    first = machine.group.first
    try:
        context = RunContext(request.run, machine, Store(machine.cache_dir), watcher, stop)
        record = perform(context, attempt.run_id)
        if first:
            write_json(attempt.record, record)
            (folder / "traceback.txt").unlink(missing_ok=True)
        _end(watcher, stop, "done", record)
    except Stopped:
        _end(watcher, stop, "stopped")
        watcher.shown.close()
        stop.pass_on()
        if first:
            _report(f"stopped: {attempt.run_id} wrote a checkpoint; repeat the command to continue")
        return EXIT_STOPPED
    except Exception as error:
        if stop.interrupted:  # a library has turned the interrupt into another error
            raise KeyboardInterrupt from error
        message, details = describe(error, request.config.values)
        path = folder / "traceback.txt"
        text = traceback.format_exc() + details
        atomically(path, lambda p: p.write_text(text, encoding="utf-8"))
        _end(watcher, stop, "failed")
        watcher.shown.close()
        _report(f"failed: {attempt.run_id}: {message}\n  where: {path}")
        return EXIT_FAILED
    return 0


def _end(
    watcher: Watcher, stop: StopRequest, status: str, record: dict[str, Any] | None = None
) -> None:
    """Write the final status, then close the log, which Ctrl-C may cut short."""
    watcher.end(status)
    stop.ended = True
    watcher.log.close(record)


def _report(message: str) -> None:
    print(message, file=sys.stderr)


def perform(context: RunContext, identity: str) -> dict[str, Any]:
    """Run or load every stage in order and return the record."""
    clock, started = time.monotonic(), _now()
    stages = []
    for stage in context.run.stages:
        meta, cached = run_stage(context, stage)
        context.watcher.restore(stage.name, meta["history"])
        key = context.keys[stage.name]
        stages.append({**meta, "name": stage.name, "key": key, "cached": cached})
        if context.machine.group.any(context.stop()):
            raise Stopped
    series = {name: numbers for meta in stages for name, numbers in meta.get("series", {}).items()}
    if series and context.machine.group.first:
        # Written before the record, whose presence means that the run is complete.
        path = record_path(context.machine.results_dir, identity)
        write_json(path.with_name("series.json"), series)
    return make_record(context, stages, identity, time.monotonic() - clock, started, _now())


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
