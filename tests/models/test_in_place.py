"""Activations computed in place: the results of the formulas with new tensors, to the last bit."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from models.lenet import LeNet5
from models.mobilenet import MobileNetV1
from models.resnet_cifar import BasicBlock, ResNetCifar
from models.resnet_tiny import ResNetTiny
from models.vgg import Vgg
from models.wide_resnet import WideResNet


def everything(run: Callable[[Tensor], Tensor], module: nn.Module, x: Tensor) -> list[Tensor]:
    """Output, gradients, a product with the Hessian, and the statistics of BatchNorm."""
    leaves = [x.requires_grad_(), *module.parameters()]
    out = run(x)
    grads = torch.autograd.grad(out.square().sum(), leaves, create_graph=True)
    length = torch.stack([each.square().sum() for each in grads]).sum()
    return [out, *grads, *torch.autograd.grad(length, leaves), *module.buffers()]


def images(channels: int, size: int) -> Tensor:
    x = torch.randn(4, channels, size, size, generator=Generator().manual_seed(1))
    return x.to(memory_format=torch.channels_last)


def written_out(block: BasicBlock, x: Tensor) -> Tensor:
    out = torch.relu(block.bn1(block.conv1(x)))
    return torch.relu(block.bn2(block.conv2(out)) + block.shortcut(x))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("shortcut", "stride"), [("B", 1), ("A", 2), ("B", 2), ("B-noBN", 2)])
def test_a_block_equals_its_formula_and_leaves_its_input(
    shortcut: str, stride: int, training: bool
) -> None:
    torch.manual_seed(0)
    block = BasicBlock(4, 4 * stride, stride, shortcut).train(training)  # type: ignore[arg-type]
    block = block.to(memory_format=torch.channels_last)
    other, x, y = copy.deepcopy(block), images(4, 8), images(4, 8)
    ours = everything(block, block, x)
    theirs = everything(lambda x: written_out(other, x), other, y)
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    assert torch.equal(x, images(4, 8))


@pytest.mark.parametrize(
    ("make", "channels", "size"),
    [
        (LeNet5("net"), 1, 28),
        (Vgg("net", depth=11, width=4, pools=3), 3, 8),
        (MobileNetV1("net", width=0.25), 3, 32),
        (ResNetCifar("net", depth=8, width=4), 3, 8),
        (ResNetTiny("net", width=4), 3, 16),
        (WideResNet("net", depth=10, width=1), 3, 8),
    ],
)
def test_a_net_equals_itself_with_new_tensors_and_leaves_the_images(
    make: Callable[..., nn.Module],
    channels: int,
    size: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    net = make(channels, 10, size, Generator().manual_seed(0)).to(memory_format=torch.channels_last)
    other, x, y = copy.deepcopy(net), images(channels, size), images(channels, size)
    ours = everything(net, net, x)
    for module in other.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False
    monkeypatch.setattr(torch, "relu_", F.relu)
    monkeypatch.setattr(BasicBlock, "forward", written_out)
    theirs = everything(other, other, y)
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    assert torch.equal(x, images(channels, size))
