"""The orthogonal options source, allocate, pick and schedule, and their configurations."""

import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from small_nets import seeded, task
from support import compose_run

from pruners.base import Masks, Scores
from pruners.selection.allocate import Erk, Global, Layer, apportion
from pruners.selection.pick import Proportional, Sketch, Top, Uniform
from pruners.selection.schedule import Once
from pruners.selection.smart_ratio import SmartRatio
from pruners.selection.source import Chi, Normal, SparseNormal, Train
from runner.config.compose import compose_config
from runner.errors import ConfigError
from runner.paths import CONF
from runner.spec.identity import run_id

check = settings(deadline=None, max_examples=150, derandomize=True)
densities = st.floats(0.001, 1.0)


@st.composite
def layered(draw: st.DrawFn, pruned: bool = True) -> tuple[Scores, Masks]:
    """Up to five layers of up to 40 weights; scores with many ties; some weights pruned already."""
    sizes = draw(st.lists(st.integers(1, 40), min_size=1, max_size=5))
    rng = seeded(draw(st.integers(0, 2**20)))
    scores = {
        f"layer{i}": torch.randint(-3, 4, (n,), generator=rng).float() for i, n in enumerate(sizes)
    }
    masks = {
        name: (torch.rand(s.shape, generator=rng) < 0.7) | (not pruned)
        for name, s in scores.items()
    }
    return scores, masks


def flags(*rows: list[int]) -> Masks:
    return {"abc"[i]: torch.tensor(row, dtype=torch.bool) for i, row in enumerate(rows)}


def values(*rows: list[float]) -> Scores:
    return {"abc"[i]: torch.tensor(row, dtype=torch.float) for i, row in enumerate(rows)}


def wanted(masks: Masks, density: float) -> int:
    return round(density * sum(mask.numel() for mask in masks.values()))


def attainable(masks: Masks, density: float) -> bool:
    return 1 <= wanted(masks, density) <= sum(int(mask.sum()) for mask in masks.values())


def test_global_allocation_counts_the_largest_scores_of_all_layers() -> None:
    # The largest five of nine: 9, 8, 7, 6, 5.
    assert Global()(
        values([9, 1, 8], [7, 6, 5], [2, 3, 4]), flags([1, 1, 1], [1, 1, 1], [1, 1, 1]), 5 / 9
    ) == {"a": 2, "b": 3, "c": 0}


def test_global_allocation_gives_ties_to_the_earlier_layer() -> None:
    assert Global()(values([1, 1, 1], [1, 1, 1]), flags([1, 1, 1], [1, 1, 1]), 4 / 6) == {
        "a": 3,
        "b": 1,
    }


def test_global_allocation_never_counts_pruned_weights() -> None:
    assert Global()(values([9, 9, -5], [-7, 1, 0]), flags([0, 0, 1], [1, 1, 0]), 0.5) == {
        "a": 1,
        "b": 2,
    }


@check
@given(layered(), densities)
def test_global_counts_equal_a_sort_by_score_and_position(
    net: tuple[Scores, Masks], density: float
) -> None:
    scores, masks = net
    if not attainable(masks, density):
        return
    alive = [
        (-float(s), i, j, name)
        for i, name in enumerate(scores)
        for j, s in enumerate(scores[name])
        if masks[name][j]
    ]
    best = [name for *_, name in sorted(alive)[: wanted(masks, density)]]
    assert Global()(scores, masks, density) == {name: best.count(name) for name in scores}


@check
@given(layered(), densities)
def test_global_and_top_together_keep_the_k_largest_scores_inside_the_masks(
    net: tuple[Scores, Masks], density: float
) -> None:
    scores, masks = net
    if not attainable(masks, density):
        return
    alive = sorted(
        (-float(s), i, j, name)
        for i, name in enumerate(scores)
        for j, s in enumerate(scores[name])
        if masks[name][j]
    )
    best = {(name, j) for _, _, j, name in alive[: wanted(masks, density)]}
    keep = Global()(scores, masks, density)
    picked = {
        name: Top()(s.masked_fill(~masks[name], -torch.inf), keep[name], seeded())
        for name, s in scores.items()
    }
    assert {
        (name, j) for name, mask in picked.items() for j in mask.nonzero().flatten().tolist()
    } == best


def test_layer_allocation_is_by_size_with_largest_remainders() -> None:
    # Density 1/4 of 3 + 5 + 6 = 14: round(3.5) = 4 (to even). Shares 0.75, 1.25, 1.5: floors 0, 1,
    # 1; the other two go to a (0.75), then c (0.5).
    assert Layer()({}, flags([1] * 3, [1] * 5, [1] * 6), 0.25) == {"a": 1, "b": 1, "c": 2}


def test_layer_allocation_breaks_equal_remainders_by_order() -> None:
    # Shares 1.5, 1.5, 1.5 of round(4.5) = 4: floors 1, 1, 1; the other one goes to the first layer.
    assert Layer()({}, flags([1] * 3, [1] * 3, [1] * 3), 0.5) == {"a": 2, "b": 1, "c": 1}


def test_a_layer_with_too_few_weights_left_keeps_all_and_the_others_keep_more() -> None:
    # Half of 4 + 4 + 8 is 8: shares 2, 2, 4. But a has one weight left: the other 7 go to b and c
    # as 7/3 and 14/3, so 2 and 4, and the remaining one to c (2/3).
    assert Layer()({}, flags([1, 0, 0, 0], [1] * 4, [1] * 8), 0.5) == {"a": 1, "b": 2, "c": 5}


@check
@given(layered(pruned=False), densities)
def test_layer_allocation_is_exact_in_total_and_within_one_weight_per_layer(
    net: tuple[Scores, Masks], density: float
) -> None:
    scores, masks = net
    if not attainable(masks, density):
        return
    counts = Layer()(scores, masks, density)
    assert sum(counts.values()) == wanted(masks, density)
    for name, mask in masks.items():
        share = Fraction(density) * mask.numel()
        assert math.floor(share) <= counts[name] <= math.ceil(share)


@check
@given(layered(), densities)
def test_layer_allocation_stays_exact_and_inside_the_masks_after_earlier_pruning(
    net: tuple[Scores, Masks], density: float
) -> None:
    scores, masks = net
    if not attainable(masks, density):
        return
    counts = Layer()(scores, masks, density)
    assert list(counts) == list(masks) and sum(counts.values()) == wanted(masks, density)
    assert all(0 <= counts[name] <= int(mask.sum()) for name, mask in masks.items())


@check
@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=1, max_size=6),
    st.integers(0, 60),
)
def test_apportion_is_exact_under_any_weights_and_limits(
    layers: list[tuple[int, int]], total: int
) -> None:
    weights, limits = ([layer[i] for layer in layers] for i in (0, 1))
    if sum(weight > 0 for weight in weights) < len(weights) or total > sum(limits):
        return
    shares = {f"l{i}": Fraction(total * weight, sum(weights)) for i, weight in enumerate(weights)}
    counts = apportion(shares, {f"l{i}": limit for i, limit in enumerate(limits)}, total)
    assert sum(counts.values()) == total
    assert all(0 <= counts[f"l{i}"] <= limit for i, limit in enumerate(limits))
    if all(share <= limit for share, limit in zip(shares.values(), limits, strict=True)):
        assert all(abs(counts[name] - share) < 1 for name, share in shares.items())


@pytest.mark.parametrize("allocate", [Global(), Layer()])
@pytest.mark.parametrize(
    ("density", "message"),
    [
        (0.5, "density=0.5 requires 3 weights, but earlier pruning left 2: masks only shrink"),
        (0.05, "density=0.05 keeps none of 6"),
        (1.5, r"density=1.5 must be in \(0, 1\]"),
    ],
)
def test_unattainable_densities_are_rejected(
    allocate: Global | Layer, density: float, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        allocate(values([1, 2, 3], [4, 5, 6]), flags([1, 0, 0], [0, 0, 1]), density)


def test_top_keeps_the_largest_scores_and_breaks_ties_by_index() -> None:
    scores = torch.tensor([2.0, 5.0, 2.0, -1.0, 2.0])
    assert Top()(scores, 3, seeded()).tolist() == [True, True, True, False, False]
    assert Top()(torch.zeros(4), 2, seeded()).tolist() == [True, True, False, False]
    assert not Top()(scores, 0, seeded()).any() and Top()(scores, 5, seeded()).all()


@check
@given(
    st.lists(st.sampled_from([0.0, 1.0, -2.0, 3.5, -math.inf]), min_size=1, max_size=60), st.data()
)
def test_top_keeps_exactly_k_scores_and_none_smaller_than_a_pruned_one(
    scores: list[float], data: st.DataObject
) -> None:
    k = data.draw(st.integers(0, len(scores)))
    picked = Top()(torch.tensor(scores), k, seeded()).nonzero().flatten().tolist()
    assert picked == sorted(sorted(range(len(scores)), key=lambda i: (-scores[i], i))[:k])


def test_top_breaks_ties_by_index_in_large_layers() -> None:
    # Libraries sort short arrays by insertion, which is stable: an unstable sort shows in long
    # ones.
    picked = Top()(torch.zeros(100_000), 12_345, seeded())
    assert picked[:12_345].all() and not picked[12_345:].any()


def test_once_has_one_round_at_the_density() -> None:
    assert Once()(0.1) == [0.1]


def test_train_source_gives_the_same_batches_of_the_training_set_on_every_call() -> None:
    data = (torch.arange(5.0).view(5, 1), torch.arange(5))
    of_two = Train(batch_size=2)
    for _ in range(2):
        assert [y.tolist() for _, y in of_two(task(0.5, data))] == [[0, 1], [2, 3], [4]]
    assert Train().batch_size == 256
    with pytest.raises(ValueError, match="source.batch_size=1 must be at least 2"):
        Train(batch_size=1)


COMBINATIONS = [  # overrides -> the resulting options
    ("method=snip source=normal", {"source": Normal()}),
    (
        "method=snip pick=proportional source=sparse_normal",
        {"source": SparseNormal(), "pick": Proportional()},
    ),
    (
        "method=snip source=sparse_normal source.location=coordinate",
        {"source": SparseNormal(location="coordinate")},
    ),
    ("method=synflow source=chi source.n=64", {"source": Chi(64)}),
    ("method=snip allocate=smart_ratio", {"allocate": SmartRatio("mlp", resnet=False)}),
    (
        "method=snip allocate=smart_ratio allocate.resnet=true allocate.linear=0.5",
        {"allocate": SmartRatio("mlp", 0.5)},
    ),
    (
        "method=snip allocate=smart_ratio allocate.ratio=cubic allocate.counts=authors",
        {"allocate": SmartRatio("mlp", resnet=False, ratio="cubic", counts="authors")},
    ),
    ("method=snip pick=uniform", {"pick": Uniform()}),
    ("method=magnitude pick=proportional pick.gamma=2", {"pick": Proportional(2.0)}),
    ("method=magnitude pick=sketch pick.scaling=init", {"pick": Sketch("init")}),
    ("method=random allocate=erk", {"allocate": Erk()}),
    (
        "method=sanity_check",
        {"allocate": SmartRatio("mlp", resnet=False), "pick": Top(), "source": None},
    ),
]


@pytest.mark.parametrize(
    ("overrides", "options"), COMBINATIONS, ids=[overrides for overrides, _ in COMBINATIONS]
)
def test_options_combine_on_the_command_line(overrides: str, options: dict[str, Any]) -> None:
    pruner = compose_run(*overrides.split(), "density=0.1", "model=mlp").stage("prune").component
    assert {name: getattr(pruner, name) for name in options} == options and pruner.when == "each"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            "method=magnitude source=normal",
            "source is not an option of method=magnitude: it looks at the weights alone",
        ),
        (
            "method=sanity_check source=ones",
            "source is not an option of method=sanity_check: it looks at nothing",
        ),
        ("method=imc pick=proportional", "pick is not an option of method=imc"),
        ("method=snip source=none", "source=none: Snip is computed from data"),
        (
            "method=snip pick=proportional method.pruner.when=final",
            "method.pruner.when=final: the schedule has one round",
        ),
        (
            "method=snip pick=sketch pick.scaling=always",
            "pick.scaling='always' must be one of none, init",
        ),
        ("method=snip pick=proportional pick.gamma=-1", "pick.gamma=-1.0 must be 0 or more"),
        (
            "method=snip source=sparse_normal source.location=image",
            "source.location='image' must be one of pixel, coordinate",
        ),
        (
            "method=random allocate=smart_ratio allocate.linear=3",
            "allocate.linear=3.0 must be in [0, 1]",
        ),
    ],
)
def test_inapplicable_options_are_rejected_with_the_reason(overrides: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compose_run(*overrides.split(), "density=0.1", "model=mlp")
    assert any(message in line for line in caught.value.messages)


def test_an_option_at_its_default_does_not_change_the_run_id() -> None:
    plain = ["method=snip", "density=0.1", "model=mlp"]
    assert run_id(compose_run(*plain)) == run_id(
        compose_run(*plain, "method.pruner.when=each", "source=train", "pick=top")
    )
    assert run_id(compose_run(*plain)) != run_id(compose_run(*plain, "pick=uniform"))


@pytest.mark.parametrize("group", ["source", "allocate", "pick", "schedule"])
def test_the_value_none_makes_an_option_null_wherever_it_is_referenced(group: str) -> None:
    cfg = compose_config(["method=snip", "density=0.1", f"{group}=none"])
    assert cfg[group] is None and cfg.method.pruner[group] is None
    assert OmegaConf.to_container(cfg, resolve=True)["method"]["pruner"][group] is None
    assert compose_config(["method=dense"])[group] is None  # the default of config.yaml


@pytest.mark.parametrize(
    "path",
    sorted(
        p for g in ("source", "allocate", "pick", "schedule") for p in (CONF / g).glob("*.yaml")
    ),
    ids=lambda p: f"{p.parent.name}-{p.stem}",
)
def test_option_files_are_short(path: Path) -> None:
    values = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    # comment lines do not count
    assert len(values) <= 6 and "#" in path.read_text()
