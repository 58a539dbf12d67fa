"""Masks of a training on two processes, each with the emulated device.

DistributedDataParallel needs pinned memory, which the device does not have. Here, each process
averages its gradients after the backward pass instead.
"""

import multiprocessing
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
import torch.distributed as dist
from emulated import device
from emulated_process import on_emulated_device
from support import compose_run, machine, perform_run
from torch import Tensor, nn

from pruners.base import Masking
from runner.engine.distributed import ProcessGroup
from runner.spec.run import Run

SMALL = ("dataset=digits", "model=mlp", "model.hidden=[16]", "train_fraction=0.1", "density=0.3")
SMALL += ("train.scale=0.0125",)


@dataclass(frozen=True)
class Averaging(ProcessGroup):
    """Processes that average the gradients of the model themselves."""

    models: list[nn.Module] = field(default_factory=list)

    def wrap(self, model: nn.Module, masking: Masking) -> nn.Module:
        self.models.append(model)
        return model

    def average_gradients(self, tensors: Iterable[Tensor]) -> None:
        super().average_gradients([*tensors, *self.models[-1].parameters()])


def equals_the_hosts(rank: int, folder: Path, runs: dict[str, Run]) -> None:
    """Train on the device and on the host; each process checks that both are equal."""
    address = f"file://{folder / 'rendezvous'}"
    dist.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    try:
        for method, run in runs.items():
            group = Averaging(rank, 2, device())
            there = replace(machine(folder / method), device=device(), group=group)
            ours = perform_run(run, there)[1]
            here = machine(folder / method, "results_here", "cache_here")
            theirs = perform_run(run, replace(here, group=Averaging(rank, 2)))[1]
            for stage, artefact in theirs.items():
                found = ours[stage].masks | ours[stage].weights
                for name, tensor in (artefact.masks | artefact.weights).items():
                    assert torch.equal(found[name], tensor), (method, stage, name)
    finally:
        dist.destroy_process_group()


@on_emulated_device
def test_two_processes_have_the_hosts_masks(tmp_path: Path) -> None:
    methods = ("rigl", "set", "dsr", "deep_r", "sr_popup", "zhou")
    runs = {method: compose_run(*SMALL, f"method={method}") for method in methods}
    forks = multiprocessing.get_context("fork")
    other = forks.Process(target=equals_the_hosts, args=(1, tmp_path, runs))
    other.start()
    try:
        equals_the_hosts(0, tmp_path, runs)
        other.join(60)
        assert other.exitcode == 0
    finally:
        other.kill()
