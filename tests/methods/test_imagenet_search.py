"""The jackpots paper's ImageNet runs end to end, on a few images: search, record, ticket, table."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from support import COMPOSER, compose_run
from torch import Generator

from pruners.base import full_masks
from runner.commands.run import run_config
from runner.config.compose import compose_config
from runner.data.imagenet import FOLDER, NATIVE, Imagenet
from runner.engine.store import Store
from runner.faults.made import write_image_folder as image_folder
from runner.suites.expand import expand
from runner.tables.render import write_table

CLASSES = [f"n0{i}000000" for i in range(1, 8)]
# conv weights: closed formulas in tests/models
SEARCHED = {"resnet50": 23_454_912, "mobilenet_v1": 3_185_088, "efficientnet_b4": 17_394_376}
SEARCH = [
    "method=sr_popup",
    "density=0.2",
    "dataset=imagenet",
    "dataset.size=32",
    "train=jackpots",
    "method.epochs=1",
    "method.batch_size=4",
]
MACHINE = ["env.device=cpu", "env.threads=1", "env.workers=0", "env.progress=none"]


@pytest.fixture(autouse=True)
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seven classes with one or two images each: two steps of batches of four."""
    monkeypatch.setattr(Imagenet, "native", replace(NATIVE, classes=7, train=8, test=7))
    image_folder(
        tmp_path / "data" / FOLDER,
        dict.fromkeys(CLASSES, 1) | {CLASSES[0]: 2},
        dict.fromkeys(CLASSES, 1),
    )


@pytest.mark.parametrize("name", ["mobilenet_v1", "resnet50", "efficientnet_b4"])
def test_a_search_in_published_weights_runs_from_files_to_a_record(
    name: str, tmp_path: Path, dirs: list[str]
) -> None:
    overrides = [*SEARCH, f"model={name}", f"start.weights={tmp_path / 'published.pth'}"]
    given = compose_run(*overrides[:-1]).model(3, 7, 32, Generator().manual_seed(7))
    torch.save(
        {
            "epoch": 90,
            "state_dict": {f"module.{n}": tensor for n, tensor in given.state_dict().items()},
        },
        tmp_path / "published.pth",
    )
    assert run_config(compose_config([*overrides, *dirs, *MACHINE])) == 0

    record = finished(tmp_path)
    assert (record["model"], record["prunable"], record["kept"]) == (
        name,
        SEARCHED[name],
        round(0.2 * SEARCHED[name]),
    )
    assert (record["epochs"], record["epochs_total"], record["epoch_kind"]) == (1, 1, "search")
    assert 0 <= record["accuracy"] <= record["accuracy_top5"] <= 100
    assert 0 <= record["report"]["pretrained_accuracy_top5"] <= 100
    assert record["report"]["swaps"] > 0

    ticket = Store(tmp_path / "cache").load(
        next(stage["key"] for stage in record["stages"] if stage["name"] == "search")
    )
    assert set(ticket.masks) == set(list(full_masks(given))[:-1])  # the classifier is dense
    assert sum(int(mask.sum()) for mask in ticket.masks.values()) == record["kept"]
    moved = 0
    for n, tensor in given.state_dict().items():
        if n in ticket.masks:
            assert torch.equal(ticket.weights[n], tensor.masked_fill(~ticket.masks[n], 0.0)), n
        elif n.rsplit(".")[-1] in ("running_mean", "running_var", "num_batches_tracked"):
            moved += not torch.equal(ticket.weights[n], tensor)
        else:
            assert torch.equal(ticket.weights[n], tensor), n
    assert moved == sum(1 for _ in given.buffers())


def test_an_imagenet_table_is_run_and_printed(tmp_path: Path, dirs: list[str]) -> None:
    # Every duration is one epoch or none: two steps each of a dense training, of RigL and of a
    # search. The dense row has a search of no epoch.
    small = ["dataset.size=32", "train.scale=0.001", "train.batch_size=4"]
    table = expand(
        "jackpots_table04", {"models": ["mobilenet_v1"]}, [*small, "method.batch_size=4"], COMPOSER
    )
    for job in table.jobs:
        assert run_config(compose_config([*job.overrides, *dirs, *MACHINE])) == 0
    page = write_table(table, tmp_path / "results")
    assert "not done" not in page and "– [" not in page
    rows = [re.split(r"\s{2,}", line) for line in page.splitlines()]
    assert [(row[0], row[-1]) for row in rows if len(row) == 5][2:] == [
        ("MobileNet-V1", "1"),
        ("RigL", "0"),
        ("Jackpot (Ours)", "1"),
        ("Jackpot (Ours)", "1"),
    ]


def finished(tmp_path: Path) -> dict[str, Any]:
    (path,) = (tmp_path / "results" / "runs").glob("*/result.json")
    record: dict[str, Any] = json.loads(path.read_text())
    return record
