"""Overlap with magnitude masks: worked examples, exact expectations, runs of pruning methods."""

from itertools import combinations, product
from math import sqrt
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import SMALL
from small_nets import linear, task
from support import COMPOSER, compose_run, machine, needed, perform_run
from torch import Tensor, nn

from pruners.analysis.overlap import Counts, Overlap, compare, magnitude_masks, together
from pruners.base import Masks, Measurement
from runner.config.compose import method_names
from runner.spec.identity import run_id, stage_keys
from runner.spec.run import family

MLP = [w for w in SMALL if not w.startswith("env.")]


def bits(text: str) -> Tensor:
    return torch.tensor([[c == "1" for c in text]])


def measured(weights: dict[str, list[float]], masks: dict[str, str]) -> Measurement:
    origin = {name: torch.tensor([row]) for name, row in weights.items()}
    model = nn.Sequential(*(linear([row]) for row in weights.values()))
    found: Measurement = Overlap()(
        model,
        {name: bits(m) for name, m in masks.items()},
        task(None, measured={"origin": Measurement(origin)}),
    )
    return found


def test_overlap_equals_an_example_worked_by_hand() -> None:
    # Two layers of 4 and 6 weights; the mask keeps 2 + 2. The four largest weights are 9, 8, 7, 6:
    # three in layer 1, one in layer 2.
    found = measured(
        {"0.weight": [9.0, -8.0, 7.0, 1.0], "1.weight": [6.0, 5.0, -4.0, 3.0, 2.0, 0.0]},
        {"0.weight": "1010", "1.weight": "010100"},
    )
    r, s = found.report, found.series
    # Whole net: both masks keep 9 and 7, of 4. Of 10 entries, those of 8, 6, 5 and 3 differ.
    assert (r["overlap_kept"], r["overlap_agree"]) == (2 / 4, pytest.approx(1 - 4 / 10))
    # 4 * 4 / 10 = 1.6
    assert (r["overlap_kept_random"], r["overlap_agree_random"]) == (
        pytest.approx(4 / 10),
        pytest.approx(1 - (8 - 2 * 1.6) / 10),
    )
    assert s["overlap_size"] == [4, 6] and s["overlap_count"] == [2, 2]
    assert s["overlap_kept"] == [1.0, 0.0] and s["overlap_agree"] == pytest.approx([3 / 4, 3 / 6])
    # of the two kept: 2 * 3 / 4 and 2 * 1 / 6
    assert s["overlap_kept_random"] == pytest.approx([3 / 4, 1 / 6])
    # Within layers: 9, 8 against 9, 7; 6, 5 against 5, 3.
    assert (r["overlap_layer_kept"], r["overlap_layer_agree"]) == (2 / 4, pytest.approx(1 - 4 / 10))
    assert s["overlap_layer_kept"] == [0.5, 0.5]
    assert s["overlap_layer_kept_random"] == pytest.approx([2 / 4, 2 / 6])
    assert r["overlap_layer_kept_random"] == pytest.approx((2 * 2 / 4 + 2 * 2 / 6) / 4)


def test_an_empty_layer_has_overlap_zero() -> None:
    found = measured(
        {"0.weight": [3.0, 2.0], "1.weight": [1.0, 0.5]}, {"0.weight": "11", "1.weight": "00"}
    )
    assert found.series["overlap_kept"] == [1.0, 0.0]
    assert found.series["overlap_agree"] == [1.0, 1.0]
    assert found.report["overlap_kept"] == 1.0


def test_ties_in_magnitude_go_to_the_lower_index() -> None:
    weights = {"a": torch.tensor([1.0, -1.0, 1.0]), "b": torch.tensor([1.0])}
    masks = {"a": torch.tensor([False, True, True]), "b": torch.tensor([True])}
    assert {n: m.tolist() for n, m in magnitude_masks(weights, masks, within=False).items()} == {
        "a": [True, True, True],
        "b": [False],
    }
    assert {n: m.tolist() for n, m in magnitude_masks(weights, masks, within=True).items()} == {
        "a": [True, True, False],
        "b": [True],
    }


def every_mask(n: int, a: int, other: Tensor) -> list[Counts]:
    """Comparisons of every mask that keeps a of n with another mask."""
    return [
        compare(
            torch.zeros(n, dtype=torch.bool).index_fill(
                0, torch.tensor(kept, dtype=torch.long), True
            ),
            other,
        )
        for kept in combinations(range(n), a)
    ]


@pytest.mark.parametrize(("n", "a", "b"), [(6, 3, 2), (7, 1, 5), (5, 5, 2), (6, 0, 4)])
def test_random_values_are_the_means_over_all_masks(n: int, a: int, b: int) -> None:
    every = every_mask(n, a, torch.arange(n) < b)
    expected = Counts(n, a, b, 0).random
    assert expected.kept == pytest.approx(sum(c.kept for c in every) / len(every))
    assert expected.agree == pytest.approx(sum(c.agree for c in every) / len(every))


def test_random_values_of_a_net_are_the_means_over_all_pairs_of_layer_masks() -> None:
    sizes, counts, other = (4, 5), (2, 1), (torch.arange(4) < 3, torch.arange(5) < 2)
    layers = [every_mask(n, a, o) for n, a, o in zip(sizes, counts, other, strict=True)]
    every = [together(list(pair)) for pair in product(*layers)]
    expected = together([pair[0].random for pair in layers])
    assert expected.kept == pytest.approx(sum(c.kept for c in every) / len(every))
    assert expected.agree == pytest.approx(sum(c.agree for c in every) / len(every))


def test_weights_that_are_nan_are_rejected() -> None:
    with pytest.raises(FloatingPointError, match="no magnitude mask"):
        magnitude_masks(
            {"a": torch.tensor([1.0, float("nan")])},
            {"a": torch.tensor([True, False])},
            within=False,
        )


def overrides_of(method: str, folder: Path) -> list[str]:
    words = [f"method={method}", *MLP, "train.lr=0.01"]
    return [*words, *(needed(folder, *words) or ["density=0.3"]), "portrait=overlap"]


def kinds(stages: list[Any]) -> set[str]:
    """Kinds of the stages that a method's YAML lists, including those of repeated groups."""
    nodes = [stage for stage in stages if isinstance(stage, dict)]
    return {node["kind"] for node in nodes if "kind" in node}.union(
        *(kinds(node["stages"]) for node in nodes if "repeat" in node)
    )


PRUNING = [
    name
    for name in method_names()
    if "prune" in kinds(COMPOSER.plain([f"method={name}"])["method"]["stages"])
]


def test_eighteen_methods_prune() -> None:
    # of 25: all but dense, wstar, gmp, which prunes while it trains, small_dense, which does not,
    # and the three mask searches
    assert len(PRUNING) == 18


@pytest.mark.parametrize("method", PRUNING)
def test_every_pruning_method_reports_its_overlap(method: str, tmp_path: Path) -> None:
    small = (
        ["method.spectrum.steps=5", "method.spectrum.probes=1", "method.lipschitz.directions=1"]
        if method == "imc"
        else []
    )
    run = compose_run(*overrides_of(method, tmp_path), *small)
    made, artefacts = perform_run(run, machine(tmp_path))
    masks: Masks = [found.masks for name, found in artefacts.items() if family(name) == "prune"][-1]
    origin = artefacts["origin"].findings
    # An independent way: the weights in order of magnitude, compared position by position.
    ranked = torch.cat([origin[name].abs().flatten() for name in masks]).argsort(
        descending=True, stable=True
    )
    kept = torch.cat([mask.flatten() for mask in masks.values()])
    k = int(kept.sum())
    assert k == made["kept"]
    assert made["report"]["overlap_kept"] == pytest.approx(int(kept[ranked[:k]].sum()) / k)
    assert made["report"]["overlap_kept_random"] == pytest.approx(made["density"])


def overlap(*overrides: str, at: Path) -> dict[str, Any]:
    report: dict[str, Any] = perform_run(compose_run(*overrides), machine(at))[0]["report"]
    return report


def test_the_magnitude_mask_overlaps_fully_and_a_random_mask_as_much_as_expected(
    tmp_path: Path,
) -> None:
    whole = overlap(
        *overrides_of("magnitude", tmp_path), "start=dense", "retrain=reinit", at=tmp_path
    )
    assert (
        whole["overlap_kept"],
        whole["overlap_agree"],
        whole["overlap_layer_kept"],
        whole["overlap_layer_agree"],
    ) == (1, 1, 1, 1)
    chance = overlap(*overrides_of("random", tmp_path), at=tmp_path)
    n = 64 * 300  # a lower bound: the error of a hypergeometric share is below sqrt(p (1 - p) / k)
    assert chance["overlap_kept"] == pytest.approx(
        chance["overlap_kept_random"], abs=4 * sqrt(0.3 * 0.7 / (0.3 * n))
    )


def test_the_portrait_changes_no_key_of_other_stages_and_no_run_without_it(tmp_path: Path) -> None:
    overrides = overrides_of("imp", tmp_path)
    plain, analysed = compose_run(*overrides[:-1]), compose_run(*overrides)
    assert stage_keys(analysed).items() >= stage_keys(plain).items()
    assert run_id(plain) != run_id(analysed)
    assert run_id(compose_run(*overrides[:-1], "portrait=none")) == run_id(plain)
