"""Errors of findings in the closing summary."""

import io
import re
from pathlib import Path

import pytest
from record_support import valid_record
from rich.console import Console
from support import compose_run, machine, perform_run

from runner.config.compose import compose_config
from runner.config.request import read_request
from runner.display.summary import Closing, closing_of, summary
from runner.spec.findings import doubts, errors, written


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
        ({"k_se": 0.1, "k_least": 0.99, "k_of": "p"}, " ± 0.1, at least 0.99 (errors of p alone)"),
    ],
)
def test_a_finding_is_followed_by_its_errors(
    found: dict[str, float | str | None], text: str
) -> None:
    assert errors({"k": 1.0, **found}, "k") == text


def test_a_share_below_one_is_not_printed_as_one() -> None:
    for value, text in ((1.0, "1"), (0.9999954679, "0.999995"), (0.98765, "0.9877"), (0.0, "0")):
        assert written(value) == text


def test_the_summary_of_a_run_without_a_network_states_no_weights() -> None:
    none = dict.fromkeys(("prunable", "kept", "density", "sparsity"))
    text = str(summary(valid_record(0, **none), Path("result.json"), Closing()))
    assert re.search(r"model +mlp$", text, re.MULTILINE) and "density" not in text


def test_the_summary_marks_a_found_density_that_has_not_converged(tmp_path: Path) -> None:
    overrides = [
        "method=imc",
        "dataset=digits",
        "model=mlp",
        "train.lr=0.01",
        "train.scale=0.0125",
        "method.spectrum.steps=12",
        "method.spectrum.probes=2",
        "method.hessian.n_samples=64",
        "method.lipschitz.directions=1",
        "method.gap.rule=smoothed_sign",
        "method.spectrum.deflated_steps=null",
    ]
    record, _ = perform_run(compose_run(*overrides), machine(tmp_path))
    console = Console(width=200, file=io.StringIO())
    console.print(
        summary(record, Path("result.json"), closing_of(read_request(compose_config(overrides))))
    )
    text = console.file.getvalue()
    (density,) = (line for line in text.splitlines() if " density   " in line[:22])
    less = f"{record['report']['found_density_half']:.4g} with half of the work"
    assert record["report"]["found_density_converged"] == 0
    assert f"{record['density']:.4f} ± " in density and f"not converged: {less}" in density
    assert f"({record['kept']:,} kept); requested: found by the method" in density


def test_runs_that_failed_or_lack_a_check_are_counted() -> None:
    reports = [{"k_converged": 0}, {"k_converged": 1}, {"k_converged": None}, {}]
    assert doubts(reports, "k", checked=False) == "not converged in 1 of 4 runs"
    assert doubts(reports, "k", checked=True) == (
        "not converged in 1 of 4 runs; convergence not checked in 1 of 4 runs"
    )
    assert doubts([{"k_converged": 1}], "k", checked=True) == ""
