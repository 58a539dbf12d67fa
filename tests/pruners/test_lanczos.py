"""Lanczos against eigh and against matrices with a known spectrum."""

import pytest
import torch
from imc_cases import symmetric
from torch import Generator, Tensor

from pruners.curvature.lanczos import (
    as_matrix,
    exact_spectrum,
    krylov,
    lanczos,
    leading,
    signs,
)


def probe(d: int, seed: int = 0) -> Tensor:
    return signs(d, Generator().manual_seed(seed), torch.zeros(d, dtype=torch.float64))


def outliers_and_bulk(d: int = 300) -> tuple[Tensor, Tensor]:
    """The eigenvalues and the matrix of three outliers far above a bulk, as in a net's Hessian."""
    values = torch.cat(
        [
            torch.linspace(0, 0.05, d - 3, dtype=torch.float64),
            torch.tensor([3.0, 5.0, 10.0], dtype=torch.float64),
        ]
    )
    return values, symmetric(values)


def test_as_many_steps_as_dimensions_reproduce_eigh() -> None:
    a = symmetric(torch.linspace(-2, 7, 30) ** 3 / 50)
    run = krylov(lambda v: a @ v, probe(30), 30)
    values, vectors = torch.linalg.eigh(a)
    torch.testing.assert_close(run.theta, values)
    # tau_j = (v_j'z)^2 / |z|^2
    torch.testing.assert_close(run.tau, (vectors.T @ probe(30)) ** 2 / 30)


def test_a_function_of_the_matrix_equals_eigh() -> None:
    a, z = symmetric(torch.linspace(-2, 7, 30)), probe(30)
    run = krylov(lambda v: a @ v, z, 30)
    values, vectors = torch.linalg.eigh(a)
    torch.testing.assert_close(
        run.apply(torch.exp(-run.theta)), vectors @ (torch.exp(-values) * (vectors.T @ z))
    )


def test_the_tridiagonal_matrix_is_the_projection_onto_an_orthonormal_basis() -> None:
    _, a = outliers_and_bulk()
    alpha, beta, basis = lanczos(lambda v: a @ v, probe(300), 40)
    torch.testing.assert_close(basis @ basis.T, torch.eye(40, dtype=torch.float64))
    t = torch.diag(alpha) + torch.diag(beta[:-1], 1) + torch.diag(beta[:-1], -1)
    torch.testing.assert_close(basis @ a @ basis.T, t)


@pytest.mark.parametrize("power", range(8))
def test_m_steps_are_exact_for_polynomials_of_degree_2m_minus_1(power: int) -> None:
    # Gauss quadrature: z'H^p z / d = sum tau theta^p for p <= 7 with m = 4.
    a, z = symmetric(torch.linspace(-1, 2, 25)), probe(25)
    run = krylov(lambda v: a @ v, z, 4)
    assert float(run.tau @ run.theta**power) == pytest.approx(
        float(z @ torch.linalg.matrix_power(a, power) @ z) / 25
    )


def test_weights_sum_to_one_and_ritz_values_lie_inside_the_spectrum() -> None:
    values, a = outliers_and_bulk()
    run = krylov(lambda v: a @ v, probe(300), 20)
    assert float(run.tau.sum()) == pytest.approx(1.0)
    assert float(run.theta[-1]) <= float(values.max()) + 1e-9
    assert float(run.theta[0]) >= float(values.min()) - 1e-9


def test_ghosts_of_the_outliers_appear_without_reorthogonalisation() -> None:
    _, a = outliers_and_bulk()

    def copies(reorth: str) -> list[int]:
        theta = krylov(lambda v: a @ v, probe(300), 80, reorth).theta
        return [int(((theta - top).abs() < 1e-6).sum()) for top in (3.0, 5.0, 10.0)]

    assert copies("full") == [1, 1, 1]
    assert max(copies("none")) > 1  # a simple eigenvalue appears several times


@pytest.mark.parametrize(
    ("values", "distinct"), [([4.0] * 6, 1), ([0.0] * 6, 1), ([1.0, 1, 1, 5, 5, 9], 3)]
)
def test_an_exhausted_krylov_space_ends_the_iteration(values: list[float], distinct: int) -> None:
    a = symmetric(torch.tensor(values))
    run = krylov(lambda v: a @ v, probe(6), 6)
    assert len(run.theta) == distinct
    torch.testing.assert_close(run.theta, torch.tensor(sorted(set(values)), dtype=torch.float64))
    assert run.residual == 0.0


def test_an_eigenvector_as_start_ends_the_iteration_after_one_step() -> None:
    a = torch.diag(torch.tensor([2.0, 3.0, 7.0], dtype=torch.float64))
    run = krylov(lambda v: a @ v, torch.tensor([0.0, 5.0, 0.0], dtype=torch.float64), 3)
    assert (run.theta.tolist(), run.tau.tolist(), run.norm) == ([3.0], [1.0], 5.0)


def test_padding_adds_no_mass_and_no_gap() -> None:
    a = symmetric(torch.tensor([1.0, 1.0, 5.0]))
    theta, tau = krylov(lambda v: a @ v, probe(3), 3).padded(5)
    torch.testing.assert_close(theta, torch.tensor([1.0, 1, 1, 1, 5], dtype=torch.float64))
    assert tau[:3].tolist() == [0, 0, 0]
    assert float(tau.sum()) == pytest.approx(1.0)


def test_converged_ritz_values_are_eigenvalues() -> None:
    values, a = outliers_and_bulk()
    run = krylov(lambda v: a @ v, probe(300), 15)
    found = run.theta[run.converged]
    assert {3, 5, 10} <= {round(float(t), 6) for t in found}
    # each is within its residual, 1e-4 of the range, of an eigenvalue
    assert float((found[:, None] - values).abs().min(1).values.max()) < 1e-3
    assert not run.converged.all()


def test_float32_finds_the_outliers() -> None:
    _, a = outliers_and_bulk()
    run = krylov(lambda v: a.float() @ v, probe(300).float(), 50)
    assert (run.theta.dtype, run.basis.dtype) == (torch.float64, torch.float32)
    torch.testing.assert_close(
        run.theta[-3:], torch.tensor([3.0, 5.0, 10.0], dtype=torch.float64), rtol=1e-5, atol=0
    )


def test_probes_are_signs_and_repeat_under_a_seed() -> None:
    z = probe(1000)
    assert set(z.tolist()) == {-1.0, 1.0}
    assert abs(float(z.sum())) < 150  # five standard deviations
    assert torch.equal(z, probe(1000))
    assert not torch.equal(z, probe(1000, seed=1))


def test_the_matrix_of_an_operator_is_its_columns_made_symmetric() -> None:
    a = torch.tensor([[1.0, 2.0], [4.0, 3.0]])
    assert as_matrix(lambda v: a @ v, torch.zeros(2)).tolist() == [[1, 3], [3, 3]]


def test_zero_rows_are_separated_with_unit_vectors_as_eigenvectors() -> None:
    h = torch.zeros(5, 5)
    h[torch.tensor([0, 2, 4])[:, None], torch.tensor([0, 2, 4])] = symmetric(
        torch.tensor([-1.0, 0.0, 2.0])
    ).float()
    values, vectors, dead = exact_spectrum(h)
    torch.testing.assert_close(
        values, torch.tensor([-1.0, 0, 2, 0, 0], dtype=torch.float64), atol=1e-6, rtol=0
    )
    assert dead.tolist() == [False, False, False, True, True]
    assert vectors[:, 3:].T.tolist() == [[0, 1, 0, 0, 0], [0, 0, 0, 1, 0]]
    torch.testing.assert_close(
        vectors @ torch.diag(values) @ vectors.T, h.double(), atol=1e-6, rtol=0
    )


@pytest.mark.parametrize("steps", [1, 7, 20, 39])
def test_the_leading_block_of_a_run_is_the_run_of_fewer_steps(steps: int) -> None:
    _, a = outliers_and_bulk()
    long, short = (krylov(lambda v: a @ v, probe(300), m) for m in (40, steps))
    theta, tau = leading(long.theta, long.tau, steps)
    torch.testing.assert_close(theta, short.theta, atol=1e-11, rtol=0)
    torch.testing.assert_close(tau, short.tau, atol=1e-9, rtol=0)


def test_one_step_has_the_mean_of_the_spectrum_as_its_ritz_value() -> None:
    # alpha_1 = z'Hz / z'z = sum tau theta: 0.25 * 1 + 0.75 * 5
    theta, tau = leading(
        torch.tensor([1.0, 5.0], dtype=torch.float64),
        torch.tensor([0.25, 0.75], dtype=torch.float64),
        1,
    )
    assert (theta.tolist(), tau.tolist()) == (pytest.approx([4.0]), pytest.approx([1.0]))


def test_a_leading_block_ignores_padding_and_is_no_longer_than_the_run() -> None:
    a = symmetric(torch.tensor([1.0, 1.0, 5.0]))
    run = krylov(lambda v: a @ v, probe(3), 3)
    theta, tau = leading(*run.padded(6), 5)
    assert torch.equal(theta, run.theta) and torch.equal(tau, run.tau)
