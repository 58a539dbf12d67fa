"""Seeds of different kinds are no pairs: scipy's tests as oracle, and false verdicts."""

import numpy as np
import pytest
from scipy.stats import ttest_ind, ttest_rel

from runner.stats.evidence import LEVEL, above
from runner.stats.seeds import DIFFERENCE, BySeed, Kind, Measured, Sample, difference, of_samples
from runner.suites.verdicts import seeds_used, unlike_seeds

A: Kind = (("kinds of CPU", "AVX2"), ("devices", "cpu"))
B: Kind = (("kinds of CPU", "AVX512"), ("devices", "cpu"))
ONE = np.array([1.0, 2.5, 2.0, 4.0, 3.0, 5.5])
TWO = np.array([2.0, 2.0, 3.5, 4.5, 5.0, 5.0])


def sample(values: np.ndarray, kinds: str) -> Sample:
    """The numbers of seeds 0, 1, ...; `kinds`: a letter for each."""
    named = {"A": A, "B": B}
    return {i: Measured(float(v), named[kinds[i]]) for i, v in enumerate(values)}


def p_of(points: BySeed) -> float:
    return above(points.contrasts(DIFFERENCE)).p


def test_seeds_of_equal_kind_are_pairs_also_where_seeds_differ_in_kind() -> None:
    points = difference(sample(ONE, "AAABBB"), sample(TWO, "AAABBB"), 0.0)
    assert p_of(points) == pytest.approx(ttest_rel(ONE, TWO).pvalue)
    pairing = points.pairing(DIFFERENCE)
    assert (pairing.unlike, seeds_used(pairing), unlike_seeds([pairing])) == (0, "6 seeds", [])


def test_seeds_of_other_kinds_are_two_samples_by_welch() -> None:
    points = difference(sample(ONE, "AAAAAA"), sample(TWO, "BBBBBB"), 0.0)
    assert p_of(points) == pytest.approx(ttest_ind(ONE, TWO, equal_var=False).pvalue)
    pairing = points.pairing(DIFFERENCE)
    assert seeds_used(pairing) == "6 seeds, not paired"
    (note,) = unlike_seeds([pairing])
    assert note.startswith("No pairs: in 6 of 6 cases") and "(CPU AVX2 | CPU AVX512)" in note


@pytest.mark.parametrize(
    ("kinds", "pairs", "text"),
    [
        ("AAAAAB", [0, 1, 2, 3, 4], "5 seeds (1 left out, of other kinds)"),
        ("AAAABB", [0, 1, 2, 3], "4 seeds (2 left out, of other kinds)"),
        ("AAABBB", None, "6 seeds, not paired"),  # half of the seeds are no pairs
    ],
)
def test_pairs_are_compared_alone_if_they_are_most_seeds(
    kinds: str, pairs: list[int] | None, text: str
) -> None:
    points = difference(sample(ONE, "AAAAAA"), sample(TWO, kinds), 0.0)
    expected = ttest_rel(ONE[pairs], TWO[pairs]) if pairs else ttest_ind(ONE, TWO, equal_var=False)
    assert p_of(points) == pytest.approx(expected.pvalue)
    assert seeds_used(points.pairing(DIFFERENCE)) == text


def test_two_pairs_of_three_seeds_are_too_few() -> None:
    points = difference(sample(ONE[:3], "AAA"), sample(TWO[:3], "AAB"), 0.0)
    assert p_of(points) == pytest.approx(ttest_ind(ONE[:3], TWO[:3], equal_var=False).pvalue)
    two = difference(sample(ONE[:2], "AB"), sample(TWO[:2], "AB"), 0.0)
    assert p_of(two) == pytest.approx(ttest_rel(ONE[:2], TWO[:2]).pvalue)


def test_a_seed_is_a_pair_if_its_kinds_agree_point_by_point_and_one_side_needs_none() -> None:
    """Two densities, of which each has a kind of its own on both sides."""
    four = [sample(ONE, "A" * 6), sample(TWO, "B" * 6), sample(TWO, "A" * 6), sample(ONE, "B" * 6)]
    points = of_samples(four, [0.0] * 4)
    weights = np.array([[0.5, 0.5, -0.5, -0.5], [0.5, 0.5, 0.0, 0.0], [1.0, -1.0, 0.0, 1e-17]])
    assert points.pairs(weights).all(axis=1).tolist() == [True, True, False]
    mixed = points.pairing(weights)
    assert seeds_used(mixed, ["1 left out"]) == (
        "6 seeds, not paired in 1 of 3 differences (1 left out)"
    )
    # each contrast is estimated as if it were alone
    found = points.contrasts(weights)
    for i in range(3):
        alone = points.contrasts(weights[i : i + 1])
        assert (found.value[i], found.error[i], found.freedom[i]) == (
            alone.value[0],
            alone.error[0],
            alone.freedom[0],
        )


def test_seeds_that_a_sample_lacks_are_counted() -> None:
    points = of_samples([sample(ONE, "A" * 6), sample(TWO[:4], "A" * 4)], [0.0, 0.0])
    assert (points.size, points.missing) == (4, 2)
    assert p_of(points) == pytest.approx(ttest_rel(ONE[:4], TWO[:4]).pvalue)


@pytest.mark.parametrize("correlation", [0.0, 0.75])  # of a seed's numbers, across kinds as well
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [("AAA", "BBB"), ("AAA", "AAB"), ("AB", "BA"), ("A" * 10, "B" * 10), ("A" * 10, "AAAAAAABBB")],
)
@pytest.mark.parametrize("deviation", [1.0, 3.0])  # of the second sample
def test_equal_methods_of_different_kinds_get_a_verdict_in_at_most_5_percent(
    ours: str, theirs: str, deviation: float, correlation: float
) -> None:
    times, n = 400, len(ours)
    draws = np.random.default_rng([n, int(deviation), int(100 * correlation)])
    shared = draws.standard_normal((times, 1, n)) * correlation**0.5
    own = draws.standard_normal((times, 2, n)) * (1 - correlation) ** 0.5
    numbers = (shared + own) * np.array([1.0, deviation])[:, None]
    false, covered = 0, 0
    for one, two in numbers:
        found = difference(sample(one, ours), sample(two, theirs), 0.0).contrasts(DIFFERENCE)
        evidence = above(found)
        false += evidence.p < LEVEL
        covered += evidence.low <= 0 <= evidence.high
    limit = LEVEL + 3 * (LEVEL * (1 - LEVEL) / times) ** 0.5
    assert false / times <= limit and 1 - covered / times <= limit


def test_a_real_difference_of_different_kinds_is_found() -> None:
    draws = np.random.default_rng(0)
    points = difference(
        sample(3 + draws.standard_normal(6), "A" * 6), sample(draws.standard_normal(6), "B" * 6), 0
    )
    evidence = above(points.contrasts(DIFFERENCE))
    assert evidence.p < LEVEL and evidence.holds
