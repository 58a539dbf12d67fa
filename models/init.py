"""Shared by all models: named initialisers, and the check for images that are too small.

Every draw comes from the given CPU generator, in float32 and in the order of the model's
parameters, and is copied to the parameter's device. Equal seeds therefore give equal weights on
every device and in every memory format. sigma^2 is the variance of a weight. fan_in counts the
weights that enter one output, fan_out those that leave one input channel. In a grouped convolution
both count only the channel's group (PyTorch's own fan_out counts all groups together).
"""

import math
from collections.abc import Callable

import torch
from torch import Generator, Tensor, nn

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
TRUNCATED_STD = 0.87962566103423978  # standard deviation of a N(0, 1) cut at +-2


def _fan_in(weight: Tensor) -> int:
    return weight[0].numel()


def _fan_out(module: nn.Module, weight: Tensor) -> int:
    groups = module.groups if isinstance(module, CONVOLUTIONS) else 1
    return weight.shape[0] // groups * weight[0, 0].numel()


def _normal(weight: Tensor, variance: float, rng: Generator) -> Tensor:
    return torch.empty(weight.shape).normal_(0, math.sqrt(variance), generator=rng)


def fan_in(module: nn.Module, weight: Tensor, rng: Generator) -> Tensor:
    """Kaiming normal, sigma^2 = 2 / fan_in, for conv and linear; BatchNorm 1.

    He et al., 2015, Eq. 10. The project's default (docs/decisions.md 3) and that of Synaptic-Flow's
    `lottery` models.
    """
    return (
        torch.ones(weight.shape)
        if isinstance(module, NORMS)
        else _normal(weight, 2 / _fan_in(weight), rng)
    )


def fan_out(module: nn.Module, weight: Tensor, rng: Generator) -> Tensor:
    """Conv Kaiming normal, sigma^2 = 2 / fan_out; linear N(0, 0.01^2); BatchNorm 1.

    From alecwangcq/GraSP and JingtongSu/sanity-checking-pruning. Magnitude pruning at init empties
    the linear layer below a density of 62 % on ResNet-20 (docs/methods/magnitude.md).
    """
    if isinstance(module, NORMS):
        return torch.ones(weight.shape)
    return _normal(
        weight, 0.01**2 if isinstance(module, nn.Linear) else 2 / _fan_out(module, weight), rng
    )


def open_lth(module: nn.Module, weight: Tensor, rng: Generator) -> Tensor:
    """Kaiming normal, sigma^2 = 2 / fan_in, for conv and linear; BatchNorm's scale ~ U(0, 1).

    From facebookresearch/open_lth, its default for all models. One deviation: open_lth leaves conv
    and linear biases at PyTorch's U(+-1/sqrt(fan_in)); here they are zero, as for all initialisers.
    """
    return (
        torch.rand(weight.shape, generator=rng)
        if isinstance(module, NORMS)
        else _normal(weight, 2 / _fan_in(weight), rng)
    )


def lenet_snip(module: nn.Module, weight: Tensor, rng: Generator) -> Tensor:
    """Normal truncated at two standard deviations, sigma^2 = 1 / fan_in; BatchNorm 1.

    From namhoonlee/snip-public; sigma^2 is the variance after truncation. This is TensorFlow's
    `variance_scaling_initializer` as of 1.11. Older releases did not correct for the truncation and
    gave 0.774 / fan_in.
    """
    if isinstance(module, NORMS):
        return torch.ones(weight.shape)
    std = math.sqrt(1 / _fan_in(weight)) / TRUNCATED_STD
    return nn.init.trunc_normal_(
        torch.empty(weight.shape), 0.0, std, -2 * std, 2 * std, generator=rng
    )


def synflow_tiny(module: nn.Module, weight: Tensor, rng: Generator) -> Tensor:
    """Conv Kaiming normal, sigma^2 = 2 / fan_out; linear U(+-1/sqrt(fan_in)); BatchNorm 1.

    From Synaptic-Flow's Tiny-ImageNet ResNets; the linear law is PyTorch's default. One deviation:
    Synaptic-Flow leaves linear biases at PyTorch's default, the same law; here they are zero, as
    for all initialisers. Magnitude pruning at init empties the linear layer of ResNet-18 below a
    density of 7.7 % (docs/methods/magnitude.md).
    """
    if isinstance(module, NORMS):
        return torch.ones(weight.shape)
    if isinstance(module, nn.Linear):
        bound = 1 / math.sqrt(_fan_in(weight))
        return torch.empty(weight.shape).uniform_(-bound, bound, generator=rng)
    return _normal(weight, 2 / _fan_out(module, weight), rng)


INITIALISERS: dict[str, Callable[[nn.Module, Tensor, Generator], Tensor]] = {
    f.__name__: f for f in (fan_in, fan_out, open_lth, lenet_snip, synflow_tiny)
}


def check_init(name: str) -> None:
    """Reject an initialiser that does not exist.

    Raises:
        ValueError: the name is unknown; the message lists the choices.
    """
    if name not in INITIALISERS:
        raise ValueError(f"model.init={name!r} must be one of {', '.join(INITIALISERS)}")


@torch.no_grad()
def initialise(model: nn.Module, name: str, rng: Generator) -> None:
    """Draw every weight of `model` in place; reset biases and BatchNorm's statistics.

    Biases and BatchNorm's shifts become zero, BatchNorm's running mean 0 and variance 1.

    Args:
        name: one of INITIALISERS.
        rng: a CPU generator; the only source of randomness.

    Raises:
        ValueError: an unknown name.
        TypeError: a layer with parameters is no convolution, linear layer or BatchNorm.
    """
    check_init(name)
    for path, module in model.named_modules():
        if not any(True for _ in module.parameters(recurse=False)):
            continue
        if not isinstance(module, (*CONVOLUTIONS, nn.Linear, *NORMS)):
            raise TypeError(
                f"model.init={name} does not know what to draw for {path} ({type(module).__name__})"
            )
        # On meta tensors PyTorch would load its compiler, which takes seconds, to draw nothing.
        if module.weight is not None and not module.weight.is_meta:
            module.weight.copy_(INITIALISERS[name](module, module.weight, rng))
        if module.bias is not None:
            module.bias.zero_()
        if isinstance(module, NORMS):
            module.reset_running_stats()


def fresh(make: Callable[[], nn.Module], init: str, rng: Generator) -> nn.Module:
    """Build a network with initialised weights; the global random state is not changed."""
    with torch.random.fork_rng(devices=[]):  # PyTorch's layers draw their first weights from it
        model = make()
    initialise(model, init, rng)
    return model


def refuse_small(name: str, size: int, smallest: int) -> None:
    """Reject images that a model's poolings would reduce to nothing.

    Raises:
        ValueError: the image is too small; the message names model, key, smallest size and remedy.
    """
    if size < smallest:
        raise ValueError(
            f"model={name} takes images of {smallest}x{smallest} and up, dataset.size={size} is"
            " smaller: dataset.size=32 centres them on black"
        )
