"""Ranks: a case worked by hand, scipy's paired t-test with Holm's steps, and their coverage."""

import itertools

import numpy as np
import pytest
from scipy.stats import ttest_rel

from runner.stats.seeds import Kind, Measured, Sample
from runner.tables.ranks import Ranks, explained, ranges, with_rivals

SEEDS = range(5)


def by_seed(values: np.ndarray) -> dict[int, Sample]:
    """Entry -> seed -> number, of an array (entries, seeds)."""
    return {i: numbers(dict(enumerate(map(float, row)))) for i, row in enumerate(values)}


def numbers(values: dict[int, float]) -> Sample:
    return {seed: Measured(value) for seed, value in values.items()}


def test_ranks_worked_by_hand() -> None:
    noise = np.array([0.0, 0.1, -0.1, 0.05, -0.05])
    far, near, low = 90 + noise, 80 + noise[::-1], 80 - noise
    found = ranges(by_seed(np.array([low, far, near])), 0.0)
    # `far` is ten points above both, which differ by at most 0.2 in a seed
    assert found == {0: Ranks(2, 3), 1: Ranks(1, 1), 2: Ranks(2, 3)}
    assert [str(found[i]) for i in (0, 1)] == ["2–3", "1"]


def test_one_seed_and_one_entry_exclude_nothing() -> None:
    single = {"a": numbers({0: 90.0}), "b": numbers({0: 10.0})}
    assert ranges(single, 0.0) == {"a": Ranks(1, 2), "b": Ranks(1, 2)}
    assert ranges({"a": numbers({0: 90.0, 1: 91.0})}, 0.0) == {}
    apart = {"a": numbers({0: 90.0, 1: 91.0}), "b": numbers({2: 10.0, 3: 11.0})}  # no common seed
    assert ranges(apart, 0.0) == {"a": Ranks(1, 2), "b": Ranks(1, 2)}
    assert explained({}, []) == []


@pytest.mark.parametrize("seed", range(5))
def test_ranks_agree_with_paired_t_tests_of_scipy_and_holms_steps(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.normal(np.repeat([1.0, 2.0, 6.0], 2)[:, None], 0.5, (6, 5))
    pairs = list(itertools.combinations(range(6), 2))
    ps = {pair: ttest_rel(values[pair[0]], values[pair[1]]).pvalue for pair in pairs}
    rejected = list[tuple[int, int]]()
    for step, pair in enumerate(sorted(pairs, key=ps.__getitem__)):
        if ps[pair] >= 0.05 / (len(pairs) - step):
            break
        rejected.append(pair)
    assert 0 < len(rejected) < len(pairs)
    wins = [(a, b) if values[a].mean() > values[b].mean() else (b, a) for a, b in rejected]
    assert ranges(by_seed(values), 0.0) == {
        i: Ranks(1 + sum(b == i for _, b in wins), 6 - sum(a == i for a, _ in wins))
        for i in range(6)
    }


def test_entries_of_different_kinds_are_ranked_by_welch_and_counted() -> None:
    other: Kind = (("kinds of CPU", "AVX2"),)
    one = numbers({0: 90.0, 1: 91.0, 2: 92.0})
    # one point lower in each seed: paired, p = 0; as two samples of deviation 1, p = 0.3
    two = numbers({0: 89.0, 1: 90.01, 2: 91.0})
    assert ranges({"a": one, "b": two}, 0.0) == {"a": Ranks(1, 1), "b": Ranks(2, 2)}
    unlike = {seed: number._replace(kind=other) for seed, number in two.items()}
    assert ranges({"a": one, "b": unlike}, 0.0) == {"a": Ranks(1, 2), "b": Ranks(1, 2)}
    pairings = with_rivals({"a": one, "b": unlike, "c": two}, 0.0)
    assert {key: [each.unlike for each in found] for key, found in pairings.items()} == {
        "a": [3, 0],
        "b": [3],
    }


def test_all_ranges_contain_the_true_ranks_with_at_least_95_percent() -> None:
    """Six entries, of which two are equal in truth; the equal ones may have either rank."""
    rng, means = np.random.default_rng(0), np.array([0.0, 0.0, 1.0, 2.0, 3.0, 5.0])
    true = [(5, 6), (5, 6), (4, 4), (3, 3), (2, 2), (1, 1)]
    covered = 0
    for _ in range(400):
        found = ranges(by_seed(rng.normal(means[:, None], 0.6, (6, len(SEEDS)))), 0.0)
        covered += all(
            found[i].best <= high and found[i].worst >= low for i, (low, high) in enumerate(true)
        ) and all(found[i].best <= 5 and found[i].worst == 6 for i in (0, 1))
    assert covered / 400 >= 0.95 - 3 * (0.95 * 0.05 / 400) ** 0.5
