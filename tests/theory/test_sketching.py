"""Algorithm 1 and its lemmas: moments, bounds worked by hand, and verdicts.

The expected numbers are those of docs/methods/mask_randomization.md.
"""

import math
from typing import Any

import pytest
import torch
from torch import Generator, nn

from pruners.base import Task, full_masks
from pruners.selection.pick import draw_counts
from pruners.theory.premise import Premise, chances
from pruners.theory.premise import error as jacobian_error
from pruners.theory.sketching import Lemma, bounds, mean_error, probabilities, simulated_error


def task(seed: int = 0, **more: Any) -> Task:
    return Task(
        lambda a, b: a.sum(),
        more.pop("batches", lambda n: []),
        None,
        steps=0,
        rng=Generator().manual_seed(seed),
        **more,
    )


def measured(lemma: str, **options: Any) -> dict[str, Any]:
    found = Lemma(lemma, **options)(nn.Linear(1, 1), {}, task())
    return {**found.report, **found.series}


def test_the_moments_of_algorithm_1_are_those_of_a_multinomial() -> None:
    p = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    s = 4
    n = 20_000
    rng = Generator().manual_seed(0)
    m = torch.stack([draw_counts(s, p, rng) for _ in range(n)]) / (s * p)
    spread = m.std(0) / math.sqrt(n)
    assert ((m.mean(0) - 1).abs() < 4 * spread).all()
    centred = m - 1
    for i in range(3):
        for j in range(3):
            product = centred[:, i] * centred[:, j]
            closed = (1 - float(p[i])) / (s * float(p[i])) if i == j else -1 / s
            assert abs(float(product.mean()) - closed) < 4 * float(product.std()) / math.sqrt(n)
    kept = (m > 0).sum(1).double()
    assert abs(float(kept.mean()) - sum(1 - (1 - float(q)) ** s for q in p)) < 4 * float(
        kept.std()
    ) / math.sqrt(n)


def test_the_closed_form_of_the_mean_error_equals_a_sum_over_all_masks() -> None:
    # Two features, two draws: the four pairs of draws with their probabilities.
    x = torch.tensor([[1.0, 2.0], [0.5, -1.0]], dtype=torch.float64)
    w = torch.tensor([2.0, -3.0], dtype=torch.float64)
    p = torch.tensor([0.25, 0.75], dtype=torch.float64)
    whole = 0.0
    for a in (0, 1):
        for b in (0, 1):
            m = torch.tensor([(a == 0) + (b == 0), (a == 1) + (b == 1)]) / (2 * p)
            whole += float(p[a] * p[b] * (x.T @ (w - w * m)).square().sum())
    assert mean_error(x, x.norm(dim=1), w, p, 2) == pytest.approx(whole, rel=1e-12)
    rng = Generator().manual_seed(1)
    errors = torch.tensor([simulated_error(x, w, p, 2, rng) for _ in range(5000)])
    assert abs(float(errors.mean()) - whole) < 4 * float(errors.std()) / math.sqrt(5000)


def test_bounds_equal_examples_worked_by_hand() -> None:
    x = torch.tensor([[3.0, 4.0], [0.0, 2.0]], dtype=torch.float64)  # norms 5 and 2
    w0 = torch.tensor([1.0, -2.0], dtype=torch.float64)
    w = torch.tensor([1.0, 1.0], dtype=torch.float64)
    norms, s = x.norm(dim=1), 2
    p = probabilities(norms, w0)
    assert p.tolist() == pytest.approx([5 / 9, 4 / 9])
    # X^T w0 = (3, 0)
    assert bounds("lemma41", x, norms, w0, w0, p, s) == pytest.approx(((81 - 3) / 2, (81 - 9) / 2))
    assert bounds("lemma42", x, norms, w0, w0, p, s) == pytest.approx((5 / 2, (9 - 5) / 2))
    # 25 * 9/5 + 4 * 9/4; X^T w = (3, 6)
    assert bounds("lemma43", x, norms, w0, w, p, s) == pytest.approx((54 / 2, (54 - 45) / 2))
    assert bounds("theorem44", x, norms, w0, w, p, s) == pytest.approx(
        (3 * (9 / 2 + 6 + 3) / 2, 3 * (9 / 1 + 6 + 3) / 2)
    )
    u = torch.full((2,), 0.5, dtype=torch.float64)
    assert bounds("lemma45", x, norms, w0, w, u, s) == pytest.approx((2 * 2 / 2, (2 * 29 - 45) / 2))


def test_lemma_42_fails_as_printed_and_holds_when_corrected() -> None:
    # docs/methods/mask_randomization.md: for w = 1 the true error is 1,982, the printed bound 10,
    # the corrected bound 1,990.
    found = measured("lemma42", weights="ones", draws=(20,), repeats=400)
    assert (found["printed"][0], found["corrected"][0]) == (pytest.approx(10), pytest.approx(1990))
    assert found["measured"][0] == pytest.approx(1982, abs=2 * found["half"][0] + 1)
    assert (found["printed_holds"], found["corrected_holds"]) == (0, 1)
    assert found["printed_low"] > 100


def test_theorem_44_has_a_counterexample_and_holds_when_corrected() -> None:
    found = measured("theorem44", change="smallest", average="exact", draws=(20,), repeats=50)
    assert found["printed_holds"] == 0 and found["printed_measured"] > 5
    assert found["corrected_holds"] == 1 and 0.5 < found["corrected_measured"] <= 1
    plain = measured("theorem44", average="exact", draws=(20,), repeats=50)
    # w* = w0: |w0|_1^2 / s
    assert plain["printed_holds"] == 1 and plain["printed"] == plain["corrected"]


@pytest.mark.parametrize(
    ("lemma", "change"), [("lemma41", "none"), ("lemma43", "all"), ("lemma45", "all")]
)
def test_identities_hold_within_four_standard_errors(lemma: str, change: str) -> None:
    found = measured(lemma, change=change, draws=(5, 20), repeats=1500)
    for error, half, closed in zip(
        found["measured"], found["half"], found["corrected"], strict=True
    ):
        # four standard errors; for lemma 4.5 on average over X
        assert abs(error - closed) < 4 / 1.96 * half
    assert found["measured"][0] / found["measured"][1] == pytest.approx(4, rel=0.15)  # 1 / s


def test_identities_are_judged_from_both_sides_and_bounds_from_one() -> None:
    bound, identity = Lemma("lemma42"), Lemma("lemma41")
    assert [bound._verdicts(e, 0.1, 1.0, 1.0)["corrected_holds"] for e in (0.5, 1.05, 1.2)] == [
        1,
        1,
        0,
    ]
    assert [identity._verdicts(e, 0.1, 1.0, 1.0)["corrected_holds"] for e in (0.5, 1.05, 1.2)] == [
        0,
        1,
        0,
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lemma": "lemma9"}, "lemma41, lemma42"),
        ({"at": 7}, "method.at=7"),
        ({"change": "all"}, "is about w0 itself"),
        ({"repeats": 1}, "method.repeats=1"),
    ],
)
def test_invalid_options_are_rejected(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Lemma(**{"lemma": "lemma41", **options})


# --- Theorem 7.2


class Squares(nn.Module):
    """One weight a row, f(x) = (w1 w1 x1, w2 x2), with a Jacobian in closed form."""

    def __init__(self, *w: float) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 1, bias=False)
        with torch.no_grad():
            self.layer.weight.copy_(torch.tensor([w]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        w = self.layer.weight[0]
        return torch.stack([w[0] * w[0] * x[:, 0], w[1] * x[:, 1]], 1)


def test_the_premise_compares_the_initial_and_the_final_net() -> None:
    from pruners.base import Measurement

    model = Squares(3.0, 4.0)  # from (1, 4): moved by 2, relative to sqrt(17)
    start = Measurement({"layer.weight": torch.tensor([[1.0, 4.0]])})
    x = torch.tensor([[1.0, 2.0]])
    found = Premise(examples=1, classes=2)(
        model,
        full_masks(model),
        task(measured={"init": start}, batches=lambda n: [(x, torch.zeros(1))]),
    ).report
    # J = diag(2 w1 x1, x2): initially diag(2, 2), finally diag(6, 2).
    assert found["moved"] == pytest.approx(2 / 17**0.5)
    assert found["jacobian"] == pytest.approx(4 / 8**0.5)
    jt = torch.diag(torch.tensor([6.0, 2.0], dtype=torch.float64))
    w = torch.tensor([3.0, 4.0], dtype=torch.float64)
    first = chances(
        torch.diag(torch.tensor([2.0, 2.0], dtype=torch.float64)),
        torch.tensor([1.0, 4.0], dtype=torch.float64),
    )
    assert first.tolist() == pytest.approx([0.2, 0.8])
    assert chances(jt, w).tolist() == pytest.approx([18 / 26, 8 / 26])
    # 18^2 / p1 + 8^2 / p2 - (18^2 + 8^2): 324 / 0.2 + 64 / 0.8 - 388 = 1312; best 26^2 - 388 = 288;
    # uniform 388.
    assert jacobian_error(jt, w, first) == pytest.approx(1312)
    assert found["first_over_best"] == pytest.approx(1312 / 288)
    assert found["uniform_over_first"] == pytest.approx(388 / 1312)
    assert model.layer.weight.tolist() == [[3.0, 4.0]] and model.layer.weight.grad is None
