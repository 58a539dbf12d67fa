"""Two processes (gloo) train like one: same batches, same losses up to the order of sums."""

import json
import os
import signal
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from conftest import SMALL, environment, last_of_each
from forked import start_forked
from members import run_members
from safetensors.torch import load_file
from torch import Generator, Tensor, nn
from torch.optim import Optimizer
from torchvision.ops import StochasticDepth

from pruners.base import Finding, Masks, full_masks
from runner.data.base import Split
from runner.data.batches import Batches, evaluation_batches
from runner.engine.distributed import ALONE, ProcessGroup, check_shareable
from runner.engine.record import comparable
from runner.engine.train import Loaders, LoopOptions, Trained, train
from runner.errors import ConfigError
from runner.launch.jobs import Process
from runner.paths import RUN_PY
from runner.spec.recipe import Recipe

TORCHRUN = Path(__file__).with_name("torchrun_program.py")
TOLERANCE = 1e-5  # relative: float32 sums in another order, over two epochs


def own(folder: Path, name: str) -> list[str]:
    return [
        f"env.results_dir={folder / name}",
        f"env.cache_dir={folder / (name + '-cache')}",
        "env.checkpoint_seconds=0",
    ]


def torchrun(folder: Path, *overrides: str, name: str, options: Sequence[str] = ()) -> Process:
    """Start torchrun, whose processes are not forks."""
    words = [
        "--rdzv-backend=c10d",
        *last_of_each("--nproc-per-node=2", "--rdzv-endpoint=localhost:0", *options),
        str(RUN_PY),
        *last_of_each(*SMALL, *own(folder, name), *overrides),
    ]
    with (folder / "starting.log").open("wb") as log:
        out = log.fileno()
        process = start_forked(TORCHRUN, words, folder, environment(), out, out)
    (folder / "starting.log").rename(folder / f"{process.pid}.log")
    return process


def finish(process: Process, folder: Path) -> str:
    """Wait for the end of torchrun in a folder and return its output."""
    try:
        process.wait(timeout=300)
    finally:
        process.kill()
    return (folder / f"{process.pid}.log").read_text()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("localhost", 0))
        return int(found.getsockname()[1])


def pair(folder: Path, *overrides: str, name: str) -> str:
    """The output of two processes with the variables that torchrun sets.

    They are forks: those of torchrun, and torchrun itself, would import torch anew.
    """
    variables = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "localhost"}
    common = environment() | variables | {"MASTER_PORT": str(free_port())}
    words = last_of_each(*SMALL, *own(folder, name), *overrides)
    with (folder / f"{name}.log").open("wb") as log:
        out = log.fileno()
        processes = [
            start_forked(
                RUN_PY, words, folder, common | {"RANK": rank, "LOCAL_RANK": rank}, out, out
            )
            for rank in "01"
        ]
    codes = [process.wait(timeout=300) for process in processes]
    output = (folder / f"{name}.log").read_text()
    assert codes == [0, 0], output
    return output


def record(folder: Path, name: str) -> dict[str, Any]:
    (path,) = (folder / name / "runs").glob("*/result.json")
    return dict(json.loads(path.read_text()))


def history(folder: Path, name: str) -> list[dict[str, Any]]:
    (path,) = (folder / name / "runs").glob("*/metrics.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]


METHODS = {
    "weights": ["method=magnitude", "density=0.3", "start=dense", "retrain=finetune"],
    # the gradients of gates are averaged, too
    "weights and gates": ["method=continuous_sparsification", "density=0.3", "train.lr=0.02"],
    # each process has to grow the same connections
    "connections by their gradients": ["method=rigl", "density=0.3"],
    # most parameters are frozen and have no gradient; swaps are the same in all processes
    "scores alone": ["method=sr_popup", "density=0.3"],
}


@pytest.mark.parametrize("overrides", METHODS.values(), ids=METHODS)
def test_two_processes_give_the_losses_of_one_and_write_one_record(
    overrides: list[str], tmp_path: Path, command: Any
) -> None:
    overrides = [*overrides, "train_fraction=0.5"]  # 718 images: the last batch of an epoch has 18
    output = pair(tmp_path, *overrides, name="two")
    assert output.count("test accuracy") == 1  # only the first process prints
    alone = command(*SMALL, *overrides)
    assert alone.returncode == 0, alone.stderr
    one, two = record(tmp_path, "results"), record(tmp_path, "two")
    assert (two["provenance"]["processes"], one["provenance"]["processes"]) == (2, 1)
    assert two["run_id"] == one["run_id"] and two["kept"] == one["kept"]
    for a, b in zip(history(tmp_path, "results"), history(tmp_path, "two"), strict=True):
        assert (b["train_loss"], b["test_loss"]) == pytest.approx(
            (a["train_loss"], a["test_loss"]), rel=TOLERANCE
        )
    key = one["stages"][-1]["key"]
    left, right = (
        load_file(tmp_path / cache / "stages" / key / "weights.safetensors")
        for cache in ("cache", "two-cache")
    )
    for name in left:
        torch.testing.assert_close(left[name], right[name], rtol=1e-3, atol=1e-5)


def test_a_stopped_group_resumes_to_the_record_of_an_undisturbed_one(tmp_path: Path) -> None:
    overrides = ["method=dense", "train.scale=0.05"]
    pair(tmp_path, *overrides, name="alone")
    process = torchrun(tmp_path, *overrides, name="stopped")
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("stopped-cache/checkpoints/*.pt")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    finish(process, tmp_path)
    assert process.returncode != 0
    assert (
        json.loads(next(tmp_path.glob("stopped/runs/*/status.json")).read_text())["status"]
        == "stopped"
    )
    pair(tmp_path, *overrides, name="stopped")
    assert comparable(record(tmp_path, "stopped")) == comparable(record(tmp_path, "alone"))


def test_a_group_that_loses_a_process_ends_with_one_message(tmp_path: Path) -> None:
    process = torchrun(tmp_path, "method=dense", "train.scale=0.5", name="lost")
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("lost-cache/checkpoints/*.pt")) and time.monotonic() < deadline:
        time.sleep(0.01)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(children[-1]), signal.SIGKILL)
    output = finish(process, tmp_path)
    ours, *theirs = output.split("Traceback (most recent call last)")
    assert process.returncode != 0
    assert ours.count("another process of torchrun has ended; repeat the command") == 1, output
    assert all("torch/distributed/run.py" in each for each in theirs), output  # torchrun's own


@pytest.mark.skipif(sys.platform != "linux", reason="Linux signals the death of a parent")
@pytest.mark.parametrize("early", [True, False])
def test_the_processes_of_a_killed_torchrun_stop(early: bool, tmp_path: Path) -> None:
    process = torchrun(tmp_path, "method=dense", "train.scale=5", name="killed")
    deadline = time.monotonic() + 300
    children, found = Path(f"/proc/{process.pid}/task/{process.pid}/children"), []
    while time.monotonic() < deadline:  # early: while the processes import
        found = [int(pid) for pid in children.read_text().split()]
        at_work = list(tmp_path.glob("killed-cache/checkpoints/*.pt"))
        if len(found) == 2 and (all(map(_imports, found)) if early else at_work):
            break
        time.sleep(0.01)
    process.kill()
    while (left := [pid for pid in found if _runs(pid)]) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not left


def _imports(pid: int) -> bool:
    """Whether a process has begun to import torch."""
    return "libtorch" in Path(f"/proc/{pid}/maps").read_text()


def _runs(pid: int) -> bool:
    """Whether a process runs; one that has ended can wait for its parent to notice."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_group_that_loses_a_process_is_restarted_and_ends_as_if_undisturbed(
    tmp_path: Path,
) -> None:
    overrides = ["model=resnet20", "method=dense", "train.scale=0.0125", "train_fraction=0.5"]
    pair(tmp_path, *overrides, name="alone")
    process = torchrun(tmp_path, *overrides, name="lost", options=["--max-restarts=1"])
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("lost-cache/checkpoints/*.pt")) and time.monotonic() < deadline:
        time.sleep(0.01)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(children[-1]), signal.SIGKILL)
    output = finish(process, tmp_path)
    assert process.returncode == 0, output
    assert comparable(record(tmp_path, "lost")) == comparable(record(tmp_path, "alone"))


def test_two_nodes_give_the_record_of_two_processes(tmp_path: Path) -> None:
    """Two agents of torchrun on this machine, with one process each."""
    overrides = ["model=resnet20", "method=dense", "train.scale=0.0125", "train_fraction=0.1"]
    pair(tmp_path, *overrides, name="one")
    words = ["--nnodes=2", "--nproc-per-node=1", f"--rdzv-endpoint=localhost:{free_port()}"]
    nodes = [torchrun(tmp_path, *overrides, name="two", options=words) for _ in range(2)]
    outputs = [finish(node, tmp_path) for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], outputs
    assert sum(output.count("test accuracy") for output in outputs) == 1
    assert comparable(record(tmp_path, "two")) == comparable(record(tmp_path, "one"))


def test_a_net_with_dropout_gives_an_error_with_a_solution() -> None:
    drawing = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5))
    check_shareable(drawing, ALONE)
    check_shareable(nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.0)), ProcessGroup(0, 2))
    for net in (drawing, nn.Sequential(StochasticDepth(0.2, "row"))):
        with pytest.raises(
            ConfigError,
            match=(
                r"^torchrun with 2 processes: this net draws .* model.dropout=0"
                r" model.stochastic_depth=0$"
            ),
        ):
            check_shareable(net, ProcessGroup(0, 2))


# --- a masking with trainables of its own


@dataclass
class Popup:
    """Trains scores and no weights, and stores the gradients that its hook receives."""

    masks: Masks
    trainable: dict[str, Tensor]
    train_weights: bool = False
    report: dict[str, Finding] = field(default_factory=dict)
    seen: list[Tensor] = field(default_factory=list)

    def weights(self, model: nn.Module, step: int) -> dict[str, Tensor]:
        return {
            "fc.weight": model.get_parameter("fc.weight") * torch.sigmoid(self.trainable["scores"])
        }

    def before_step(self, model: nn.Module, opt: Optimizer, step: int) -> None:
        grad, dense = self.trainable["scores"].grad, model.get_parameter("fc.weight").grad
        assert grad is not None and dense is not None
        self.seen += [grad.clone(), dense.clone()]

    def after_step(self, model: nn.Module, step: int) -> None:
        pass


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fc = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x.flatten(1))


def search(group: ProcessGroup) -> tuple[Trained, Popup]:
    """Train for three epochs over 11 images in batches of 5, 5 and 1.

    The last batch has fewer images than a group of two has processes.
    """
    rng = Generator().manual_seed(1)
    images = Split(
        torch.randint(0, 17, (11, 1, 4, 4), generator=rng, dtype=torch.uint8),
        torch.randint(0, 3, (11,), generator=rng),
    )
    mean, std = torch.tensor([0.5]), torch.tensor([0.25])
    loaders = Loaders(
        Batches(images, mean, std, 16.0, 5, "none", 0, "search", group.shard),
        lambda: evaluation_batches(images, mean, std, 16.0, 4, group.shard),
    )
    model = Net()
    masking = Popup(full_masks(model), {"scores": torch.zeros(3, 16, requires_grad=True)})
    recipe = Recipe(epochs=3, lr=0.5, batch_size=5, momentum=0.9, weight_decay=0.0)
    return train(
        model, masking, recipe, loaders, F.cross_entropy, LoopOptions(group=group)
    ), masking


def _member(rank: int, size: int, folder: Path) -> None:
    done, masking = search(ProcessGroup(rank, size))
    torch.save(
        {
            "scores": masking.trainable["scores"].detach(),
            "seen": masking.seen,
            "history": done.history,
        },
        folder / f"{rank}.pt",
    )


def test_hooks_in_a_group_receive_the_gradients_of_the_whole_batch(tmp_path: Path) -> None:
    done, masking = search(ALONE)
    run_members(_member, 2, tmp_path)
    for rank in (0, 1):
        found = torch.load(tmp_path / f"{rank}.pt")
        torch.testing.assert_close(
            found["scores"], masking.trainable["scores"].detach(), rtol=TOLERANCE, atol=1e-7
        )
        assert len(found["seen"]) == len(masking.seen) == 2 * 9
        for theirs, ours in zip(found["seen"], masking.seen, strict=True):
            torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=1e-7)
        for theirs, ours in zip(found["history"], done.history, strict=True):
            assert {k: theirs[k] for k, v in ours.items() if v is not None} == pytest.approx(
                {k: v for k, v in ours.items() if v is not None}, rel=TOLERANCE
            )
