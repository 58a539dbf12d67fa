"""Overrides become a run: composition, stages and durations, and errors for invalid values."""

import re
import subprocess
import sys
from dataclasses import fields
from typing import Any

import pytest
import yaml
from conftest import ROOT, environment
from omegaconf import DictConfig, OmegaConf
from support import compose_run

from models.mlp import Mlp
from pruners.curvature.imc import Imc
from pruners.curvature.lipschitz import Lipschitz
from pruners.curvature.spectrum import Spectrum
from pruners.scores.magnitude import Magnitude
from pruners.selection.score_pruner import ScorePruner
from runner.config.build import build_run
from runner.config.compose import compose_config
from runner.config.instantiate import construct
from runner.config.schema import Config, EnvConfig, TrainConfig
from runner.config.stage_node import StageNode
from runner.data.digits import Digits
from runner.errors import ConfigError
from runner.paths import CONF
from runner.spec.durations import epochs_of, scaled
from runner.spec.lr_schedule import Constant, Cosine, Step
from runner.spec.recipe import Recipe
from runner.spec.run import Run, Stage, Start

PAPER = ["dataset=digits", "model=mlp", "train=imc"]
IMC = ["method=imc", *PAPER]
MAGNITUDE = ["method=magnitude", "density=0.1", *PAPER]


def shape(run: Run) -> list[tuple[str, str, tuple[str, ...], int]]:
    """Name, kind, parents and trained epochs of every stage."""
    return [
        (s.name, s.kind, s.parents, s.recipe.trained_epochs if s.recipe else 0) for s in run.stages
    ]


def config(*overrides: str) -> DictConfig:
    cfg = compose_config(list(overrides))
    OmegaConf.set_struct(cfg, False)
    return cfg


def errors_of(cfg: DictConfig) -> list[str]:
    """The error messages of an invalid configuration."""
    with pytest.raises(ConfigError) as caught:
        build_run(cfg)
    return caught.value.messages


def test_a_dense_run_is_one_training_with_the_settings_of_the_paper() -> None:
    run = compose_run("method=dense", *PAPER, "seed=7", "train_fraction=0.5")
    # IMC appendix A.4 and Table 16; docs/decisions.md 8
    recipe = Recipe(
        epochs=160,
        lr=0.1,
        batch_size=100,
        momentum=0.9,
        weight_decay=5e-4,
        lr_schedule=Step(),
        precision="fp32",
        first_epoch=0,
    )
    assert run == Run(
        method="dense",
        label="Baseline",
        dataset=Digits(),
        model=Mlp("mlp"),
        seed=7,
        stages=(Stage("dense", "train", recipe=recipe),),
        train_fraction=0.5,
        epoch_column=("dense",),
    )


def test_training_settings_apply_to_all_trainings_without_settings_of_their_own() -> None:
    values = {
        "epochs": 12,
        "lr": 0.2,
        "batch_size": 32,
        "momentum": 0.5,
        "weight_decay": 0.001,
        "lr_schedule": "cosine",
        "precision": "bf16",
    }
    expected = Recipe(**{**values, "lr_schedule": Cosine()})
    run = compose_run(
        *MAGNITUDE,
        "start=dense",
        "retrain=reinit",
        *(f"train.{key}={value}" for key, value in values.items()),
    )
    assert [s.recipe for s in run.stages] == [expected, None, expected]
    short = compose_run(*IMC, "train.lr_schedule=cosine")
    # W* has a schedule of its own
    assert [s.recipe.lr_schedule for s in short.stages if s.recipe] == [Constant(), Cosine()]


def test_a_score_method_prunes_the_initial_weights_and_trains_the_rest() -> None:
    run = compose_run(*MAGNITUDE)
    assert shape(run) == [("prune", "prune", (), 0), ("train", "train", ("prune",), 160)]
    prune, train = run.stages
    assert (prune.start, prune.density, prune.masks, prune.recipe) == (
        Start("init"),
        0.1,
        None,
        None,
    )
    assert isinstance(prune.component, ScorePruner) and prune.component.score == Magnitude()
    assert (train.start, train.density, train.masks, train.component) == (
        Start("init"),
        None,
        "prune",
        None,
    )
    assert (run.method, run.label, run.density, run.epoch_column) == (
        "magnitude",
        "Magnitude",
        0.1,
        ("train",),
    )


RETRAIN = {  # overrides -> start of the last training, its first epoch, its learning rate
    ("retrain=rewind",): (Start("dense", epoch=10), 0, 0.1),
    ("retrain=rewind", "retrain.rewind=3ep"): (Start("dense", epoch=3), 0, 0.1),
    ("retrain=rewind", "retrain.rewind=0ep"): (Start("dense", epoch=0), 0, 0.1),
    # the end of the stage requires no snapshot
    ("retrain=rewind", "retrain.rewind=160ep"): (Start("dense"), 0, 0.1),
    ("retrain=reinit",): (Start("reinit"), 0, 0.1),
    # 160 epochs from lr 0.01: docs/decisions.md 12
    ("retrain=finetune",): (Start("dense"), 0, 0.01),
}


@pytest.mark.parametrize("overrides", RETRAIN)
def test_retrain_selects_the_weights_that_retraining_starts_from(
    overrides: tuple[str, ...],
) -> None:
    run = compose_run(*MAGNITUDE, "start=dense", *overrides)
    start, first, lr = RETRAIN[overrides]
    after = ("prune",) if start.stage == "reinit" else ("dense", "prune")
    assert shape(run) == [
        ("dense", "train", (), 160),
        ("prune", "prune", ("dense",), 0),
        ("train", "train", after, 160),
    ]
    train = run.stage("train")
    assert train.recipe is not None
    assert (train.start, train.recipe.first_epoch, train.recipe.lr) == (
        start,
        first,
        pytest.approx(lr, rel=1e-12),
    )


def test_start_dense_rewinds_to_the_epoch_of_the_paper_by_default() -> None:
    assert compose_run(*MAGNITUDE, "start=dense") == compose_run(
        *MAGNITUDE, "start=dense", "retrain=rewind", "retrain.rewind=10ep"
    )


@pytest.mark.parametrize(
    ("retrain", "parents", "start", "first"),
    [
        ("rewind", ("wstar", "prune"), Start("wstar"), 0),
        ("reinit", ("prune",), Start("reinit"), 0),
        # continues in the schedule of the paper: docs/decisions.md 13
        ("finetune", ("wstar", "prune"), Start("wstar", resume=True), 10),
    ],
)
def test_imc_measures_wstar_and_retrains(
    retrain: str, parents: tuple[str, ...], start: Start, first: int
) -> None:
    run = compose_run(*IMC, f"retrain={retrain}")
    assert shape(run) == [
        ("wstar", "train", (), 10),
        ("lipschitz", "measure", ("wstar",), 0),
        ("spectrum", "measure", ("wstar", "lipschitz"), 0),
        ("prune", "prune", ("wstar", "lipschitz", "spectrum"), 0),
        ("train", "train", parents, 160 - first),
    ]
    assert [type(s.component) for s in run.stages] == [
        type(None),
        Lipschitz,
        Spectrum,
        Imc,
        type(None),
    ]
    wstar, train = run.stage("wstar"), run.stage("train")
    assert wstar.recipe is not None and train.recipe is not None
    assert (wstar.recipe.lr_schedule, wstar.recipe.lr) == (Constant(), 0.1)
    assert (
        train.start,
        train.masks,
        train.recipe.first_epoch,
        train.recipe.epochs,
        train.recipe.lr_schedule,
    ) == (start, "prune", first, 160, Step())
    assert run.stage("lipschitz").needs == ("init",)


# scale -> epochs of the trained net, rewinding points of 10 and 3 epochs, epochs of W*, and first
# and last epoch of fine-tuning
SCALES = {
    1.0: (160, 10, 3, 10, (10, 160)),
    0.5: (80, 5, 2, 5, (5, 80)),  # 1.5 is rounded to an even number
    0.1875: (30, 2, 1, 2, (2, 30)),  # train=quick: 1.875 and 0.5625
    0.025: (4, 1, 1, 1, (1, 4)),  # 0.25 and 0.075: each at least one epoch
    2.0: (320, 20, 6, 20, (20, 320)),
}


@pytest.mark.parametrize("scale", SCALES)
def test_scale_multiplies_all_durations(scale: float) -> None:
    epochs, ten, three, wstar, tuned = SCALES[scale]
    by_epoch = {
        point: compose_run(
            *MAGNITUDE, "start=dense", f"retrain.rewind={point}ep", f"train.scale={scale}"
        )
        for point in (10, 3)
    }
    for point, rewound in ((10, ten), (3, three)):
        run = by_epoch[point]
        assert run.scale == scale
        assert [s.recipe.trained_epochs for s in run.stages if s.recipe] == [epochs, epochs]
        assert run.stage("train").start == Start("dense", epoch=rewound)
    imc = {
        how: compose_run(*IMC, f"retrain={how}", f"train.scale={scale}")
        for how in ("rewind", "finetune")
    }
    for run in imc.values():
        recipe = run.stage("wstar").recipe
        assert recipe is not None and recipe.epochs == wstar
    # the tenth of ten epochs is the end of the stage at every scale
    assert imc["rewind"].stage("train").start == Start("wstar")
    recipe = imc["finetune"].stage("train").recipe
    assert recipe is not None and (recipe.first_epoch, recipe.epochs) == tuned


def test_train_quick_equals_train_imc_scaled_to_30_epochs() -> None:
    quick = [w for w in IMC if not w.startswith("train=")]
    assert compose_run(*quick, "train=quick") == compose_run(*IMC, f"train.scale={30 / 160}")
    assert compose_run(*quick) == compose_run(*quick, "train=quick")  # the default


def test_scale_changes_only_durations() -> None:
    whole = compose_run(*IMC, "retrain=finetune")
    short = compose_run(*IMC, "retrain=finetune", "train.scale=0.1")
    for a, b in zip(whole.stages, short.stages, strict=True):
        assert (a.name, a.kind, a.start, a.masks, a.needs, a.density, a.component) == (
            b.name,
            b.kind,
            b.start,
            b.masks,
            b.needs,
            b.density,
            b.component,
        )
        if a.recipe and b.recipe:
            names = [f.name for f in fields(Recipe) if f.name not in ("epochs", "first_epoch")]
            assert [getattr(a.recipe, name) for name in names] == [
                getattr(b.recipe, name) for name in names
            ]


@pytest.mark.parametrize(
    ("duration", "scale", "expected"),
    [(160, 1, 160), (10, 0.04, 1), (10, 0.0, 1), (0, 5, 0), (7, 0.5, 4), (3, 2, 6), (1, 1e-9, 1)],
)
def test_a_scaled_duration_is_at_least_one_unless_it_was_zero(
    duration: int, scale: float, expected: int
) -> None:
    assert scaled(duration, scale) == expected


@pytest.mark.parametrize(("text", "expected"), [("10ep", 10), ("10", 10), (10, 10), ("0ep", 0)])
def test_durations_are_numbers_of_epochs_with_or_without_a_unit(
    text: int | str, expected: int
) -> None:
    assert epochs_of("retrain.rewind", text) == expected


@pytest.mark.parametrize("text", ["10it", "ep", "-1ep", "1.5ep", 1.5, "", "10 ep", "10ep\n"])
def test_invalid_durations_give_an_error_with_their_key(text: Any) -> None:
    with pytest.raises(ValueError, match=r"^retrain\.rewind=.* is not a number of epochs"):
        epochs_of("retrain.rewind", text)


# an option of every group, nested values, lists, null, and numbers that YAML and Hydra could parse
# differently
OVERRIDES = {
    "plain": ["method=dense"],
    "score": [
        "method=magnitude",
        "density=0.1",
        "allocate=layer",
        "model=mlp",
        "model.hidden=[20,10]",
        "train.scale=1e-2",
        "dataset.size=16",
        "seed=3",
    ],
    "imc": [
        *IMC,
        "retrain=finetune",
        "method.gap.rule=fixed",
        "method.gap.sparsity=0.47",
        "train.weight_decay=1e-4",
        "env.threads=2",
    ],
    "trained": [
        *MAGNITUDE,
        "start=dense",
        "retrain.rewind=0010ep",
        "train_fraction=1",
        "dataset.size=null",
    ],
}


@pytest.mark.parametrize("case", OVERRIDES)
def test_compose_config_gives_the_configuration_that_run_py_prints(case: str) -> None:
    # with an override of its own, Hydra prints it, without comments (tests/config/test_sources.py)
    hydra = ["hydra.verbose=false", "--cfg", "job", "--resolve"]
    line = [sys.executable, str(ROOT / "run.py"), *OVERRIDES[case], *hydra]
    done = subprocess.run(
        line, cwd=ROOT, capture_output=True, text=True, env=environment(), timeout=60
    )
    assert done.returncode == 0, done.stderr
    printed = OmegaConf.to_container(OmegaConf.create(done.stdout))
    assert printed == OmegaConf.to_container(compose_config(OVERRIDES[case]), resolve=True)


def test_composing_one_configuration_does_not_affect_the_next() -> None:
    before = compose_run("method=dense", *PAPER)
    compose_run(*IMC, "seed=5", "train.lr=0.7", "model.hidden=[7]")
    with pytest.raises(ConfigError):
        compose_config(["method=nothing"])
    assert compose_run("method=dense", *PAPER) == before


def test_the_configuration_has_the_keys_of_the_schema() -> None:
    cfg = compose_config([])
    assert set(cfg) == {f.name for f in fields(Config)}
    assert set(cfg.train) == {f.name for f in fields(TrainConfig)}
    assert set(cfg.env) == {f.name for f in fields(EnvConfig)}
    # the keys that docs/command_line.md documents
    documented = {
        "epochs",
        "lr",
        "lr_schedule",
        "batch_size",
        "momentum",
        "weight_decay",
        "precision",
        "scale",
    }
    assert documented <= set(cfg.train)


@pytest.mark.parametrize("path", sorted(CONF.glob("train/*.yaml")), ids=lambda path: path.stem)
def test_every_training_file_contains_its_name_and_builds_a_run(path: Any) -> None:
    cfg = compose_config(["method=dense", "dataset=digits", "model=mlp", f"train={path.stem}"])
    assert cfg.train.name == path.stem
    (stage,) = build_run(cfg).stages
    assert stage.recipe is not None
    assert stage.recipe.epochs == max(1, round(cfg.train.epochs * cfg.train.scale))


@pytest.mark.parametrize("group", ["dataset", "model", "method", "train"])
def test_every_option_file_contains_its_name(group: str) -> None:
    for path in sorted((CONF / group).glob("*.yaml")):
        node = yaml.safe_load(path.read_text())
        assert (node[group] if group == "method" else node)["name"] == path.stem


MLP_NODE = {"_target_": "mlp", "name": "mlp"}
# error of a node -> the node, the message
NODES: dict[str, tuple[dict[str, Any], str]] = {
    "a word for a list": ({**MLP_NODE, "hidden": "wide"}, "model.hidden='wide' must be a list"),
    "a word in a list": (
        {**MLP_NODE, "hidden": [300, "x"]},
        "model.hidden.1='x' must be a whole number",
    ),
    "a truth value in a list of numbers": (
        {**MLP_NODE, "hidden": [True]},
        "model.hidden.0=True must be a whole number",
    ),
    "a broken number for a whole one": (
        {**MLP_NODE, "hidden": [3.0]},
        "model.hidden.0=3.0 must be a whole number",
    ),
    "nothing for a list": ({**MLP_NODE, "hidden": None}, "model.hidden=None must be a list"),
    "a number for a word": ({**MLP_NODE, "init": 3}, "model.init=3 must be a word"),
    "a missing option": ({"_target_": "mlp"}, "model.name is missing: give it a value"),
    "an unknown option": (
        {**MLP_NODE, "hiden": [3]},
        "model.hiden is not an option; model takes name, hidden, init, resnet, widest; did you mean"
        " 'hidden'?",
    ),
    "a word for a number or null": (
        {"_target_": "digits", "size": "big"},
        "model.size='big' must be a whole number or null",
    ),
    "a word for a number": (
        {"_target_": "digits", "validation": "half"},
        "model.validation='half' must be a number",
    ),
    "a word outside its choices": (
        {"_target_": "snip", "bn": "off"},
        "model.bn='off' must be one of train, eval",
    ),
    "a value that its class refuses": (
        {**MLP_NODE, "hidden": [0]},
        "model.hidden=[0] must be widths of at least 1, e.g. model.hidden=[300,300]",
    ),
    "a tag that no class has": (
        {"_target_": "mpl"},
        "model._target_=mpl is not the tag of a component; did you mean 'mlp'?",
    ),
    "a path in place of a tag": (
        {"_target_": "models.mlp.Mlp"},
        "model._target_=models.mlp.Mlp is not the tag of a component",
    ),
    "anything that can be imported": (
        {"_target_": "os.system"},
        "model._target_=os.system is not the tag of a component",
    ),
}


@pytest.mark.parametrize("case", NODES)
def test_an_invalid_option_gives_an_error_with_its_key(case: str) -> None:
    node, message = NODES[case]
    with pytest.raises(ConfigError) as caught:
        construct(node, "model")
    (error,) = caught.value.messages
    assert error.startswith(message)


def test_all_problems_of_a_component_are_reported_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        construct({"_target_": "mlp", "hidden": [1, "a", "b"], "init": 3, "depth": 2}, "model")
    keys = [re.split("[ =]", message)[0] for message in caught.value.messages]
    # only the first invalid entry of a list is reported
    assert sorted(keys) == ["model.depth", "model.hidden.1", "model.init", "model.name"]


def test_plain_values_are_converted_to_the_annotated_types() -> None:
    model = construct({**MLP_NODE, "hidden": [20, 10]}, "model")
    assert model == Mlp("mlp", (20, 10)) and type(model.hidden) is tuple
    data = construct({"_target_": "digits", "validation": 0, "size": None}, "dataset")
    assert type(data.validation) is float  # 0 and 0.0 are the same configuration


def test_an_error_of_a_nested_option_contains_the_key_that_a_user_sets() -> None:
    (error,) = errors_of(updated(config(*MAGNITUDE), "method.score.tau", 1))
    assert error.startswith("method.score.tau is not an option; method.score takes none")
    (error,) = errors_of(updated(config(*IMC), "method.spectrum.steps", "many"))
    assert error == "method.spectrum.steps='many' must be a whole number"


def updated(cfg: DictConfig, key: str, value: Any) -> DictConfig:
    OmegaConf.update(cfg, key, value, force_add=True)
    return cfg


KEYS = [f.name.removesuffix("_") for f in fields(StageNode)]
# error of a list of stages -> the list, parts of the message
STAGES: dict[str, tuple[list[dict[str, Any]], list[str]]] = {
    "unknown key": ([{"name": "dense", "kind": "train", "epoch": 3}], ["method.stages.0", *KEYS]),
    "unknown kind": (
        [{"name": "dense", "kind": "training"}],
        ["method.stages.0", "train", "prune", "search", "measure"],
    ),
    "no name": ([{"kind": "train"}], ["method.stages.0.name is missing"]),
    "a name twice": (
        [{"name": "dense", "kind": "train"}, {"name": "dense", "kind": "train"}],
        ["method.stages.1.name=dense", "a new name"],
    ),
    "start from nowhere": (
        [{"name": "dense", "kind": "train", "start": {"from": "wstar"}}],
        ["start.from=wstar", "not an earlier stage", "init, reinit"],
    ),
    "start from a later stage": (
        [
            {"name": "one", "kind": "train", "start": {"from": "two"}},
            {"name": "two", "kind": "train"},
        ],
        ["start.from=two", "not an earlier stage"],
    ),
    "masks from nowhere": (
        [{"name": "dense", "kind": "train", "masks": "prune"}],
        ["method.stages.0 (dense)", "'prune'", "not an earlier stage"],
    ),
    "measurement from nowhere": (
        [{"name": "dense", "kind": "train", "needs": ["spectrum"]}],
        ["method.stages.0 (dense)", "'spectrum'", "not an earlier stage"],
    ),
    "no duration": (
        [{"name": "dense", "kind": "train", "epochs": "soon"}],
        ["method.stages.0.epochs='soon'", "10ep"],
    ),
    "unknown schedule": (
        [{"name": "dense", "kind": "train", "lr_schedule": "linear"}],
        ["lr_schedule=linear", "constant, cosine, one_cycle, step"],
    ),
    "a stage that resumes a finished schedule": (
        [
            {"name": "dense", "kind": "train"},
            {"name": "more", "kind": "train", "start": {"from": "dense", "resume": True}},
        ],
        ["160 epochs", "train.epochs=160", "raise it"],
    ),
}


@pytest.mark.parametrize("case", STAGES)
def test_an_invalid_list_of_stages_gives_an_error(case: str) -> None:
    stages, parts = STAGES[case]
    (message,) = errors_of(updated(config("method=dense", *PAPER), "method.stages", stages))
    for part in parts:
        assert part in message


def test_an_invalid_stage_is_reported_once_and_not_for_stages_that_read_it() -> None:
    stages = [
        {"name": "one", "kind": "train", "lr_schedule": "linear"},
        {"name": "two", "kind": "train", "start": {"from": "one"}},
        {"name": "three", "kind": "train", "start": {"from": "nowhere"}},
    ]
    first, second = errors_of(updated(config("method=dense", *PAPER), "method.stages", stages))
    assert "lr_schedule=linear" in first and "nowhere" in second


def test_nested_lists_of_stages_are_flattened() -> None:
    cfg = updated(
        config("method=dense", *PAPER),
        "method.stages",
        [[{"name": "one", "kind": "train"}], [[{"name": "two", "kind": "train", "epochs": "3ep"}]]],
    )
    cfg.method.epoch_column = ["one"]
    assert shape(build_run(cfg)) == [("one", "train", (), 160), ("two", "train", (), 3)]


def test_a_finished_run_may_write_the_former_key_of_a_condition() -> None:
    cfg = config("method=sr_popup", "density=0.1", "dataset=digits")
    run = build_run(cfg)
    stage = next(each for each in cfg.method.stages if "if" in each and each["if"] is None)
    stage["given"] = stage.pop("if")
    assert build_run(OmegaConf.create(OmegaConf.to_yaml(cfg, resolve=True)), finished=True) == run
    assert any("given is not an option" in message for message in errors_of(cfg))
