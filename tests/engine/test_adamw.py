"""train.optimizer=adamw: torch's own, a loop in float64, masks, checkpoints, methods, refusals."""

from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support import compose_run, machine, perform_run
from torch import Generator, Tensor, nn

from pruners.base import FixedMasking, Masks, apply_masks, full_masks
from pruners.dynamic.rewire import reset_momentum
from runner.config.named_parts import named_part
from runner.config.own_parts import OPTIMIZER, part_names
from runner.data.base import Split
from runner.data.batches import Batches, evaluation_batches
from runner.display.progress import Watcher, display
from runner.engine.context import RunContext
from runner.engine.optim import learning_rate, make_optimizer, parameter_of
from runner.engine.store import Store
from runner.engine.train import Loaders, LoopOptions, Trained, train
from runner.engine.train_stage import ready_to_train
from runner.errors import ConfigError, Stopped
from runner.spec.identity import run_id
from runner.spec.lr_schedule import Cosine
from runner.spec.optimizer import AdamW, Sgd
from runner.spec.recipe import Recipe

MLP = ["dataset=digits", "model=mlp", "model.hidden=[16]", "train.scale=0.0125"]
ADAMW = ["train.optimizer=adamw", "train.lr=0.005"]
BUFFERS = ("exp_avg", "exp_avg_sq")


def recipe(epochs: int = 3, **options: Any) -> Recipe:
    return Recipe(
        **{
            "epochs": epochs,
            "lr": 0.02,
            "batch_size": 5,
            "momentum": 0.9,
            "weight_decay": 0.05,
            "lr_schedule": Cosine(),
            "optimizer": AdamW(),
            **options,
        }
    )


def split(count: int, seed: int) -> Split:
    """Random grey images of 4x4 pixels with labels of three classes."""
    rng = Generator().manual_seed(seed)
    images = torch.randint(0, 17, (count, 1, 4, 4), generator=rng, dtype=torch.uint8)
    return Split(images, torch.randint(0, 3, (count,), generator=rng))


def loaders() -> Loaders:
    """18 training images in batches of 5, 5, 5 and 3."""
    values = torch.tensor([0.5]), torch.tensor([0.25]), 16.0
    test = split(12, 1)
    return Loaders(
        Batches(split(18, 0), *values, 5, "none", 3, "dense"),
        lambda: evaluation_batches(test, *values, 1000),
    )


def linear() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(OrderedDict(flat=nn.Flatten(), fc=nn.Linear(16, 3)))


def half_masks(model: nn.Module) -> Masks:
    rng = Generator().manual_seed(5)
    return {
        name: torch.rand(mask.shape, generator=rng) < 0.5
        for name, mask in full_masks(model).items()
    }


def fit(
    model: nn.Module,
    how: Recipe,
    masks: Masks | None = None,
    loop: LoopOptions | None = None,
    **options: Any,
) -> Trained:
    masking = FixedMasking(masks or full_masks(model))
    loop = loop or LoopOptions()
    return train(model, masking, how, loaders(), F.cross_entropy, loop, **options)


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(t, other[n]) for n, t in one.items())


# --- steps


@pytest.mark.parametrize("decay", [None, 0.0, 0.3])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_weights_and_trainables_are_updated_as_by_two_of_torchs_optimizers(
    decay: float | None, momentum: float
) -> None:
    model = nn.Linear(3, 2)
    scores = torch.linspace(-1, 1, 6).view(2, 3).requires_grad_()
    masking = FixedMasking(full_masks(model), trainable={"weight": scores})
    how = recipe(momentum=momentum, trainable_decay=decay, optimizer=AdamW(beta2=0.95, eps=1e-6))
    ours = make_optimizer(model, masking, how)
    mine = [*model.parameters(), scores]
    theirs = [p.detach().clone().requires_grad_() for p in mine]
    settings: dict[str, Any] = {"lr": 0.02, "betas": (momentum, 0.95), "eps": 1e-6}
    other = 0.05 if decay is None else decay
    references = [
        torch.optim.AdamW(theirs[:2], weight_decay=0.05, **settings),
        torch.optim.AdamW(theirs[2:], weight_decay=other, **settings),
    ]
    rng = Generator().manual_seed(1)
    for _ in range(5):
        for one, two in zip(mine, theirs, strict=True):
            one.grad = torch.randn(one.shape, generator=rng)
            two.grad = one.grad.clone()
        for opt in (ours, *references):
            opt.step()
    assert all(torch.equal(one, two) for one, two in zip(mine, theirs, strict=True))


def test_the_first_two_steps_agree_with_ones_worked_by_hand() -> None:
    # w = 2, lr 0.1, decay 0.5, gradients 3 and -1. The first step moves by lr in the direction of
    # the gradient's sign: w = 2 (1 - 0.05) - 0.1 = 1.8. Then m = 0.9 (0.3) - 0.1 = 0.17, divided by
    # 1 - 0.81: 0.894737; v = 0.99 (0.09) + 0.01 = 0.0991, divided by 1 - 0.9801: 4.979899.
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 2.0)
    how = recipe(lr=0.1, weight_decay=0.5, optimizer=AdamW(beta2=0.99))
    opt = make_optimizer(model, FixedMasking({}), how)
    found = []
    for gradient in (3.0, -1.0):
        model.weight.grad = torch.tensor([[gradient]])
        opt.step()
        found.append(float(model.weight.detach()))
    second = 1.8 * 0.95 - 0.1 * (0.17 / 0.19) / (0.0991 / 0.0199) ** 0.5
    assert found == pytest.approx([1.8, second], rel=1e-6)


def in_float64(model: nn.Module, how: Recipe, masks: Masks) -> list[np.ndarray]:
    """Weights, biases and their moments after softmax regression by AdamW, in NumPy."""
    w, b = (p.detach().double().numpy().copy() for p in model.parameters())
    keep = masks["fc.weight"].numpy()
    values = [w * keep, b]
    first, second = ([np.zeros_like(v) for v in values] for _ in range(2))
    training, step = loaders().training, 0
    for epoch in range(how.epochs):
        for x, y in training.epoch(epoch):
            inputs = x.flatten(1).double().numpy()
            logits = inputs @ values[0].T + values[1]
            p = np.exp(logits - logits.max(1, keepdims=True))
            p /= p.sum(1, keepdims=True)
            error = (p - np.eye(3)[y.numpy()]) / len(y)
            lr = learning_rate(how, step, training.steps_per_epoch)
            step += 1
            for i, g in enumerate((error.T @ inputs * keep, error.sum(0))):
                first[i] = 0.9 * first[i] + 0.1 * g
                second[i] = 0.999 * second[i] + 0.001 * g**2
                m, v = first[i] / (1 - 0.9**step), second[i] / (1 - 0.999**step)
                values[i] = values[i] * (1 - lr * how.weight_decay) - lr * m / (v**0.5 + 1e-8)
    return [*values, *first, *second]


def test_a_masked_training_agrees_with_float64_and_its_pruned_moments_are_zero() -> None:
    model, how = linear(), recipe(4)
    masks = half_masks(model)
    apply_masks(model, masks)
    expected = in_float64(linear(), how, masks)
    done = fit(model, how, masks)
    names = ("fc.weight", "fc.bias")
    moments = [done.momentum[f"{buffer}/{name}"] for buffer in BUFFERS for name in names]
    for found, value in zip([*model.parameters(), *moments], expected, strict=True):
        np.testing.assert_allclose(found.detach().numpy(), value, rtol=1e-4, atol=1e-6)
    pruned = ~masks["fc.weight"]
    for tensor in (model.get_parameter("fc.weight"), moments[0], moments[2]):
        assert torch.count_nonzero(tensor[pruned]) == 0 and torch.count_nonzero(tensor[~pruned])
    assert float(done.momentum["step/fc.weight"]) == 16  # four epochs of four batches


def test_a_training_equals_a_loop_with_torchs_optimizer_to_the_bit() -> None:
    model, other, how = linear(), linear(), recipe()
    fit(model, how)
    opt = torch.optim.AdamW(other.parameters(), lr=0.02, weight_decay=0.05)
    training, step = loaders().training, 0
    other.train()
    for epoch in range(3):
        for x, y in training.epoch(epoch):
            opt.param_groups[0]["lr"] = learning_rate(how, step, training.steps_per_epoch)
            opt.zero_grad()
            F.cross_entropy(other(x), y).backward()
            opt.step()
            step += 1
    assert same(dict(model.state_dict()), dict(other.state_dict()))


# --- states: halves, checkpoints, new stages, rewiring


def test_two_halves_with_the_same_state_equal_one_training() -> None:
    whole, halves = linear(), linear()
    done = fit(whole, recipe(4))
    first = fit(halves, recipe(4), stop_after=2)
    before = {name: t.clone() for name, t in first.momentum.items()}
    second = fit(halves, recipe(4, first_epoch=2), momentum=first.momentum)
    assert same(dict(whole.state_dict()), dict(halves.state_dict()))
    assert same(done.momentum, second.momentum) and first.history + second.history == done.history
    assert same(first.momentum, before)  # the tensors of the caller are unchanged


@pytest.mark.parametrize("step", [1, 4, 6, 11])
def test_a_stopped_training_resumes_to_the_same_bits(step: int, tmp_path: Path) -> None:
    whole, parts, file = linear(), linear(), tmp_path / "checkpoint.pt"
    done = fit(whole, recipe())
    calls = iter(range(1, 100))
    with pytest.raises(Stopped):
        fit(parts, recipe(), loop=LoopOptions(checkpoint=file, stop=lambda: next(calls) == step))
    resumed = linear()
    nn.init.zeros_(resumed.get_parameter("fc.weight"))  # everything is restored from the file
    again = fit(resumed, recipe(), loop=LoopOptions(checkpoint=file))
    assert same(dict(whole.state_dict()), dict(resumed.state_dict()))
    assert same(done.momentum, again.momentum) and done.history == again.history


def test_finetuning_that_resumes_takes_the_masked_moments_and_the_number_of_steps(
    tmp_path: Path,
) -> None:
    run = compose_run("method=imc", "density=0.3", "retrain=finetune", *MLP, *ADAMW)
    _, artefacts = perform_run(run, where := machine(tmp_path))
    watcher = Watcher(tmp_path / "run", display("none", None), {})
    context = RunContext(run, where, Store(where.cache_dir), watcher)
    stage = run.stage("train")
    assert stage.start.resume
    _, masking, state = ready_to_train(context, stage)
    before = artefacts[stage.start.stage].optimizer
    assert state.keys() == before.keys() and len(state) == 3 * 4  # two layers with biases
    for key, tensor in before.items():
        mask = masking.masks.get(parameter_of(key))
        expected = tensor if mask is None or tensor.dim() == 0 else tensor * mask
        assert torch.equal(state[key], expected)
    assert float(state["step/fc1.weight"]) > 0
    assert torch.count_nonzero(state["exp_avg/fc1.weight"]) < before["exp_avg/fc1.weight"].numel()


def test_rewiring_resets_both_moments_and_not_the_number_of_steps() -> None:
    model = nn.Linear(4, 3)
    opt = make_optimizer(model, FixedMasking({}), recipe())
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    where = {"weight": torch.zeros(3, 4, dtype=torch.bool)}
    where["weight"][:, 2] = True
    reset_momentum(model, opt, where)  # allowed before the first step, without effect
    opt.step()
    reset_momentum(model, opt, where)
    state = opt.state[model.weight]
    for buffer in BUFFERS:
        assert torch.equal(state[buffer] == 0, where["weight"])
        assert torch.count_nonzero(opt.state[model.bias][buffer]) == 3
    assert float(state["step"]) == 1


@pytest.mark.parametrize(
    "words",
    [
        ["method=rigl", "density=0.2"],
        ["method=set", "density=0.2"],
        ["method=dsr", "density=0.2"],
        ["method=imp", "density=0.5", "retrain=rewind"],
        ["method=snip", "density=0.2", "start=dense", "retrain=finetune"],
        ["method=sr_popup", "density=0.2", "retrain=finetune"],
        ["method=continuous_sparsification", "density=0.2", "method.nesterov=false"],
    ],
    ids=lambda words: words[0],
)
def test_methods_keep_pruned_weights_and_their_moments_at_zero(
    words: list[str], tmp_path: Path
) -> None:
    run = compose_run(*words, *MLP, *ADAMW)
    record, artefacts = perform_run(run, machine(tmp_path))
    assert record["accuracy"] > 15  # after two epochs; chance is 10
    last = artefacts[run.stages[-1].name]
    assert last.masks
    for name, mask in last.masks.items():
        tensors = [last.weights[name]]
        tensors += [last.optimizer[f"{b}/{name}"] for b in BUFFERS if last.optimizer]
        assert all(torch.count_nonzero(t[~mask.cpu()]) == 0 for t in tensors)


# --- options


def test_files_give_the_classes_with_default_options() -> None:
    assert {name: named_part(OPTIMIZER, name, "key") for name in part_names(OPTIMIZER)} == {
        "sgd": Sgd(),
        "adamw": AdamW(),
    }


def test_the_optimizer_is_part_of_the_identity_and_sgd_is_its_default() -> None:
    run = compose_run("method=dense", *MLP)
    assert run_id(compose_run("method=dense", *MLP, "train.optimizer=sgd")) == run_id(run)
    assert run_id(compose_run("method=dense", *MLP, "train.optimizer=adamw")) != run_id(run)
    assert run.stages[0].recipe is not None and run.stages[0].recipe.optimizer == Sgd()


def test_an_own_file_sets_other_options(tmp_path: Path) -> None:
    (tmp_path / "optimizer").mkdir()
    (tmp_path / "optimizer" / "mine.yaml").write_text("_target_: adamw\nbeta2: 0.95\n")
    run = compose_run(
        "method=dense", *MLP, f"hydra.searchpath=[file://{tmp_path}]", "train.optimizer=mine"
    )
    assert run.stages[0].recipe is not None
    assert run.stages[0].recipe.optimizer == AdamW(beta2=0.95)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["method=dense", "train.optimizer=adam"], "train.optimizer=adam must be one of adamw, s"),
        (["method=dense", "train.optimizer=3"], "train.optimizer=3 must be one of adamw, sgd"),
        (
            ["method=deep_r", "density=0.2", "train.optimizer=adamw"],
            "train.optimizer=adamw: this method adds its pull to zero and its noise to the",
        ),
        (
            ["method=continuous_sparsification", "density=0.2", "train.optimizer=adamw"],
            "train.optimizer=adamw: this method uses Nesterov momentum, which only SGD has; take",
        ),
    ],
)
def test_what_does_not_fit_gives_an_error(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compose_run(*words, *MLP)
    assert len(caught.value.messages) == 1 and message in caught.value.messages[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beta2": 1.0}, r"beta2=1 must be in \[0, 1\)"),
        ({"eps": 0.0}, "eps=0 must be above 0"),
    ],
)
def test_an_invalid_option_gives_an_error(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AdamW(**options)
