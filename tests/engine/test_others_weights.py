"""Weights that other implementations saved: their names, wrappers and types.

The oracle is the function: a net written here by another author's layout gives, bit by bit, the
outputs of our net with the loaded weights. Its images have 32 x 32 pixels: on tiny ones our
convolutions take another algorithm, which rounds differently.
"""

import argparse
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from support import compose_run, machine, perform_run
from torch import Generator, Tensor, nn

from runner.engine.pretrained import Fitted, fitting
from runner.engine.weight_names import found, found_by_shape
from runner.errors import ConfigError
from runner.spec.run import Run

SEARCH = ["method=sr_popup", "density=0.2", "dataset=digits"]


class Block(nn.Module):
    """A basic block as in the common ResNets for CIFAR: option A pads, option B projects."""

    def __init__(self, inputs: int, outputs: int, stride: int, option: str, name: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.name, self.pad = name, (outputs // 4 if stride > 1 and option == "A" else 0)
        if stride > 1 and option == "B":
            projection = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.add_module(name, nn.Sequential(projection, nn.BatchNorm2d(outputs)))

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        if self.pad:
            x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.pad, self.pad))
        elif hasattr(self, self.name):
            x = getattr(self, self.name)(x)
        return F.relu(out + x)


class Net(nn.Module):
    """A ResNet-20 with stages layer1 to layer3 and a classifier of a given name."""

    def __init__(self, option: str, shortcut: str, classifier: str, pixel: bool = False) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        width = 16
        for stage, outputs in enumerate((16, 32, 64), start=1):
            blocks = []
            for i in range(3):
                stride = 2 if stage > 1 and i == 0 else 1
                blocks.append(Block(width, outputs, stride, option, shortcut))
                width = outputs
            self.add_module(f"layer{stage}", nn.Sequential(*blocks))
        last = nn.Conv2d(64, 10, 1) if pixel else nn.Linear(64, 10)
        self.add_module(classifier, last)
        self.classifier, self.pixel = classifier, pixel

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        for stage in (1, 2, 3):
            out = getattr(self, f"layer{stage}")(out)
        out, last = out.mean(dim=(2, 3)), getattr(self, self.classifier)
        return F.linear(out, last.weight.flatten(1), last.bias) if self.pixel else last(out)


def filled(net: nn.Module) -> nn.Module:
    """The net in eval mode with random weights and statistics, so that each counts."""
    rng = Generator().manual_seed(7)
    with torch.no_grad():
        for name, tensor in net.state_dict().items():
            if tensor.is_floating_point():
                tensor.copy_(torch.rand(tensor.shape, generator=rng) * 0.2)
                tensor += 0.5 if "running_var" in name or "bn" in name else -0.1
            else:
                tensor.fill_(11)
    return net.eval()


def loaded(path: Path, *more: str) -> tuple[Fitted, nn.Module, Run]:
    run = compose_run(*SEARCH, f"start.weights={path}", *more)
    model = run.model(1, 10, run.dataset.info().size, Generator().manual_seed(0))
    fitted = fitting(run.stage("dense").weights, model.state_dict(), run)
    model.load_state_dict(fitted.state)
    return fitted, model.eval(), run


def same_function(theirs: nn.Module, ours: nn.Module, size: int = 32) -> bool:
    x = torch.randn(5, 1, size, size, generator=Generator().manual_seed(3))
    with torch.no_grad():
        return torch.equal(theirs(x), ours(x))


def counted(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}


def profiled(state: dict[str, Tensor]) -> dict[str, Tensor]:
    layers = {name.rpartition(".")[0] for name in state}
    numbers = {f"{layer}.{key}": torch.zeros(1) for layer in layers for key in ADDED}
    return {**state, "total_ops": torch.zeros(1), "total_params": torch.zeros(1), **numbers}


ADDED = ("total_ops", "total_params")
# What files of others look like: the state dict of the net -> what torch.save gets.
FILES: dict[str, Callable[[dict[str, Tensor]], Any]] = {
    "parallel, with the best accuracy, without counters": lambda state: {
        "state_dict": OrderedDict((f"module.{k}", v) for k, v in counted(state).items()),
        "best_prec1": 91.25,
    },
    "net, accuracy as a number of numpy": lambda state: {
        "net": state,
        "acc": np.float64(95.1),
        "epoch": np.int64(3),
        "rng": np.random.RandomState(0).get_state()[1],
        "args": argparse.Namespace(lr=0.1),
    },
    "model_state_dict beside an optimizer": lambda state: {
        "epoch": 4,
        "model_state_dict": state,
        "optimizer_state_dict": {"state": {0: {"momentum_buffer": torch.zeros(2)}}},
    },
    "an unusual key, the only one with tensors": lambda state: {"resnet": state, "lr": 0.1},
    "two wrappers": lambda state: {"checkpoint": {"epoch": 1, "model": state}},
    "compiled and parallel": lambda state: {f"module._orig_mod.{k}": v for k, v in state.items()},
    "a profiler's numbers": profiled,
    "averaged": lambda state: {
        "n_averaged": torch.tensor(5),
        **{f"module.{k}": v for k, v in state.items()},
    },
    "half precision": lambda state: {
        k: v.half() if v.is_floating_point() else v for k, v in state.items()
    },
}


@pytest.mark.parametrize("form", FILES)
def test_the_net_of_a_file_in_the_layout_of_others_computes_the_same(
    form: str, tmp_path: Path
) -> None:
    theirs = filled(Net("A", "shortcut", "linear"))
    if form == "half precision":
        theirs = theirs.half().float()  # what the file holds
    path = tmp_path / "net.th"
    torch.save(FILES[form](theirs.state_dict()), path)
    fitted, ours, _ = loaded(path, "model=resnet20", "model.shortcut=A")
    assert same_function(theirs, ours)
    # 3 stages x 3 blocks x (2 convolutions + 2 BatchNorms of 5 tensors, or 4 without counters),
    # and 2 of the classifier; conv1 and bn1 have our names
    tensors = 9 * (2 + 2 * (4 if "without counters" in form else 5)) + 2
    assert fitted.renamed is not None
    assert fitted.renamed.startswith(f"{tensors} tensors found by name: ")
    assert "layer1.0.conv1.weight is stage1.0.conv1.weight" in fitted.renamed


@pytest.mark.parametrize(
    ("shortcut", "classifier", "pixel"),
    [("shortcut", "linear", False), ("downsample", "fc", False), ("downsample", "fc", True)],
)
def test_projections_and_classifiers_of_one_pixel_have_their_names(
    shortcut: str, classifier: str, pixel: bool, tmp_path: Path
) -> None:
    theirs = filled(Net("B", shortcut, classifier, pixel))
    torch.save(theirs.state_dict(), tmp_path / "net.pt")
    _, ours, _ = loaded(tmp_path / "net.pt", "model=resnet20")
    assert same_function(theirs, ours)


class Counted(nn.Module):
    """VGG-11 of width 4 with counted layers, as in most code for CIFAR."""

    def __init__(self, pools: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 1
        for block, (count, factor) in enumerate(
            zip((1, 1, 2, 2, 2), (1, 2, 4, 8, 8), strict=True), start=1
        ):
            for _ in range(count):
                layers += [nn.Conv2d(inputs, 4 * factor, 3, padding=1), nn.BatchNorm2d(4 * factor)]
                layers.append(nn.ReLU())
                inputs = 4 * factor
            if block <= pools:
                layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.features(x).mean(dim=(2, 3)))
        return logits


VGG = ("model=vgg11_small", "model.width=4")


def test_counted_layers_of_vgg_have_their_names(tmp_path: Path) -> None:
    pools = int(compose_run(*SEARCH, *VGG).model.pools)
    theirs = filled(Counted(pools))
    torch.save(theirs.state_dict(), tmp_path / "vgg.pt")
    _, ours, _ = loaded(tmp_path / "vgg.pt", *VGG)
    assert same_function(theirs, ours)


class Separable(nn.Module):
    """MobileNet-V1 of width 1/4: blocks in `layers`, or everything in a Sequential `model`."""

    def __init__(self, form: str) -> None:
        super().__init__()

        def part(inputs: int, outputs: int, kernel: int, stride: int, groups: int = 1) -> Any:
            conv = nn.Conv2d(
                inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False
            )
            return conv, nn.BatchNorm2d(outputs), nn.ReLU()

        channels = (8, 16, 32, 32, 64, 64, *[128] * 6, 256, 256)
        blocks: list[nn.Module] = []
        for i, (inputs, outputs) in enumerate(zip(channels, channels[1:], strict=False)):
            layers = (*part(inputs, inputs, 3, 2 if i in (1, 3, 5, 11) else 1, inputs),)
            layers += part(inputs, outputs, 1, 1)
            names = ("conv1", "bn1", "relu1", "conv2", "bn2", "relu2")
            named = OrderedDict(zip(names, layers, strict=True))
            blocks.append(nn.Sequential(named) if form == "layers" else nn.Sequential(*layers))
        stem = part(1, 8, 3, 2)
        if form == "layers":
            self.conv1, self.bn1, self.layers = *stem[:2], nn.Sequential(*blocks)
            self.linear = nn.Linear(256, 10)
        else:
            self.model = nn.Sequential(nn.Sequential(*stem), *blocks)
            self.fc = nn.Linear(256, 10)

    def forward(self, x: Tensor) -> Tensor:
        if hasattr(self, "model"):
            logits: Tensor = self.fc(self.model(x).mean(dim=(2, 3)))
            return logits
        out: Tensor = self.layers(F.relu(self.bn1(self.conv1(x)))).mean(dim=(2, 3))
        return self.linear(out)  # type: ignore[no-any-return]


@pytest.mark.parametrize("form", ["layers", "model"])
def test_separable_blocks_of_mobilenet_have_their_names(form: str, tmp_path: Path) -> None:
    theirs = filled(Separable(form))
    torch.save({"state_dict": theirs.state_dict()}, tmp_path / "net.pt")
    net = ("model=mobilenet_v1", "model.width=0.25", "dataset.size=32")
    _, ours, _ = loaded(tmp_path / "net.pt", *net)
    assert same_function(theirs, ours)


def shuffled_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"part{i}": tensor for i, tensor in enumerate(counted(state).values())}


def test_unknown_names_are_paired_by_order_and_shape_only_on_request(tmp_path: Path) -> None:
    theirs = filled(Net("A", "shortcut", "linear"))
    torch.save(shuffled_names(theirs.state_dict()), tmp_path / "net.pt")
    net = ("model=resnet20", "model.shortcut=A")
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path / "net.pt", *net)
    message = str(caught.value)
    assert "missing: " in message and "not in the network: part0, part1, part2 and" in message
    assert "start.match=shape takes part0 as conv1.weight, part1 as bn1.weight," in message
    fitted, ours, run = loaded(tmp_path / "net.pt", *net, "start.match=shape")
    assert same_function(theirs, ours)
    assert fitted.renamed is not None and "by order and shape: part0 is conv1" in fitted.renamed
    # the content of the file decides, so the way to read it is no part of the run's identity
    assert run == compose_run(*SEARCH, f"start.weights={tmp_path / 'net.pt'}", *net)


def test_another_net_and_files_without_order_are_not_paired_by_shape(tmp_path: Path) -> None:
    state = filled(Net("A", "shortcut", "linear")).state_dict()
    torch.save(shuffled_names(state), tmp_path / "net.pt")
    with pytest.raises(ConfigError, match="in the order of the file, shapes differ"):
        loaded(tmp_path / "net.pt", "model=resnet32", "start.match=shape")
    save_file(shuffled_names(state), tmp_path / "net.safetensors")
    net = ("model=resnet20", "model.shortcut=A", "start.match=shape")
    with pytest.raises(ConfigError, match="safetensors keeps no order; save it with torch"):
        loaded(tmp_path / "net.safetensors", *net)


def test_a_name_of_the_network_wins_over_a_renaming() -> None:
    # both of the file's names would lead to `new`; neither is guessed
    one, two = torch.zeros(1), torch.ones(1)
    renamings = ((r"^old\d?$", "new"),)
    both = found({"old": one, "new": two}, {"new": two}, renamings)
    assert both.state["new"] is two and both.renamed == {}
    several = found({"old1": one, "old2": two}, {"new": two}, renamings)
    assert set(several.state) == {"old1", "old2"} and several.renamed == {}


def test_only_a_one_pixel_convolution_is_a_matrix() -> None:
    matrix = {"w": torch.arange(6.0).reshape(2, 3)}
    pixel = found({"w": matrix["w"][:, :, None, None]}, matrix, ())
    assert torch.equal(pixel.state["w"], matrix["w"])
    turned = found({"w": torch.zeros(3, 2, 1, 1)}, matrix, ())
    assert turned.state["w"].shape == (3, 2, 1, 1)
    assert found_by_shape({"v": torch.zeros(3, 2)}, matrix) is None


def test_several_unknown_dicts_of_tensors_are_named(tmp_path: Path) -> None:
    state = filled(Net("A", "shortcut", "linear")).state_dict()
    torch.save({"student": state, "teacher": state}, tmp_path / "net.pt")
    with pytest.raises(ConfigError, match="it has tensors under student and teacher"):
        loaded(tmp_path / "net.pt", "model=resnet20", "model.shortcut=A")


def test_the_shortest_misfits_are_listed_first(tmp_path: Path) -> None:
    state = filled(Net("A", "shortcut", "linear")).state_dict()
    torch.save({**state, **{"x" * n: torch.zeros(1) for n in (9, 2, 5, 7)}}, tmp_path / "net.pt")
    with pytest.raises(ConfigError, match="not in the network: xx, xxxxx, xxxxxxx and 1 more"):
        loaded(tmp_path / "net.pt", "model=resnet20", "model.shortcut=A")


def test_the_record_says_what_was_renamed(tmp_path: Path) -> None:
    class Small(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Linear(64, 8)
            self.head = nn.Linear(8, 10)

    torch.save(Small().state_dict(), tmp_path / "mlp.pt")
    words = ["method=magnitude", "density=0.5", "start=dense", "model=mlp", "model.hidden=[8]"]
    words += [f"start.weights={tmp_path / 'mlp.pt'}", "start.match=shape", "retrain=finetune"]
    words += ["train.scale=0.00625"]
    record, *_ = perform_run(compose_run(*words, "dataset=digits"), machine(tmp_path))
    assert str(record["report"]["pretrained_renamed"]).startswith("4 tensors found by order and")
