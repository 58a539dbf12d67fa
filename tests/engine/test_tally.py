"""Multiply-accumulates of trainings and of runs: by hand, closed formulas, an independent loop."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from support import compose_run, machine, perform_run
from torch import Generator, Tensor, nn

from models.count import counted_layers, forward
from pruners.base import (
    GRADIENT,
    FixedMasking,
    Masking,
    Masks,
    Passes,
    Task,
    count_kept,
    count_prunable,
    full_masks,
    kept_by_layer,
)
from pruners.dynamic.deep_r import DeepR
from pruners.dynamic.dsr import Dsr
from pruners.dynamic.rewire import UpdateSchedule
from pruners.dynamic.rigl import RigL
from pruners.dynamic.set import SparseEvolution
from runner.data.base import Split
from runner.data.batches import Batches, evaluation_batches
from runner.data.counts import training_images
from runner.engine.checkpoint import load_checkpoint, save_checkpoint
from runner.engine.tally import Tally
from runner.engine.train import Loaders, LoopOptions, train
from runner.errors import Stopped
from runner.spec.recipe import Recipe
from runner.spec.run import Run

MEAN, STD = torch.tensor([0.5]), torch.tensor([0.25])
IMAGES, SHAPE = 18, (1, 4, 4)


def images(count: int, seed: int) -> Split:
    rng = Generator().manual_seed(seed)
    pixels = torch.randint(0, 17, (count, *SHAPE), generator=rng, dtype=torch.uint8)
    return Split(pixels, torch.randint(0, 3, (count,), generator=rng))


def trained(
    model: nn.Module, masking: Masking, epochs: int, batch_size: int = 6, **loop: Any
) -> Tally:
    """The tally of a training on 18 images."""
    split = images(IMAGES, 0)
    loaders = Loaders(
        Batches(split, MEAN, STD, 16.0, batch_size, "none", 3, "dense"),
        lambda: evaluation_batches(images(12, 1), MEAN, STD, 16.0, 1000),
    )
    recipe = Recipe(epochs, lr=0.1, batch_size=batch_size, momentum=0.9, weight_decay=0.0)
    tally = Tally()
    train(model, masking, recipe, loaders, F.cross_entropy, LoopOptions(tally=tally, **loop))
    return tally


def mlp() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 6), nn.ReLU(), nn.Linear(6, 3))


def convolutional() -> nn.Sequential:
    """Layers with 16, 4 and 1 output positions, so that it counts where weights are."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(4, 5, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(20, 3),
    )


def random_masks(model: nn.Module, density: float) -> Masks:
    rng = Generator().manual_seed(5)
    full = full_masks(model).items()
    return {name: torch.rand(mask.shape, generator=rng) < density for name, mask in full}


def task(steps: int, epochs: int) -> Task:
    return Task(
        F.cross_entropy, lambda size: (), None, steps, Generator().manual_seed(1), epochs=epochs
    )


def every(steps: int, epochs: int) -> UpdateSchedule:
    """An update after every `steps` steps of a training on 18 images in batches of 6."""
    return UpdateSchedule(f"{steps}it", 1.0, epochs, batch_size=6, shortest=1, images=IMAGES)


def cost(tally: Tally, model: nn.Module) -> dict[str, int | None]:
    return tally.cost(counted_layers(model, SHAPE))


def inference(model: nn.Module, masks: Masks | None = None) -> int:
    """Multiply-accumulates of one image, from each layer's own positions."""
    kept = kept_by_layer(masks or full_masks(model))
    layers = counted_layers(model, SHAPE)
    return sum(kept[name] * layer.positions for name, layer in layers.items())


# --- trainings


@pytest.mark.parametrize("batch_size", [6, 5])
def test_a_masked_mlp_costs_three_passes_worked_by_hand(batch_size: int) -> None:
    # 16 x 6 = 96 weights of which 10 are kept, and 6 x 3 = 18 of which 4 are. A step on one image
    # takes 3 x (10 + 4) = 42, and 3 x (96 + 18) = 342 without masks; 2 epochs have 36 images.
    model = mlp()
    masks = {
        "1.weight": (torch.arange(96) < 10).view(6, 16),
        "3.weight": (torch.arange(18) < 4).view(3, 6),
    }
    tally = trained(model, FixedMasking(masks), 2, batch_size)
    assert cost(tally, model) == {"total": 36 * 42, "dense": 36 * 342}


def test_a_layer_without_a_mask_counts_in_full() -> None:
    model = mlp()
    masks = {"1.weight": (torch.arange(96) < 10).view(6, 16)}
    tally = trained(model, FixedMasking(masks), 1)
    assert cost(tally, model) == {"total": 18 * 3 * (10 + 18), "dense": 18 * 342}


def test_a_dense_training_costs_what_its_steps_cost_without_masks() -> None:
    model = convolutional()
    found = cost(trained(model, FixedMasking(full_masks(model)), 3), model)
    # 36 weights at 16 positions, 180 at 4 and 60 at 1
    assert found["total"] == found["dense"] == 3 * 18 * 3 * (36 * 16 + 180 * 4 + 60)


def test_rigl_costs_what_its_papers_formula_says() -> None:
    # An update every fourth step: Delta T = 3 steps without dense gradients between two of them.
    model = convolutional()
    masks = random_masks(model, 0.4)
    masking = RigL(every(4, 4), decay="constant")(model, masks, task(12, 4))
    found = cost(trained(model, masking, 4), model)
    sparse, dense, delta = inference(model, masks), inference(model), 3
    assert sparse == inference(model, masking.masks)  # every layer keeps its count
    each = (3 * sparse * delta + 2 * sparse + dense) / (delta + 1)
    assert found["total"] == 4 * IMAGES * each
    assert masking.report["updates"] == 3


@dataclass
class Recorded:
    """A masking that counts the kept weights of each layer whenever a forward pass begins."""

    inner: Any
    layers: list[dict[str, int]] = field(default_factory=list)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def weights(self, model: nn.Module, step: int) -> dict[str, Tensor]:
        if step == len(self.layers):  # evaluations ask for a step that is done
            self.layers.append(
                {name: int((mask != 0).sum()) for name, mask in self.inner.masks.items()}
            )
        replaced: dict[str, Tensor] = self.inner.weights(model, step)
        return replaced


MOVING = {
    "dsr": lambda: Dsr(every(2, 6), drop_fraction=0.3, threshold=0.05, doublings=()),
    "deep_r": lambda: DeepR(l1=0.5, noise=0.2, budget="global"),
    "set": lambda: SparseEvolution(every(2, 6)),
}


@pytest.mark.parametrize("method", MOVING)
def test_moving_weights_cost_what_an_independent_loop_sums_up(method: str) -> None:
    model = convolutional()
    masks = random_masks(model, 0.4)
    inner = MOVING[method]()(model, masks, task(18, 6))
    recorded = Recorded(inner)
    found = cost(trained(model, recorded, 6), model)
    positions = {"0.weight": 16, "2.weight": 4, "5.weight": 1}
    assert len(recorded.layers) == 18
    steps = [sum(positions[name] * n for name, n in kept.items()) for kept in recorded.layers]
    assert found["total"] == sum(6 * 3 * each for each in steps)
    assert (len(set(steps)) > 1) == (method != "set")  # whether weights moved between layers


@dataclass
class InPlace(FixedMasking):
    """Prunes one weight of the first layer in place after every step."""

    def after_step(self, model: nn.Module, step: int) -> None:
        self.masks["1.weight"].view(-1)[step] = False
        super().after_step(model, step)


def test_a_mask_that_changes_in_place_is_counted_again() -> None:
    # 6 steps of 6 images with 96, 95, ..., 91 weights in the first layer, and 18 in the second
    model = mlp()
    found = cost(trained(model, InPlace(full_masks(model)), 2), model)
    assert found["total"] == 6 * 3 * sum(n + 18 for n in range(91, 97))


@dataclass
class Stated(FixedMasking):
    """A masking that states what its steps cost."""

    stated: Any = None

    def passes(self, step: int) -> Passes:
        found: Passes = self.stated(step)
        return found


def test_a_masking_states_the_passes_of_each_step_and_other_masks() -> None:
    model = mlp()
    half = {"1.weight": (torch.arange(96) < 48).view(6, 16)}
    costs: list[Callable[[int], Passes]] = [
        lambda step: Passes(kept=2, full=1),
        lambda step: Passes(kept=3, masks=full_masks(model)),
        lambda step: Passes(kept=0, full=step),
    ]
    totals = [
        cost(trained(model, Stated(dict(half), stated=each), 1), model)["total"] for each in costs
    ]
    assert totals == [18 * (2 * (48 + 18) + 114), 18 * 3 * 114, 6 * (0 + 1 + 2) * 114]


# --- checkpoints


def resumed(folder: Path, change: Callable[[dict[str, Any]], None] = lambda state: None) -> Any:
    """The cost of a training that stopped after every step, and the model."""
    path = folder / "stage.ckpt"
    model: nn.Module
    for stops in range(100):
        model = convolutional()
        masking = Dsr(every(2, 6), drop_fraction=0.3, threshold=0.05, doublings=())(
            model, random_masks(model, 0.4), task(18, 6)
        )
        if stops and (state := load_checkpoint(path)):
            change(state)
            save_checkpoint(path, state)
        try:
            tally = trained(model, masking, 6, checkpoint=path, every=0.0, stop=lambda: True)
        except Stopped:
            continue
        return cost(tally, model)
    raise AssertionError


def test_a_resumed_training_costs_the_same(tmp_path: Path) -> None:
    model = convolutional()
    masking = Dsr(every(2, 6), drop_fraction=0.3, threshold=0.05, doublings=())(
        model, random_masks(model, 0.4), task(18, 6)
    )
    whole = cost(trained(model, masking, 6), model)
    assert whole["total"] is not None and resumed(tmp_path) == whole


def test_a_checkpoint_from_before_there_were_counts_leaves_the_cost_unknown(tmp_path: Path) -> None:
    assert resumed(tmp_path, lambda state: state.pop("tally", None))["total"] is None


# --- whole runs

SMALL = ["dataset=digits", "model=mlp", "model.hidden=[16]", "train.scale=0.0125"]
WEIGHTS = 64 * 16 + 16 * 10  # each at one position, so that they are multiply-accumulates


def images_of(run: Run) -> int:
    return int(run.dataset.info().train)


def performed(folder: Path, *words: str) -> tuple[Run, dict[str, Any], dict[str, Any]]:
    run = compose_run(*SMALL, *words)
    return run, *perform_run(run, machine(folder))


def test_a_dense_run_has_the_ratio_1(tmp_path: Path) -> None:
    run, record, _ = performed(tmp_path, "method=dense")
    assert record["train_flops"] == 2 * images_of(run) * 3 * WEIGHTS
    assert record["train_flops_ratio"] == 1


def test_snip_pays_one_gradient_of_its_batches(tmp_path: Path) -> None:
    run, record, _ = performed(
        tmp_path, "method=snip", "density=0.25", "source.batch_size=64", "method.score.batches=2"
    )
    scoring, training = 128 * 3 * WEIGHTS, 2 * images_of(run) * 3 * WEIGHTS // 4
    assert record["train_flops"] == scoring + training
    assert record["train_flops_ratio"] == (scoring + training) / (4 * training)


def test_synflow_pays_a_gradient_of_one_image_under_the_masks_of_every_round(
    tmp_path: Path,
) -> None:
    rounds = ["schedule=exponential", "schedule.iterations=4", "schedule.counts=nearest"]
    run, record, _ = performed(tmp_path, "method=synflow", "density=0.25", *rounds)
    before = [WEIGHTS, *(round(WEIGHTS * 0.25 ** (k / 4)) for k in (1, 2, 3))]
    scoring, training = 3 * sum(before), 2 * images_of(run) * 3 * WEIGHTS // 4
    assert record["train_flops"] == scoring + training


def test_grasp_pays_a_gradient_and_a_product_with_the_hessian(tmp_path: Path) -> None:
    run, record, _ = performed(tmp_path, "method=grasp", "density=0.25", "source.per_class=3")
    scoring, training = 30 * (3 + 6) * WEIGHTS, 2 * images_of(run) * 3 * WEIGHTS // 4
    assert record["train_flops"] == scoring + training


@pytest.mark.parametrize(
    ("words", "passes"),
    [
        (["estimator=ggn"], 1 + 3 * 10),
        (["estimator=ggn_rademacher", "draws=2"], 1 + 3 * 2),
        (["estimator=hutchinson", "probes=5"], 5 * 6),
    ],
)
def test_obd_pays_for_its_targets_or_products(
    words: list[str], passes: int, tmp_path: Path
) -> None:
    options = [f"method.score.{word}" for word in ["images=100", *words]]
    options += ["method.pruner.classifier=pruned"]
    run, record, _ = performed(tmp_path, "method=obd", "density=0.25", *options)
    # dense training, scores of 100 images (not 256: the last batch is cut), fine-tuning
    epochs = {stage.name: stage.recipe.trained_epochs for stage in run.stages if stage.recipe}
    dense, after = epochs.values()
    training = images_of(run) * 3 * (dense * WEIGHTS + after * WEIGHTS // 4)
    assert record["train_flops"] == training + 100 * passes * WEIGHTS


def test_iterative_pruning_pays_for_every_level(tmp_path: Path) -> None:
    run, record, _ = performed(
        tmp_path, "method=imp", "density=0.5", "retrain.rewind=0ep", "retrain=rewind"
    )
    # 2 epochs dense and after each level: 0.8, 0.64, 0.512 and the requested 0.5
    levels = [WEIGHTS, *(round(share * WEIGHTS) for share in (0.8, 0.64, 0.512, 0.5))]
    assert record["train_flops"] == 2 * images_of(run) * 3 * sum(levels)
    assert record["train_flops_ratio"] == pytest.approx(sum(levels) / WEIGHTS / 5, rel=1e-12)
    assert record["epochs_total"] == 2 * len(levels)


def test_a_search_has_gradients_of_all_scores(tmp_path: Path) -> None:
    words = ["method=edge_popup", "density=0.25", "method.search.classifier=searched"]
    run, record, artefacts = performed(tmp_path, *words)
    trained = {s.name: s.recipe.trained_epochs for s in run.stages if s.recipe}
    dense = trained.pop("dense")
    (search,) = trained.values()
    each = 3 * dense * WEIGHTS + search * (2 * WEIGHTS // 4 + WEIGHTS)
    assert record["train_flops"] == images_of(run) * each


def test_drawn_masks_count_and_so_do_passes_for_batchnorm(tmp_path: Path) -> None:
    # Its net has BatchNorm: an epoch ends with forward passes under the hard mask.
    net = ["dataset=digits", "model=resnet20", "model.depth=8", "model.width=4"]
    more = ["train.scale=0.0125", "train_fraction=0.2", "method.search.statistics=2"]
    run = compose_run(*net, *more, "method=zhou", "density=0.25", "method.search.batch_size=32")
    record, artefacts = perform_run(run, machine(tmp_path))
    costs = {name: each.meta["cost"] for name, each in artefacts.items()}
    search = run.stage("search")
    assert search.recipe is not None
    layers = counted_layers(run.model(1, 10, 8, Generator()), (1, 8, 8))
    seen = costs["search"]["dense"] // GRADIENT // forward(layers)
    kept = {name: int(m.sum()) for name, m in artefacts["search"].masks.items()}
    hard = sum(kept.get(name, each.weights) * each.positions for name, each in layers.items())
    statistics = search.recipe.trained_epochs * 64 * hard
    # Masks are drawn with probabilities near the layers' densities: 2 of 3 passes are kept ones.
    drawn = (costs["search"]["total"] - statistics - seen * forward(layers)) / (2 * seen)
    assert drawn != hard and drawn == pytest.approx(hard, rel=0.05)
    assert record["train_flops"] == sum(each["total"] for each in costs.values())


def test_measurements_count_if_the_pruning_reads_them(tmp_path: Path) -> None:
    words = ["method=imc", "density=0.25", "train_fraction=0.1", "method.spectrum.steps=4"]
    run, record, artefacts = performed(
        tmp_path, *words, "method.spectrum.deflated_steps=4", "method.lipschitz.directions=2"
    )
    images = training_images(run.dataset.info().train, 0.1, 0.0)
    costs = {name: each.meta["cost"] for name, each in artefacts.items()}
    works = {
        name: run.stage(name).component.work(WEIGHTS, WEIGHTS + 26, images).passes * WEIGHTS
        for name in ("lipschitz", "spectrum")
    }
    assert all(works.values())
    assert {name: costs[name]["total"] for name in works} == works
    assert record["train_flops"] == sum(each["total"] for each in costs.values())


def test_analyses_beside_the_result_do_not_count(tmp_path: Path) -> None:
    words = ["method=snip", "density=0.25", "source.batch_size=64"]
    _, plain, _ = performed(tmp_path / "plain", *words)
    _, measured, artefacts = performed(tmp_path / "measured", *words, "method.overlap=4")
    assert "mask_overlap" in artefacts and measured["train_flops"] == plain["train_flops"]


def test_every_masking_keeps_its_count_within_the_prunable_weights() -> None:
    model = mlp()
    masks = random_masks(model, 0.4)
    tally = trained(model, FixedMasking(masks), 1)
    found = cost(tally, model)
    assert found["total"] is not None and found["dense"] is not None
    assert found["total"] * count_prunable(masks) == found["dense"] * count_kept(masks)


# --- costs that nobody states


def read_all(batches: Iterable[Any]) -> None:
    for _ in batches:
        pass


def test_a_component_that_reads_images_and_states_no_cost_makes_it_unknown() -> None:
    layers, masks = counted_layers(mlp(), SHAPE), full_masks(mlp())
    silent, stating, idle, unsure = Tally(), Tally(), Tally(), Tally()
    read_all(silent.noted(lambda size: [])(5))
    read_all(stating.noted(lambda size: [])(5))
    stating.spend(masks, Passes(1), 7)
    unsure.spend(masks, None, 7)
    totals = [each.cost(layers)["total"] for each in (silent, stating, idle, unsure)]
    assert totals == [None, 7 * 114, 0, None]
