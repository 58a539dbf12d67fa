"""Overlap with masks of other criteria: worked examples, first masks of searches, random masks."""

from math import sqrt
from pathlib import Path
from typing import Any

import pytest
import torch
from small_nets import images, linear, mlp, state_check, task
from support import compose_run, machine, perform_run
from torch import nn

from pruners.analysis.criteria import COMPARED, CriteriaOverlap
from pruners.base import Finding, Masks, Measurement, apply_masks, full_masks
from pruners.search.init import Init
from pruners.selection.allocate import Global, Layer
from runner.errors import ConfigError
from runner.spec.identity import run_id

NET = ["dataset=digits", "model=resnet20", "model.depth=8", "model.width=4", "train_fraction=0.3"]
SMALL = [*NET, "train.scale=0.0625", "method.batch_size=64", "start=init"]


def measured(model: nn.Module, masks: Masks) -> dict[str, Finding]:
    origin = Measurement({name: model.get_parameter(name).detach().clone() for name in masks})
    apply_masks(model, masks)
    return CriteriaOverlap()(
        model, masks, task(None, images(300), classes=10, measured={"origin": origin})
    ).report


def test_overlap_with_magnitude_and_snip_equals_an_example_worked_by_hand() -> None:
    # Layer 1: w = (4, -3, 2, 1). L = |w . x - y| with x = (1, 1, 4, 8): the score of SNIP is |w x|
    # = (4, 3, 8, 8). The mask keeps 3 and 2.
    model = nn.Sequential(linear([[4.0, -3.0, 2.0, 1.0]]))
    masks = {"0.weight": torch.tensor([[False, True, True, False]])}
    # ten, for GraSP
    data = (torch.tensor([[1.0, 1.0, 4.0, 8.0]] * 10), torch.zeros(10, dtype=torch.int64))
    origin = {"origin": Measurement({"0.weight": model.get_parameter("0.weight").detach().clone()})}
    about = task(
        None, data, loss=lambda out, y: (out.flatten() - y).abs().mean(), measured=origin, classes=1
    )
    apply_masks(model, masks)
    unchanged = state_check(model)
    found = CriteriaOverlap()(model, masks, about).report
    assert unchanged()
    assert found["overlap_magnitude"] == 1 - 2 / 4  # 4 and 3 against 3 and 2
    assert found["overlap_snip"] == 1 - 2 / 4  # 8 and 8 against 3 and 2
    assert found["overlap_expected"] == 1 - (2 + 2 - 2 * 2 * 2 / 4) / 4


@pytest.mark.parametrize("criterion", [name for name in COMPARED if name != "random"])
@pytest.mark.parametrize("budgets", ["magnitude", "criterion"])
def test_the_first_mask_of_a_search_equals_the_mask_of_its_own_criterion(
    criterion: Any, budgets: Any
) -> None:
    model = mlp()
    about = task(0.2, images(300), classes=10)
    first = Init(criterion, budgets=budgets)(model, full_masks(model), about, Global()).masks
    found = measured(model, first)
    assert found[f"overlap_{criterion}"] == 1.0
    assert (found[f"overlap_own_{criterion}"] == 1.0) == (
        budgets == "criterion" or criterion == "magnitude"
    )
    others = [name for name in COMPARED if name != criterion]
    assert all(0 < found[f"overlap_{name}"] < 1 for name in others)


@pytest.mark.parametrize("allocate", [Global(), Layer()])
def test_a_random_mask_overlaps_as_much_as_expected(allocate: Any) -> None:
    model = mlp((300, 100))
    about = task(0.1, images(300), seed=1, classes=10)  # another seed than the measurement's
    first = Init("random")(model, full_masks(model), about, allocate).masks
    found = measured(model, first)
    counts = {name: (mask.numel(), int(mask.sum())) for name, mask in first.items()}
    total, kept = sum(n for n, _ in counts.values()), sum(k for _, k in counts.values())
    # The overlap of two sets of k among n has the variance k^2 (n - k)^2 / n^2 (n - 1). Each weight
    # outside the overlap makes two entries disagree.
    both = sum(k * k / n for n, k in counts.values())
    error = (
        2 * sqrt(sum(k * k * (n - k) ** 2 / (n * n * (n - 1)) for n, k in counts.values())) / total
    )
    assert found["overlap_expected"] == pytest.approx(1 - 2 * (kept - both) / total, abs=1e-12)
    assert found["overlap_own_expected"] == pytest.approx(
        1 - 2 * (kept - kept * kept / total) / total, abs=1e-12
    )
    # the paper's value at 90 %
    assert found["overlap_own_expected"] == pytest.approx(0.82, abs=1e-4)
    whole = 2 * sqrt(kept * kept * (total - kept) ** 2 / (total * total * (total - 1))) / total
    for name, expected, allowed in (
        ("overlap", "overlap_expected", error),
        ("overlap_own", "overlap_own_expected", whole),
    ):
        assert found[f"{name}_random"] == pytest.approx(found[expected], abs=4 * allowed)


# --- portraits of searches


@pytest.mark.parametrize("portrait", ["overlap", "criteria", "weights", "norms", "norms_rewound"])
def test_every_portrait_works_after_a_search(portrait: str, tmp_path: Path) -> None:
    run = compose_run("method=sr_popup", "density=0.2", *SMALL, f"portrait={portrait}")
    assert run.stage("portrait").masks == "search"
    made, artefacts = perform_run(run, machine(tmp_path))
    assert artefacts["portrait"].meta.get("series") or artefacts["portrait"].meta["report"]
    # an independent way: the weights in order of magnitude, compared position by position
    if portrait == "overlap":
        masks, origin = artefacts["search"].masks, artefacts["origin"].findings
        ranked = torch.cat([origin[name].abs().flatten() for name in masks]).argsort(
            descending=True, stable=True
        )
        kept = torch.cat([mask.flatten() for mask in masks.values()])
        assert made["report"]["overlap_kept"] == pytest.approx(
            int(kept[ranked[: made["kept"]]].sum()) / made["kept"]
        )
        assert made["report"]["overlap_kept_random"] == pytest.approx(made["density"])


@pytest.mark.parametrize("method", ["edge_popup", "zhou"])
def test_the_measured_overlap_with_magnitude_equals_the_one_in_the_searchs_report(
    method: str, tmp_path: Path
) -> None:
    overrides = [f"method={method}", "density=0.2", *SMALL]
    plain, _ = perform_run(compose_run(*overrides), machine(tmp_path))
    made, artefacts = perform_run(compose_run(*overrides, "portrait=criteria"), machine(tmp_path))
    assert artefacts["portrait"].meta["report"]["overlap_magnitude"] == pytest.approx(
        plain["report"]["overlap_magnitude"], abs=1e-12
    )
    assert {f"overlap_{name}" for name in COMPARED} <= set(made["report"])


def test_a_search_of_no_epoch_has_the_magnitude_mask(tmp_path: Path) -> None:
    report = perform_run(
        compose_run(
            "method=sr_popup", "density=0.2", *SMALL, "method.epochs=0", "portrait=criteria"
        ),
        machine(tmp_path),
    )[0]["report"]
    assert report["overlap_magnitude"] == report["overlap_own_magnitude"] == 1.0


def test_portraits_of_pruning_methods_keep_their_stage_and_run_id() -> None:
    imp = compose_run("method=imp", "density=0.5", "portrait=overlap", "train=imc")
    assert imp.stage("portrait").masks == "prune4"
    assert run_id(imp) == "imp-resnet20-digits-d0.5-s0-44f636cdd5cb"
    assert (
        compose_run("method=continuous_sparsification", "density=0.5", "portrait=norms")
        .stage("portrait")
        .masks
        == "prune"
    )
    with pytest.raises(ConfigError, match="needs 'pruned', which is not an earlier stage: dense"):
        compose_run("method=dense", "portrait=weights")
