"""Helpers of several tests: run inside this process, write images in ImageNet's layout."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from rich.console import Console

from runner.config.build import build_plain, build_run
from runner.config.compose import Composer, compose_config
from runner.display.progress import Watcher, display
from runner.engine.context import RunContext
from runner.engine.execute import perform
from runner.engine.machine import Machine
from runner.engine.store import Artefact, Store
from runner.spec.identity import run_id
from runner.spec.run import Run

COMPOSER = Composer()


def machine(folder: Path, results: str = "results", cache: str = "cache") -> Machine:
    """The CPU, with directories under `folder`."""
    return Machine(
        torch.device("cpu"),
        folder / results,
        folder / cache,
        folder / "data",
        checkpoint_seconds=60.0,
        progress="none",
    )


def compose_run(*overrides: str) -> Run:
    """The run of a command line, composed as tables compose their runs; faster than in full."""
    return build_plain(COMPOSER.plain(list(overrides)))


def compose_run_in_full(*overrides: str) -> Run:
    """The run of a command line, composed as the command line does."""
    return build_run(compose_config(list(overrides)))


def perform_run(run: Run, where: Machine) -> tuple[dict[str, Any], dict[str, Artefact]]:
    """Run all stages and return the record and the artefact of each stage by name."""
    identity = run_id(run)
    watcher = Watcher(
        where.results_dir / "runs" / identity, display("none", Console()), {"run_id": identity}
    )
    context = RunContext(run, where, Store(where.cache_dir), watcher)
    record = perform(context, identity)
    return record, {
        stage.name: context.store.load(context.keys[stage.name]) for stage in run.stages
    }


def picture(number: int) -> Image.Image:
    """A noise image whose size depends on the seed, smooth enough for JPEG."""
    draws = np.random.RandomState(number)
    width, height = draws.randint(40, 90, size=2)
    return Image.fromarray(draws.randint(0, 256, (6, 5, 3)).astype(np.uint8)).resize(
        (int(width), int(height)), Image.Resampling.BICUBIC
    )


def image_folder(folder: Path, train: dict[str, int], val: dict[str, int]) -> None:
    """Write the given number of images of each class to `folder`/train and `folder`/val.

    As in the official archives, one is grey, one CMYK, and one a PNG under the name of a JPEG.
    """
    number = 0
    for part, counts in (("train", train), ("val", val)):
        for name, count in counts.items():
            (folder / part / name).mkdir(parents=True)
            for i in range(count):
                mode, kind = {1: ("L", "JPEG"), 2: ("RGB", "PNG"), 3: ("CMYK", "JPEG")}.get(
                    number, ("RGB", "JPEG")
                )
                picture(number).convert(mode).save(
                    folder / part / name / f"{name}_{i}.JPEG", format=kind
                )
                number += 1
