"""Checkpoints, files of weights and files of images on the emulated device."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import ClassVar

import torch
from emulated import device
from emulated_process import on_emulated_device
from rich.console import Console
from safetensors.torch import save_file
from support import compose_run, machine, perform_run
from torch import nn
from torch.nn import functional as F

from pruners.base import full_masks
from pruners.curvature.hessian import HessianOperator
from pruners.curvature.options import HessianOptions
from runner.data.base import Info
from runner.data.imagenet import FOLDER, Imagenet
from runner.display.progress import Watcher, display
from runner.engine.context import RunContext
from runner.engine.execute import perform
from runner.engine.machine import Machine
from runner.engine.store import Artefact, Store
from runner.errors import Stopped
from runner.faults.made import write_image_folder as image_folder
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


@on_emulated_device
def test_hessian_products_start_no_threads_beside_an_accelerators_queue() -> None:
    torch.set_num_threads(2)
    model, batch = nn.Linear(2, 3), (torch.ones(4, 2), torch.arange(4) % 3)
    for place, starts in (("cpu", True), (device(), False)):
        here = model.to(place)
        batches = [(batch[0].to(place), batch[1].to(place))] * 2
        operator = HessianOperator(
            here, full_masks(here), batches, F.cross_entropy, HessianOptions()
        )
        assert (operator._workers is not None) == starts


@on_emulated_device
def test_a_stopped_run_resumes_to_the_hosts_bits(tmp_path: Path) -> None:
    # with noise, and with a generator of the device
    for overrides in (["method=deep_r"], ["method=zhou", "method.batch_size=32"]):
        run = compose_run(*MLP, *overrides)
        there = replace(machine(tmp_path / overrides[0]), device=device())
        assert stopped_often(run, there) > 2
        here = machine(tmp_path / overrides[0], "other", "other")
        assert_equal(perform_run(run, there)[1], perform_run(run, here)[1])


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
