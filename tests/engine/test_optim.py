"""Optimizer options agree with hand-worked rates, with version 0.1.0 and with torch's SGD."""

import math
from typing import Any

import pytest
import torch
from support import compose_run
from torch import Generator, Tensor, nn

from pruners.base import FixedMasking, full_masks
from runner.config.named_parts import named_part
from runner.config.own_parts import LR_SCHEDULE, part_names
from runner.engine.optim import learning_rate, make_optimizer
from runner.errors import ConfigError
from runner.spec.identity import stage_keys
from runner.spec.lr_schedule import Constant, Cosine, OneCycle, Step, Trapezoid, WarmupCosine
from runner.spec.recipe import Recipe

MLP = ["method=dense", "dataset=digits", "model=mlp"]


def recipe(epochs: int = 4, **options: Any) -> Recipe:
    return Recipe(
        **{
            "epochs": epochs,
            "lr": 0.1,
            "batch_size": 5,
            "momentum": 0.9,
            "weight_decay": 0.01,
            **options,
        }
    )


def rates(how: Recipe, per_epoch: int) -> list[float]:
    return [learning_rate(how, step, per_epoch) for step in range(how.epochs * per_epoch)]


# --- warm-up


def test_warm_up_increases_the_rate_linearly_to_the_full_rate() -> None:
    # two epochs of four: 1/8, 2/8, ..., 8/8; then constant
    expected = [0.1 * k / 8 for k in range(1, 9)] + [0.1] * 8
    assert rates(recipe(4, warmup=2.0, lr_schedule=Constant()), 4) == pytest.approx(
        expected, rel=1e-12
    )


def test_warm_up_multiplies_the_schedule() -> None:
    # three of four epochs of two steps: the drop at 1/2 (step 4) is inside the warm-up, the drop at
    # 3/4 (step 6) after it
    expected = [0.1 / 6, 0.2 / 6, 0.3 / 6, 0.4 / 6, 0.05 / 6, 0.06 / 6, 0.001, 0.001]
    assert rates(recipe(4, warmup=3.0), 2) == pytest.approx(expected, rel=1e-12)


def test_a_warm_up_of_a_fraction_of_an_epoch_is_rounded_to_steps() -> None:
    assert rates(recipe(1, warmup=0.3, lr_schedule=Constant()), 10)[:4] == pytest.approx(
        [0.1 / 3, 0.2 / 3, 0.1, 0.1], rel=1e-12
    )


def test_without_warm_up_the_first_step_has_the_full_rate() -> None:
    assert rates(recipe(2), 5)[0] == 0.1


@pytest.mark.parametrize(
    ("warmup", "batch_size", "scale", "epochs"),
    [
        ("0ep", 100, 1.0, 0),
        ("5ep", 100, 1.0, 5),
        ("5ep", 100, 0.2, 1),
        ("2000it", 128, 1.0, 2000 / 391),
        ("2000it", 100, 0.5, 2),
        ("2000it", 128, 0.1, 200 / 391),
    ],
)
def test_warm_up_is_a_duration_that_scales(
    warmup: str, batch_size: int, scale: float, epochs: float
) -> None:
    (stage,) = compose_run(
        *MLP,
        "train=imc",
        f"train.warmup={warmup}",
        f"train.batch_size={batch_size}",
        f"train.scale={scale}",
    ).stages
    assert stage.recipe is not None and stage.recipe.warmup == pytest.approx(epochs, abs=1e-6)


@pytest.mark.parametrize(
    ("dataset", "images"),
    [
        ("digits", 50_000),  # stands for CIFAR-10
        ("cifar100", 50_000),
        ("tiny_imagenet", 100_000),
        ("imagenet_subset", 100_000),
        ("imagenet", 1_281_167),
    ],
)
def test_iterations_count_in_the_epochs_of_the_papers_data_set(dataset: str, images: int) -> None:
    run = compose_run(
        *("method=snip", "start=dense", "density=0.1", f"dataset={dataset}", "model=resnet20"),
        *("train=sketching", "train.warmup=2000it", "retrain.rewind=1000it"),
    )
    recipe, per_epoch = run.stage("dense").recipe, -(-images // 128)
    assert recipe is not None and recipe.warmup == pytest.approx(2000 / per_epoch, abs=1e-6)
    assert run.stage("train").start.epoch == pytest.approx(1000 / per_epoch, abs=1e-6)


def test_warm_up_changes_the_stage_keys_unless_it_is_zero() -> None:
    base = stage_keys(compose_run(*MLP))
    assert (
        stage_keys(compose_run(*MLP, "train.warmup=0ep"))
        == base
        == stage_keys(compose_run(*MLP, "train.warmup=0it"))
    )
    assert stage_keys(compose_run(*MLP, "train.warmup=5ep")) != base


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            "5 epochs",
            "train.warmup='5 epochs' is not a point in training: write 10ep, 10 or 2000it",
        ),
        ("160ep", "train.warmup=160 must be 0ep or more, and shorter than the training"),
    ],
)
def test_an_invalid_warm_up_gives_an_error(value: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        compose_run(*MLP, "train=imc", f"train.warmup={value}")


# --- momentum and decay


def gradients(shape: tuple[int, ...], count: int, seed: int) -> list[Tensor]:
    rng = Generator().manual_seed(seed)
    return [torch.randn(shape, generator=rng) for _ in range(count)]


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("decay", [None, 0.0, 0.3])
def test_weights_and_trainables_are_updated_as_by_two_torch_optimizers(
    decay: float | None, nesterov: bool
) -> None:
    model = nn.Linear(3, 2)
    scores = torch.linspace(-1, 1, 6).view(2, 3).requires_grad_()
    masking = FixedMasking(full_masks(model), trainable={"weight": scores})
    references = [p.detach().clone().requires_grad_() for p in model.parameters()]
    reference_scores = scores.detach().clone().requires_grad_()
    ours = make_optimizer(model, masking, recipe(nesterov=nesterov, trainable_decay=decay))
    theirs = [
        torch.optim.SGD(references, lr=0.1, momentum=0.9, weight_decay=0.01, nesterov=nesterov),
        torch.optim.SGD(
            [reference_scores],
            lr=0.1,
            momentum=0.9,
            weight_decay=0.01 if decay is None else decay,
            nesterov=nesterov,
        ),
    ]
    pairs = [*zip(model.parameters(), references, strict=True), (scores, reference_scores)]
    drawn = [
        gradients(tuple(reference.shape), 5, seed) for seed, (_, reference) in enumerate(pairs)
    ]
    for step in range(5):
        for (one, other), its in zip(pairs, drawn, strict=True):
            one.grad, other.grad = its[step].clone(), its[step].clone()
        for opt in (ours, *theirs):
            opt.step()
    assert all(torch.equal(one, other) for one, other in pairs)


def test_a_nesterov_step_agrees_with_one_worked_by_hand() -> None:
    # v = 0.9 v + g, step g + 0.9 v: gradients 1 and 1 give v = 1, 1.9 and steps 1.9, 2.71; plain
    # momentum takes 1, 1.9
    for nesterov, total in ((True, 1.9 + 2.71), (False, 1 + 1.9)):
        model = nn.Linear(1, 1, bias=False)
        start = float(model.weight.detach())
        opt = make_optimizer(model, FixedMasking({}), recipe(nesterov=nesterov, weight_decay=0.0))
        for _ in range(2):
            model.weight.grad = torch.ones(1, 1)
            opt.step()
        assert float(model.weight.detach()) == pytest.approx(start - 0.1 * total, abs=1e-6)


def test_frozen_weights_are_in_no_parameter_group() -> None:
    model, scores = nn.Linear(3, 2), torch.zeros(2, 3, requires_grad=True)
    opt = make_optimizer(
        model,
        FixedMasking({}, trainable={"weight": scores}, train_weights=False),
        recipe(trainable_decay=0.0),
    )
    assert [[p is scores for p in group["params"]] for group in opt.param_groups] == [[True]]
    assert opt.param_groups[0]["weight_decay"] == 0.0


# --- where a stage ends


def test_a_stage_may_end_before_its_schedule() -> None:
    how = recipe(160, first_epoch=3, last_epoch=4)
    assert (how.trained_epochs, how.end, how.epochs) == (1, 4, 160)
    assert (recipe(160, first_epoch=10).trained_epochs, recipe(160).end) == (150, 160)


def test_nesterov_requires_momentum() -> None:
    with pytest.raises(
        ValueError,
        match=r"train.momentum=0.0 must be above 0: this method uses Nesterov momentum",
    ):
        recipe(momentum=0.0, nesterov=True)
    assert recipe(momentum=0.0).momentum == 0


# --- schedules


def by_version_0_1_0(schedule: str, lr: float, step: int, total: int) -> float:
    """The rate as version 0.1.0 computed it from the name of a schedule."""
    if schedule == "constant":
        return lr
    if schedule == "cosine":
        return lr / 2 * (1 + math.cos(math.pi * step / total))
    drops = (2 * step >= total) + (4 * step >= 3 * total)
    return lr * 0.1**drops


@pytest.mark.parametrize("name", ["step", "cosine", "constant"])
def test_every_rate_equals_that_of_version_0_1_0_to_the_bit(name: str) -> None:
    schedule = named_part(LR_SCHEDULE, name, "train.lr_schedule")
    for lr in (0.1, 0.05, 0.02, 3e-4, 100.0, 1 / 3):
        for total in (*range(1, 41), 450, 1437, 62_560):  # 62,560: 160 epochs of 391 steps
            assert [schedule(lr, step, total) for step in range(total)] == [
                by_version_0_1_0(name, lr, step, total) for step in range(total)
            ]


def test_a_drop_at_a_whole_step_is_exact() -> None:
    # 7/100 of 100 steps is step 7; as a float, 0.07 * 100 is 7.000000000000001 and the drop would
    # come at step 8
    assert [Step(("7/100", "0.5"), 0.5)(1.0, step, 100) for step in range(100)] == [1.0] * 7 + [
        0.5
    ] * 43 + [0.25] * 50


def test_each_schedule_file_gives_its_class_with_default_options() -> None:
    assert {name: named_part(LR_SCHEDULE, name, "key") for name in part_names(LR_SCHEDULE)} == {
        "step": Step(),
        "cosine": Cosine(),
        "constant": Constant(),
        "one_cycle": OneCycle(),
        "trapezoid": Trapezoid(),
        "warmup_cosine": WarmupCosine(),
    }
    assert recipe().lr_schedule == Step()  # the default, which the hash leaves out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"drops": ("1/2", "3/2")}, "drops=3/2 must be fractions between 0 and 1, e.g. 1/2"),
        ({"drops": ("half",)}, "drops=half must be fractions"),
        ({"drops": ("1/0",)}, "drops=1/0 must be fractions"),
        ({"factor": 0.0}, "factor=0 must be positive"),
    ],
)
def test_an_invalid_step_schedule_gives_an_error(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Step(**options)


@pytest.mark.parametrize(
    "key", ["train.lr_schedule", "method.lr_schedule", "method.tuning.lr_schedule"]
)
def test_an_unknown_schedule_gives_an_error_with_key_choices_and_nearest_name(
    key: str,
) -> None:
    overrides = [
        "method=sr_popup",
        "density=0.5",
        "retrain=finetune",
        "dataset=digits",
        "model=mlp",
    ]
    with pytest.raises(ConfigError) as caught:
        compose_run(*overrides, f"{key}=cosin")
    assert (
        f"{key}=cosin must be one of constant, cosine, one_cycle, step, trapezoid, warmup_cosine;"
        " did you mean 'cosine'?" in caught.value.messages
    )


def test_each_schedule_has_a_different_stage_key() -> None:
    keys = {
        name: stage_keys(compose_run(*MLP, f"train.lr_schedule={name}"))["dense"]
        for name in part_names(LR_SCHEDULE)
    }
    assert len(set(keys.values())) == 6
    assert keys["step"] == stage_keys(compose_run(*MLP))["dense"]
