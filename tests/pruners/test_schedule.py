"""Density schedules worked by hand: levels of iterative pruning, and front-loaded rounds.

Sources: docs/methods/imp.md, docs/methods/flow_prune.md.
"""

from fractions import Fraction
from typing import Any

import pytest

from pruners.selection.schedule import FrontLoaded, Levels, Once


def test_one_shot_has_one_round_at_the_density() -> None:
    assert Once()(0.07) == [0.07]


# --- levels


def test_levels_keep_equal_shares_and_the_last_one_equals_the_density() -> None:
    # 0.8, 0.64, 0.512, 0.4096; the next would be 0.32768, below 0.4
    assert Levels(0.8)(0.4) == [0.8, 0.64, 0.512, 0.4096, 0.4]
    # 0.8^10 = 0.107, 0.8^11 = 0.086
    assert Levels(0.8)(0.1) == pytest.approx([*(0.8**j for j in range(1, 11)), 0.1], rel=1e-11)


@pytest.mark.parametrize("last", ["exact", "nearest"])
@pytest.mark.parametrize("keep", [0.5, 0.8, 0.9])
def test_a_density_that_is_a_level_ends_the_levels(keep: float, last: Any) -> None:
    # Powers of 0.8 and 0.9 are not exact in floating point: 0.8 * 0.8 is slightly above 0.64, so a
    # plain comparison would add another level.
    for count in range(1, 25):
        density = float(Fraction(str(keep)) ** count)  # the float nearest to the power
        assert len(Levels(keep, last)(density)) == count
        assert Levels(keep, last)(density)[-1] == pytest.approx(density, rel=1e-11)
    assert Levels(0.8, last)(0.64) == [0.8, 0.64]


@pytest.mark.parametrize("keep", [0.8, 0.9, 0.75])
def test_levels_of_a_density_are_a_prefix_of_those_of_a_lower_one(keep: float) -> None:
    # Bit for bit, because a level's density is part of its cache key; also if the higher density is
    # given as a decimal number equal to a level.
    lowest = Levels(keep)(0.02)
    for density in (0.6, 0.31, 0.05):
        levels = Levels(keep)(density)
        assert levels[:-1] == lowest[: len(levels) - 1] and levels[-1] == density
    assert Levels(0.8)(0.64) == Levels(0.8)(0.02)[:2]
    assert Levels(0.9)(0.59049) == Levels(0.9)(0.02)[:5]  # 0.9^5 in decimal notation


@pytest.mark.parametrize(
    ("keep", "density", "count"),
    [
        (0.9, 0.53, 6),  # 0.531441: the IMC paper's sparsity 0.47 (Table 1), 7 trainings
        (0.9, 0.55, 6),  # 0.59049 is 0.040 above, 0.531441 is 0.019 below
        (0.9, 0.57, 5),  # 0.020 above, 0.039 below
        (0.5, 0.375, 2),  # half way between 0.5 and 0.25: the larger sparsity
        (0.5, 0.376, 1),
        (0.8, 0.99, 1),  # nearer to no pruning, but there is at least one level
        (0.8, 1.0, 1),
    ],
)
def test_the_nearest_level_ends_the_rounds(keep: float, density: float, count: int) -> None:
    levels = Levels(keep, "nearest")(density)
    assert levels == pytest.approx([keep**j for j in range(1, count + 1)], rel=1e-11)


def test_sparsities_of_the_imc_papers_lth_rows_take_the_printed_number_of_trainings() -> None:
    # docs/methods/imp.md: sparsity 1 - 0.9^J, epochs 160 (J + 1)
    printed = {0.10: 320, 0.19: 480, 0.27: 640, 0.34: 800, 0.41: 960, 0.47: 1120, 0.52: 1280}
    for sparsity, epochs in printed.items():
        levels = Levels(0.9, "nearest")(1 - sparsity)
        assert 160 * (len(levels) + 1) == epochs and round(1 - levels[-1], 2) == sparsity


@pytest.mark.parametrize("density", [0.9, 0.5, 0.3, 0.07])
@pytest.mark.parametrize("keep", [0.2, 0.8, 0.95])
def test_levels_fall_to_exactly_the_requested_density(keep: float, density: float) -> None:
    levels = Levels(keep)(density)
    assert levels[-1] == density
    assert all(a > b for a, b in zip([1.0, *levels], levels, strict=False))


def test_density_1_is_one_level_that_prunes_nothing() -> None:
    assert Levels(0.8)(1.0) == [1.0]


@pytest.mark.parametrize("keep", [0.0, 1.0, -0.5, 1.5])
def test_an_invalid_share_is_rejected(keep: float) -> None:
    with pytest.raises(ValueError, match=f"method.keep={keep:g} must be between 0 and 1"):
        Levels(keep)


# --- front-loaded rounds


def removed(densities: list[float]) -> list[float]:
    """The share of the remaining weights that each round prunes."""
    return [1 - after / before for before, after in zip([1.0, *densities], densities, strict=False)]


def test_the_first_rounds_prune_most_as_in_the_authors_example() -> None:
    # docs/methods/flow_prune.md: p = 0.75 in 5 rounds
    assert [round(share, 4) for share in removed(FrontLoaded(5)(0.25))] == [
        0.375,
        0.2727,
        0.2143,
        0.1765,
        0.15,
    ]


@pytest.mark.parametrize("rounds", [1, 5, 25])
@pytest.mark.parametrize("density", [0.95, 0.53, 0.1])
def test_round_k_prunes_the_share_of_the_closed_formula(density: float, rounds: int) -> None:
    p, left = 1 - Fraction(str(density)), Fraction(1)
    densities = FrontLoaded(rounds)(density)
    for k, found in enumerate(densities, start=1):
        # the share of the formula, in exact fractions
        left *= 1 - p / (k * p + rounds * (1 - p))
        assert found == pytest.approx(float(left), rel=1e-14)
    assert left == 1 - p and densities[-1] == density and len(densities) == rounds
    shares = removed(densities)
    assert all(a > b for a, b in zip(shares, shares[1:], strict=False))


def test_one_round_is_one_shot_and_density_1_prunes_nothing() -> None:
    assert FrontLoaded(1)(0.3) == [0.3]
    assert FrontLoaded(4)(1.0) == [1.0] * 4


def test_zero_rounds_are_rejected() -> None:
    with pytest.raises(ValueError, match="method.rounds=0 must be at least 1"):
        FrontLoaded(0)
