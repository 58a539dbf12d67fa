"""SynFlow's rounds (docs/methods/synflow.md): masks equal those of the authors' rule, to the bit.

The reference below is an implementation of its own in float64: a copy of the net with absolute
values, all scores in one vector, sorted. Its ties go to the lower index, as ours do; the authors
prune them.
"""

import copy
from collections.abc import Callable, Iterable
from dataclasses import replace

import pytest
import torch
from small_nets import jaccard, mlp, pruner, resnet, seeded, task
from support import compose_run
from torch import nn

from models.resnet_cifar import ResNetCifar
from pruners.base import Batch, Masks, count_kept, count_prunable, full_masks
from pruners.scores.synflow import SynFlow
from pruners.selection.schedule import Exponential, RoundCounts
from pruners.selection.source import Ones
from runner.errors import ConfigError
from runner.spec.identity import run_id

Rule = Callable[[float, int], int]  # density, number of weights -> weights that a round prunes
IMAGE = (1, 8, 8)


def authors(density: float, size: int) -> int:
    return int((1.0 - density) * size)


def nearest(density: float, size: int) -> int:
    return size - round(density * size)


RULES: dict[RoundCounts, Rule] = {"nearest": nearest, "authors": authors}


def resnet20() -> nn.Module:
    return ResNetCifar("resnet20")(1, 10, 8, seeded())


def reference(model: nn.Module, density: float, rule: Rule, rounds: int = 100) -> Masks:
    """Masks of 100 rounds that follow `rule`; the last one keeps round(density * size)."""
    net = copy.deepcopy(model).double().eval()
    with torch.no_grad():
        for tensor in (*net.parameters(), *net.buffers()):
            tensor.abs_()
    weights = {
        f"{name}.weight": module.weight
        for name, module in net.named_modules()
        if isinstance(module, (nn.Conv2d, nn.Linear))
    }
    size = sum(weight.numel() for weight in weights.values())
    kept = torch.ones(size, dtype=torch.bool)
    for done in range(1, rounds + 1):
        net.zero_grad()
        net(torch.ones(1, *IMAGE, dtype=torch.float64)).sum().backward()
        score = torch.cat([(w * w.grad).detach().abs().flatten() for w in weights.values()])
        level = density ** (done / rounds)
        pruned = rule(level, size) if done < rounds else nearest(density, size)
        order = torch.sort(score, descending=True, stable=True).indices
        kept = torch.zeros(size, dtype=torch.bool)
        kept[order[: size - pruned]] = True
        with torch.no_grad():
            for weight, mask in zip(weights.values(), split(kept, weights), strict=True):
                weight.mul_(mask)
    return dict(zip(weights, split(kept, weights), strict=True))


def split(kept: torch.Tensor, weights: dict[str, nn.Parameter]) -> list[torch.Tensor]:
    pieces = kept.split([weight.numel() for weight in weights.values()])
    return [
        piece.view(weight.shape) for piece, weight in zip(pieces, weights.values(), strict=True)
    ]


def ours(model: nn.Module, density: float, counts: RoundCounts) -> Masks:
    """Our masks; reading an image fails."""

    def no_images(size: int) -> Iterable[Batch]:
        raise AssertionError("SynFlow reads no data")

    method = pruner(SynFlow(), source=Ones(), schedule=Exponential(counts=counts))
    about = replace(task(density, image=IMAGE), batches=no_images)
    return method(copy.deepcopy(model), full_masks(model), about).masks


QUICK = {(resnet20, "authors", 0.02)}
CASES = [
    pytest.param(
        net,
        counts,
        density,
        id=f"{net.__name__}-{counts}-{density}",
        marks=pytest.mark.slow if net is resnet20 and (net, counts, density) not in QUICK else (),
    )
    for net in (mlp, resnet, resnet20)
    for counts in RULES
    for density in (0.1, 0.05, 0.02)
]


@pytest.mark.parametrize(("net", "counts", "density"), CASES)
def test_masks_equal_an_independent_implementation_without_any_data(
    net: Callable[[], nn.Module], counts: RoundCounts, density: float
) -> None:
    model = net()
    expected, found = reference(model, density, RULES[counts]), ours(model, density, counts)
    assert count_kept(found) == round(density * count_prunable(found))
    assert jaccard(expected, found) == 1.0


@pytest.mark.parametrize("net", [mlp, resnet])
def test_the_memory_format_of_the_net_does_not_change_the_masks(
    net: Callable[[], nn.Module],
) -> None:
    model = net()
    expected = ours(model, 0.05, "authors")
    found = ours(model.to(memory_format=torch.channels_last), 0.05, "authors")
    assert jaccard(expected, found) == 1.0
    assert all(mask.is_contiguous() for mask in found.values())


def test_the_two_rules_give_other_masks_of_the_same_size() -> None:
    one, other = (ours(resnet(), 0.05, counts) for counts in ("nearest", "authors"))
    assert count_kept(one) == count_kept(other) and 0.5 < jaccard(one, other) < 0.95


@pytest.mark.parametrize("size", [1, 7, 100, 270_896, 20_024_000])
@pytest.mark.parametrize("density", [1.0, 0.999, 0.53, 0.1, 0.05, 0.02])
def test_rounds_keep_the_authors_counts_and_never_grow(density: float, size: int) -> None:
    schedule = Exponential(counts="authors")
    plain, found = schedule(density), schedule.for_weights(density, size)
    expected = [size - authors(d, size) for d in plain[:-1]]
    # the float is near enough to its fraction that rounding gives the count back
    assert [round(d * size) for d in found[:-1]] == expected and found[-1] == density
    assert sorted(expected, reverse=True) == expected
    assert not expected or expected[-1] >= round(density * size)
    assert Exponential().for_weights(density, size) == plain


def test_a_round_rounds_the_number_of_pruned_weights_down() -> None:
    # 10 weights to density 1/4 in two rounds: the first has density 1/2 and keeps 5 by both rules;
    # of 9 weights, 4.5 are pruned: `authors` prunes 4, round(4.5) = 4 keeps 4.
    assert Exponential(2, "authors").for_weights(0.25, 10) == [0.5, 0.25]
    assert Exponential(2, "authors").for_weights(0.25, 9) == [5 / 9, 0.25]
    assert round(Exponential(2).for_weights(0.25, 9)[0] * 9) == 4


def test_the_rounds_of_a_run_count_as_the_authors_and_those_of_former_runs_by_choice() -> None:
    plain = ["method=synflow", "density=0.1", "model=mlp"]
    run, theirs, former = (
        compose_run(*plain, *overrides)
        for overrides in ([], ["schedule.counts=authors"], ["schedule.counts=nearest"])
    )
    assert run == theirs and run.stage("prune").component.schedule.counts == "authors"
    assert former.stage("prune").component.schedule == Exponential()
    assert run_id(former) != run_id(run)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["schedule.counts=down"], "schedule.counts='down' must be one of nearest, authors"),
        (["schedule=once", "schedule.counts=authors"], "counts"),
    ],
)
def test_invalid_counts_are_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        compose_run("method=synflow", "density=0.1", "model=mlp", *overrides)
