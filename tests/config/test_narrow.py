"""Narrower nets in place of pruned ones: forms, the nearest form, its run and its record."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ROOT
from support import COMPOSER, compose_run, machine, perform_run, same
from torch import Generator, nn

from models.narrow import NARROW, Pointwise, in_proportion
from models.resnet18_cifar import ResNet18Cifar
from models.resnet_imagenet import ResNet50
from pruners.base import prunable_names
from runner.commands.export import main as export
from runner.commands.run import run_config
from runner.config.build import build_plain
from runner.config.compose import compose_config
from runner.data.counts import training_images
from runner.engine.store import Artefact, Store
from runner.engine.ticket import load_ticket
from runner.errors import ConfigError
from runner.planning.costs import past_rates
from runner.records.valid import problem_of
from runner.spec.identity import run_id, stage_keys
from runner.spec.network import prunable_weights, shapes_of
from runner.spec.run import Run

QUICK = ["dataset=digits", "model=mlp", "train_fraction=0.1", "train.scale=0.0125"]


def small(*words: str) -> Run:
    return compose_run("method=small_dense", *words)


# --- forms


def test_channels_of_a_form_by_hand() -> None:
    # 16 x 9/64 = 2.25, 32 x 9/64 = 4.5
    assert in_proportion((16, 32, 64), 9) == (2, 5, 9)
    assert in_proportion((16, 32, 64), 20) == (5, 10, 20)
    assert in_proportion((300, 100), 1) == (1, 1)
    assert in_proportion((16, 32, 64), None) == in_proportion((16, 32, 64), 64) == (16, 32, 64)


@pytest.mark.parametrize("channels", [(300, 100), (16, 32, 64, 128), (20, 50, 500), (7, 3, 7, 5)])
def test_a_wider_form_has_no_fewer_channels_in_any_layer(channels: tuple[int, ...]) -> None:
    forms = [in_proportion(channels, widest) for widest in range(1, max(channels) + 1)]
    for one, other in zip(forms, forms[1:], strict=False):
        assert all(a <= b for a, b in zip(one, other, strict=True))
        assert max(other) == max(one) + 1


NETS = {
    "lenet_300_100": ["dataset.size=28"],
    "mlp": ["model.hidden=[9,20]"],
    "lenet5": ["dataset.size=16"],
    "lenet5 ": ["model.variant=lecun1998", "dataset.size=16"],
    "resnet20": ["model.depth=8"],
    "resnet32_w32a": ["model.depth=8", "model.width=16"],
    "resnet18_tiny": ["model.width=8"],
    "wrn22_2": ["model.depth=10"],
    "vgg11_small": [],
    "mobilenet_v1": ["model.width=0.25", "dataset.size=32"],
    "resnet18_cifar": [],
    "resnet50": ["dataset.size=32"],
}


@pytest.mark.parametrize("name", NETS)
def test_every_form_computes_and_has_the_layers_of_the_whole_net(name: str) -> None:
    words = ["method=dense", "dataset=digits", f"model={name.strip()}", *NETS[name]]
    run = compose_run(*words)
    info, whole = run.dataset.info(), run.model
    layers = prunable_names(shapes_of(whole, info))
    counts = []
    for widest in (1, 3, max(whole.channels)):
        form = replace(whole, widest=widest)
        shapes = shapes_of(form, info)
        counts.append(prunable_weights(shapes))
        named = prunable_names(shapes)
        assert set(named) <= set(layers) and (widest == 1 or len(named) >= len(layers) - 1)
        if widest < 4:
            net: nn.Module = form(
                info.channels, info.classes, info.size, Generator().manual_seed(1)
            )
            images = torch.randn(3, info.channels, info.size, info.size)
            net(images).square().sum().backward()
            assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
    # the form with all channels is the net itself
    assert counts == sorted(set(counts)) and counts[-1] == prunable_weights(shapes_of(whole, info))


@pytest.mark.parametrize("described", [ResNet18Cifar("r", widest=512), ResNet50("r", widest=512)])
def test_rebuilt_stages_of_torchvisions_resnets_have_its_shapes(described: Any) -> None:
    info = compose_run("method=dense", "dataset=cifar10", "model=resnet50").dataset.info()
    ours, theirs = (
        {name: tuple(p.shape) for name, p in shapes_of(each, info).state_dict().items()}
        for each in (described, replace(described, widest=None))
    )
    assert ours == theirs


@pytest.mark.parametrize("inputs", [1, 3, NARROW - 1, NARROW])
def test_a_strided_pointwise_convolution_and_its_gradients_are_sums_over_channels(
    inputs: int,
) -> None:
    rng = Generator().manual_seed(inputs)
    conv = Pointwise(inputs, 5, 2)
    x = torch.randn(2, inputs, 5, 4, generator=rng, requires_grad=True)
    out = conv(x)
    picked = x.detach()[:, :, ::2, ::2].double()
    weight = conv.weight.detach()[:, :, 0, 0].double()
    expected = torch.einsum("oc,bchw->bohw", weight, picked)
    torch.testing.assert_close(out.detach().double(), expected, rtol=1e-5, atol=1e-5)
    out.square().sum().backward()
    gradient = torch.einsum("bohw,bchw->oc", 2 * expected, picked)
    assert conv.weight.grad is not None and x.grad is not None
    torch.testing.assert_close(
        conv.weight.grad[:, :, 0, 0].double(), gradient, rtol=1e-4, atol=1e-4
    )
    back = torch.zeros_like(x, dtype=torch.float64)
    back[:, :, ::2, ::2] = torch.einsum("oc,bohw->bchw", weight, 2 * expected)
    torch.testing.assert_close(x.grad.double(), back, rtol=1e-4, atol=1e-4)


# --- the nearest form


def lenet(first: int, second: int) -> int:
    return 784 * first + first * second + 10 * second


def resnet20(a: int, b: int, c: int) -> int:
    """Stem; three blocks a stage, of two 3x3 convolutions; 1x1 shortcuts; classifier."""
    stages = 9 * (6 * a * a + a * b + 5 * b * b + b * c + 5 * c * c)
    return 27 * a + stages + a * b + b * c + 10 * c


@pytest.mark.parametrize(
    ("words", "channels", "count"),
    [
        (["dataset=fashion_mnist", "model=lenet_300_100"], (300, 100), lenet),
        (["dataset=cifar10", "model=resnet20"], (16, 32, 64), resnet20),
    ],
)
def test_the_form_is_the_nearest_of_all(words: list[str], channels: Any, count: Any) -> None:
    counts = [count(*in_proportion(channels, m)) for m in range(1, max(channels) + 1)]
    for density in (1.0, 0.9, 0.5, 0.31, 0.2, 0.1, 0.05, 0.02, 0.01):
        run = small(*words, f"density={density}")
        info = run.dataset.info()
        wanted = round(density * counts[-1])
        gaps = [abs(each - wanted) for each in counts]
        assert (run.model.widest or max(channels)) == gaps.index(min(gaps)) + 1
        assert (
            prunable_weights(shapes_of(run.model, info))
            == counts[(run.model.widest or max(channels)) - 1]
        )
        assert run.narrowed_from == replace(run.model, widest=None)


def test_the_page_of_the_method_states_the_forms() -> None:
    page = (ROOT / "docs" / "methods" / "small_dense.md").read_text()
    for name, channels, count in (
        ("lenet_300_100", (300, 100), lenet),
        ("resnet20", (16, 32, 64), resnet20),
    ):
        counts = [count(*in_proportion(channels, m)) for m in range(1, max(channels) + 1)]
        (line,) = re.findall(rf"^\| `{name}`, `\w+` \| (.*) \|$", page, re.MULTILINE)
        for density, cell in zip((0.5, 0.2, 0.1, 0.05, 0.02, 0.01), line.split(" | "), strict=True):
            gaps = [abs(each - round(density * counts[-1])) for each in counts]
            form = gaps.index(min(gaps)) + 1
            assert cell == f"{form}: {counts[form - 1] / counts[-1]:.4f}"


def test_of_two_equally_near_forms_the_narrower_is_taken() -> None:
    # one hidden layer of 4 units, 64 inputs, 10 classes: 74, 148, 222 and 296 weights; 111 wanted
    run = small("dataset=digits", "model=mlp", "model.hidden=[4]", "density=0.375")
    assert run.model.widest == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["model=efficientnet_b4", "dataset=cifar10"], r"no narrower form, and .*model=lenet5\|"),
        (["model=mlp", "model.hidden=[]"], "model=mlp has no hidden layer, and method=small_dense"),
        (["model=mlp", "density=0.0001"], r"narrowest form of model=mlp has 75 of its 112,200 "),
        (["model=mlp", "density=0.000001"], "keeps none of 112,200 prunable weights"),
        (["model=mlp", "method.narrows=false"], "only the file of that choice sets it"),
        (["model=mlp", "model.widest=301"], "model.widest=301 must be from 1 to 300: channels of"),
        (["model=mlp", "model.hidden=[]", "model.widest=3"], "there is no hidden layer to narrow"),
        (["model=mlp", "density=null"], "density is missing: method=small_dense"),
        (
            ["model=mlp", "source=train"],
            "source is not an option of method=small_dense: it computes",
        ),
    ],
)
def test_what_cannot_be_narrowed_is_refused(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        small("dataset=digits", "density=0.1", *words)


def test_a_method_that_narrows_requires_a_density() -> None:
    plain = COMPOSER.plain(["method=small_dense", "model=mlp", "density=0.1"])
    changed = {**plain, "method": {**plain["method"], "density": "optional"}}
    with pytest.raises(ConfigError, match="method.narrows=true requires method.density=required"):
        build_plain(changed)


# --- runs


def test_a_run_depends_on_the_whole_net_and_its_stages_on_the_narrower_alone() -> None:
    runs = [
        small("dataset=digits", "model=resnet20", "density=0.1", *more)
        for more in ([], ["model.widest=63"])
    ]
    assert runs[0].model == runs[1].model and runs[0].model.widest == 20
    assert stage_keys(runs[0]) == stage_keys(runs[1])
    assert len(set(map(run_id, runs))) == 2
    dense = compose_run("method=dense", "dataset=digits", "model=resnet20", "model.widest=20")
    assert stage_keys(dense) == stage_keys(runs[0])


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Any, Artefact]]:
    """The folder of results and cache of a finished run, its record, and what was trained."""
    folder, before = tmp_path_factory.mktemp("narrow"), torch.backends.cudnn.deterministic
    words = ["method=small_dense", *QUICK, "density=0.1", "env.progress=none", *dirs_of(folder)]
    assert run_config(compose_config(words)) == 0
    (path,) = folder.glob("results/runs/*/result.json")
    record = json.loads(path.read_text())
    yield folder, record, Store(folder / "cache").load(record["stages"][0]["key"])
    torch.backends.cudnn.deterministic = before


def dirs_of(folder: Path) -> list[str]:
    return [f"env.results_dir={folder / 'results'}", f"env.cache_dir={folder / 'cache'}"]


def test_the_record_states_both_nets(finished: tuple[Path, Any, Artefact]) -> None:
    """64 inputs, m and m units, 10 classes: 74 m + m^2 weights. 11,220 of 112,200 are wanted: 75
    units have 11,175, 76 have 11,400."""
    _, record, ticket = finished
    assert record["narrowed"] == {"widest": 75, "from": 300}
    assert (record["kept"], record["prunable"]) == (11_175, 112_200)
    assert record["density"] == 11_175 / 112_200 and record["density_target"] == 0.1
    assert problem_of(record, record["run_id"]) is None
    assert sum(ticket.weights[f"fc{i}.weight"].numel() for i in (1, 2, 3)) == record["kept"]
    # a perceptron multiplies once with each weight; two epochs of a tenth of the images
    assert (record["flops"]["nonzero"], record["flops"]["dense"]) == (11_175, 112_200)
    images = 2 * training_images(1_437, 0.1, 0.0)
    assert record["train_flops"] == 3 * images * 11_175
    assert record["train_flops_ratio"] == 11_175 / 112_200
    # another net than the model of its name: no measure of that net's speed
    device, threads = (record["provenance"][key] for key in ("device_name", "threads"))
    assert past_rates([record], device, threads).records == 0
    whole = {key: value for key, value in record.items() if key != "narrowed"}
    assert past_rates([whole], device, threads).records == 1


def test_the_training_is_that_of_the_dense_narrower_net(
    finished: tuple[Path, Any, Artefact], tmp_path: Path
) -> None:
    _, record, ticket = finished
    alone = compose_run("method=dense", *QUICK, "model.hidden=[75,75]")
    other, artefacts = perform_run(alone, machine(tmp_path))
    assert same(artefacts["dense"], ticket)
    assert record["accuracy"] == other["accuracy"] and "narrowed" not in other


def test_its_ticket_and_its_export_are_the_narrower_net(
    finished: tuple[Path, Any, Artefact], tmp_path: Path
) -> None:
    folder, record, ticket = finished
    model, masks = load_ticket(record["run_id"], folder / "results", folder / "cache")
    assert all(torch.equal(p, ticket.weights[name]) for name, p in model.named_parameters())
    assert masks.keys() == {f"fc{i}.weight" for i in (1, 2, 3)}
    assert all(mask.all() for mask in masks.values())
    assert export([record["run_id"], "--out", str(tmp_path), *dirs_of(folder)]) == 0
    (page,) = tmp_path.glob("*/README.md")
    assert "model=mlp, model.widest=75, for 1x8x8 images" in page.read_text()
    assert "11,175 of 112,200 prunable weights are kept (density 0.0996)" in page.read_text()
