"""What a training step and an evaluation are made of: their layers alone, of each kind.

The layers of one kind run as often as in the step, forward and backward, each on the input that it
has there. docs/cpu_speed.md reads the shares.
"""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from models.lenet import LeNet5, LeNet300
from runner.bench.timing import Comparison
from runner.bench.training import BATCH, RESNET20, Network, bare_steps, images_of, net, pairs
from runner.engine.evaluate import evaluate

STEPS = 4
NETS: tuple[tuple[str, Network, int, int], ...] = (  # name, network, channels, size of its images
    ("resnet20_32", RESNET20, 3, 32),
    ("resnet20_8", RESNET20, 1, 8),
    ("lenet5", LeNet5("lenet5"), 1, 28),
    ("lenet_300_100", LeNet300("lenet_300_100"), 1, 28),
)
PRODUCTS = (nn.Conv2d, nn.Linear)
OTHERS = (nn.BatchNorm2d, nn.MaxPool2d, nn.AvgPool2d)


@dataclass(frozen=True)
class Layer:
    """One call of a layer in a pass of its network.

    Args:
        module: the layer.
        x: its input.
        grad: the gradient of its output.
        first: the input is an image, of which no gradient is needed.
    """

    module: nn.Module
    x: Tensor
    grad: Tensor
    first: bool

    def train(self) -> tuple[Tensor, ...]:
        """The gradients that a training step needs of this layer, by a pass of it alone."""
        x = self.x.requires_grad_(not self.first)
        wanted = [*(() if self.first else (x,)), *self.module.parameters()]
        return torch.autograd.grad(self.module(x), wanted, self.grad)

    def forward(self) -> Tensor:
        """Its output alone."""
        with torch.no_grad():
            out: Tensor = self.module(self.x)
            return out


def layers_of(model: nn.Module, x: Tensor, kinds: tuple[type[nn.Module], ...]) -> list[Layer]:
    """The calls of layers of these kinds in a pass of `model` on `x`, in order."""
    found: list[Layer] = []

    def note(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        own = inputs[0].detach().clone()  # the net works in place
        first = not found and isinstance(module, PRODUCTS)
        found.append(Layer(module, own, torch.randn_like(output), first))

    hooks: list[Any] = [
        module.register_forward_hook(note)
        for module in model.modules()
        if isinstance(module, kinds)
    ]
    with torch.no_grad():
        model(x)
    for hook in hooks:
        hook.remove()
    return found


def repeated(calls: list[Callable[[], object]], times: int) -> Callable[[], object]:
    """Return a function that makes all calls in turn, `times` times."""

    def work() -> None:
        for _ in range(times):
            for call in calls:
                call()

    return work


def step_comparisons(device: torch.device) -> Iterator[Comparison]:
    """Yield bare training steps of each network against its layers alone, by kind."""
    for name, make, channels, size in NETS:
        data = images_of(STEPS * BATCH, channels, size)
        model = net(channels, size, device, make)
        x = pairs(data)[0][0].to(device, memory_format=torch.channels_last)
        for kind, kinds in (("products", PRODUCTS), ("others", OTHERS)):
            calls = [layer.train for layer in layers_of(model, x, kinds)]
            if calls:
                what = "convolutions and products" if kinds is PRODUCTS else "BatchNorm and pooling"
                yield Comparison(
                    f"layers_{name}_{kind}",
                    f"{STEPS} bare steps of {name}, {channels}x{size}x{size}",
                    f"limit: its {what} alone",
                    bare_steps(data, device, make=make),
                    repeated(list(calls), STEPS),
                )


def evaluation_comparisons(device: torch.device) -> Iterator[Comparison]:
    """Yield an evaluation against its convolutions alone, and against BatchNorm folded."""
    _, make, channels, size = NETS[0]
    data = images_of(STEPS * BATCH, channels, size)
    model = net(channels, size, device, make).eval()
    batches = [
        (x.to(device, memory_format=torch.channels_last), y.to(device)) for x, y in pairs(data)
    ]
    autocast = torch.autocast(device.type, dtype=torch.bfloat16, enabled=False)
    whole = partial(evaluate, model, batches, {}, autocast)
    alone = [layer.forward for layer in layers_of(model, batches[0][0], PRODUCTS)]
    work = f"evaluation of {len(data)} images {channels}x{size}x{size}"
    yield Comparison(
        "eval_limit_products",
        work,
        "limit: its convolutions alone",
        whole,
        repeated(list(alone), STEPS),
    )
    yield Comparison(
        "eval_limit_folded",
        work,
        "with BatchNorm folded into the convolutions",
        whole,
        partial(evaluate, folded(model), batches, {}, autocast),
    )


def folded(model: nn.Module) -> nn.Module:
    """A copy in eval mode whose BatchNorm layers are parts of the convolutions before them."""
    own = copy.deepcopy(model).eval()
    for parent in own.modules():
        children = dict(parent.named_children())
        for name, layer in children.items():
            after = children.get(place := name.replace("conv", "bn"))
            if isinstance(layer, nn.Conv2d) and isinstance(after, nn.BatchNorm2d):
                setattr(parent, name, fuse_conv_bn_eval(layer, after))
                setattr(parent, place, nn.Identity())
    return own
