"""From a composed configuration to a frozen `Run`: the only place, besides run.py, that knows Hydra's objects. All problems are reported at once."""

import re
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from runner.config.build_stages import INTERPOLATION, build_stages, follow
from runner.config.instantiate import construct
from runner.errors import ConfigError
from runner.paths import CONF
from runner.spec.run import Run, rounds_of

OPTION_GROUPS = ("source", "allocate", "pick", "schedule", "start", "retrain")


def build_run(cfg: DictConfig, *, finished: bool = False) -> Run:
    """The run that `cfg` describes, every duration scaled, every component built and checked.

    Args:
        finished: `cfg` is the config.yaml of a run that was accepted once. It is resolved, so it no longer shows which option groups the method refers to.

    Raises:
        ConfigError: with one message for every problem found.
    """
    return build_plain(OmegaConf.to_container(cfg, resolve=False), finished=finished)  # type: ignore[arg-type]


def load_run(path: Path) -> Run:
    """The run of a config.yaml that was accepted once.

    Raises:
        KeyError, TypeError, ValueError: it was written by another version of the code, which had other options.
    """
    return build_run(OmegaConf.load(path), finished=True)  # type: ignore[arg-type]


def build_plain(raw: dict[str, Any], *, finished: bool = False) -> Run:
    """`build_run` of a configuration that is plain dicts and lists already, its interpolations not resolved."""
    plain = resolve(raw)
    problems = [*_check_values(plain), *([] if finished else _check_options(raw, plain))]
    parts: dict[str, Any] = {}
    for key in ("dataset", "model"):
        try:
            parts[key] = construct(plain[key], key)
        except ConfigError as error:
            problems += error.messages
    if problems:
        raise ConfigError(*problems)
    method = plain["method"]
    stages = build_stages(plain, raw, parts["model"], finished)
    if not parts["dataset"].info().images and any(stage.kind != "measure" for stage in stages):
        problem = f"dataset={parts['dataset'].name} has no images to train or prune on"
        raise ConfigError(f"{problem}, it is drawn by theory experiments: take method=theory/... with it, or another data set with method={method['name']}")
    names = [stage.name for stage in stages]
    return Run(
        method=method["name"],
        label=method["label"],
        seed=plain["seed"],
        density=plain["density"],
        train_fraction=plain["train_fraction"],
        scale=plain["train"]["scale"],
        epoch_column=tuple(name for listed in method["epoch_column"] for name in rounds_of(listed, names)),
        stages=stages,
        **parts,
    )


def resolve(raw: dict[str, Any]) -> dict[str, Any]:
    """The run's part of a configuration with its interpolations replaced by what they point to; `env` and `logger` are left out.

    OmegaConf parses the grammar of each anew, which was five sixths of building a run (measured), so plain references are followed here. What is none, or
    points nowhere, is left to OmegaConf.

    Raises:
        ConfigError: OmegaConf cannot resolve it either.
    """
    own = {key: value for key, value in raw.items() if key not in ("env", "logger")}
    try:
        return {key: _resolved(value, raw) for key, value in own.items()}
    except (KeyError, IndexError, ValueError, TypeError, RecursionError):
        pass
    try:
        found: dict[str, Any] = OmegaConf.to_container(OmegaConf.create(raw), resolve=True)  # type: ignore[assignment]
    except OmegaConfBaseException as error:
        text = str(error).splitlines()[0]
        absent = re.fullmatch(r"Interpolation key '([^']+)' not found", text)
        raise ConfigError(_absent(absent[1], own) if absent else text) from error
    return {key: found[key] for key in own}


def _absent(key: str, groups: dict[str, Any]) -> str:
    """For a reference to what the choice made for its group lacks: method.score where a portrait reads it and the method ranks no weights."""
    group, _, inner = key.partition(".")
    askers = [f"{name}={node.get('name')}" for name, node in groups.items() if isinstance(node, dict) and "${" + key + "}" in str(node)]
    files = {path.stem: OmegaConf.load(path) for path in sorted((CONF / group).glob("*.yaml"))}  # of the group's package, or of the global one
    having = [name for name, file in files.items() if any(OmegaConf.select(file, written) is not None for written in (inner, key))]
    lacking = f"{group}={groups[group]['name']}" if isinstance(groups.get(group), dict) else group
    return f"{' and '.join(askers)} reads {key}, which {lacking} does not have; choices that have it: {group}={'|'.join(having)}"


def _resolved(value: Any, raw: dict[str, Any]) -> Any:
    if isinstance(value, dict):
        return {key: _resolved(item, raw) for key, item in value.items()}
    if isinstance(value, list):
        return [_resolved(item, raw) for item in value]
    if not isinstance(value, str) or "${" not in value:
        return value
    if INTERPOLATION.fullmatch(value):
        return _resolved(follow(value, raw), raw)
    text = INTERPOLATION.sub(lambda found: str(_resolved(found[0], raw)), value)
    if "${" in text or "\\" in value:
        raise ValueError(f"{value} is more than a reference")
    return text


def _check_values(plain: dict[str, Any]) -> list[str]:
    """Problems of single values that need no component."""
    problems = []
    density, rule = plain["density"], plain["method"].get("density")
    name, why = plain["method"].get("name"), plain["method"].get("why", {})
    if density is not None and not 0 < density <= 1:
        problems.append(f"density={density:g} must be in (0, 1]: it is kept / prunable, and sparsity = 1 - density")
    if density is None and rule == "required":
        problems.append(f"density is missing: method={name} prunes to the density that you give, e.g. density=0.1 keeps a tenth of the weights")
    if density is not None and rule == "refused":
        problems.append(f"density={density:g}: method={name} takes no density, {why.get('density', 'it sets its own')}; leave it out or take another method")
    if plain["seed"] < 0:
        problems.append(f"seed={plain['seed']} must be 0 or more")
    if not 0 < plain["train_fraction"] <= 1:
        problems.append(f"train_fraction={plain['train_fraction']:g} must be in (0, 1]: the share of the training images that is used")
    if not 0 < plain["train"]["scale"] < float("inf"):
        problems.append(f"train.scale={plain['train']['scale']:g} must be positive: it multiplies every duration, 1 is the paper's")
    if plain["train"]["epochs"] < 1:
        problems.append(f"train.epochs={plain['train']['epochs']} must be at least 1")
    return problems


def _check_options(raw: dict[str, Any], plain: dict[str, Any]) -> list[str]:
    """An option group that was set although the method does not use it is refused, with the reason."""
    written = str(raw["method"])
    method, problems = plain["method"], []
    for group in OPTION_GROUPS:
        node = plain[group]
        chosen = node.get("name", "given") if isinstance(node, dict) else node
        neutral = node is None or chosen in ("none", "init")
        if neutral or re.search(r"\$\{" + group + r"\b", written):
            continue
        reason = method.get("why", {}).get(group, "it has no such choice")
        problems.append(f"{group} is not an option of method={method['name']}: {reason}. Leave {group}=... out")
    start, retrain = plain["start"].get("name"), plain["retrain"].get("name")
    needed = method.get("start", start)
    if start != needed:
        problems.append(f"start={start}: method={method['name']} {method['why']['start']}; leave start=... out")
    if start == "init" and retrain != "none" and not any(p.startswith("retrain") for p in problems):
        problems.append(
            f"retrain={retrain}: method={method['name']} prunes at initialization here, so there is nothing to {retrain}; add start=dense, or leave retrain out"
        )
    if start not in (None, "init") and retrain == "none" and method.get("retrain") != "optional":
        problems.append(f"retrain=none: start={start} prunes a trained net; say how it is retrained: reinit, rewind or finetune")
    return problems
