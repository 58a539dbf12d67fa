"""Flow&Prune's measures (docs/methods/flow_prune.md) against their formulas in float64."""

from pathlib import Path
from typing import Any

import pytest
import torch
from small_nets import images, mlp, pruner, resnet, seeded, state_check, task
from support import compose_run, machine, perform_run
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from pruners.base import Batch, Scores, count_kept, full_masks
from pruners.scores.flow import FlowMeasure
from pruners.scores.magnitude import Magnitude
from pruners.selection.pick import Proportional
from pruners.selection.source import Balanced, Train
from runner.errors import ConfigError
from runner.spec.identity import run_id

MEASURES = ["loss", "biased_loss", "grasp", "grad_preserve"]
SMALL = ["method=flow_prune", "dataset=digits", "model=mlp", "density=0.5", "train.scale=0.04"]


def scores(
    model: nn.Module,
    measure: Any,
    given: list[Batch],
    batches: int = 20,
    temperature: float = 1.0,
) -> Scores:
    about = FlowMeasure(measure, batches, temperature)
    return about(model, full_masks(model), iter(given), F.cross_entropy, seeded())


def data(count: int = 12) -> Batch:
    x, y = images(count)
    return x.double(), y


def small() -> nn.Module:
    """64-3-2-10 with BatchNorm's place taken by none: 218 weights, so that H is small."""
    return mlp((3, 2)).double()


def derivatives(model: nn.Module, batch: Batch, temperature: float) -> tuple[Tensor, Tensor]:
    """Gradient and Hessian of the mean loss by all weights as one vector, from torch's own
    functional derivatives."""
    masks = full_masks(model)
    shapes = {name: mask.shape for name, mask in masks.items()}

    def loss(flat: Tensor) -> Tensor:
        pieces = flat.split([shape.numel() for shape in shapes.values()])
        weights = {n: p.view(s) for (n, s), p in zip(shapes.items(), pieces, strict=True)}
        return F.cross_entropy(functional_call(model, weights, (batch[0],)) / temperature, batch[1])

    at = torch.cat([model.get_parameter(name).detach().flatten() for name in masks])
    return torch.func.grad(loss)(at), torch.autograd.functional.hessian(loss, at)


def flat(found: Scores) -> Tensor:
    return torch.cat([s.flatten() for s in found.values()])


@pytest.mark.parametrize("temperature", [1.0, 5.0])
def test_measures_equal_their_formulas_with_a_dense_hessian(temperature: float) -> None:
    model, batch = small(), data()
    g, hessian = derivatives(model, batch, temperature)
    w = torch.cat([model.get_parameter(name).detach().flatten() for name in full_masks(model)])
    expected = {
        "loss": (w * g).abs(),
        "biased_loss": w.abs() * (w * g).abs(),
        "grasp": w * (hessian @ g),
        "grad_preserve": (w * (hessian @ g)).abs(),
    }
    for measure, wanted in expected.items():
        found = flat(scores(model, measure, [batch], temperature=temperature))
        torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-15)


def test_signed_scores_add_up_to_the_change_of_half_the_squared_gradient() -> None:
    # sum of w H g = w . H g, the derivative of |g|^2 / 2 along w: weights times 1 + e
    model, batch, e = small(), data(), 1e-5

    def half_square(factor: float) -> float:
        scaled = small()
        with torch.no_grad():
            for name in full_masks(scaled):
                scaled.get_parameter(name).mul_(factor)
        g, _ = derivatives(scaled, batch, 1.0)
        return float((g @ g).detach()) / 2

    slope = (half_square(1 + e) - half_square(1 - e)) / (2 * e)
    found = float(flat(scores(model, "grasp", [batch])).sum())
    assert found == pytest.approx(slope, rel=1e-6)


def test_only_the_first_batches_count_and_each_by_its_size() -> None:
    model, (x, y) = small(), data(12)
    split = [(x[:8], y[:8]), (x[8:], y[8:])]
    for measure in MEASURES:
        whole = flat(scores(model, measure, [(x, y)]))
        torch.testing.assert_close(flat(scores(model, measure, split)), whole, rtol=1e-9, atol=0)
        first = flat(scores(model, measure, split, batches=1))
        torch.testing.assert_close(first, flat(scores(model, measure, split[:1])), rtol=0, atol=0)


@pytest.mark.parametrize("measure", MEASURES)
def test_scoring_uses_running_statistics_and_leaves_the_model_bit_identical(measure: str) -> None:
    model, batch = resnet(), images()
    for _ in range(3):
        model(batch[0])
    unchanged = state_check(model)
    found = scores(model, measure, [batch])
    assert unchanged() and all(s.any() and not s.requires_grad for s in found.values())
    # other statistics, other scores
    with torch.no_grad():
        model.bn1.running_var.mul_(4)
    assert not torch.equal(flat(scores(model, measure, [batch])), flat(found))


def test_options_choose_the_measure_its_images_and_temperature_and_keep_the_default() -> None:
    plain = compose_run(*SMALL)
    assert plain.stage("prune1").component.score == Magnitude()
    assert plain.stage("prune1").component.source is None
    assert run_id(compose_run(*SMALL, "method.measure=magnitude")) == run_id(plain)
    expected = {
        "loss": (FlowMeasure("loss", 20, 5.0), Train(128)),
        "biased_loss": (FlowMeasure("biased_loss", 20, 5.0), Train(128)),
        "grasp": (FlowMeasure("grasp", 32, 200.0), Balanced(8)),
        "grad_preserve": (FlowMeasure("grad_preserve", 32, 1.0), Balanced(8)),
    }
    for measure, (score, source) in expected.items():
        component = compose_run(*SMALL, f"method.measure={measure}").stage("prune1").component
        assert (component.score, component.source) == (score, source)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["method.measure=taylor"], "method.measure=taylor must be one of magnitude, loss, biased"),
        (
            ["method.measure=loss", "method.measures.loss.score.batches=0"],
            "method.measures.loss.score.batches=0 must be at least 1",
        ),
        (
            ["method.measure=grasp", "method.measures.grasp.score.temperature=0"],
            "method.measures.grasp.score.temperature=0 must be positive",
        ),
        (["method.measure=grasp", "pick=proportional"], "both signs"),
    ],
)
def test_invalid_options_are_refused(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        compose_run(*SMALL, *words)


def test_measures_without_signs_can_be_probabilities() -> None:
    model = mlp()
    method = pruner(FlowMeasure("grad_preserve", 20, 1.0), pick=Proportional())
    found = method(model, full_masks(model), task(0.5))
    assert count_kept(found.masks) == 1360


@pytest.mark.parametrize("measure", ["loss", "grad_preserve"])
def test_runs_shrink_their_masks_to_the_density(measure: str, tmp_path: Path) -> None:
    run = compose_run(*SMALL, f"method.measure={measure}")
    record, artefacts = perform_run(run, machine(tmp_path))
    prunes = [stage.name for stage in run.stages if stage.kind == "prune"]
    masks = [artefacts[name].masks for name in prunes]
    for before, after in zip(masks, masks[1:], strict=False):
        assert not any((after[name] & ~before[name]).any() for name in after)
    assert record["kept"] == count_kept(masks[-1]) == round(0.5 * record["prunable"])
