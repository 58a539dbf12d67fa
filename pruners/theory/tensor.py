"""Tensor initialisation of a student.

Zhong et al., 2017 (arXiv:1706.03175), Algorithm 1, in the sparse form of "Why Lottery Ticket Wins?"
(Zhang et al., Sec. 4).

With z = x.T w, m_k(s) the k-th Hermite coefficient of relu(s z) and unit directions u_j, the
Hermite moments of a teacher are sums of powers of its directions:

    M_k = E[y He_k(x)] = sum_j v_j m_k(||w_j||) u_j^(o k)
    m_1 = s/2,  m_2 = s/sqrt(2 pi),  m_3 = 0,  m_4 = -s/sqrt(2 pi),  v_j = 1/K

The directions span the top eigenvectors of M_2. Within this span, whitening by M_2 makes the
directions orthonormal. M_4 then separates them, and M_1 gives signs and lengths. Sparse case: x is
replaced by xt = sum_j x[Omega_j] / sqrt(K) in R^r, which is N(0, I_r) for pairwise disjoint
supports. Each moment is then multiplied by K^(-k/2).

Deviations and their reasons (docs/methods/sample_complexity.md):
- The seed paper names the third moment, which vanishes for ReLU. The fourth takes its place (Zhong
  et al.'s own rule). They contract it with one random vector. Here the whole tensor within the span
  is used (K^4 numbers), because a direction nearly orthogonal to that vector would drown in noise.
- Zhong et al. decompose without whitening, since their output weights may have either sign. Here
  v_j = 1/K > 0 makes M_2 positive, and M_2 is estimated far more accurately than M_4. With
  whitening, a million examples give directions within 0.1 in the case of
  docs/methods/sample_complexity.md (nine of ten teachers; the tenth has almost opposite
  directions); without it, 0.33 (measured).
- Overlapping supports bias the moments and raise an error. Equal supports (r = d) are allowed:
  there xt = x and no factor is needed.
- All moments use one set of data, unless `split` divides it in three, as the algorithm does for its
  proof.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from pruners.base import in_batches

ROWS = 100_000  # examples per block: bounds memory
ROOT = math.sqrt(2 * math.pi)


@dataclass(frozen=True)
class TensorInit:
    """Tensor initialisation of one student.

    Args:
        tries: random projections of the tensor, of which the best decomposition is used.
        split: use a different third of the data for each moment.
    """

    tag: ClassVar[str] = "tensor_init"
    tries: int = 50
    split: bool = False

    def __post_init__(self) -> None:
        if self.tries < 1:
            raise ValueError(f"tries={self.tries} must be at least 1: projections to decompose by")

    def __call__(self, inputs: Tensor, targets: Tensor, supports: Tensor, rng: Generator) -> Tensor:
        """Compute W(0), (K, r): row j in the order of `supports[j]`.

        If disjoint supports are added up, the data do not determine which direction belongs to
        which neuron; the rows come in an arbitrary order.

        Args:
            inputs: (N, d) of N(0, I); targets: (N,).
            supports: (K, r), the inputs of each neuron: pairwise disjoint, or all equal.

        Raises:
            ValueError: supports overlap; r < K.
        """
        added, power = sketched(inputs, supports)
        neurons, size = supports.shape
        if size < neurons:
            raise ValueError(
                f"r={size} must be at least K={neurons}: that many directions are not linearly"
                " independent in fewer dimensions"
            )
        parts = [(added, targets)] * 3
        if self.split:
            parts = list(zip(added.chunk(3), targets.chunk(3), strict=True))
        basis, values = top_basis(second_moment(*parts[0]), neurons)  # (r, K), (K,)
        tensor = fourth_moment(parts[1][0] @ basis, parts[1][1])  # (K, K, K, K)
        white = values.abs().rsqrt()
        # (K, K), orthonormal rows
        whitened = torch.einsum("abcd,a,b,c,d->abcd", tensor, white, white, white, white)
        turned = decompose(whitened, self.tries, rng)
        directions = (turned / white) @ basis.T
        directions = directions / directions.norm(dim=1, keepdim=True)  # (K, r), up to sign
        first = (parts[2][1][:, None] * parts[2][0]).mean(0)  # (r,)
        z: Tensor = torch.linalg.lstsq(directions.T, first[:, None]).solution[:, 0]
        weights: Tensor = 2 * neurons * neurons ** (power / 2) * z[:, None] * directions
        return weights


def sketched(inputs: Tensor, supports: Tensor) -> tuple[Tensor, int]:
    """Return the inputs whose moments are taken, (N, r), and the power of their factor.

    The power is 1 if each moment of order k carries a factor K^(-k/2), else 0.

    Raises:
        ValueError: supports overlap without being equal.
    """
    neurons = len(supports)
    if all(bool((row.sort().values == supports[0].sort().values).all()) for row in supports):
        return inputs[:, supports[0]], 0
    if bool((supports.flatten().sort().values.diff() == 0).any()):
        raise ValueError(
            "supports overlap: the sum of their inputs is then not isotropic, which biases the"
            " moments; they must be disjoint, or all equal"
        )
    total = sum(inputs[:, row] for row in supports)
    return total / math.sqrt(neurons), 1  # type: ignore[return-value]


def second_moment(x: Tensor, y: Tensor) -> Tensor:
    """E[y (x x^T - I)], (r, r)."""
    return (x.T * y) @ x / len(y) - y.mean() * torch.eye(x.shape[1], dtype=x.dtype, device=x.device)


def top_basis(moment: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Orthonormal eigenvectors (r, k) of the k largest |eigenvalues|, and these values (k,)."""
    values, vectors = torch.linalg.eigh(moment)
    order = values.abs().argsort(descending=True)[:k]
    return vectors[:, order], values[order]


def fourth_moment(x: Tensor, y: Tensor) -> Tensor:
    """E[y He_4(x)] for x (N, k) of N(0, I_k), (k, k, k, k): x^(o4) - 6 terms x x I + 3 terms I I.

    Samples are summed within the span, so no tensor has d^4 entries.
    """
    k = x.shape[1]
    eye = torch.eye(k, dtype=x.dtype, device=x.device)
    raw, second = x.new_zeros((k,) * 4), (x.T * y) @ x / len(y)
    for rows, weights in in_batches(x, y, ROWS):
        pairs = (rows[:, :, None] * rows[:, None]).flatten(1)  # (n, k k)
        raw += ((pairs.T * weights) @ pairs).view(raw.shape)
    orders = ["abcd", "acbd", "adbc", "bcad", "bdac", "cdab"]
    both = sum(torch.einsum(f"{o[:2]},{o[2:]}->abcd", second, eye) for o in orders)
    twice = sum(torch.einsum(f"{o[:2]},{o[2:]}->abcd", eye, eye) for o in orders[:3])
    return raw / len(y) - both + y.mean() * twice


def decompose(tensor: Tensor, tries: int, rng: Generator) -> Tensor:
    """Decompose a symmetric tensor sum_j c_j q_j^(o4) into orthonormal q_j.

    Returns (k, k), the q_j as rows and up to sign. A projection by a random matrix P gives
    sum_j c_j (q_j . P q_j) q_j q_j^T, whose eigenvectors are the q_j. Of `tries` projections, the
    one whose eigenvectors leave the smallest residual of the tensor is used.
    """
    k, least = tensor.shape[0], math.inf
    best: Tensor | None = None
    for _ in range(tries):
        projection = torch.randn((k, k), generator=rng, dtype=torch.float64).to(tensor)
        seen = torch.einsum("abcd,cd->ab", tensor, projection)
        found = torch.linalg.eigh((seen + seen.T) / 2).eigenvectors.T
        powers = torch.stack([torch.einsum("a,b,c,d->abcd", q, q, q, q) for q in found])  # (k,)*5
        factors = torch.einsum("jabcd,abcd->j", powers, tensor)
        residual = float((torch.einsum("j,jabcd->abcd", factors, powers) - tensor).norm())
        if residual < least:
            best, least = found, residual
    assert best is not None
    return best
