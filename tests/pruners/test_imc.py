"""The IMC prune stage: exact counts, the kept weights of each rule, and the report."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from imc_cases import (
    Constant,
    constant_task,
    conv_bn,
    digits,
    initial,
    make_task,
    mlp,
    quadratic,
    snapshot,
    symmetric,
    train,
)
from torch import Generator, Tensor, nn

from pruners.base import FixedMasking, Masks, Measurement, count_kept, full_masks
from pruners.curvature.gap import Gap
from pruners.curvature.hessian import HessianOptions
from pruners.curvature.imc import Imc, MaskOptions
from pruners.curvature.lipschitz import Lipschitz
from pruners.curvature.problem import Step
from pruners.curvature.select import layer_counts, proportional, select
from pruners.curvature.spectrum import Spectrum, SpectrumOptions

DENSE, DOUBLE = SpectrumOptions(estimator="dense"), HessianOptions(dtype="float64")


def known(
    w: Tensor,
    leverage: list[float],
    diagonal: list[float],
    k: float = 1.0,
    subspace: str = "smoothed_curved",
) -> tuple[nn.Module, Any]:
    """A net of these weights and a task with findings worked by hand: eigenvalues -1, 0, 0, 5
    (smoothed: k = 2 of 4)."""
    spectrum = Measurement(
        tensors={
            "ritz_values": torch.tensor([[-1.0, 0, 0, 5]], dtype=torch.float64),
            "ritz_weights": torch.full((1, 4), 0.25, dtype=torch.float64),
            "leverage/layer.weight": torch.tensor(leverage)[:, None],
            "diagonal/layer.weight": torch.tensor(diagonal)[:, None],
            "projected/layer.weight": torch.tensor([0.1, -9.0, 8.0, 0.2])[:, None],
        },
        report={"dimension": 4, "subspace": subspace, "leverage_ratio": 1.0},
    )
    measured = {"spectrum": spectrum, "lipschitz": Measurement(report={"lipschitz": k})}
    return Constant(w), lambda **more: constant_task(F.cross_entropy, measured=measured, **more)


def kept(masking: FixedMasking) -> list[int]:
    return masking.masks["layer.weight"].flatten().int().tolist()


def full_imc(
    model: nn.Module,
    imc: Imc,
    hessian: HessianOptions = DOUBLE,
    spectrum: SpectrumOptions = DENSE,
    **more: Any,
) -> FixedMasking:
    """All three stages on the digits."""
    start = initial(mlp(1) if isinstance(model[0], nn.Flatten) else conv_bn(1))
    masks = full_masks(model)
    lipschitz = Lipschitz(directions=2)(
        model, masks, make_task(*digits(), measured={"init": start})
    )
    measure = Spectrum(
        hessian, spectrum, imc.mask.subspace, imc.gap, more.get("density"), imc.mask.rule
    )
    found = measure(model, masks, make_task(*digits(), measured={"lipschitz": lipschitz}))
    return imc(
        model,
        masks,
        make_task(*digits(), measured={"lipschitz": lipschitz, "spectrum": found}, **more),
    )


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("leverage_x_w2", [0, 1, 0, 1]),  # 0.9 * 1, 0.5 * 16, 0.2 * 4, 0.1 * 81
        ("leverage", [1, 1, 0, 0]),
        ("projected_weight", [0, 1, 1, 0]),
        ("diag", [0, 0, 1, 1]),  # 1, -3, 6, 2: signed
        ("obd", [0, 0, 1, 1]),  # 0.5, -24, 12, 81
        ("magnitude", [0, 1, 0, 1]),
    ],
)
def test_each_rule_keeps_its_largest_scores(rule: str, expected: list[int]) -> None:
    model, task = known(
        torch.tensor([1.0, -4.0, 2.0, 9.0]), [0.9, 0.5, 0.2, 0.1], [1.0, -3.0, 6.0, 2.0]
    )
    assert kept(Imc(mask=MaskOptions(rule=rule))(model, full_masks(model), task())) == expected


def test_the_random_rule_keeps_the_exact_number_and_repeats_under_a_seed() -> None:
    model, task = known(torch.ones(4), [0.5] * 4, [1.0] * 4)
    masks = [
        kept(Imc(mask=MaskOptions(rule="random"))(model, full_masks(model), task(seed=s)))
        for s in (0, 0, *range(1, 9))
    ]
    assert {sum(m) for m in masks} == {2}
    assert masks[0] == masks[1]
    assert len({tuple(m) for m in masks}) > 1


def test_the_report_states_the_measured_quantities() -> None:
    # Eigenvalues of -H: -5, 0, 0, 1. K = 0.1: the first gap above 0.4 from the top is 1 - 0, so k =
    # 3. K = 1: 5 - 0 > 4, k = 1. Smoothed: the mass above zero is (0 + 1/2 + 1/2 + 1) / 4.
    for k, literal in ((0.1, 3), (1.0, 1), (2.0, None)):
        model, task = known(torch.ones(4), [0.5] * 4, [1.0] * 4, k=k)
        report = Imc()(model, full_masks(model), task()).report
        assert (report["literal_k"], report["k"], report["gap_rule"]) == (
            literal,
            2,
            "smoothed_sign",
        )
        assert (
            report["found_density"],
            report["smoothed_density"],
            report["lipschitz"],
            report["leverage_ratio"],
        ) == (0.5, 0.5, k, 1.0)


def test_ties_keep_the_lower_index() -> None:
    model, task = known(torch.ones(4), [0.5] * 4, [1.0] * 4)
    assert kept(Imc()(model, full_masks(model), task())) == [1, 1, 0, 0]


def test_pruned_weights_become_zero_and_kept_weights_do_not_change() -> None:
    model, task = known(torch.tensor([1.0, -4.0, 2.0, 9.0]), [0.9, 0.5, 0.2, 0.1], [1.0] * 4)
    Imc()(model, full_masks(model), task())
    assert model.layer.weight.flatten().tolist() == [0, -4, 0, 9]


def test_a_given_density_is_exact_for_every_gap() -> None:
    for density, count in ((0.25, 1), (0.75, 3), (1.0, 4)):
        model, task = known(torch.ones(4), [0.5] * 4, [1.0] * 4)
        masking = Imc(Gap(rule="literal"))(model, full_masks(model), task(density=density))
        assert count_kept(masking.masks) == count
        assert (
            masking.report["gap_rule"],
            masking.report["found_density"],
            masking.report["literal_k"],
        ) == ("fixed", density, 1)


def test_the_literal_rule_raises_without_a_gap() -> None:
    model, task = known(torch.ones(4), [0.5] * 4, [1.0] * 4, k=100.0)
    with pytest.raises(
        ValueError,
        match=(
            r"method\.gap\.rule=literal found no gap, of d = 4 with 4K = 400.*density=0\.53.*"
            "The spectrum stays in the cache"
        ),
    ):
        Imc(Gap(rule="literal"))(model, full_masks(model), task())
    masking = Imc(Gap(rule="literal", on_degenerate="fixed", sparsity=0.25))(
        model, full_masks(model), task()
    )
    assert (count_kept(masking.masks), masking.report["gap_rule"], masking.report["literal_k"]) == (
        3,
        "fixed",
        None,
    )


def test_a_density_below_the_layers_minimum_is_refused_before_any_work() -> None:
    model, _ = known(torch.ones(4), [0.5] * 4, [1.0] * 4)
    pruner = Imc(mask=MaskOptions(min_layer_keep=0.5))
    pruner.check_budget(model, full_masks(model), 0.5)
    with pytest.raises(ValueError, match="min_layer_keep=0.5 keeps 2 weights, but the density on"):
        pruner.check_budget(model, full_masks(model), 0.25)


def test_a_missing_cut_of_a_hard_subspace_says_that_the_spectrum_is_measured_again() -> None:
    values = torch.tensor([[0.0] * 200 + [9.0]])
    step = Step("flat", Gap(rule="largest_gap"), None, 0.0)
    with pytest.raises(ValueError, match="no usable cut.*method.mask.subspace=flat depends on"):
        step(values, torch.full((1, 201), 1 / 201), 201)


def test_a_spectrum_of_another_subspace_is_rejected() -> None:
    model, task = known(torch.ones(4), [0.5] * 4, [1.0] * 4, subspace="flat")
    with pytest.raises(
        ValueError,
        match=r"method\.mask\.subspace=smoothed_curved, but the spectrum was measured for flat",
    ):
        Imc()(model, full_masks(model), task())
    # this rule does not use the spectrum
    assert sum(kept(Imc(mask=MaskOptions(rule="obd"))(model, full_masks(model), task()))) == 2


def test_missing_measurements_are_named() -> None:
    model = Constant(torch.ones(4))
    with pytest.raises(ValueError, match=r"needs: \[spectrum, lipschitz\]"):
        Imc()(model, full_masks(model), constant_task(F.cross_entropy))


def test_a_diagonal_hessian_keeps_its_steep_coordinates() -> None:
    # Curvature 3, -1, 2, -2, 5, -3 and equal weights: the three positive ones are kept, at the
    # found density of one half.
    a = torch.diag(torch.tensor([3.0, -1, 2, -2, 5, -3], dtype=torch.float64))
    model = Constant(torch.ones(6, dtype=torch.float64))
    masks, task = full_masks(model), constant_task(quadratic(a))
    found = Spectrum(hessian=DOUBLE, spectrum=DENSE)(model, masks, task)
    lipschitz = Measurement(report={"lipschitz": 0.0})
    masking = Imc()(
        model,
        masks,
        constant_task(quadratic(a), measured={"spectrum": found, "lipschitz": lipschitz}),
    )
    assert kept(masking) == [1, 0, 1, 0, 1, 0]
    assert masking.report["literal_k"] == 5  # d - 1 for K = 0


@pytest.mark.parametrize("estimator", ["dense", "slq"])
def test_dead_units_are_pruned_first(estimator: str) -> None:
    h = torch.zeros(12, 12, dtype=torch.float64)
    h[2:10, 2:10] = symmetric(torch.linspace(0.5, 3, 8))
    w = torch.ones(12, dtype=torch.float64)
    w[:2] = 100.0  # magnitude pruning would keep them
    for rule in ("leverage_x_w2", "leverage"):
        model = Constant(w)
        spectrum = Spectrum(DOUBLE, SpectrumOptions(estimator=estimator), "curved", density=0.5)(
            model, full_masks(model), constant_task(quadratic(h))
        )
        task = constant_task(
            quadratic(h),
            density=0.5,
            measured={"spectrum": spectrum, "lipschitz": Measurement(report={"lipschitz": 0.0})},
        )
        mask = kept(
            Imc(mask=MaskOptions(rule=rule, subspace="curved"))(model, full_masks(model), task)
        )
        assert [mask[i] for i in (0, 1, 10, 11)] == [0, 0, 0, 0]
        assert sum(mask) == 6


@pytest.mark.parametrize("rule", ["leverage_x_w2", "projected_weight", "obd"])
@pytest.mark.parametrize("subspace", ["smoothed_curved", "curved", "flat", "abs"])
def test_the_stages_together_keep_d_minus_k_and_change_only_prunable_weights(
    rule: str, subspace: str
) -> None:
    model = train(conv_bn(), steps=10)
    before = snapshot(model)
    masking = full_imc(model, Imc(mask=MaskOptions(rule=rule, subspace=subspace)))
    assert set(masking.masks) == {"0.weight", "5.weight"}
    assert count_kept(masking.masks) == 196 - masking.report["k"]
    assert masking.report["leverage_ratio"] == pytest.approx(1.0, abs=1e-3)
    for name, t in model.state_dict().items():
        expected = (
            before["state"][name] * masking.masks[name]
            if name in masking.masks
            else before["state"][name]
        )
        assert torch.equal(t, expected)
    assert [module.training for module in model.modules()] == before["flags"]


def test_the_share_found_among_all_parameters_applies_to_the_prunable_ones() -> None:
    model = train(conv_bn(), steps=10)
    masking = full_imc(model, Imc(), HessianOptions(params="all", dtype="float64"))
    d = sum(p.numel() for p in model.parameters())
    assert masking.report["dimension"] == d == 196 + 10 + 8 + 4
    assert count_kept(masking.masks) == round((1 - masking.report["k"] / d) * 196)


def test_equal_seeds_give_equal_masks_with_the_default_estimator() -> None:
    short = SpectrumOptions(steps=20, probes=3)
    one, two = (full_imc(train(mlp()), Imc(), HessianOptions(), short) for _ in range(2))
    assert all(torch.equal(one.masks[name], two.masks[name]) for name in one.masks)
    assert one.report == two.report
    assert 0.3 < one.report["found_density"] < 0.9


def test_pruned_weights_stay_zero_despite_momentum_and_weight_decay() -> None:
    model = train(mlp())
    masking = full_imc(model, Imc(), density=0.3)
    opt = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)
    for p in model.parameters():
        opt.state[p]["momentum_buffer"] = torch.ones_like(p)  # as if from before pruning
    x, y = digits()
    for step in range(5):
        opt.zero_grad()
        F.cross_entropy(model(x), y).backward()
        masking.before_step(model, opt, step)
        opt.step()
        masking.after_step(model, step)
    for name, mask in masking.masks.items():
        assert int((model.get_parameter(name)[~mask] != 0).sum()) == 0
    assert count_kept(masking.masks) == round(0.3 * 592)


def layers(seed: int, *sizes: int) -> tuple[dict[str, Tensor], Masks]:
    g = Generator().manual_seed(seed)
    # integers: many ties
    scores = {f"l{i}": torch.randint(0, 4, (n,), generator=g).float() for i, n in enumerate(sizes)}
    return scores, {name: torch.ones_like(s, dtype=torch.bool) for name, s in scores.items()}


@settings(max_examples=60)
@given(
    st.lists(st.integers(1, 30), min_size=1, max_size=4),
    st.floats(0.01, 1),
    st.sampled_from(["global", "layer"]),
    st.floats(0, 0.3),
    st.integers(0, 99),
)
def test_selection_keeps_the_exact_count_and_the_minimum_share_of_each_layer(
    sizes: list[int], density: float, scope: str, share: float, seed: int
) -> None:
    scores, masks = layers(seed, *sizes)
    count = max(1, round(density * sum(sizes)))
    floors = {name: math.ceil(share * m.numel()) for name, m in masks.items()}
    if sum(floors.values()) > count:
        with pytest.raises(ValueError, match=r"method\.mask\.min_layer_keep"):
            select(scores, masks, count, scope, share)
        return
    chosen = select(scores, masks, count, scope, share)
    assert count_kept(chosen) == count
    assert all(int(chosen[name].sum()) >= floors[name] for name in chosen)
    for name, mask in chosen.items():  # a layer keeps its largest scores, ties by index
        order = scores[name].argsort(descending=True, stable=True)
        assert sorted(order[: int(mask.sum())].tolist()) == mask.nonzero().flatten().tolist()


def test_global_scope_ranks_all_weights_together_and_layer_scope_each_layer() -> None:
    scores = {"a": torch.tensor([9.0, 8, 7, 6]), "b": torch.tensor([1.0, 2, 3, 4])}
    masks = {name: torch.ones(4, dtype=torch.bool) for name in scores}
    found = {
        scope: [m.int().tolist() for m in select(scores, masks, 4, scope).values()]
        for scope in ("global", "layer")
    }
    assert found == {"global": [[1, 1, 1, 1], [0, 0, 0, 0]], "layer": [[1, 1, 0, 0], [0, 0, 1, 1]]}
    assert [m.int().tolist() for m in select(scores, masks, 4, "global", 0.25).values()] == [
        [1, 1, 1, 0],
        [0, 0, 0, 1],
    ]


def test_pruned_weights_stay_pruned() -> None:
    scores = {"a": torch.tensor([9.0, 8, 7, 6])}
    masks = {"a": torch.tensor([False, True, True, True])}
    assert select(scores, masks, 2)["a"].int().tolist() == [0, 1, 1, 0]
    with pytest.raises(ValueError, match="only 3 are left"):
        select(scores, masks, 4)


def test_counts_are_apportioned_by_largest_remainders() -> None:
    # 10 weights over 7 : 2 : 6 of 15 -> 4.67, 1.33, 4.0 -> 5, 1, 4.
    assert proportional({"a": 7, "b": 2, "c": 6}, 10) == {"a": 5, "b": 1, "c": 4}
    # equal remainders favour the earlier layer
    assert proportional({"a": 1, "b": 1}, 1) == {"a": 1, "b": 0}
    assert layer_counts({"a": 100, "b": 1}, 50, {"a": 10, "b": 1}) == {"a": 49, "b": 1}


def test_invalid_options_are_reported_with_their_full_key() -> None:
    with pytest.raises(ValueError) as error:
        MaskOptions(rule="hessian", subspace="steep", scope="block", min_layer_keep=2.0)
    assert str(error.value).splitlines() == [
        (
            "method.mask.rule='hessian' must be one of leverage_x_w2, leverage, projected_weight,"
            " diag, obd, magnitude, random"
        ),
        "method.mask.subspace='steep' must be one of smoothed_curved, curved, flat, abs",
        "method.mask.scope='block' must be one of global, layer",
        "method.mask.min_layer_keep=2.0 must be in [0, 1]: it is a share of each layer",
    ]
