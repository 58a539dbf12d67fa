"""N:M and block picks: examples by hand, loops in NumPy, properties, runs and refusals."""

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_nets import mlp, seeded, task
from support import compose_run, machine, needed, perform_run
from torch import Size, Tensor

from pruners.base import FixedMasking, Masks, count_kept, count_prunable, full_masks
from pruners.scores.magnitude import Magnitude
from pruners.selection.allocate import Global, Layer
from pruners.selection.pick import Top
from pruners.selection.schedule import Exponential, Once
from pruners.selection.score_pruner import ScorePruner
from pruners.selection.select import select
from pruners.selection.structured import Block, NOfM
from runner.config.compose import method_names
from runner.engine.preflight import check as preflight
from runner.errors import ConfigError

check = settings(deadline=None, max_examples=150, derandomize=True)
GONE = -math.inf  # the score of pruned weights
MLP = ["dataset=digits", "model=mlp", "model.hidden=[16]", "train.scale=0.0125"]
TWO_OF_FOUR = ["pick=n_m", "allocate=layer", "density=0.5"]


def layer(*rows: list[float]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def random_scores(shape: tuple[int, ...], seed: int, pruned: float = 0.0) -> Tensor:
    """Whole numbers with many ties; a share of the weights is pruned."""
    rng = seeded(seed)
    scores = torch.randint(-9, 10, shape, generator=rng).double()
    return scores.masked_fill(torch.rand(shape, generator=rng) < pruned, GONE)


# --- N:M


def test_the_two_largest_of_each_four_are_kept() -> None:
    scores = layer([1, 4, 3, 2, -1, -4, -3, -2], [5, 5, 5, 5, 0, 9, 0, 0])
    kept = NOfM()(scores, 8, seeded())
    assert kept.int().tolist() == [[0, 1, 1, 0, 1, 0, 0, 1], [1, 1, 0, 0, 1, 1, 0, 0]]


def test_a_larger_count_adds_the_largest_of_the_others() -> None:
    # after 4, 3 | -1, -2 are kept: the others are 2, 1, -3, -4
    scores = layer([1, 4, 3, 2, -1, -4, -3, -2])
    assert NOfM()(scores, 6, seeded()).int().tolist() == [[1, 1, 1, 1, 1, 0, 0, 1]]
    assert NOfM()(scores, 8, seeded()).all()
    with pytest.raises(ValueError, match="pick=n_m keeps 2 of every 4 weights, 4 of a layer for"):
        NOfM()(scores, 3, seeded())


def test_groups_run_along_the_flattened_kernel_or_along_the_channels() -> None:
    # one output, four channels, kernels of two: rows of weight.flatten(1) are
    # c0k0 c0k1 c1k0 c1k1 | c2k0 c2k1 c3k0 c3k1
    scores = torch.tensor([8.0, 7, 6, 5, 4, 3, 2, 1]).view(1, 4, 1, 2)
    assert NOfM()(scores, 4, seeded()).flatten().int().tolist() == [1, 1, 0, 0, 1, 1, 0, 0]
    # position 0 has 8 6 4 2 in channels 0 to 3, position 1 has 7 5 3 1
    assert NOfM(along="channels")(scores, 4, seeded()).flatten().int().tolist() == [
        *(1, 1, 1, 1),
        *(0, 0, 0, 0),
    ]


def n_of_m_by_loops(scores: np.ndarray, n: int, m: int, along: str, k: int) -> np.ndarray:
    """The first n of each group by (score, index), then the best others, in plain loops."""
    kept = np.zeros(scores.shape, dtype=bool)
    places = list(np.ndindex(*scores.shape))
    if along == "channels":
        places.sort(key=lambda index: (index[0], *index[2:], index[1]))
    for start in range(0, len(places), m):
        group = sorted(places[start : start + m], key=lambda p: (-scores[p], p))
        for place in group[:n]:
            kept[place] = scores[place] > -np.inf
    left = sorted((p for p in places if not kept[p]), key=lambda p: (-scores[p], p))
    for place in left[: k - int(kept.sum())]:
        kept[place] = True
    return kept


@check
@given(
    st.sampled_from([(3, 8), (2, 4, 3, 3), (5, 12, 1, 1), (4, 4, 2)]),
    st.sampled_from([(2, 4), (1, 2), (1, 4), (4, 4), (3, 4)]),
    st.sampled_from(["row", "channels"]),
    st.sampled_from([0.0, 0.2]),
    st.integers(0, 2**20),
    st.data(),
)
def test_the_pick_agrees_with_loops(
    shape: tuple[int, ...],
    pattern: tuple[int, int],
    along: Any,
    pruned: float,
    seed: int,
    data: st.DataObject,
) -> None:
    (n, m), scores = pattern, random_scores(shape, seed, pruned)
    there = int((scores > GONE).sum())
    k = data.draw(st.integers(min(scores.numel() * n // m, there), there))
    pick = NOfM(n, m, along)
    expected = n_of_m_by_loops(scores.numpy(), n, m, along, k)
    kept = pick(scores, k, seeded())
    assert np.array_equal(kept.numpy(), expected) and int(kept.sum()) == k
    assert not kept[scores == GONE].any()


@check
@given(st.sampled_from([(6, 8), (3, 4, 3, 3)]), st.integers(0, 2**20), st.integers(1, 4))
def test_every_group_keeps_exactly_n_at_the_density_of_the_pattern(
    shape: tuple[int, ...], seed: int, n: int
) -> None:
    scores = random_scores(shape, seed)
    kept = NOfM(n, 4)(scores, scores.numel() * n // 4, seeded())
    assert set(kept.flatten(1).reshape(-1, 4).sum(1).tolist()) == {n}
    kept = NOfM(n, 4, "channels")(scores, scores.numel() * n // 4, seeded())
    assert set(kept.movedim(1, -1).reshape(-1, 4).sum(1).tolist()) == {n}


def test_single_precision_is_enough_and_equal_scores_keep_the_first() -> None:
    kept = NOfM(1, 2)(torch.zeros(3, 4), 6, seeded())
    assert kept.int().tolist() == [[1, 0, 1, 0]] * 3


@pytest.mark.parametrize("density", [1 / 3, 0.25, 2 / 3])
def test_layers_keep_the_counts_of_their_groups(density: float) -> None:
    rng, n = seeded(1), {1 / 3: (1, 3), 0.25: (1, 4), 2 / 3: (2, 3)}[density]
    scores = {name: torch.rand(s, generator=rng) for name, s in (("a", (5, 12)), ("b", (7, 24)))}
    masks = {name: torch.ones_like(s, dtype=torch.bool) for name, s in scores.items()}
    found = select(scores, FixedMasking(masks), density, Layer(), NOfM(*n), seeded())
    for mask in found.masks.values():
        assert set(mask.reshape(-1, n[1]).sum(1).tolist()) == {n[0]}


def test_rounds_and_levels_end_with_the_pattern_and_only_shrink() -> None:
    model, masks = mlp(hidden=(32, 16)), None
    pruner = ScorePruner(Magnitude(), None, Layer(), NOfM(), Exponential(iterations=5))
    found = pruner(model, full_masks(model), task(0.5)).masks
    for mask in found.values():
        assert set(mask.reshape(-1, 4).sum(1).tolist()) == {2}
    masks = full_masks(model)
    for density in (0.8, 0.64, 0.512, 0.5):  # levels of IMP
        once = ScorePruner(Magnitude(), None, Layer(), NOfM(), Once())
        after = once(model, masks, task(density)).masks
        assert all(not (mask & ~masks[name]).any() for name, mask in after.items())
        assert all((m.reshape(-1, 4).sum(1) >= 2).all() for m in after.values())
        assert count_kept(after) == round(density * count_prunable(masks))
        masks = after
    assert all(set(m.reshape(-1, 4).sum(1).tolist()) == {2} for m in masks.values())


# --- blocks


def test_blocks_are_kept_by_the_sum_of_their_scores() -> None:
    scores = layer([9, 0, 2, 2, 1], [0, 0, 2, 3, 1], [5, 5, 0, 0, 1])
    # 2 x 2 blocks: sums 9, 9, 2 | 10, 0, 1, of 4, 4, 2 | 2, 2, 1 weights
    pick = Block(2, 2)
    best = [[0, 0, 0, 0, 0], [0, 0, 0, 0, 0], [1, 1, 0, 0, 0]]
    assert pick(scores, 2, seeded()).int().tolist() == best
    second = [[1, 1, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 0, 0, 0]]  # ties: the lower block
    assert pick(scores, 6, seeded()).int().tolist() == second
    assert pick(scores, 15, seeded()).all() and not pick(scores, 0, seeded()).any()
    assert pick.findings(scores, 7) == {"allocated": 7, "blocks": 6, "blocks_kept": 2}


@pytest.mark.parametrize(
    ("k", "kept"),
    [(0, 0), (1, 4), (4, 4), (5, 4), (6, 4), (7, 8), (8, 8), (10, 8), (11, 12), (12, 12)],
)
def test_a_count_between_blocks_becomes_the_nearest_and_one_block_stays(k: int, kept: int) -> None:
    # three blocks of 1 x 4: 1 to 3 weights are one block; 6 and 10 are equally near two counts
    scores = torch.arange(12, dtype=torch.float64).view(3, 4)
    found = Block(1, 4)(scores, k, seeded())
    assert int(found.sum()) == kept and found[(12 - kept) // 4 :].all()


def blocks_by_loops(scores: np.ndarray, rows: int, columns: int, k: int) -> np.ndarray:
    matrix = scores.reshape(len(scores), -1)
    blocks = []
    for i, j in itertools.product(
        range(0, matrix.shape[0], rows), range(0, matrix.shape[1], columns)
    ):
        block = matrix[i : i + rows, j : j + columns]
        alive = block[block > -np.inf]
        if alive.size:
            blocks.append((-alive.sum(), i, j, alive.size))
    blocks.sort()
    sizes = [0, *itertools.accumulate(size for *_, size in blocks)]
    count = min(range(len(sizes)), key=lambda c: (abs(sizes[c] - k), c))
    count = max(count, 1) if k else 0
    kept = np.zeros(matrix.shape, dtype=bool)
    for _, i, j, _ in blocks[:count]:
        kept[i : i + rows, j : j + columns] = matrix[i : i + rows, j : j + columns] > -np.inf
    return kept.reshape(scores.shape)


@check
@given(
    st.sampled_from([(3, 8), (7, 5), (2, 3, 3, 3), (5, 4, 1, 1), (1, 6), (9, 2, 2)]),
    st.integers(1, 5),
    st.integers(1, 6),
    st.sampled_from([0.0, 0.3]),
    st.integers(0, 2**20),
    st.data(),
)
def test_blocks_agree_with_loops(
    shape: tuple[int, ...],
    rows: int,
    columns: int,
    pruned: float,
    seed: int,
    data: st.DataObject,
) -> None:
    scores = random_scores(shape, seed, pruned)
    k = data.draw(st.integers(0, int((scores > GONE).sum())))
    kept = Block(rows, columns)(scores, k, seeded())
    assert np.array_equal(kept.numpy(), blocks_by_loops(scores.numpy(), rows, columns, k))
    if 2 * k > rows * columns:  # more than half a block: at most half a block off
        assert 2 * abs(int(kept.sum()) - k) <= rows * columns


@check
@given(st.sampled_from([(5, 7), (4, 3, 3, 3)]), st.integers(0, 2**20), st.integers(0, 35))
def test_blocks_of_one_weight_are_the_top_pick(shape: tuple[int, ...], seed: int, k: int) -> None:
    scores = random_scores(shape, seed)
    top = Top()(scores.flatten(), k, seeded()).view(shape)
    assert torch.equal(Block(1, 1)(scores, k, seeded()), top)


@pytest.mark.parametrize("allocate", [Global(), Layer()])
def test_rounds_of_blocks_only_shrink_and_keep_blocks_whole(allocate: Any) -> None:
    model = mlp(hidden=(30, 20))
    pruner = ScorePruner(Magnitude(), None, allocate, Block(4, 4), Exponential(iterations=4))
    found = pruner(model, full_masks(model), task(0.3))
    for mask in found.masks.values():
        for i, j in itertools.product(range(0, len(mask), 4), range(0, mask.shape[1], 4)):
            block = mask[i : i + 4, j : j + 4]
            assert block.all() or not block.any()
    share = count_kept(found.masks) / count_prunable(full_masks(model))
    assert share == pytest.approx(0.3, abs=3 * 16 / 2 / 2_720)  # half a block in three layers
    assert found.report["blocks_kept"] < found.report["blocks"]


# --- runs


def pattern(masks: Masks, n: int = 2, m: int = 4) -> bool:
    return all(set(mask.reshape(-1, m).sum(1).tolist()) == {n} for mask in masks.values())


@pytest.mark.parametrize(
    "words",
    [
        ["method=snip"],
        ["method=grasp"],
        ["method=synflow", "schedule.iterations=5"],
        ["method=random"],
        ["method=magnitude", "start=dense", "retrain=finetune"],
        ["method=imp", "retrain=rewind"],
        ["method=flow_prune", "method.rounds=80"],
        ["method=obd", "retrain=finetune"],
        ["method=sanity_check"],
    ],
    ids=lambda words: words[0],
)
def test_every_method_that_takes_a_pick_gives_the_pattern(words: list[str], tmp_path: Path) -> None:
    run = compose_run(*words, *TWO_OF_FOUR, *MLP)
    preflight(run, machine(tmp_path))
    record, artefacts = perform_run(run, machine(tmp_path))
    last = [stage.name for stage in run.stages if stage.kind == "train"][-1]
    assert record["density"] == 0.5 and pattern(artefacts[last].masks)


def test_a_run_with_blocks_records_its_density_and_its_blocks(tmp_path: Path) -> None:
    words = ["method=snip", "pick=block", "pick.rows=4", "pick.columns=8", "density=0.3", *MLP]
    record, artefacts = perform_run(compose_run(*words), machine(tmp_path))
    masks = artefacts["train"].masks
    kept = count_kept(masks)
    assert record["kept"] == kept and record["density"] == kept / record["prunable"]
    assert record["density_target"] == 0.3 and record["density"] == pytest.approx(0.3, abs=0.03)
    report = record["report"]
    assert report["allocated"] == round(0.3 * record["prunable"])
    # 16 x 64 and 10 x 16 weights in blocks of 4 x 8
    assert report["blocks"] == 4 * 8 + 3 * 2 and 0 < report["blocks_kept"] < report["blocks"]


def test_layers_that_m_does_not_divide_are_refused_before_any_work(tmp_path: Path) -> None:
    net = ["method=snip", "dataset=digits", "model=resnet20", "train.scale=0.0125", *TWO_OF_FOUR]
    with pytest.raises(ConfigError, match=r"pick.m=4 does not divide the weights of a row of conv"):
        preflight(compose_run(*net), machine(tmp_path))
    preflight(compose_run(*net, "method.pruner.dense=[first]"), machine(tmp_path))
    along = ["pick.along=channels"]
    with pytest.raises(ConfigError, match=r"divide the input channels of conv1.weight \(1\):"):
        preflight(compose_run(*net, *along), machine(tmp_path))
    preflight(compose_run(*net, *along, "method.pruner.dense=[first]"), machine(tmp_path))


def test_a_message_names_three_layers() -> None:
    shapes = {f"conv{i}": Size((4, 3, 3, 3)) for i in range(5)}
    with pytest.raises(ValueError, match=r"of conv0 \(27\), conv1 \(27\), conv2 \(27\) and 2 more"):
        NOfM().check_shapes(shapes)
    NOfM(1, 3).check_shapes(shapes)
    NOfM(1, 3, "channels").check_shapes(shapes)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["method=snip", "pick=n_m", "allocate=layer", "density=0.3"],
            "density=0.3: pick=n_m keeps 2 of 4 weights (pick.n, pick.m); take density=0.5",
        ),
        (
            ["method=snip", "pick=n_m", "density=0.5"],
            "pick=n_m keeps the same share of every layer, but allocate=global does not: add",
        ),
        (
            ["method=imp", "retrain=rewind", *TWO_OF_FOUR, "method.last_level=nearest"],
            "density=0.512: pick=n_m keeps 2 of 4 weights (pick.n, pick.m); take density=0.5",
        ),
        (
            ["method=snip", *TWO_OF_FOUR, "pick.n=5"],
            "pick.n=5 must be from 1 to pick.m=4",
        ),
        (["method=snip", *TWO_OF_FOUR, "pick.along=rows"], "pick.along='rows' must be one of row"),
        (
            ["method=snip", "pick=block", "density=0.5", "pick.rows=0"],
            "pick.rows=0 must be at least 1: a block has that many outputs",
        ),
        (
            ["method=synflow", *TWO_OF_FOUR, "method.pruner.when=final"],
            "method.pruner.when=final: pick=n_m draws nothing",
        ),
        (
            ["method=snip", *TWO_OF_FOUR, "method.overlap=16"],
            "needs pick=top: other picks do not keep the largest scores of a layer",
        ),
    ],
)
def test_what_does_not_fit_gives_one_error(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compose_run(*words, *MLP)
    assert len(caught.value.messages) == 1 and message in caught.value.messages[0]


@pytest.mark.parametrize("name", method_names())
def test_a_method_takes_a_structured_pick_or_says_why_not(name: str, tmp_path: Path) -> None:
    words = [f"method={name}", "pick=block", "density=0.5", *MLP]
    try:
        run = compose_run(*words, *needed(tmp_path, *words, density=0.5))
    except ConfigError as error:
        assert any(m.startswith("pick is not an option of method=") for m in error.messages)
    else:
        assert any(getattr(stage.component, "pick", None) == Block() for stage in run.stages)
