"""Executes a run: checks it, looks up its record, computes missing stages, writes the record."""

import contextlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path

from rich.console import Console

from runner.config.instantiate import construct
from runner.console import console
from runner.data.base import Data
from runner.display.loggers import Log, Logger
from runner.display.progress import NO_LOG, Watcher, display
from runner.display.summary import closing_of, summary, summary_line
from runner.engine.beside import ends_run, left_out, not_delivered, run_or_leave_out
from runner.engine.context import RunContext
from runner.engine.data_checks import checked_data
from runner.engine.distributed import LOST, is_lost
from runner.engine.failure import TRACEBACK, write_failure
from runner.engine.machine import Machine, prepare
from runner.engine.predictions import predictions
from runner.engine.preflight import check
from runner.engine.profile import PROFILE, measuring, shares
from runner.engine.record import make_record
from runner.engine.shared_folders import checked_by_all
from runner.engine.signals import StopRequest, stop_requests
from runner.engine.stage_meta import DoneStage
from runner.engine.store import Store
from runner.errors import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_STOPPED, Damaged, Stopped
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
from runner.records.wanted import Wanted
from runner.spec.identity import run_id
from runner.spec.record import Record
from runner.spec.request import RunRequest
from runner.streams import say
from runner.torchrun import ignored

ATTEMPTS = 3  # visits of a run's stages, if cached ones are damaged or removed meanwhile


def execute(request: RunRequest, brief: bool = False) -> int:
    """Execute a run unless it is done, print the summary of its record, and return the exit code.

    Args:
        brief: print one line instead, for a run with an accuracy.

    Raises:
        ConfigError: the run cannot be executed on this machine; nothing was computed.
    """
    if note := ignored():
        say(f"note: {note}")
    machine = prepare(request.environment, trains=True)
    data = checked_by_all(
        machine.group,
        lambda: checked_data(request.run, machine, check(request.run, machine)),
        lambda data: data.checksum if data else "",
        f"env.data_dir={machine.data_dir}",
    )
    logger: Logger = construct(request.config.values["logger"], "logger")
    logger.check()
    attempt = _Attempt(request, machine, logger, console(), data, brief)
    try:
        return _finish(attempt)
    except OSError as error:  # the run's folder cannot be made, locked or written
        message = f"{type(error).__name__}: {error}"
        say(f"failed: {attempt.run_id}: {message}\n  where: {attempt.record.parent}")
        return EXIT_FAILED
    except RuntimeError as error:
        if not is_lost(error):
            raise
        say(f"failed: {attempt.run_id}: {LOST}")
        return EXIT_FAILED


@dataclass(frozen=True)
class _Attempt:
    """A run that is being executed on this machine."""

    request: RunRequest
    machine: Machine
    logger: Logger
    console: Console
    data: Data | None  # of the run, on the CPU; None if a record or the cache makes it needless
    brief: bool = False

    @cached_property
    def run_id(self) -> str:
        """The run's identity."""
        return run_id(self.request.run)

    @cached_property
    def wanted(self) -> Wanted:
        """What is requested of the finished run."""
        return Wanted.of(self.request.run, self.machine.save_predictions)

    @property
    def record(self) -> Path:
        """Path of the run's record, written or not."""
        return record_path(self.machine.results_dir, self.run_id)

    def is_done(self) -> bool:
        """Whether the run has what is requested, and its files are as they were written."""
        found = RunFolders(self.machine.results_dir).run(self.run_id)
        return self.wanted.complete(found)


def _finish(attempt: _Attempt) -> int:
    """Lock the run's folder, find or compute the record, print its summary; the exit code."""
    path, group, shown = attempt.record, attempt.machine.group, attempt.console
    before = group.broadcast_decision(attempt.is_done)
    if not before:

        def waiting(holder: str) -> None:
            shown.print(f"waiting for {attempt.run_id}, which {holder} runs")

        with group.lead(held(path.with_name(".lock"), waiting)):
            if not group.broadcast_decision(attempt.is_done) and (code := _compute(attempt)):
                return code
    if group.first and (record := read_record(path.parent)):
        if attempt.brief and (line := summary_line(record, before)):
            shown.print(line, soft_wrap=True)
        else:
            closing = closing_of(attempt.request)
            shown.print(summary(record, path, closing, before), soft_wrap=True)
        if attempt.machine.profile and (seconds := record["provenance"].get(PROFILE)):
            shown.print(shares(seconds), soft_wrap=True, highlight=False)
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
    with stop_requests() as stop:
        try:
            return _observed(attempt, watcher, stop)
        except KeyboardInterrupt:
            _end(watcher, stop, "stopped")
            if first:
                last = "without another checkpoint; repeat the command to continue"
                say(f"stopped: {attempt.run_id} at the second Ctrl-C, {last}")
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
        store, data = Store(machine.cache_dir), attempt.data
        context = RunContext(request.run, machine, store, watcher, stop, data)
        record = perform(context, attempt.run_id)
        if first:
            write_record(attempt.record, record)
            if not left_out(request.run, record):
                with contextlib.suppress(OSError):
                    (folder / TRACEBACK).unlink()
        _end(watcher, stop, record["status"], record)
    except Stopped:
        _end(watcher, stop, "stopped")
        watcher.shown.close()
        stop.pass_on()
        if first:
            say(f"stopped: {attempt.run_id} wrote a checkpoint; repeat the command to continue")
        return EXIT_STOPPED
    except Exception as error:
        if stop.interrupted:  # a library has turned the interrupt into another error
            raise KeyboardInterrupt from error
        message, path = write_failure(folder, error, request.config.values)
        with contextlib.suppress(OSError):
            _end(watcher, stop, "failed")
        watcher.shown.close()
        say(f"failed: {attempt.run_id}: {message}\n  where: {path}")
        return EXIT_FAILED
    if lacking := not_delivered(request.run, record):
        watcher.shown.close()
        say(f"failed: {attempt.run_id} is done without {', '.join(lacking)}")
        return EXIT_FAILED
    return 0


def _end(watcher: Watcher, stop: StopRequest, status: str, record: Record | None = None) -> None:
    """Write the final status, then close the log, which Ctrl-C may cut short."""
    watcher.end(status)
    stop.ended = True
    watcher.log.close(record)


def perform(context: RunContext, identity: str) -> Record:
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


def _perform(context: RunContext, identity: str) -> Record:
    clock, started = time.monotonic(), _now()
    stages: list[DoneStage] = []
    ended = False
    for stage in context.run.stages:
        with measuring(context.machine.profile):
            found = run_or_leave_out(context, stage)
        if found is None:
            continue
        meta, cached = found
        context.watcher.restore(stage.name, meta["history"])
        key = context.keys[stage.name]
        stages.append({**meta, "name": stage.name, "key": key, "cached": cached})
        if context.machine.group.any(context.stop()):
            raise Stopped
        if ended := ends_run(stage, meta):
            break
    series: dict[str, Sequence[float]] = {
        name: numbers for meta in stages for name, numbers in meta.get("series", {}).items()
    }
    if context.machine.save_predictions and not ended:  # in every process
        series |= predictions(context, stages)
    record = make_record(context, stages, identity, time.monotonic() - clock, started, _now())
    record["provenance"][FILES] = _write_files(context, identity, series)
    if (profile := context.machine.profile) is not None:
        record["provenance"][PROFILE] = profile.total()
    return record


def _write_files(
    context: RunContext, identity: str, series: Mapping[str, Sequence[float]]
) -> dict[str, str]:
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
