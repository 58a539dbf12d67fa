"""A finished run as a network: its weights and masks give the accuracy that the record has."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from conftest import SMALL
from torch import Tensor

import runner
from pruners.base import count_kept, full_masks
from runner.commands.run import run_config
from runner.config.compose import compose_config
from runner.data.digits import Digits

Place = tuple[str, Path, Path]  # run_id, results_dir, cache_dir
RUNS = {
    "magnitude": ["method=magnitude", "density=0.25"],
    "trained": ["method=magnitude", "density=0.25", "start=dense", "retrain=finetune"],
    "dense": ["method=dense"],
    "imc": [
        "method=imc",
        "retrain=rewind",
        "method.spectrum.probes=1",
        "method.spectrum.steps=4",
        "method.lipschitz.directions=1",
    ],
}


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Place]]:
    """Every run done once, as the command line does it."""
    folder, found = tmp_path_factory.mktemp("tickets"), {}
    before = torch.backends.cudnn.deterministic
    for name, words in RUNS.items():
        results, cache = folder / name / "results", folder / "cache"
        assert (
            run_config(
                compose_config(
                    [*words, *SMALL, f"env.results_dir={results}", f"env.cache_dir={cache}"]
                )
            )
            == 0
        )
        (path,) = results.glob("runs/*/result.json")
        found[name] = (path.parent.name, results, cache)
    yield found
    torch.backends.cudnn.deterministic = before


def record(place: Place) -> dict[str, float]:
    identity, results, _ = place
    return dict(json.loads((results / "runs" / identity / "result.json").read_text()))


def held_out() -> tuple[Tensor, Tensor]:
    """The digits' test images as a network sees them: levels 0 to 16 to [0, 1], then the training
    images' mean and deviation."""
    data = Digits().load(Path("data"), 1.0)
    pixels = data.train.images.double() / 16
    return (
        (data.test.images.double() / 16 - pixels.mean()) / pixels.std(correction=0)
    ).float(), data.test.labels


@pytest.mark.parametrize("name", RUNS)
def test_weights_times_masks_give_the_accuracy_of_the_record(
    name: str, places: dict[str, Place]
) -> None:
    model, masks = runner.load_ticket(*places[name])
    found = record(places[name])
    assert list(masks) == list(full_masks(model))
    assert all(mask.dtype == torch.bool for mask in masks.values())
    assert (count_kept(masks), sum(mask.numel() for mask in masks.values())) == (
        found["kept"],
        found["prunable"],
    )
    assert not model.training
    with torch.no_grad():
        for layer, mask in masks.items():
            model.get_parameter(layer).mul_(mask)
        x, y = held_out()
        hits = int((model(x).argmax(1) == y).sum())
    assert len(y) == 360 and found["accuracy"] == pytest.approx(100 * hits / 360, abs=1e-9)
    assert found["accuracy"] > 15  # chance is 10


def test_pruned_weights_of_a_ticket_are_zeros_and_the_others_are_not(
    places: dict[str, Place],
) -> None:
    model, masks = runner.load_ticket(*places["magnitude"])
    assert count_kept(masks) == 0.25 * 112_200
    for layer, mask in masks.items():
        weight = model.get_parameter(layer)
        assert torch.count_nonzero(weight[~mask]) == 0 and torch.count_nonzero(weight[mask]) > 0


def test_a_dense_run_keeps_every_weight(places: dict[str, Place]) -> None:
    _, masks = runner.load_ticket(*places["dense"])
    assert all(mask.all() for mask in masks.values())


def test_a_ticket_can_be_trained_on_and_loaded_again(places: dict[str, Place]) -> None:
    first, _ = runner.load_ticket(*places["dense"])
    for p in first.parameters():
        assert p.requires_grad
        torch.nn.init.zeros_(p)
    again, _ = runner.load_ticket(*map(str, places["dense"]))  # paths as text do too
    assert all(torch.count_nonzero(p) for p in again.parameters())


def test_an_unknown_run_id_is_answered_with_the_nearest_and_the_place(
    places: dict[str, Place],
) -> None:
    identity, results, cache = places["dense"]
    wrong = identity.replace("dense-mlp", "dense-mlq")
    with pytest.raises(FileNotFoundError) as caught:
        runner.load_ticket(wrong, results, cache)
    said = str(caught.value)
    assert wrong in said and str(results / "runs") in said and f"did you mean '{identity}'" in said


def test_a_run_id_like_no_other_is_answered_with_those_that_are_there(
    places: dict[str, Place], tmp_path: Path
) -> None:
    identity, results, cache = places["dense"]
    with pytest.raises(FileNotFoundError) as caught:
        runner.load_ticket("zzz", results, cache)
    assert "zzz" in str(caught.value) and identity in str(caught.value)
    with pytest.raises(FileNotFoundError, match="0 runs are"):
        runner.load_ticket("zzz", tmp_path, cache)


def test_a_run_that_is_not_finished_has_no_ticket(places: dict[str, Place], tmp_path: Path) -> None:
    identity, results, cache = places["dense"]
    shutil.copytree(results, tmp_path / "results")
    (tmp_path / "results" / "runs" / identity / "result.json").unlink()
    with pytest.raises(FileNotFoundError, match=f"{identity} is not finished"):
        runner.load_ticket(identity, tmp_path / "results", cache)


def test_weights_that_were_cleared_are_missed_by_their_path(
    places: dict[str, Place], tmp_path: Path
) -> None:
    identity, results, _ = places["dense"]
    with pytest.raises(FileNotFoundError) as caught:
        runner.load_ticket(identity, results, tmp_path / "elsewhere")
    said = str(caught.value)
    assert identity in said
    assert "'dense'" in said
    assert str(tmp_path / "elsewhere" / "stages") in said
    assert "run it again" in said
