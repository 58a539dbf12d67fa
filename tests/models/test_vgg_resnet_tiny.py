"""VGG and the ResNets for 64x64: counts of docs/networks.md, costs, forward passes, bad options."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from omegaconf import OmegaConf
from torch import Generator, Tensor, nn

from models.count import multiply_accumulates
from models.resnet_tiny import ResNetTiny
from models.vgg import Vgg
from pruners.base import prunable_names

CONF = Path(__file__).parents[2] / "conf" / "model"
KINDS = {
    "vgg19": Vgg,
    "vgg19_jackpots": Vgg,
    "vgg11_small": Vgg,
    "resnet18_tiny": ResNetTiny,
    "wide_resnet18_tiny": ResNetTiny,
}
BIASES = 5_504  # of VGG-19's convolutions: 2 (64 + 128) + 4 (256 + 512 + 512)


def component(name: str, **changed: Any) -> Any:
    """The component that a YAML of conf/model describes."""
    options: Any = OmegaConf.to_container(OmegaConf.load(CONF / f"{name}.yaml"))
    del options["_target_"]
    return KINDS[name](**(options | changed))


def shape_only(described: Any, classes: int, channels: int = 3, size: int = 64) -> nn.Module:
    """The network without data, because drawing 45 M weights takes seconds."""
    with torch.device("meta"):
        return described(channels, classes, size, Generator())


def counts(model: nn.Module) -> tuple[int, int]:
    return sum(p.numel() for p in model.parameters()), sum(
        model.get_parameter(n).numel() for n in prunable_names(model)
    )


@pytest.mark.parametrize(
    ("name", "changed", "classes", "expected"),
    [
        ("vgg19", {}, 10, (20_040_522, 20_024_000)),
        ("vgg19", {}, 100, (20_086_692, 20_070_080)),
        ("vgg19", {}, 200, (20_137_992, 20_121_280)),
        ("vgg19", {"bias": False}, 10, (20_035_018, 20_024_000)),
        ("vgg19", {"bias": False}, 100, (20_081_188, 20_070_080)),
        ("vgg19", {"bias": False}, 200, (20_132_488, 20_121_280)),
        ("vgg19", {"depth": 16}, 10, (14_728_266, 14_715_584)),
        ("vgg19", {"depth": 16, "bias": False}, 10, (14_724_042, 14_715_584)),
        ("vgg19", {"depth": 11}, 10, (9_231_114, 9_222_848)),
        ("vgg19_jackpots", {}, 10, (20_035_018, 20_018_880 + 5_120)),
        ("vgg19_jackpots", {}, 100, (20_081_188, 20_018_880 + 51_200)),
        ("resnet18_tiny", {}, 10, (11_173_962, 11_164_352)),
        ("resnet18_tiny", {}, 100, (11_220_132, 11_210_432)),
        ("resnet18_tiny", {}, 200, (11_271_432, 11_261_632)),
        ("wide_resnet18_tiny", {}, 200, (44_857_672, 44_838_272)),
    ],
)
def test_parameter_counts_are_those_of_the_published_nets(
    name: str, changed: dict[str, Any], classes: int, expected: tuple[int, int]
) -> None:
    assert counts(shape_only(component(name, **changed), classes)) == expected


def test_the_small_vgg_has_the_parameter_count_of_its_layers() -> None:
    # 3x3 convolutions 3-32-64-128-128-256-256-256-256 with bias, two BatchNorm vectors each, linear
    # 256 -> 10.
    widths = [3, 32, 64, 128, 128, 256, 256, 256, 256]
    weights = 9 * sum(a * b for a, b in zip(widths, widths[1:], strict=False)) + 2_560
    assert counts(shape_only(component("vgg11_small"), 10)) == (
        weights + 3 * sum(widths[1:]) + 10,
        weights,
    )


@pytest.mark.parametrize(("bias", "pools"), [(True, 4), (False, 5)])
def test_poolings_have_no_parameters_and_biases_are_not_prunable(bias: bool, pools: int) -> None:
    total, prunable = counts(shape_only(Vgg("v", pools=pools, bias=bias), 10))
    assert total == 20_035_018 + bias * BIASES and prunable == 20_024_000


def vgg_cost(pools: int, size: int, classes: int) -> int:
    """Sum over VGG-19's convolutions of 9 x inputs x outputs x pixels, and the linear layer."""
    cost, inputs, side = 512 * classes, 3, size
    for block, (count, outputs) in enumerate([(2, 64), (2, 128), (4, 256), (4, 512), (4, 512)]):
        cost += 9 * side**2 * outputs * (inputs + (count - 1) * outputs)
        inputs, side = outputs, side // 2 if block < pools else side
    return cost


@pytest.mark.parametrize(
    ("name", "size", "classes", "expected", "millions"),
    [
        ("vgg19", 32, 10, vgg_cost(4, 32, 10), 398.1),
        ("vgg19", 64, 200, vgg_cost(4, 64, 200), None),
        ("vgg19_jackpots", 32, 100, vgg_cost(5, 32, 100), None),
        # Stem 27 x 64 x 64^2; stage 1: 4 convs of 9 x 64^2 x 64^2. Each later stage: (9/2 + 3 x 9 +
        # 1/2) c^2 p with c^2 p = 128^2 x 32^2 in all of them.
        (
            "resnet18_tiny",
            64,
            200,
            27 * 64 * 4096 + 36 * 64**2 * 4096 + 3 * 32 * 128**2 * 1024 + 102_400,
            2_221.8,
        ),
        (
            "wide_resnet18_tiny",
            64,
            200,
            27 * 128 * 4096 + 36 * 128**2 * 4096 + 3 * 32 * 256**2 * 1024 + 204_800,
            8_872.7,
        ),
    ],
)
def test_multiply_accumulates_follow_the_closed_formula(
    name: str, size: int, classes: int, expected: int, millions: float | None
) -> None:
    assert (
        multiply_accumulates(shape_only(component(name), classes, size=size), (3, size, size))[0]
        == expected
    )
    assert millions is None or (
        round(expected / 1e6, 1) == millions
        and f"{millions:,} M" in (CONF / f"{name}.yaml").read_text()
    )


def test_vgg19_on_cifar_has_the_documented_cost() -> None:
    assert round(vgg_cost(4, 32, 10) / 1e9, 3) == 0.398  # docs/tables.md


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize(("channels", "classes", "extra"), [(3, 10, 0), (1, 200, 5)])
def test_logits_have_one_column_per_class_from_the_smallest_image_on(
    name: str, channels: int, classes: int, extra: int
) -> None:
    described = component(name, width=4)
    size = described.smallest + extra
    model = described(channels, classes, size, Generator().manual_seed(0))
    assert model.training and model(torch.randn(3, channels, size, size)).shape == (3, classes)
    assert {(m.eps, m.momentum) for m in model.modules() if isinstance(m, nn.BatchNorm2d)} == {
        (1e-5, 0.1)
    }
    assert {(p.dtype, p.device.type) for p in model.parameters()} == {(torch.float32, "cpu")}


def vgg_by_functions(state: dict[str, Tensor], x: Tensor, layout: list[str]) -> Tensor:
    """VGG in evaluation mode from its weights alone: c = conv, BatchNorm, ReLU; M = max-pooling of
    2x2; then the mean over pixels and the linear layer."""
    # conv, bn, conv, bn, ...
    groups = iter(
        dict.fromkeys(name.rsplit(".", 1)[0] for name in state if name.startswith("features."))
    )
    for layer in layout:
        if layer == "M":
            x = F.max_pool2d(x, 2, 2)
            continue
        conv, norm = next(groups), next(groups)
        x = F.conv2d(x, state[f"{conv}.weight"], state.get(f"{conv}.bias"), padding=1)
        x = (x - state[f"{norm}.running_mean"][:, None, None]) / (
            state[f"{norm}.running_var"][:, None, None] + 1e-5
        ).sqrt()
        x = (
            x * state[f"{norm}.weight"][:, None, None] + state[f"{norm}.bias"][:, None, None]
        ).clamp(min=0)
    assert next(groups, None) is None
    return x.flatten(2).mean(2) @ state["fc.weight"].T + state["fc.bias"]


@pytest.mark.parametrize(
    ("name", "size", "layout"),
    [
        ("vgg19", 32, "ccMccMccccMccccMcccc"),
        ("vgg19", 64, "ccMccMccccMccccMcccc"),
        ("vgg19_jackpots", 32, "ccMccMccccMccccMccccM"),
        ("vgg11_small", 8, "cMcMccMcccc"),
        ("vgg11_small", 28, "cMcMccMcccc"),
    ],
)
def test_vgg_computes_its_layers_in_order(name: str, size: int, layout: str) -> None:
    model = component(name, width=4, init="open_lth")(
        3, 7, size, Generator().manual_seed(0)
    ).double()
    x = torch.randn(5, 3, size, size, generator=Generator().manual_seed(1), dtype=torch.float64)
    model(x)  # moves the running statistics
    with torch.no_grad():
        for name_, parameter in model.named_parameters():
            if name_.endswith("bias"):
                parameter.normal_(generator=Generator().manual_seed(len(name_)))
        torch.testing.assert_close(
            model.eval()(x),
            vgg_by_functions(model.state_dict(), x, list(layout)),
            rtol=1e-9,
            atol=1e-9,
        )


def test_stages_of_the_tiny_resnet_halve_the_image_and_double_the_channels() -> None:
    model, shapes = ResNetTiny("r", width=4)(3, 10, 64, Generator().manual_seed(0)), {}
    for name in ("bn1", "stage1", "stage2", "stage3", "stage4"):
        model.get_submodule(name).register_forward_hook(
            lambda m, i, out, name=name: shapes.update({name: tuple(out.shape)})
        )
    model(torch.randn(2, 3, 64, 64))
    assert shapes == {
        "bn1": (2, 4, 64, 64),
        "stage1": (2, 4, 64, 64),
        "stage2": (2, 8, 32, 32),
        "stage3": (2, 16, 16, 16),
        "stage4": (2, 32, 8, 8),
    }


def test_the_tiny_resnet_has_eighteen_layers_and_three_shortcuts_with_weights() -> None:
    names = prunable_names(shape_only(component("resnet18_tiny"), 200))
    assert [n for n in names if "shortcut" in n] == [
        f"stage{i}.0.shortcut.conv.weight" for i in (2, 3, 4)
    ]
    assert len(names) == 18 + 3 and (names[0], names[-1]) == ("conv1.weight", "fc.weight")


@pytest.mark.parametrize(
    ("name", "smallest"),
    [("vgg19", 16), ("vgg19_jackpots", 32), ("vgg11_small", 8), ("resnet18_tiny", 8)],
)
def test_images_that_are_too_small_are_rejected_with_a_solution(name: str, smallest: int) -> None:
    with pytest.raises(
        ValueError,
        match=(
            rf"model={name} takes images of {smallest}x{smallest} and up,"
            rf" dataset.size={smallest - 1} is smaller: dataset.size=32"
        ),
    ):
        component(name)(1, 10, smallest - 1, Generator())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Vgg("v", depth=18), "model.depth=18 must be one of 11, 13, 16, 19"),
        (lambda: Vgg("v", width=0), "model.width=0 must be at least 1"),
        (lambda: Vgg("v", pools=6), "model.pools=6 must be from 0 to 5"),
        (lambda: Vgg("v", pools=-1), "model.pools=-1 must be from 0 to 5"),
        (lambda: Vgg("v", init="x"), "model.init='x' must be one of"),
        (lambda: ResNetTiny("r", width=0), "model.width=0 must be at least 1"),
        (lambda: ResNetTiny("r", init="x"), "model.init='x' must be one of"),
    ],
)
def test_invalid_options_are_rejected(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("name", "classes", "size"),
    [
        ("vgg19", 10, 32),
        ("vgg19_jackpots", 10, 32),
        ("vgg11_small", 10, 8),
        ("resnet18_tiny", 200, 64),
        ("wide_resnet18_tiny", 200, 64),
    ],
)
def test_configurations_list_every_field_and_state_their_counts(
    name: str, classes: int, size: int
) -> None:
    text = (CONF / f"{name}.yaml").read_text()
    options: Any = OmegaConf.to_container(OmegaConf.load(CONF / f"{name}.yaml"))
    assert options.pop("_target_") == KINDS[name].tag
    assert list(options) == [f.name for f in fields(KINDS[name])] and options["name"] == name
    model = shape_only(component(name), classes, size=size)
    assert all(f"{count:,}" in text for count in counts(model))
    assert (
        f"{multiply_accumulates(model, (3, size, size))[0] / 1e6:,.1f} M multiply-accumulates"
        in text
    )
