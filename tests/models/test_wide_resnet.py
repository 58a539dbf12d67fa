"""WRN-22-2 and ResNet-18 for CIFAR: counts, costs, functions and names of other implementations.

The oracle of the functions is a net written here by another author's layout, or our ResNet-18 for
64x64 images: with renamed weights it has the same outputs to the bit.
"""

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from omegaconf import OmegaConf
from torch import Generator, Tensor, nn

from models.count import multiply_accumulates
from models.names import TORCHVISION_BLOCKS
from models.resnet18_cifar import ResNet18Cifar
from models.resnet_tiny import ResNetTiny
from models.wide_resnet import WideResNet
from pruners.base import prunable_names
from runner.engine.weight_names import found

CONF = Path(__file__).parents[2] / "conf" / "model"
KINDS = {"wrn22_2": WideResNet, "resnet18_cifar": ResNet18Cifar}


def component(name: str, **changed: Any) -> Any:
    """The component that a YAML of conf/model describes."""
    options: Any = OmegaConf.to_container(OmegaConf.load(CONF / f"{name}.yaml"))
    del options["_target_"]
    return KINDS[name](**(options | changed))


def shape_only(described: Any, classes: int, channels: int = 3, size: int = 32) -> nn.Module:
    """The network without data."""
    with torch.device("meta"):
        return described(channels, classes, size, Generator())


def counts(model: nn.Module) -> tuple[int, int]:
    return sum(p.numel() for p in model.parameters()), sum(
        model.get_parameter(n).numel() for n in prunable_names(model)
    )


def wrn_counts(n: int, k: int, channels: int, classes: int) -> tuple[int, int]:
    """Parameters and weights of WRN-(6n+4)-k: three stages of n blocks, 16k, 32k, 64k channels.

    All 6n 3x3 convolutions, of which the first of each stage has the channels of the one before;
    a 1x1 convolution where these differ; two BatchNorm vectors of each convolution's input in the
    blocks, and of the last channels.
    """
    stages = [16, 16 * k, 32 * k, 64 * k]
    weights, norms = 9 * channels * 16 + 64 * k * classes, 2 * 64 * k
    for before, own in zip(stages, stages[1:], strict=False):
        weights += 9 * own * (before + (2 * n - 1) * own) + (before * own if before != own else 0)
        norms += 2 * (before + (2 * n - 1) * own)
    return weights + norms + classes, weights


@pytest.mark.parametrize("classes", [10, 100])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("depth", "width"), [(10, 1), (16, 4), (22, 2), (28, 1)])
def test_parameters_of_a_wide_resnet_follow_the_closed_formula(
    depth: int, width: int, channels: int, classes: int
) -> None:
    described = component("wrn22_2", depth=depth, width=width)
    expected = wrn_counts((depth - 4) // 6, width, channels, classes)
    assert counts(shape_only(described, classes, channels)) == expected


def test_the_formula_and_the_network_have_the_published_count_of_wrn_28_10() -> None:
    model = shape_only(component("wrn22_2", depth=28, width=10), 10)
    # the paper's Table 4 has 36.5 M; the authors' list of models has this number
    assert counts(model)[0] == wrn_counts(4, 10, 3, 10)[0] == 36_479_194


def test_resnet_18_has_the_parameters_of_its_layers() -> None:
    # the stem, four 3x3 convolutions of 64 channels; then four of c channels, the first of c/2
    weights = 27 * 64 + 4 * 9 * 64**2
    weights += sum(9 * (c // 2 * c + 3 * c * c) + c // 2 * c for c in (128, 256, 512)) + 5_120
    norms = 2 * (64 + 4 * 64 + 5 * (128 + 256 + 512))
    assert counts(shape_only(component("resnet18_cifar"), 10)) == (weights + norms + 10, weights)


def test_multiply_accumulates_follow_the_closed_formula() -> None:
    side = 32
    cost, stages = 27 * 16 * side**2, [16, 32, 64, 128]
    for before, own in zip(stages, stages[1:], strict=False):
        side //= 1 if own == 32 else 2
        cost += side**2 * (9 * own * (before + 5 * own) + before * own)
    model = shape_only(component("wrn22_2"), 10)
    assert multiply_accumulates(model, (3, 32, 32))[0] == cost + 1_280
    cost = 1024 * (27 * 64 + 36 * 64**2)
    cost += 3 * 32 * 128**2 * 256  # (9/2 + 3 x 9 + 1/2) c^2 pixels, equal in the later stages
    model = shape_only(component("resnet18_cifar"), 10)
    assert multiply_accumulates(model, (3, 32, 32))[0] == cost + 5_120


# --- functions


class TheirBlock(nn.Module):
    """A block of the PyTorch form of WRN that pruning repositories copy."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.bn1, self.bn2 = nn.BatchNorm2d(inputs), nn.BatchNorm2d(outputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        if inputs != outputs:
            self.convShortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        active = F.relu(self.bn1(x))
        out = self.conv2(F.relu(self.bn2(self.conv1(active))))
        return out + (self.convShortcut(active) if hasattr(self, "convShortcut") else x)


class TheirStage(nn.Module):
    """Three blocks in a Sequential called `layer`."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        rest = [TheirBlock(outputs, outputs, 1) for _ in range(2)]
        self.layer = nn.Sequential(TheirBlock(inputs, outputs, stride), *rest)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


class TheirNet(nn.Module):
    """WRN-22-2 for one channel and ten classes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, 1, 1, bias=False)
        self.block1 = TheirStage(16, 32, 1)
        self.block2 = TheirStage(32, 64, 2)
        self.block3 = TheirStage(64, 128, 2)
        self.bn1, self.fc = nn.BatchNorm2d(128), nn.Linear(128, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.block3(self.block2(self.block1(self.conv1(x))))
        return self.fc(F.relu(self.bn1(x)).mean(dim=(2, 3)))


def filled(net: nn.Module) -> nn.Module:
    """The net in eval mode with random weights and statistics, so that each counts."""
    rng = Generator().manual_seed(7)
    with torch.no_grad():
        for name, tensor in net.state_dict().items():
            if tensor.is_floating_point():
                tensor.copy_(torch.rand(tensor.shape, generator=rng) * 0.2)
                tensor += 0.5 if "running_var" in name or "bn" in name else -0.1
    return net.eval()


def same_function(one: nn.Module, other: nn.Module) -> bool:
    channels = next(one.parameters()).shape[1]
    x = torch.randn(3, channels, 32, 32, generator=Generator().manual_seed(3))
    with torch.no_grad():
        return torch.equal(one(x), other(x))


def layer_style(name: str) -> str:
    """The name in repositories whose stages are layer1 to layer3."""
    name = name.replace("stage", "layer").replace(".shortcut.", ".shortcut.0.")
    return name.replace("fc.", "linear.")


@pytest.mark.parametrize("form", ["block", "layer", "parallel"])
def test_weights_of_other_wide_resnets_fit_and_give_their_function(form: str) -> None:
    described = component("wrn22_2")
    theirs, ours = filled(TheirNet()), described(1, 10, 32, Generator().manual_seed(0)).eval()
    assert not same_function(theirs, ours)
    state = theirs.state_dict()
    if form == "parallel":
        state = {f"module.{name}": tensor for name, tensor in state.items()}
    if form == "layer":
        ours_by_theirs = found(state, ours.state_dict(), described.renamings).state
        state = {layer_style(name): tensor for name, tensor in ours_by_theirs.items()}
    ours.load_state_dict(found(state, ours.state_dict(), described.renamings).state)
    assert same_function(theirs, ours)


def test_resnet_18_for_cifar_is_the_function_of_our_resnet_18_for_small_images() -> None:
    theirs = filled(ResNetTiny("r")(3, 10, 32, Generator().manual_seed(0)))
    ours = component("resnet18_cifar")(3, 10, 32, Generator().manual_seed(1)).eval()
    renamed = found(theirs.state_dict(), ours.state_dict(), TORCHVISION_BLOCKS)
    ours.load_state_dict(renamed.state)
    x = torch.randn(2, 3, 32, 32, generator=Generator().manual_seed(3))
    with torch.no_grad():
        torch.testing.assert_close(theirs(x), ours(x), rtol=1e-5, atol=1e-5)
        assert same_function(theirs, ours)


def test_resnet_18_has_torchvisions_names_and_its_blocks() -> None:
    from torchvision.models import resnet18

    with torch.device("meta"):
        theirs = resnet18(num_classes=10)
    ours = shape_only(component("resnet18_cifar"), 10)
    other = {
        name: tuple(p.shape)
        for name, p in ours.state_dict().items()
        if theirs.state_dict()[name].shape != p.shape
    }
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    assert other == {"conv1.weight": (64, 3, 3, 3)}


# --- shapes, options, files


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize(("channels", "classes", "extra"), [(3, 10, 0), (1, 100, 5)])
def test_logits_have_one_column_per_class_from_the_smallest_image_on(
    name: str, channels: int, classes: int, extra: int
) -> None:
    described = component(name)
    size = described.smallest + extra
    model = described(channels, classes, size, Generator().manual_seed(0))
    assert model.training and model(torch.randn(3, channels, size, size)).shape == (3, classes)
    assert {(m.eps, m.momentum) for m in model.modules() if isinstance(m, nn.BatchNorm2d)} == {
        (1e-5, 0.1)
    }


@pytest.mark.parametrize("name", KINDS)
def test_equal_seeds_give_equal_weights_and_images_that_are_too_small_are_rejected(
    name: str,
) -> None:
    one, two, other = (
        component(name)(1, 10, 8, Generator().manual_seed(seed)).state_dict() for seed in (0, 0, 1)
    )
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert not torch.equal(one["conv1.weight"], other["conv1.weight"])
    with pytest.raises(ValueError, match=rf"model={name} takes images of 8x8 and up"):
        component(name)(1, 10, 7, Generator())


def test_shortcuts_are_named_for_the_option_that_leaves_them_dense() -> None:
    wide, small = (shape_only(component(name), 10) for name in KINDS)
    assert wide.shortcuts == tuple(f"stage{i}.0.shortcut.weight" for i in (1, 2, 3))
    assert small.shortcuts == tuple(f"layer{i}.0.downsample.0.weight" for i in (2, 3, 4))
    assert (len(prunable_names(wide)), len(prunable_names(small))) == (1 + 18 + 3 + 1, 18 + 3)
    plain = shape_only(component("wrn22_2", width=1), 10)  # its first stage keeps the channels
    assert plain.shortcuts == tuple(f"stage{i}.0.shortcut.weight" for i in (2, 3))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: WideResNet("w", depth=20), r"model.depth=20 must be 6n\+4 with n >= 1"),
        (lambda: WideResNet("w", depth=4), r"model.depth=4 must be 6n\+4"),
        (lambda: WideResNet("w", width=0), "model.width=0 must be at least 1"),
        (lambda: WideResNet("w", init="x"), "model.init='x' must be one of"),
        (lambda: ResNet18Cifar("r", init="x"), "model.init='x' must be one of"),
    ],
)
def test_invalid_options_are_rejected(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("name", KINDS)
def test_configurations_list_every_field_and_state_their_counts(name: str) -> None:
    text = (CONF / f"{name}.yaml").read_text()
    options: Any = OmegaConf.to_container(OmegaConf.load(CONF / f"{name}.yaml"))
    assert options.pop("_target_") == KINDS[name].tag
    assert list(options) == [f.name for f in fields(KINDS[name])] and options["name"] == name
    model = shape_only(component(name), 10)
    assert all(f"{count:,}" in text.replace("\n# ", " ") for count in counts(model))
    assert (
        f"{multiply_accumulates(model, (3, 32, 32))[0] / 1e6:,.1f} M multiply-accumulates" in text
    )
