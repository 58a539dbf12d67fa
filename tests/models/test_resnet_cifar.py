"""CIFAR ResNets: parameter counts of docs/networks.md, shapes, shortcuts, invalid options."""

from dataclasses import fields
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from torch import Generator, nn

from models.resnet_cifar import ResNetCifar, SubsampleAndPad
from pruners.base import prunable_names

CONF = Path(__file__).parents[2] / "conf" / "model"


def build(
    depth: int,
    width: int,
    shortcut: str = "B",
    classes: int = 10,
    channels: int = 3,
    size: int = 32,
) -> nn.Module:
    return ResNetCifar("net", depth, width, shortcut)(
        channels, classes, size, Generator().manual_seed(0)
    )


def counts(model: nn.Module) -> tuple[int, int]:
    return sum(p.numel() for p in model.parameters()), sum(
        model.get_parameter(n).numel() for n in prunable_names(model)
    )


@pytest.mark.parametrize(
    ("depth", "width", "shortcut", "classes", "total", "prunable"),
    [
        (20, 16, "A", 10, 269_722, 268_336),
        (20, 16, "B", 10, 272_474, 270_896),
        (20, 16, "B", 100, 278_324, 276_656),
        (20, 32, "B", 10, 1_084_586, 1_081_440),
        (20, 32, "B", 100, 1_096_196, 1_092_960),
        (20, 32, "A", 10, 1_073_962, 1_071_200),
        (20, 64, "B", 10, 4_327_754, 4_321_472),
        (32, 16, "A", 10, 464_154, 461_872),
        (32, 16, "B", 10, 466_906, 464_432),
        (32, 32, "B", 10, 1_860_522, 1_855_584),
        (32, 32, "B", 100, 1_872_132, 1_867_104),
        (32, 32, "B", 200, 1_885_032, 1_879_904),
        (32, 32, "A", 10, 1_849_898, 1_845_344),
        (56, 16, "B", 10, 855_770, 851_504),
        (110, 16, "B", 10, 1_730_714, 1_722_416),
        (20, 16, "B-noBN", 10, 272_474 - 2 * (32 + 64), 270_896),
    ],
)
def test_parameter_counts_are_those_of_the_published_nets(
    depth: int, width: int, shortcut: str, classes: int, total: int, prunable: int
) -> None:
    assert counts(build(depth, width, shortcut, classes)) == (total, prunable)


def test_stem_shortcuts_and_output_have_the_published_sizes() -> None:
    sizes = {n: build(20, 16).get_parameter(n).numel() for n in prunable_names(build(20, 16))}
    assert (sizes["conv1.weight"], sizes["fc.weight"]) == (432, 640)
    assert [n for n in sizes if "shortcut" in n] == [
        "stage2.0.shortcut.conv.weight",
        "stage3.0.shortcut.conv.weight",
    ]
    assert sum(size for n, size in sizes.items() if "shortcut" in n) == 2_560


@pytest.mark.parametrize(
    ("depth", "shortcut", "layers"),
    [(20, "A", 20), (20, "B", 22), (32, "B", 34), (32, "A", 32), (20, "B-noBN", 22)],
)
def test_the_number_of_weight_layers_is_the_published_one(
    depth: int, shortcut: str, layers: int
) -> None:
    assert len(prunable_names(build(depth, 4, shortcut))) == layers


@pytest.mark.parametrize("shortcut", ["A", "B", "B-noBN"])
@pytest.mark.parametrize(
    ("channels", "size", "classes"), [(1, 8, 10), (3, 32, 100), (1, 28, 10), (3, 9, 200)]
)
def test_logits_have_one_column_per_class_for_any_image_size(
    shortcut: str, channels: int, size: int, classes: int
) -> None:
    model = build(8, 4, shortcut, classes, channels, size)
    assert model(torch.randn(3, channels, size, size)).shape == (3, classes)


def test_the_network_is_on_the_cpu_in_float32_and_training_mode() -> None:
    model = build(8, 4)
    assert model.training
    assert {(p.dtype, p.device.type, p.requires_grad) for p in model.parameters()} == {
        (torch.float32, "cpu", True)
    }
    assert {(m.eps, m.momentum) for m in model.modules() if isinstance(m, nn.BatchNorm2d)} == {
        (1e-5, 0.1)
    }


def test_stages_halve_the_image_and_double_the_channels() -> None:
    model, shapes = build(14, 4), {}
    for name in ("stage1", "stage2", "stage3"):
        model.get_submodule(name).register_forward_hook(
            lambda m, i, out, name=name: shapes.update({name: tuple(out.shape)})
        )
    model(torch.randn(2, 3, 32, 32))
    assert shapes == {"stage1": (2, 4, 32, 32), "stage2": (2, 8, 16, 16), "stage3": (2, 16, 8, 8)}


def test_shortcut_a_has_no_parameters_subsamples_pixels_and_pads_channels() -> None:
    shortcut = SubsampleAndPad(2)
    # rows 0 1 2, 3 4 5, 6 7 8; in the second channel the same plus nine
    x = torch.arange(18.0).view(1, 2, 3, 3)
    zero = [[0.0, 0.0], [0.0, 0.0]]
    assert not list(shortcut.parameters())
    assert shortcut(x).tolist() == [
        [zero, [[0.0, 2.0], [6.0, 8.0]], [[9.0, 11.0], [15.0, 17.0]], zero]
    ]


def test_a_block_of_zero_convolutions_is_the_identity_on_positive_inputs() -> None:
    # relu(bn2(0) + x) = relu(x): the identity shortcut is added.
    block = build(8, 4).get_submodule("stage1.0").eval()
    nn.init.zeros_(block.get_parameter("conv2.weight"))
    x = 20 * torch.randn(2, 4, 5, 5)
    assert torch.equal(block(x), torch.relu(x))


def test_images_that_are_too_small_are_rejected_with_a_solution() -> None:
    component = ResNetCifar("resnet20")
    with pytest.raises(
        ValueError,
        match=(
            r"model=resnet20 takes images of 8x8 and up, dataset.size=7 is smaller: dataset.size=32"
        ),
    ):
        component(1, 10, component.smallest - 1, Generator())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depth": 21}, r"model.depth=21 must be 6n\+2"),
        ({"depth": 2}, "model.depth=2 must be"),
        ({"width": 0}, "model.width=0 must be at least 1"),
        ({"shortcut": "C"}, "model.shortcut='C' must be one of A, B, B-noBN"),
    ],
)
def test_invalid_options_are_rejected(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ResNetCifar("net", **options)


@pytest.mark.parametrize(
    ("name", "total"),
    [
        ("resnet20", 272_474),
        ("resnet32", 466_906),
        ("resnet20_w32", 1_084_586),
        ("resnet32_w32", 1_860_522),
        ("resnet32_w32a", 1_849_898),
    ],
)
def test_configurations_list_every_field_and_state_their_counts(name: str, total: int) -> None:
    path = CONF / f"{name}.yaml"
    options = OmegaConf.to_container(OmegaConf.load(path))
    assert options.pop("_target_") == "resnet_cifar"
    assert list(options) == [f.name for f in fields(ResNetCifar)] and options["name"] == name
    model = ResNetCifar(**options)(3, 10, 32, Generator())
    assert counts(model)[0] == total
    assert all(f"{count:,}" in path.read_text() for count in counts(model))


@pytest.mark.parametrize("width", [2, 4, 8, 16])
def test_gradients_of_narrow_and_wide_nets_equal_those_in_float64(width: int) -> None:
    """Strided shortcuts of narrow nets had wrong gradients, or crashed, on CPUs with AVX2."""
    rng = Generator().manual_seed(1)
    images = torch.randn(29, 1, 8, 8, generator=rng, dtype=torch.float64)
    labels = torch.randint(0, 10, (29,), generator=rng)
    found = []
    for dtype in (torch.float64, torch.float32):
        net = build(8, width, channels=1, size=8).to(dtype=dtype, memory_format=torch.channels_last)
        for _ in range(3):  # a write past a buffer may have an effect only later
            net.zero_grad()
            nn.functional.cross_entropy(
                net(images.to(dtype, memory_format=torch.channels_last)), labels
            ).backward()
        found.append(
            {name: p.grad.double() for name, p in net.named_parameters() if p.grad is not None}
        )
    for name, exact in found[0].items():
        assert (found[1][name] - exact).norm() <= 1e-4 * exact.norm() + 1e-6, name


def test_a_narrow_projection_equals_the_strided_convolution() -> None:
    narrow = build(8, 4).double().eval()
    images = torch.randn(3, 3, 32, 32, dtype=torch.float64, generator=Generator().manual_seed(2))
    x = narrow.stage1(torch.relu(narrow.bn1(narrow.conv1(images))))
    shortcut = narrow.stage2[0].shortcut
    strided = nn.functional.conv2d(x, shortcut.conv.weight, stride=2)
    torch.testing.assert_close(shortcut(x), shortcut.bn(strided), rtol=1e-12, atol=1e-12)
