"""Several seeds of one small network in one process, by `torch.func.vmap` over stacked weights.

They are timed against the same steps of one network after another, which is what one process on
each core does. docs/cpu_speed.md reads the ratios.
"""

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap

from models.mlp import Mlp
from runner.bench.layers import NETS, STEPS
from runner.bench.timing import Comparison
from runner.bench.training import BATCH, Network, images_of, pairs
from runner.spec.rng import stream

SEEDS = (4, 8)
SMALL_NETS: tuple[tuple[str, Network, int, int], ...] = (("mlp", Mlp("mlp"), 1, 8), *NETS[1:])
RATE = 0.1
Weights = dict[str, Tensor]


def seed_comparisons(device: torch.device) -> Iterator[Comparison]:
    """Yield steps of several seeds at once against the same steps of one network after another."""
    for name, make, channels, size in SMALL_NETS:
        x, y = (tensor.to(device) for tensor in pairs(images_of(BATCH, channels, size))[0])
        for count in SEEDS:
            models = [model.to(device) for model in nets(make, channels, size, count)]
            yield Comparison(
                f"seeds_{name}_{count}",
                f"{STEPS} steps of {count} seeds of {name} by vmap",
                "the same steps of one net after another",
                together(models, x, y),
                one_by_one(models, x, y),
            )


def nets(make: Network, channels: int, size: int, count: int) -> list[nn.Module]:
    """The networks of as many seeds."""
    return [make(channels, 10, size, stream(seed, "bench", "weights")) for seed in range(count)]


def together(models: list[nn.Module], x: Tensor, y: Tensor) -> Callable[[], Weights]:
    """Return a function that takes steps of all networks at once; stacked weights (S, ...)."""
    weights, buffers = stack_module_state(models)
    weights = {name: tensor.detach().clone() for name, tensor in weights.items()}
    buffers = {name: tensor.clone() for name, tensor in buffers.items()}
    gradients = vmap(grad(_loss), in_dims=(0, 0, None, None, None))

    def work() -> Weights:
        for _ in range(STEPS):
            found = gradients(weights, buffers, models[0], x, y)
            for name, tensor in weights.items():
                tensor.sub_(found[name], alpha=RATE)
        return weights

    return work


def one_by_one(models: list[nn.Module], x: Tensor, y: Tensor) -> Callable[[], list[Weights]]:
    """Return a function that takes the same steps of one network after another."""

    def work() -> list[Weights]:
        for model in models:
            weights = list(model.parameters())
            for _ in range(STEPS):
                found = torch.autograd.grad(F.cross_entropy(model(x), y), weights)
                with torch.no_grad():
                    for weight, gradient in zip(weights, found, strict=True):
                        weight.sub_(gradient, alpha=RATE)
        return [dict(model.named_parameters()) for model in models]

    return work


def _loss(weights: Weights, buffers: Weights, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    logits: Tensor = functional_call(model, (weights, buffers), (x,))
    return F.cross_entropy(logits, y)
