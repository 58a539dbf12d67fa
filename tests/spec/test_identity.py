"""Run ids and stage keys: which changes alter them, which do not, and one pinned set of keys."""

import importlib
import inspect
import json
from dataclasses import field, fields, make_dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import compose_run

from runner.spec.identity import (
    NUMERICS,
    canonical,
    digest,
    identify,
    identify_all,
    run_id,
    stage_keys,
)
from runner.spec.lr_schedule import Cosine
from runner.spec.optimizer import AdamW
from runner.spec.recipe import Recipe
from runner.spec.run import Run, Stage, Start

MLP = ["dataset=digits", "model=mlp", "train=imc", "train.scale=0.0125"]
IMC = ["method=imc", "density=0.3", "retrain=rewind", *MLP]
DENSE_START = ["method=magnitude", "density=0.3", "start=dense"]


def option(*fields: tuple[Any, ...]) -> type:
    """A version of the class tagged `option` that has these fields."""
    return make_dataclass("Option", fields, frozen=True, namespace={"tag": "option"})


def changed(before: Run, after: Run) -> set[str]:
    """Names of the stages whose keys differ."""
    old, new = stage_keys(before), stage_keys(after)
    assert old.keys() == new.keys()
    return {name for name in old if old[name] != new[name]}


def with_recipe(run: Run, **options: Any) -> Run:
    """The run with the given settings in all trainings."""
    return replace(
        run,
        stages=tuple(
            replace(s, recipe=replace(s.recipe, **options)) if s.recipe else s for s in run.stages
        ),
    )


def test_canonical_form_names_the_class_and_leaves_out_defaults() -> None:
    assert canonical(Start()) == {"class": "start"}
    assert canonical(Start("dense", epoch=10)) == {"class": "start", "stage": "dense", "epoch": 10}
    nested = canonical(Stage("prune", "prune", Start("dense"), needs=("spectrum",), density=0.5))
    assert nested == {
        "class": "stage",
        "name": "prune",
        "kind": "prune",
        "start": {"class": "start", "stage": "dense"},
        "needs": ["spectrum"],
        "density": 0.5,
    }


def test_the_value_of_a_default_factory_is_left_out() -> None:
    cls = option(("widths", list, field(default_factory=lambda: [3, 4])))
    assert digest(cls()) == digest(cls([3, 4])) == digest(option()())
    assert digest(cls([4, 3])) != digest(cls())


def test_digest_is_the_sha256_of_compact_sorted_json() -> None:
    # printf '{"a":[1,null,"x"],"b":0.5}' | sha256sum
    assert (
        digest({"b": 0.5, "a": (1.0, None, "x")})
        == "54d8abf3df00c05375facb42a1b5d3771b80f3941fb23dca24b743df6a945d64"
    )


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1.0, 1),
        (0.0, -0.0),
        ((1, 2), [1, 2]),
        ([(1.0,)], [[1]]),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
    ],
)
def test_equal_values_in_different_notation_have_the_same_digest(one: Any, other: Any) -> None:
    assert digest(one) == digest(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (True, 1),
        (False, 0),
        (False, None),
        (0, None),
        ("1", 1),
        ([], {}),
        ([], None),
        ([1, 2], [2, 1]),
        (1, 1 + 1e-15),
        ([[1], 2], [1, 2]),
    ],
)
def test_different_values_have_different_digests(one: Any, other: Any) -> None:
    assert digest(one) != digest(other)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)


def rewritten(value: Any) -> Any:
    """The same value in different notation.

    Keys are in reverse order, lists become tuples, whole floats ints, and ints floats.
    """
    if isinstance(value, dict):
        return {key: rewritten(value[key]) for key in reversed(value)}
    if isinstance(value, list):
        return tuple(rewritten(item) for item in value)
    if isinstance(value, float) and value == int(value):
        return int(value)
    return float(value) if type(value) is int else value


@settings(deadline=None, derandomize=True)
@given(JSON)
def test_the_notation_of_a_nested_value_does_not_change_its_digest(value: Any) -> None:
    assert digest(rewritten(value)) == digest(value)


@pytest.mark.parametrize("value", [{1, 2}, b"x", object(), Recipe, len, 1j])
def test_a_type_without_a_canonical_form_gives_an_error(value: Any) -> None:
    for holder in (value, [value], {"key": value}, option(("value", Any))(value)):
        with pytest.raises(TypeError, match="no canonical form"):
            digest(holder)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_numbers_without_a_json_form_give_an_error(value: float) -> None:
    for holder in (value, option(("value", float))(value)):
        with pytest.raises(ValueError, match="JSON compliant"):
            digest(holder)


def test_a_new_field_with_a_default_changes_no_digest_until_it_is_set() -> None:
    old = option(("rule", str), ("p", float, 2.0))
    new = option(
        ("rule", str), ("p", float, 2.0), ("clip", float | None, None), ("nested", Start, Start())
    )
    assert digest(old("gap")) == digest(new("gap"))
    assert digest(old("gap", 1.0)) == digest(new("gap", 1.0))
    assert digest(new("gap", clip=0.5)) != digest(new("gap"))
    assert digest(new("gap", nested=Start("dense"))) != digest(new("gap"))
    assert digest([old("gap")]) == digest([new("gap")])  # inside other values, too


def test_the_same_fields_under_another_tag_have_another_digest() -> None:
    other = make_dataclass("Option", [("p", float, 2.0)], frozen=True, namespace={"tag": "other"})
    assert digest(option(("p", float, 2.0))()) != digest(other())


def test_a_class_without_a_tag_of_its_own_gives_an_error() -> None:
    parent = option(("p", float, 2.0))
    # with an inherited tag it could not be distinguished from its parent
    child = make_dataclass("Child", [], bases=(parent,), frozen=True)
    for cls in (make_dataclass("Option", [], frozen=True), child):
        with pytest.raises(TypeError, match=r"has no canonical form: declare tag: ClassVar\[str\]"):
            digest(cls())


def test_moving_and_renaming_a_class_changes_no_identity(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = compose_run(*IMC)
    prune = run.stage("prune")
    cls = type(prune.component)
    source = Path(inspect.getfile(cls)).read_text().replace(f"class {cls.__name__}", "class Moved")
    (tmp_path / "elsewhere.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    moved = importlib.import_module("elsewhere").Moved
    assert (
        (moved.__module__, moved.__qualname__)
        == ("elsewhere", "Moved")
        != (cls.__module__, cls.__qualname__)
    )
    component = moved(**{f.name: getattr(prune.component, f.name) for f in fields(cls)})
    after = replace(
        run, stages=tuple(replace(s, component=component) if s is prune else s for s in run.stages)
    )
    assert identify(after) == identify(run)


def test_identify_all_gives_the_identity_of_each_run() -> None:
    run = compose_run(*IMC)
    runs = [replace(run, seed=seed) for seed in range(3)]
    assert identify_all(runs) == [identify(compose_run(*IMC, f"seed={seed}")) for seed in range(3)]
    assert len({identity.run_id for identity in identify_all(runs)}) == 3


def test_defaults_are_recognised_in_any_notation_and_booleans_are_not_numbers() -> None:
    cls = option(("p", float, 1.0), ("widths", tuple, (1, 2)))
    # 1 and 1.0 are the same setting, also as a default
    assert digest(cls(1)) == digest(cls(1.0))
    assert digest(cls(widths=[1, 2])) == digest(cls(widths=(1, 2)))
    assert digest(cls(True)) != digest(cls(1.0))
    assert digest(cls(widths=(True, 2))) != digest(cls(widths=(1, 2)))


CHANGES = {  # override -> the stages of IMC with rewinding whose keys change
    "seed=1": {"wstar", "lipschitz", "spectrum", "prune", "train"},
    "train_fraction=0.5": {"wstar", "lipschitz", "spectrum", "prune", "train"},
    "dataset.validation=0.1": {"wstar", "lipschitz", "spectrum", "prune", "train"},
    "model.hidden=[300,301]": {"wstar", "lipschitz", "spectrum", "prune", "train"},
    "train.momentum=0.8": {"wstar", "lipschitz", "spectrum", "prune", "train"},
    "method.wstar.lr_schedule=step": {"wstar", "lipschitz", "spectrum", "prune", "train"},
    "method.lipschitz.p=1": {"lipschitz", "spectrum", "prune", "train"},
    "method.spectrum.probes=9": {"spectrum", "prune", "train"},
    "density=0.31": {"prune", "train"},  # one smoothed spectrum serves every density
    "method.mask.scope=layer": {"prune", "train"},
    "retrain=reinit": {"train"},
    "retrain=finetune": {"train"},
}


@pytest.mark.parametrize("change", CHANGES)
def test_an_option_changes_the_keys_of_its_stage_and_of_all_descendants(change: str) -> None:
    base = compose_run(*IMC)
    overrides = [w for w in IMC if w.partition("=")[0] != change.partition("=")[0]]
    after = compose_run(*overrides, change)
    assert changed(base, after) == CHANGES[change]
    assert run_id(after) != run_id(base)


def test_writing_out_a_default_does_not_change_the_identity() -> None:
    base = compose_run(*IMC)
    written = compose_run(
        *IMC,
        "train_fraction=1",
        "dataset.size=null",
        "train.weight_decay=0.0005",
        "method.lipschitz.p=2",
        "model.init=fan_in",
        "seed=0",
    )
    assert (run_id(written), stage_keys(written)) == (run_id(base), stage_keys(base))


def test_the_key_of_a_masked_stage_depends_on_the_key_of_its_mask() -> None:
    run = compose_run(*DENSE_START, *MLP)
    other = replace(
        run, stages=tuple(replace(s, density=0.4) if s.name == "prune" else s for s in run.stages)
    )
    # the description of `train` itself is the same
    assert changed(run, other) == {"prune", "train"}


def test_every_setting_of_a_recipe_changes_the_key() -> None:
    run = compose_run("method=dense", *MLP)
    (recipe,) = (stage.recipe for stage in run.stages)
    others = {
        "epochs": 3,
        "lr": 0.2,
        "batch_size": 50,
        "momentum": 0.8,
        "weight_decay": 0.0,
        "lr_schedule": Cosine(),
        "optimizer": AdamW(),
        "precision": "bf16",
        "first_epoch": 1,
    }
    others |= {
        "last_epoch": 1,
        "warmup": 0.5,
        "nesterov": True,
        "trainable_decay": 0.0,
        "test_every": 2,
    }
    assert set(others) == set(vars(recipe))
    keys = {
        stage_keys(with_recipe(run, **{name: value}))["dense"] for name, value in others.items()
    }
    assert len(keys | set(stage_keys(run).values())) == 1 + len(others)


RAISED = {  # kind -> the stages of IMC with rewinding of this kind, and their descendants
    "train": {"wstar", "lipschitz", "spectrum", "prune", "train"},
    "measure": {"lipschitz", "spectrum", "prune", "train"},
    "prune": {"prune", "train"},
    "search": set[str](),
}


@pytest.mark.parametrize("kind", RAISED)
def test_raising_the_numerics_of_a_kind_changes_its_stages_and_their_descendants(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = compose_run(*IMC)
    keys, identity = stage_keys(run), run_id(run)
    monkeypatch.setitem(NUMERICS, kind, NUMERICS[kind] + 1)
    assert {name for name, key in stage_keys(run).items() if key != keys[name]} == RAISED[kind]
    assert (run_id(run) != identity) == bool(RAISED[kind])


def test_label_epoch_column_and_logger_do_not_change_the_identity() -> None:
    run = compose_run(*IMC)
    renamed = replace(run, label="IMC, our reading", epoch_column=("wstar", "train"))
    logged = compose_run(*IMC, "logger=wandb", "logger.project=another")
    for other in (renamed, logged):
        assert (run_id(other), stage_keys(other)) == (run_id(run), stage_keys(run))


def test_the_order_of_overrides_does_not_change_the_identity() -> None:
    assert run_id(compose_run(*reversed(IMC))) == run_id(compose_run(*IMC))


def test_methods_share_equal_stages() -> None:
    alone = stage_keys(compose_run("method=dense", *MLP))
    pruned = [
        stage_keys(compose_run(*DENSE_START, *MLP, f"retrain={how}"))
        for how in ("rewind", "reinit", "finetune")
    ]
    assert {keys["dense"] for keys in pruned} == {alone["dense"]}
    assert len({keys["prune"] for keys in pruned}) == 1
    assert len({keys["train"] for keys in pruned}) == 3
    imc = [stage_keys(compose_run(*IMC, f"density={density}")) for density in (0.3, 0.6)]
    assert imc[0]["wstar"] == imc[1]["wstar"] and imc[0]["lipschitz"] == imc[1]["lipschitz"]


def test_a_portrait_measures_wstar_as_imc_does_unless_told_otherwise() -> None:
    imc = compose_run(*IMC)
    k = compose_run("method=wstar", "portrait=lipschitz", *MLP)
    assert stage_keys(k)["lipschitz"] == stage_keys(imc)["lipschitz"]
    ritz = compose_run("method=wstar", "portrait=ritz", *MLP).stage("portrait").component
    spectrum = imc.stage("spectrum").component
    assert ritz.hessian == spectrum.hessian  # type: ignore[union-attr]


def test_equal_durations_in_different_notation_give_the_same_stage() -> None:
    scaled = compose_run("method=dense", *MLP, "train.epochs=100", "train.scale=0.02")
    written = compose_run("method=dense", *MLP, "train.epochs=2", "train.scale=1")
    assert stage_keys(scaled) == stage_keys(written)  # two epochs are two epochs
    # the runs differ, because one record contains the scale of a hundred epochs
    assert run_id(scaled) != run_id(written)


@pytest.mark.parametrize(
    ("overrides", "prefix"),
    [
        (["method=dense"], "dense-mlp-digits-d1-s0-"),
        (["method=dense", "seed=12"], "dense-mlp-digits-d1-s12-"),
        (["method=imc"], "imc-mlp-digits-found-s0-"),
        (["method=snip", "density=0.05"], "snip-mlp-digits-d0.05-s0-"),
    ],
)
def test_a_run_id_begins_with_method_model_data_density_and_seed(
    overrides: list[str], prefix: str
) -> None:
    identity = run_id(compose_run(*MLP, *overrides))
    assert identity.startswith(prefix)
    assert len(identity) == len(prefix) + 12 and int(identity[len(prefix) :], 16) >= 0


# IMC's default settings until version 0.2.0, which part of the published records have
BEFORE_0_2_0 = (
    "method.hessian.n_samples=512",
    "method.spectrum.steps=50",
    "method.spectrum.probes=10",
    "method.spectrum.deflated_steps=null",
    "method.lipschitz.directions=8",
    "method.mask.shrinkage=none",
)

# If this test fails, the new code finds none of the published records and cached stages. If the
# change alters numbers, raise NUMERICS of that kind of stage deliberately and update these
# constants. If it does not, restore the old canonical form (a new option requires a default without
# effect).
PINNED = {
    ("method=dense",): (
        "dense-mlp-digits-d1-s0-085b625a4d50",
        {
            "dense": "bb9eee03939c9ec298f132130ebc6d0a",
        },
    ),
    ("method=imc", "density=0.3", "retrain=rewind"): (
        "imc-mlp-digits-d0.3-s0-122db768bdd2",
        {
            "wstar": "6b2753f230b168e26d53e54c0bed8ba2",
            "lipschitz": "cefa32e8bb64710cb4163b089a4810f6",
            "spectrum": "2a0614dfccd4166140f0f1b029370624",
            "prune": "cea9a06170ebe5502f6baa09e4eacc70",
            "train": "62a4bb71b6f6e3cb64b208f7d1201306",
        },
    ),
    (
        "method=imc",
        "density=0.3",
        "retrain=rewind",
        *BEFORE_0_2_0,
    ): (
        "imc-mlp-digits-d0.3-s0-bc0c0dc0d84c",
        {
            "wstar": "6b2753f230b168e26d53e54c0bed8ba2",
            "lipschitz": "bf6072d52449901d9d7d623ffd480b20",
            "spectrum": "c3aca6608d7e9ddca58aab88dd7683ad",
            "prune": "7573daee37d1271546979771c4149659",
            "train": "b777ed22667b26e603f32ef1507ab77d",
        },
    ),
}


@pytest.mark.parametrize("overrides", PINNED, ids=lambda overrides: overrides[0])
def test_identities_equal_the_pinned_ones(overrides: tuple[str, ...]) -> None:
    run = compose_run(*overrides, *MLP)
    identity, keys = PINNED[overrides]
    assert stage_keys(run) == keys
    assert run_id(run) == identity


def test_the_canonical_form_of_a_run_can_be_stored_as_json() -> None:
    run = compose_run(*IMC)
    assert json.loads(json.dumps(canonical(run))) == canonical(run)
