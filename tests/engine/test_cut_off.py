"""Masks that disconnect the network are recorded and give a warning in the final summary."""

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from support import compose_run, machine, perform_run

from pruners.base import count_kept
from runner.config.compose import compose_config
from runner.config.request import read_request
from runner.display.summary import closing_of, cut_off, summary

FINDINGS = {"connected", "outputs_reached", "empty_layers"}
SMALL = ["dataset=digits", "train.scale=0.00625"]


def printed(overrides: list[str], record: dict[str, Any]) -> str:
    console = Console(width=200, file=io.StringIO())
    console.print(
        summary(record, Path("result.json"), closing_of(read_request(compose_config(overrides))))
    )
    text: str = console.file.getvalue()
    assert "prunable weights" in text
    return text


def test_masks_without_a_path_to_an_output_are_recorded_and_give_a_warning(tmp_path: Path) -> None:
    # With fan_out, the linear layer is drawn from N(0, 0.01^2). It has by far the smallest weights,
    # and all are pruned (docs/methods/magnitude.md).
    overrides = [
        "method=magnitude",
        "density=0.1",
        "model=resnet20",
        "model.width=4",
        "model.init=fan_out",
        *SMALL,
    ]
    record, artefacts = perform_run(compose_run(*overrides), machine(tmp_path))
    empty = [name for name, mask in artefacts["prune"].masks.items() if not mask.any()]
    assert "fc.weight" in empty and record["kept"] == count_kept(artefacts["prune"].masks)
    assert {key: record["report"][key] for key in FINDINGS} == {
        "connected": 0,
        "outputs_reached": 0,
        "empty_layers": len(empty),
    }
    assert "warning: mask" in printed(overrides, record)
    assert "no path of kept weights leads from the input to any output" in printed(
        overrides, record
    )


@pytest.mark.parametrize("method", ["snip", "synflow"])
def test_connected_masks_add_no_findings_and_give_no_warning(method: str, tmp_path: Path) -> None:
    overrides = [f"method={method}", "density=0.3", "model=lenet_300_100", *SMALL]
    record, _ = perform_run(compose_run(*overrides), machine(tmp_path))
    assert not FINDINGS & set(record["report"]) and "warning" not in printed(overrides, record)


def test_the_warning_counts_the_outputs_that_a_residual_net_still_reaches(
    tmp_path: Path,
) -> None:
    overrides = ["method=synflow", "density=0.02", "schedule.counts=nearest", "model=resnet20"]
    overrides += ["model.width=4", *SMALL]
    record, artefacts = perform_run(compose_run(*overrides), machine(tmp_path))
    masks = artefacts["prune"].masks
    # all weights of the other classes are pruned
    left = int(masks["fc.weight"].any(dim=1).sum())
    empty = [name for name, mask in masks.items() if not mask.any()]
    assert 0 < left < 10 and empty
    assert record["report"] == {"outputs_reached": left, "empty_layers": len(empty)}
    assert f"to only {left} of the outputs" in printed(overrides, record)


def test_an_empty_layer_alone_gives_no_warning() -> None:
    assert cut_off({"report": {}}) == {}
    assert cut_off({"report": {"empty_layers": 2}}) == {}


@pytest.mark.parametrize("method", ["set", "dsr"])
def test_masks_that_change_during_training_are_checked_after_training(
    method: str, tmp_path: Path
) -> None:
    # A random tenth of 1,184 weights leaves outputs that no input reaches. After training the
    # connections are different.
    overrides = [
        f"method={method}",
        "method.pruner.classifier=pruned",
        "density=0.1",
        "model=mlp",
        "model.hidden=[16]",
        "train.scale=0.05",
        "dataset=digits",
    ]
    record, artefacts = perform_run(compose_run(*overrides), machine(tmp_path))
    reached = {}
    for name in ("prune", "train"):
        # (16, 64), (10, 16)
        hidden, outputs = (mask.float() for mask in artefacts[name].masks.values())
        # outputs with a path of two weights from at least one input
        reached[name] = int(((outputs @ hidden).sum(1) > 0).sum())
    assert reached["prune"] < 10 and reached["prune"] != reached["train"]
    assert record["report"]["outputs_reached"] == (
        None if reached["train"] == 10 else reached["train"]
    )
    assert ("warning" in printed(overrides, record)) == (reached["train"] < 10)
