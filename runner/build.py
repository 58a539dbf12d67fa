"""From a composed configuration to a frozen `Run`: the only place, besides run.py, that knows Hydra's objects. All problems are reported at once."""

import re
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from runner.components import construct, flatten
from runner.errors import ConfigError
from runner.spec import KINDS, Recipe, Run, Stage, Start, epochs_of, scaled

OPTION_GROUPS = ("source", "allocate", "pick", "schedule", "start", "retrain")
INTERPOLATION = re.compile(r"\$\{[\w.]+\}")
STAGE_KEYS = {"name", "kind", "start", "masks", "needs", "epochs", "lr_schedule", "lr_factor", "pruner", "measure"}


def build_run(cfg: DictConfig, *, finished: bool = False) -> Run:
    """The run that `cfg` describes, every duration scaled, every component built and checked.

    Args:
        finished: `cfg` is the config.yaml of a run that was accepted once. It is resolved, so it no longer shows which option groups the method refers to.

    Raises:
        ConfigError: with one message for every problem found.
    """
    return build_plain(OmegaConf.to_container(cfg, resolve=False), finished=finished)  # type: ignore[arg-type]


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
    return Run(
        method=method["name"],
        label=method["label"],
        seed=plain["seed"],
        density=plain["density"],
        train_fraction=plain["train_fraction"],
        scale=plain["train"]["scale"],
        epoch_column=tuple(method["epoch_column"]),
        stages=build_stages(plain, raw),
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
        raise ConfigError(str(error).splitlines()[0]) from error
    return {key: found[key] for key in own}


def _resolved(value: Any, raw: dict[str, Any]) -> Any:
    if isinstance(value, dict):
        return {key: _resolved(item, raw) for key, item in value.items()}
    if isinstance(value, list):
        return [_resolved(item, raw) for item in value]
    if not isinstance(value, str) or "${" not in value:
        return value
    if INTERPOLATION.fullmatch(value):
        return _resolved(_follow(value, raw), raw)
    text = INTERPOLATION.sub(lambda found: str(_resolved(found[0], raw)), value)
    if "${" in text or "\\" in value:
        raise ValueError(f"{value} is more than a reference")
    return text


def build_stages(plain: dict[str, Any], raw: Any) -> tuple[Stage, ...]:
    """The stages of a configuration, in order, each checked against the ones before it.

    Args:
        plain: resolved.
        raw: not resolved: it tells by which key a user sets an interpolated option.
    """
    written = flatten([_follow(item, raw) for item in raw["method"]["stages"]])
    stages: dict[str, Stage] = {}
    broken: set[str] = set()  # what reads a stage that has a problem adds no problem of its own
    ends: dict[str, int] = {}  # stage name -> its last epoch in the paper's numbers, for messages
    problems: list[str] = []
    for i, node in enumerate(flatten(plain["method"]["stages"])):
        key = f"method.stages.{i}"
        if broken & {(node.get("start") or {}).get("from"), node.get("masks"), *node.get("needs", [])}:
            broken.add(node["name"])
            continue
        before = len(problems)
        try:
            unknown = set(node) - STAGE_KEYS
            if unknown or node.get("kind") not in KINDS or not node.get("name") or node["name"] in stages:
                raise ConfigError(f"{key}={node}: needs a new name, a kind ({', '.join(KINDS)}) and keys among {', '.join(sorted(STAGE_KEYS))}")
            stages[node["name"]] = _build_stage(node, plain, stages, ends, key, _Keys(raw, written[i], key))
            ends[node["name"]] = _paper_epochs(node, plain, key)
        except ConfigError as error:
            problems += error.messages
        except ValueError as error:
            problems += str(error).splitlines()
        broken |= {node.get("name")} if len(problems) > before else set()
    if problems:
        raise ConfigError(*dict.fromkeys(problems))
    return tuple(stages.values())


def _build_stage(node: dict[str, Any], plain: dict[str, Any], earlier: dict[str, Stage], ends: dict[str, int], key: str, keys: "_Keys") -> Stage:
    start = _build_start(node.get("start") or {}, plain, earlier, ends)
    for name in filter(None, [node.get("masks"), *node.get("needs", [])]):
        if name not in earlier and name != "init":
            raise ConfigError(f"{key} ({node['name']}) needs {name!r}, which is no earlier stage: {', '.join(earlier) or 'there is none'}")
    trains = node["kind"] in ("train", "search")
    slot = "measure" if node["kind"] == "measure" else "pruner"
    component = construct(node[slot], keys(f"{key}.{slot}"), keys) if node.get(slot) is not None else None
    return Stage(
        name=node["name"],
        kind=node["kind"],
        start=start,
        masks=node.get("masks"),
        needs=tuple(node.get("needs", [])),
        density=plain["density"] if slot == "pruner" and component is not None else None,
        recipe=_build_recipe(node, plain, start, earlier, ends, key) if trains else None,
        component=component,
    )


class _Keys:
    """The key by which a user sets what stands at another key: `method.pruner.score` is `${method.score}`, so it is set as method.score."""

    def __init__(self, raw: Any, stage: dict[str, Any], place: str) -> None:
        self.raw, self.stage, self.place = raw, stage, place

    def __call__(self, key: str) -> str:
        inside = key.startswith(self.place + ".")
        node: Any = self.stage if inside else self.raw
        for word in (key[len(self.place) + 1 :] if inside else key).split("."):
            node = node.get(word) if isinstance(node, dict) else None
        return self(node[2:-1]) if isinstance(node, str) and INTERPOLATION.fullmatch(node) else key


def _follow(value: Any, raw: Any) -> Any:
    """What an interpolation points to, itself unresolved."""
    if not isinstance(value, str) or not INTERPOLATION.fullmatch(value):
        return value
    node = raw
    for word in value[2:-1].split("."):
        node = node[word]
    return _follow(node, raw)


def _build_start(node: dict[str, Any], plain: dict[str, Any], earlier: dict[str, Stage], ends: dict[str, int]) -> Start:
    stage = node.get("from", "init")
    if stage not in ("init", "reinit", *earlier):
        raise ConfigError(f"start.from={stage} is no earlier stage: init, reinit{''.join(', ' + n for n in earlier)}")
    rewind = node.get("rewind")
    if rewind is None:
        return Start(stage, resume=bool(node.get("resume", False)))
    epoch = epochs_of("retrain.rewind", rewind)
    if stage not in ends:
        raise ConfigError(f"retrain.rewind={rewind}: there is no trained stage to rewind to; take start=dense, or leave retrain out")
    if epoch > ends[stage]:
        raise ConfigError(
            f"retrain.rewind={rewind} is after the end of stage {stage!r}, which trains {ends[stage]} epochs: "
            f"take 0ep to {ends[stage]}ep, or train it for longer"
        )
    end = earlier[stage].recipe.epochs  # type: ignore[union-attr]
    epoch = end if epoch == ends[stage] else min(scaled(epoch, plain["train"]["scale"]), end)
    return Start(stage, epoch=None if epoch == end else epoch)


def _paper_epochs(node: dict[str, Any], plain: dict[str, Any], key: str) -> int:
    own = node.get("epochs")
    return epochs_of(f"{key}.epochs", plain["train"]["epochs"] if own is None else own)


def _build_recipe(node: dict[str, Any], plain: dict[str, Any], start: Start, earlier: dict[str, Stage], ends: dict[str, int], key: str) -> Recipe:
    train = plain["train"]
    parent = earlier.get(start.stage) if start.resume else None
    first = parent.recipe.epochs if parent and parent.recipe else 0
    paper = _paper_epochs(node, plain, key)
    if first and paper <= ends[start.stage]:
        raise ConfigError(f"retrain=finetune goes on where {start.stage!r} ended, after {ends[start.stage]} epochs, but train.epochs={paper}: raise it")
    return Recipe(
        epochs=max(scaled(paper, train["scale"]), first + 1),
        lr=float(train["lr"]) * float(node.get("lr_factor", 1.0)),
        batch_size=train["batch_size"],
        momentum=float(train["momentum"]),
        weight_decay=float(train["weight_decay"]),
        lr_schedule=node.get("lr_schedule") or train["lr_schedule"],
        precision=train["precision"],
        first_epoch=first,
    )


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
    if start == "init" and retrain != "none" and not any(p.startswith("retrain") for p in problems):
        problems.append(
            f"retrain={retrain}: method={method['name']} prunes at initialization here, so there is nothing to {retrain}; add start=dense, or leave retrain out"
        )
    if start not in (None, "init") and retrain == "none":
        problems.append(f"retrain=none: start={start} prunes a trained net; say how it is retrained: reinit, rewind or finetune")
    return problems
