"""Rounds and layers without a mask of Continuous Sparsification, as its authors run it.

Source: docs/methods/continuous_sparsification.md.
"""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from small_nets import mlp, resnet, seeded, task
from support import compose_run, machine, perform_run
from torch import Tensor

from pruners.base import Measurement, count_kept, count_prunable, full_masks
from pruners.dense_layers import without
from pruners.search.continuous import SoftMasking, SoftSearch, Ticket
from pruners.selection.schedule import Again
from runner.display.progress import Watcher, display
from runner.engine.context import RunContext
from runner.engine.store import Store
from runner.engine.train_stage import ready_to_train
from runner.errors import ConfigError
from runner.spec.identity import run_id, stage_keys

SMALL = [
    "method=continuous_sparsification",
    "dataset=digits",
    "model=resnet20",
    "model.depth=8",
    "model.width=4",
    "train.scale=0.0125",  # two epochs
]
AUTHORS = "method.search.dense=[shortcuts,classifier]"


def search(measured: dict[str, Measurement] | None = None, **options: Any) -> SoftMasking:
    model, about = resnet(), task(None, epochs=2, measured=measured or {})
    return SoftSearch(**options)(
        model, full_masks(model), type(about)(**{**vars(about), "steps": 8})
    )


def learned() -> dict[str, Tensor]:
    rng = seeded(3)
    return {
        name: 0.01 * torch.randn(mask.shape, generator=rng)
        for name, mask in full_masks(resnet()).items()
    }


# --- rounds


@pytest.mark.parametrize("s0", [-0.1, 0.0, 0.3])
def test_a_further_round_begins_at_the_smaller_of_s0_and_b_times_the_scores(s0: float) -> None:
    scores = learned()
    masking = search({"search": Measurement(tensors=scores)}, s0=s0, final_temperature=50.0)
    for name, s in masking.trainable.items():
        expected = [min(50.0 * v, s0) for v in scores[name].double().flatten().tolist()]
        torch.testing.assert_close(
            s.detach().double().flatten(), torch.tensor(expected).double(), rtol=1e-6, atol=1e-7
        )
        assert s.requires_grad and s.is_leaf and not torch.equal(s, scores[name])
        # losers stay losers: the sign of a negative score is kept
        assert torch.equal(s.detach() < 0, (scores[name] < 0) | (s0 < 0))
        assert torch.equal(masking.masks[name], s.detach() > 0)
    assert masking.temperature(0) == 1.0


def test_the_ticket_reads_the_scores_of_the_last_round() -> None:
    first = learned()
    last = {name: -s for name, s in first.items()}
    rounds = {"search": Measurement(tensors=first), "again1": Measurement(tensors=last)}
    model = resnet()
    found = Ticket()(model, full_masks(model), task(None, measured=rounds))
    assert all(torch.equal(found.masks[name], s > 0) for name, s in last.items())


@pytest.mark.parametrize(("rounds", "further"), [(1, 0), (2, 1), (3, 2)])
def test_a_run_has_the_authors_number_of_trainings(rounds: int, further: int) -> None:
    run = compose_run(*SMALL, "train=imc", "train.scale=1", f"method.rounds={rounds}")
    names = ["search", *(f"again{i + 1}" for i in range(further)), "prune", "train"]
    assert [stage.name for stage in run.stages] == names
    trained = [stage.recipe.trained_epochs for stage in run.stages if stage.recipe]
    assert trained == [160] * (rounds + 1)
    # every round restarts its learning rate, and the ticket goes back to the first round
    assert all(stage.recipe.first_epoch == 0 for stage in run.stages if stage.recipe)
    assert (run.stages[-1].start.stage, run.stages[-1].start.epoch) == ("search", 2)
    assert Again(rounds)(None) == Again(rounds)(0.3) == [None] * further


def test_one_round_is_the_run_that_it_was_and_densities_share_all_rounds() -> None:
    plain = compose_run(*SMALL)
    assert run_id(compose_run(*SMALL, "method.rounds=1")) == run_id(plain)
    half, tenth = (
        stage_keys(compose_run(*SMALL, "method.rounds=3", f"density={density}"))
        for density in (0.5, 0.1)
    )
    shared = {"search", "again1", "again2"}
    assert {name for name in half if half[name] == tenth[name]} == shared
    assert half["search"] == stage_keys(plain)["search"]


def test_rounds_go_on_with_the_weights_and_scores_of_the_round_before(tmp_path: Path) -> None:
    run = compose_run(*SMALL, "method.rounds=2", "density=0.5", "method.search.s0=0.1")
    record, artefacts = perform_run(run, machine(tmp_path))
    where = machine(tmp_path)
    context = RunContext(
        run, where, Store(where.cache_dir), Watcher(tmp_path / "run", display("none", None), {})
    )
    model, masking, momentum = ready_to_train(context, run.stage("again1"))
    end = context.store.snapshot(context.keys["search"], 2)
    assert momentum == {}
    for name, tensor in model.state_dict().items():  # without soft masks: the weights themselves
        assert torch.equal(tensor, end[name]), name
    for name, s in masking.trainable.items():
        before = artefacts["search"].findings[name]
        assert torch.equal(s.detach(), (200.0 * before).clamp(max=0.1))
    # weights whose score was negative take part again
    assert isinstance(masking, SoftMasking) and all(m.all() for m in masking.allowed.values())
    last = torch.cat([s.flatten() for s in artefacts["again1"].findings.values()])
    kept = torch.cat([artefacts["prune"].masks[n].flatten() for n in artefacts["again1"].findings])
    assert int(kept.sum()) == record["kept"] == round(0.5 * len(last))
    assert last[kept].min() >= last[~kept].max()
    assert record["epochs"] == 6  # two rounds and the training, two epochs each


def test_unusable_numbers_of_rounds_are_refused() -> None:
    with pytest.raises(ConfigError, match="method.rounds=0 must be at least 1"):
        compose_run(*SMALL, "method.rounds=0")


# --- layers without a mask


def test_dense_layers_have_no_scores_and_the_net_uses_their_weights_as_they_are() -> None:
    masking = search(dense=("shortcuts", "classifier"), s0=0.2)
    model = resnet()
    masked = without(model, full_masks(model), ["shortcuts", "classifier"])
    assert all("conv" in name and "shortcut" not in name for name in masked)  # every 3x3 one
    assert all(model.get_parameter(name).shape[2:] == (3, 3) for name in masked)
    assert set(masking.trainable) == set(masking.weights(model, 0)) == set(masked)


def test_a_run_without_masks_on_some_layers_counts_the_others(tmp_path: Path) -> None:
    run = compose_run(*SMALL, AUTHORS, "density=0.5")
    record, artefacts = perform_run(run, machine(tmp_path))
    masks, scores = artefacts["train"].masks, artefacts["search"].findings
    assert set(masks) == set(scores) and not any("shortcut" in n or "fc" in n for n in masks)
    assert count_kept(masks) == record["kept"] == round(0.5 * count_prunable(masks))
    # retraining multiplies masked weights by c = 1 / sigmoid(0) = 2, and the others by nothing
    context_model, masking, _ = ready_to_train(
        RunContext(
            run,
            machine(tmp_path),
            Store(machine(tmp_path).cache_dir),
            Watcher(tmp_path / "run", display("none", None), {}),
        ),
        run.stage("train"),
    )
    effective = masking.weights(context_model, 0)
    assert set(effective) == set(masks)
    name = next(iter(masks))
    assert torch.equal(effective[name], 2 * context_model.get_parameter(name))
    assert math.isclose(record["density"], 0.5, abs_tol=1 / record["prunable"])


def test_dense_layers_are_checked_and_the_default_changes_nothing() -> None:
    assert run_id(compose_run(*SMALL, "method.search.dense=[]")) == run_id(compose_run(*SMALL))
    with pytest.raises(ConfigError, match="must be one of first, shortcuts, classifier"):
        compose_run(*SMALL, "method.search.dense=[last]")
    with pytest.raises(ValueError, match=r"dense=\[first,classifier\] leaves no layer"):
        net = mlp((4,))
        about = task(None, epochs=2)
        SoftSearch(dense=("first", "classifier"))(net, full_masks(net), about)
