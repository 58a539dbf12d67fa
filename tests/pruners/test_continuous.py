"""Continuous Sparsification: its formulas against autograd, its ticket and runs as in the paper.

Source: docs/methods/continuous_sparsification.md.
"""

import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from small_nets import images, mlp, resnet, seeded, task
from support import compose_run, machine, perform_run
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from pruners.base import Measurement, count_kept, count_prunable, full_masks
from pruners.search.continuous import Scaled, SoftMasking, SoftSearch, Ticket, factor
from runner.commands.run import run_config
from runner.config.build import build_run
from runner.config.compose import compose_config
from runner.display.progress import Watcher, display
from runner.engine.context import RunContext
from runner.engine.optim import make_optimizer
from runner.engine.stages import run_stage
from runner.engine.store import Store
from runner.engine.ticket import load_ticket
from runner.engine.train_stage import ready_to_train
from runner.errors import ConfigError, Stopped
from runner.spec.identity import stage_keys
from runner.spec.recipe import Recipe
from runner.spec.run import Run

EPOCHS, PER_EPOCH = 5, 4
# two epochs
SMALL = [
    "method=continuous_sparsification",
    "dataset=digits",
    "model=resnet20",
    "model.depth=8",
    "model.width=4",
    "train.scale=0.0125",
]


def search(model: nn.Module, masks: Any = None, **options: Any) -> SoftMasking:
    """The masking of a search of five epochs with four steps each."""
    about = task(None, epochs=EPOCHS)
    return SoftSearch(**options)(
        model,
        masks or full_masks(model),
        type(about)(**{**vars(about), "steps": EPOCHS * PER_EPOCH}),
    )


def cut(scores: dict[str, Tensor], model: nn.Module, density: float | None = None) -> Any:
    return Ticket()(
        model, full_masks(model), task(density, measured={"search": Measurement(tensors=scores)})
    )


def random_scores(model: nn.Module) -> dict[str, Tensor]:
    rng = seeded(3)
    return {
        name: torch.randn(mask.shape, generator=rng) for name, mask in full_masks(model).items()
    }


# --- the soft mask


@pytest.mark.parametrize("s0", [-0.3, -0.1, 0.0, 0.1, 0.5])
@pytest.mark.parametrize("training", [True, False])
def test_the_net_at_the_first_step_equals_the_net_without_masks(s0: float, training: bool) -> None:
    model, (x, _) = resnet().double().train(training), images()
    masking = search(model, s0=s0)
    for name, weight in masking.weights(model, 0).items():
        # scores are float32
        torch.testing.assert_close(weight, model.get_parameter(name), rtol=1e-6, atol=0)
    unmasked = resnet().double().train(training)
    torch.testing.assert_close(
        functional_call(model, masking.weights(model, 0), (x.double(),)),
        unmasked(x.double()),
        rtol=1e-5,
        atol=1e-6,
    )
    if s0 == 0:  # 2 * 1/2 is exact
        assert all(
            torch.equal(weight, model.get_parameter(name))
            for name, weight in masking.weights(model, 0).items()
        )


def test_every_prunable_weight_has_a_score_and_the_model_is_unchanged() -> None:
    model = resnet()
    before = {name: t.clone() for name, t in model.state_dict().items()}
    masking = search(model, s0=0.1)
    assert {name: s.shape for name, s in masking.trainable.items()} == {
        name: mask.shape for name, mask in full_masks(model).items()
    }
    assert all(
        (s == 0.1).all() and s.requires_grad and s.is_leaf for s in masking.trainable.values()
    )
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())
    assert count_kept(masking.masks) == count_prunable(masking.masks)
    assert count_kept(search(model, s0=0.0).masks) == 0  # kept means s > 0, and every score is 0


def test_the_temperature_grows_by_equal_factors_between_epochs() -> None:
    masking = search(mlp())
    values = [masking.temperature(step) for step in range(EPOCHS * PER_EPOCH)]
    by_epoch = [values[epoch * PER_EPOCH : (epoch + 1) * PER_EPOCH] for epoch in range(EPOCHS)]
    assert all(len(set(epoch)) == 1 for epoch in by_epoch)
    first, *_, last = (epoch[0] for epoch in by_epoch)
    assert first == 1.0 and last == pytest.approx(200.0, rel=1e-12)
    assert [b[0] / a[0] for a, b in pairwise(by_epoch)] == pytest.approx([200**0.25] * 4, rel=1e-12)


def test_a_search_of_one_epoch_stays_at_temperature_1() -> None:
    about = task(None, epochs=1)
    masking = SoftSearch()(mlp(), full_masks(mlp()), type(about)(**{**vars(about), "steps": 4}))
    assert [masking.temperature(step) for step in range(4)] == [1.0] * 4


@pytest.mark.parametrize("s0", [-0.2, 0.0, 0.3])
@pytest.mark.parametrize("step", [0, PER_EPOCH, EPOCHS * PER_EPOCH - 1])
def test_the_gradient_of_a_score_includes_loss_and_penalty(step: int, s0: float) -> None:
    # dL/ds = (dL/dw_eff * w + lambda) c b sigmoid'(b s), against autograd of cross-entropy + lambda
    # * sum of c sigmoid(b s), all in float64.
    penalty, model, (x, y) = 0.01, mlp().double(), images()
    masking = search(model, s0=s0, penalty=penalty, final_temperature=5.0)
    masking.trainable = {
        name: (0.3 * s).double().requires_grad_() for name, s in random_scores(model).items()
    }
    F.cross_entropy(
        functional_call(model, masking.weights(model, step), (x.double(),)), y
    ).backward()
    masking.before_step(model, torch.optim.SGD(model.parameters()), step)

    b, c = 5.0 ** ((step // PER_EPOCH) / (EPOCHS - 1)), 1 + math.exp(-s0)
    scores = {name: s.detach().clone().requires_grad_() for name, s in masking.trainable.items()}
    soft = {name: c / (1 + torch.exp(-b * s)) for name, s in scores.items()}
    effective = {name: model.get_parameter(name).detach() * m for name, m in soft.items()}
    whole = (
        F.cross_entropy(functional_call(model, effective, (x.double(),)), y)
        + penalty * torch.stack([m.sum() for m in soft.values()]).sum()
    )
    by_autograd = torch.autograd.grad(whole, list(scores.values()))
    for (name, s), expected in zip(masking.trainable.items(), by_autograd, strict=True):
        assert s.grad is not None
        torch.testing.assert_close(s.grad, expected, rtol=1e-8, atol=1e-14)
        weight = model.get_parameter(name)  # dL/dw = dL/dw_eff * m: the weights are trained too
        assert weight.grad is not None
        formula = (
            (weight.grad / soft[name].detach() * weight.detach() + penalty)
            * c
            * b
            * (soft[name].detach() / c)
            * (1 - soft[name].detach() / c)
        )
        torch.testing.assert_close(s.grad, formula, rtol=1e-8, atol=1e-14)


def test_scores_stay_constant_without_gradient_and_penalty_while_weights_decay() -> None:
    stage, *_ = compose_run(*SMALL).stages
    assert stage.recipe is not None and stage.recipe.weight_decay > 0
    model = mlp()
    masking = search(model, s0=0.3, penalty=0.0)
    opt = make_optimizer(model, masking, stage.recipe)
    for parameter in (*model.parameters(), *masking.trainable.values()):
        parameter.grad = torch.zeros_like(parameter)
    before = model.get_parameter("fc1.weight").detach().clone()
    for step in range(3):
        masking.before_step(model, opt, step)
        opt.step()
        masking.after_step(model, step)
    assert all((s == 0.3).all() for s in masking.trainable.values())
    assert float(model.get_parameter("fc1.weight").detach().norm()) < float(before.norm())


def test_the_penalty_lowers_every_score() -> None:
    model = mlp()
    masking = search(model, s0=0.3, penalty=1.0)
    opt = make_optimizer(
        model, masking, Recipe(epochs=1, lr=0.1, batch_size=2, momentum=0.0, weight_decay=0.0)
    )
    for s in masking.trainable.values():
        s.grad = torch.zeros_like(s)
    masking.before_step(model, opt, 0)
    opt.step()
    sigmoid = 1 / (1 + math.exp(-0.3))
    expected = 0.3 - 0.1 * (1 - sigmoid)  # c * sigmoid * (1 - sigmoid) with c = 1 / sigmoid
    assert all(
        torch.allclose(s.detach(), torch.tensor(expected)) for s in masking.trainable.values()
    )


def test_weights_pruned_before_are_absent_from_the_soft_net() -> None:
    model = mlp()
    masks = full_masks(model)
    masks["fc1.weight"][:, :10] = False
    masking = search(model, masks, s0=0.2)
    masking.after_step(model, 0)
    assert not masking.weights(model, 0)["fc1.weight"][:, :10].any()
    assert not masking.masks["fc1.weight"][:, :10].any()
    assert masking.masks["fc1.weight"][:, 10:].all()


# --- the ticket


def test_the_ticket_keeps_positive_scores_and_prunes_a_score_of_zero() -> None:
    model = mlp((2,))
    scores = {name: torch.full(mask.shape, -1.0) for name, mask in full_masks(model).items()}
    scores["fc1.weight"][0, :3] = torch.tensor([0.5, 0.0, 1e-30])
    found = cut(scores, model)
    assert count_kept(found.masks) == 2
    assert found.masks["fc1.weight"][0, :3].tolist() == [True, False, True]
    assert found.report == {"attained_density": 2 / 148}  # 64 x 2 + 2 x 10
    assert torch.count_nonzero(model.get_parameter("fc1.weight")) == 2


@pytest.mark.parametrize("density", [0.9, 0.53, 0.07])
def test_a_density_keeps_exactly_the_largest_scores(density: float) -> None:
    model = resnet()
    scores = random_scores(model)
    found = cut(scores, model, density)
    flat = torch.cat([s.flatten() for s in scores.values()])
    # the reference sorts Python numbers, not tensors
    wanted = set(
        sorted(range(len(flat)), key=lambda i: (-float(flat[i]), i))[: round(density * len(flat))]
    )
    mask = torch.cat([m.flatten() for m in found.masks.values()])
    assert set(mask.nonzero().flatten().tolist()) == wanted
    natural = int((flat > 0).sum())
    assert found.report == {
        "attained_density": natural / len(flat),
        "moved_by_density": abs(natural - len(wanted)) / len(flat),
    }


def test_equal_scores_are_kept_in_index_order() -> None:
    model = mlp((2,))
    found = cut(
        {name: torch.zeros(mask.shape) for name, mask in full_masks(model).items()}, model, 0.5
    )
    assert (
        torch.cat([m.flatten() for m in found.masks.values()]).tolist()
        == [True] * 74 + [False] * 74
    )


def test_a_search_without_positive_scores_raises_with_a_solution() -> None:
    model = mlp()
    with pytest.raises(
        ValueError, match="no positive score among 2,720: raise method.search.s0, or give a density"
    ):
        cut({name: torch.zeros(mask.shape) for name, mask in full_masks(model).items()}, model)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"penalty": -1.0}, "method.search.penalty=-1 must be 0 or more"),
        ({"final_temperature": 0.5}, "method.search.final_temperature=0.5 must be at least 1"),
    ],
)
def test_invalid_options_are_rejected(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SoftSearch(**options)


def test_a_search_stage_that_does_not_train_is_rejected() -> None:
    with pytest.raises(ValueError, match="its stage is of kind search"):
        SoftSearch()(mlp(), full_masks(mlp()), task(None))


# --- whole runs


def context(run: Run, folder: Path) -> RunContext:
    where = machine(folder)
    return RunContext(
        run, where, Store(where.cache_dir), Watcher(folder / "run", display("none", None), {})
    )


def test_the_papers_run_has_a_search_and_a_training_of_160_epochs_with_nesterov() -> None:
    run = compose_run(
        "method=continuous_sparsification",
        "dataset=digits",
        "model=mlp",
        "train=imc",
        "density=0.53",
    )
    assert [(s.name, s.kind, s.recipe.trained_epochs if s.recipe else 0) for s in run.stages] == [
        ("search", "search", 160),
        ("prune", "prune", 0),
        ("train", "train", 160),
    ]
    assert [s.recipe.nesterov for s in run.stages if s.recipe] == [True, True]
    assert run.stages[0].recipe is not None and run.stages[0].recipe.decay_of_trainables == 0
    assert run.stages[2].start.stage == "search" and run.stages[2].start.epoch == 2


def test_runs_of_all_densities_share_one_search() -> None:
    first, second, none = (
        stage_keys(compose_run(*SMALL, *overrides))
        for overrides in (["density=0.5"], ["density=0.1"], [])
    )
    assert first["search"] == second["search"] == none["search"]
    assert len({first["prune"], second["prune"], none["prune"]}) == 3


@pytest.fixture(scope="module")
def done(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[RunContext, dict[str, Any], dict[str, Any]]:
    """A run at half density with s0 = 0.2, its record and its artefacts."""
    folder = tmp_path_factory.mktemp("continuous")
    run = compose_run(*SMALL, "density=0.5", "method.search.s0=0.2")
    record, artefacts = perform_run(run, machine(folder))
    return context(run, folder), record, artefacts


def test_retraining_uses_c_times_the_rewound_weights(done: Any) -> None:
    where, _, artefacts = done
    stage = where.run.stage("train")
    model, masking, momentum = ready_to_train(where, stage)
    early = where.store.snapshot(where.keys["search"], 1)  # 2ep of 160, scaled to one of two
    c = 1 + math.exp(-0.2)
    for name, tensor in model.state_dict().items():  # BatchNorm's statistics and biases as well
        mask = artefacts["prune"].masks.get(name)
        assert torch.equal(tensor, early[name] if mask is None else early[name] * mask), name
    assert momentum == {} and masking.trainable == {}
    for name, weight in masking.weights(model, 0).items():
        torch.testing.assert_close(
            weight, c * early[name] * artefacts["prune"].masks[name], rtol=1e-6, atol=0
        )
    assert set(masking.weights(model, 0)) == set(artefacts["prune"].masks)


def test_the_cut_keeps_the_largest_scores_of_the_search(done: Any) -> None:
    _, record, artefacts = done
    scores = torch.cat(
        [artefacts["search"].findings[name].flatten() for name in artefacts["prune"].masks]
    )
    mask = torch.cat([m.flatten() for m in artefacts["prune"].masks.values()])
    assert int(mask.sum()) == round(0.5 * len(mask)) == record["kept"]
    assert float(scores[mask].min()) >= float(scores[~mask].max())
    assert record["report"]["attained_density"] == int((scores > 0).sum()) / len(scores)
    assert len(scores.unique()) > 100  # the scores were trained


def test_pruned_weights_stay_zero_and_masks_do_not_change_in_retraining(done: Any) -> None:
    _, record, artefacts = done
    for name, mask in artefacts["train"].masks.items():
        assert torch.equal(mask, artefacts["prune"].masks[name])
        assert torch.count_nonzero(artefacts["train"].weights[name][~mask]) == 0
        assert torch.count_nonzero(artefacts["train"].optimizer[name][~mask]) == 0
    assert (record["epochs"], record["epochs_total"]) == (4, 4)


def test_zero_momentum_is_rejected_with_nesterov() -> None:
    with pytest.raises(
        ConfigError, match="train.momentum=0.0 must be above 0: .*method.nesterov=false"
    ):
        compose_run(*SMALL, "train.momentum=0")
    assert compose_run(*SMALL, "train.momentum=0", "method.nesterov=false").stages


def test_rewinding_to_the_end_of_the_search_restores_weights_without_the_soft_mask(
    tmp_path: Path,
) -> None:
    # one epoch, whose end is also the rewinding point
    where = context(
        compose_run(*SMALL, "train.scale=0.00625", "density=0.5", "method.search.s0=0.2"), tmp_path
    )
    for stage in where.run.stages[:2]:
        run_stage(where, stage)
    model, _, _ = ready_to_train(where, where.run.stage("train"))
    search_, ticket = where.store.load(where.keys["search"]), where.store.load(where.keys["prune"])
    # the soft mask at temperature 1
    soft = {name: (1 + math.exp(-0.2)) * torch.sigmoid(s) for name, s in search_.findings.items()}
    for name, mask in ticket.masks.items():
        both = mask & search_.masks[name]
        torch.testing.assert_close(
            (model.get_parameter(name) * soft[name])[both],
            search_.weights[name][both],
            rtol=1e-5,
            atol=1e-9,
        )
        assert both.any()
        assert not torch.allclose(
            model.get_parameter(name)[both], search_.weights[name][both], rtol=1e-4, atol=0
        )


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["method.rewind=half"], "method.rewind='half'"),
        (["method.rewind=200ep"], "method.rewind=200ep is after the end"),
    ],
)
def test_an_invalid_rewinding_point_is_reported_with_its_key(
    overrides: list[str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        compose_run(*SMALL, *overrides)


def test_a_search_and_a_retraining_resume_to_identical_bits(done: Any, tmp_path: Path) -> None:
    _, record, artefacts = done
    where = context(done[0].run, tmp_path)
    steps = iter(range(1, 10_000))
    # 15 steps an epoch: stops in the middle of both epochs
    where.stop = lambda: next(steps) % 11 == 0
    stopped = 0
    for stage in where.run.stages:
        while True:
            try:
                run_stage(where, stage)
                break
            except Stopped:
                stopped += 1
    assert stopped >= 4
    for name, expected in artefacts.items():
        found = where.store.load(where.keys[name])
        for part in ("weights", "masks", "findings", "optimizer"):
            one, other = getattr(found, part), getattr(expected, part)
            assert one.keys() == other.keys(), (name, part)
            assert all(torch.equal(one[k], other[k]) for k in one), (name, part)
    assert where.store.meta(where.keys["train"])["history"][-1]["accuracy"] == record["accuracy"]


def test_load_ticket_returns_the_weights_that_the_run_evaluated(tmp_path: Path) -> None:
    overrides = [*SMALL, "train.scale=0.025", "method.search.s0=0.2", "density=0.6"]  # four epochs
    places = {f"env.{kind}_dir": tmp_path / kind for kind in ("results", "cache", "data")}
    before = torch.backends.cudnn.deterministic
    cfg = compose_config(
        [
            *overrides,
            "env.device=cpu",
            "env.threads=1",
            "env.progress=none",
            *(f"{k}={v}" for k, v in places.items()),
        ]
    )
    assert run_config(cfg) == 0
    torch.backends.cudnn.deterministic = before
    (path,) = (tmp_path / "results").glob("runs/*/result.json")
    record = json.loads(path.read_text())
    model, masks = load_ticket(path.parent.name, tmp_path / "results", tmp_path / "cache")
    data = context(build_run(cfg), tmp_path).data
    x = (data.test.images.float() / data.scale - data.mean.view(1, -1, 1, 1)) / data.std.view(
        1, -1, 1, 1
    )
    with torch.no_grad():
        logits = model(x)
    assert record["accuracy"] == pytest.approx(
        100 * int((logits.argmax(1) == data.test.labels).sum()) / len(x), abs=1e-9
    )
    # unlike the accuracy, the loss depends on the factor
    assert record["test_loss"] == pytest.approx(
        float(F.cross_entropy(logits, data.test.labels)), rel=1e-5
    )
    assert count_kept(masks) == record["kept"]


def test_the_factor_is_one_over_the_sigmoid_of_s0() -> None:
    assert factor(0.0) == 2.0
    assert factor(1.0) == pytest.approx(1 + math.exp(-1), rel=1e-15)
    assert Scaled(0.0)(mlp(), full_masks(mlp()), task(0.5)).factor == 2.0
