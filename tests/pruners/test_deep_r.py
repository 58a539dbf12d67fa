"""Deep R (docs/methods/deep_r.md): the step, the sign rule, constant connectivity, whole runs."""

import math
from pathlib import Path

import pytest
import torch
from small_nets import linear
from sparse_training import (
    copied,
    momentum,
    run_with_stops,
    same,
    sparse_mlp,
    train_steps,
    training,
)
from support import compose_run, machine, perform_run
from torch import Tensor
from torch.optim import SGD

from pruners.base import FixedMasking, count_kept, count_prunable
from pruners.dynamic.deep_r import DeepR, crossed
from pruners.selection.allocate import Layer

SMALL = [
    "method=deep_r",
    "method.pruner.classifier=pruned",
    "dataset=digits",
    "model=mlp",
    "model.hidden=[16]",
    "train.scale=0.0125",
    "density=0.2",
]  # two epochs of 15 steps
RULES = ["signed", "flip"]
INTEL = [
    "method.rewire.rule=flip",
    "method.rewire.noise=0.000447",
    "method.rewire.cooling=quarters",
    "method.rewire.stop=0.95",
]


def moved(
    rule: str,
    options: dict[str, object],
    weights: list[float],
    gradient: list[float],
    lr: float = 0.1,
) -> tuple[Tensor, Tensor]:
    """Weights and masks of a layer after one step of plain SGD with these gradients; the layer's
    zeros are dormant."""
    model = linear([weights])
    masking = DeepR(rule=rule, **options)(model, {"weight": model.weight.detach() != 0}, training())
    opt = SGD(model.parameters(), lr=lr)
    model.weight.grad = torch.tensor([gradient])
    masking.before_step(model, opt, 0)
    opt.step()
    masking.after_step(model, 0)
    return model.weight.detach()[0], masking.masks["weight"][0]


# --- one step


def test_a_connection_that_crosses_zero_dies_and_a_dormant_one_is_born() -> None:
    # Without alpha and noise, w - lr g: 0.5 - 0.1, -0.2 + 0.3 (crosses), 0.3 - 0.4 (crosses), -0.4
    # - 0.1.
    weights, mask = moved(
        "flip",
        {"l1": 0.0, "noise": 0.0},
        [0.5, -0.2, 0.3, -0.4, 0.0, 0.0],
        [1.0, -3.0, 4.0, 1.0, 5.0, 5.0],
    )
    # a position that has just died is not born again
    assert mask.tolist() == [True, False, False, True, True, True]
    assert weights.tolist() == pytest.approx([0.4, 0.0, 0.0, -0.5, 0.0, 0.0])
    weights, mask = moved(
        "signed",
        {"l1": 0.0, "noise": 0.0},
        [0.5, -0.2, 0.3, -0.4, 0.0, 0.0],
        [1.0, -3.0, 4.0, 1.0, 5.0, 5.0],
    )
    assert int(mask.sum()) == 4 and mask[0] and mask[3]
    born = weights[mask & (weights.abs() < 0.1)]
    assert len(born) == 2 and torch.equal(born.abs(), torch.full((2,), 1e-12))
    assert weights[[0, 3]].tolist() == pytest.approx([0.4, -0.5])


@pytest.mark.parametrize("rule", RULES)
def test_alpha_shrinks_active_weights_and_no_dormant_ones(rule: str) -> None:
    weights, mask = moved(rule, {"l1": 0.25, "noise": 0.0}, [0.5, -0.2, 0.0], [1.0, 2.0, 9.0])
    assert mask.tolist() == [True, True, False]
    assert weights.tolist() == pytest.approx(
        [0.5 - 0.1 * (1.0 + 0.25), -0.2 - 0.1 * (2.0 - 0.25), 0.0]
    )


@pytest.mark.parametrize("rule", RULES)
def test_noise_on_active_weights_has_deviation_lr_times_noise(rule: str) -> None:
    n, lr, noise = 4000, 0.1, 0.02
    weights, mask = moved(
        rule, {"l1": 0.0, "noise": noise}, [1.0] * n + [0.0] * n, [0.0] * 2 * n, lr
    )
    steps = weights[:n] - 1
    assert mask[:n].all() and not weights[n:].any()
    assert abs(float(steps.mean())) < 4 * lr * noise / math.sqrt(n)
    assert abs(float(steps.std()) - lr * noise) < 4 * lr * noise / math.sqrt(2 * n)


def test_cooling_has_intels_four_temperatures() -> None:
    model, masks = sparse_mlp()
    deviation = math.sqrt(2 * 0.01 * 1e-5)
    masking = DeepR(rule="flip", noise=deviation, cooling="quarters")(model, masks, training())
    temperatures = [masking.deviation(step) ** 2 / 0.02 for step in (0, 24, 25, 49, 50, 74, 75, 99)]
    assert temperatures == pytest.approx([1e-5, 1e-5, 1e-8, 1e-8, 1e-12, 1e-12, 1e-15, 1e-15])
    assert {DeepR(noise=0.1)(model, masks, training()).deviation(step) for step in range(100)} == {
        0.1
    }


def test_prunable_weights_have_no_decay_by_default() -> None:
    for weight_decay, factor in ((False, 1.0), (True, 1 - 0.1 * 0.5)):
        model = linear([[0.5, -0.25, 0.0]])
        masking = DeepR(l1=0.0, noise=0.0, weight_decay=weight_decay)(
            model, {"weight": model.weight.detach() != 0}, training()
        )
        opt = SGD(model.parameters(), lr=0.1, weight_decay=0.5)
        model.weight.grad = torch.zeros(1, 3)
        masking.before_step(model, opt, 0)
        opt.step()
        masking.after_step(model, 0)
        assert model.weight.detach()[0].tolist() == pytest.approx(
            [0.5 * factor, -0.25 * factor, 0.0], rel=1e-6
        )


def test_a_weight_of_zero_has_crossed_only_under_the_signed_rule() -> None:
    weights = torch.tensor([0.5, -0.5, 0.5, 0.0, math.nan])
    signs = torch.tensor([1, 1, -1, 1, 1], dtype=torch.int8)
    assert crossed(weights, signs, "signed").tolist() == [False, True, True, True, False]
    assert crossed(weights, signs, "flip").tolist() == [False, True, True, False, False]


# --- while the net trains


@pytest.mark.parametrize("budget", ["layer", "global"])
@pytest.mark.parametrize("rule", RULES)
def test_connectivity_is_constant_after_every_step_and_dormant_weights_are_zero(
    rule: str, budget: str
) -> None:
    model, masks = sparse_mlp()
    masking = DeepR(rule=rule, budget=budget, l1=1e-3, noise=1e-3)(model, masks, training())
    signs = {n: s.clone() for n, s in masking.signs.items()}
    before: dict[str, tuple[Tensor, Tensor]] = {}
    total, layers, deaths = count_kept(masks), set(), 0

    def watch(step: int, opt: SGD) -> None:
        before.update(
            {
                n: (m.clone(), model.get_parameter(n).detach().clone())
                for n, m in masking.masks.items()
            }
        )

    def between(step: int, opt: SGD) -> None:
        for n, mask in masking.masks.items():
            grad = model.get_parameter(n).grad
            assert grad is not None
            assert not grad[~mask].any()
            assert not momentum(opt, model, n)[~mask].any()

    def after(step: int, opt: SGD) -> None:
        nonlocal deaths
        assert count_kept(masking.masks) == total
        layers.add(tuple(int(m.sum()) for m in masking.masks.values()))
        for n, mask in masking.masks.items():
            old, was = before[n]
            value = model.get_parameter(n).detach()
            assert not value[~mask].any()
            born, died = mask & ~old, old & ~mask
            deaths += int(born.sum()) if rule == "flip" else 0
            if rule == "signed":
                assert torch.equal(masking.signs[n], signs[n])
                assert (value * signs[n])[mask].min() > 0  # theta of active weights
                assert torch.equal(value[born].abs(), torch.full_like(value[born], 1e-12))
            else:
                assert not (value * was)[mask & old].lt(0).any()
                assert not value[born].any() and not (born & died).any()

    train_steps(model, masking, 30, before=watch, between=between, after=after)
    assert (len(layers) == 1) == (budget == "layer")
    assert masking.report["rewired"] > 50
    if rule == "flip":
        assert masking.report["rewired"] == deaths


@pytest.mark.parametrize("rule", RULES)
def test_born_and_dead_connections_have_no_momentum_at_the_next_step(rule: str) -> None:
    model, masks = sparse_mlp()
    masking = DeepR(rule=rule, l1=0.0, noise=0.0)(model, masks, training())
    ever, old = copied(masks), copied(masks)
    again = 0

    def between(step: int, opt: SGD) -> None:
        nonlocal again
        for n, mask in masking.masks.items():
            past, came = momentum(opt, model, n), mask & ~old[n]
            assert not past[came].any() and not past[~mask].any()
            again += int((came & ever[n]).sum())  # these were active before, with momentum
            ever[n] |= mask
        old.update(copied(masking.masks))

    train_steps(model, masking, 60, between=between, lr=0.3)
    assert again > 0


def test_initial_signs_are_those_of_the_net_and_dormant_signs_are_drawn_evenly() -> None:
    model, masks = sparse_mlp()
    masking = DeepR()(model, copied(masks), training())
    for n, mask in masks.items():
        assert torch.equal(
            masking.signs[n][mask].float(), model.get_parameter(n).detach()[mask].sign()
        )
    drawn = torch.cat([masking.signs[n][~mask] for n, mask in masks.items()]).float()
    assert set(drawn.tolist()) == {-1.0, 1.0}
    assert abs(float(drawn.sum())) < 4 * math.sqrt(len(drawn))


@pytest.mark.parametrize("rule", RULES)
def test_nothing_is_rewired_without_alpha_noise_and_rate_and_alpha_raises_turnover(
    rule: str,
) -> None:
    model, masks = sparse_mlp()
    still = DeepR(rule=rule, l1=0.0, noise=0.0)(model, copied(masks), training())
    train_steps(model, still, 10, lr=0.0)
    assert all(torch.equal(still.masks[n], masks[n]) for n in masks)
    assert still.report["rewired"] == 0
    turnover = []
    for l1 in (0.0, 0.01, 0.1):
        model, masks = sparse_mlp()
        masking = DeepR(rule=rule, l1=l1, noise=0.0)(model, masks, training())
        train_steps(model, masking, 30)
        turnover.append(masking.report["rewired"])
    assert 2 * turnover[0] < min(turnover[1:])


@pytest.mark.parametrize("rule", RULES)
def test_after_the_stop_training_is_plain_sparse_training(rule: str) -> None:
    model, masks = sparse_mlp()
    static, _ = sparse_mlp()
    train_steps(
        model,
        DeepR(rule=rule, stop=0.0, l1=0.1, noise=0.1, weight_decay=True)(
            model, copied(masks), training()
        ),
        15,
    )
    train_steps(static, FixedMasking(copied(masks)), 15)
    assert all(
        torch.equal(p, q) for p, q in zip(model.parameters(), static.parameters(), strict=True)
    )
    masking = DeepR(rule=rule, stop=0.1, l1=0.01)(model, masks, training())
    history = []
    train_steps(model, masking, 20, after=lambda step, opt: history.append(copied(masking.masks)))
    assert any(not torch.equal(history[0][n], history[9][n]) for n in masks)
    assert all(torch.equal(history[9][n], late[n]) for late in history[10:] for n in masks)


def test_global_births_follow_the_initial_counts_and_the_free_room() -> None:
    model, masks = sparse_mlp()
    masking = DeepR(budget="global")(model, masks, training())
    masking.budgets = {"fc1.weight": 300, "fc2.weight": 200, "fc3.weight": 100}
    free = dict.fromkeys(masks, 1000)
    assert masking._births({"fc1.weight": 30, "fc2.weight": 0, "fc3.weight": 0}, free) == {
        "fc1.weight": 15,
        "fc2.weight": 10,
        "fc3.weight": 5,
    }
    free["fc2.weight"] = 0  # full: its share goes to the others, 3 : 1
    # 28.5 and 9.5
    assert masking._births({"fc1.weight": 38, "fc2.weight": 2, "fc3.weight": 0}, free) == {
        "fc1.weight": 29,
        "fc2.weight": 2,
        "fc3.weight": 9,
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rule": "sign"}, "method.rewire.rule='sign' must be one of signed, flip"),
        ({"cooling": "fast"}, "cooling='fast' must be one of none, quarters"),
        ({"budget": "net"}, "budget='net' must be one of layer, global"),
        ({"noise": -1.0}, "method.rewire.noise=-1 must be 0 or more"),
        ({"stop": 2.0}, r"method.rewire.stop=2 must be in \[0, 1\]"),
    ],
)
def test_invalid_options_are_rejected(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DeepR(**options)


# --- whole runs


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        [
            "method.rewire.rule=flip",
            "method.rewire.noise=0.000447",
            "method.rewire.cooling=quarters",
            "method.rewire.stop=0.95",
        ],
    ],
)
def test_a_run_keeps_its_connectivity_and_rewires(overrides: list[str], tmp_path: Path) -> None:
    run = compose_run(*SMALL, *overrides)
    if not overrides:
        assert run.stage("train").component == DeepR()
        assert run.stage("prune").component.allocate == Layer()
    record, artefacts = perform_run(run, machine(tmp_path))
    last = artefacts["train"].masks
    assert [int(m.sum()) for m in last.values()] == [205, 32]
    assert record["kept"] == round(0.2 * count_prunable(last))
    assert record["label"] == "Deep-R"
    assert record["report"]["rewired"] > 10
    for n, mask in last.items():
        assert not artefacts["train"].weights[n][~mask].any()
        assert not artefacts["train"].optimizer[n][~mask].any()


@pytest.mark.parametrize(
    "overrides",
    [[], ["method.rewire.rule=flip", "method.rewire.budget=global"]],
    ids=["signed", "flip"],
)
def test_a_run_stopped_anywhere_resumes_to_identical_bits(
    overrides: list[str], tmp_path: Path
) -> None:
    whole, parts, stops = run_with_stops([*SMALL, *overrides], tmp_path, every=4)
    assert stops >= 6 and all(same(whole[name], parts[name]) for name in whole)
