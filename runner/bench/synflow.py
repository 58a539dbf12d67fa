"""SynFlow's cost: 100 rounds on ResNet-20 against its own passes, and against its authors' way."""

import copy
import statistics
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Generator, nn

from pruners.base import Task, full_masks, prunable_names
from pruners.scores.synflow import Precision, SynFlow
from pruners.selection.allocate import Global
from pruners.selection.pick import Top
from pruners.selection.schedule import Exponential
from pruners.selection.score_pruner import ScorePruner
from pruners.selection.source import Ones
from runner.bench.figures import Figure
from runner.bench.timing import Comparison, seconds
from runner.bench.training import net

DENSITY, ROUNDS, SHAPE = 0.1, 100, (3, 32, 32)


def synflow_figures(device: torch.device, rounds: int = 3) -> Iterator[Figure]:
    """Yield `synflow_limit` and what is compared with its rival, medians over `rounds`.

    All works alternate. `synflow_limit_rival` compares our default, float64, with the authors'
    float32, and `synflow_limit_rival_float32` compares both in float32.
    """
    model = net(3, 32, device)
    works = (pruning(model), passes(model), authors_rounds(model), pruning(model, "float32"))
    took: list[list[float]] = [[seconds(work) for work in works] for _ in range(rounds + 1)][1:]
    ours, alone, theirs, single = (statistics.median(each) for each in zip(*took, strict=True))
    to_limit = statistics.median(each[0] / each[1] for each in took)
    to_rival = statistics.median(each[2] / each[0] for each in took)
    alike = statistics.median(each[2] / each[3] for each in took)
    limit = "its forward and backward passes alone, float64"
    rival = "Synaptic-Flow's rounds, float32"
    yield Figure("synflow_limit", ours, "s", limit, alone, to_limit)
    yield Figure("synflow_limit_rival", ours, "s", rival, theirs, to_rival)
    yield Figure("synflow_limit_rival_float32", single, "s", rival, theirs, alike)


def synflow_comparison(device: torch.device) -> Iterator[Comparison]:
    """Yield the rounds against their passes alone, as `synflow_limit` has it."""
    model, limit = net(3, 32, device), "its forward and backward passes alone, float64"
    work = f"{ROUNDS} rounds of SynFlow on ResNet-20"
    yield Comparison("synflow_limit", work, limit, pruning(model), passes(model), cost=True)


def pruning(model: nn.Module, dtype: Precision = "float64") -> Callable[[], object]:
    """Return a function that runs all rounds on a copy of the network."""
    pruner = ScorePruner(SynFlow(dtype=dtype), Ones(), Global(), Top(), Exponential(ROUNDS))
    rng = Generator().manual_seed(0)
    task = Task(F.cross_entropy, lambda size: (), DENSITY, steps=0, rng=rng, image=SHAPE)

    def work() -> None:
        own = copy.deepcopy(model)
        pruner(own, full_masks(own), task)

    return work


def passes(model: nn.Module) -> Callable[[], object]:
    """Return a function that runs the passes of all rounds, without scores and masks."""
    own = copy.deepcopy(model).double().eval().requires_grad_(False)
    weights = [own.get_parameter(name).requires_grad_(True) for name in prunable_names(own)]
    x = torch.ones(1, *SHAPE).to(weights[0])

    def work() -> None:
        for _ in range(ROUNDS):
            torch.autograd.grad(own(x).sum(), weights)

    return work


def authors_rounds(model: nn.Module) -> Callable[[], object]:
    """Return a function that prunes as the authors describe it (docs/methods/synflow.md), float32.

    Each round takes absolute values of all tensors, sums the outputs for an image of ones, scores
    |w dR/dw|, restores the signs, and prunes what is at or below one threshold over all scores.
    """

    def work() -> None:
        own = copy.deepcopy(model).eval()
        names = prunable_names(own)
        weights = [own.get_parameter(name) for name in names]
        kept = [torch.ones_like(weight) for weight in weights]
        x = torch.ones(1, *SHAPE).to(weights[0])
        size = sum(weight.numel() for weight in weights)
        tensors = [t for t in own.state_dict().values() if t.is_floating_point()]
        for done in range(1, ROUNDS + 1):
            with torch.no_grad():
                for weight, mask in zip(weights, kept, strict=True):
                    weight.mul_(mask)
                signs = [t.sign() for t in tensors]
                for t in tensors:
                    t.abs_()
            torch.autograd.backward(own(x).sum())
            with torch.no_grad():
                scores = [(w * w.grad).abs() for w in weights if w.grad is not None]
                own.zero_grad()
                for t, sign in zip(tensors, signs, strict=True):
                    t.mul_(sign)
                every = torch.cat([score.flatten() for score in scores])
                pruned = int((1 - DENSITY ** (done / ROUNDS)) * size)
                threshold = torch.kthvalue(every, pruned).values
                for mask, score in zip(kept, scores, strict=True):
                    mask.copy_((score > threshold).to(mask))

    return work
