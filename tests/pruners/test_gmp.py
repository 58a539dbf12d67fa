"""Gradual magnitude pruning (docs/methods/gmp.md): densities, masks by sorting, whole runs."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_nets import linear, mlp, pruner
from sparse_training import copied, every, momentum, run_with_stops, same, train_steps, training
from support import compose_run, machine, perform_run
from torch import nn
from torch.optim import SGD

from pruners.base import FixedMasking, Masks, Task, count_kept, count_prunable, full_masks
from pruners.dynamic.gmp import Descent, GmpMasking, GradualPruning
from pruners.dynamic.rewire import UpdateSchedule
from pruners.scores.magnitude import Magnitude
from pruners.selection.allocate import Erk, Global, Layer

RUN = ["method=gmp", "dataset=digits", "density=0.1"]
SMALL = [*RUN, "model=mlp", "model.hidden=[16]", "train.scale=0.025"]  # four epochs of 15 steps


def gradual(rhythm: UpdateSchedule, allocate: Any = None, **options: Any) -> GradualPruning:
    return GradualPruning(rhythm, pruner(Magnitude(), allocate=allocate or Layer()), **options)


def begun(method: GradualPruning, density: float = 0.1) -> tuple[nn.Module, GmpMasking]:
    """64-30-20-10 and its masking, in a training of 100 steps."""
    model = mlp()
    return model, method(model, full_masks(model), replace(training(), density=density))


# --- the densities of Eq. 1


def equation(t: int, t0: int, n: int, period: int, initial: float, final: float) -> float:
    """Eq. 1 for sparsities, as a density."""
    s_i, s_f = 1 - initial, 1 - final
    return 1 - (s_f + (s_i - s_f) * (1 - (t - t0) / (n * period)) ** 3)


def test_densities_equal_an_example_worked_by_hand() -> None:
    # From 1 to 0.2 in four updates of 10 steps after step 5: 0.2 + 0.8 * (1, 27/64, 1/8, 1/64, 0).
    found = Descent(begin=5, period=10, updates=4, initial=1.0, final=0.2)
    assert [found.density(t) for t in (5, 15, 25, 35, 45)] == pytest.approx(
        [1.0, 0.5375, 0.3, 0.2125, 0.2], abs=1e-12
    )
    assert {found.density(t) for t in (0, 4, 6, 14, 46, 55, 105)} == {None}
    assert found.density(45) == 0.2  # not nearly


@given(
    st.integers(0, 500),
    st.integers(1, 200),
    st.integers(1, 60),
    st.floats(0.01, 1.0),
    st.floats(0.01, 1.0),
)
def test_densities_are_those_of_the_equation_and_never_rise(
    begin: int, period: int, updates: int, one: float, other: float
) -> None:
    initial, final = max(one, other), min(one, other)
    found = Descent(begin, period, updates, initial, final)
    times = range(begin, begin + updates * period + 1, period)
    densities = [found.density(t) for t in times]
    assert None not in densities
    expected = [equation(t, begin, updates, period, initial, final) for t in times]
    assert densities == pytest.approx(expected, abs=1e-12)
    assert all(a >= b for a, b in zip(densities, densities[1:], strict=False))
    assert densities[-1] == final


@pytest.mark.parametrize(
    ("steps", "stop", "begin", "period", "expected"),
    [
        (100, 0.5, 0.0, 10, Descent(0, 10, 5, 1.0, 0.1)),
        (100, 0.55, 0.1, 10, Descent(10, 10, 4, 1.0, 0.1)),  # 45 steps hold four periods
        (100, 1.0, 0.0, 10, Descent(0, 10, 9, 1.0, 0.1)),  # none after the last step
        (100, 0.5, 0.2, 200, Descent(20, 30, 1, 1.0, 0.1)),  # a period longer than the time
        (1, 0.5, 0.0, 10, Descent(0, 1, 1, 1.0, 0.1)),
        (2, 0.5, 0.0, 10, Descent(0, 1, 1, 1.0, 0.1)),
    ],
)
def test_updates_are_the_whole_periods_between_begin_and_stop(
    steps: int, stop: float, begin: float, period: int, expected: Descent
) -> None:
    per_epoch = 100 if steps == 100 else steps
    rhythm = UpdateSchedule(f"{period}it", stop, 1, 50_000 // per_epoch, shortest=1)
    about: Task = replace(training(), density=0.1, steps=steps)
    assert gradual(rhythm, begin=begin).descent(about) == expected


def test_the_papers_time_scales_with_the_run() -> None:
    run = compose_run(*RUN[:1], "dataset=cifar10", "model=resnet20", "train=imc", "density=0.1")
    found = run.stage("train").component
    assert [stage.name for stage in run.stages] == ["train"]
    about = replace(training(), density=0.1, epochs=160, steps=160 * 500)
    assert found.descent(about) == Descent(0, 100, 400, 1.0, 0.1)
    short = replace(about, epochs=30, steps=30 * 500)
    assert found.descent(short) == Descent(0, 19, 394, 1.0, 0.1)  # 100 * 30 / 160 = 18.75


# --- masks


def reference(
    weights: Sequence[np.ndarray], masks: Sequence[np.ndarray], density: float, rule: str
) -> list[np.ndarray]:
    """The largest weights among those kept, by sorts in numpy; ties to the lower index."""
    sizes = [w.size for w in weights]
    rank = [np.where(m, np.abs(w), -1.0).ravel() for w, m in zip(weights, masks, strict=True)]
    if rule == "global":
        order = np.argsort(-np.concatenate(rank), kind="stable")[: round(density * sum(sizes))]
        whole = np.zeros(sum(sizes), bool)
        whole[order] = True
        return [
            part.reshape(w.shape)
            for part, w in zip(np.split(whole, np.cumsum(sizes)[:-1]), weights, strict=True)
        ]
    counts = [int(density * size) for size in sizes]
    rest = [counts[i] - density * size for i, size in enumerate(sizes)]
    for i in np.argsort(rest, kind="stable")[: round(density * sum(sizes)) - sum(counts)]:
        counts[i] += 1
    made = []
    for w, r, k in zip(weights, rank, counts, strict=True):
        mask = np.zeros(w.size, bool)
        mask[np.argsort(-r, kind="stable")[:k]] = True
        made.append(mask.reshape(w.shape))
    return made


@pytest.mark.parametrize(("rule", "allocate"), [("layer", Layer()), ("global", Global())])
def test_masks_of_every_update_equal_sorts_of_the_weights_that_are_left(
    rule: str, allocate: Any
) -> None:
    model, masking = begun(gradual(every(10, stop=0.55), allocate, begin=0.1), density=0.13)
    old = copied(masking.masks)
    found = masking._descent
    updates = 0

    def after(step: int, opt: SGD) -> None:
        nonlocal old, updates
        done = step + 1
        density = found.density(done)
        if density is None:
            assert all(torch.equal(m, old[n]) for n, m in masking.masks.items())
        else:
            updates += 1
            kept = [trained[n] for n in old]
            expected = reference(kept, [m.numpy() for m in old.values()], density, rule)
            for (n, mask), wanted in zip(masking.masks.items(), expected, strict=True):
                assert np.array_equal(mask.numpy(), wanted), (n, done)
                assert not (mask & ~old[n]).any()  # pruned stays pruned
            assert count_kept(masking.masks) == round(density * 2720)
        for n, mask in masking.masks.items():
            assert not model.get_parameter(n).detach()[~mask].any()
        old = copied(masking.masks)

    # The weights after the optimizer's step, before the masking prunes: seen through `update`.
    trained: dict[str, np.ndarray] = {}
    update = masking.update

    def seen(net: nn.Module, done: int) -> None:
        trained.update({n: net.get_parameter(n).detach().numpy().copy() for n in masking.masks})
        update(net, done)

    masking.update = seen  # type: ignore[method-assign]
    train_steps(model, masking, 70, after=after)
    assert updates == masking.report["updates"] == 5  # after 10, 20, ... 50 steps
    assert count_kept(masking.masks) == round(0.13 * 2720)


@pytest.mark.parametrize("allocate", [Layer(), Erk(), Global()])
def test_counts_fall_to_the_exact_density_in_every_layer_rule(allocate: Any) -> None:
    model, masking = begun(gradual(every(4, stop=0.6), allocate, initial=0.7), density=0.03)
    totals = [count_kept(masking.masks)]
    assert totals == [round(0.7 * 2720)]  # before the first step
    train_steps(
        model, masking, 80, after=lambda step, opt: totals.append(count_kept(masking.masks))
    )
    assert all(a >= b for a, b in zip(totals, totals[1:], strict=False))
    assert totals[-1] == round(0.03 * 2720) and totals[40] > totals[60] == totals[-1]


def test_momentum_of_pruned_weights_is_cleared_before_the_next_step() -> None:
    model, masking = begun(gradual(every(5)))

    def between(step: int, opt: SGD) -> None:
        for n, mask in masking.masks.items():
            assert not momentum(opt, model, n)[~mask].any()
            grad = model.get_parameter(n).grad
            assert grad is not None and not grad[~mask].any()

    train_steps(model, masking, 60, between=between)


def test_density_one_is_dense_training_bit_for_bit() -> None:
    model, masking = begun(gradual(every(5)), density=1.0)
    dense = mlp()
    train_steps(model, masking, 30)
    train_steps(dense, FixedMasking(full_masks(dense)), 30)
    assert all(
        torch.equal(p, q) for p, q in zip(model.parameters(), dense.parameters(), strict=True)
    )


def test_a_weight_that_would_be_large_later_stays_pruned() -> None:
    model = linear([[4.0, 3.0, 2.0, 1.0]])
    method = gradual(every(1, stop=0.04))  # updates after 0, 1, 2, 3 and 4 steps
    masking = method(model, full_masks(model), replace(training(), density=0.25))
    kept: list[list[bool]] = []
    for step in range(4):
        with torch.no_grad():
            model.weight[0, 3] = 9.0 if step else 1.0
        masking.after_step(model, step)
        kept.append(masking.masks["weight"][0].tolist())
    # 0.25 + 0.75 * (27/64, 1/8, 1/64, 0) of four weights: 2.27, 1.38, 1.05 and 1
    first: Masks = {"weight": torch.tensor([[True, True, False, False]])}
    assert kept[0] == first["weight"][0].tolist() and kept[1:] == [[True, False, False, False]] * 3
    assert model.weight.detach()[0].tolist() == [4.0, 0.0, 0.0, 0.0]


# --- invalid options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"initial": 1.5}, r"method.gradual.initial=1.5 must be in \(0, 1\]"),
        ({"begin": 0.5}, r"method.gradual.begin=0.5 must be in \[0, 1\) and below .*stop=0.5"),
        ({"begin": -0.1}, r"method.gradual.begin=-0.1 must be in \[0, 1\)"),
    ],
)
def test_invalid_options_are_rejected(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        gradual(every(5, stop=0.5), **options)


def test_a_density_above_the_initial_one_is_refused() -> None:
    model = mlp()
    with pytest.raises(ValueError, match=r"density=0.5 is above method.gradual.initial=0.2"):
        gradual(every(5), initial=0.2).check_budget(model, full_masks(model), 0.5)


# --- whole runs


@pytest.mark.parametrize(
    "model",
    [["model=mlp", "model.hidden=[16]"], ["model=resnet20", "model.depth=8", "model.width=4"]],
)
def test_a_run_reaches_its_density_and_trains_on(model: list[str], tmp_path: Path) -> None:
    run = compose_run(*RUN, *model, "train.scale=0.025")
    record, artefacts = perform_run(run, machine(tmp_path))
    last = artefacts["train"].masks
    assert record["kept"] == count_kept(last) == round(0.1 * count_prunable(last))
    assert record["report"]["updates"] == 4  # after 0, 10, 20 and 30 of 60 steps
    assert record["epochs"] == record["epochs_total"] == 4 and record["label"] == "GMP"
    densities = [row["density"] for row in artefacts["train"].meta["history"]]
    # the last update is after the second epoch
    assert densities[0] > densities[1] == densities[3] == record["density"]
    for n, mask in last.items():
        assert not artefacts["train"].weights[n][~mask].any()
        assert not artefacts["train"].optimizer[n][~mask].any()


def test_layers_that_lose_all_weights_are_reported(tmp_path: Path) -> None:
    # 1,184 weights, of which three are kept by one threshold: a layer or its paths are lost
    run = compose_run(*SMALL, "allocate=global", "density=0.0009")
    record, artefacts = perform_run(run, machine(tmp_path))
    assert record["kept"] == 1
    assert record["report"]["empty_layers"] == 1 and record["report"]["connected"] == 0


def test_a_run_stopped_at_and_between_updates_resumes_to_identical_bits(tmp_path: Path) -> None:
    whole, parts, stops = run_with_stops(
        [*SMALL, "method.gradual.begin=0.1", "method.rhythm.stop=0.9"], tmp_path, every=4
    )
    assert stops >= 12 and all(same(whole[name], parts[name]) for name in whole)
