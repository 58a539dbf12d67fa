"""Build a frozen `Run` from a composed configuration. All problems are reported at once."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from runner.config.build_stages import build_stages, written_names
from runner.config.check import check_options, check_values, numbers
from runner.config.compose import method_names
from runner.config.group_nodes import check_groups
from runner.config.instantiate import construct
from runner.config.interpolation import Resolved, resolve
from runner.config.narrow import narrower
from runner.config.plain import Plain, parse_plain, to_plain
from runner.config.typed import coerce
from runner.errors import ConfigError
from runner.paths import user_path
from runner.spec.found import Surveyed
from runner.spec.run import Run, Stage, family, rounds_of


def build_run(cfg: DictConfig, *, finished: bool = False) -> Run:
    """The run that `cfg` describes. Durations are scaled; components are built and checked.

    Args:
        finished: `cfg` is the config.yaml of a run that was accepted once. It is resolved, so it no
            longer shows to which option groups the method refers.

    Raises:
        ConfigError: with one message for every problem found.
    """
    return build_plain(to_plain(cfg, resolve=False), finished=finished)


def load_run(path: Path) -> Run:
    """The run of a config.yaml that was accepted once.

    Raises:
        KeyError, TypeError, ValueError: another version of the code, with other options, wrote it.
    """
    return parse_run(path.read_text(encoding="utf-8"))


def parse_run(text: str) -> Run:
    """`load_run` for the text of a configuration, YAML or JSON."""
    return build_plain(parse_plain(text, resolve=False), finished=True)


def build_plain(raw: Plain, *, finished: bool = False) -> Run:
    """`build_run` for a configuration of plain dicts and lists with unresolved references."""
    if "name" not in raw["method"]:
        raise ConfigError(
            "this choice of method is a part that several methods share, not a method; take"
            f" method={'|'.join(method_names())}"
        )
    return _build(resolve(raw), raw.get("env"), finished)


def build_seeds(raw: Plain, seeds: Sequence[int]) -> list[Run]:
    """The run of each seed.

    The runs share their stage objects unless another value in the configuration refers to the seed.
    """
    first = resolve({**raw, "seed": seeds[0]})
    if first.reads_seed:
        return [build_plain({**raw, "seed": seed}) for seed in seeds]
    run = _build(first, raw.get("env"))
    return [replace(run, seed=seed) for seed in seeds]


def _build(resolved: Resolved, env: Any, finished: bool = False) -> Run:
    try:
        values = {**resolved.values, **numbers(resolved.values)}
        problems = check_values(values)
    except ConfigError as error:
        values, problems = resolved.values, list(error.messages)
    if not finished:
        problems += check_groups(values, resolved.origins.key) or check_options(resolved)
        problems += _problems_of_choices(resolved)
    parts: Plain = {}
    for key in ("dataset", "model"):
        try:
            parts[key] = _surveyed(construct(values[key], key), env, finished)
        except ConfigError as error:
            problems += error.messages
    if problems:
        raise ConfigError(*problems)
    method = values["method"]
    stages = build_stages(resolved, parts["model"], parts["dataset"].paper_images, finished)
    if not parts["dataset"].info().images and any(stage.kind != "measure" for stage in stages):
        raise ConfigError(
            f"dataset={parts['dataset'].name} has no images to train or prune on: only theory"
            " experiments draw it; take method=theory/... with it, or another data set with"
            f" method={method['name']}"
        )
    if coerce(method.get("narrows", False), bool, "method.narrows"):
        parts |= _narrowed(values, **parts)
    return Run(
        method=method["name"],
        label=method["label"],
        seed=values["seed"],
        density=values["density"],
        train_fraction=values["train_fraction"],
        scale=values["train"]["scale"],
        epoch_column=_epoch_column(method["epoch_column"], stages, resolved, finished),
        stages=stages,
        **parts,
    )


def _narrowed(values: Plain, dataset: Any, model: Any) -> Plain:
    """The form of `model` with the density's share of its weights, and `model` itself.

    Raises:
        ConfigError: the net has no such form.
    """
    own = narrower(model, dataset.info(), values["density"], values["method"]["name"])
    return {"model": own, "narrowed_from": model}


def _surveyed(component: Any, env: Any, finished: bool) -> Any:
    """The component; a data set of the user's own files with what is in them.

    Args:
        env: the `env` part of the configuration, with unresolved references, or None.
        finished: the run was done once; its configuration has what was found then.

    Raises:
        ConfigError: the files are missing, or not as the data set needs them.
    """
    if not isinstance(component, Surveyed) or (finished and component.found):
        return component
    text = to_plain(OmegaConf.create(dict(env)), resolve=True)["data_dir"] if env else None
    try:
        return component.survey(user_path(text) if text else None)
    except ValueError as error:
        raise ConfigError(*str(error).splitlines()) from error


def _problems_of_choices(resolved: Resolved) -> list[str]:
    """The problems of components that could be chosen: also of those that this run does not use."""
    problems: list[str] = []
    for place in sorted(resolved.origins.choices):
        for name, node in resolved.at(place).items():
            try:
                construct(node, f"{place}.{name}", resolved.origins.key)
            except ConfigError as error:
                problems += error.messages
    return problems


def _epoch_column(
    listed: Sequence[str], stages: Sequence[Stage], resolved: Resolved, finished: bool
) -> tuple[str, ...]:
    """The stages that the papers' Epoch column counts; those that this run leaves out are skipped.

    Raises:
        ConfigError: the method has no such stage.
    """
    present = [stage.name for stage in stages]
    known = {*map(family, present), *present, *written_names(resolved)}
    if unknown := [name for name in listed if name not in known and not finished]:
        raise ConfigError(
            f"method.epoch_column={','.join(unknown)} is no stage of"
            f" method={resolved.values['method']['name']}: {', '.join(sorted(known))}"
        )
    return tuple(name for each in listed for name in rounds_of(each, present))
