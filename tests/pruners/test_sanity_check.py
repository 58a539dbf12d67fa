"""sanity_check (docs/methods/sanity_check.md): smart ratio at random places, and its controls."""

import copy
import math
from pathlib import Path

import pytest
import torch
from small_nets import kept_by_layer, mlp, resnet, same_masks, task
from support import compose_run, machine, perform_run
from torch import nn

from pruners.base import Masks, count_kept, full_masks
from runner.config.overrides import check_overrides
from runner.errors import ConfigError
from runner.spec.identity import canonical

NET = ["dataset=digits", "model=resnet20", "model.depth=8", "model.width=4", "train.scale=0.00625"]


def masks_by(overrides: list[str], model: nn.Module, density: float, seed: int = 0) -> Masks:
    """The masks of the method that `overrides` compose."""
    component = compose_run(*overrides, f"density={density}", *NET).stage("prune").component
    masks: Masks = component(model, full_masks(model), task(density, seed=seed)).masks
    return masks


def test_masks_depend_only_on_shapes_density_and_seed() -> None:
    other = resnet(seed=5)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(-3)
    overrides = ["method=sanity_check"]
    assert same_masks(
        masks_by(overrides, resnet(), 0.3, seed=1), masks_by(overrides, other, 0.3, seed=1)
    )
    one = masks_by(overrides, resnet(), 0.3, seed=1)
    two = masks_by(overrides, resnet(), 0.3, seed=2)
    assert kept_by_layer(one) == kept_by_layer(two) and not same_masks(one, two)


def test_places_are_uniform_in_every_layer() -> None:
    # Each place is kept in K_i / n_i of 300 seeds; 5 standard deviations for the maximum of 2,720.
    component = compose_run("method=sanity_check", "density=0.3", *NET).stage("prune").component
    model = mlp()
    masks = [
        component(copy.deepcopy(model), full_masks(model), task(0.3, seed=s)).masks
        for s in range(300)
    ]
    for name, mask in masks[0].items():
        share = int(mask.sum()) / mask.numel()
        found = sum(m[name].double() for m in masks) / 300
        assert (found - share).abs().max() <= 5 * math.sqrt(share * (1 - share) / 300)


def test_masks_of_two_seeds_overlap_as_independent_subsets() -> None:
    one, two = (masks_by(["method=sanity_check"], mlp((300, 100)), 0.2, seed=s) for s in (0, 1))
    for name, mask in one.items():
        kept, size = int(mask.sum()), mask.numel()
        expected = kept**2 / size  # hypergeometric
        deviation = math.sqrt(expected * (1 - kept / size) * (size - kept) / (size - 1))
        assert abs(int((mask & two[name]).sum()) - expected) <= 4 * deviation


def test_the_hybrid_keeps_the_same_counts_and_the_largest_weights_of_each_layer() -> None:
    model, untouched = resnet(), resnet()
    hybrid = masks_by(["method=magnitude", "allocate=smart_ratio"], model, 0.3)
    assert kept_by_layer(hybrid) == kept_by_layer(masks_by(["method=sanity_check"], resnet(), 0.3))
    for name, mask in hybrid.items():
        weights = untouched.get_parameter(name).detach().abs()
        assert mask.all() or not mask.any() or weights[mask].min() >= weights[~mask].max()


@pytest.mark.parametrize("method", ["snip", "magnitude"])
def test_pick_uniform_keeps_the_layer_counts_of_a_method_and_changes_its_places(
    method: str,
) -> None:
    hard, control = (
        masks_by([f"method={method}", *overrides], resnet(), 0.2, seed=3)
        for overrides in ([], ["pick=uniform"])
    )
    assert kept_by_layer(control) == kept_by_layer(hard) and not same_masks(control, hard)


EQUAL = {f"layer{i}": torch.ones(10, 10, dtype=torch.bool) for i in range(5)}
# Weights 30, 20, 12, 6 share the 20 kept outside the last layer, which keeps 30: 8.8, 5.9, 3.5,
# 1.8. Divided by 1, 4, 9, 16 they are 30, 5, 1.33, 0.375.
RESNET, OTHER = [9, 6, 3, 2, 30], [16, 3, 1, 0, 30]


def counts_of(*overrides: str) -> list[int]:
    """The number of weights in each of five equal layers."""
    run = compose_run("method=sanity_check", "density=0.3", "dataset=digits", *overrides)
    return list(run.stage("prune").component.allocate({}, EQUAL, 0.1).values())


@pytest.mark.parametrize(
    ("net", "expected"),
    [
        ("resnet20", RESNET),
        ("resnet18_tiny", RESNET),
        ("mlp", OTHER),
        ("lenet_300_100", OTHER),
        ("vgg11_small", OTHER),
    ],
)
def test_the_model_declares_the_form_of_the_rule(net: str, expected: list[int]) -> None:
    assert counts_of(f"model={net}") == expected


def test_the_name_of_a_model_does_not_choose_the_rule(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    for name, text in {
        "my_resnet": "_target_: mlp\nname: my_resnet\nhidden: [4]\nresnet: false\n",
        "mine": "_target_: resnet_cifar\nname: mine\nresnet: true\n",
    }.items():
        (tmp_path / "model" / f"{name}.yaml").write_text(text)
    folder = f"hydra.searchpath=[file://{tmp_path}]"
    assert counts_of("model=my_resnet", folder) == OTHER
    assert counts_of("model=mine", folder) == RESNET
    (tmp_path / "model" / "wrong.yaml").write_text("_target_: mlp\nname: a\nresnet: true\n")
    with pytest.raises(ConfigError, match="model.resnet=True must be one of False"):
        counts_of("model=wrong", folder)


def test_the_rule_can_be_chosen_for_any_net_and_the_former_key_is_refused() -> None:
    assert counts_of("model=mlp", "allocate.resnet=true") == RESNET
    assert counts_of("model=resnet20", "allocate.resnet=false") == OTHER
    with pytest.raises(ConfigError, match=r"allocate.net chooses nothing; take allocate.resnet"):
        check_overrides(["method=sanity_check", "allocate.net=resnet"])
    with pytest.raises(ConfigError, match="model.resnet says what model=NAME is"):
        compose_run("method=sanity_check", "density=0.3", "model=mlp", "model.resnet=true")


def test_published_runs_of_resnets_keep_their_identity() -> None:
    run = compose_run("method=sanity_check", "density=0.3", "model=resnet20")
    assert canonical(run.stage("prune").component.allocate) == {
        "class": "smart_ratio",
        "net": "resnet20",
    }


def test_a_run_reaches_its_density_exactly(tmp_path: Path) -> None:
    record, artefacts = perform_run(
        compose_run("method=sanity_check", "density=0.53", *NET), machine(tmp_path)
    )
    assert (
        record["kept"] == count_kept(artefacts["train"].masks) == round(0.53 * record["prunable"])
    )
    assert record["label"] == "sanity-check"


def test_a_run_with_the_authors_counts_records_what_it_kept(tmp_path: Path) -> None:
    run = compose_run("method=sanity_check", "density=0.53", "allocate.counts=authors", *NET)
    record, artefacts = perform_run(run, machine(tmp_path))
    wanted = round(0.53 * record["prunable"])
    assert not run.stage("prune").exact
    assert record["kept"] == count_kept(artefacts["train"].masks)
    assert wanted - 2 * len(artefacts["train"].masks) <= record["kept"] < wanted
