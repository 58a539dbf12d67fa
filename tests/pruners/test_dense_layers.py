"""Layers that stay dense: the first one, shortcuts and the classifier are neither pruned nor
counted (pruners/dense_layers.py)."""

from pathlib import Path
from typing import Any

import pytest
import torch
from small_nets import kept_by_layer, mlp, pruner, resnet, task
from support import compose_run, machine, perform_run
from torch import Generator, nn

from models.efficientnet import EfficientNetB4
from models.resnet_cifar import ResNetCifar
from models.resnet_imagenet import ResNet50
from models.resnet_tiny import ResNetTiny
from models.vgg import Vgg
from pruners.base import count_kept, count_prunable, full_masks, prunable_names
from pruners.dense_layers import HasShortcuts, without
from pruners.scores.magnitude import Magnitude
from pruners.search.popup import EdgePopup, SrPopup
from pruners.search.supermask import Supermask
from pruners.selection.allocate import Erk, Global, Layer
from pruners.selection.smart_ratio import SmartRatio
from runner.errors import ConfigError
from runner.spec.identity import run_id

NET = ["dataset=digits", "model=resnet20", "model.depth=8", "model.width=4", "train.scale=0.00625"]
SHORTCUTS = {"stage2.0.shortcut.conv.weight", "stage3.0.shortcut.conv.weight"}


@pytest.mark.parametrize(
    ("model", "size", "first", "shortcuts"),
    [
        (ResNetCifar("n", depth=8, width=4), 8, "conv1.weight", 2),
        (ResNetCifar("n", depth=8, width=4, shortcut="B-noBN"), 8, "conv1.weight", 2),
        (ResNetTiny("n", width=4), 8, "conv1.weight", 3),
        (ResNet50("n"), 32, "conv1.weight", 4),
        (Vgg("n", depth=11, width=4, pools=3), 8, "features.conv1_1.weight", 0),
        (EfficientNetB4("n"), 32, "features.0.0.weight", 0),
    ],
    ids=["B", "B-noBN", "tiny", "resnet50", "vgg", "efficientnet"],
)
def test_nets_name_their_1x1_shortcuts_and_begin_with_the_stem(
    model: Any, size: int, first: str, shortcuts: int
) -> None:
    net: nn.Module = model(3, 10, size, Generator().manual_seed(0))
    named = net.shortcuts if isinstance(net, HasShortcuts) else ()
    assert len(named) == shortcuts and set(named) <= set(prunable_names(net))
    for name in named:
        weight = net.get_parameter(name)
        # 1x1, and it changes the number of channels, as only shortcuts do in basic blocks
        assert weight.shape[2:] == (1, 1) and weight.shape[0] != weight.shape[1]
    left = without(net, full_masks(net), ["first"])
    (missing,) = set(full_masks(net)) - set(left)
    assert missing == first and next(iter(full_masks(net))) == first


def test_the_layers_are_left_out_by_name_whatever_earlier_stages_left_out() -> None:
    model = resnet()
    everything = full_masks(model)
    once = without(model, everything, ["first", "shortcuts", "classifier"])
    assert set(everything) - set(once) == SHORTCUTS | {"conv1.weight", "fc.weight"}
    assert without(model, once, ["first", "classifier"]) == once  # not the first of the others
    assert without(model, everything, []) == everything


@pytest.mark.parametrize(
    "allocate", [Global(), Layer(), Erk(), SmartRatio("n"), SmartRatio("n", counts="authors")]
)
def test_a_density_is_that_of_the_layers_that_are_not_dense(allocate: Any) -> None:
    model = resnet()
    weights = {name: p.detach().clone() for name, p in model.named_parameters()}
    method = pruner(Magnitude(), allocate=allocate, dense=("first", "shortcuts"))
    found = method(model, full_masks(model), task(0.4)).masks
    assert set(full_masks(model)) - set(found) == SHORTCUTS | {"conv1.weight"}
    for name in SHORTCUTS | {"conv1.weight"}:
        assert torch.equal(model.get_parameter(name), weights[name])
    others = sum(w.numel() for name, w in weights.items() if name in found)
    assert count_prunable(found) == others
    missing = round(0.4 * others) - count_kept(found)
    assert 0 <= missing <= (0 if method.exact else 2 * len(found))


@pytest.mark.parametrize("search", [SrPopup, EdgePopup, Supermask])
def test_searches_leave_layers_dense(search: Any) -> None:
    model = resnet()
    about = task(0.3, epochs=1)
    about = type(about)(**{**vars(about), "steps": 2})
    masking = search(Global(), dense=("first", "shortcuts"))(model, full_masks(model), about)
    dense = SHORTCUTS | {"conv1.weight", "fc.weight"}
    assert set(masking.trainable) == set(masking.masks) == set(full_masks(model)) - dense
    assert count_kept(masking.masks) == round(0.3 * count_prunable(masking.masks))


def test_rigl_with_a_dense_first_layer_has_the_papers_uniform_densities() -> None:
    # RigL, arXiv:1911.11134, Sec. 3: uniform densities leave the first layer dense.
    run = compose_run(
        "method=rigl", "allocate=layer", "density=0.25", "method.pruner.dense=[first]", *NET
    )
    model = resnet()
    masks = run.stage("prune").component(model, full_masks(model), task(0.25)).masks
    assert "conv1.weight" not in masks and "fc.weight" not in masks
    sizes = [mask.numel() for mask in masks.values()]
    assert all(abs(k - 0.25 * n) < 1 for k, n in zip(kept_by_layer(masks), sizes, strict=True))


METHODS = {  # method -> the key, and the stage whose component has the option
    "snip": ("method.pruner", "prune"),
    "magnitude": ("method.pruner", "prune"),
    "sanity_check": ("method.pruner", "prune"),
    "synflow": ("method.pruner", "prune"),
    "set": ("method.pruner", "prune"),
    "deep_r": ("method.pruner", "prune"),
    "dsr": ("method.pruner", "prune"),
    "snfs": ("method.pruner", "prune"),
    "force": ("method.pruner", "prune"),
    "imp": ("method.pruner", "prune1"),
    "flow_prune": ("method.pruner", "prune1"),
    "sr_popup": ("method.search", "search"),
    "edge_popup": ("method.search", "search"),
    "zhou": ("method.search", "search"),
}


@pytest.mark.parametrize("method", METHODS)
def test_every_method_that_allocates_has_the_option_and_its_default_changes_nothing(
    method: str,
) -> None:
    key, stage = METHODS[method]
    words = [f"method={method}", "density=0.5", *NET[:-1], "train.scale=0.1875"]
    plain = compose_run(*words)
    dense = compose_run(*words, f"{key}.dense=[first,shortcuts]")
    assert plain.stage(stage).component.dense == ()
    assert dense.stage(stage).component.dense == ("first", "shortcuts")
    assert run_id(compose_run(*words, f"{key}.dense=[]")) == run_id(plain) != run_id(dense)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["method.pruner.dense=[last]"], "method.pruner.dense.*last.* must be"),
        (["method.pruner.dense=[first,first]"], r"dense=\[first,first\] must be a list of .* once"),
    ],
)
def test_unknown_layers_are_refused(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        compose_run("method=snip", "density=0.5", *NET, *words)


def test_a_net_without_shortcuts_or_without_other_layers_is_refused() -> None:
    with pytest.raises(ValueError, match=r"method.pruner.dense=\[shortcuts\]: this net has no"):
        pruner(Magnitude(), dense=("shortcuts",)).check_budget(mlp(), full_masks(mlp()), 0.5)
    option_a = ResNetCifar("n", depth=8, width=4, shortcut="A")(1, 10, 8, Generator())
    with pytest.raises(ValueError, match=r"method.search.dense=\[shortcuts\]: this net has no"):
        SrPopup(Global(), dense=("shortcuts",)).check_budget(option_a, full_masks(option_a), 0.5)
    one = mlp(())
    with pytest.raises(
        ValueError, match=r"classifier=pruned with method.pruner.dense=\[first\] leaves no layer"
    ):
        pruner(Magnitude(), dense=("first",))(one, full_masks(one), task(0.5))
    with pytest.raises(ValueError, match=r"dense=\[first\] with .*classifier=dense leaves no"):
        SrPopup(Global(), dense=("first",)).check_budget(one, full_masks(one), 0.5)


def test_a_run_trains_its_dense_layers_and_counts_the_others(tmp_path: Path) -> None:
    words = ["method=magnitude", "density=0.1", "method.pruner.dense=[first,shortcuts]", *NET]
    record, artefacts = perform_run(compose_run(*words), machine(tmp_path))
    masks = artefacts["train"].masks
    assert not (SHORTCUTS | {"conv1.weight"}) & set(masks)
    assert record["kept"] == count_kept(masks) == round(0.1 * record["prunable"])
    assert record["prunable"] == count_prunable(masks)
    before, after = artefacts["prune"].weights, artefacts["train"].weights
    for name in SHORTCUTS | {"conv1.weight"}:
        assert after[name].all() and not torch.equal(before[name], after[name])
