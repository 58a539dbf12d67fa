"""Properties of every method: each conf/method/*.yaml is tested automatically."""

import re
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from support import compose_run, machine, needed, perform_run

from pruners.base import count_kept, count_prunable
from runner.commands import contract
from runner.config.compose import compose_config, method_names
from runner.engine.store import Artefact
from runner.spec.run import Run

METHODS = method_names()
MLP = ["dataset=digits", "model=mlp", "train.scale=0.0125"]
BATCHNORM = [
    "dataset=digits",
    "train_fraction=0.1",
    "model=resnet20",
    "model.depth=8",
    "model.width=4",
    "train.scale=0.00625",
]


def rule(name: str) -> str:
    """Whether a method's density is required, optional or refused."""
    return str(compose_config([f"method={name}", *MLP]).method.density)


def with_density(name: str, density: float | None) -> list[str]:
    return [
        f"method={name}",
        *([f"density={density}"] if density is not None and rule(name) != "refused" else []),
    ]


def final(run: Run, artefacts: dict[str, Artefact]) -> Artefact:
    return artefacts[[stage.name for stage in run.stages if stage.kind != "measure"][-1]]


@pytest.mark.parametrize("density", [0.5, 0.07])
@pytest.mark.parametrize("name", METHODS)
def test_every_method_attains_its_density_and_pruned_weights_stay_zero(
    name: str, density: float, tmp_path: Path
) -> None:
    # lr=0.05 instead of 0.1: this net has no BatchNorm, and some methods multiply weights by a
    # factor before they retrain. 1.875 % of 160 epochs is three.
    words = [*MLP, *with_density(name, density)]
    files = needed(tmp_path, *words, density=density)
    run = compose_run(*words, "train.lr=0.05", "train.scale=0.01875", *files)
    # without momentum and decay, weights that stay zero show nothing
    assert all(s.recipe.momentum > 0 and s.recipe.weight_decay > 0 for s in run.stages if s.recipe)
    record, artefacts = perform_run(run, machine(tmp_path))
    ticket = final(run, artefacts)
    kept, prunable = count_kept(ticket.masks), count_prunable(ticket.masks)
    dense = rule(name) == "refused" and not files
    if run.narrowed_from is None:
        assert kept == (prunable if dense else round(density * prunable))
        assert record["density"] == kept / prunable
    else:  # all weights of the narrower net; tests/config/test_narrow.py has the counts
        assert kept == prunable == record["kept"]
        assert record["density"] == pytest.approx(density, rel=0.02)
    assert not list(contract.density(run, record, ticket))
    assert record["accuracy"] > 15  # after three epochs; chance is 10


@pytest.mark.parametrize("name", METHODS)
def test_runs_repeat_under_their_seed_and_differ_under_another(name: str, tmp_path: Path) -> None:
    overrides = [*MLP, "train_fraction=0.1", *with_density(name, 0.3)]
    overrides += needed(tmp_path, *overrides)
    first, second, other = (
        perform_run(compose_run(*overrides, f"seed={seed}"), machine(tmp_path, cache=f"cache{i}"))
        for i, seed in enumerate((3, 3, 4))
    )
    run = compose_run(*overrides)
    a, b, c = (final(run, artefacts) for _, artefacts in (first, second, other))
    prunes = rule(name) != "refused" and run.narrowed_from is None
    assert not list(contract.repeats(a, b, c, prunes))


@pytest.mark.parametrize("name", METHODS)
def test_scoring_and_measuring_leave_the_model_unchanged(name: str, tmp_path: Path) -> None:
    words = [*BATCHNORM, *with_density(name, 0.4)]
    run = compose_run(*words, *needed(tmp_path, *words))
    assert not list(contract.leaves_the_model(run, machine(tmp_path)))


@pytest.mark.parametrize("name", METHODS)
def test_run_ids_ignore_the_machine_and_depend_on_everything_else(
    name: str, tmp_path: Path
) -> None:
    overrides = [*MLP, *with_density(name, 0.3)]
    overrides += needed(tmp_path, *overrides)
    moved = compose_run(*overrides, "env.device=cpu", *contract.ELSEWHERE)
    changes = [
        "seed=1",
        "train_fraction=0.5",
        "train.lr=0.05",
        "train.scale=0.025",
        "model.init=fan_out",
        "dataset.size=16",
        "train.precision=bf16",
    ]
    changed = [compose_run(*overrides, change) for change in changes]
    assert not list(contract.identity(compose_run(*overrides), moved, changed))


def components(node: Any, key: str) -> list[tuple[str, dict[str, Any]]]:
    """Every node with a `_target_` below a resolved configuration node."""
    if not isinstance(node, dict):
        return []
    own = [(key, node)] if "_target_" in node else []
    return own + [
        found for name, value in node.items() for found in components(value, f"{key}.{name}")
    ]


# Set by the run, by the model, or by the paper that prunes all layers but one.
NOT_DEFAULTS = ("density", "mask_rule", "classifier", "resnet")
# Options whose default in YAML differs from that of the class, which is part of identities. DSR's
# authors state the number that it replaces as a share of all weights; IMC's classes have the
# defaults of before version 0.2.0, so that records of that time keep their ids. FORCE's authors
# have ten rounds, and the schedule's class SynFlow's hundred.
OF_METHOD = {
    "force": ("iterations", "counts"),
    "dsr": ("drop_fraction", "drop_of"),
    "imc": ("n_samples", "steps", "probes", "deflated_steps", "directions", "rule", "shrinkage"),
}
# The YAML states another value than the class, whose default is what runs did before: run ids leave
# it out, so that runs from then keep theirs. Tag of the class: field: the YAML's value.
STATED = {"obd": {"estimator": "ggn_rademacher"}, "exponential": {"counts": "authors"}}
# the images that a choice of measure takes
OF_MEASURE = re.compile(r"method\.measures\.\w+\.source")


@pytest.mark.parametrize("name", METHODS)
def test_yaml_lists_every_option_with_the_default_of_its_class(name: str) -> None:
    from runner.config.instantiate import locate  # resolves a `_target_`

    method = OmegaConf.to_container(compose_config([f"method={name}", *MLP]).method, resolve=True)
    for key, node in components(method, "method"):
        for f in filter(lambda f: f.init, fields(locate(node["_target_"], key))):
            assert f.name in node, f"{key}.{f.name} cannot be set from the command line"
            default = (
                f.default
                if f.default is not MISSING
                else f.default_factory()
                if f.default_factory is not MISSING
                else MISSING
            )
            if default is MISSING or isinstance(node[f.name], dict) and not is_dataclass(default):
                continue
            if is_dataclass(default):
                own = OF_METHOD.get(name, ())
                expected = {g.name: getattr(default, g.name) for g in fields(default)}
                assert node[f.name].keys() == expected.keys(), f"{key}.{f.name}"
                found = {k: v for k, v in node[f.name].items() if k not in own}
                assert found == {k: v for k, v in expected.items() if k not in own}, key
            elif f.name not in NOT_DEFAULTS + OF_METHOD.get(name, ()) and not OF_MEASURE.match(key):
                default = STATED.get(node["_target_"], {}).get(f.name, default)
                wanted = list(default) if isinstance(default, tuple) else default
                assert node[f.name] == wanted, f"{key}.{f.name}"
