"""Benchmark rows about Hessian stages: their method, partial measurement, extrapolation."""

import time
from functools import cache

import pytest
import torch
from torch import Generator, nn

from models.resnet_cifar import ResNetCifar
from pruners.curvature.imc import Imc
from runner.bench.hessian_overhead import one_round as whole_round
from runner.bench.hessian_stages import (
    Stages,
    methods,
)


def net() -> nn.Module:
    return ResNetCifar("net", depth=8, width=2)(1, 10, 8, Generator().manual_seed(0))


def images(count: int = 512) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(count, 1, 8, 8, generator=Generator().manual_seed(1)), torch.arange(
        count
    ) % 10


@cache
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
