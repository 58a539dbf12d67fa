"""References in a configuration are replaced once, and the origins name the key that sets each
value."""

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


def test_every_reference_is_replaced_and_the_machine_is_left_out() -> None:
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
    ("place", "key"),
    [
        # two references on the way
        ("method.stages.1.pruner.score.batches", "method.score.batches"),
        # the last one at the end of it
        ("method.stages.1.pruner.source.batch_size", "train.batch_size"),
        # through a list that was composed from shared parts
        ("method.stages.0.0.epochs", "start.epochs"),
        ("method.stages.1.name", "method.stages.1.name"),
        ("method.label", "method.label"),  # a text with references is set where it stands
        ("train.batch_size", "train.batch_size"),
    ],
)
def test_origins_name_the_key_that_a_user_sets(place: str, key: str) -> None:
    assert resolve(RAW).origins.key(place) == key


def test_origins_say_which_groups_a_part_of_the_configuration_reads() -> None:
    origins = resolve(RAW).origins
    assert origins.groups_read("method") == {"method", "source", "start", "seed", "train"}
    assert origins.groups_read("method.pruner") == {"method", "source"}
    assert origins.groups_read("train") == set()


def test_a_value_that_several_places_refer_to_is_one_object() -> None:
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
def test_circles_and_references_to_nothing_are_refused(raw: dict[str, Any], message: str) -> None:
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
def test_a_method_that_declares_too_little_or_too_much_is_refused(
    uses: list[str], message: str
) -> None:
    raw = COMPOSER.plain(["method=snip", "density=0.1"])
    with pytest.raises(ConfigError, match=message):
        build_plain({**raw, "method": {**raw["method"], "uses": uses}})


@pytest.mark.parametrize(
    "words", [["method=snip", "density=0.1"], ["method=dense", "train.batch_size=${seed}"]]
)
def test_the_runs_of_several_seeds_are_those_of_each_alone(words: list[str]) -> None:
    raw = COMPOSER.plain(words)
    alone = [identify(build_plain({**raw, "seed": seed})) for seed in (4, 5)]
    assert [identify(run) for run in build_seeds(raw, (4, 5))] == alone and alone[0] != alone[1]
