"""`make kinds`: its figures from records worked by hand."""

from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from runner.bench.kinds import (
    COMMAND,
    PAGES,
    kinds,
    markdown,
    measurement,
    read_measurement,
    texts,
)
from runner.blocks import renewed
from runner.errors import ConfigError


def record(seed: int, accuracy: float, capability: str, commit: str = "a" * 40) -> dict[str, Any]:
    """The parts of a record that are read; the loss differs with the accuracy."""
    provenance = {
        "git_sha": commit,
        "versions": {"torch": "2.14.1"},
        "cpu": {"name": "EPYC", "capability": capability},
    }
    return {
        "run_id": f"none-{seed}",
        "method": "snip",
        "seed": seed,
        "accuracy": accuracy,
        "test_loss": 100 - accuracy,
        "provenance": provenance,
    }


def test_differences_and_their_size_beside_that_of_seeds_worked_by_hand(tmp_path: Path) -> None:
    one = [record(seed, 90.0 + seed, "AVX512") for seed in (0, 2)]
    other = [record(0, 90.0, "AVX2"), record(2, 89.0, "AVX2")]
    text = markdown(measurement(one, other, tmp_path))
    assert "| run | seed | published | AVX512 | AVX2 | difference |" in text
    assert "| snip | 2 | – | 92.00 | 89.00 | -3.00 |" in text
    # root of (0 + 9) / 2; variances over seeds are 2 and 0.5, so that two seeds differ by the root
    # of 2 x 1.25
    assert "The test loss of 1 of 2 runs differs" in text
    assert "up to 3.00 points, 2.12 in the root mean square" in text and "differ by 1.58." in text
    assert "commit aaaaaaaa, PyTorch 2.14.1, processor EPYC" in text


def test_one_kind_two_commits_and_words_are_refused(tmp_path: Path) -> None:
    one = [record(0, 90.0, "AVX512")]
    with pytest.raises(ConfigError, match="no other kernels than AVX512"):
        measurement(one, one, tmp_path)
    with pytest.raises(ConfigError, match="commit changed meanwhile"):
        measurement(one, [record(0, 90.0, "AVX2", "b" * 40)], tmp_path)
    with pytest.raises(ConfigError, match="takes no words: seed=1"):
        kinds(["seed=1"], Console())
    diverged = {**record(0, 90.0, "AVX2"), "accuracy": None, "test_loss": None}
    with pytest.raises(ConfigError, match="none-0 has no accuracy with AVX2"):
        measurement(one, [diverged], tmp_path)


def test_the_page_has_the_measurement_of_the_file() -> None:
    made = read_measurement()
    for path in PAGES:
        page = path.read_text(encoding="utf-8")
        assert renewed(page, COMMAND, texts(made)) == page
    assert len(made.runs) == 6 and all(run.published is not None for run in made.runs)
