"""load_ticket gives the network of a finished run, which has the accuracy of the record."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import SMALL
from torch import Tensor

import runner
from pruners.base import count_kept, full_masks
from runner.commands.run import run_config
from runner.config.compose import compose_config
from runner.data.digits import Digits

FinishedRun = tuple[str, Path, Path]  # run_id, results_dir, cache_dir
RUNS = {
    "magnitude": ["method=magnitude", "density=0.25"],
    "trained": ["method=magnitude", "density=0.25", "start=dense", "retrain=finetune"],
    "dense": ["method=dense"],
    "imc": [
        "method=imc",
        "retrain=rewind",
        "method.spectrum.probes=1",
        "method.spectrum.steps=4",
        "method.gap.steps=4",
        "method.lipschitz.directions=1",
    ],
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, FinishedRun]]:
    """Perform each run once, as the command line does."""
    folder, found = tmp_path_factory.mktemp("tickets"), {}
    before = torch.backends.cudnn.deterministic
    for name, overrides in RUNS.items():
        results, cache = folder / name / "results", folder / "cache"
        dirs = [f"env.results_dir={results}", f"env.cache_dir={cache}"]
        assert run_config(compose_config([*overrides, *SMALL, *dirs])) == 0
        (path,) = results.glob("runs/*/result.json")
        found[name] = (path.parent.name, results, cache)
    yield found
    torch.backends.cudnn.deterministic = before


def record(run: FinishedRun) -> dict[str, float]:
    identity, results, _ = run
    return dict(json.loads((results / "runs" / identity / "result.json").read_text()))


def held_out() -> tuple[Tensor, Tensor]:
    """The normalised test images of the digits, and their labels.

    Levels 0 to 16 become [0, 1]; mean and deviation are those of the training images.
    """
    data = Digits().load(Path("data"), 1.0)
    pixels = data.train.images.double() / 16
    return (
        (data.test.images.double() / 16 - pixels.mean()) / pixels.std(correction=0)
    ).float(), data.test.labels


@pytest.mark.parametrize("name", RUNS)
def test_masked_weights_give_the_accuracy_of_the_record(
    name: str, finished: dict[str, FinishedRun]
) -> None:
    model, masks = runner.load_ticket(*finished[name])
    found = record(finished[name])
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
    assert found["accuracy"] > 15  # chance level is 10


def test_pruned_weights_of_a_ticket_are_zero_and_kept_weights_are_not(
    finished: dict[str, FinishedRun],
) -> None:
    model, masks = runner.load_ticket(*finished["magnitude"])
    assert count_kept(masks) == 0.25 * 112_200
    for layer, mask in masks.items():
        weight = model.get_parameter(layer)
        assert torch.count_nonzero(weight[~mask]) == 0 and torch.count_nonzero(weight[mask]) > 0


def test_the_ticket_and_the_initial_net_are_those_of_the_run(
    finished: dict[str, FinishedRun],
) -> None:
    def weights(name: str, at: Any) -> dict[str, Tensor]:
        return {
            k: v.clone() for k, v in runner.load_ticket(*finished[name], at)[0].named_parameters()
        }

    _, masks = runner.load_ticket(*finished["magnitude"])
    start = weights("dense", "init")
    # pruned at initialization: the ticket is the masked initial net
    for at in ("init", "rewind"):
        for name, found in weights("magnitude", at).items():
            kept = masks.get(name, torch.ones_like(found, dtype=torch.bool))
            assert torch.equal(found, start[name] * kept), (at, name)
    # fine-tuned: the ticket is the masked trained net
    _, masks = runner.load_ticket(*finished["trained"])
    trained = weights("dense", "end")
    for name, found in weights("trained", "rewind").items():
        kept = masks.get(name, torch.ones_like(found, dtype=torch.bool))
        assert torch.equal(found, trained[name] * kept), name
    model, _ = runner.load_ticket(*finished["trained"], "rewind")
    assert model.training
    with pytest.raises(ValueError, match="at=start is not a choice: end, rewind, init"):
        runner.load_ticket(*finished["trained"], "start")  # type: ignore[arg-type]


def test_five_steps_in_a_loop_of_ones_own_keep_the_mask(finished: dict[str, FinishedRun]) -> None:
    model, masks = runner.load_ticket(*finished["magnitude"], at="rewind")
    x, y = held_out()
    options = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}
    optimizer = torch.optim.SGD(model.parameters(), **options)
    # the same training with the masks inside the function: w * mask is what the net computes
    start = {k: p.detach().clone().requires_grad_() for k, p in model.named_parameters()}
    reference = torch.optim.SGD(start.values(), **options)
    kept = runner.keep_masked(model, masks, optimizer)
    for _ in range(5):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
        reference.zero_grad()
        masked = {k: p * masks[k] if k in masks else p for k, p in start.items()}
        out = torch.func.functional_call(model, masked, (x,))
        torch.nn.functional.cross_entropy(out, y).backward()
        reference.step()
    for name, found in model.named_parameters():
        expected = start[name].detach() * masks[name] if name in masks else start[name].detach()
        torch.testing.assert_close(found.detach(), expected)
        assert name not in masks or not found.detach()[~masks[name]].any()
    kept.remove()
    for _ in range(2):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    assert any(p.detach()[~masks[k]].any() for k, p in model.named_parameters() if k in masks)


def test_masks_of_another_net_are_refused() -> None:
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for masks, why in (
        ({"weight": torch.ones(3, 2, dtype=torch.bool)}, "no parameter of this name and shape"),
        ({"bias2": torch.ones(2, dtype=torch.bool)}, "no parameter of this name and shape"),
        ({"weight": torch.ones(2, 3)}, "torch.float32; it must be torch.bool"),
    ):
        with pytest.raises(ValueError, match=why):
            runner.keep_masked(model, masks, optimizer)


def test_a_dense_run_keeps_every_weight(finished: dict[str, FinishedRun]) -> None:
    _, masks = runner.load_ticket(*finished["dense"])
    assert all(mask.all() for mask in masks.values())


def test_a_ticket_is_trainable_and_loading_it_again_gives_new_tensors(
    finished: dict[str, FinishedRun],
) -> None:
    first, _ = runner.load_ticket(*finished["dense"])
    for p in first.parameters():
        assert p.requires_grad
        torch.nn.init.zeros_(p)
    again, _ = runner.load_ticket(*map(str, finished["dense"]))  # strings as paths
    assert all(torch.count_nonzero(p) for p in again.parameters())


def test_an_unknown_run_id_gives_an_error_with_the_nearest_id_and_the_folder(
    finished: dict[str, FinishedRun],
) -> None:
    identity, results, cache = finished["dense"]
    wrong = identity.replace("dense-mlp", "dense-mlq")
    with pytest.raises(FileNotFoundError) as caught:
        runner.load_ticket(wrong, results, cache)
    message = str(caught.value)
    assert wrong in message
    assert str(results / "runs") in message
    assert f"did you mean '{identity}'" in message


def test_a_run_id_without_a_near_match_gives_an_error_with_the_ids_found(
    finished: dict[str, FinishedRun], tmp_path: Path
) -> None:
    identity, results, cache = finished["dense"]
    with pytest.raises(FileNotFoundError) as caught:
        runner.load_ticket("zzz", results, cache)
    assert "zzz" in str(caught.value) and identity in str(caught.value)
    with pytest.raises(FileNotFoundError, match="0 runs are"):
        runner.load_ticket("zzz", tmp_path, cache)


def test_an_unfinished_run_has_no_ticket(finished: dict[str, FinishedRun], tmp_path: Path) -> None:
    identity, results, cache = finished["dense"]
    shutil.copytree(results, tmp_path / "results")
    (tmp_path / "results" / "runs" / identity / "result.json").unlink()
    with pytest.raises(FileNotFoundError, match=f"{identity} is not finished"):
        runner.load_ticket(identity, tmp_path / "results", cache)


def test_an_error_for_removed_weights_contains_their_path(
    finished: dict[str, FinishedRun], tmp_path: Path
) -> None:
    identity, results, _ = finished["dense"]
    with pytest.raises(FileNotFoundError) as caught:
        runner.load_ticket(identity, results, tmp_path / "elsewhere")
    message = str(caught.value)
    assert identity in message
    assert "'dense'" in message
    assert str(tmp_path / "elsewhere" / "stages") in message
    assert "run it again" in message
