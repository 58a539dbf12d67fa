"""Errors of findings in the closing summary."""

import pytest

from runner.spec.findings import doubts, errors


@pytest.mark.parametrize(
    ("found", "text"),
    [
        ({}, ""),
        ({"k_se": 0.0123}, " ± 0.012"),
        ({"k_se": 0.1, "k_half": 0.25, "k_converged": 1}, " ± 0.1"),
        (
            {"k_se": None, "k_half": 0.25, "k_converged": 0},
            ", not converged: 0.25 with half of the work",
        ),
        ({"k_half": None, "k_converged": 0}, ", not converged: none with half of the work"),
        ({"k_half": 0.56, "k_converged": None}, ", 0.56 with half of the work"),
    ],
)
def test_a_finding_is_followed_by_its_errors(found: dict[str, float | None], text: str) -> None:
    assert errors({"k": 1.0, **found}, "k") == text


def test_runs_that_failed_or_lack_a_check_are_counted() -> None:
    reports = [{"k_converged": 0}, {"k_converged": 1}, {"k_converged": None}, {}]
    assert doubts(reports, "k", checked=False) == "not converged in 1 of 4 runs"
    assert doubts(reports, "k", checked=True) == (
        "not converged in 1 of 4 runs; convergence not checked in 1 of 4 runs"
    )
    assert doubts([{"k_converged": 1}], "k", checked=True) == ""
