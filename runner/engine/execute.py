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
from runner.display.loggers import Log, Logger
from runner.display.progress import NO_LOG, Watcher, display
from runner.display.summary import summary
from runner.engine.context import RunContext
from runner.engine.machine import Machine, prepare
from runner.engine.preflight import check
from runner.engine.record import make_record
from runner.engine.signals import asked_to_stop
from runner.engine.stages import run_stage
from runner.engine.store import Store
from runner.errors import EXIT_FAILED, EXIT_STOPPED, Stopped
from runner.files import atomically, clear_leftovers, held, write_json
from runner.records.folders import record_path
from runner.spec.identity import run_id
from runner.spec.request import RunRequest


def execute(request: RunRequest) -> int:
    """Execute a run unless it is done, print the summary of its record, and return the exit code.

    Raises:
        ConfigError: the run cannot be executed on this machine; nothing was computed.
    """
    machine = prepare(request.environment)
    check(request.run, machine)
    logger: Logger = construct(request.config.values["logger"], "logger")
    logger.check()
    return _finish(_Attempt(request, machine, logger, Console(highlight=False)))


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
    path, group, console = attempt.record, attempt.machine.group, attempt.console
    if not group.broadcast_decision(path.is_file):

        def waiting(holder: str) -> None:
            console.print(f"waiting for {attempt.run_id}, which {holder} runs")

        with group.lead(held(path.with_name(".lock"), waiting)):
            if not group.broadcast_decision(path.is_file) and (code := _compute(attempt)):
                return code
    if group.first:
        console.print(summary(json.loads(path.read_text()), path, attempt.request))
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
    try:
        with asked_to_stop() as stop:
            context = RunContext(request.run, machine, Store(machine.cache_dir), watcher, stop)
            record = perform(context, attempt.run_id)
        if first:
            write_json(attempt.record, record)
            (folder / "traceback.txt").unlink(missing_ok=True)
        watcher.finish("done", record)
    except Stopped:
        watcher.finish("stopped")
        shown.close()
        stop.pass_on()
        if first:
            _report_stop(attempt)
        return EXIT_STOPPED
    except Exception as error:
        path = folder / "traceback.txt"
        atomically(path, lambda p: p.write_text(traceback.format_exc()))
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
