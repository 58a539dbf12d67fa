"""Benchmark rows about scores: the methods that they list, and the work of both sides."""

import re

import torch
from torch import Generator, nn

from models.resnet_cifar import ResNetCifar
from pruners.selection.score_pruner import ScorePruner
from runner.bench.scores import EXAMPLES, score_comparisons
from runner.config.build import build_run
from runner.config.compose import compose_config


def net() -> nn.Module:
    return ResNetCifar("net", depth=8, width=4)(1, 10, 8, Generator().manual_seed(0))


def test_every_score_with_data_is_compared_with_as_many_steps_as_it_has_rounds() -> None:
    y = torch.arange(EXAMPLES) % 10
    model, batch = net(), (torch.randn(EXAMPLES, 1, 8, 8, generator=Generator().manual_seed(0)), y)
    before = [p.detach().clone() for p in model.parameters()]
    comparisons = {re.match(r"method=(\w+)", c.work)[1]: c for c in score_comparisons(model, batch)}
    assert {"snip", "grasp", "synflow"} <= set(comparisons)
    assert not {"random", "magnitude", "dense", "imc"} & set(comparisons)
    assert "100 rounds on 1x1x8x8" in comparisons["synflow"].work
    assert "100 training steps" in comparisons["synflow"].baseline
    assert all(
        f"on {EXAMPLES}x1x8x8" in comparisons[name].work
        and "1 training step " in comparisons[name].baseline
        for name in ("snip", "grasp")
    )
    for name in ("snip", "grasp"):
        comparisons[name].run()
        comparisons[name].run_baseline()
    # both sides work on copies
    assert all(torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))


def test_the_methods_measured_are_score_pruners() -> None:
    for name in ("snip", "grasp", "synflow"):
        run = build_run(compose_config([f"method={name}", "density=0.1"]))
        assert isinstance(run.stage("prune").component, ScorePruner)
