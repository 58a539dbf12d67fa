"""Learning-rate rewinding (retrain=lr_rewind): trained weights, the schedule from an epoch."""

from pathlib import Path

import pytest
import torch
from support import compose_run, machine, perform_run, run_with_stops, same
from torch.nn import functional as F

from runner.display.progress import Watcher, display
from runner.engine.context import RunContext
from runner.engine.preflight import check
from runner.engine.store import Artefact, Store
from runner.errors import ConfigError
from runner.spec.run import Run, Start

# Eight epochs of 15 steps; the rate falls after four and after six.
SMALL = ["dataset=digits", "model=mlp", "model.hidden=[16]", "train.epochs=8", "train.scale=1"]
PRUNED = ["method=magnitude", "density=0.2", "start=dense", "retrain=lr_rewind", *SMALL]
REWOUND = [*PRUNED, "retrain.rewind=3ep"]


def context(run: Run, folder: Path) -> RunContext:
    where = machine(folder)
    watcher = Watcher(folder / "run", display("none", None), {})
    return RunContext(run, where, Store(where.cache_dir), watcher)


def trained_by_hand(run: Run, found: dict[str, Artefact], folder: Path) -> dict[str, torch.Tensor]:
    """The trained weights under the mask, trained on with the dense net's last five rates."""
    here = context(run, folder)
    model = here.fresh_model("init")
    model.load_state_dict(found["dense"].weights)
    masks = found["prune"].masks
    weights = dict(model.named_parameters())
    stage = run.stage("train")
    opt = torch.optim.SGD(model.parameters(), lr=1.0, momentum=0.9, weight_decay=5e-4)
    with torch.no_grad():
        for name, mask in masks.items():
            weights[name].mul_(mask)
    for epoch in range(3, 8):
        opt.param_groups[0]["lr"] = found["dense"].meta["history"][epoch]["lr"]
        for x, y in here.batches(stage).epoch(epoch, 0):
            opt.zero_grad()
            F.cross_entropy(model(x), y).backward()
            for name, mask in masks.items():
                grad = weights[name].grad
                assert grad is not None
                grad.mul_(mask)
            opt.step()
            with torch.no_grad():
                for name, mask in masks.items():
                    weights[name].mul_(mask)
    return {name: tensor.detach() for name, tensor in model.state_dict().items()}


def test_a_run_equals_a_training_by_hand(tmp_path: Path) -> None:
    run = compose_run(*REWOUND)
    record, found = perform_run(run, machine(tmp_path))
    expected = trained_by_hand(run, found, tmp_path)
    for name, weight in found["train"].weights.items():
        torch.testing.assert_close(weight, expected[name], rtol=1e-5, atol=1e-6)
    rates = [row["lr"] for row in found["dense"].meta["history"]]
    assert rates == pytest.approx([0.1] * 4 + [0.01] * 2 + [0.001] * 2)
    history = found["train"].meta["history"]
    assert [row["lr"] for row in history] == rates[3:]
    assert [row["epoch"] for row in history] == [4, 5, 6, 7, 8]
    assert (record["epochs"], record["epochs_total"]) == (5, 13)


def test_the_schedule_is_replayed_from_a_scaled_point() -> None:
    # ten of 160 epochs by default; 2,000 of 80,000 iterations are four epochs
    words = [word for word in PRUNED if "train." not in word]
    for scale, point, first, epochs in (
        (1.0, "10ep", 10.0, 160),
        (0.5, "10ep", 5.0, 80),
        (1.0, "2000it", 4.0, 160),
        (0.01, "2000it", 1.0, 2),
        (0.5, "0ep", 0.0, 80),
    ):
        run = compose_run(*words, "train=imc", f"train.scale={scale}", f"retrain.rewind={point}")
        stage = run.stage("train")
        assert stage.start == Start("dense", replay=first)
        assert stage.recipe is not None
        assert (stage.recipe.first_epoch, stage.recipe.epochs) == (first, epochs)
        assert stage.recipe.lr == 0.1
    default = compose_run(*words, "train=imc")
    assert default.stage("train").start == Start("dense", replay=10.0)


@pytest.mark.parametrize(
    ("words", "starts"),
    [
        # every level goes on from the weights of the level before
        (
            "method=imp density=0.64 method.rewind=2ep",
            {"train1": Start("prune1", replay=2.0), "train2": Start("prune2", replay=2.0)},
        ),
        ("method=imc density=0.3", {"train": Start("wstar", replay=10.0)}),
        ("method=sr_popup density=0.3", {"train": Start("search", replay=10.0)}),
        ("method=force density=0.3 start=dense", {"train": Start("dense", replay=10.0)}),
    ],
)
def test_every_method_that_retrains_offers_it(words: str, starts: dict[str, Start]) -> None:
    run = compose_run(*words.split(), "retrain=lr_rewind", "dataset=digits", "train=imc")
    assert {name: run.stage(name).start for name in starts} == starts


def test_iterated_levels_reach_the_density_from_the_trained_weights(tmp_path: Path) -> None:
    run = compose_run(
        "method=imp", "density=0.64", "retrain=lr_rewind", "method.rewind=6ep", *SMALL
    )
    record, found = perform_run(run, machine(tmp_path))
    assert record["label"] == "LTH+LRRewinding"
    assert record["kept"] == round(0.64 * 1184)
    for number in (1, 2):
        before = "dense" if number == 1 else "train1"
        for name, mask in found[f"prune{number}"].masks.items():
            kept = found[before].weights[name] * mask
            assert torch.equal(found[f"prune{number}"].weights[name], kept)
        assert [row["epoch"] for row in found[f"train{number}"].meta["history"]] == [7, 8]


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (
            [*PRUNED, "retrain.rewind=8ep"],
            ["retrain.rewind=8ep is not before the end of stage 'train'", "0ep to 7ep"],
        ),
        ([*PRUNED, "retrain.rewind=9ep"], ["retrain.rewind=9ep is not before the end"]),
        ([*PRUNED, "retrain.rewind=soon"], ["retrain.rewind='soon'", "10ep"]),
        (
            [*(word for word in PRUNED if word != "start=dense")],
            ["retrain=lr_rewind", "prunes at initialization", "add start=dense"],
        ),
    ],
)
def test_invalid_points_are_refused(words: list[str], parts: list[str], tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        check(compose_run(*words), machine(tmp_path))
    message = "\n".join(caught.value.messages)
    assert all(part in message for part in parts), message


def test_a_run_stopped_in_every_stage_resumes_to_identical_bits(tmp_path: Path) -> None:
    whole, parts, stops = run_with_stops(REWOUND, tmp_path, every=7)
    assert stops >= 25 and all(same(whole[name], parts[name]) for name in whole)
