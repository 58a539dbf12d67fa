"""ResNet-50, MobileNet-V1, EfficientNet-B4: published counts, costs and forward passes."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torchvision
from omegaconf import OmegaConf
from torch import Generator, Tensor, nn

from models.connected import reached_outputs
from models.count import multiply_accumulates
from models.efficientnet import EfficientNetB4
from models.mobilenet import MobileNetV1
from models.resnet_imagenet import ResNet50
from pruners.base import full_masks, prunable_names

CONF = Path(__file__).parents[2] / "conf" / "model"
KINDS = {"resnet50": ResNet50, "mobilenet_v1": MobileNetV1, "efficientnet_b4": EfficientNetB4}
# Tan and Le, Table 1, at width 1.4 and depth 1.8: expansion, kernel, stride of the first block,
# channels (to the next multiple of 8), blocks (rounded up).
STAGES = [
    (1, 3, 1, 24, 2),
    (6, 3, 2, 32, 4),
    (6, 5, 2, 56, 4),
    (6, 3, 2, 112, 6),
    (6, 5, 1, 160, 6),
    (6, 5, 2, 272, 8),
    (6, 3, 1, 448, 2),
]
MOBILE = [
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    (512, 1),
    (512, 1),
    (512, 1),
    (512, 1),
    (512, 1),
    (1024, 2),
    (1024, 1),
]


def component(name: str, **changed: Any) -> Any:
    """The component that a YAML of conf/model describes."""
    options: Any = OmegaConf.to_container(OmegaConf.load(CONF / f"{name}.yaml"))
    del options["_target_"]
    return KINDS[name](**(options | changed))


def shape_only(
    described: Any, classes: int = 1000, channels: int = 3, size: int = 224
) -> nn.Module:
    """The network without data, because drawing 25 M weights takes seconds."""
    with torch.device("meta"):
        return described(channels, classes, size, Generator())


def counts(model: nn.Module) -> tuple[int, int]:
    return sum(p.numel() for p in model.parameters()), sum(
        model.get_parameter(n).numel() for n in prunable_names(model)
    )


Layer = tuple[int, int, int]  # weights, biases and BatchNorm's numbers, pixels of the output


def conv(inputs: int, outputs: int, kernel: int, side: int, groups: int = 1) -> Layer:
    """A convolution without bias and its BatchNorm."""
    return inputs // groups * outputs * kernel**2, 2 * outputs, side**2


def resnet50_layers(side: int, classes: int) -> list[Layer]:
    layers, inputs, side = [conv(3, 64, 7, side // 2)], 64, side // 4
    for stage, blocks in enumerate((3, 4, 6, 3)):
        width = 64 * 2**stage
        for block in range(blocks):
            before, side = side, side // 2 if stage and not block else side
            layers += [
                conv(inputs, width, 1, before),
                conv(width, width, 3, side),
                conv(width, 4 * width, 1, side),
            ]
            layers += [conv(inputs, 4 * width, 1, side)] if not block else []
            inputs = 4 * width
    return [*layers, (inputs * classes, classes, 1)]


def mobilenet_v1_layers(side: int, classes: int) -> list[Layer]:
    inputs, side = 32, side // 2
    layers = [conv(3, 32, 3, side)]
    for outputs, stride in MOBILE:
        side //= stride
        layers += [conv(inputs, inputs, 3, side, groups=inputs), conv(inputs, outputs, 1, side)]
        inputs = outputs
    return [*layers, (1024 * classes, classes, 1)]


def efficientnet_b4_layers(side: int, classes: int) -> list[Layer]:
    inputs, side = 48, -(-side // 2)
    layers = [conv(3, 48, 3, side)]
    for expansion, kernel, first, outputs, blocks in STAGES:
        for block in range(blocks):
            inner, squeezed = expansion * inputs, inputs // 4
            layers += [conv(inputs, inner, 1, side)] if expansion > 1 else []
            side = -(-side // first) if not block else side
            layers += [
                conv(inner, inner, kernel, side, groups=inner),
                (inner * squeezed, squeezed, 1),
                (squeezed * inner, inner, 1),
            ]
            layers += [conv(inner, outputs, 1, side)]
            inputs = outputs
    return [*layers, conv(inputs, 1792, 1, side), (1792 * classes, classes, 1)]


LAYERS = {
    "resnet50": resnet50_layers,
    "mobilenet_v1": mobilenet_v1_layers,
    "efficientnet_b4": efficientnet_b4_layers,
}


@pytest.mark.parametrize(
    ("name", "total", "prunable", "layers"),
    [
        ("resnet50", 25_557_032, 25_502_912, 54),
        ("mobilenet_v1", 4_231_976, 4_209_088, 28),
        ("efficientnet_b4", 19_341_616, 19_186_376, 161),
    ],
)
def test_parameter_counts_are_the_published_ones_and_those_of_the_layers(
    name: str, total: int, prunable: int, layers: int
) -> None:
    model, listed = shape_only(component(name)), LAYERS[name](224, 1000)
    assert (
        counts(model)
        == (total, prunable)
        == (sum(w + b for w, b, _ in listed), sum(w for w, _, _ in listed))
    )
    assert len(prunable_names(model)) == len(listed) == layers
    assert [model.get_parameter(n).numel() for n in prunable_names(model)][-1] == listed[-1][0]


@pytest.mark.parametrize(
    ("name", "size", "published", "millions"),
    [
        ("resnet50", 224, 4.09, 4_089.2),
        ("mobilenet_v1", 224, 0.569, 568.7),
        ("efficientnet_b4", 224, None, 1_503.7),
        ("efficientnet_b4", 380, 4.39, 4_393.8),
    ],
)
def test_multiply_accumulates_follow_the_closed_formula(
    name: str, size: int, published: float | None, millions: float
) -> None:
    expected = sum(weights * pixels for weights, _, pixels in LAYERS[name](size, 1000))
    assert multiply_accumulates(shape_only(component(name), size=size), (3, size, size)) == (
        expected,
        expected,
    )
    assert round(expected / 1e6, 1) == millions
    assert f"{millions:,} M" in (CONF / f"{name}.yaml").read_text()
    assert published is None or abs(expected / 1e9 - published) < 0.005


def test_a_mask_on_a_depthwise_layer_saves_its_pruned_share() -> None:
    model = shape_only(component("mobilenet_v1"), 10)
    mask = torch.zeros(64, 1, 3, 3, dtype=torch.bool)
    mask[3] = True  # one filter of 64: block 2 halves 112x112 pixels
    dense, nonzero = multiply_accumulates(
        model, (3, 224, 224), {"features.block2.depthwise.conv.weight": mask}
    )
    assert dense - nonzero == 63 * 9 * 56**2


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize(("channels", "classes", "size"), [(1, 10, 32), (3, 7, 45)])
def test_logits_have_one_column_per_class_from_the_smallest_image_on(
    name: str, channels: int, classes: int, size: int
) -> None:
    model = component(name, **({"width": 0.25} if name == "mobilenet_v1" else {}))(
        channels, classes, size, Generator().manual_seed(0)
    )
    assert model.training and model(torch.randn(2, channels, size, size)).shape == (2, classes)
    assert {(m.eps, m.momentum) for m in model.modules() if isinstance(m, nn.BatchNorm2d)} == {
        (1e-5, 0.1)
    }
    assert {(p.dtype, p.device.type) for p in model.parameters()} == {(torch.float32, "cpu")}
    assert reached_outputs(model, full_masks(model), (channels, size, size)) == (classes, classes)


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("resnet50", torchvision.models.resnet50),
        ("efficientnet_b4", torchvision.models.efficientnet_b4),
    ],
)
def test_torchvisions_weights_match_by_name_and_shape_and_its_entry_exists(
    name: str, theirs: Any
) -> None:
    with torch.device("meta"):
        expected = theirs().state_dict()
    found = shape_only(component(name)).state_dict()
    assert {n: t.shape for n, t in found.items()} == {n: t.shape for n, t in expected.items()}
    assert list(found) == list(expected)
    published = torchvision.models.get_weight(KINDS[name].torchvision)
    assert published.meta["num_params"] == counts(shape_only(component(name)))[0]


def normed(x: Tensor, state: dict[str, Tensor], name: str) -> Tensor:
    x = (x - state[f"{name}.running_mean"][:, None, None]) / (
        state[f"{name}.running_var"][:, None, None] + 1e-5
    ).sqrt()
    return x * state[f"{name}.weight"][:, None, None] + state[f"{name}.bias"][:, None, None]


def depthwise(x: Tensor, weight: Tensor, stride: int) -> Tensor:
    """One 3x3 filter per channel, as a sum over the nine shifts of the padded image."""
    height, width = x.shape[2:]
    padded = F.pad(x, (1, 1, 1, 1))
    shifts = [
        padded[:, :, i : i + height, j : j + width] * weight[:, 0, i, j, None, None]
        for i in range(3)
        for j in range(3)
    ]
    return torch.stack(shifts).sum(0)[:, :, ::stride, ::stride]


def test_mobilenet_computes_the_layers_of_its_table() -> None:
    model = component("mobilenet_v1", width=0.25, init="open_lth")(
        3, 7, 64, Generator().manual_seed(0)
    ).double()
    x = torch.randn(3, 3, 64, 64, generator=Generator().manual_seed(1), dtype=torch.float64)
    model(x)  # moves the running statistics
    state = model.eval().state_dict()
    out = F.conv2d(x, state["features.stem.conv.weight"], stride=2, padding=1)
    out = normed(out, state, "features.stem.bn").clamp(min=0)
    for i, (_, stride) in enumerate(MOBILE, start=1):
        block = f"features.block{i}"
        out = normed(
            depthwise(out, state[f"{block}.depthwise.conv.weight"], stride),
            state,
            f"{block}.depthwise.bn",
        ).clamp(min=0)
        out = torch.einsum(
            "bihw,oi->bohw", out, state[f"{block}.pointwise.conv.weight"][:, :, 0, 0]
        )
        out = normed(out, state, f"{block}.pointwise.bn").clamp(min=0)
    assert out.shape[1:] == (256, 2, 2)
    expected = out.flatten(2).mean(2) @ state["fc.weight"].T + state["fc.bias"]
    torch.testing.assert_close(model(x).detach(), expected, rtol=1e-9, atol=1e-9)


def test_an_empty_depthwise_layer_disconnects_mobilenet() -> None:
    model = component("mobilenet_v1", width=0.25)(3, 10, 32, Generator().manual_seed(0))
    masks = full_masks(model)
    masks["features.block4.depthwise.conv.weight"][1:] = False
    assert reached_outputs(model, masks, (3, 32, 32)) == (10, 10)  # one channel remains
    # the next layer no longer reads that channel
    masks["features.block4.pointwise.conv.weight"][:, 0] = False
    assert reached_outputs(model, masks, (3, 32, 32)) == (0, 10)


def test_squeeze_and_excitation_is_a_separate_path() -> None:
    # The first block has no expansion: its depthwise layer feeds the gate and the gated channels.
    # Only channel 0 receives input, and only channel 1 is read.
    model = component("efficientnet_b4")(3, 5, 32, Generator().manual_seed(0))
    masks = full_masks(model)
    masks["features.1.0.block.0.0.weight"][1:] = False
    masks["features.1.0.block.2.0.weight"][:] = False
    masks["features.1.0.block.2.0.weight"][:, 1] = True
    shape = (3, 32, 32)
    # channel 1 is constant, and its gate depends on channel 0
    assert reached_outputs(model, masks, shape) == (5, 5)
    masks["features.1.0.block.1.fc1.weight"][:, 0] = False
    assert reached_outputs(model, masks, shape) == (0, 5)  # the gate no longer depends on channel 0


def test_dropout_and_stochastic_depth_are_off_by_default_and_use_torchs_generator() -> None:
    x = torch.randn(4, 3, 32, 32, generator=Generator().manual_seed(1))
    quiet = component("efficientnet_b4")(3, 5, 32, Generator().manual_seed(0))
    before = torch.get_rng_state()
    quiet(x)
    assert torch.equal(torch.get_rng_state(), before)
    model = component("efficientnet_b4", dropout=0.4, stochastic_depth=0.2)(
        3, 5, 32, Generator().manual_seed(0)
    )
    found = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        found.append(model(x))
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])
    assert {m.p for m in model.modules() if isinstance(m, nn.Dropout)} == {0.4}
    depths = [m.p for m in model.modules() if isinstance(m, torchvision.ops.StochasticDepth)]
    assert depths == pytest.approx([0.2 * i / 32 for i in range(32)])


@pytest.mark.parametrize("name", KINDS)
def test_images_that_are_too_small_are_rejected_with_a_solution(name: str) -> None:
    with pytest.raises(
        ValueError,
        match=(
            f"model={name} takes images of 32x32 and up, dataset.size=31 is smaller:"
            " dataset.size=32"
        ),
    ):
        component(name)(1, 10, 31, Generator())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: MobileNetV1("m", width=0.3),
            "model.width=0.3 must be positive and give the stem whole channels",
        ),
        (lambda: MobileNetV1("m", width=0), "model.width=0 must be positive"),
        (lambda: EfficientNetB4("e", dropout=1.0), r"model.dropout=1 must be in \[0, 1\)"),
        (
            lambda: EfficientNetB4("e", stochastic_depth=-0.1),
            r"model.stochastic_depth=-0.1 must be in \[0, 1\)",
        ),
        *(
            (lambda kind=kind: kind("n", init="x"), "model.init='x' must be one of")
            for kind in KINDS.values()
        ),
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
    total, prunable = counts(shape_only(component(name)))
    without = prunable - LAYERS[name](224, 1000)[-1][0]
    assert all(f"{count:,}" in text for count in (total, prunable, without))
