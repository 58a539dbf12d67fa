"""Runs of mask searches: stages, unchanged weights, resuming, searches of no epoch."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from support import compose_run, machine, perform_run

from models.resnet_cifar import ResNetCifar
from models.vgg import Vgg
from runner.bench.search import search_comparisons
from runner.config.compose import method_names
from runner.display.progress import Watcher, display
from runner.engine.context import RunContext
from runner.engine.stages import plan, run_stage
from runner.engine.store import Store
from runner.errors import ConfigError, Stopped
from runner.planning.costs import measure_net, stage_cost
from runner.planning.survey import survey
from runner.spec.identity import stage_keys
from runner.spec.lr_schedule import Cosine, Step
from runner.spec.planned import plan_run
from runner.spec.run import Run

SEARCHES = ["sr_popup", "edge_popup", "zhou"]
NET = ["dataset=digits", "model=resnet20", "model.depth=8", "model.width=4", "train_fraction=0.3"]
# ten epochs of training, two of search
SMALL = [*NET, "train.scale=0.0625", "method.batch_size=64"]


def context(run: Run, folder: Path) -> RunContext:
    where = machine(folder)
    return RunContext(
        run, where, Store(where.cache_dir), Watcher(folder / "run", display("none", None), {})
    )


@pytest.mark.parametrize("name", SEARCHES)
def test_the_papers_run_trains_160_epochs_and_searches_30(name: str) -> None:
    run = compose_run(f"method={name}", "train=jackpots", "density=0.1", "dataset=cifar10")
    dense, search = run.stages
    assert (dense.name, dense.kind, search.kind, search.start.stage) == (
        "dense",
        "train",
        "search",
        "dense",
    )
    assert dense.recipe is not None and search.recipe is not None
    training = (
        dense.recipe.epochs,
        dense.recipe.lr,
        dense.recipe.lr_schedule,
        dense.recipe.batch_size,
        dense.recipe.weight_decay,
    )
    assert training == (160, 0.1, Step(), 128, 5e-4)
    r = search.recipe
    assert (r.epochs, r.lr_schedule, r.batch_size, r.momentum, r.nesterov) == (
        30,
        Cosine(),
        256,
        0.9,
        False,
    )
    assert (r.lr, r.decay_of_trainables) == ((100.0, 0.0) if name == "zhou" else (0.1, 5e-4))
    assert (
        stage_keys(run)["dense"]
        == stage_keys(compose_run("method=dense", "train=jackpots", "dataset=cifar10"))["dense"]
    )


@pytest.mark.parametrize("name", SEARCHES)
def test_the_search_has_its_own_learning_rate(name: str) -> None:
    """train.lr applies to stages that train weights: the net before the search, and fine-tuning."""
    overrides = [f"method={name}", "train=jackpots", "density=0.1", "retrain=finetune"]
    papers = 100.0 if name == "zhou" else 0.1
    for given, expected in (
        (["train.lr=0.02"], (0.02, papers, 0.02)),
        (["method.lr=0.5"], (0.1, 0.5, 0.1)),
    ):
        assert (
            tuple(
                stage.recipe.lr for stage in compose_run(*overrides, *given).stages if stage.recipe
            )
            == expected
        )
    keys = [stage_keys(compose_run(*overrides, *more)) for more in ([], ["method.lr=0.5"])]
    assert keys[0]["dense"] == keys[1]["dense"] and keys[0]["search"] != keys[1]["search"]


def test_ablations_and_durations_of_the_search_share_only_the_trained_net() -> None:
    overrides = [
        ["method.epochs=10"],
        ["method.search.quota=all"],
        ["method.search.pairs=random"],
        ["method.search.init.criterion=uniform"],
        ["allocate=layer"],
    ]
    keys = [
        stage_keys(compose_run("method=sr_popup", "density=0.1", *more))
        for more in [[], *overrides]
    ]
    assert len({k["dense"] for k in keys}) == 1
    assert len({k["search"] for k in keys}) == 1 + len(overrides)


def test_a_search_in_initial_weights_has_no_training_before() -> None:
    (search,) = compose_run("method=sr_popup", "density=0.1", "start=init").stages
    assert (search.kind, search.start.stage) == ("search", "init")


def test_fine_tuning_is_a_separate_stage_after_the_search() -> None:
    run = compose_run("method=sr_popup", "density=0.1", "train=jackpots", "retrain=finetune")
    assert [stage.name for stage in run.stages] == ["dense", "search", "train"]
    tuned = run.stage("train")
    assert (tuned.start.stage, tuned.masks, tuned.kind, tuned.component) == (
        "search",
        "search",
        "train",
        None,
    )
    assert tuned.recipe is not None
    assert (
        tuned.recipe.epochs,
        tuned.recipe.lr,
        tuned.recipe.lr_schedule,
        tuned.recipe.batch_size,
    ) == (150, 0.1, Cosine(), 256)
    assert run.epoch_column == ("search",)
    again = compose_run("method=sr_popup", "density=0.1", "retrain=rewind").stage("train")
    assert (again.start.stage, again.masks) == ("dense", "search") and again.start.epoch is not None


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["start=init", "retrain=finetune"], "there is nothing to finetune"),
        (["allocate=none"], "allocate=none: a mask search fixes how many weights each layer keeps"),
        (["method.lr=0"], "method.lr=0.0 must be positive"),
        (["method.lr_schedule=linear"], "method.lr_schedule=linear must be one of"),
        (["method.batch_size=1"], "method.batch_size=1 must be at least 2"),
        (["train.lr=0"], "train.lr=0.0 must be positive"),
        (["method.search.quota=ours"], "method.search.quota='ours' must be one of"),
        (["method.search.init.eta=1"], "method.search.init.eta=1 must be in"),
        (
            ["source=normal"],
            (
                "source is not an option of method=sr_popup: each criterion of the first mask has"
                " its own"
            ),
        ),
        (
            ["pick=uniform"],
            "pick is not an option of method=sr_popup: a layer keeps the largest scores",
        ),
    ],
)
def test_invalid_searches_are_reported_with_their_key(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        compose_run("method=sr_popup", "density=0.1", *overrides)
    with pytest.raises(ConfigError, match="density is missing"):
        compose_run("method=sr_popup")


@pytest.fixture(scope="module", params=SEARCHES)
def done(
    request: Any, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Run, Path, dict[str, Any], dict[str, Any]]:
    """A run at density 0.2 with fine-tuning: the run, its folder, its record and its artefacts."""
    folder = tmp_path_factory.mktemp(request.param)
    run = compose_run(f"method={request.param}", "density=0.2", "retrain=finetune", *SMALL)
    return (run, folder, *perform_run(run, machine(folder)))


def test_a_search_leaves_the_trained_weights_unchanged_bit_for_bit(done: Any) -> None:
    _, _, record, artefacts = done
    dense, search = artefacts["dense"], artefacts["search"]
    assert "fc.weight" not in search.masks and set(search.masks) == set(dense.masks) - {"fc.weight"}
    for name, tensor in search.weights.items():
        if name in search.masks:
            expected = dense.weights[name].masked_fill(~search.masks[name], 0.0)
            assert torch.equal(tensor, expected) and (tensor != 0).sum() == search.masks[name].sum()
        elif name.split(".")[-1] in ("running_mean", "running_var"):
            assert not torch.equal(tensor, dense.weights[name]), name
        elif not name.endswith("num_batches_tracked"):
            # biases, BatchNorm's gamma and beta, classifier
            assert torch.equal(tensor, dense.weights[name]), name
    assert set(search.findings) == set(search.masks) and not search.optimizer
    kept, prunable = (
        sum(int(f(m)) for m in search.masks.values()) for f in (torch.sum, torch.numel)
    )
    assert (
        (record["kept"], record["prunable"])
        == (round(0.2 * prunable), prunable)
        == (kept, prunable)
    )


def test_the_record_counts_the_epochs_of_the_search_and_of_all_stages(done: Any) -> None:
    run, folder, record, artefacts = done
    assert (record["epochs"], record["epoch_kind"], record["epochs_total"]) == (
        2,
        "search",
        10 + 2 + 9,
    )
    steps = 2 * -(-len(context(run, folder).data.train) // 64)
    (path,) = folder.glob("results/runs/*/series.json")
    series = json.loads(path.read_text())
    assert len(series["overlap_magnitude"]) == 2
    assert series["overlap_magnitude"][-1] == record["report"]["overlap_magnitude"]
    if "swaps" in series:
        assert len(series["swaps"]) == len(series["candidates"]) == steps
        assert sum(series["swaps"]) == record["report"]["swaps"]
        assert all(s <= c for s, c in zip(series["swaps"], series["candidates"], strict=True))
    for name, mask in artefacts["train"].masks.items():  # fine-tuning trains the kept weights
        assert torch.equal(mask, artefacts["search"].masks[name])
        assert not artefacts["train"].weights[name][~mask].any()
        assert not torch.equal(artefacts["train"].weights[name], artefacts["search"].weights[name])


def test_a_search_stopped_in_the_middle_resumes_to_identical_bits(
    done: Any, tmp_path: Path
) -> None:
    run, _, _, artefacts = done
    where = context(run, tmp_path)
    run_stage(where, run.stage("dense"))
    calls, stopped = iter(range(1, 10_000)), 0
    where.stop = lambda: next(calls) % 4 == 0  # in the middle of both epochs and at the last step
    while True:
        try:
            run_stage(where, run.stage("search"))
            break
        except Stopped:
            stopped += 1
    assert stopped >= 3
    found = where.store.load(where.keys["search"])
    for part in ("weights", "masks", "findings"):
        one, other = getattr(found, part), getattr(artefacts["search"], part)
        assert one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one), part
    assert (found.meta["series"], found.meta["report"]) == (
        artefacts["search"].meta["series"],
        artefacts["search"].meta["report"],
    )


@pytest.mark.parametrize(
    "overrides",
    [
        ["method.search.pairs=random"],
        ["method.search.init.criterion=uniform", "method.search.quota=rising"],
    ],
)
def test_random_choices_resume_to_identical_bits(overrides: list[str], tmp_path: Path) -> None:
    run = compose_run("method=sr_popup", "density=0.2", "start=init", *SMALL, *overrides)
    _, expected = perform_run(run, machine(tmp_path / "whole"))
    where = context(run, tmp_path / "parts")
    calls = iter(range(1, 10_000))
    where.stop = lambda: next(calls) % 5 == 0
    while True:
        try:
            run_stage(where, run.stage("search"))
            break
        except Stopped:
            continue
    found = where.store.load(where.keys["search"])
    assert all(torch.equal(found.masks[n], m) for n, m in expected["search"].masks.items())
    assert found.meta["series"] == expected["search"].meta["series"]


def test_fine_tuning_starts_from_the_weights_after_the_search(tmp_path: Path) -> None:
    run = compose_run(
        "method=sr_popup",
        "density=0.2",
        "retrain=finetune",
        "retrain.lr_factor=1e-9",
        "method.tuning.epochs=1",
        "start=pretrained",
        *SMALL,
    )
    _, artefacts = perform_run(run, machine(tmp_path))
    # a rate of 1e-10 moves no weight; starting from the scores, up to 1, would show
    for name in artefacts["search"].masks:
        assert torch.allclose(
            artefacts["train"].weights[name], artefacts["search"].weights[name], rtol=0, atol=1e-7
        ), name


# --- searches of no epoch


@pytest.mark.parametrize("method", ["sr_popup", "edge_popup"])
@pytest.mark.parametrize("criterion", ["magnitude", "snip", "grasp", "random"])
def test_a_search_of_no_epoch_is_the_first_mask_on_the_trained_net(
    method: str, criterion: str, tmp_path: Path
) -> None:
    overrides = [
        f"method={method}",
        "density=0.3",
        "method.epochs=0",
        f"method.search.init.criterion={criterion}",
        *SMALL,
    ]
    run = compose_run(*overrides)
    made, artefacts = perform_run(run, machine(tmp_path))
    dense, search = artefacts["dense"], artefacts["search"]
    ranked = torch.cat([dense.weights[name].abs().flatten() for name in search.masks]).argsort(
        descending=True, stable=True
    )
    kept = torch.cat([mask.flatten() for mask in search.masks.values()])
    # independent of the search: the global magnitude mask, and Eq. 7 of a mask with itself
    if criterion == "magnitude":
        assert bool(kept[ranked[: made["kept"]]].all())
        assert made["report"]["overlap_magnitude"] == 1.0
    else:
        assert not bool(kept[ranked[: made["kept"]]].all())
        assert made["report"]["overlap_magnitude"] < 1
    for name, tensor in search.weights.items():  # running statistics included
        assert torch.equal(
            tensor,
            (
                dense.weights[name].masked_fill(~search.masks[name], 0.0)
                if name in search.masks
                else dense.weights[name]
            ),
        ), name
    # The accuracy is that of one test in eval mode.
    info = run.dataset.info()
    net = run.model(info.channels, info.classes, info.size, torch.Generator()).to(
        memory_format=torch.channels_last
    )
    net.load_state_dict(search.weights)
    with torch.no_grad():
        right = torch.cat(
            [
                net.eval()(x).argmax(1) == y
                for x, y in context(run, tmp_path).loaders(run.stage("search")).test()
            ]
        )
    assert made["accuracy"] == pytest.approx(100 * float(right.double().mean()))
    assert (made["epochs"], made["epoch_kind"], made["epochs_total"], made["report"]["swaps"]) == (
        0,
        "search",
        10,
        0,
    )
    (history,) = search.meta["history"]
    assert (history["epoch"], history["train_loss"]) == (0, None)
    assert "diverged_search" not in made["report"]


def test_zero_epochs_stay_zero_and_one_stays_at_least_one_at_every_scale() -> None:
    found = [
        compose_run("method=sr_popup", "density=0.1", f"method.epochs={n}", f"train.scale={s}")
        .stage("search")
        .recipe
        for n in (0, 1)
        for s in (0.001, 10)
    ]
    assert [recipe.epochs for recipe in found if recipe] == [0, 0, 1, 10]


def test_a_quota_of_none_differs_from_no_epoch_only_in_statistics(tmp_path: Path) -> None:
    overrides = ["method=sr_popup", "density=0.3", *SMALL]
    _, none = perform_run(compose_run(*overrides, "method.epochs=0"), machine(tmp_path))
    _, more = perform_run(compose_run(*overrides, "method.search.quota=none"), machine(tmp_path))
    one, other = none["search"], more["search"]
    assert all(torch.equal(mask, other.masks[name]) for name, mask in one.masks.items())
    changed = {
        name.split(".")[-1]
        for name, tensor in one.weights.items()
        if not torch.equal(tensor, other.weights[name])
    }
    assert changed == {"running_mean", "running_var", "num_batches_tracked"}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["method=zhou", "method.epochs=0"],
            "method.epochs=0: stage 'search' has to learn its first mask",
        ),
        (
            ["method=sr_popup", "method.tuning.epochs=0", "retrain=finetune"],
            "method.tuning.epochs=0: stage 'train' would train nothing",
        ),
        (
            ["method=sr_popup", "method.epochs=-1"],
            "epochs='-1' is not a number of epochs|epochs=-1 is not",
        ),
        (["method=edge_popup", "train.epochs=0"], "train.epochs=0 must be at least 1"),
    ],
)
def test_stages_that_need_an_epoch_reject_zero_epochs_with_one_message(
    overrides: list[str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as refused:
        compose_run("density=0.1", *overrides)
    assert len(refused.value.messages) == 1


def test_a_plan_counts_no_epoch_for_a_search_of_none(tmp_path: Path) -> None:
    run = compose_run("method=sr_popup", "density=0.3", "method.epochs=0", *SMALL)
    rows = {row["name"]: row["epochs"] for row in plan(run, machine(tmp_path))}
    assert rows == {"dense": 10, "search": 0}
    net = measure_net(run.dataset, run.model)
    assert (
        stage_cost(run, run.stage("search"), net, 0).images,
        survey([(plan_run(run), machine(tmp_path))]).line,
    ) == (0, "epochs: asked 10, needed 10")


# --- rows of the benchmark


def test_every_search_method_is_compared_with_training_steps() -> None:
    nets = (
        (ResNetCifar("net", depth=8, width=4), 8, 1, 2),
        (Vgg("vgg", depth=11, width=2, pools=2), 8, 3, 3),
    )
    found = list(search_comparisons(torch.device("cpu"), nets))
    listed = {re.search(r"method=(\w+), (\w+)", comparison.work).groups() for comparison in found}
    searching = {
        name for name in method_names() if name in SEARCHES or name == "continuous_sparsification"
    }
    assert listed == {(method, net) for method in searching for net in ("net", "vgg")}
    assert len(found) == len(listed)
    for comparison in found[:4]:
        assert comparison.work.startswith("2 steps of ")
        assert comparison.baseline == "limit: as many training steps"
        comparison.run()
        comparison.run_baseline()
