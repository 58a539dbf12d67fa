"""What all models share: named initialisers, and the refusal of images that are too small.

Every draw comes from the given CPU generator, in float32 and in the order of the model's parameters, and is copied to where the parameter lies: equal seeds
give equal weights on every device, in every memory format. sigma^2 is the variance of a weight; fan_in and fan_out count the weights that enter one output and
leave one input channel, of a grouped convolution those of its group (PyTorch's own fan_out is that of all groups together).
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
    """Kaiming normal, sigma^2 = 2 / fan_in, for conv and linear (He et al., 2015, Eq. 10); BatchNorm 1.

    The project's default (decisions.md 3) and that of Synaptic-Flow's `lottery` models.
    """
    return torch.ones(weight.shape) if isinstance(module, NORMS) else _normal(weight, 2 / _fan_in(weight), rng)


def fan_out(module: nn.Module, weight: Tensor, rng: Generator) -> Tensor:
    """Conv Kaiming normal, sigma^2 = 2 / fan_out; linear N(0, 0.01^2); BatchNorm 1: alecwangcq/GraSP, JingtongSu/sanity-checking-pruning.

    Magnitude pruning at init empties the linear layer below a density of 62 % on ResNet-20 (methods/magnitude.md).
    """
    if isinstance(module, NORMS):
        return torch.ones(weight.shape)
    return _normal(weight, 0.01**2 if isinstance(module, nn.Linear) else 2 / _fan_out(module, weight), rng)


def open_lth(module: nn.Module, weight: Tensor, rng: Generator) -> Tensor:
    """Kaiming normal, sigma^2 = 2 / fan_in, for conv and linear; BatchNorm's scale ~ U(0, 1): facebookresearch/open_lth, its default for all models.

    One deviation: open_lth leaves conv and linear biases at PyTorch's U(+-1/sqrt(fan_in)); they are zero here, as everywhere else.
    """
    return torch.rand(weight.shape, generator=rng) if isinstance(module, NORMS) else _normal(weight, 2 / _fan_in(weight), rng)


def lenet_snip(module: nn.Module, weight: Tensor, rng: Generator) -> Tensor:
    """Normal cut at two standard deviations, sigma^2 = 1 / fan_in after the cut; BatchNorm 1: namhoonlee/snip-public.

    That is TensorFlow's `variance_scaling_initializer` as of 1.11; older releases did not correct for the cut and gave 0.774 / fan_in.
    """
    if isinstance(module, NORMS):
        return torch.ones(weight.shape)
    std = math.sqrt(1 / _fan_in(weight)) / TRUNCATED_STD
    return nn.init.trunc_normal_(torch.empty(weight.shape), 0.0, std, -2 * std, 2 * std, generator=rng)


def synflow_tiny(module: nn.Module, weight: Tensor, rng: Generator) -> Tensor:
    """Conv Kaiming normal, sigma^2 = 2 / fan_out; linear U(+-1/sqrt(fan_in)), PyTorch's default; BatchNorm 1: Synaptic-Flow's Tiny-ImageNet ResNets.

    One deviation: Synaptic-Flow leaves linear biases at PyTorch's default, the same law; they are zero here, as everywhere else. Magnitude pruning at init
    empties the linear layer of ResNet-18 below a density of 7.7 % (methods/magnitude.md).
    """
    if isinstance(module, NORMS):
        return torch.ones(weight.shape)
    if isinstance(module, nn.Linear):
        bound = 1 / math.sqrt(_fan_in(weight))
        return torch.empty(weight.shape).uniform_(-bound, bound, generator=rng)
    return _normal(weight, 2 / _fan_out(module, weight), rng)


INITIALISERS: dict[str, Callable[[nn.Module, Tensor, Generator], Tensor]] = {f.__name__: f for f in (fan_in, fan_out, open_lth, lenet_snip, synflow_tiny)}


def check_init(name: str) -> None:
    """Refuse an initialiser that does not exist.

    Raises:
        ValueError: with the choices.
    """
    if name not in INITIALISERS:
        raise ValueError(f"model.init={name!r} must be one of {', '.join(INITIALISERS)}")


@torch.no_grad()
def initialise(model: nn.Module, name: str, rng: Generator) -> None:
    """Draw every weight of `model` anew, in place; biases and BatchNorm's shifts become zero, BatchNorm's statistics 0 and 1.

    Args:
        name: one of INITIALISERS.
        rng: a CPU generator; the only source of randomness.

    Raises:
        ValueError: an unknown name.
        TypeError: a layer with parameters that is no convolution, linear layer or BatchNorm.
    """
    check_init(name)
    for path, module in model.named_modules():
        if not any(True for _ in module.parameters(recurse=False)):
            continue
        if not isinstance(module, (*CONVOLUTIONS, nn.Linear, *NORMS)):
            raise TypeError(f"model.init={name} does not know what to draw for {path} ({type(module).__name__})")
        if module.weight is not None and not module.weight.is_meta:  # sizes alone are wanted: PyTorch would load its compiler, seconds, to draw nothing
            module.weight.copy_(INITIALISERS[name](module, module.weight, rng))
        if module.bias is not None:
            module.bias.zero_()
        if isinstance(module, NORMS):
            module.reset_running_stats()


def fresh(make: Callable[[], nn.Module], init: str, rng: Generator) -> nn.Module:
    """A network with initialised weights; the global random stream is left where it was."""
    with torch.random.fork_rng(devices=[]):  # PyTorch's layers draw their first weights from it
        model = make()
    initialise(model, init, rng)
    return model


def refuse_small(name: str, size: int, smallest: int) -> None:
    """Refuse images that a model's poolings would shrink to nothing.

    Raises:
        ValueError: naming model and key, what it takes, and the way out.
    """
    if size < smallest:
        raise ValueError(f"model={name} takes images of {smallest}x{smallest} and up, dataset.size={size} is smaller: dataset.size=32 centres them on black")
