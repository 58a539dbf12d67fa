"""Generated inputs: noise, sparse noise, chi variables, ones; their distributions and their shapes.

Sources: docs/methods/snip.md and docs/methods/synflow.md.
"""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from small_nets import images, l1_loss, linear, mlp, pruner, same_masks, task
from support import compose_run, machine
from torch import Tensor, nn

from pruners.base import Batch, Task, full_masks
from pruners.scores.snip import Snip
from pruners.selection.pick import Proportional
from pruners.selection.source import Chi, Examples, Normal, Ones, SparseNormal
from runner.display.progress import Watcher, display
from runner.engine.context import RunContext
from runner.engine.store import Store

IMAGE, CLASSES = (3, 8, 8), 7
NOISE: list[Any] = [Normal(), SparseNormal(), SparseNormal(location="coordinate"), Chi()]


def stage(seed: int = 0, **more: Any) -> Task:
    return task(0.5, seed=seed, image=IMAGE, classes=CLASSES, **more)


def first(source: Any, given: Task | None = None) -> Batch:
    return next(iter(source(stage() if given is None else given)))


def standard_errors(
    values: Tensor, mean: float, variance: float, fourth: float
) -> tuple[float, float]:
    """Deviations of the mean and the variance of independent `values` from these moments, in
    standard errors; `fourth` is the fourth central moment."""
    n = values.numel()
    spread = (values.double() - mean).square().mean()
    return (
        abs(float(values.double().mean()) - mean) / math.sqrt(variance / n),
        abs(float(spread) - variance) / math.sqrt((fourth - variance**2) / n),
    )


def chi_squared(counts: Tensor) -> float:
    """The statistic against equal probabilities, in standard deviations from its mean."""
    expected = counts.sum() / len(counts)
    degrees = len(counts) - 1
    return (float(((counts - expected) ** 2 / expected).sum()) - degrees) / math.sqrt(2 * degrees)


@pytest.mark.parametrize("source", [*NOISE, Ones()], ids=repr)
def test_a_source_repeats_within_a_round_and_leaves_the_stages_generator_unchanged(
    source: Any,
) -> None:
    given = stage(seed=3)
    before = given.rng.get_state()
    (x, y), (again, labels) = first(source, given), first(source, given)
    assert torch.equal(x, again) and torch.equal(y, labels)
    assert torch.equal(given.rng.get_state(), before)
    torch.rand(5, generator=given.rng)  # the state of the stage's generator does not matter
    assert torch.equal(first(source, given)[0], x)


@pytest.mark.parametrize("source", NOISE, ids=repr)
def test_noise_depends_on_seed_and_round_and_not_on_data(source: Any) -> None:
    x = first(source)[0]
    assert torch.equal(first(source, stage(data=images(seed=9)))[0], x)
    assert not torch.equal(first(source, stage(seed=1))[0], x)
    assert not torch.equal(first(source, stage(round=1))[0], x)


def test_noise_is_standard_normal_with_uniform_labels() -> None:
    batches = [batch for batch, _ in zip(Normal()(stage()), range(4), strict=False)]
    assert [(x.shape, y.shape) for x, y in batches] == [((256, *IMAGE), (256,))] * 4
    values = torch.cat([x for x, _ in batches])
    assert max(standard_errors(values, 0.0, 1.0, 3.0)) < 4
    assert (values.mean(dim=0).abs() < 5 / math.sqrt(1024)).all()  # of 192 coordinates
    labels = torch.cat([y for _, y in batches])
    assert labels.dtype == torch.int64
    assert abs(chi_squared(torch.bincount(labels, minlength=CLASSES).double())) < 4
    assert not torch.equal(batches[0][0], batches[1][0])


def test_sparse_noise_has_each_pixel_in_one_image_with_all_channels() -> None:
    for x, _ in zip((x for x, _ in SparseNormal()(stage())), range(3), strict=False):
        assert x.shape == (256, *IMAGE)
        assert ((x != 0).sum(dim=0) == 1).all()
        owner = (x != 0).int().argmax(dim=0)  # (C, H, W)
        assert (owner == owner[0]).all()


def test_sparse_noise_by_coordinate_draws_an_image_for_each_channel() -> None:
    x, _ = first(SparseNormal(location="coordinate"))
    assert ((x != 0).sum(dim=0) == 1).all()
    owner = (x != 0).int().argmax(dim=0)
    assert (owner[0] != owner[1]).float().mean() > 0.9  # equal with probability 1/256


def test_sparse_noise_is_standard_normal_and_uniform_over_images() -> None:
    small = SparseNormal(batch_size=8)
    batches = [first(small, stage(seed=s)) for s in range(60)]
    values = torch.cat([x[x != 0] for x, _ in batches])
    assert max(standard_errors(values, 0.0, 1.0, 3.0)) < 4
    owners = torch.cat([(x[:, 0] != 0).int().argmax(dim=0).flatten() for x, _ in batches])
    assert abs(chi_squared(torch.bincount(owners, minlength=8).double())) < 4
    # Binomial(64, 1/8): variance 7
    per_image = torch.cat([(x[:, 0] != 0).sum(dim=(1, 2)) for x, _ in batches])
    assert abs(float(per_image.double().var()) - 7) < 4 * 7 * math.sqrt(2 / len(per_image))


def test_snip_of_a_linear_model_on_sparse_noise_is_weight_times_row_norm() -> None:
    # f = w.x, l1 loss, one non-zero in each row of X: exactly s_j = |w_j| |X_j| / n
    # (docs/methods/snip.md).
    weights = torch.linspace(-2, 3, 16)
    model, source = linear([weights.tolist()]), SparseNormal(batch_size=8)
    x, _ = first(source, task(0.5, image=(1, 1, 16)))
    found = Snip()(
        model, full_masks(model), [(x.flatten(1), torch.full((8,), -1e3))], l1_loss, task(0.5).rng
    )["weight"]
    assert torch.allclose(found[0], weights.abs() * x.flatten(1).norm(dim=0) / 8, rtol=1e-6)


@pytest.mark.parametrize("n", [128, 1])
def test_chi_variables_have_the_moments_of_the_chi_distribution(n: int) -> None:
    mean = math.sqrt(2) * math.exp(math.lgamma((n + 1) / 2) - math.lgamma(n / 2))
    variance = n - mean**2
    third, fourth = mean * (n + 1), n * (n + 2)  # raw moments
    central = fourth - 4 * mean * third + 6 * mean**2 * n - 3 * mean**4
    x, y = first(Chi(n), task(0.5, image=(3, 64, 64)))
    assert x.shape == (1, 3, 64, 64) and y.tolist() == [0] and (x > 0).all()
    assert max(standard_errors(x, mean, variance, central)) < 4
    if n == 128:
        # docs/methods/synflow.md
        assert (round(mean, 4), round(math.sqrt(variance), 4)) == (11.2916, 0.7064)


def test_ones_are_one_image_of_ones() -> None:
    ((x, y),) = Ones()(stage())
    assert torch.equal(x, torch.ones(1, *IMAGE)) and y.tolist() == [0] and y.dtype == torch.int64


@pytest.mark.parametrize("source", [Normal(), SparseNormal()], ids=repr)
def test_scores_on_noise_depend_on_the_seed_and_not_on_the_images(source: Any) -> None:
    options = {"source": source, "pick": Proportional()}
    image = {"image": (1, 8, 8), "classes": 10}

    def found(seed: int, data: Batch) -> Any:
        model = mlp()
        return pruner(Snip(), **options)(
            model, full_masks(model), task(0.2, data=data, seed=seed, **image)
        ).masks

    assert same_masks(found(1, images(seed=1)), found(1, images(seed=2)))
    assert not same_masks(found(1, images(seed=1)), found(2, images(seed=1)))


def test_a_second_batch_of_noise_changes_the_scores() -> None:
    image = {"image": (1, 8, 8), "classes": 10}
    model = mlp()
    one, two = (
        Snip(batches=b)(
            model,
            full_masks(model),
            Normal(batch_size=16)(task(0.5, **image)),
            nn.functional.cross_entropy,
            task(0.5).rng,
        )
        for b in (1, 2)
    )
    assert not torch.equal(one["fc1.weight"], two["fc1.weight"])


def test_inputs_move_to_the_device_of_the_model() -> None:
    # meta: a second device that every machine has
    elsewhere = nn.Linear(4, 2, device="meta")
    batches = list(Examples(Normal(batch_size=2), stage(), elsewhere.weight.device))
    assert batches and all(x.device.type == y.device.type == "meta" for x, y in batches)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Normal(batch_size=1), "source.batch_size=1 must be at least 2"),
        (lambda: SparseNormal(batch_size=0), "source.batch_size=0 must be at least 2"),
        (
            lambda: SparseNormal(location="image"),
            "source.location='image' must be one of pixel, coordinate",
        ),
        (lambda: Chi(0), "source.n=0 must be at least 1"),
    ],
)
def test_invalid_options_are_rejected(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_a_task_contains_the_image_shape_and_the_number_of_classes(tmp_path: Path) -> None:
    run = compose_run(
        "method=snip",
        "source=normal",
        "density=0.1",
        "dataset=digits",
        "dataset.size=16",
        "model=mlp",
    )
    where = machine(tmp_path)
    context = RunContext(
        run, where, Store(where.cache_dir), Watcher(tmp_path / "run", display("none", None), {})
    )
    given = context.task(run.stage("prune"), steps=0)
    assert (given.image, given.classes, given.round) == ((1, 16, 16), 10, 0)
    x, y = first(Normal(), given)
    assert x.shape == (256, 1, 16, 16) and set(y.tolist()) == set(range(10))
