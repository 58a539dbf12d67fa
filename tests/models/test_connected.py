"""Reachable outputs of masked nets: by hand, against a search over all paths, for residual nets."""

import copy
import itertools

import pytest
import torch
from torch import Generator, Tensor, nn

from models.connected import empty_layers, reached_outputs
from models.lenet import LeNet5
from models.mlp import Mlp
from models.resnet_cifar import ResNetCifar


def ones(model: nn.Module) -> dict[str, Tensor]:
    """Masks that keep all."""
    layers = (nn.Conv2d, nn.Linear)
    return {
        f"{path}.weight": torch.ones_like(m.weight, dtype=torch.bool)
        for path, m in model.named_modules()
        if isinstance(m, layers)
    }


def net(hidden: tuple[int, ...] = (3, 2)) -> nn.Module:
    """4 - 3 - 2 - 3 by default."""
    return Mlp("mlp", hidden)(1, 3, 2, Generator().manual_seed(0))


def resnet(depth: int = 8, width: int = 4, shortcut: str = "B") -> nn.Module:
    return ResNetCifar("net", depth, width, shortcut)(1, 10, 8, Generator().manual_seed(0))


def searched(masks: dict[str, Tensor]) -> int:
    """The number of a perceptron's outputs at the end of a path of kept weights, by trying every
    combination of units."""
    layers = [mask.tolist() for mask in masks.values()]  # [out][in]
    widths = [len(layers[0][0]), *(len(layer) for layer in layers)]
    ends = {
        path[-1]
        for path in itertools.product(*map(range, widths))
        if all(w[b][a] for w, a, b in zip(layers, path, path[1:], strict=False))
    }
    return len(ends)


def test_an_output_is_reached_if_a_path_of_kept_weights_ends_in_it() -> None:
    # Input 1 -> hidden 2 -> hidden 0 -> outputs 0 and 2. Hidden 1 of the second layer is connected
    # to output 1, but to no input.
    masks = {name: torch.zeros_like(mask) for name, mask in ones(net()).items()}
    masks["fc1.weight"][2, 1] = True
    masks["fc2.weight"][0, 2] = True
    masks["fc3.weight"][[0, 2, 1], [0, 0, 1]] = True
    assert reached_outputs(net(), masks, (1, 2, 2)) == (2, 3)
    masks["fc2.weight"][0, 2] = False
    assert reached_outputs(net(), masks, (1, 2, 2)) == (0, 3) and empty_layers(masks) == 1


@pytest.mark.parametrize("density", [0.15, 0.3, 0.5, 0.8])
def test_the_count_equals_a_search_over_all_paths(density: float) -> None:
    rng, model, found = Generator().manual_seed(int(100 * density)), net(), set()
    for _ in range(25):
        masks = {
            name: torch.rand(mask.shape, generator=rng) < density
            for name, mask in ones(model).items()
        }
        found.add(searched(masks))
        assert reached_outputs(model, masks, (1, 2, 2)) == (searched(masks), 3)
    assert len(found) > 1  # the masks disconnect different outputs


@pytest.mark.parametrize(
    "model",
    [resnet(), resnet(shortcut="A"), resnet(110, 16), LeNet5("l")(1, 10, 28, Generator())],
    ids=["B", "A", "deep", "lenet5"],
)
def test_full_masks_reach_every_output_for_any_depth_biases_and_statistics(
    model: nn.Module,
) -> None:
    with torch.no_grad():
        for tensor in model.state_dict().values():
            # Signs, biases, shifts and statistics do not affect paths. A forward pass with weights
            # of 3 would overflow.
            tensor.fill_(-3)
    assert reached_outputs(
        model, ones(model), (1, 28, 28) if isinstance(model, nn.Sequential) else (1, 8, 8)
    ) == (10, 10)
    assert empty_layers(ones(model)) == 0


def test_a_shortcut_bridges_an_empty_block_and_an_empty_stage_disconnects_the_net() -> None:
    masks = ones(resnet())
    masks["stage1.0.conv2.weight"][:] = False  # the identity shortcut remains
    assert reached_outputs(resnet(), masks, (1, 8, 8)) == (10, 10) and empty_layers(masks) == 1
    masks["stage2.0.shortcut.conv.weight"][:] = False  # the convolutions remain
    assert reached_outputs(resnet(), masks, (1, 8, 8)) == (10, 10) and empty_layers(masks) == 2
    masks["stage2.0.conv1.weight"][:] = False
    assert reached_outputs(resnet(), masks, (1, 8, 8)) == (0, 10) and empty_layers(masks) == 3


def test_a_bias_connects_nothing() -> None:
    masks = ones(net())
    masks["fc1.weight"][:] = False
    model = net()
    with torch.no_grad():
        model.fc2.bias.fill_(1.0)
    assert reached_outputs(model, masks, (1, 2, 2)) == (0, 3)


def test_the_model_is_unchanged() -> None:
    model = resnet().double()
    model.stage1.eval()
    before, flags = copy.deepcopy(model.state_dict()), [m.training for m in model.modules()]
    reached_outputs(model, ones(model), (1, 8, 8))
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert [m.training for m in model.modules()] == flags
    assert not any(m._forward_hooks for m in model.modules())
