"""One run from its configuration to its record: check, look up, compute what is missing, write down."""

import json
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from pruners.base import count_prunable, full_masks, keep_count
from runner.build import build_run
from runner.components import construct
from runner.errors import ConfigError, Stopped, complain
from runner.identity import run_id
from runner.loggers import Logger
from runner.machine import Machine, check_precision, prepare
from runner.panel import panel
from runner.parallel import check_shareable
from runner.plan import plan, record_path, show, survey
from runner.planned import PlannedRun, plan_run
from runner.progress import NO_LOG, Watcher, display
from runner.records import make_record
from runner.rng import stream
from runner.spec import Run
from runner.stages import run_stage
from runner.store import Store, atomically, clear_leftovers, held, write_json
from runner.weights import fitting
from runner.workbench import Workbench

EXIT_FAILED, EXIT_CONFIG, EXIT_STOPPED = 1, 2, 143
SCHEDULERS_SIGNALS = (signal.SIGUSR1, signal.SIGUSR2)


def execute(cfg: DictConfig, planned: list[tuple[PlannedRun, Machine]] | None = None) -> int:
    """Do the run that `cfg` describes, or plan it; the process' exit code. Every problem is one message on standard error.

    Args:
        planned: where a run that is only to be planned goes, for one plan of them all; None = show its own.
    """
    console = Console(highlight=False)
    try:
        run = build_run(cfg)
        machine = prepare(OmegaConf.to_container(cfg.env, resolve=True))  # type: ignore[arg-type]
        if cfg.env.plan:
            alone = [(plan_run(run), machine)]
            survey(alone)  # its problems are this run's
            if planned is None:
                return show_plan(alone)
            planned += alone
            return 0
        check(run, machine)
        logger = construct(OmegaConf.to_container(cfg.logger, resolve=True), "logger")
        logger.check()
    except ConfigError as error:
        complain(error)
        return EXIT_CONFIG
    return _finish(cfg, run, machine, logger, console)


def show_plan(planned: list[tuple[PlannedRun, Machine]]) -> int:
    """Print one plan of all these runs; the exit code."""
    show(planned, torch.get_num_threads(), Console(highlight=False))
    return 0


def check(run: Run, machine: Machine) -> None:
    """Everything that can be known to go wrong before any work: precision, the net on these images, the density on this net, the data, weights from elsewhere.

    Raises:
        ConfigError: with one message for each problem.
    """
    problems: list[str] = []
    for precision in {stage.recipe.precision for stage in run.stages if stage.recipe}:
        try:
            check_precision(precision, machine.device)
        except ConfigError as error:
            problems += error.messages
    info, model = run.dataset.info(), None
    try:
        model = run.model(info.channels, info.classes, info.size, stream(run.seed, "init", "weights"))
        check_shareable(model, machine.team)
        if run.density is not None:
            keep_count(run.density, count_prunable(full_masks(model)))
    except ValueError as error:
        problems += str(error).splitlines()
    missing = set() if record_path(machine, run_id(run)).is_file() else {step["name"] for step in plan(run, machine) if not step["cached"]}
    if missing:
        try:
            run.dataset.check(machine.data_dir)
        except ValueError as error:
            problems.append(str(error))
    for stage in run.stages:
        if stage.weights and stage.name in missing and model is not None:
            try:
                fitting(stage.weights, model.state_dict(), run)
            except ConfigError as error:
                problems += error.messages
    if problems:
        raise ConfigError(*problems)


def _finish(cfg: DictConfig, run: Run, machine: Machine, logger: Logger, console: Console) -> int:
    """Hold the run's folder, compute or find the record, show it; every way to end leaves a status behind."""
    identity = run_id(run)
    path = record_path(machine, identity)
    folder = path.parent
    team = machine.team
    if not team.decide(path.is_file):
        with team.lead(held(folder / ".lock", lambda holder: console.print(f"waiting for {identity}, which {holder} runs"))):
            if not team.decide(path.is_file):
                code = _attempt(cfg, run, machine, logger, console)
                if code:
                    return code
    if not team.first:
        return 0
    record = json.loads(path.read_text())
    words = list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else []
    console.print(panel(record, path, cfg, words))
    return 0


def _attempt(cfg: DictConfig, run: Run, machine: Machine, logger: Logger, console: Console) -> int:
    identity, first = run_id(run), machine.team.first
    folder = record_path(machine, identity).parent
    if first:
        clear_leftovers(folder)
        atomically(folder / "config.yaml", lambda p: OmegaConf.save(cfg, p, resolve=True))
    try:
        log = logger.open(folder, identity, cfg) if first else NO_LOG
    except ConfigError as error:
        complain(error)
        return EXIT_CONFIG
    shown = display(machine.progress, console)
    watcher = Watcher(folder, shown, {"run_id": identity}, writes=first, log=log)
    try:
        with asked_to_stop() as stop:
            record = perform(Workbench(run, machine, Store(machine.cache_dir), watcher, stop), identity)
        if first:
            write_json(folder / "result.json", record)
            (folder / "traceback.txt").unlink(missing_ok=True)
        watcher.finish("done", record)
    except Stopped:
        watcher.finish("stopped")
        shown.close()
        stop.pass_on()
        if first:
            print(f"stopped: {identity} is checkpointed; the same command goes on from there", file=sys.stderr)
        return EXIT_STOPPED
    except Exception as error:
        atomically(folder / "traceback.txt", lambda p: p.write_text(traceback.format_exc()))
        watcher.finish("failed")
        shown.close()
        print(f"failed: {identity}: {type(error).__name__}: {error}\n  where: {folder / 'traceback.txt'}", file=sys.stderr)
        return EXIT_FAILED
    finally:
        shown.close()
    return 0


def perform(bench: Workbench, identity: str) -> dict[str, Any]:
    """Run or load every stage in order; the record."""
    begun, started = time.monotonic(), _now()
    stages = []
    for stage in bench.run.stages:
        meta, cached = run_stage(bench, stage)
        bench.watcher.restore(stage.name, meta["history"])
        stages.append({**meta, "name": stage.name, "key": bench.keys[stage.name], "cached": cached})
        if bench.machine.team.any(bench.stop()):
            raise Stopped
    series = {name: numbers for meta in stages for name, numbers in meta.get("series", {}).items()}
    if series and bench.machine.team.first:
        write_json(record_path(bench.machine, identity).with_name("series.json"), series)  # before the record, which says that all is there
    return make_record(bench, stages, identity, time.monotonic() - begun, started, _now())


class StopRequest:
    """Turns true on SIGTERM, on Ctrl-C and on a scheduler's signal, so that a training can end at a checkpoint; a second Ctrl-C ends at once."""

    def __init__(self) -> None:
        self.event = threading.Event()
        self.before: dict[int, Any] = {}
        self.schedulers: list[int] = []

    def __call__(self) -> bool:
        return self.event.is_set()

    def ask(self, number: int, frame: Any) -> None:
        """The signal handler."""
        if self.event.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        if number in SCHEDULERS_SIGNALS:
            self.schedulers.append(number)
        self.event.set()

    def pass_on(self) -> None:
        """Now that the checkpoint is there, let the scheduler's own handler do what it would have done at once: requeue the job and end the process."""
        for number in self.schedulers:
            self.before[number](number, None)


@contextmanager
def asked_to_stop() -> Iterator[StopRequest]:
    """Listen to signals; what was set before is put back at the end. A scheduler's signals count where it listens to them itself (submitit: USR2)."""
    request = StopRequest()
    if threading.current_thread() is threading.main_thread():
        theirs = [number for number in SCHEDULERS_SIGNALS if callable(signal.getsignal(number))]
        request.before = {number: signal.signal(number, request.ask) for number in (signal.SIGTERM, signal.SIGINT, *theirs)}
    try:
        yield request
    finally:
        for number, handler in request.before.items():
            signal.signal(number, handler)


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
