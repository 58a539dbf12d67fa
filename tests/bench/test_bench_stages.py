"""Benchmark rows about Hessian stages: their method, partial measurement, extrapolation."""

import time
from dataclasses import replace

import pytest
import torch
from torch import Generator, nn

from models.resnet_cifar import ResNetCifar
from pruners.base import count_prunable, full_masks
from pruners.curvature.imc import Imc
from runner.bench.hessian_overhead import one_round as whole_round
from runner.bench.hessian_stages import (
    EPOCH,
    STEPS,
    Stages,
    extrapolated,
    methods,
    one_round,
    part_of_lipschitz,
    part_of_spectrum,
    stage_cost,
)


def net() -> nn.Module:
    return ResNetCifar("net", depth=8, width=2)(1, 10, 8, Generator().manual_seed(0))


def images(count: int = 512) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(count, 1, 8, 8, generator=Generator().manual_seed(1)), torch.arange(
        count
    ) % 10


def found() -> Stages:
    (stages,) = methods()
    return stages


def test_the_method_with_measure_stages_is_found_with_its_default_options() -> None:
    stages = found()
    assert stages.method == "imc" and isinstance(stages.pruner, Imc)
    assert (
        stages.spectrum.spectrum.steps,
        stages.spectrum.spectrum.probes,
        stages.lipschitz.directions,
    ) == (100, 2, 4)
    assert stages.spectrum.hessian.n_samples == stages.lipschitz.hessian.n_samples == 128


def test_the_epochs_before_and_after_the_measurements_are_the_runs() -> None:
    (digits,) = methods(["model=resnet20"])
    assert (digits.epochs_before, digits.epochs) == (2, 30)
    assert (found().epochs_before, found().epochs) == (2, 30)  # train=quick on any data set


def test_the_overhead_counts_training_before_and_the_retraining_by_their_epochs() -> None:
    # An epoch of 0.2 s: 2 of them come before, and the rival has 30.
    ours, dense = whole_round(found(), net(), images(128), lambda: time.sleep(0.2))
    assert dense == pytest.approx(6.0, rel=0.2) and ours > 0.4


def test_a_spectrum_is_extrapolated_from_its_first_products() -> None:
    # 7 s for the preparation and the first product, then 2 s each, 0.5 s for the eigenvalues: 500
    # products take 7 + 499 x 2 + 0.5.
    assert extrapolated([7.0, 1.9, 2.5, 2.0], 0.5, 500) == 1005.5


def test_the_measured_parts_have_the_stated_share_of_the_work() -> None:
    stages, model = found(), net()
    d = count_prunable(full_masks(model))
    lipschitz, spectrum = part_of_lipschitz(stages.lipschitz), part_of_spectrum(stages.spectrum)
    # 4 directions take 9 gradients of 128 images; one direction takes 3.
    assert stages.lipschitz.work(d, d, EPOCH).images == 9 * 128
    assert lipschitz.work(d, d, EPOCH).images == 3 * 128
    assert stages.spectrum.work(d, d, EPOCH).products == 110
    assert spectrum.work(d, d, EPOCH).products == STEPS
    assert replace(spectrum, spectrum=stages.spectrum.spectrum) == stages.spectrum


def test_a_round_trains_once_and_leaves_the_net_unchanged() -> None:
    model, before = net(), [p.detach().clone() for p in net().parameters()]
    trained: list[int] = []

    costs = one_round(found(), model, images(), lambda: trained.append(1), 500)
    assert trained == [1] and len(costs) == 3 and all(cost > 0 for cost in costs)
    assert all(torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))


def test_the_row_states_what_was_measured() -> None:
    trained: list[int] = []
    cost = stage_cost(found(), net(), images(), lambda: trained.append(1), 500, rounds=2)
    assert len(trained) == 3  # including one warm-up
    assert cost.total == pytest.approx(cost.lipschitz + cost.spectrum + cost.prune)
    assert f"measured: {STEPS} of 110 Hessian-vector products" in str(cost)
    assert "method=imc" in str(cost)
