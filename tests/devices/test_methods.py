"""Every method, and every option that computes on tensors, on the emulated device."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from emulated import ROOT, device
from emulated_process import on_emulated_device
from support import compose_run, machine, needed, perform_run

from pruners.base import count_kept, count_prunable
from runner.config.compose import compose_config, method_names

METHODS = method_names()
# 1,184 weights, two steps an epoch
MLP = ("dataset=digits", "model=mlp", "model.hidden=[16]", "train_fraction=0.1")
MLP += ("train.scale=0.0125",)
# BatchNorm and channels-last convolutions, none of them on 2x2 images, for which only the CPU has
# a kernel of its own (models/conv.py)
RESNET = ("dataset=digits", "dataset.size=12", "model=resnet20", "model.depth=8", "model.width=2")
RESNET += ("train_fraction=0.1", "train.scale=0.00625")
FINDINGS = ("accuracy", "test_loss", "kept", "report", "flops")
IMC = ("method.spectrum.steps=3", "method.spectrum.probes=2", "method.hessian.n_samples=32")
IMC += ("method.gap.steps=3", "method.lipschitz.directions=1")
# Options that make a method quick, and the portrait of its result
MORE = {
    "dense": ("portrait=curvature", "portrait.draws=1", "portrait.images=32"),
    "wstar": ("portrait=lipschitz", "portrait.directions=1", "portrait.hessian.n_samples=32"),
    "grasp": ("portrait=weights",),
    "imc": ("portrait=spectrum", *IMC),
    "imp": ("portrait=norms_rewound", "portrait.measure.masks=2", "method.keep=0.5"),
    "magnitude": ("portrait=overlap",),
    "sanity_check": ("portrait=criteria",),
    "obd": ("method.score.images=40",),
    "snip": ("portrait=scores",),
    "sr_popup": ("portrait=distortion", "portrait.measure.draws=2", "portrait.measure.images=32"),
    "synflow": ("portrait=norms", "portrait.measure.masks=2", "schedule.iterations=4"),
}

RITZ = ("portrait=ritz", "portrait.steps=[2,4]", "portrait.counted=4")


def same(overrides: Sequence[str], folder: Path) -> tuple[dict[str, Any], Any]:
    """Record and final artefact of a run on the device, which equal the CPU's bit for bit."""
    run = compose_run(*overrides)
    here = machine(folder, "results_here", "cache_here")
    expected, theirs = perform_run(run, here)
    record, ours = perform_run(run, replace(machine(folder), device=device()))
    for key in FINDINGS:
        assert record[key] == expected[key], key
    for stage, artefact in theirs.items():
        for part in ("weights", "masks", "optimizer", "findings"):
            left, right = getattr(ours[stage], part), getattr(artefact, part)
            assert left.keys() == right.keys()
            for name, tensor in right.items():
                assert torch.equal(left[name], tensor), (stage, part, name)
    kinds = [stage.name for stage in run.stages if stage.kind != "measure"]
    return record, ours[kinds[-1]] if kinds else None


# Seven in one process, which saves the seconds in which configurations are first composed.
@pytest.mark.parametrize("names", [METHODS[i : i + 7] for i in range(0, len(METHODS), 7)])
@on_emulated_device
def test_every_method_keeps_its_contract_on_an_accelerator(
    names: list[str], tmp_path: Path
) -> None:
    for name in names:
        try:
            keeps_its_contract(name, tmp_path / name)
        except Exception as error:
            raise AssertionError(f"method={name}") from error


def keeps_its_contract(name: str, folder: Path) -> None:
    """Check the density, that pruned weights are zeros, and that all numbers equal the CPU's."""
    dense = "density: refused" in (ROOT / f"conf/method/{name}.yaml").read_text()
    density = [] if dense else ["density=0.3"]
    overrides = [f"method={name}", *RESNET, *MORE.get(name, ()), *density]
    files = needed(folder, *overrides)
    record, ticket = same([*overrides, *files], folder)
    kept, prunable = count_kept(ticket.masks), count_prunable(ticket.masks)
    whole = dense and not files or "narrowed" in record  # all weights of the narrower net
    assert kept == (prunable if whole else round(0.3 * prunable))
    assert record["provenance"]["device"] == "emulated"
    for layer, mask in ticket.masks.items():
        assert torch.count_nonzero(ticket.weights[layer][~mask]) == 0


THEORY = "model=student dataset=gaussian_teacher dataset.dimension=12 dataset.samples=80"
SHORT = "method.solver.steps=40"
EXPERIMENTS = {
    "premise": f"model=mlp {' '.join(MLP[2:])} train.lr=0.01 dataset=digits method.examples=8",
    "recovery": f"{THEORY} {SHORT} dataset.inputs=4 dataset.neurons=3 method.trials=3",
    "pruning": f"{THEORY} {SHORT} dataset.inputs=12 dataset.teacher_inputs=2 method.trials=2"
    " method.levels=2",
    "sketching": f"{THEORY} dataset.inputs=4 method.repeats=10",
}


@on_emulated_device
def test_every_theory_experiment_gives_the_hosts_numbers(tmp_path: Path) -> None:
    for name, options in EXPERIMENTS.items():
        try:
            same([f"method=theory/{name}", *options.split()], tmp_path / name)
        except Exception as error:
            raise AssertionError(name) from error


@on_emulated_device
def test_a_second_portrait_of_wstar_gives_the_hosts_numbers(tmp_path: Path) -> None:
    same(["method=wstar", *RESNET, *RITZ, "portrait.hessian.n_samples=32"], tmp_path)


def test_every_portrait_and_theory_experiment_is_run_on_the_device() -> None:
    portraits = {path.stem for path in (ROOT / "conf/portrait").glob("*.yaml")} - {"none"}
    words = {word for more in (*MORE.values(), RITZ) for word in more}
    assert {f"portrait={name}" for name in portraits} <= words
    assert {path.stem for path in (ROOT / "conf/method/theory").glob("*.yaml")} == set(EXPERIMENTS)


LINES = (
    "method=snip source=normal pick=proportional",
    "method=snip source=sparse_normal schedule=exponential schedule.iterations=3",
    "method=snip pick=sketch",
    "method=snip dataset.augment=crop_flip dataset.validation=0.2",
    "method=snip start=dense retrain=finetune",
    "method=snip start=dense retrain=reinit",
    "method=snip start=dense retrain=lr_rewind retrain.rewind=1it",
    "method=snip train.precision=bf16",
    "method=snip method.score.bn=eval source.batch_size=32 method.overlap=4",
    "method=obd method.score.images=40 method.overlap=4",
    "method=sr_popup method.search.init.criterion=snip method.search.init.batch_size=16"
    " method.overlap=4",
    "method=synflow source=chi pick=proportional method.pruner.when=final",
    "method=synflow source=train allocate=erk schedule.iterations=5",
    "method=synflow pick=uniform method.pruner.when=oneshot",
    "method=grasp source=normal pick=proportional method.score.map=positive",
    "method=grasp pick=sketch method.score.map=shifted",
    "method=magnitude allocate=layer",
    "method=random allocate=smart_ratio",
    "method=random allocate=smart_ratio allocate.ratio=cubic allocate.counts=authors",
    "method=synflow schedule.counts=nearest schedule.iterations=5",
    "method=obd method.score.estimator=mc_fisher method.score.images=40",
    "method=snip method.pruner.dense=[first]",
    "method=flow_prune method.measure=biased_loss method.rounds=1",
    "method=flow_prune method.measure=grad_preserve method.rounds=1",
    "method=continuous_sparsification method.rounds=2 method.search.dense=[classifier]",
    "method=rigl method.rhythm.shortest=1 method.rewire.decay=constant",
    "method=set method.rewire.grow_std=0.1 method.rewire.allow_regrow=false",
    "method=set method.rewire.per_sign=false",
    "method=dsr method.rhythm.shortest=1",
    "method=snfs method.rewire.decay=constant method.rewire.smoothing=0.5",
    "method=gmp allocate=global method.gradual.initial=0.8 method.rhythm.stop=1.0",
    "method=force method.score.revive=false schedule.iterations=3",
    "method=force source=normal pick=proportional",
    "method=deep_r method.rewire.rule=flip method.rewire.budget=global",
    "method=deep_r method.rewire.weight_decay=true method.rewire.cooling=quarters",
    "method=sr_popup method.search.pairs=random method.search.init.criterion=snip",
    "method=sr_popup method.search.pairs=smallest method.search.init.criterion=uniform",
    "method=sr_popup start=init method.search.init.criterion=grasp",
    "method=zhou method.search.scaling=dynamic method.search.classifier=searched"
    " method.search.dense=[first]",
    "method=imp source=normal method.keep=0.5",
    "method=imp source=sparse_normal source.fresh=true method.keep=0.5",
    f"method=imc {' '.join(IMC)} method.gap.rule=literal method.gap.on_degenerate=fixed"
    " method.gap.sparsity=0.5",
    f"method=imc {' '.join(IMC)} method.hessian.mode=train method.hessian.params=all",
)


@pytest.mark.slow
@pytest.mark.parametrize("line", LINES)
@on_emulated_device
def test_every_option_gives_the_hosts_numbers_on_an_accelerator(line: str, tmp_path: Path) -> None:
    words = line.split()
    keys = {word.partition("=")[0] for word in words}
    small = [w for w in MLP if w.partition("=")[0].partition(".")[0] not in keys]
    method = compose_config([*small, *words]).method
    same([*small, *words, *(["density=0.3"] if method.density == "required" else [])], tmp_path)
