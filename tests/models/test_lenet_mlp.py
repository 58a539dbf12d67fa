"""LeNets and the perceptron: parameter counts of docs/networks.md, layers, invalid options."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from torch import Generator, nn

from models.lenet import LeNet5, LeNet300
from models.mlp import Mlp
from pruners.base import prunable_names

CONF = Path(__file__).parents[2] / "conf" / "model"


def build(component: Any, channels: int = 1, classes: int = 10, size: int = 28) -> nn.Module:
    return component(channels, classes, size, Generator().manual_seed(0))


def counts(model: nn.Module) -> tuple[int, int]:
    return sum(p.numel() for p in model.parameters()), sum(
        model.get_parameter(n).numel() for n in prunable_names(model)
    )


@pytest.mark.parametrize(
    ("component", "expected"),
    [
        (LeNet300("lenet_300_100"), (266_610, 266_200)),
        (LeNet5("lenet5"), (431_080, 430_500)),
        (LeNet5("lenet5", variant="lecun1998"), (44_426, 44_190)),
        (Mlp("mlp", hidden=(300, 100)), (266_610, 266_200)),
        (Mlp("mlp", hidden=()), (7_850, 7_840)),
    ],
)
def test_parameter_counts_on_28x28_grey_images(component: Any, expected: tuple[int, int]) -> None:
    assert counts(build(component)) == expected


@pytest.mark.parametrize(
    "component",
    [LeNet300("l"), LeNet5("l"), LeNet5("l", variant="lecun1998"), Mlp("m"), Mlp("m", hidden=(5,))],
)
@pytest.mark.parametrize(
    ("channels", "size", "classes"), [(1, 28, 10), (3, 32, 100), (3, 16, 200), (1, 33, 7)]
)
def test_the_first_linear_layer_follows_the_image_size(
    component: Any, channels: int, size: int, classes: int
) -> None:
    model = build(component, channels, classes, size)
    assert model.training and model(torch.randn(2, channels, size, size)).shape == (2, classes)


@pytest.mark.parametrize("component", [LeNet300("l"), Mlp("m")])
def test_linear_nets_accept_digits_at_8x8(component: Any) -> None:
    assert build(component, size=8)(torch.randn(2, 1, 8, 8)).shape == (2, 10)


def test_submodules_have_readable_names() -> None:
    assert prunable_names(build(Mlp("m"))) == ["fc1.weight", "fc2.weight", "fc3.weight"]
    assert prunable_names(build(LeNet5("l"))) == [
        "conv1.weight",
        "conv2.weight",
        "fc1.weight",
        "fc2.weight",
    ]


def test_a_perceptron_computes_an_example_worked_by_hand() -> None:
    # x = (2, -1): hidden relu(2 - 1, -2 + 1) = (1, 0), output 3 * 1 + 4 * 0 + 0.5.
    model = build(Mlp("m", hidden=(2,)), classes=1, size=1, channels=2)
    with torch.no_grad():
        model.fc1.weight.copy_(torch.tensor([[1.0, 1.0], [-1.0, -1.0]]))
        model.fc2.weight.copy_(torch.tensor([[3.0, 4.0]]))
        model.fc2.bias.fill_(0.5)
    assert model(torch.tensor([2.0, -1.0]).view(1, 2, 1, 1)).tolist() == [[3.5]]


def test_only_the_lecun_variant_has_relus_between_its_convolutions() -> None:
    names = [
        [name for name, _ in build(LeNet5("l", variant=v)).named_children()]
        for v in ("caffe", "lecun1998")
    ]
    assert names[0] == ["conv1", "pool1", "conv2", "pool2", "flatten", "fc1", "relu1", "fc2"]
    assert names[1] == [
        "conv1",
        "relu1",
        "pool1",
        "conv2",
        "relu2",
        "pool2",
        "flatten",
        "fc1",
        "relu3",
        "fc2",
        "relu4",
        "fc3",
    ]


@pytest.mark.parametrize("variant", ["caffe", "lecun1998"])
def test_lenet5_rejects_digits_at_8x8_with_a_solution(variant: str) -> None:
    component = LeNet5("lenet5", variant=variant)
    for size in (8, component.smallest - 1):
        with pytest.raises(
            ValueError,
            match=(
                rf"model=lenet5 takes images of 16x16 and up, dataset.size={size} is smaller:"
                r" dataset.size=32"
            ),
        ):
            build(component, size=size)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: LeNet5("l", variant="1998"),
            "model.variant='1998' must be one of caffe, lecun1998",
        ),
        (lambda: Mlp("m", hidden=(3, 0)), r"model.hidden=\[3, 0\] must be widths of at least 1"),
        (lambda: Mlp("m", init="x"), "model.init='x' must be one of"),
        (lambda: LeNet300("l", init="x"), "model.init='x' must be one of"),
        (lambda: LeNet5("l", init="x"), "model.init='x' must be one of"),
    ],
)
def test_invalid_options_are_rejected(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("name", "cls", "size"),
    [("lenet_300_100", LeNet300, 28), ("lenet5", LeNet5, 28), ("mlp", Mlp, 8), ("mlp", Mlp, 28)],
)
def test_configurations_list_every_field_and_state_their_counts(
    name: str, cls: Any, size: int
) -> None:
    path = CONF / f"{name}.yaml"
    options: Any = OmegaConf.to_container(OmegaConf.load(path))
    assert options.pop("_target_") == cls.tag
    assert list(options) == [f.name for f in fields(cls)] and options["name"] == name
    assert all(
        f"{count:,}" in path.read_text() for count in counts(build(cls(**options), size=size))
    )
