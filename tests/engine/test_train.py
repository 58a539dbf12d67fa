"""The training loop agrees with schedules and steps worked by hand and resumes to the same bits."""

import json
import math
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from support import compose_run, machine, perform_run
from torch import Generator, Tensor, nn
from torch.optim import Optimizer

from pruners.base import Batch, Finding, FixedMasking, Masks, apply_masks, full_masks
from runner.data.base import Split
from runner.data.batches import Batches, evaluation_batches
from runner.engine.checkpoint import load_checkpoint, save_checkpoint
from runner.engine.divergence import Divergence
from runner.engine.evaluate import evaluate
from runner.engine.optim import learning_rate
from runner.engine.stage_checks import check_masked
from runner.engine.train import Loaders, LoopOptions, Trained, train
from runner.errors import Stopped
from runner.spec.lr_schedule import (
    Constant,
    Cosine,
    LrSchedule,
    OneCycle,
    Step,
    Trapezoid,
    WarmupCosine,
)
from runner.spec.recipe import Recipe
from runner.spec.run import Stage

Array = NDArray[np.float64]
MEAN, STD, SCALE = torch.tensor([0.5]), torch.tensor([0.25]), 16.0
NO_CAST = torch.autocast("cpu", enabled=False)


def recipe(epochs: int = 2, **options: Any) -> Recipe:
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


def split(count: int, seed: int) -> Split:
    """Random grey images of 4x4 pixels with labels of three classes."""
    rng = Generator().manual_seed(seed)
    return Split(
        torch.randint(0, 17, (count, 1, 4, 4), generator=rng, dtype=torch.uint8),
        torch.randint(0, 3, (count,), generator=rng),
    )


TRAIN, TEST, VALIDATION = split(18, 0), split(12, 1), split(7, 2)


def make_loaders(batch_size: int = 5, validation: bool = False) -> Loaders:
    """18 training images in batches of 5, 5, 5 and 3."""

    def passes(part: Split) -> Any:
        return lambda: evaluation_batches(part, MEAN, STD, SCALE, 1000)

    return Loaders(
        Batches(TRAIN, MEAN, STD, SCALE, batch_size, "none", 3, "dense"),
        passes(TEST),
        passes(VALIDATION) if validation else None,
    )


def linear(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(OrderedDict(flat=nn.Flatten(), fc=nn.Linear(16, 3)))


def half_masks(model: nn.Module, seed: int = 5) -> Masks:
    rng = Generator().manual_seed(seed)
    return {
        name: torch.rand(mask.shape, generator=rng) < 0.5
        for name, mask in full_masks(model).items()
    }


def fit(
    model: nn.Module,
    how: Recipe,
    masking: Any = None,
    data: Loaders | None = None,
    loop: LoopOptions | None = None,
    **options: Any,
) -> Trained:
    return train(
        model,
        masking or FixedMasking(full_masks(model)),
        how,
        data or make_loaders(),
        F.cross_entropy,
        loop or LoopOptions(),
        **options,
    )


# --- learning rates

PAPER = recipe(160, batch_size=100)  # 50,000 images in batches of 100: 500 steps an epoch


@pytest.mark.parametrize(
    ("epoch", "step", "lr"),
    [
        (0, 0, 0.1),
        (79, 499, 0.1),
        (80, 0, 0.01),
        (119, 499, 0.01),
        (120, 0, 0.001),
        (159, 499, 0.001),
    ],
)  # IMC appendix A.4: 0.1, divided by ten at 1/2 and 3/4 of the 160 epochs
def test_the_step_schedule_divides_by_ten_at_epochs_80_and_120_of_160(
    epoch: int, step: int, lr: float
) -> None:
    assert learning_rate(PAPER, epoch * 500 + step, 500) == pytest.approx(lr, rel=1e-12)


def test_train_imc_has_the_step_schedule_of_the_paper() -> None:
    (stage,) = compose_run("method=dense", "train=imc", "dataset=digits", "model=mlp").stages
    assert stage.recipe is not None
    rates = [learning_rate(stage.recipe, epoch * 500, 500) for epoch in range(160)]
    assert rates == pytest.approx([0.1] * 80 + [0.01] * 40 + [0.001] * 40, rel=1e-12)


def test_the_step_schedule_rounds_a_drop_up_to_the_next_step() -> None:
    rates = [learning_rate(recipe(1), step, 5) for step in range(5)]  # 1/2 of 5 is 2.5, 3/4 is 3.75
    assert rates == pytest.approx([0.1, 0.1, 0.1, 0.01, 0.001], rel=1e-12)


def test_the_cosine_schedule_decays_from_lr_to_almost_zero() -> None:
    rates = [learning_rate(recipe(2, lr_schedule=Cosine()), step, 4) for step in range(8)]
    # lr / 2 (1 + cos(pi step / 8)): cos of 0, 22.5, ..., 157.5 degrees
    by_hand = [
        0.1,
        0.0961939766,
        0.0853553391,
        0.0691341716,
        0.05,
        0.0308658284,
        0.0146446609,
        0.0038060234,
    ]
    assert rates == pytest.approx(by_hand, abs=1e-10)


def test_the_constant_schedule_is_constant() -> None:
    assert {
        learning_rate(recipe(3, lr=0.05, lr_schedule=Constant()), step, 7) for step in range(21)
    } == {0.05}


def test_a_stage_with_a_first_epoch_continues_within_its_schedule() -> None:
    done = fit(linear(), recipe(4, first_epoch=2))
    assert [row["epoch"] for row in done.history] == [3, 4]
    # the drops at 1/2 and 3/4 of four epochs
    assert [row["lr"] for row in done.history] == pytest.approx([0.01, 0.001], rel=1e-12)


# --- one step and many, against float64


def by_hand(
    model: nn.Module,
    how: Recipe,
    masks: Masks | None = None,
    momentum: dict[str, Tensor] | None = None,
) -> tuple[Array, ...]:
    """Weights, biases and their momentum after softmax regression by SGD, in NumPy and float64.

    SGD has momentum and weight decay.
    """
    w, b = (p.detach().double().numpy().copy() for p in model.parameters())
    keep = masks["fc.weight"].numpy() if masks else np.ones_like(w, dtype=bool)
    w *= keep
    vw, vb = (
        (momentum[n].double().numpy().copy() for n in ("fc.weight", "fc.bias"))
        if momentum
        else (np.zeros_like(w), np.zeros_like(b))
    )
    vw *= keep
    training = make_loaders(how.batch_size).training
    total, step = how.epochs * training.steps_per_epoch, how.first_epoch * training.steps_per_epoch
    for epoch in range(how.first_epoch, how.epochs):
        for x, y in training.epoch(epoch):
            inputs = x.flatten(1).double().numpy()
            logits = inputs @ w.T + b
            p = np.exp(logits - logits.max(1, keepdims=True))
            p /= p.sum(1, keepdims=True)
            error = (p - np.eye(3)[y.numpy()]) / len(y)
            gw, gb = error.T @ inputs * keep, error.sum(0)
            lr = how.lr * (1.0 if step < total / 2 else 0.1 if step < total * 3 / 4 else 0.01)
            vw = how.momentum * vw + gw + how.weight_decay * w
            # weight decay of biases, too (conf/train/imc.yaml)
            vb = how.momentum * vb + gb + how.weight_decay * b
            w, b = w - lr * vw, b - lr * vb
            step += 1
    return w, b, vw, vb


def agrees(model: nn.Module, momentum: dict[str, Tensor], expected: tuple[Array, ...]) -> None:
    """Compare weights, biases and, if there is any, momentum."""
    found = [
        model.get_parameter("fc.weight"),
        model.get_parameter("fc.bias"),
        *(momentum[name] for name in ("fc.weight", "fc.bias") if name in momentum),
    ]
    for tensor, values in zip(found, expected, strict=False):
        np.testing.assert_allclose(tensor.detach().numpy(), values, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize(
    "options",
    [{}, {"momentum": 0.0}, {"weight_decay": 0.0}, {"lr": 0.3, "epochs": 5}, {"batch_size": 18}],
    ids=str,
)
def test_steps_are_sgd_with_momentum_and_weight_decay(options: dict[str, Any]) -> None:
    how = recipe(**options)
    model, reference = linear(), linear()
    done = fit(model, how, data=make_loaders(how.batch_size))
    agrees(model, done.momentum, by_hand(reference, how))
    assert set(done.momentum) == ({"fc.weight", "fc.bias"} if how.momentum else set())


def test_masked_weights_stay_zero_and_the_others_train_as_without_them() -> None:
    model, reference = linear(), linear()
    masks = half_masks(model)
    apply_masks(model, masks)
    done = fit(model, recipe(4), FixedMasking(masks))
    agrees(model, done.momentum, by_hand(reference, recipe(4), masks))
    pruned = ~masks["fc.weight"]
    assert torch.count_nonzero(model.get_parameter("fc.weight")[pruned]) == 0
    assert torch.count_nonzero(done.momentum["fc.weight"][pruned]) == 0
    check_masked(model.state_dict(), masks, Stage("train", "train"))


def test_initial_momentum_changes_kept_weights_and_no_pruned_weights() -> None:
    model, reference = linear(), linear()
    masks = half_masks(model)
    apply_masks(model, masks)
    rng = Generator().manual_seed(8)
    momentum = {name: torch.randn(p.shape, generator=rng) for name, p in model.named_parameters()}
    given = {name: m.clone() for name, m in momentum.items()}
    done = fit(model, recipe(3, first_epoch=1), FixedMasking(masks), momentum=momentum)
    kept = {
        "fc.weight": done.momentum["fc.weight"] * masks["fc.weight"],
        "fc.bias": done.momentum["fc.bias"],
    }
    agrees(model, kept, by_hand(reference, recipe(3, first_epoch=1), masks, momentum))
    assert torch.count_nonzero(model.get_parameter("fc.weight")[~masks["fc.weight"]]) == 0
    # the tensors of the caller are unchanged
    assert all(torch.equal(momentum[name], given[name]) for name in given)


# --- history


def test_losses_and_accuracies_of_an_epoch_count_each_example_once() -> None:
    model = linear()
    # a rate that does not change the weights, so that all batches use the same net
    (row,) = fit(
        model, recipe(1, lr=1e-30, momentum=0.0), data=make_loaders(validation=True)
    ).history
    values = {}
    for name, part in (("train", TRAIN), ("test", TEST), ("validation", VALIDATION)):
        inputs = (part.images.double() / 16 - 0.5) / 0.25
        logits = (
            inputs.flatten(1) @ model.get_parameter("fc.weight").detach().double().T
            + model.get_parameter("fc.bias").detach().double()
        )
        chance = logits.softmax(1)[torch.arange(len(part)), part.labels]
        values[name] = (
            float(-chance.log().mean()),
            100 * float((logits.argmax(1) == part.labels).double().mean()),
        )
    assert (row["train_loss"], row["test_loss"]) == pytest.approx(
        (values["train"][0], values["test"][0]), rel=1e-6
    )
    assert (row["accuracy"], row["val_accuracy"]) == pytest.approx(
        (values["test"][1], values["validation"][1]), rel=1e-12
    )
    assert row["accuracy_top5"] == 100.0  # three classes
    assert (row["epoch"], row["density"]) == (1, 1.0)
    assert fit(linear(), recipe(1)).history[0]["val_accuracy"] is None


def test_evaluation_computes_top_1_and_top_5_accuracy() -> None:
    # Image i gives the logits 0, 1, ..., 5, so that class 5 is first and class 0 is sixth.
    logits = torch.arange(6.0).repeat(4, 1)
    found = evaluate(
        nn.Identity(),
        [(logits[:3], torch.tensor([5, 5, 1])), (logits[3:], torch.tensor([0]))],
        {},
        NO_CAST,
    )
    total = math.log(sum(math.exp(i) for i in range(6)))
    assert (found.accuracy, found.top5) == (50.0, 75.0)
    assert found.loss == pytest.approx(total - (5 + 5 + 1 + 0) / 4, rel=1e-6)


def test_evaluation_uses_running_statistics_and_restores_the_training_flag() -> None:
    model = nn.Sequential(nn.BatchNorm1d(2, affine=False))
    before = {name: t.clone() for name, t in model.state_dict().items()}
    for training in (True, False):
        model.train(training)
        found = evaluate(
            model, [(torch.tensor([[3.0, 2.0], [9.0, 1.0]]), torch.tensor([0, 1]))], {}, NO_CAST
        )
        # statistics of the batch would give (-1, 1) and (1, -1), and no hit
        assert found.accuracy == 50.0
        assert model.training is training
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())


def test_a_diverging_training_ends_at_its_first_epoch_without_a_finite_loss() -> None:
    rows: list[dict[str, Any]] = []
    done = fit(linear(), recipe(3, lr=1e30), loop=LoopOptions(epoch_done=rows.append))
    assert done.divergence == Divergence("the training loss is not finite", 1)
    measured = ("train_loss", "test_loss", "accuracy", "accuracy_top5", "val_accuracy")
    assert [[row[key] for key in measured] for row in done.history] == [[None] * 5]
    assert json.loads(json.dumps(rows, allow_nan=False)) == done.history  # NaN is no JSON


def test_a_test_loss_that_is_not_finite_ends_a_training_with_a_finite_training_loss() -> None:
    test = [(torch.full((4, 1, 4, 4), 3e38), torch.zeros(4, dtype=torch.long))]
    done = fit(linear(), recipe(3), data=Loaders(make_loaders().training, lambda: test))
    assert done.divergence == Divergence("the test loss is not finite", 1)
    assert done.history[0]["train_loss"] is not None
    assert done.history[0]["accuracy"] is done.history[0]["test_loss"] is None


def test_statistics_of_batchnorm_that_are_not_finite_end_a_training() -> None:
    norm = nn.BatchNorm1d(16)
    model = nn.Sequential(OrderedDict(flat=nn.Flatten(), norm=norm, fc=nn.Linear(16, 3)))
    norm.running_var.fill_(torch.inf)  # the test loss is finite: everything is divided by it
    done = fit(model, recipe(3))
    assert done.divergence
    assert done.divergence == Divergence("16 of 16 numbers in norm.running_var are not finite", 1)


def test_a_masking_that_meets_numbers_that_are_not_finite_ends_a_training() -> None:
    class Overflowing(FixedMasking):
        def after_step(self, model: nn.Module, step: int) -> None:
            if step == 5:  # in the second epoch of four steps
                raise FloatingPointError("a score is NaN")

    done = fit(linear(), recipe(3), Overflowing(full_masks(linear())))
    assert done.divergence == Divergence("a score is NaN", 2) and len(done.history) == 1


def test_progress_counts_the_steps_of_the_stage() -> None:
    seen: list[tuple[int, int, str]] = []
    fit(
        linear(),
        recipe(4, first_epoch=2),
        loop=LoopOptions(progress=lambda *step: seen.append(step)),
    )
    assert seen == [(step, 8, "steps") for step in range(1, 9)]  # four batches an epoch


# --- resuming


@dataclass
class Rewiring:
    """A masking with a generator, a trainable, and masks and numbers that change in training."""

    masks: Masks
    rng: Generator
    trainable: dict[str, Tensor]
    train_weights: bool = True
    report: dict[str, Finding] = field(default_factory=dict)
    steps: int = 0
    drawn: list[float] = field(default_factory=list)
    ages: dict[str, Tensor] = field(default_factory=dict)

    def weights(self, model: nn.Module, step: int) -> dict[str, Tensor]:
        return {
            "first.weight": model.get_parameter("first.weight")
            * torch.sigmoid(self.trainable["gate"])[:, None]
        }

    def before_step(self, model: nn.Module, opt: Optimizer, step: int) -> None:
        for name, mask in self.masks.items():
            grad = model.get_parameter(name).grad
            assert grad is not None
            grad.add_(torch.randn(grad.shape, generator=self.rng), alpha=0.01).masked_fill_(
                ~mask, 0.0
            )

    def after_step(self, model: nn.Module, step: int) -> None:
        self.steps += 1
        if self.steps % 3 == 0:
            self.masks = {
                name: torch.rand(mask.shape, generator=self.rng) < 0.7
                for name, mask in self.masks.items()
            }
            self.drawn.append(float(torch.rand((), generator=self.rng)))
            self.report["rewired"] = self.steps
        self.ages = {
            name: mask.int() + self.ages.get(name, 0) * mask for name, mask in self.masks.items()
        }
        apply_masks(model, self.masks)


def deep(seed: int) -> nn.Module:
    """A net with buffers (BatchNorm) and with draws from torch's global generator (dropout)."""
    torch.manual_seed(seed)
    layers = OrderedDict(
        flat=nn.Flatten(),
        first=nn.Linear(16, 6),
        norm=nn.BatchNorm1d(6),
        relu=nn.ReLU(),
        drop=nn.Dropout(0.3),
        last=nn.Linear(6, 3, bias=False),
    )
    return nn.Sequential(layers)


def rewiring(model: nn.Module, seed: int) -> Rewiring:
    rng = Generator().manual_seed(seed)
    return Rewiring(
        half_masks(model, seed), rng, {"gate": torch.randn(6, generator=rng).requires_grad_()}
    )


def outcome(model: nn.Module, masking: Rewiring, done: Trained) -> dict[str, Any]:
    """All results of a training except the seconds."""
    return {
        **{f"model/{name}": t for name, t in model.state_dict().items()},
        **{f"masks/{name}": t for name, t in masking.masks.items()},
        **{f"ages/{name}": t for name, t in masking.ages.items()},
        **{f"momentum/{name}": t for name, t in done.momentum.items()},
        **{
            f"snapshot/{epoch}/{name}": t
            for epoch, state in done.snapshots.items()
            for name, t in state.items()
        },
        "gate": masking.trainable["gate"].detach(),
        "generator": masking.rng.get_state(),
        "torch": torch.get_rng_state(),
        "plain": (done.history, done.epoch, masking.report, masking.steps, masking.drawn),
    }


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one.keys() == other.keys() and all(
        torch.equal(v, other[k]) if isinstance(v, Tensor) else v == other[k] for k, v in one.items()
    )


def train_with(loop: LoopOptions, seed: int) -> dict[str, Any]:
    """Build net and masking as a new process would, train, and return the results.

    A resumed training with another seed shows that everything is restored from the checkpoint.
    """
    model = deep(seed)
    masking = rewiring(model, seed)
    torch.manual_seed(seed)
    return outcome(
        model,
        masking,
        fit(
            model,
            recipe(2, lr_schedule=Cosine()),
            masking,
            loop=loop,
            snapshots=frozenset({1}),
        ),
    )


STEPS = 8  # two epochs of four batches


@pytest.fixture(scope="module")
def uninterrupted() -> dict[str, Any]:
    return train_with(LoopOptions(), seed=0)


def stop_at(step: int) -> Any:
    calls = iter(range(1, 100))
    return lambda: next(calls) == step


@pytest.mark.parametrize("step", range(1, STEPS + 1))
def test_a_training_stopped_at_any_step_resumes_to_the_same_bits(
    step: int, tmp_path: Path, uninterrupted: dict[str, Any]
) -> None:
    file = tmp_path / "checkpoint.pt"
    with pytest.raises(Stopped):
        train_with(LoopOptions(checkpoint=file, stop=stop_at(step)), seed=0)
    rows: list[dict[str, Any]] = []
    assert same(
        train_with(LoopOptions(checkpoint=file, epoch_done=rows.append), seed=100 + step),
        uninterrupted,
    )
    # earlier epochs are reported again, because metrics.jsonl and loggers start anew
    assert [row["epoch"] for row in rows] == [1, 2]


def test_a_training_stopped_after_every_step_ends_with_the_same_bits(
    tmp_path: Path, uninterrupted: dict[str, Any]
) -> None:
    for seed in range(STEPS):
        with pytest.raises(Stopped):
            train_with(LoopOptions(checkpoint=tmp_path / "c.pt", stop=lambda: True), seed)
    assert same(
        train_with(LoopOptions(checkpoint=tmp_path / "c.pt", stop=lambda: True), seed=99),
        uninterrupted,
    )


def test_checkpoints_and_callbacks_do_not_change_the_result(
    tmp_path: Path, uninterrupted: dict[str, Any]
) -> None:
    assert same(
        train_with(
            LoopOptions(checkpoint=tmp_path / "c.pt", every=0.0, progress=lambda *_: None), seed=0
        ),
        uninterrupted,
    )
    assert (tmp_path / "c.pt").is_file()
    # the comparison detects differences
    assert not same(train_with(LoopOptions(), seed=1), uninterrupted)


def test_a_killed_training_resumes_from_its_last_checkpoint(
    tmp_path: Path, uninterrupted: dict[str, Any]
) -> None:
    class Killed(Exception):
        pass

    def die(done: int, total: int, what: str) -> None:
        if done == 6:  # before the checkpoint of step 6
            raise Killed

    with pytest.raises(Killed):
        train_with(LoopOptions(checkpoint=tmp_path / "c.pt", every=0.0, progress=die), seed=0)
    assert same(train_with(LoopOptions(checkpoint=tmp_path / "c.pt"), seed=5), uninterrupted)


def test_a_training_without_a_checkpoint_file_can_be_stopped() -> None:
    ticks: list[int] = []
    with pytest.raises(Stopped):
        fit(
            linear(),
            recipe(),
            loop=LoopOptions(
                stop=stop_at(3), progress=lambda done, total, what: ticks.append(done)
            ),
        )
    assert ticks == [1, 2, 3]


def test_the_seconds_of_all_attempts_are_added(tmp_path: Path) -> None:
    file = tmp_path / "c.pt"
    with pytest.raises(Stopped):
        fit(linear(), recipe(), loop=LoopOptions(checkpoint=file, stop=stop_at(3)))
    state = load_checkpoint(file)
    assert state is not None
    first = state["done"]["seconds"]
    assert first > 0
    state["done"]["seconds"] = 5000.0 + first  # as if the first attempt had been long
    save_checkpoint(file, state)
    with pytest.raises(Stopped):
        fit(linear(), recipe(), loop=LoopOptions(checkpoint=file, stop=stop_at(2)))
    stopped = load_checkpoint(file)
    assert stopped is not None
    second = stopped["done"]["seconds"]
    done = fit(linear(), recipe(), loop=LoopOptions(checkpoint=file))
    assert 5000.0 + first < second < done.seconds < 6000.0


@dataclass
class Several:
    """A masking with generators and tensors inside containers."""

    masks: Masks
    rngs: list[Generator]
    pair: tuple[Generator, float]
    nested: dict[str, list[Tensor]]
    trainable: dict[str, Tensor] = field(default_factory=dict)
    train_weights: bool = True
    report: dict[str, Finding] = field(default_factory=dict)

    def weights(self, model: nn.Module, step: int) -> dict[str, Tensor]:
        return {}

    def before_step(self, model: nn.Module, opt: Optimizer, step: int) -> None:
        noise = sum(torch.randn(3, 16, generator=rng) for rng in (*self.rngs, self.pair[0]))
        grad = model.get_parameter("fc.weight").grad
        assert grad is not None and isinstance(noise, Tensor)
        grad.add_(noise * self.pair[1])
        self.nested["seen"].append(noise[0].clone())

    def after_step(self, model: nn.Module, step: int) -> None:
        pass


def test_generators_and_tensors_inside_lists_and_tuples_are_resumed(tmp_path: Path) -> None:
    def finish(loop: LoopOptions, seed: int) -> tuple[dict[str, Tensor], Several]:
        model = linear()
        first, second, third = (Generator().manual_seed(seed + i) for i in range(3))
        masking = Several(full_masks(model), [first, second], (third, 0.1), {"seen": []})
        fit(model, recipe(1), masking, loop=loop)
        return model.state_dict(), masking

    weights, masking = finish(LoopOptions(), seed=0)
    with pytest.raises(Stopped):
        finish(LoopOptions(checkpoint=tmp_path / "c.pt", stop=stop_at(2)), seed=0)
    resumed, other = finish(LoopOptions(checkpoint=tmp_path / "c.pt"), seed=50)
    assert all(torch.equal(t, resumed[name]) for name, t in weights.items())
    assert torch.equal(torch.stack(masking.nested["seen"]), torch.stack(other.nested["seen"]))


# --- further options of a stage


@pytest.mark.parametrize(
    ("every", "tested"), [(1, [1, 2, 3, 4, 5]), (2, [2, 4, 5]), (3, [3, 5]), (7, [5]), (0, [5])]
)
def test_the_option_test_every_selects_the_tested_epochs_and_changes_nothing_else(
    every: int, tested: list[int]
) -> None:
    passes, data = [], make_loaders(validation=True)

    def counted() -> Iterable[Batch]:
        passes.append(1)
        return data.test()

    often = deep(0)
    all_rows = fit(often, recipe(5), data=data).history
    seldom = deep(0)
    rows = fit(
        seldom, recipe(5, test_every=every), data=Loaders(data.training, counted, data.validation)
    ).history
    nothing = dict.fromkeys(("test_loss", "accuracy", "accuracy_top5", "val_accuracy"))
    assert rows == [row if row["epoch"] in tested else row | nothing for row in all_rows]
    assert len(passes) == len(tested)
    assert same(often.state_dict(), seldom.state_dict())


def test_a_run_tested_only_at_the_end_has_the_same_final_accuracy(
    tmp_path: Path,
) -> None:
    # three epochs
    overrides = ("method=dense", "model=mlp", "model.hidden=[8]", "train.scale=0.02")
    always, _ = perform_run(compose_run(*overrides), machine(tmp_path))
    seldom, artefacts = perform_run(
        compose_run(*overrides, "train.test_every=0"), machine(tmp_path)
    )
    # the second record contains less, so it cannot replace the first
    assert seldom["run_id"] != always["run_id"]
    assert (seldom["epochs"], seldom["accuracy"], seldom["test_loss"]) == (
        3,
        always["accuracy"],
        always["test_loss"],
    )
    assert seldom["accuracy_best"] == seldom["accuracy"]
    rows = artefacts["dense"].meta["history"]
    assert [row["accuracy"] for row in rows] == [None, None, seldom["accuracy"]]
    assert all(row["train_loss"] > 0 for row in rows)


SCHEDULES = [Step(), OneCycle(), Trapezoid(), WarmupCosine()]


def test_a_snapshot_is_the_state_after_that_epoch_of_the_full_schedule() -> None:
    model = deep(0)
    done = fit(model, recipe(3, lr_schedule=Cosine()), snapshots=frozenset({1, 3}))
    assert set(done.snapshots) == {1, 3}
    assert same(done.snapshots[3], model.state_dict())
    early = deep(0)
    part = fit(early, recipe(3, lr_schedule=Cosine()), stop_after=1)
    assert same(done.snapshots[1], early.state_dict())
    assert part.history == done.history[:1]
    assert not same(done.snapshots[1], done.snapshots[3])
    assert not any(t.requires_grad for t in done.snapshots[1].values())


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_two_halves_with_the_same_momentum_equal_one_training(schedule: LrSchedule) -> None:
    whole, halves = linear(), linear()
    done = fit(whole, recipe(4, lr_schedule=schedule))
    first = fit(halves, recipe(4, lr_schedule=schedule), stop_after=2)
    second = fit(halves, recipe(4, first_epoch=2, lr_schedule=schedule), momentum=first.momentum)
    assert same(whole.state_dict(), halves.state_dict())
    assert same(done.momentum, second.momentum)
    assert first.history + second.history == done.history


@dataclass
class Search:
    """A mask search: scores train, weights do not."""

    masks: Masks
    trainable: dict[str, Tensor]
    train_weights: bool = False
    report: dict[str, Finding] = field(default_factory=dict)

    def weights(self, model: nn.Module, step: int) -> dict[str, Tensor]:
        scores = self.trainable["scores"]
        # gradients of the previous step are cleared
        assert scores.grad is None or not scores.grad.any()
        return {"fc.weight": model.get_parameter("fc.weight").detach() * scores}

    def before_step(self, model: nn.Module, opt: Optimizer, step: int) -> None:
        pass

    def after_step(self, model: nn.Module, step: int) -> None:
        pass


def test_a_mask_search_trains_its_scores_and_not_the_weights() -> None:
    model = linear()
    before = {name: t.clone() for name, t in model.state_dict().items()}
    scores = torch.ones(3, 16, requires_grad=True)
    done = fit(model, recipe(4), Search(full_masks(model), {"scores": scores}))
    assert same(before, model.state_dict()) and done.momentum == {}
    assert torch.count_nonzero(scores != 1) > 0
    # evaluation uses the replaced weights: a net with these weights gives the same numbers
    reference = linear()
    with torch.no_grad():
        reference.get_parameter("fc.weight").mul_(scores)
    found = evaluate(reference, list[Batch](make_loaders().test()), {}, NO_CAST)
    assert (done.history[-1]["accuracy"], done.history[-1]["test_loss"]) == pytest.approx(
        (found.accuracy, found.loss), rel=1e-6
    )


def test_hooks_are_called_in_order_with_the_step_in_the_whole_schedule() -> None:
    calls: list[tuple[str, int]] = []

    @dataclass
    class Listening(FixedMasking):
        def weights(self, model: nn.Module, step: int) -> dict[str, Tensor]:
            calls.append(("weights", step))
            assert all(p.grad is None or not p.grad.any() for p in model.parameters())
            return {}

        def before_step(self, model: nn.Module, opt: Optimizer, step: int) -> None:
            calls.append(("before", step))
            assert all(p.grad is not None for p in model.parameters())

        def after_step(self, model: nn.Module, step: int) -> None:
            calls.append(("after", step))

    model = linear()
    fit(model, recipe(2, first_epoch=1), Listening(full_masks(model)))
    steps: Iterable[int] = range(4, 8)
    in_steps = [(what, step) for step in steps for what in ("weights", "before", "after")]
    # the last call is for the evaluation, with the last step
    assert calls == [*in_steps, ("weights", 7)]


def test_a_parameter_with_gradient_none_is_not_updated() -> None:
    @dataclass
    class Resting(FixedMasking):
        def before_step(self, model: nn.Module, opt: Optimizer, step: int) -> None:
            model.get_parameter("fc.weight").grad = None

    model = linear()
    before = {name: t.clone() for name, t in model.state_dict().items()}
    fit(model, recipe(2), Resting(full_masks(model)))  # no weight decay either
    assert torch.equal(model.get_parameter("fc.weight"), before["fc.weight"])
    assert not torch.equal(model.get_parameter("fc.bias"), before["fc.bias"])
