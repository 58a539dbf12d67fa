"""Cuts of a spectrum: the literal scan, the other rules, and the two step functions."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pruners.curvature.cuts import (
    hard_step,
    largest_gap_k,
    literal_k,
    literal_probes,
    ranking,
    resolution_k,
    scan_k,
    smoothed_k,
    smoothed_step,
)
from pruners.curvature.gap import Gap


def row(*values: float) -> Tensor:
    return torch.tensor([values], dtype=torch.float64)


def even(values: Tensor) -> Tensor:
    """The quadrature weights of exact eigenvalues."""
    return torch.full_like(values, 1 / values.shape[-1])


def literal(values: Tensor, k: float) -> int | None:
    return literal_k(values, even(values), values.shape[-1], k)


whole_spectra = st.lists(st.integers(-50, 50), min_size=2, max_size=30)


def test_a_planted_gap_is_found() -> None:
    # -H ascending: -9, -8, -1, 0, 1. Gaps from the top: 1, 1, 7. With 4K = 4 only the 7 is large
    # enough; two steep directions lie below it.
    assert literal(row(8, 0, -1, 1, 9), 1.0) == 2


def test_a_spectrum_without_a_gap_above_4k_gives_none() -> None:
    # the comparison is strict: a gap of exactly 4K is too small
    assert literal(row(8, 0, -1, 1, 9), 7 / 4) is None


def test_a_constant_of_zero_keeps_one_direction() -> None:
    assert literal(row(3, 1, 2, 5, 4), 0.0) == 4


def test_equal_eigenvalues_have_no_gap_for_any_constant() -> None:
    assert literal(row(2, 2, 2), 0.0) is None


@given(whole_spectra, st.floats(0, 20))
def test_the_first_gap_from_the_top_gives_the_largest_k(spectrum: list[int], k: float) -> None:
    a = sorted(-h for h in spectrum)  # the eigenvalues of -H: lambda_1 <= ... <= lambda_d
    valid = [i for i in range(1, len(a)) if a[i] - a[i - 1] > 4 * k]
    assert literal(row(*map(float, spectrum)), k) == (max(valid) if valid else None)


@given(whole_spectra, st.floats(0, 20), st.integers(-100, 100))
def test_a_shift_of_the_spectrum_changes_no_literal_k(
    spectrum: list[int], k: float, shift: int
) -> None:
    values = row(*map(float, spectrum))  # whole numbers: the shift is exact
    assert literal(values + shift, k) == literal(values, k)
    assert largest_gap_k(values + shift, even(values), 9) == largest_gap_k(values, even(values), 9)


@given(whole_spectra)
def test_masses_lie_between_zero_and_the_dimension(spectrum: list[int]) -> None:
    values = row(*map(float, spectrum))
    d = values.shape[-1]
    for rule in ("smoothed_sign", "sign", "effective_rank"):
        assert 0 <= Gap(rule=rule).find(values, even(values), d, 0.0) <= d


def test_quadrature_weights_count_directions_and_probes_are_averaged() -> None:
    # d = 100. Probe 1: the gap is below the value with weight 0.3, so k = 30; probe 2: 0.2 + 0.2 ->
    # 40; probe 3 has no gap.
    values = torch.tensor([[0.0, 1.0, 9.0], [0.0, 9.0, 9.5], [0.0, 1.0, 2.0]], dtype=torch.float64)
    weights = torch.tensor([[0.5, 0.2, 0.3], [0.6, 0.2, 0.2], [0.2, 0.2, 0.6]], dtype=torch.float64)
    assert scan_k(values[0], weights[0], 100, 4.0) == pytest.approx(30)
    assert literal_k(values, weights, 100, 1.0) == 35
    assert literal_probes(values, weights, 1.0) == 2


def test_the_sign_rule_prunes_flat_and_negative_directions() -> None:
    values = row(-1, 0, 1e-9, 1)
    assert Gap(rule="sign").find(values, even(values), 4, 0.0) == 2


def test_the_effective_rank_rule_prunes_values_up_to_its_share_of_the_top() -> None:
    values = row(-1, 0, 0.5, 1, 10)
    assert Gap(rule="effective_rank", tau=0.1).find(values, even(values), 5, 0.0) == 4  # at most 1


def test_the_largest_gap_rule_prunes_the_steep_side() -> None:
    values = row(0, 1, 2, 6, 7)
    assert largest_gap_k(values, even(values), 5) == 2
    assert largest_gap_k(row(1, 1), even(row(1, 1)), 2) is None


def test_the_resolution_rule_merges_values_closer_than_range_over_m() -> None:
    # Range 10, m = 5: gaps up to 2 do not count. From the top of -H (the smallest value): 1, 1, 2,
    # 6 -> only the last counts; one value lies above it.
    values = row(0, 1, 2, 4, 10)
    assert resolution_k(values, even(values), 5) == 1


def test_the_smoothed_step_is_the_normal_distribution_function() -> None:
    # Range 20 - 0 = 20 > 1: variance 0.05 * 20 = 1. Phi(0) = 1/2, Phi(1) = 0.8413447.
    f = smoothed_step(row(0, 1, 20), 0.05)
    torch.testing.assert_close(f, row(0.5, 0.8413447460685429, 1.0))
    # a range below 1 counts as 1
    torch.testing.assert_close(smoothed_step(row(0, 0.1), 0.01), row(0.5, 0.8413447460685429))


def test_the_smoothed_sign_counts_zeros_half() -> None:
    values = row(-5, 0, 0, 0, 0, 5, 5, 5)
    assert smoothed_k(values, even(values), 8, 1e-5) == 3  # 1 + 4 / 2


def test_the_hard_step_takes_the_largest_values_up_to_the_share() -> None:
    keys = row(3, 1, 2)
    weights = row(0.2, 0.5, 0.3)
    # all of 0.2, half of 0.3
    torch.testing.assert_close(hard_step(keys, weights, 0.35), row(1, 0, 0.5))
    torch.testing.assert_close(hard_step(keys, weights, 1.0), row(1, 1, 1))


def test_the_hard_step_splits_the_cut_evenly_among_ties() -> None:
    torch.testing.assert_close(
        hard_step(row(5, 1, 1, 1), even(row(5, 1, 1, 1)), 0.5), row(1, 1 / 3, 1 / 3, 1 / 3)
    )
    torch.testing.assert_close(
        hard_step(row(5, 1, 1 + 1e-9, 0), even(row(5, 1, 1, 1)), 0.5, tie=1e-6), row(1, 0.5, 0.5, 0)
    )
    torch.testing.assert_close(
        hard_step(row(5, -math.inf, 1, -math.inf), even(row(5, 1, 1, 1)), 0.75), row(1, 0.5, 1, 0.5)
    )


@given(st.lists(st.integers(-9, 9), min_size=1, max_size=20), st.floats(0.01, 1))
def test_the_hard_step_keeps_exactly_its_share(keys: list[int], share: float) -> None:
    values = row(*map(float, keys))
    f = hard_step(values, even(values), share)
    assert float((f * even(values)).sum()) == pytest.approx(share)
    assert bool(((f >= 0) & (f <= 1)).all())


def test_the_subspace_option_selects_the_ranking() -> None:
    values = row(-3, 1, 2)
    assert [
        ranking(values, s).argsort(descending=True).flatten().tolist()
        for s in ("curved", "flat", "abs")
    ] == [[2, 1, 0], [0, 1, 2], [0, 2, 1]]


@pytest.mark.parametrize(
    ("gap", "values", "found"),
    [
        (Gap(rule="literal"), row(1, 2, 3), "no gap"),
        (Gap(rule="sign"), row(*range(1, 200)), "k = 0"),
        (Gap(rule="sign"), -row(*range(1, 200)), "k = 199"),
        (Gap(rule="literal"), row(*([0.0] * 199 + [900.0])), "k = 1,"),
    ],
)
def test_a_degenerate_cut_raises_with_solutions(gap: Gap, values: Tensor, found: str) -> None:
    with pytest.raises(ValueError, match=found) as error:
        gap.cut(values, even(values), values.shape[-1], 100.0)
    assert all(
        way in str(error.value)
        for way in ("method.gap.on_degenerate=fixed", "density=0.53", f"method.gap.rule={gap.rule}")
    )


def test_a_degenerate_cut_lists_what_the_other_usable_rules_find() -> None:
    # the widest gap is below one outlier of 200; 80 are negative, and smoothing moves none
    values = row(*([-1.0] * 80 + [1.0] * 119 + [1e3]))
    with pytest.raises(ValueError) as error:
        Gap(rule="largest_gap", sigma2=1e-8).cut(values, even(values), 1000, 0.0)
    assert "Sparsity by other rules: smoothed_sign 0.4000, " in str(error.value)
    assert "sign 0.4000. Or give density=0.53" in str(error.value)
    assert "literal" not in str(error.value)


def test_a_degenerate_cut_can_fall_back_to_a_fixed_sparsity() -> None:
    values = row(*range(100))
    assert Gap(rule="literal", on_degenerate="fixed", sparsity=0.47).cut(
        values, even(values), 100, 1e3
    ) == (47, "fixed")


def test_a_given_density_overrides_every_rule() -> None:
    values = row(*range(100))
    assert Gap(rule="literal").cut(values, even(values), 100, 1e3, density=0.53) == (47, "fixed")
    # an extreme density is allowed
    assert Gap().cut(values, even(values), 100, 1e3, density=0.001 * 8) == (99, "fixed")


def test_the_fixed_rule_prunes_the_given_sparsity() -> None:
    assert Gap(rule="fixed", sparsity=0.47).cut(row(0), row(1), 1000, 0.0) == (470, "fixed")


@settings(max_examples=20)
@given(st.floats(0.02, 0.98))
def test_a_valid_cut_is_returned_with_its_rule(share: float) -> None:
    values = row(*([-1.0] * round(1000 * share) + [1.0] * (1000 - round(1000 * share))))
    assert Gap(rule="sign").cut(values, even(values), 1000, 0.0) == (round(1000 * share), "sign")


def test_invalid_options_are_reported_with_their_full_key() -> None:
    with pytest.raises(ValueError) as error:
        Gap(rule="first", sigma2=0.0, sparsity=1.0, on_degenerate="stop")
    assert str(error.value).splitlines() == [
        (
            "method.gap.rule='first' must be one of smoothed_sign, ritz_sign, literal,"
            " resolution_merged, effective_rank, sign, largest_gap, fixed"
        ),
        "method.gap.on_degenerate='stop' must be one of error, fixed",
        "method.gap.sigma2=0.0 must be positive",
        (
            "method.gap.sparsity=1.0 must be in [0, 1): it is the pruned share, 0.47 keeps"
            " density=0.53"
        ),
    ]
    with pytest.raises(
        ValueError, match=r"method\.gap\.sparsity is missing: method\.gap\.rule=fixed"
    ):
        Gap(rule="fixed")
