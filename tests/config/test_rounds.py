"""Repeated stages expand as written by hand, and lower densities continue the same chain."""

from typing import Any

import pytest
from support import compose_run

from runner.config.repeat import expand_rounds, placed
from runner.config.typed import same
from runner.errors import ConfigError
from runner.spec.identity import stage_keys
from runner.spec.run import Start, family, rounds_of

LEVELS = {"_target_": "levels", "keep": 0.5}
MLP = ["dataset=digits", "model=mlp"]


def expand(
    items: list[Any], density: float | None = 0.2, scale: float = 1.0
) -> list[dict[str, Any]]:
    return [
        stage.node
        for stage in expand_rounds(list(placed(items, "method.stages")), density, scale, same)
    ]


def test_stages_without_repeat_are_unchanged() -> None:
    items = [
        {"name": "a", "kind": "train"},
        {
            "name": "b",
            "kind": "prune",
            "start": {"from": "a"},
            "needs": ["a", "init"],
            "masks": "a",
        },
    ]
    assert expand(items) == items


def test_a_repeated_group_expands_to_the_stages_written_by_hand() -> None:
    items = [
        {"name": "dense", "kind": "train"},
        {
            "repeat": LEVELS,
            "stages": [
                {"name": "prune", "kind": "prune", "start": {"from": "previous"}},
                {
                    "name": "train",
                    "kind": "train",
                    "masks": "prune",
                    "needs": ["train", "dense"],
                    "start": {"from": "dense", "rewind": "10ep"},
                    "data": "noise",
                },
            ],
            "last": {"train": {"data": None}},
        },
        {
            "name": "end",
            "kind": "measure",
            "start": {"from": "train"},
            "masks": "prune",
            "needs": ["dense"],
        },
    ]
    rewind = {"from": "dense", "rewind": "10ep"}
    # The levels are 0.5, 0.25 and the exact density, 0.2. In `needs` of `train`, its own name is
    # the previous round. The first round has none, so that the name is unchanged.
    assert expand(items) == [
        {"name": "dense", "kind": "train"},
        {"name": "prune1", "kind": "prune", "start": {"from": "dense"}, "density": 0.5, "round": 1},
        {
            "name": "train1",
            "kind": "train",
            "masks": "prune1",
            "needs": ["train", "dense"],
            "start": rewind,
            "data": "noise",
            "density": 0.5,
            "round": 1,
        },
        {
            "name": "prune2",
            "kind": "prune",
            "start": {"from": "train1"},
            "density": 0.25,
            "round": 2,
        },
        {
            "name": "train2",
            "kind": "train",
            "masks": "prune2",
            "needs": ["train1", "dense"],
            "start": rewind,
            "data": "noise",
            "density": 0.25,
            "round": 2,
        },
        {
            "name": "prune3",
            "kind": "prune",
            "start": {"from": "train2"},
            "density": 0.2,
            "round": 3,
        },
        {
            "name": "train3",
            "kind": "train",
            "masks": "prune3",
            "needs": ["train2", "dense"],
            "start": rewind,
            "data": None,
            "density": 0.2,
            "round": 3,
        },
        {
            "name": "end",
            "kind": "measure",
            "start": {"from": "train3"},
            "masks": "prune3",
            "needs": ["dense"],
        },
    ]


def test_previous_refers_to_the_preceding_stage_or_to_init() -> None:
    group = {
        "repeat": LEVELS,
        "stages": [
            {"name": "flow", "start": {"from": "previous"}},
            {"name": "prune", "start": {"from": "previous"}},
        ],
    }
    nodes = expand([group, {"name": "train", "start": {"from": "previous"}}], density=0.5)
    assert [(node["name"], node["start"]["from"]) for node in nodes] == [
        ("flow1", "init"),
        ("prune1", "flow1"),
        ("train", "prune1"),
    ]


def test_a_single_round_is_the_last_one() -> None:
    (node,) = expand(
        [
            {
                "repeat": LEVELS,
                "stages": [{"name": "train", "data": "noise"}],
                "last": {"train": {"data": None}},
            }
        ],
        density=0.5,
    )
    assert node == {"name": "train1", "data": None, "density": 0.5, "round": 1}


def test_a_group_refers_to_the_last_round_of_another_group() -> None:
    first = {"repeat": LEVELS, "stages": [{"name": "a", "start": {"from": "previous"}}]}
    second = {
        "repeat": {"_target_": "front_loaded", "rounds": 2},
        "stages": [{"name": "b", "masks": "a", "start": {"from": "b"}}],
    }
    nodes = expand([first, second], density=0.25)
    assert [(n["name"], n["start"]["from"], n.get("masks")) for n in nodes] == [
        ("a1", "init", None),
        ("a2", "a1", None),
        ("b1", "b", "a2"),
        ("b2", "b1", "a2"),
    ]


# 4.69 -> 5, 0.25 -> at least 1
@pytest.mark.parametrize(
    ("rounds", "scale", "expected"), [(25, 1.0, 25), (25, 0.1875, 5), (25, 0.01, 1), (4, 0.5, 2)]
)
def test_the_number_of_rounds_is_scaled_like_a_duration(
    rounds: int, scale: float, expected: int
) -> None:
    group = {
        "repeat": {"_target_": "front_loaded", "rounds": rounds},
        "stages": [{"name": "prune"}],
    }
    nodes = expand([group], density=0.4, scale=scale)
    assert [node["name"] for node in nodes] == [f"prune{k}" for k in range(1, expected + 1)]
    assert [node["density"] for node in nodes] == pytest.approx(
        [expected * 0.4 / (expected * 0.4 + k * 0.6) for k in range(1, expected + 1)], rel=1e-12
    )


def test_levels_are_not_scaled() -> None:
    assert len(expand([{"repeat": LEVELS, "stages": [{"name": "prune"}]}], scale=0.01)) == 3


def test_rounds_without_a_density_give_an_error() -> None:
    with pytest.raises(
        ConfigError,
        match="density is missing: rounds of pruning end at the density that you give",
    ):
        expand([{"repeat": LEVELS, "stages": [{"name": "prune"}]}], density=None)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["method=imp"], "density is missing"),
        (["method=flow_prune"], "density is missing"),
        (
            ["method=imp", "density=0.5", "method.keep=1.0"],
            "^method.keep=1 must be between 0 and 1",
        ),
        (["method=imp", "density=0.5", "method.keep=most"], "^method.keep='most' must be a number"),
        (
            ["method=imp", "density=0.5", "method.last_level=closest"],
            "^method.last_level='closest' must be one of exact, nearest",
        ),
        (
            ["method=flow_prune", "density=0.5", "method.rounds=0"],
            "^method.rounds=0 must be at least 1",
        ),
        (
            ["method=flow_prune", "density=0.5", "method.rounds=2.5"],
            "^method.rounds=2.5 must be a whole number",
        ),
        (
            ["method=flow_prune", "density=0.5", "method.rounds=many"],
            "^method.rounds='many' must be a whole number",
        ),
        (
            ["method=flow_prune", "density=0.5", "method.rounds=161", "train=imc"],
            "begins after 160 epochs of a training of 160: take fewer rounds",
        ),
        (
            ["method=flow_prune", "density=0.5", "method.rounds=160", "train=imc"],
            "stage 'train' begins after 160 epochs of a training of 160: take fewer rounds",
        ),
        (
            ["method=imp", "density=0.5", "retrain.rewind=200ep"],
            "^retrain.rewind=200ep is after the end of stage 'dense', which trains 160 epochs",
        ),
        (
            ["method=imp", "density=0.5", "retrain.rewind=2.5ep"],
            "^retrain.rewind='2.5ep' is not a point in training",
        ),
        (
            [
                "method=imp",
                "density=0.5",
                "retrain.resume_schedule=true",
                "retrain.rewind=160ep",
                "train=imc",
            ],
            "begins after 160 epochs of a training of 160",
        ),
        (
            ["method=imp", "density=0.5", "start=dense"],
            "^start=dense: method=imp trains before it prunes",
        ),
        (
            ["method=imp", "density=0.5", "schedule=once"],
            "^schedule is not an option of method=imp",
        ),
        (
            ["method=flow_prune", "density=0.5", "retrain=rewind"],
            "^retrain is not an option of method=flow_prune",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_errors_contain_the_keys_that_a_user_sets(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compose_run(*MLP, *overrides)
    assert len(caught.value.messages) == 1
    assert caught.match(message)


def test_rounds_of_returns_all_rounds_of_a_stage() -> None:
    names = ["dense", "prune1", "train1", "prune12", "train12", "trainer", "end"]
    assert rounds_of("train", names) == ["train1", "train12"]
    assert rounds_of("dense", names) == ["dense"]
    assert rounds_of("tra", names) == []
    assert [family(name) for name in names] == [
        "dense",
        "prune",
        "train",
        "prune",
        "train",
        "trainer",
        "end",
    ]


# --- chains


@pytest.mark.parametrize("retrain", ["rewind", "reinit", "finetune", "lr_rewind"])
def test_the_stages_of_a_density_are_a_prefix_of_those_of_a_lower_density(retrain: str) -> None:
    higher, lower = (
        compose_run("method=imp", f"density={density}", f"retrain={retrain}", *MLP)
        for density in (0.64, 0.4)
    )
    one, other = list(stage_keys(higher).values()), list(stage_keys(lower).values())
    assert [stage.name for stage in higher.stages] == [
        "dense",
        "prune1",
        "train1",
        "prune2",
        "train2",
    ]
    assert one == other[: len(one)] and len(other) == len(one) + 6  # 0.512, 0.4096, 0.4


def test_an_exact_last_level_is_outside_the_chain_and_the_nearest_level_inside() -> None:
    chain = list(stage_keys(compose_run("method=imp", "density=0.512", *MLP)).values())
    exact = list(stage_keys(compose_run("method=imp", "density=0.55", *MLP)).values())
    nearest = compose_run("method=imp", "density=0.55", "method.last_level=nearest", *MLP)
    assert exact[:5] == chain[:5] and exact[5] != chain[5] and len(exact) == len(chain) == 7
    assert list(stage_keys(nearest).values()) == chain  # 0.512 is the nearest level to 0.55
    assert nearest.density == 0.55 and nearest.stages[-2].density == 0.512


def test_other_options_give_another_chain_from_the_same_dense_net() -> None:
    base = compose_run("method=imp", "density=0.4", *MLP)
    for overrides in (
        ["method.keep=0.9"],
        ["retrain=reinit"],
        ["retrain=finetune"],
        ["retrain.rewind=5ep"],
        ["retrain.resume_schedule=true"],
    ):
        other = compose_run("method=imp", "density=0.4", *MLP, *overrides)
        mine, theirs = stage_keys(base), stage_keys(other)
        assert mine["dense"] == theirs["dense"] and mine["train1"] != theirs["train1"], overrides
        assert (mine["prune1"] == theirs["prune1"]) == (overrides != ["method.keep=0.9"])
    assert (
        stage_keys(compose_run("method=imp", "density=0.4", "seed=1", *MLP))["dense"]
        != stage_keys(base)["dense"]
    )


def test_the_variant_selects_the_start_of_the_stages_of_a_level() -> None:
    for retrain, start in (
        ("rewind", Start("dense", epoch=10)),
        ("reinit", Start("reinit")),
        ("finetune", Start("prune2")),
    ):
        run = compose_run("method=imp", "density=0.64", f"retrain={retrain}", "train=imc", *MLP)
        train = run.stage("train2")
        assert (train.start, train.masks, train.density) == (start, "prune2", None)
        assert (run.stage("prune2").start, run.stage("prune2").density) == (Start("train1"), 0.64)
