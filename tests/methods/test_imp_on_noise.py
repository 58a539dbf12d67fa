"""Iterative magnitude pruning on noise: inputs of the search, its initial weights and its masks.

Sources: sketching paper, Sec. 8; docs/decisions.md, 23.
"""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from rich.console import Console
from support import compose_run, machine, perform_run
from torch import Tensor

from pruners.base import count_kept, count_prunable
from pruners.selection.source import Normal
from runner.data.base import Data
from runner.data.digits import Digits
from runner.display.progress import Watcher, display
from runner.engine.context import RunContext
from runner.engine.store import Artefact, Store
from runner.spec.run import Run, Stage

# Levels 0.5, 0.25, 0.2; two epochs each; rewinding to the weights after the first epoch. 5,000 of
# the paper's iterations (500 an epoch) are an eighth of an epoch here.
SEARCH = [
    "method=imp",
    "density=0.2",
    "method.keep=0.5",
    "dataset=digits",
    "model=mlp",
    "model.hidden=[16]",
    "train.scale=0.0125",
    "train.lr=0.05",
]
NOISE = [*SEARCH, "source=normal"]
SEEN = ["dense", "train1", "train2"]  # trainings of the search; train3 is the last


@dataclass(frozen=True)
class Loud(Digits):
    """The digits with other training images and labels: inverted, three times as bright, labels
    shifted by one. The test images are unchanged."""

    tag: ClassVar[str] = "loud_digits"

    def load(self, data_dir: Path, train_fraction: float) -> Data:
        """Change the training set and keep the test images."""
        data = super().load(data_dir, train_fraction)
        split = replace(
            data.train, images=(16 - data.train.images) * 3, labels=(data.train.labels + 1) % 10
        )
        return replace(data, train=split, mean=data.mean * 7, std=data.std / 2)


def context(run: Run, folder: Path) -> RunContext:
    where = machine(folder)
    return RunContext(
        run, where, Store(where.cache_dir), Watcher(folder / "run", display("none", Console()), {})
    )


def seen(run: Run, name: str, folder: Path, epoch: int = 0) -> tuple[Tensor, Tensor]:
    """All inputs of a training in an epoch, sorted by the first rows: images (N, C, H, W), labels
    (N,)."""
    batches = list(context(run, folder).batches(run.stage(name)).epoch(epoch))
    images, labels = torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches])
    order = sorted(range(len(images)), key=lambda i: (images[i].flatten().tolist(), int(labels[i])))
    return images[order], labels[order]


def equal(a: Artefact, b: Artefact) -> bool:
    """Whether weights and masks are equal, bit for bit."""
    weights = a.weights.keys() == b.weights.keys() and all(
        torch.equal(a.weights[name], b.weights[name]) for name in a.weights
    )
    return (
        weights
        and a.masks.keys() == b.masks.keys()
        and all(torch.equal(a.masks[name], b.masks[name]) for name in a.masks)
    )


def on(overrides: list[str], folder: Path, dataset: Any) -> dict[str, Artefact]:
    return perform_run(replace(compose_run(*overrides), dataset=dataset), machine(folder))[1]


@pytest.fixture(scope="module")
def on_noise(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artefact]:
    return on(NOISE, tmp_path_factory.mktemp("on_noise"), Digits())


@pytest.fixture(scope="module")
def random_masks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artefact]:
    return on([*NOISE, "pick=proportional"], tmp_path_factory.mktemp("random"), Digits())


# --- inputs of the search


def test_the_search_does_not_depend_on_the_training_images(
    on_noise: dict[str, Artefact], tmp_path: Path
) -> None:
    loud = on(NOISE, tmp_path / "noise", Loud())
    assert list(loud) == ["dense", "prune1", "train1", "prune2", "train2", "prune3", "train3"]
    assert {name: equal(loud[name], on_noise[name]) for name in loud} == {
        name: name != "train3" for name in loud
    }
    assert all(
        torch.equal(loud["train3"].masks[name], mask)
        for name, mask in on_noise["train3"].masks.items()
    )
    real = [
        on(SEARCH, tmp_path / str(i), data)["dense"] for i, data in enumerate((Digits(), Loud()))
    ]
    assert not equal(*real)  # a search on images does depend on them


def test_noise_is_one_fixed_set_of_the_training_sets_size_at_every_level(tmp_path: Path) -> None:
    run = compose_run(*NOISE)
    first = seen(run, "dense", tmp_path)
    assert first[0].shape == (1437, 1, 8, 8)
    for name in SEEN:
        for epoch in (0, 1):
            again = seen(run, name, tmp_path, epoch)
            assert torch.equal(again[0], first[0]) and torch.equal(again[1], first[1])
    orders = [
        next(iter(context(run, tmp_path).batches(run.stage(name)).epoch(0)))[0] for name in SEEN
    ]
    assert not torch.equal(orders[0], orders[1])  # every training shuffles it
    assert not torch.equal(seen(compose_run(*NOISE, "seed=1"), "dense", tmp_path)[0], first[0])
    assert (
        len(seen(compose_run(*NOISE, "train_fraction=0.5"), "dense", tmp_path)[0])
        == context(compose_run(*NOISE, "train_fraction=0.5"), tmp_path).data.train.images.shape[0]
    )


def test_noise_is_standard_normal_in_normalised_space_with_uniform_labels(tmp_path: Path) -> None:
    images, labels = seen(compose_run(*NOISE), "dense", tmp_path)
    x = images.double().flatten()
    assert abs(float(x.mean())) < 4 / math.sqrt(len(x))
    assert abs(float(x.var()) - 1) < 4 * math.sqrt(2 / len(x))
    # the variance of z^4 is 105 - 9
    assert abs(float((x**4).mean()) - 3) < 4 * math.sqrt(96 / len(x))
    counts = torch.bincount(labels, minlength=10).double()
    expected = len(labels) / 10
    # chi-squared, 9 degrees of freedom
    assert float(((counts - expected) ** 2 / expected).sum()) < 9 + 4 * math.sqrt(18)
    means = images.double().mean(dim=0).flatten()
    # no pixel has a mean of its own, unlike in digits; there are 64
    assert float(means.abs().max()) < 4.5 / math.sqrt(len(images))
    for digit in range(10):  # no class has a mean of its own either
        assert abs(float(images[labels == digit].double().mean())) < 4 / math.sqrt(
            64 * int((labels == digit).sum())
        )


def test_noise_is_not_augmented_and_images_are(tmp_path: Path) -> None:
    run = compose_run(*NOISE, "dataset.augment=crop_flip")
    assert torch.equal(seen(run, "dense", tmp_path, 0)[0], seen(run, "dense", tmp_path, 1)[0])
    assert torch.equal(
        seen(run, "dense", tmp_path)[0], seen(compose_run(*NOISE), "dense", tmp_path)[0]
    )
    assert not torch.equal(seen(run, "train3", tmp_path, 0)[0], seen(run, "train3", tmp_path, 1)[0])


def test_the_last_training_sees_only_the_training_images(tmp_path: Path) -> None:
    run = compose_run(*NOISE)
    images, labels = seen(run, "train3", tmp_path)
    supervised = seen(compose_run(*SEARCH), "dense", tmp_path)
    assert torch.equal(images, supervised[0]) and torch.equal(labels, supervised[1])
    data = context(run, tmp_path).data
    plain = (
        data.train.images.double() / 16 - data.mean.double().view(1, -1, 1, 1)
    ) / data.std.double().view(1, -1, 1, 1)
    assert torch.allclose(
        images.double().flatten(1).sum(dim=1).sort().values,
        plain.flatten(1).sum(dim=1).sort().values,
        rtol=0,
        atol=1e-3,
    )
    assert torch.equal(torch.bincount(labels), torch.bincount(data.train.labels))


# --- initial weights


@pytest.mark.parametrize("masks", ["top", "proportional"])
def test_the_last_training_starts_from_the_rewinding_point_of_the_training_on_noise(
    masks: str, tmp_path: Path
) -> None:
    run = compose_run(*NOISE, f"pick={masks}", "retrain.rewind=5000it")
    last = run.stages[-1]
    assert last.recipe is not None and last.start.stage == "dense" and last.start.epoch is not None
    # the rate is too small to move any weight: the final weights are the initial ones
    still = replace(last, recipe=replace(last.recipe, lr=1e-30))
    where = machine(tmp_path)
    _, found = perform_run(replace(run, stages=(*run.stages[:-1], still)), where)
    point = Store(where.cache_dir).snapshot(context(run, tmp_path).keys["dense"], last.start.epoch)
    kept = found["prune3"].masks
    for name, weight in found["train3"].weights.items():
        assert torch.allclose(
            weight, point[name] * kept[name] if name in kept else point[name], rtol=0, atol=1e-20
        )
    assert any(not torch.equal(point[name], found["dense"].weights[name]) for name in point)


def test_every_level_starts_from_the_rewinding_point_under_its_own_masks() -> None:
    run = compose_run(*NOISE, "retrain.rewind=5000it")
    trainings: list[Stage] = [stage for stage in run.stages if stage.kind == "train"]
    assert [stage.data for stage in trainings] == [Normal(), Normal(), Normal(), None]
    assert {stage.start for stage in trainings[1:]} == {trainings[1].start}
    assert trainings[1].start.stage == "dense"
    assert [stage.masks for stage in trainings] == [None, "prune1", "prune2", "prune3"]
    assert [stage.start.stage for stage in run.stages if stage.kind == "prune"] == [
        "dense",
        "train1",
        "train2",
    ]


# --- masks


def test_random_masks_are_nested_and_their_counts_exact(random_masks: dict[str, Artefact]) -> None:
    levels = [random_masks[f"prune{i}"].masks for i in (1, 2, 3)]
    prunable = count_prunable(levels[0])
    assert [count_kept(masks) for masks in levels] == [
        round(d * prunable) for d in (0.5, 0.25, 0.2)
    ]
    for outer, inner in zip(levels, levels[1:], strict=False):
        assert all(not bool((inner[name] & ~outer[name]).any()) for name in inner)
    assert all(
        torch.equal(random_masks["train3"].masks[name], mask) for name, mask in levels[-1].items()
    )


def test_random_masks_have_the_layer_counts_of_the_top_masks_and_other_weights(
    random_masks: dict[str, Artefact], on_noise: dict[str, Artefact]
) -> None:
    assert equal(random_masks["dense"], on_noise["dense"])  # both share the dense net
    drawn, top = random_masks["prune1"].masks, on_noise["prune1"].masks
    assert {name: int(mask.sum()) for name, mask in drawn.items()} == {
        name: int(mask.sum()) for name, mask in top.items()
    }
    weights = on_noise["dense"].weights
    for name, mask in drawn.items():
        assert not torch.equal(mask, top[name])
        size = weights[name].abs()
        # draws favour large magnitudes: the mean lies between those of uniform and of top masks
        uniform = float(size.mean())
        assert uniform < float(size[mask].mean()) < float(size[top[name]].mean())


def test_random_masks_depend_on_the_seed(random_masks: dict[str, Artefact], tmp_path: Path) -> None:
    again = on([*NOISE, "pick=proportional"], tmp_path / "again", Digits())
    assert all(equal(again[name], random_masks[name]) for name in again)
    other = on([*NOISE, "pick=proportional", "seed=1"], tmp_path / "other", Digits())
    assert any(
        not torch.equal(mask, random_masks["prune3"].masks[name])
        for name, mask in other["prune3"].masks.items()
    )
