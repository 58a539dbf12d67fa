"""References are replaced once, and the origins contain the key that sets each value."""

from typing import Any

import pytest
from support import COMPOSER

from runner.config.build import build_plain, build_seeds
from runner.config.check import OPTION_GROUPS
from runner.config.compose import method_names
from runner.config.interpolation import resolve
from runner.errors import ConfigError
from runner.spec.identity import identify

RAW: dict[str, Any] = {
    "seed": 3,
    "source": {"_target_": "normal", "batch_size": "${train.batch_size}"},
    "train": {"batch_size": 7},
    "method": {
        "score": {"batches": 2, "seeded": "${seed}"},
        "pruner": {"score": "${method.score}", "source": "${source}"},
        "label": "run ${seed} of ${train.batch_size}",
        "stages": ["${start.before}", {"name": "prune", "pruner": "${method.pruner}"}],
    },
    "start": {"before": [{"name": "dense", "epochs": "${start.epochs}"}], "epochs": "10ep"},
    "env": {"threads": "${nowhere}"},
}


def test_all_references_are_replaced_and_env_is_left_out() -> None:
    values = resolve(RAW).values
    score, source = {"batches": 2, "seeded": 3}, {"_target_": "normal", "batch_size": 7}
    assert values["method"] == {
        "score": score,
        "pruner": {"score": score, "source": source},
        "label": "run 3 of 7",
        "stages": [
            [{"name": "dense", "epochs": "10ep"}],
            {"name": "prune", "pruner": {"score": score, "source": source}},
        ],
    }
    assert values["source"] == source and "env" not in values


@pytest.mark.parametrize(
    ("path", "key"),
    [
        # two references along the path
        ("method.stages.1.pruner.score.batches", "method.score.batches"),
        # a reference along the path and one at its end
        ("method.stages.1.pruner.source.batch_size", "train.batch_size"),
        # through a list with a reference
        ("method.stages.0.0.epochs", "start.epochs"),
        ("method.stages.1.name", "method.stages.1.name"),
        ("method.label", "method.label"),  # a text with references is set at its own key
        ("train.batch_size", "train.batch_size"),
    ],
)
def test_origins_give_the_key_that_sets_a_value(path: str, key: str) -> None:
    assert resolve(RAW).origins.key(path) == key


def test_origins_give_the_groups_that_a_part_of_the_configuration_reads() -> None:
    origins = resolve(RAW).origins
    assert origins.groups_read("method") == {"method", "source", "start", "seed", "train"}
    assert origins.groups_read("method.pruner") == {"method", "source"}
    assert origins.groups_read("train") == set()


def test_a_value_with_several_references_is_one_object() -> None:
    method = resolve(RAW).values["method"]
    assert method["pruner"]["score"] is method["score"] is method["stages"][1]["pruner"]["score"]


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"a": "${b}", "b": "${a}"}, "refers to itself: a -> b -> a"),
        ({"a": {"b": "${a}"}}, "refers to itself: a.b -> a.b"),
        (
            {"a": {"name": "x", "b": "${method.score}"}, "method": {"name": "dense"}},
            r"^a=x reads method.score, which method=dense does not have; .*snip",
        ),
    ],
)
def test_circular_and_dangling_references_give_an_error(raw: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve(raw)


@pytest.mark.parametrize("name", method_names())
def test_every_method_declares_the_option_groups_that_it_refers_to(name: str) -> None:
    resolved = resolve(COMPOSER.plain([f"method={name}"]))
    assert set(resolved.values["method"]["uses"]) == resolved.origins.groups_read("method") & set(
        OPTION_GROUPS
    )


@pytest.mark.parametrize(
    ("uses", "message"),
    [
        (
            ["source", "allocate", "pick", "schedule", "start"],
            "^method.uses of method=snip lacks retrain, which the method refers to: add it$",
        ),
        (
            ["source", "allocate", "pick", "schedule", "start", "retrain", "scores"],
            "^method.uses of method=snip has scores, which the method does not",
        ),
    ],
)
def test_a_missing_or_superfluous_group_in_uses_gives_an_error(
    uses: list[str], message: str
) -> None:
    raw = COMPOSER.plain(["method=snip", "density=0.1"])
    with pytest.raises(ConfigError, match=message):
        build_plain({**raw, "method": {**raw["method"], "uses": uses}})


@pytest.mark.parametrize(
    "overrides", [["method=snip", "density=0.1"], ["method=dense", "train.batch_size=${seed}"]]
)
def test_runs_built_for_several_seeds_equal_those_built_separately(overrides: list[str]) -> None:
    raw = COMPOSER.plain(overrides)
    alone = [identify(build_plain({**raw, "seed": seed})) for seed in (4, 5)]
    assert [identify(run) for run in build_seeds(raw, (4, 5))] == alone and alone[0] != alone[1]


CHOSEN: dict[str, Any] = {
    "method": {
        "measure": "loss",
        "measures": {"loss": {"score": {"batches": "${train.batch_size}"}}, "size": {"score": 4}},
        "score": "${method.measures.${method.measure}.score}",
        "pruner": {"score": "${method.score}", "all": "${method.measures.${method.measure}}"},
    },
    "train": {"batch_size": 7},
}


def test_another_value_can_choose_a_word_of_a_reference() -> None:
    resolved = resolve(CHOSEN)
    assert resolved.values["method"]["pruner"] == {
        "score": {"batches": 7},
        "all": {"score": {"batches": 7}},
    }
    assert resolved.origins.key("method.pruner.score.batches") == "train.batch_size"
    assert resolved.origins.key("method.pruner.all.score") == "method.measures.loss.score"
    other = {**CHOSEN, "method": {**CHOSEN["method"], "measure": "size"}}
    assert resolve(other).values["method"]["pruner"]["score"] == 4


def test_an_unknown_choice_is_refused_with_the_choices() -> None:
    for measure, hint in (("los", "; did you mean 'loss'"), ([1], ""), (None, ""), ({}, "")):
        wrong = {**CHOSEN, "method": {**CHOSEN["method"], "measure": measure}}
        with pytest.raises(ConfigError) as caught:
            resolve(wrong)
        assert f"method.measure={measure} must be one of loss, size{hint}" in str(caught.value)
