"""Eq. 23 against closed forms: zero on a quadratic, 6 w m^2 on sum w^4 / 4."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from imc_cases import (
    Constant,
    constant_task,
    conv_bn,
    digits,
    initial,
    make_task,
    mlp,
    quadratic,
    quartic,
    snapshot,
    symmetric,
    train,
    unchanged,
)
from torch import Generator, Tensor

from pruners.base import Measurement, full_masks
from pruners.curvature.hessian import HessianOptions
from pruners.curvature.lipschitz import NOTE, Lipschitz, norm_of, second_difference

WSTAR = torch.tensor([1.0, -2.0, 0.5, 3.0], dtype=torch.float64)
# U = (0.5, 0, -0.5, -1): B = 1, |U| = sqrt(1.5)
W0 = torch.tensor([1.5, -2.0, 0.0, 2.0], dtype=torch.float64)


def normal(d: int, seed: int) -> Tensor:
    return torch.randn(d, generator=Generator().manual_seed(seed), dtype=torch.float64)


def on_quartic(lipschitz: Lipschitz, **more: Any) -> dict[str, Any]:
    model = Constant(WSTAR)
    measured = {"init": Measurement(tensors={"layer.weight": W0[:, None]})}
    return lipschitz(
        model, full_masks(model), constant_task(quartic, **{"measured": measured, **more})
    ).report


@pytest.mark.parametrize("delta", [1e-3, 0.01, 1.0])
@pytest.mark.parametrize("p", [1, 2, 5, math.inf])
def test_the_second_difference_of_a_quadratic_is_zero(delta: float, p: float) -> None:
    a, v = symmetric(torch.linspace(-1, 4, 30)), normal(30, 1)
    q = second_difference(lambda w: a @ w, v, normal(30, 2), delta, p)
    assert (
        float(q.abs().max())
        <= 10 * torch.finfo(torch.float64).eps * float((a @ v).norm()) / delta**2
    )


@pytest.mark.parametrize("delta", [0.01, 0.3, 10.0])
@pytest.mark.parametrize("p", [1, 2, 3.5, 10, math.inf])
def test_the_second_difference_of_a_quartic_is_six_w_m_squared(delta: float, p: float) -> None:
    # g = w^3: (w + s)^3 - 2 w^3 + (w - s)^3 = 6 w s^2, and s = delta m with m = M / |M|_p, so q = 6
    # w m^2.
    w, direction = normal(8, 1), normal(8, 2)
    m = direction / (
        direction.abs().max() if p == math.inf else (direction.abs() ** p).sum() ** (1 / p)
    )
    q = second_difference(lambda v: v**3, w, direction, delta, p)
    torch.testing.assert_close(q, 6 * w * m**2, rtol=1e-6, atol=1e-9)
    expected = q.abs().max() if p == math.inf else (q.abs() ** p).sum() ** (1 / p)
    assert norm_of(q, p) == pytest.approx(float(expected))


def test_the_root_is_taken_by_default() -> None:
    q = torch.tensor([3.0, -4.0])
    assert norm_of(q, 2) == 5.0
    assert norm_of(q, 2, root=False) == 25.0
    assert norm_of(q, 1) == 7.0


def test_a_precomputed_centre_gives_the_same_result() -> None:
    def cube(w: Tensor) -> Tensor:
        return w**3

    w, m = normal(8, 1), normal(8, 2)
    assert torch.equal(
        second_difference(cube, w, m, 0.01, centre=cube(w)), second_difference(cube, w, m, 0.01)
    )


@pytest.mark.parametrize(("box", "b"), [("linf", 1.0), ("l2", math.sqrt(1.5))])
def test_the_lipschitz_constant_is_two_b_n(box: str, b: float) -> None:
    m = normal(4, 0)  # the stage's first draw
    n = float((6 * WSTAR * (m / m.norm()) ** 2).norm())
    found = on_quartic(Lipschitz(directions=1, B=box))
    assert found["lipschitz_n"] == pytest.approx(n, rel=1e-6)
    assert found["box"] == pytest.approx(b)
    assert found["lipschitz"] == pytest.approx(2 * b * n, rel=1e-6)
    assert found["lipschitz_sd"] is None


def test_norm_max_is_the_limit_p_to_infinity() -> None:
    m = normal(4, 0)
    found = on_quartic(Lipschitz(directions=1, norm="max"))
    assert found["lipschitz_n"] == pytest.approx(
        float((6 * WSTAR * (m / m.abs().max()) ** 2).abs().max()), rel=1e-6
    )
    assert Lipschitz(norm="max", p=5) == Lipschitz(norm="max")  # p is not used
    with pytest.raises(ValueError, match="take method.lipschitz.norm=max"):
        Lipschitz(p=math.inf)
    with pytest.raises(ValueError, match="take estimator=eq23 or norm=p"):
        Lipschitz(norm="max", estimator="eq23_no_root")


@pytest.mark.parametrize(
    ("where", "point"), [("wstar", WSTAR), ("init", W0), ("midpoint", (WSTAR + W0) / 2)]
)
def test_the_option_selects_the_point_v(where: str, point: Tensor) -> None:
    m = normal(4, 0)
    found = on_quartic(Lipschitz(directions=1, V=where))
    assert found["lipschitz_n"] == pytest.approx(
        float((6 * point * (m / m.norm()) ** 2).norm()), rel=1e-6
    )


def test_a_random_v_stays_in_the_box() -> None:
    # |6 v m^2| <= 6 max|v_i| with |m| = 1, and max|v_i| <= max|w_i| + B = 4. Every direction draws
    # its own V.
    found = on_quartic(Lipschitz(directions=20, V="box"))
    assert 0 < found["lipschitz_min"] < found["lipschitz_max"] <= 24


def test_directions_are_reduced_and_their_spread_is_reported() -> None:
    generator = Generator().manual_seed(0)
    each = []
    for _ in range(5):
        m = torch.randn(4, generator=generator, dtype=torch.float64)
        each.append(float((6 * WSTAR * (m / m.norm()) ** 2).norm()))
    expected = {"max": max(each), "mean": sum(each) / 5, "median": sorted(each)[2]}
    for reduce, n in expected.items():
        found = on_quartic(Lipschitz(directions=5, reduce=reduce))
        assert found["lipschitz_n"] == pytest.approx(n, rel=1e-6)
        assert (found["lipschitz_min"], found["lipschitz_max"]) == pytest.approx(
            (min(each), max(each)), rel=1e-6
        )
        assert found["lipschitz_sd"] == pytest.approx(
            float(torch.tensor(each).std(correction=0)), rel=1e-4
        )


def test_k_has_the_standard_error_of_its_directions_and_is_compared_with_half_of_them() -> None:
    generator, each = Generator().manual_seed(0), []
    for _ in range(6):
        m = torch.randn(4, generator=generator, dtype=torch.float64)
        each.append(2 * float((6 * WSTAR * (m / m.norm()) ** 2).norm()))  # 2 B N with B = 1
    found = on_quartic(Lipschitz(directions=6, reduce="mean"))
    k, half = sum(each) / 6, sum(each[:3]) / 3
    assert found["lipschitz_se"] == pytest.approx(
        float(torch.tensor(each).std()) / 6**0.5, rel=1e-4
    )
    assert found["lipschitz_half"] == pytest.approx(half, rel=1e-6)
    assert found["lipschitz_change"] == pytest.approx(abs(k - half), rel=1e-5)
    assert found["lipschitz_converged"] == int(abs(k - half) <= 0.1 * k)
    one = on_quartic(Lipschitz(directions=1))
    assert (one["lipschitz_se"], one["lipschitz_converged"]) == (None, None)


def test_the_estimator_without_root_sums_the_powers() -> None:
    m = normal(4, 0)
    q = 6 * WSTAR * (m / m.norm(3)) ** 2
    found = on_quartic(Lipschitz(estimator="eq23_no_root", directions=1, p=3))
    assert found["lipschitz_n"] == pytest.approx(float((q.abs() ** 3).sum()), rel=1e-6)


def test_the_hessian_difference_is_measured_in_the_spectral_norm() -> None:
    # H = diag(3 w^2): |H(W0) - H(W*)| = 3 max|w0^2 - w*^2| = 3 * 5.
    found = on_quartic(Lipschitz(estimator="hessian_diff", V="init"))
    assert found["lipschitz"] == pytest.approx(15.0)
    assert found["lipschitz_sd"] is None  # the estimator is deterministic
    assert found["lipschitz_converged"] == 1  # four steps in four dimensions


def test_the_hessian_difference_of_a_quadratic_is_zero() -> None:
    model = Constant(WSTAR)
    task = constant_task(
        quadratic(symmetric(torch.arange(4.0))),
        measured={"init": Measurement(tensors={"layer.weight": W0[:, None]})},
    )
    found = Lipschitz(estimator="hessian_diff", V="midpoint")(model, full_masks(model), task)
    assert found.report["lipschitz"] == pytest.approx(0, abs=1e-12)


def test_a_constant_is_returned_without_measurements() -> None:
    assert on_quartic(Lipschitz(estimator="const", const=1e-12), measured={})["lipschitz"] == 1e-12


def test_missing_initial_weights_raise_with_a_solution() -> None:
    with pytest.raises(ValueError, match=r"needs: \[init\]"):
        on_quartic(Lipschitz(), measured={})


def test_float32_gives_rounding_noise_where_float64_gives_zero() -> None:
    model = Constant(WSTAR)
    task = constant_task(
        quadratic(symmetric(torch.linspace(1, 9, 4))),
        measured={"init": Measurement(tensors={"layer.weight": W0[:, None]})},
    )
    single, double = (
        Lipschitz(dtype=dtype)(model, full_masks(model), task).report["lipschitz"]
        for dtype in ("float32", "float64")
    )
    assert double < 1e-8
    assert single > 1e3 * double


def test_a_net_with_kinks_gets_a_note_and_its_value_grows_with_smaller_steps() -> None:
    def found(model: torch.nn.Module, delta: float) -> dict[str, Any]:
        task = make_task(
            *digits(),
            measured={
                "init": initial(conv_bn(1) if isinstance(model[0], torch.nn.Conv2d) else mlp(1))
            },
        )
        return Lipschitz(directions=2, delta=delta)(model, full_masks(model), task).report

    smooth, kinked = train(mlp()), train(conv_bn())
    assert found(smooth, 0.01)["lipschitz_note"] is None
    assert found(kinked, 0.01)["lipschitz_note"] == NOTE
    assert found(smooth, 1e-3)["lipschitz"] == pytest.approx(
        found(smooth, 0.01)["lipschitz"], rel=0.01
    )
    # The value grows while some of the 400 images have a kink within the step. Below 1e-4 none has,
    # and the rest belongs to one smooth piece.
    assert found(kinked, 1e-3)["lipschitz"] > 10 * found(kinked, 0.1)["lipschitz"]


def test_measuring_leaves_the_model_unchanged_bit_for_bit() -> None:
    model = conv_bn()
    before = snapshot(model)
    task = make_task(*digits(), measured={"init": initial(conv_bn(1))})
    Lipschitz(directions=2)(model, full_masks(model), task)
    Lipschitz(estimator="hessian_diff", V="init")(model, full_masks(model), task)
    assert unchanged(before, model)


def test_mini_batches_and_the_dtype_of_the_hessian_do_not_matter() -> None:
    model = mlp()

    def k(lipschitz: Lipschitz) -> float:
        return lipschitz(
            model, full_masks(model), make_task(*digits(), measured={"init": initial(mlp(1))})
        ).report["lipschitz"]

    assert k(Lipschitz(hessian=HessianOptions(batch_size=37))) == pytest.approx(
        k(Lipschitz()), rel=1e-6
    )
    assert Lipschitz(hessian=HessianOptions(dtype="float64")) == Lipschitz()


def test_invalid_options_are_reported_with_their_full_key() -> None:
    with pytest.raises(ValueError) as error:
        Lipschitz(
            estimator="eq22",
            p=0.5,
            delta=0.0,
            directions=0,
            reduce="min",
            V="w0",
            B="l1",
            dtype="half",
            const=-1.0,
        )
    assert str(error.value).splitlines() == [
        "method.lipschitz.estimator='eq22' must be one of eq23, eq23_no_root, hessian_diff, const",
        "method.lipschitz.reduce='min' must be one of max, mean, median",
        "method.lipschitz.V='w0' must be one of wstar, init, midpoint, box",
        "method.lipschitz.B='l1' must be one of linf, l2",
        "method.lipschitz.dtype='half' must be one of float32, float64",
        "method.lipschitz.p=0.5 must be a number from 1 up",
        "method.lipschitz.delta=0.0 must be positive",
        "method.lipschitz.directions=0 must be at least 1",
        "method.lipschitz.const=-1.0 must be 0 or a positive number",
    ]
    with pytest.raises(ValueError, match="take init, midpoint or box"):
        replace(Lipschitz(), estimator="hessian_diff")
