"""Training and portraits of nets with BatchNorm by several processes equal one process' in float64.

Rounding errors of float32 grow by orders of magnitude in a few steps of training with BatchNorm on
small maps, and in Lanczos runs. In float64 they stay far below any fault.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from members import Members
from support import compose_run, machine
from torch import Generator, Tensor

from pruners.base import Batch, FixedMasking, Masking, Task, full_masks
from pruners.curvature.options import HessianOptions, SpectrumOptions
from pruners.curvature.spectrum import Spectrum
from pruners.scores.grasp import Grasp
from runner.data.base import Split
from runner.data.batches import Batches, evaluation_batches
from runner.display.progress import Watcher, display
from runner.engine.context import RunContext
from runner.engine.distributed import ALONE, ProcessGroup, connected
from runner.engine.store import Store
from runner.engine.train import Loaders, LoopOptions, train
from runner.spec.recipe import Recipe

BATCH = 7  # two steps with uneven parts
# Images in the last batch: one; two where maps have one pixel and BatchNorm refuses a single value;
# or five, since BatchNorm maps two values to -1 and 1 and the gradient is the rounding of their
# difference, which MobileNet's 27 layers amplify.
IMAGES = {"ResNet-20": 15, "VGG-19": 16, "MobileNet": 19}
NETS = {
    "ResNet-20": ("model=resnet20",),
    "VGG-19": ("model=vgg19", "dataset.size=32"),
    "MobileNet": ("model=mobilenet_v1", "dataset.size=32"),
}
METHODS = {
    "dense": (),
    "RigL": ("method=rigl", "density=0.3"),
    "SR-popup": ("method=sr_popup", "density=0.3"),
    "GraSP": ("method=grasp", "density=0.3"),
    "IMC": ("method=imc",),
}
QUICK = [("ResNet-20", method) for method in METHODS]
LARGE = [
    *(("VGG-19", method) for method in ("dense", "SR-popup", "GraSP")),
    *(("MobileNet", method) for method in ("dense", "GraSP")),
]
TOLERANCE = 1e-9  # of the largest value of a tensor
RECIPE = Recipe(epochs=2, lr=0.05, batch_size=BATCH, momentum=0.9, weight_decay=5e-4)
# With larger rates, MobileNet's test loss is in the thousands, and rounding errors grow with it.
RATES = {"MobileNet": 1e-4}


@dataclass(frozen=True)
class Double:
    """Training batches in float64."""

    batches: Batches

    @property
    def steps_per_epoch(self) -> int:
        return self.batches.steps_per_epoch

    def images(self, step: int) -> int:
        return self.batches.images(step)

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        return doubled(self.batches.epoch(epoch, first_step))


def doubled(batches: Any) -> Iterator[Batch]:
    return ((x.double(), y) for x, y in batches)


def setting(net: str, method: str, folder: Path, group: ProcessGroup) -> tuple[Any, Any, Split]:
    """The component of a method, the initial net in float64, and images for it."""
    words = [*NETS[net], *(METHODS[method] or ("method=dense",))]
    run = compose_run("dataset=digits", *words)
    context = RunContext(
        run,
        replace(machine(folder), group=group),
        Store(folder),
        Watcher(folder / "run", display("none", None), {}),
    )
    size = run.dataset.info().size
    rng = Generator().manual_seed(1)
    pixels = torch.randint(256, (IMAGES[net], 1, size, size), generator=rng, dtype=torch.uint8)
    split = Split(pixels, torch.randint(10, (IMAGES[net],), generator=rng))
    component = next((s.component for s in run.stages if s.recipe and s.component), None)
    return component, context.fresh_model().double(), split


def trained(net: str, method: str, folder: Path, group: ProcessGroup) -> dict[str, Tensor]:
    """Weights, masks and losses after two epochs."""
    torch.manual_seed(0)
    component, model, split = setting(net, method, folder, group)
    mean, std = torch.tensor([0.5]), torch.tensor([0.25])
    training = Double(Batches(split, mean, std, 255.0, BATCH, "none", 0, "s", group.shard))
    test = split.take(torch.arange(11))
    loaders = Loaders(
        training, lambda: doubled(evaluation_batches(test, mean, std, 255.0, 4, group.shard))
    )
    masking: Masking = (
        FixedMasking(full_masks(model))
        if component is None
        else component(model, full_masks(model), task(model, group, split))
    )
    options, recipe = LoopOptions(group=group), replace(RECIPE, lr=RATES.get(net, RECIPE.lr))
    done = train(model, masking, recipe, loaders, F.cross_entropy, options)
    numbers = [row[key] for row in done.history for key in ("train_loss", "test_loss", "accuracy")]
    found = {f"weights/{name}": t.detach() for name, t in model.state_dict().items()}
    found |= {f"scores/{name}": t.detach() for name, t in masking.trainable.items()}
    found |= {f"masks/{name}": t.double() for name, t in masking.masks.items()}
    return found | {"losses": torch.tensor(numbers, dtype=torch.float64)}


def task(model: Any, group: ProcessGroup, split: Split) -> Task:
    def batches(size: int) -> Iterator[Batch]:
        return doubled(
            evaluation_batches(split, torch.tensor([0.5]), torch.tensor([0.25]), 255.0, size)
        )

    steps = RECIPE.epochs * -(-len(split) // BATCH)
    image = (1, *split.images.shape[2:])
    return Task(
        F.cross_entropy,
        batches,
        0.3,
        steps,
        Generator().manual_seed(2),
        epochs=RECIPE.epochs,
        image=image,
        classes=10,
        team=group,
    )


def scores(net: str, method: str, folder: Path, group: ProcessGroup) -> dict[str, Tensor]:
    """GraSP's scores."""
    _, model, split = setting(net, method, folder, group)
    what, masks = task(model, group, split), full_masks(model)
    rng, memory = what.rng, what.memory
    return Grasp(batches=2)(model, masks, what.batches(BATCH), what.loss, rng, memory, group)


def portrait(net: str, method: str, folder: Path, group: ProcessGroup) -> dict[str, Tensor]:
    """IMC's Ritz values and leverages."""
    _, model, split = setting(net, method, folder, group)
    options = HessianOptions(n_samples=11, batch_size=4, dtype="float64")
    measure = Spectrum(options, SpectrumOptions(steps=4, probes=2))
    return measure(model.eval(), full_masks(model), task(model, group, split)).tensors


WORK = {"GraSP": scores, "IMC": portrait}  # else training


def results(
    names: list[tuple[str, str]], folder: Path, group: ProcessGroup
) -> dict[tuple[str, str], dict[str, Tensor]]:
    return {
        (net, method): WORK.get(method, trained)(net, method, folder, group)
        for net, method in names
    }


def member(rank: int, size: int, folder: Path, names: list[tuple[str, str]]) -> None:
    group = connected(torch.device("cpu"))
    found = results(names, folder, group)
    torch.save(found, folder / f"{size}-{rank}.pt")


def compare(size: int, folder: Path, names: list[tuple[str, str]]) -> None:
    members = Members(member, size, folder, names)
    alone = results(names, folder, ALONE)
    members.join()
    found = [torch.load(folder / f"{size}-{rank}.pt") for rank in range(size)]
    for name, expected in alone.items():
        for key, tensor in expected.items():
            first, *others = (each[name][key] for each in found)
            assert all(torch.equal(first, other) for other in others), (name, key)
            far = (first.double() - tensor.double()).abs().max()
            scale = tensor.double().abs().max().clamp(min=1e-3)
            assert float(far / scale) < TOLERANCE, (name, key, float(far), float(scale))


@pytest.mark.parametrize("size", [2, 3])
def test_processes_train_and_measure_a_resnet_as_one(size: int, tmp_path: Path) -> None:
    compare(size, tmp_path, QUICK)


@pytest.mark.slow
@pytest.mark.parametrize("size", [2, 3])
def test_processes_train_vgg_and_mobilenet_as_one(size: int, tmp_path: Path) -> None:
    compare(size, tmp_path, LARGE)
