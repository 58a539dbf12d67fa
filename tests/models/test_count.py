"""Multiply-accumulates: by hand, against PyTorch's own counter, and against docs/networks.md."""

import copy

import pytest
import torch
from torch import Generator, Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from models.count import multiply_accumulates
from models.lenet import LeNet5, LeNet300
from models.resnet_cifar import ResNetCifar


def resnet(depth: int, width: int, shortcut: str = "B") -> nn.Module:
    return ResNetCifar("net", depth, width, shortcut)(3, 10, 32, Generator())


@pytest.mark.parametrize(
    ("depth", "width", "shortcut", "millions"),
    [
        (20, 16, "A", 40.6),
        (20, 16, "B", 40.8),
        (20, 32, "B", 162.4),
        (20, 64, "B", 647.7),
        (32, 16, "B", 69.1),
        (32, 32, "B", 275.6),
        (32, 32, "A", 274.6),
    ],
)
def test_resnets_have_the_documented_cost(
    depth: int, width: int, shortcut: str, millions: float
) -> None:
    dense, nonzero = multiply_accumulates(resnet(depth, width, shortcut), (3, 32, 32))
    assert round(dense / 1e6, 1) == millions and nonzero == dense


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (resnet(20, 16), (3, 32, 32)),
        (resnet(14, 8, "A"), (3, 9, 9)),
        (LeNet5("l")(1, 10, 28, Generator()), (1, 28, 28)),
        (LeNet300("l")(1, 10, 28, Generator()), (1, 28, 28)),
    ],
    ids=["resnet20", "resnet14_9x9", "lenet5", "lenet300"],
)
def test_the_count_is_half_of_pytorchs_flop_count(
    model: nn.Module, shape: tuple[int, int, int]
) -> None:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        copy.deepcopy(model).eval()(torch.zeros(1, *shape))
    assert 2 * multiply_accumulates(model, shape)[0] == counter.get_total_flops()


def test_only_kept_weights_count_under_masks() -> None:
    # Conv 2 -> 3, 3x3 without padding on 6x5: 54 weights x (4 x 3) positions = 648. Linear 36 -> 2:
    # 72.
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Flatten(), nn.Linear(36, 2))
    conv = torch.zeros(3, 2, 3, 3, dtype=torch.bool)
    conv[0, 0, 0, 0] = conv[2, 1, 2, 2] = True
    linear = torch.ones(2, 36, dtype=torch.bool)
    linear[0] = False
    assert multiply_accumulates(model, (2, 6, 5)) == (720, 720)
    assert multiply_accumulates(model, (2, 6, 5), {"0.weight": conv, "2.weight": linear}) == (
        720,
        2 * 12 + 36,
    )
    assert multiply_accumulates(model, (2, 6, 5), {"2.weight": linear}) == (720, 648 + 36)


def test_groups_and_strides_are_counted_by_weight_and_output() -> None:
    # Depthwise 4 channels, 3x3, stride 2, padding 1 on 8x8: 4 * 9 weights x 4 x 4 positions.
    assert multiply_accumulates(nn.Conv2d(4, 4, 3, stride=2, padding=1, groups=4), (4, 8, 8)) == (
        576,
        576,
    )


def test_a_layer_that_is_used_twice_counts_twice() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(5, 5)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.fc(x.flatten(1)))

    assert multiply_accumulates(Twice(), (1, 1, 5)) == (50, 50)


def test_counting_leaves_no_hook_on_the_model() -> None:
    model = resnet(8, 4)
    before = {name: t.clone() for name, t in model.state_dict().items()}
    multiply_accumulates(model, (3, 32, 32))
    assert all(
        torch.equal(t, before[name]) and t.device.type == "cpu"
        for name, t in model.state_dict().items()
    )
    assert model.training and not any(m._forward_hooks for m in model.modules())
