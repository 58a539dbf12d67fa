"""Tensor initialisation: moments in closed form, exact decompositions, recovered directions."""

import math

import pytest
import torch
from torch import Generator, Tensor

from pruners.theory.tensor import (
    TensorInit,
    decompose,
    fourth_moment,
    second_moment,
    sketched,
    top_basis,
)

ROOT = math.sqrt(2 * math.pi)


def teacher(
    supports: Tensor, dimension: int, examples: int, seed: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Inputs (N, d), targets (N,), weights (K, r) uniform on [-0.5, 0.5]."""
    rng = Generator().manual_seed(seed)
    weights = torch.rand(supports.shape, generator=rng, dtype=torch.float64) - 0.5
    x = torch.randn((examples, dimension), generator=rng, dtype=torch.float64)
    y = torch.stack(
        [(x[:, row] @ w).clamp(min=0) for row, w in zip(supports, weights, strict=True)]
    ).mean(0)
    return x, y, weights


def gaps(found: Tensor, truth: Tensor) -> list[float]:
    """Distance of each true direction from its match among those found (two neurons)."""
    u, v = (w / w.norm(dim=1, keepdim=True) for w in (found, truth))
    orders = [
        [float((u[i] - v[j]).norm()) for j, i in enumerate(order)] for order in ([0, 1], [1, 0])
    ]
    return min(orders, key=max)


def test_the_stated_case_is_within_a_fifth_of_the_true_directions() -> None:
    supports = torch.arange(12).view(2, 6)  # K = 2, disjoint; docs/methods/sample_complexity.md
    # Without teacher 0: its directions are almost opposite (cosine -0.95), and even moments cannot
    # distinguish u from -u.
    for seed in (1, 2, 3):
        x, y, weights = teacher(supports, 12, 1_000_000, seed)
        found = TensorInit()(x, y, supports, Generator().manual_seed(0))
        assert max(gaps(found, weights)) < 0.2
        assert sorted(found.norm(dim=1).tolist()) == pytest.approx(
            sorted(weights.norm(dim=1).tolist()), rel=0.1
        )


def test_equal_supports_are_zhongs_case() -> None:
    supports = torch.arange(6).expand(2, 6)
    x, y, weights = teacher(supports, 6, 1_000_000, 3)
    assert (
        max(gaps(TensorInit(split=True)(x, y, supports, Generator().manual_seed(0)), weights)) < 0.2
    )


def test_moments_of_a_relu_in_one_direction_match_their_closed_form() -> None:
    # y = relu(s u.x): M2 = s / sqrt(2 pi) u u^T, M4 = -s / sqrt(2 pi) u^(o4). Monte Carlo within
    # four standard errors of each entry.
    n, s = 400_000, 0.8
    u = torch.tensor([0.6, 0.8], dtype=torch.float64)
    x = torch.randn((n, 2), generator=Generator().manual_seed(0), dtype=torch.float64)
    y = (s * (x @ u)).clamp(min=0)
    parts2 = torch.stack(
        [second_moment(a, b) for a, b in zip(x.chunk(100), y.chunk(100), strict=True)]
    )
    parts4 = torch.stack(
        [fourth_moment(a, b) for a, b in zip(x.chunk(100), y.chunk(100), strict=True)]
    )
    for parts, closed in (
        (parts2, s / ROOT * torch.outer(u, u)),
        (parts4, -s / ROOT * torch.einsum("a,b,c,d->abcd", u, u, u, u)),
    ):
        assert ((parts.mean(0) - closed).abs() < 4 * parts.std(0) / 10).all()


def test_fourth_moments_of_single_examples_equal_values_worked_by_hand() -> None:
    x, y = torch.tensor([[2.0, 1.0]], dtype=torch.float64), torch.tensor([1.0], dtype=torch.float64)
    found = fourth_moment(x, y)
    # He_4(2) = 16 - 24 + 3 = -5; He_3(2) He_1(1) = (8 - 6) 1 = 2; He_2(2) He_2(1) = 3 * 0 = 0;
    # He_4(1) = 1 - 6 + 3 = -2.
    assert [
        float(found[i])
        for i in ((0, 0, 0, 0), (0, 0, 0, 1), (1, 0, 0, 0), (0, 1, 1, 0), (1, 1, 1, 1))
    ] == [-5, 2, 2, 0, -2]


def test_exact_tensors_are_decomposed() -> None:
    rng = Generator().manual_seed(0)
    q, _ = torch.linalg.qr(torch.randn((4, 4), generator=rng, dtype=torch.float64))
    tensor = sum(
        c * torch.einsum("a,b,c,d->abcd", v, v, v, v)
        for c, v in zip((1.0, -2.0, 0.5, 1.5), q, strict=True)
    )
    found = decompose(tensor, 5, rng)
    assert (found @ q.T).abs().max(0).values.tolist() == pytest.approx([1] * 4, abs=1e-6)


def test_the_basis_contains_the_largest_eigenvalues_of_either_sign() -> None:
    moment = torch.diag(torch.tensor([1.0, -3.0, 0.1, 2.0], dtype=torch.float64))
    basis, values = top_basis(moment, 2)
    assert basis.abs().argmax(0).tolist() == [1, 3] and values.tolist() == [-3, 2]


def test_invalid_supports_and_options_are_rejected() -> None:
    x, y = torch.randn(10, 5, dtype=torch.float64), torch.randn(10, dtype=torch.float64)
    with pytest.raises(ValueError, match="supports overlap"):
        sketched(x, torch.tensor([[0, 1], [1, 2]]))
    with pytest.raises(ValueError, match="at least K=2"):
        TensorInit()(x, y, torch.tensor([[0], [1]]), Generator())
    with pytest.raises(ValueError, match="tries=0"):
        TensorInit(tries=0)


def test_added_inputs_are_isotropic() -> None:
    x = torch.randn((200_000, 6), generator=Generator().manual_seed(1), dtype=torch.float64)
    added, power = sketched(x, torch.tensor([[0, 1, 2], [5, 4, 3]]))
    assert power == 1 and torch.allclose(added[:, 0], (x[:, 0] + x[:, 5]) / math.sqrt(2))
    assert float((added.T @ added / len(x) - torch.eye(3)).abs().max()) < 4 * math.sqrt(2 / 200_000)
