"""Combinations of options: valid ones run, invalid ones give an error with a solution."""

from pathlib import Path
from typing import Any

import pytest
import torch
from support import compose_run, machine, perform_run

from pruners.base import count_kept, count_prunable
from pruners.scores.magnitude import Random
from pruners.scores.obd import Obd
from pruners.selection.allocate import Erk, Global
from pruners.selection.pick import Proportional, Sketch, Top, Uniform
from pruners.selection.schedule import Exponential, Once
from pruners.selection.source import Balanced, Chi, Normal, Ones, SparseNormal, Train
from runner.engine.preflight import check
from runner.engine.store import Artefact
from runner.errors import ConfigError
from runner.spec.identity import run_id, stage_keys
from runner.spec.run import Start

# A net of 64 x 16 + 16 x 10 = 1,184 weights, one epoch.
SMALL = ["dataset=digits", "model=mlp", "model.hidden=[16]", "train.scale=0.00625"]
WEIGHTS = 1184


def overrides(line: str) -> list[str]:
    """Overrides of a command line with the small net and, by default, a density of 0.1."""
    options = line.replace("density=missing", "").split()
    density = [] if "density" in line else ["density=0.1"]
    return [
        *(w for w in SMALL if "model=" not in line or not w.startswith("model")),
        *density,
        *options,
    ]


def errors(line: str, folder: Path) -> str:
    """The error messages of an invalid command line, which starts no stage."""
    with pytest.raises(ConfigError) as caught:
        check(compose_run(*overrides(line)), machine(folder))
    assert not (folder / "cache").exists() and not (folder / "results").exists()
    return "\n".join(caught.value.messages)


def perform(line: str, folder: Path) -> tuple[dict[str, Any], dict[str, Artefact]]:
    return perform_run(compose_run(*overrides(line)), machine(folder))


# --- valid combinations

VALID: dict[str, dict[str, Any]] = {  # line -> fields of the pruner
    "method=snip": {"source": Train(), "allocate": Global(), "pick": Top(), "schedule": Once()},
    "method=snip source=normal pick=proportional": {"source": Normal(), "pick": Proportional()},
    "method=snip source=sparse_normal pick=proportional": {
        "source": SparseNormal(),
        "pick": Proportional(),
    },
    "method=snip source=balanced": {"source": Balanced()},
    "method=snip schedule=exponential": {"schedule": Exponential(100, "authors")},
    "method=snip schedule=exponential schedule.counts=nearest": {"schedule": Exponential()},
    "method=snip schedule=exponential schedule.iterations=5 pick=proportional"
    " method.pruner.when=final": {
        "schedule": Exponential(5, "authors"),
        "when": "final",
    },
    "method=snip pick=sketch": {"pick": Sketch()},
    "method=synflow": {
        "source": Ones(),
        "allocate": Global(),
        "pick": Top(),
        "schedule": Exponential(100, "authors"),
        "when": "each",
    },
    "method=synflow source=chi pick=proportional density=0.05": {
        "source": Chi(),
        "pick": Proportional(),
        "when": "each",
    },
    "method=synflow source=train": {"source": Train()},
    "method=synflow pick=proportional method.pruner.when=final": {"when": "final"},
    "method=synflow pick=proportional method.pruner.when=oneshot": {"when": "oneshot"},
    "method=synflow allocate=erk": {"allocate": Erk()},
    "method=synflow schedule=once": {"schedule": Once()},
    "method=synflow pick=uniform": {"pick": Uniform()},
    "method=grasp": {"source": Balanced(), "pick": Top()},
    "method=grasp source=normal": {"source": Normal()},
    "method=grasp pick=uniform": {"pick": Uniform()},
    "method=grasp source=normal pick=proportional method.score.map=positive": {
        "source": Normal(),
        "pick": Proportional(),
    },
    "method=grasp pick=proportional method.score.map=shifted": {"pick": Proportional()},
    "method=grasp pick=sketch method.score.map=absolute": {"pick": Sketch()},
    "method=grasp schedule=exponential pick=proportional method.score.map=positive"
    " method.pruner.when=final": {"when": "final"},
    "method=magnitude pick=proportional": {"source": None, "pick": Proportional()},
    "method=random allocate=erk": {"source": None, "allocate": Erk()},
    "method=obd": {
        "score": Obd("ggn_rademacher"),
        "source": Train(),
        "allocate": Global(),
        "classifier": "dense",
    },
    "method=obd method.score.estimator=mc_fisher": {
        "score": Obd(),
        "source": Train(),
        "classifier": "dense",
    },
    "method=rigl method.pruner.classifier=pruned": {
        "score": Random(),
        "source": None,
        "allocate": Erk(),
        "classifier": "pruned",
    },
    "method=set allocate=erk": {"score": Random(), "allocate": Erk(), "classifier": "dense"},
    "method=snip method.pruner.classifier=dense": {"classifier": "dense"},
    "method=imp method.pruner.classifier=dense": {"source": None, "classifier": "dense"},
    "method=imp pick=proportional": {"source": None, "pick": Proportional(), "schedule": Once()},
    "method=imp source=sparse_normal": {
        "source": None
    },  # the source is for the trainings, not for the score
}


@pytest.mark.parametrize("line", VALID)
def test_a_valid_combination_gives_the_components_that_it_selects(line: str) -> None:
    run = compose_run(*overrides(line))
    for stage in run.stages:
        if stage.kind == "prune":
            assert {name: getattr(stage.component, name) for name in VALID[line]} == VALID[line]


@pytest.mark.parametrize("method", ["synflow", "grasp", "snip", "magnitude", "random"])
def test_a_trained_net_can_be_pruned_by_any_score_and_retrained_in_four_ways(method: str) -> None:
    runs = {
        how: compose_run(*overrides(f"method={method} start=dense retrain={how}"))
        for how in ("rewind", "reinit", "finetune", "lr_rewind")
    }
    assert {how: run.stage("train").start for how, run in runs.items()} == {
        "rewind": Start("dense"),
        "reinit": Start("reinit"),
        "finetune": Start("dense"),
        "lr_rewind": Start("dense", replay=1),  # ten of 160 epochs, in a run of one
    }
    assert all(
        [stage.name for stage in run.essential] == ["dense", "prune", "train"]
        and run.stage("prune").start == Start("dense")
        for run in runs.values()
    )
    # the four runs share one mask
    assert len({stage_keys(run)["prune"] for run in runs.values()}) == 1
    assert compose_run(*overrides(f"method={method} start=dense")) == runs["rewind"]


@pytest.mark.parametrize(
    ("plain", "spelled"),
    [
        (
            "method=synflow",
            (
                "method=synflow source=ones allocate=global pick=top schedule=exponential"
                " method.pruner.when=each"
            ),
        ),
        (
            "method=grasp",
            (
                "method=grasp source=balanced schedule=once method.score.map=signed"
                " method.pruner.when=each"
            ),
        ),
        ("method=imp", "method=imp source=none pick=top"),
        ("method=magnitude", "method=magnitude source=none schedule=once"),
    ],
)
def test_the_default_options_of_a_method_can_be_written_out(plain: str, spelled: str) -> None:
    assert run_id(compose_run(*overrides(plain))) == run_id(compose_run(*overrides(spelled)))


# --- invalid combinations: key, value, choices or reason, and a solution that works

INVALID: dict[str, tuple[list[str], str]] = {  # line -> parts of the error, a line that works
    "method=synflow retrain=rewind": (
        ["retrain=rewind", "method=synflow prunes at initialization", "start=dense"],
        "method=synflow retrain=rewind start=dense",
    ),
    "method=grasp retrain=finetune": (
        ["retrain=finetune", "method=grasp prunes at initialization"],
        "method=grasp",
    ),
    "method=grasp start=dense retrain=none": (
        ["retrain=none", "reinit, rewind, finetune or lr_rewind"],
        "method=grasp start=dense retrain=reinit",
    ),
    "method=snip source=none": (
        ["source=none", "Snip is computed from data", "leave source=... out"],
        "method=snip source=normal",
    ),
    "method=grasp source=none": (["source=none", "Grasp is computed from data"], "method=grasp"),
    "method=synflow source=none": (
        ["source=none", "SynFlow is computed from data", "the method's own"],
        "method=synflow",
    ),
    "method=magnitude source=normal": (
        [
            "source is not an option of method=magnitude",
            "looks at the weights alone",
            "Leave source=... out",
        ],
        "method=magnitude",
    ),
    "method=random source=chi": (
        ["source is not an option of method=random", "looks at nothing"],
        "method=random",
    ),
    "method=snip source=sparse": (
        [
            "source=sparse is not a choice",
            "balanced, chi, none, normal, ones, sparse_normal, train",
        ],
        "method=snip source=sparse_normal",
    ),
    "method=snip source=chi": (
        ["source=chi", "Snip reads labels", "source=train"],
        "method=snip source=sparse_normal",
    ),
    "method=grasp source=ones": (
        ["source=ones", "Grasp reads labels", "normal"],
        "method=grasp source=normal",
    ),
    "method=snip pick=propotional": (
        ["pick=propotional", "did you mean 'proportional'"],
        "method=snip pick=proportional",
    ),
    "method=snip source=normal source.batch_size=1": (
        ["source.batch_size=1 must be at least 2", "BatchNorm"],
        "method=snip source=normal source.batch_size=2",
    ),
    "method=synflow source=chi source.n=0": (
        ["source.n=0 must be at least 1", "128 in the paper"],
        "method=synflow source=chi source.n=1",
    ),
    "method=grasp pick=proportional": (
        ["pick=proportional", "Grasp's have both signs", "method.score.map=positive", "pick=top"],
        "method=grasp pick=proportional method.score.map=positive",
    ),
    "method=grasp pick=sketch": (
        ["pick=sketch", "both signs", "method.score.map=positive"],
        "method=grasp pick=top",
    ),
    "method=grasp method.score.map=plus": (
        ["method.score.map='plus' must be one of signed, positive, shifted, absolute"],
        "method=grasp",
    ),
    "method=synflow method.pruner.when=final": (
        ["method.pruner.when=final", "pick=top draws nothing", "pick=proportional"],
        "method=synflow method.pruner.when=final pick=proportional",
    ),
    "method=synflow pick=proportional method.pruner.when=last": (
        ["method.pruner.when='last' must be one of each, final, oneshot"],
        "method=synflow pick=proportional method.pruner.when=oneshot",
    ),
    "method=snip pick=proportional method.pruner.when=oneshot": (
        ["method.pruner.when=oneshot", "the schedule has one round"],
        "method=snip pick=proportional method.pruner.when=oneshot schedule=exponential",
    ),
    "method=grasp pick=uniform method.pruner.when=final": (
        ["method.pruner.when=final", "the schedule has one round"],
        "method=grasp pick=uniform",
    ),
    "method=synflow schedule.iterations=0": (
        ["schedule.iterations=0 must be at least 1", "100 for SynFlow"],
        "method=synflow schedule.iterations=1",
    ),
    "method=synflow schedule=none": (
        ["schedule=none", "requires it", "schedule=once"],
        "method=synflow schedule=once",
    ),
    "method=snip allocate=none": (
        ["allocate=none", "requires it", "allocate=global"],
        "method=snip allocate=global",
    ),
    "method=synflow method.score.dtype=half": (
        ["method.score.dtype='half' must be one of float32, float64"],
        "method=synflow method.score.dtype=float32",
    ),
    "method=imp start=dense": (
        ["start=dense", "method=imp trains before it prunes", "leave start=... out"],
        "method=imp",
    ),
    "method=imp start=init": (["start=init", "method=imp trains before it prunes"], "method=imp"),
    "method=imp schedule=exponential": (
        ["schedule is not an option of method=imp", "density, method.keep and method.last_level"],
        "method=imp method.keep=0.5",
    ),
    "method=imp method.keep=1": (
        ["method.keep=1 must be between 0 and 1"],
        "method=imp method.keep=0.9",
    ),
    "method=imp retrain=none": (
        ["retrain=none", "reinit, rewind, finetune or lr_rewind"],
        "method=imp retrain=finetune",
    ),
    "method=imp retrain.rewind=2000000it": (
        ["retrain.rewind=2000000it is after the end", "0ep to 160ep"],
        "method=imp retrain.rewind=160ep",
    ),
    "method=imp source=train": (
        ["source=train", "noise with labels", "leave it out for the training images"],
        "method=imp",
    ),
    "method=imp source=chi": (
        ["source=chi", "noise with labels", "source=normal or source=sparse_normal"],
        "method=imp source=normal",
    ),
    "method=imp source=ones": (
        ["source=ones", "noise with labels"],
        "method=imp source=sparse_normal",
    ),
    "method=imp source=balanced": (["source=balanced", "noise with labels"], "method=imp"),
    "method=imp density=missing": (
        ["density is missing", "method=imp", "density=0.1"],
        "method=imp density=0.1",
    ),
    "method=synflow density=missing": (
        ["density is missing", "method=synflow", "density=0.1"],
        "method=synflow",
    ),
    "method=snip density=0": (
        ["density=0 must be in (0, 1]", "kept / prunable"],
        "method=snip density=1",
    ),
    "method=grasp density=0.0001": (
        ["density=0.0001 keeps none of 1,184", "the smallest density that keeps one is 0.00084"],
        "method=grasp density=0.00084",
    ),
    "method=dense density=0.1": (
        ["density=0.1", "method=dense takes no density"],
        "method=dense density=missing",
    ),
    "method=dense pick=proportional density=missing": (
        ["pick is not an option of method=dense"],
        "method=dense density=missing",
    ),
    "method=rigl source=normal": (
        ["source is not an option of method=rigl", "the gradients of its own training"],
        "method=rigl allocate=layer",
    ),
    "method=set start=dense": (
        ["start is not an option of method=set", "sparse from the first step on"],
        "method=set allocate=erk",
    ),
    "method=dsr retrain=rewind": (
        ["retrain is not an option of method=dsr", "trains once"],
        "method=dsr",
    ),
    "method=deep_r pick=proportional": (
        ["pick is not an option of method=deep_r", "starts from random connections"],
        "method=deep_r",
    ),
    "method=rigl allocate=none": (["allocate=none", "requires it"], "method=rigl"),
    "method=rigl method.rhythm.period=0it": (
        ["method.rhythm.period='0it'", "100it, 1ep"],
        "method=rigl method.rhythm.period=1",
    ),
    "method=obd start=init": (
        ["start=init", "method=obd takes the net to be at a minimum"],
        "method=obd",
    ),
    "method=obd source=none": (
        ["source=none", "Obd is computed from data"],
        "method=obd source=normal",
    ),
    "method=snip model=vgg19": (
        ["model=vgg19", "16x16 and up", "dataset.size=8", "dataset.size=32"],
        "method=snip model=vgg19 dataset.size=32",
    ),
}


@pytest.mark.parametrize("line", INVALID)
def test_an_invalid_combination_gives_an_error_with_a_solution_that_works(
    line: str, tmp_path: Path
) -> None:
    parts, instead = INVALID[line]
    message = errors(line, tmp_path)
    assert [part for part in parts if part not in message] == []
    check(compose_run(*overrides(instead)), machine(tmp_path))


def test_all_problems_are_reported_at_once(tmp_path: Path) -> None:
    message = errors(
        "method=grasp source=none allocate=none schedule=none pick=proportional", tmp_path
    )
    assert [line.partition(":")[0].partition(" uses")[0] for line in message.splitlines()] == [
        "allocate=none",
        "schedule=none",
        "source=none",
        "pick=proportional",
    ]


# --- results

EXACT = [  # each keeps round(density * 1,184) weights
    "method=snip schedule=exponential schedule.iterations=4 density=0.05",
    "method=snip source=sparse_normal pick=proportional density=0.02",
    "method=snip allocate=erk schedule=exponential schedule.iterations=4 density=0.05",
    "method=synflow source=chi pick=proportional density=0.02",
    "method=synflow pick=proportional method.pruner.when=final density=0.1",
    "method=synflow start=dense retrain=finetune density=0.1",
    "method=grasp start=dense retrain=rewind density=0.1",
    "method=grasp source=normal pick=proportional method.score.map=positive density=0.05",
    "method=imp source=sparse_normal pick=proportional density=0.3",
    "method=imp retrain=reinit density=0.7",
]


@pytest.mark.parametrize("line", EXACT)
def test_a_combination_keeps_exactly_the_requested_number_of_weights(
    line: str, tmp_path: Path
) -> None:
    record, artefacts = perform(line, tmp_path)
    masks = artefacts[list(artefacts)[-1]].masks
    expected = round(float(line.rpartition("=")[2]) * WEIGHTS)
    assert count_prunable(masks) == WEIGHTS and count_kept(masks) == record["kept"] == expected


def test_synflow_with_erk_keeps_the_counts_of_erk_in_each_layer(tmp_path: Path) -> None:
    # ERK keeps weights in proportion to rows + columns: 16 + 64 = 80 and 10 + 16 = 26 of 106. Of
    # round(118.4) = 118 weights, these are 89.06 and 28.94.
    for line in ("method=synflow allocate=erk", "method=synflow allocate=erk pick=proportional"):
        masks = perform(line, tmp_path)[1]["prune"].masks
        assert [int(mask.sum()) for mask in masks.values()] == [89, 29]


def test_the_option_when_selects_the_iterations_at_which_a_random_pick_draws(
    tmp_path: Path,
) -> None:
    def masks(line: str) -> torch.Tensor:
        prune = perform(f"method=synflow {line}", tmp_path)[1]["prune"]
        return torch.cat([mask.flatten() for mask in prune.masks.values()])

    drawn = {
        when: masks(f"pick=proportional method.pruner.when={when}")
        for when in ("each", "final", "oneshot")
    }
    assert torch.equal(drawn["oneshot"], masks("pick=proportional schedule=once"))
    top = masks("pick=top")
    assert {int(mask.sum()) for mask in (*drawn.values(), top)} == {118}
    # `final` draws only in the last of a hundred iterations, from the best
    # 1,184 - int((1 - 0.1^0.99) 1,184) = 122 weights: it omits at most 122 - 118 = 4 of the top
    # ones. `oneshot` draws once from all 1,184 weights.
    assert int((drawn["final"] & top).sum()) >= 114 > int((drawn["each"] & top).sum())
    assert not torch.equal(drawn["each"], drawn["oneshot"])
