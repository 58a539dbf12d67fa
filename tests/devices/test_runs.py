"""Checkpoints, files of weights and files of images on the emulated device."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from emulated import device, on_emulated_device
from rich.console import Console
from safetensors.torch import save_file
from support import compose_run, image_folder, machine, perform_run

from runner.data.base import Info
from runner.data.imagenet import FOLDER, Imagenet
from runner.display.progress import Watcher, display
from runner.engine.context import RunContext
from runner.engine.execute import perform
from runner.engine.machine import Machine
from runner.engine.store import Artefact, Store
from runner.errors import Stopped
from runner.spec.identity import run_id
from runner.spec.run import Run

MLP = ("dataset=digits", "model=mlp", "model.hidden=[16]", "train_fraction=0.1")
MLP += ("train.scale=0.0125", "train.batch_size=32", "density=0.3")


def assert_equal(found: dict[str, Artefact], expected: dict[str, Artefact]) -> None:
    for stage, artefact in expected.items():
        for name, tensor in (artefact.weights | artefact.masks).items():
            ours = found[stage].weights | found[stage].masks
            assert torch.equal(ours[name], tensor), (stage, name)


def stopped_often(run: Run, where: Machine) -> int:
    """Number of sessions of a run that each end after three steps."""
    identity = run_id(run)
    folder = where.results_dir / "runs" / identity
    for session in count(1):
        ends: Iterator[bool] = iter([False, False, True])
        context = RunContext(
            run,
            where,
            Store(where.cache_dir),
            Watcher(folder, display("none", Console()), {}),
            stop=lambda ends=ends: next(ends, False),
        )
        try:
            perform(context, identity)
        except Stopped:
            continue
        return session
    raise AssertionError


@pytest.mark.parametrize("method", ["deep_r", "zhou"])  # with noise, and with its own generator
@on_emulated_device
def test_a_stopped_run_resumes_to_the_hosts_bits(method: str, tmp_path: Path) -> None:
    search = ["method.batch_size=32"] if method == "zhou" else []
    run = compose_run(*MLP, f"method={method}", *search)
    there = replace(machine(tmp_path), device=device())
    assert stopped_often(run, there) > 2
    assert_equal(
        perform_run(run, there)[1], perform_run(run, machine(tmp_path, "other", "other"))[1]
    )


@on_emulated_device
def test_weights_of_a_file_are_loaded_there(tmp_path: Path) -> None:
    net = compose_run(*MLP, "method=snip").model(1, 10, 8, torch.Generator().manual_seed(1))
    save_file(net.state_dict(), tmp_path / "net.safetensors")
    run = compose_run(*MLP, "method=sr_popup", f"start.weights={tmp_path / 'net.safetensors'}")
    there = replace(machine(tmp_path), device=device())
    assert_equal(
        perform_run(run, there)[1], perform_run(run, machine(tmp_path, "other", "other"))[1]
    )


class FewImages(Imagenet):
    """Three classes of 5, 7 and 6 training images and 3 test images each."""

    tag: ClassVar[str] = "few_images"
    native: ClassVar[Info] = Info(channels=3, size=32, classes=3, train=18, test=9)


@on_emulated_device
def test_images_of_files_are_batched_there(tmp_path: Path) -> None:
    names = ["n01000000", "n02000000", "n03000000"]
    image_folder(
        tmp_path / "data" / FOLDER,
        dict(zip(names, (5, 7, 6), strict=True)),
        dict.fromkeys(names, 3),
    )
    run = replace(
        compose_run(
            *("method=snip", "density=0.5", "model=mlp", "model.hidden=[8]", "dataset=imagenet"),
            *("dataset.size=16", "train.scale=0.0125", "train.batch_size=5"),
        ),
        dataset=FewImages(size=16),
    )
    there = replace(machine(tmp_path), device=device())
    assert_equal(
        perform_run(run, there)[1], perform_run(run, machine(tmp_path, "other", "other"))[1]
    )
