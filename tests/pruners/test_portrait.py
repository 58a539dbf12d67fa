"""Histograms and norms of final masks: worked examples, and moments of random masks."""

from dataclasses import MISSING, fields
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from small_nets import linear, seeded, task
from support import compose_run
from torch import Tensor, nn

from pruners.analysis.histograms import Bins, Norms, ScoresBefore, Weights
from pruners.analysis.origin import Origin
from pruners.analysis.subsets import subset_sums
from pruners.base import Masks, Measurement
from pruners.scores.magnitude import Magnitude
from runner.config.compose import compose_config
from runner.spec.identity import run_id, stage_keys

MLP = ["dataset=digits", "model=mlp", "train.scale=0.0125"]
PORTRAITS = ("weights", "scores", "norms")


def net() -> nn.Module:
    """Two layers, 3, -4, 0, -5 and 12, 1; the mask of `masks` keeps 3, -4, 0 | 12."""
    return nn.Sequential(linear([[3.0, -4.0], [0.0, -5.0]]), linear([[12.0, 1.0]]))


def masks() -> Masks:
    return {
        "0.weight": torch.tensor([[True, True], [True, False]]),
        "1.weight": torch.tensor([[True, False]]),
    }


def measured(measure: Any, model: nn.Module, kept: Masks, seed: int = 0) -> Measurement:
    """The measurement as the runner calls it: on masked weights, with the unmasked ones as
    `init`."""
    origin = {name: model.get_parameter(name).detach().clone() for name in kept}
    with torch.no_grad():
        for name, mask in kept.items():
            model.get_parameter(name).mul_(mask)
    found: Measurement = measure(
        model, kept, task(None, seed=seed, measured={"init": Measurement(origin)})
    )
    return found


# --- histograms


def test_a_bin_includes_its_lower_edge_and_the_last_bin_both() -> None:
    bins = Bins(0.0, 3.0, 3)
    assert bins.edges.tolist() == [0, 1, 2, 3]
    assert bins.count(torch.tensor([-0.1, 0.0, 0.5, 1.0, 2.0, 3.0, 3.1])).tolist() == [2, 1, 2]


def test_the_weights_of_all_layers_form_one_histogram_of_shares() -> None:
    # kept: 3, -4, 0 and 12; 12 lies outside
    found = measured(Weights(-6.0, 6.0, 4), net(), masks())
    assert found.series == {
        "weight_edges": [-6, -3, 0, 3, 6],
        "weight_share": [0.25, 0.0, 0.25, 0.25],
    }
    assert found.report == {"weights_outside": 0.25, "weights_mean_abs": 19 / 4}


def test_scores_before_pruning_are_divided_by_their_sum() -> None:
    found = measured(
        ScoresBefore(Magnitude(), None, sample=6, low=0.0, high=0.5, bins=5), net(), masks()
    )
    # All six are drawn: |w| = 3, 4, 0, 5, 12, 1 of 25, that is 0.12, 0.16, 0, 0.2, 0.48, 0.04. The
    # mask removes 0.2 and 0.04.
    assert found.series["score_all"] == [2, 2, 1, 0, 1]
    assert found.series["score_kept"] == [1, 2, 0, 0, 1]
    assert found.report == {"scores_drawn": 6, "scores_kept": 4, "scores_outside": 0}


def test_the_drawn_weights_depend_on_the_seed_and_not_on_the_mask() -> None:
    measure = ScoresBefore(Magnitude(), None, sample=2, low=0.0, high=1.0, bins=100)
    full = {name: torch.ones_like(mask) for name, mask in masks().items()}
    draws = [
        measured(measure, net(), kept, seed).series["score_all"]
        for seed in range(20)
        for kept in (masks(), full)
    ]
    assert draws[::2] == draws[1::2]
    assert len({tuple(d) for d in draws}) > 1


# --- norms


def test_the_norms_of_a_ticket_equal_an_example_worked_by_hand() -> None:
    found = measured(Norms(masks=50), net(), masks())
    assert found.series["ticket_norm"] == [5.0, 12.0]  # 3, 4, 0 and 12
    # Layer 2 keeps 12 or 1; layer 1 keeps three of 3, 4, 0, 5: the squares sum to 25, 34, 41 or 50.
    assert 1 < found.series["random_norm"][1] < 12
    assert 5 < found.series["random_norm"][0] < 50**0.5


def test_uniform_counts_keep_the_same_share_of_every_layer() -> None:
    model = nn.Sequential(linear([[1.0] * 8]), linear([[2.0] * 4]))
    kept = {
        "0.weight": torch.tensor([[True] * 6 + [False] * 2]),
        "1.weight": torch.zeros(1, 4, dtype=torch.bool),
    }
    # half of the 12: 4 ones, 2 twos
    series = measured(Norms(masks=3, counts="uniform"), model, kept).series
    assert series["random_norm"] == pytest.approx([2.0, 8**0.5])
    assert series["random_norm_std"] == pytest.approx([0.0, 0.0])
    assert measured(Norms(masks=3), net_of_ones(), kept).series["random_norm"] == pytest.approx(
        [6**0.5, 0.0]
    )


def net_of_ones() -> nn.Module:
    return nn.Sequential(linear([[1.0] * 8]), linear([[2.0] * 4]))


def test_the_histogram_of_random_masks_counts_all_masks() -> None:
    series = measured(Norms(masks=40, low=0.0, high=20.0, bins=20), net(), masks()).series
    assert series["norm_edges"] == [float(i) for i in range(21)]
    assert sum(series["random_share_0"]) == sum(series["random_share_1"]) == pytest.approx(1.0)
    # the norm is 1 or 12
    assert series["random_share_1"][1] + series["random_share_1"][12] == pytest.approx(1.0)


@pytest.mark.parametrize("size", [1, 7, 20, 33, 39])
def test_the_sums_have_the_moments_of_sampling_without_replacement(size: int) -> None:
    values, subsets = torch.rand(40, generator=seeded(3), dtype=torch.float64) ** 2, 20_000
    sums = subset_sums(values, size, subsets, seeded(size))
    share = size / len(values)
    # values.var(): of the finite population, divided by n - 1
    variance = size * (1 - share) * float(values.var())
    assert float(sums.mean()) == pytest.approx(
        share * float(values.sum()), abs=4 * (variance / subsets) ** 0.5
    )
    fourth = float(((sums - sums.mean()) ** 4).mean())
    error = ((fourth - variance**2) / subsets) ** 0.5  # standard error of a sample variance
    assert float(sums.var()) == pytest.approx(variance, abs=4 * error)


def test_every_subset_is_equally_likely() -> None:
    # each subset has its own sum
    values = torch.tensor([1.0, 10.0, 100.0, 1000.0, 10000.0], dtype=torch.float64)
    counts = subset_sums(values, 2, 20_000, seeded()).round().unique(return_counts=True)[1]
    assert len(counts) == 10
    assert all(abs(int(n) - 2000) < 4 * (20_000 * 0.1 * 0.9) ** 0.5 for n in counts)


@pytest.mark.parametrize(("size", "total"), [(0, 0.0), (4, 10.0)])
def test_the_empty_and_the_full_subset_have_one_sum(size: int, total: float) -> None:
    assert (
        subset_sums(torch.tensor([1.0, 2.0, 3.0, 4.0]), size, 3, seeded()).tolist() == [total] * 3
    )


def test_subsets_drawn_in_several_chunks_are_all_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pruners.analysis.subsets.DRAWS", 30)  # ten subsets of three at a time
    sums = subset_sums(torch.arange(10.0), 3, 25, seeded())
    # from 0 + 1 + 2 to 7 + 8 + 9
    assert len(sums) == 25 and set(sums.tolist()) <= {float(s) for s in range(3, 25)}
    assert len(set(sums.tolist())) > 5


# --- invalid options, identity


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Bins(1.0, 1.0, 3),
        lambda: Weights(bins=-1),
        lambda: Norms(masks=1),
        lambda: Norms(counts="all"),
    ],
)
def test_invalid_options_are_rejected(wrong: Any) -> None:
    with pytest.raises(ValueError, match="portrait.measure"):
        wrong()


def test_a_portrait_without_weights_names_the_missing_measurement() -> None:
    with pytest.raises(ValueError, match=r"needs: \[init\]"):
        Weights()(net(), masks(), task(None))


def test_a_portrait_changes_no_key_of_other_stages_and_no_run_without_it() -> None:
    overrides = ["method=synflow", "density=0.1", *MLP]
    plain = compose_run(*overrides)
    assert run_id(compose_run(*overrides, "portrait=none")) == run_id(plain)
    for portrait in PORTRAITS:
        run = compose_run(*overrides, f"portrait={portrait}")
        assert [stage.name for stage in run.stages] == [
            *(stage.name for stage in plain.stages),
            "portrait",
        ]
        assert stage_keys(plain).items() <= stage_keys(run).items()
        assert run_id(run) != run_id(plain)


def test_rewound_norms_are_those_of_the_weights_at_the_rewinding_point() -> None:
    run = compose_run(
        "method=imp", "density=0.5", *MLP, "portrait=norms_rewound", "retrain.rewind=80ep"
    )
    origin, portrait = run.stages[-2:]
    assert (origin.start.stage, origin.start.epoch, type(origin.component)) == ("dense", 1, Origin)
    assert (portrait.needs, portrait.masks) == (("origin",), run.stages[-4].name)
    found: dict[str, Tensor] = Origin()(net(), masks(), task(None)).tensors
    assert torch.equal(found["0.weight"], net()[0].weight)


@pytest.mark.parametrize("portrait", PORTRAITS)
def test_yaml_lists_every_option_with_the_default_of_its_class(portrait: str) -> None:
    cfg: Any = OmegaConf.to_container(
        compose_config(["method=synflow", "density=0.1", f"portrait={portrait}"]), resolve=True
    )
    options = cfg["portrait"]["measure"]
    target = options.pop("_target_")
    (cls,) = [c for c in (Weights, ScoresBefore, Norms) if target == c.tag]
    assert set(options) == {f.name for f in fields(cls)}
    assert {f.name: f.default for f in fields(cls) if f.default not in (MISSING, None)} == {
        n: v for n, v in options.items() if n not in ("score", "source")
    }
