"""Layers alone, folded BatchNorm and several seeds at once compute what their networks compute."""

import copy
import time
from collections.abc import Callable

import pytest
import torch
from torch import Generator, nn

from models.lenet import LeNet300
from models.resnet_cifar import ResNetCifar
from runner.bench.busy import least
from runner.bench.layers import OTHERS, PRODUCTS, folded, layers_of
from runner.bench.seeds import nets, one_by_one, together
from runner.bench.timing import Comparison

RESNET = ResNetCifar("net", depth=8, width=2)


def resnet() -> nn.Module:
    """A small network whose running statistics are those of no batch."""
    net, rng = RESNET(1, 10, 8, Generator().manual_seed(0)), Generator().manual_seed(1)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.normal_(generator=rng)
            module.running_var.uniform_(0.5, 2, generator=rng)
    return net


def images(count: int) -> torch.Tensor:
    return torch.randn(count, 1, 8, 8, generator=Generator().manual_seed(2))


def test_the_ratio_of_a_busy_machine_is_that_of_processor_times() -> None:
    def work(times: int) -> Callable[[], object]:
        return lambda: sum(range(100_000 * times))

    comparison = Comparison("name", "more", "less", work(8), lambda: time.sleep(0.05))
    ours, waiting = least(comparison, 2)
    assert ours > waiting  # sleeping takes no processor time


def test_each_layer_is_found_as_often_as_a_pass_calls_it_with_its_own_input() -> None:
    net, x = resnet().eval(), images(3)
    products, others = layers_of(net, x, PRODUCTS), layers_of(net, x, OTHERS)
    # 3 blocks of 2 convolutions, the first one, 2 on shortcuts, and the classifier
    assert len(products) == 3 * 2 + 1 + 2 + 1 and len(others) == 3 * 2 + 1 + 2
    assert [layer.first for layer in products] == [True] + [False] * 9
    assert not any(layer.first for layer in others)
    assert torch.equal(products[-1].forward(), net(x))  # the classifier ends the pass


def test_a_layer_alone_has_the_gradients_of_the_layer() -> None:
    (layer,) = layers_of(nn.Sequential(nn.Flatten(), nn.Linear(64, 5)), images(3), PRODUCTS)
    weight, bias = layer.train()  # none of the images
    torch.testing.assert_close(weight, layer.grad.T @ images(3).flatten(1))
    torch.testing.assert_close(bias, layer.grad.sum(0))


def test_the_folded_network_has_the_logits_of_the_network() -> None:
    net = resnet().eval()
    without = folded(net)
    assert sum(isinstance(module, nn.BatchNorm2d) for module in without.modules()) == 0
    torch.testing.assert_close(without(images(5)), net(images(5)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("make", [RESNET, LeNet300("net")])
def test_steps_of_several_seeds_at_once_are_those_of_each_seed(
    make: ResNetCifar | LeNet300,
) -> None:
    x, y = images(6), torch.arange(6)
    models = nets(make, 1, 8, 3)
    own = copy.deepcopy(models)
    stacked, single = together(models, x, y)(), one_by_one(own, x, y)()
    assert len(single) == 3
    for seed, weights in enumerate(single):
        for name, tensor in weights.items():
            torch.testing.assert_close(stacked[name][seed], tensor, rtol=1e-3, atol=1e-4)
