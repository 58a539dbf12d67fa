"""Random picks: successive sampling, Algorithm 1 and uniform places, and their counts in runs.

Source: docs/methods/mask_randomization.md; Algorithm 1 is its part B.
"""

import itertools
import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_nets import kept_by_layer, masks_of, mlp, resnet, same_masks, seeded
from support import compose_run, machine, perform_run
from torch import Tensor

from pruners.base import count_kept, count_prunable
from pruners.scores.magnitude import Magnitude, Random
from pruners.scores.snip import Snip
from pruners.selection.pick import Proportional, Sketch, Top, Uniform, draws_for, expected_support

check = settings(deadline=None, max_examples=150, derandomize=True)
GONE = -math.inf  # the score of pruned weights
TINY = ["dataset=digits", "model=mlp", "model.hidden=[20]", "train.scale=0.00625"]


def vector(*scores: float) -> Tensor:
    return torch.tensor(scores, dtype=torch.float64)


def frequencies(pick: Any, scores: Tensor, k: int, seeds: int) -> Tensor:
    """The share of `seeds` in which each entry is kept."""
    return (
        sum(
            (pick(scores, k, seeded(s)).double() for s in range(seeds)),
            torch.zeros(len(scores), dtype=torch.float64),
        )
        / seeds
    )


def within(measured: Tensor, expected: Tensor, tries: int) -> bool:
    """Whether frequencies of events of these probabilities agree within four standard errors."""
    return bool(
        ((measured - expected).abs() <= 4 * (expected * (1 - expected) / tries).sqrt()).all()
    )


@check
@given(
    st.lists(st.sampled_from([0.0, 1e-30, 1.0, 3.5, 1e30, GONE]), min_size=1, max_size=60),
    st.integers(0, 2**20),
    st.data(),
)
def test_a_random_pick_keeps_exactly_k_remaining_weights_and_zeros_last(
    scores: list[float], seed: int, data: st.DataObject
) -> None:
    given_scores = vector(*scores)
    k = data.draw(st.integers(0, int((given_scores > GONE).sum())))
    for pick in (Uniform(), Proportional(), Proportional(gamma=0.0), Proportional(gamma=2.0)):
        kept = pick(given_scores, k, seeded(seed))
        assert kept.dtype == torch.bool
        assert int(kept.sum()) == k
        assert not kept[given_scores == GONE].any()
        if isinstance(pick, Proportional) and pick.gamma and kept[given_scores == 0].any():
            assert kept[given_scores > 0].all()


def test_one_of_two_weights_is_kept_with_probability_equal_to_its_share() -> None:
    expected = vector(0.2, 0.8)
    assert within(frequencies(Proportional(), vector(3.0, 12.0), 1, 10_000), expected, 10_000)


def test_two_of_three_weights_are_kept_as_in_the_plackett_luce_model() -> None:
    # Scores 1, 2, 4: p = 1/7, 2/7, 4/7. P(i) = p_i + sum over j of p_j p_i / (1 - p_j).
    p = [1 / 7, 2 / 7, 4 / 7]
    expected = [p[i] + sum(p[j] * p[i] / (1 - p[j]) for j in range(3) if j != i) for i in range(3)]
    assert sum(expected) == pytest.approx(2)
    assert within(
        frequencies(Proportional(), vector(1.0, 2.0, 4.0), 2, 10_000), vector(*expected), 10_000
    )


def test_pairs_have_the_probability_of_both_orders_of_drawing() -> None:
    # P({i, j}) = p_i p_j / (1 - p_i) + p_j p_i / (1 - p_j), over all six pairs of four weights,
    # squared scores by gamma=2.
    scores, tries = [1.0, 2.0, 3.0, 4.0], 6_000
    p = [s**2 / 30 for s in scores]
    found = Counter(
        tuple(Proportional(gamma=2.0)(vector(*scores), 2, seeded(s)).nonzero().flatten().tolist())
        for s in range(tries)
    )
    pairs = list(itertools.combinations(range(4), 2))
    expected = vector(*(p[i] * p[j] * (1 / (1 - p[i]) + 1 / (1 - p[j])) for i, j in pairs))
    assert float(expected.sum()) == pytest.approx(1)
    assert within(vector(*(found[pair] / tries for pair in pairs)), expected, tries)


@pytest.mark.parametrize(
    ("pick", "scores"),
    [
        (Proportional(), [2.5] * 5),
        (Proportional(gamma=0.0), [0.0, 1.0, 1e9, 3.0, 1e-9]),
        (Uniform(), [0.0, 1.0, -1e9, 3.0, 1e-9]),
    ],
)
def test_equal_scores_make_every_subset_equally_likely(pick: Any, scores: list[float]) -> None:
    # Ten pairs of five, 5,000 draws: chi-squared of 9 degrees of freedom has mean 9 and variance
    # 18.
    found = Counter(
        tuple(pick(vector(*scores), 2, seeded(s)).nonzero().flatten().tolist())
        for s in range(5_000)
    )
    chi2 = sum((found[pair] - 500) ** 2 / 500 for pair in itertools.combinations(range(5), 2))
    assert abs(chi2 - 9) < 4 * math.sqrt(18)


def test_a_dominant_score_is_always_kept() -> None:
    scores = torch.ones(50, dtype=torch.float64)
    scores[17] = 1e15
    assert frequencies(Proportional(), scores, 1, 500)[17] == 1


def test_larger_scores_are_kept_more_often() -> None:
    rates, tries = frequencies(Proportional(), torch.arange(1.0, 9.0), 3, 3_000), 3_000
    assert (rates[1:] - rates[:-1] > -4 * math.sqrt(0.5 / tries)).all()
    assert rates[-1] > 2 * rates[0]


@pytest.mark.parametrize("factor", [3.7, 1e100, 1e-200])
def test_the_scale_of_the_scores_does_not_matter(factor: float) -> None:
    scores = torch.rand(2_000, generator=seeded(), dtype=torch.float64) ** 8
    for seed in range(5):
        assert torch.equal(
            Proportional()(scores, 300, seeded(seed)),
            Proportional()(factor * scores, 300, seeded(seed)),
        )


def test_gamma_interpolates_between_uniform_places_and_the_largest_scores() -> None:
    scores = torch.rand(500, generator=seeded(1), dtype=torch.float64)
    assert torch.equal(Proportional(gamma=1e7)(scores, 60, seeded()), Top()(scores, 60, seeded()))
    assert torch.equal(
        Proportional(gamma=0.0)(scores, 60, seeded()), Uniform()(scores, 60, seeded())
    )
    means = [
        scores[Proportional(gamma=g)(scores, 60, seeded())].mean() for g in (0.0, 1.0, 4.0, 1e7)
    ]
    assert means == sorted(means)


def test_zeros_are_drawn_uniformly_when_too_few_scores_are_positive() -> None:
    # two positive, four zeros: four kept are both positive ones and each zero half of the time
    scores = vector(0.0, 2.0, GONE, 0.0, 5.0, 0.0, 0.0, GONE)
    rates = frequencies(Proportional(), scores, 4, 2_000)
    assert (rates[[1, 4]] == 1).all() and (rates[[2, 7]] == 0).all()
    assert within(rates[[0, 3, 5, 6]], vector(0.5, 0.5, 0.5, 0.5), 2_000)
    assert Proportional().findings(scores, 4) == {"zero_scores_kept": 2}
    assert Proportional().findings(scores, 2) == {"zero_scores_kept": 0}


def test_scores_may_span_more_decades_than_their_ratio_can_represent() -> None:
    # 1e-200 / 1e150 is zero even in double precision; of the two small scores the second is kept
    # three times in four.
    rates = frequencies(Proportional(), vector(1e-200, 3e-200, 1e150), 2, 4_000)
    assert rates[2] == 1 and within(rates[:2], vector(0.25, 0.75), 4_000)


def test_single_precision_scores_are_drawn_in_double_precision() -> None:
    scores = torch.tensor([1e-38, 3e-38, 1e38])
    assert torch.equal(
        Proportional()(scores, 2, seeded(3)), Proportional()(scores.double(), 2, seeded(3))
    )


@pytest.mark.parametrize("pick", [Proportional(), Sketch()])
def test_negative_scores_are_rejected(pick: Any) -> None:
    with pytest.raises(
        ValueError,
        match=(
            r"pick=\w+ uses scores as probabilities, but 2 are negative \(the lowest is"
            r" -3\).*method\.score.*pick=top"
        ),
    ):
        pick(vector(1.0, -3.0, GONE, -1.0), 1, seeded())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gamma": -1.0}, "pick.gamma=-1.0"),
        ({"gamma": math.inf}, "pick.gamma=inf"),
        ({"gamma": math.nan}, "nan"),
    ],
)
def test_invalid_powers_are_rejected(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Proportional(**options)


@pytest.mark.parametrize("score", [Random(), Magnitude(), Snip()])
@pytest.mark.parametrize("pick", [Proportional(), Uniform()])
def test_layer_counts_are_those_of_the_top_pick_and_places_are_not(score: Any, pick: Any) -> None:
    hard, drawn, again = (
        masks_of(score, resnet(), 0.2, seed=6, pick=p) for p in (Top(), pick, pick)
    )
    assert kept_by_layer(drawn) == kept_by_layer(hard)
    assert not same_masks(drawn, hard) and same_masks(drawn, again)


def test_a_pick_may_keep_a_whole_layer_or_none_of_it() -> None:
    for pick in (Uniform(), Proportional(), Sketch()):
        assert pick(vector(1.0, 2.0, 3.0), 3, seeded()).all()
        assert not pick(vector(1.0, 2.0, 3.0), 0, seeded()).any()
        assert pick(vector(), 0, seeded()).shape == (0,)


# Algorithm 1


def test_the_expected_support_is_the_mean_over_all_sequences_of_draws() -> None:
    p = [0.5, 0.3, 0.2]
    every = sum(
        math.prod(p[i] for i in draws) * len(set(draws))
        for draws in itertools.product(range(3), repeat=4)
    )
    assert expected_support(vector(*p), 4) == pytest.approx(every, rel=1e-12)
    assert expected_support(vector(*p), 0) == 0 and expected_support(vector(1.0), 7) == 1


@check
@given(st.lists(st.floats(1e-3, 1.0), min_size=2, max_size=20), st.data())
def test_the_number_of_draws_has_the_nearest_expected_support(
    weights: list[float], data: st.DataObject
) -> None:
    p = vector(*weights) / sum(weights)
    k = data.draw(st.integers(1, len(weights) - 1))
    draws = draws_for(p, k)
    distance = [abs(expected_support(p, s) - k) for s in (draws - 1, draws, draws + 1)]
    assert draws >= k and distance[1] == min(distance)


def test_moments_of_algorithm_1_follow_its_formulas() -> None:
    # m_i = c_i / (s p_i): mean 1, variance (1 - p_i) / (s p_i), covariance -1/s.
    scores, k, tries = vector(1.0, 2.0, 3.0, 4.0, 6.0), 3, 8_000
    p = scores / 16
    draws = draws_for(p, k)
    m = torch.stack([Sketch(scaling="init")(scores, k, seeded(s)) for s in range(tries)])
    variance = (1 - p) / (draws * p)
    assert ((m.mean(dim=0) - 1).abs() < 4 * (variance / tries).sqrt()).all()
    products = (m - 1)[:, :, None] * (m - 1)[:, None, :]
    expected = torch.diag(variance) - (1 - torch.eye(5, dtype=torch.float64)) / draws
    assert (
        (products.mean(dim=0) - expected).abs() < 4 * products.std(dim=0) / math.sqrt(tries)
    ).all()
    support = (m > 0).sum(dim=1).double()
    assert abs(float(support.mean()) - expected_support(p, draws)) < 4 * float(
        support.std()
    ) / math.sqrt(tries)
    assert torch.allclose(m * draws * p, (m * draws * p).round())  # whole counts, s of them
    assert torch.allclose(
        (m * draws * p).sum(dim=1), torch.full((tries,), float(draws), dtype=torch.float64)
    )


def test_the_error_of_algorithm_1_follows_the_corrected_lemmas() -> None:
    # E |X'w - X'(w m)|^2 = ((sum of |X_k| |w_k|)^2 - |X'w|^2) / s at the optimal p of Eq. 2; Lemma
    # 4.3 for any p.
    x = torch.randn(12, 5, generator=seeded(1), dtype=torch.float64)
    w = torch.randn(12, generator=seeded(2), dtype=torch.float64)
    tries = 2_000
    norms = x.norm(dim=1)
    for scores in (norms * w.abs(), torch.ones(12, dtype=torch.float64)):
        p = scores / scores.sum()
        draws = draws_for(p, 6)
        m = torch.stack([Sketch(scaling="init")(scores, 6, seeded(s)) for s in range(tries)])
        errors = ((w - w * m) @ x).square().sum(dim=1)
        expected = float((norms**2 * w**2 / p).sum() - (w @ x).square().sum()) / draws
        assert abs(float(errors.mean()) - expected) < 4 * float(errors.std()) / math.sqrt(tries)
    optimal = norms * w.abs()
    assert float((norms**2 * w**2 / (optimal / optimal.sum())).sum()) == pytest.approx(
        float(optimal.sum()) ** 2
    )


def test_algorithm_1_without_scaling_has_the_support_of_the_same_draw() -> None:
    scores = torch.rand(40, generator=seeded(4))
    scores[:5] = GONE
    scores[5:8] = 0.0
    for seed in range(20):
        factors = Sketch(scaling="init")(scores, 15, seeded(seed))
        assert torch.equal(Sketch()(scores, 15, seeded(seed)), factors > 0)
        assert not factors[:8].any()


def test_a_layer_that_keeps_all_positive_scores_is_the_limit_of_many_draws() -> None:
    scores = vector(1.0, 0.0, 5.0, GONE)
    for k in (2, 3):
        assert Sketch(scaling="init")(scores, k, seeded()).tolist() == [1.0, 0.0, 1.0, 0.0]
        assert Sketch().findings(scores, k) == {"expected_kept": 2, "draws": 0}


def test_the_search_for_the_number_of_draws_ends_for_scores_of_many_decades() -> None:
    scores = torch.logspace(-40, 0, 60, dtype=torch.float64)
    found = Sketch().findings(scores, 59)
    assert found["draws"] > 2**52 and found["expected_kept"] < 59
    assert int(Sketch()(scores, 59, seeded()).sum()) < 59  # it returns without an error


def test_an_unknown_scaling_is_rejected() -> None:
    with pytest.raises(ValueError, match=r"pick.scaling='yes' must be one of none, init"):
        Sketch(scaling="yes")


def test_algorithm_1_attains_its_density_in_the_mean() -> None:
    # The expected supports of all layers sum to K within half a weight a layer.
    counts = torch.tensor(
        [
            float(count_kept(masks_of(Magnitude(), mlp(), 0.2, seed=s, pick=Sketch())))
            for s in range(60)
        ]
    )
    assert len(set(counts.tolist())) > 10
    assert abs(float(counts.mean()) - 0.2 * 2720) < 1.5 + 4 * float(counts.std()) / math.sqrt(60)


def test_a_run_with_algorithm_1_records_the_expected_and_the_kept_count(tmp_path: Path) -> None:
    record, artefacts = perform_run(
        compose_run("method=magnitude", "density=0.2", "pick=sketch", *TINY), machine(tmp_path)
    )
    kept, prunable = count_kept(artefacts["train"].masks), count_prunable(artefacts["train"].masks)
    assert (record["kept"], record["density"], record["density_target"]) == (
        kept,
        kept / prunable,
        0.2,
    )
    assert kept != round(0.2 * prunable)  # with this seed
    assert abs(record["report"]["expected_kept"] - 0.2 * prunable) < 1.5
    assert record["report"]["draws"] > kept


def test_a_run_with_an_exact_count_records_no_expectation(tmp_path: Path) -> None:
    record, _ = perform_run(
        compose_run("method=magnitude", "density=0.2", "pick=proportional", *TINY),
        machine(tmp_path),
    )
    assert record["kept"] == round(0.2 * record["prunable"])
    assert record["report"] == {"zero_scores_kept": 0}


def test_factors_multiply_the_initial_weights_of_the_training(tmp_path: Path) -> None:
    # At a negligible learning rate the trained weights equal the initial ones.
    still = ["train.lr=1e-30", "train.momentum=0"]
    plain, scaled = (
        perform_run(
            compose_run(
                "method=magnitude", "density=0.2", "pick=sketch", f"pick.scaling={s}", *TINY, *still
            ),
            machine(tmp_path),
        )[1]
        for s in ("none", "init")
    )
    for name, mask in plain["train"].masks.items():
        initial, rescaled = plain["train"].weights[name], scaled["train"].weights[name]
        factors = scaled["prune"].findings[name]
        assert torch.equal(scaled["train"].masks[name], mask) and torch.equal(factors > 0, mask)
        assert torch.equal(rescaled, initial * factors.to(initial))
        assert not torch.equal(rescaled, initial)
    # biases have no factor
    assert all(
        artefacts["train"].weights["fc1.bias"].abs().max() < 1e-25 for artefacts in (plain, scaled)
    )
