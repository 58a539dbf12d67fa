"""The stages of a configuration: rounds spelled out, starts resolved, durations scaled, components built, each checked against the stages before it."""

import re
from dataclasses import dataclass, field
from typing import Any

from runner.config.instantiate import construct, flatten
from runner.config.lr_schedule import named_schedule
from runner.config.repeat import expand_rounds
from runner.errors import ConfigError
from runner.spec.durations import epochs_of, point_of, scaled, scaled_point
from runner.spec.pretrained import weights_of
from runner.spec.run import KINDS, LOAD, Recipe, Stage, Start, Weights

INTERPOLATION = re.compile(r"\$\{[\w.]+\}")
STAGE_KEYS = {
    *("name", "kind", "start", "masks", "needs", "pruner", "measure", "data", "density", "round"),
    *("epochs", "segment", "lr", "lr_schedule", "lr_factor", "batch_size", "nesterov", "trainable_decay"),
    "given",  # what has to have a value; without one the stage is left out
    "weights",  # from elsewhere: with a value the stage does not train but loads them
}


@dataclass
class _Built:
    """The stages so far, and how far each has gone."""

    plain: dict[str, Any]  # the whole configuration, resolved
    model: Any
    finished: bool  # the run was done once: files may be gone
    stages: dict[str, Stage] = field(default_factory=dict)
    ends: dict[str, int] = field(default_factory=dict)  # stage name -> its last epoch in the paper's numbers, for messages
    reached: dict[str, int] = field(default_factory=dict)  # stage name -> epoch of the schedule at its end; pruning passes it on


def build_stages(plain: dict[str, Any], raw: Any, model: Any, finished: bool = False) -> tuple[Stage, ...]:
    """The stages of a configuration, in order.

    Args:
        plain: resolved.
        raw: not resolved: it tells by which key a user sets an interpolated option.
        model: the net's component, which knows what weights are published for it.
        finished: as for `build_run`.

    Raises:
        ConfigError: with every problem found.
    """
    listed = {group: plain.get(group, {}).get("stages", []) for group in ("method", "portrait")}  # config.yaml of old runs has no portrait
    written = flatten([follow(item, raw) for group, items in listed.items() if items for item in raw[group]["stages"]])
    written = [_followed(item, raw) for item in written]
    nodes = flatten([*listed.values()])
    written, nodes = ([item for item, node in zip(items, nodes, strict=True) if node.get("given", True) is not None] for items in (written, nodes))
    pairs = expand_rounds(nodes, written, plain["density"], plain["train"]["scale"], "method.stages", _repeat_alias(written, raw))
    built, problems = _Built(plain, model, finished), list[str]()
    broken: set[str] = set()  # what reads a stage that has a problem adds no problem of its own
    for i, (node, twin) in enumerate(pairs):
        later = i - len(pairs) + len(listed["portrait"])
        key = f"method.stages.{i}" if later < 0 else f"portrait.stages.{later}"
        if broken & {(node.get("start") or {}).get("from"), node.get("masks"), *node.get("needs", [])}:
            broken.add(node["name"])
            continue
        before = len(problems)
        try:
            unknown = set(node) - STAGE_KEYS
            if unknown or node.get("kind") not in KINDS or not node.get("name") or node["name"] in built.stages:
                raise ConfigError(f"{key}={node}: needs a new name, a kind ({', '.join(KINDS)}) and keys among {', '.join(sorted(STAGE_KEYS))}")
            _add_stage(node, built, key, _Keys(raw, twin, key))
        except ConfigError as error:
            problems += error.messages
        except ValueError as error:
            problems += str(error).splitlines()
        broken |= {str(node.get("name"))} if len(problems) > before else set()
    if problems:
        raise ConfigError(*dict.fromkeys(problems))
    return tuple(built.stages.values())


def _add_stage(node: dict[str, Any], built: _Built, key: str, keys: "_Keys") -> None:
    plain, earlier = built.plain, built.stages
    start = _build_start(node.get("start") or {}, built, keys(f"{key}.start.rewind"))
    for name in filter(None, [node.get("masks"), *node.get("needs", [])]):
        if name not in earlier and name != "init":
            raise ConfigError(f"{key} ({node['name']}) needs {name!r}, which is no earlier stage: {', '.join(earlier) or 'there is none'}")
    weights = _build_weights(node, built, keys(f"{key}.weights"))
    kind = LOAD if weights else node["kind"]
    trains = kind in ("train", "search")
    slot = "measure" if node["kind"] == "measure" else "pruner"
    component = construct(node[slot], keys(f"{key}.{slot}"), keys) if node.get(slot) is not None else None
    recipe = _build_recipe(node, built, start, key, keys) if trains else None
    if recipe and not recipe.epochs:
        _refuse_no_epochs(node, component, keys(f"{key}.epochs"))
    data = construct(node["data"], keys(f"{key}.data"), keys) if trains and node.get("data") is not None else None
    _refuse_untrainable(data, keys(f"{key}.data"))
    built.stages[node["name"]] = Stage(
        name=node["name"],
        kind=kind,
        start=start,
        masks=node.get("masks"),
        needs=tuple(node.get("needs", [])),
        density=node.get("density", plain["density"]) if slot == "pruner" and component is not None else None,
        recipe=recipe,
        component=component,
        data=data,
        weights=weights,
    )
    built.ends[node["name"]] = 0 if weights else _paper_epochs(node, plain, key)
    built.reached[node["name"]] = recipe.end if recipe else built.reached.get(start.stage, 0)


def _refuse_no_epochs(node: dict[str, Any], component: Any, key: str) -> None:
    """No epoch at all is something for a search that begins with a mask, and for nothing else.

    Raises:
        ConfigError: of a training, or of a search that has to learn before it has a mask.
    """
    if node["kind"] != "search" or not getattr(component, "begins_with_mask", False):
        what = "would train nothing" if node["kind"] == "train" else "has no mask before it has learned one"
        raise ConfigError(f"{key}=0: stage {node['name']!r} {what}; take 1 or more (0, a first mask alone, is for searches that begin with a criterion's mask)")


def _build_weights(node: dict[str, Any], built: _Built, key: str) -> Weights | None:
    return None if node.get("weights") is None else weights_of(key, node["weights"], built.model, built.finished)


def _refuse_untrainable(data: Any, key: str) -> None:
    """A source that gives one image, or the training images themselves, is no synthetic training set.

    Raises:
        ConfigError: it is one of these.
    """
    if data is not None and not getattr(data, "trains", False):
        problem = f"{key}={type(data).__name__.lower()}: nets are trained on it here, which takes noise with labels"
        raise ConfigError(f"{problem}: {key}=normal or {key}=sparse_normal; leave it out for the training images")


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


def _repeat_alias(written: list[Any], raw: Any) -> "_Keys":
    """Keys of the schedules of repeated stages: `method.stages.repeat` is `${method.levels}`."""
    repeated: dict[str, Any] = next((item for item in written if "repeat" in item), {})
    return _Keys(raw, repeated, "method.stages")


def follow(value: Any, raw: Any) -> Any:
    """What an interpolation points to, itself unresolved."""
    if not isinstance(value, str) or not INTERPOLATION.fullmatch(value):
        return value
    node = raw
    for word in value[2:-1].split("."):
        node = node[word]
    return follow(node, raw)


def _followed(item: Any, raw: Any) -> Any:
    """A stage as it is written, its own place followed but not what stands in it; the stages of a repeated one likewise."""
    return {**item, "stages": flatten([follow(stage, raw) for stage in item["stages"]])} if "repeat" in item else item


def _build_start(node: dict[str, Any], built: _Built, place: str) -> Start:
    key = "retrain.rewind" if place.startswith("method.stages") else place  # where a user sets the rewinding point
    earlier, ends, stage = built.stages, built.ends, node.get("from", "init")
    if stage not in ("init", "reinit", *earlier):
        raise ConfigError(f"start.from={stage} is no earlier stage: init, reinit{''.join(', ' + n for n in earlier)}")
    rewind, advance = node.get("rewind"), bool(node.get("advance", False))
    if rewind is None:
        return Start(stage, resume=bool(node.get("resume", False)), advance=advance)
    train = built.plain["train"]
    epoch = point_of(key, rewind, train["batch_size"])
    if stage not in ends:
        raise ConfigError(f"{key}={rewind}: there is no trained stage to rewind to; take start=dense, or leave retrain out")
    if earlier[stage].weights:
        problem = f"{key}={rewind}: start.weights gives stage {stage!r} the end of a training, not its first epochs"
        raise ConfigError(f"{problem}; take retrain=finetune or retrain=reinit, or leave start.weights out: then the net is trained")
    if epoch > ends[stage]:
        raise ConfigError(
            f"{key}={rewind} is after the end of stage {stage!r}, which trains {ends[stage]} epochs: take 0ep to {ends[stage]}ep, or train it for longer"
        )
    end = earlier[stage].recipe.end  # type: ignore[union-attr]
    point = end if epoch == ends[stage] else min(scaled_point(epoch, train["scale"]), end)
    if advance and not float(point).is_integer():
        raise ConfigError(f"retrain.resume_schedule=true goes on with the schedule at a whole epoch, but {key}={rewind} is {point:g} epochs here")
    replaced = earlier[stage].component is not None  # its end keeps the weights that the net computed with; a snapshot keeps the parameters
    return Start(stage, epoch=None if point == end and not replaced else point, advance=advance)


def _paper_epochs(node: dict[str, Any], plain: dict[str, Any], key: str) -> int:
    own = node.get("epochs")
    return epochs_of(f"{key}.epochs", plain["train"]["epochs"] if own is None else own)


def _build_recipe(node: dict[str, Any], built: _Built, start: Start, key: str, keys: "_Keys") -> Recipe:
    train = built.plain["train"]
    paper = _paper_epochs(node, built.plain, key)
    goes_on = (start.resume or start.advance) and start.stage in built.stages
    first = int(start.epoch) if goes_on and start.epoch is not None else built.reached[start.stage] if goes_on else 0
    if start.resume and first and paper <= built.ends[start.stage]:
        raise ConfigError(f"retrain=finetune goes on where {start.stage!r} ended, after {built.ends[start.stage]} epochs, but train.epochs={paper}: raise it")
    epochs, segment = scaled(paper, train["scale"]), node.get("segment")
    if first > epochs or (start.advance and first == epochs > 1):  # of one epoch nothing can be left
        problem = f"stage {node['name']!r} begins after {first} epochs of a training of {epochs}"
        raise ConfigError(f"{problem}: fewer rounds, or a larger train.epochs or train.scale")
    epochs = max(epochs, first + 1) if paper else 0  # every duration is at least 1: a short run's first part may take all
    try:
        return Recipe(
            epochs=epochs,
            lr=float(train["lr"] if node.get("lr") is None else node["lr"]) * float(node.get("lr_factor", 1.0)),
            batch_size=node.get("batch_size") or train["batch_size"],
            momentum=float(train["momentum"]),
            weight_decay=float(train["weight_decay"]),
            lr_schedule=named_schedule(node.get("lr_schedule") or train["lr_schedule"], "train.lr_schedule"),
            precision=train["precision"],
            first_epoch=first,
            last_epoch=first + segment if segment and first + segment < epochs else None,
            warmup=scaled_point(point_of("train.warmup", train.get("warmup", 0), train["batch_size"]), train["scale"]),  # config.yaml of old runs has none
            nesterov=bool(node.get("nesterov", False)),
            trainable_decay=node.get("trainable_decay"),
            test_every=train.get("test_every", 1),  # nor this
        )
    except ValueError as error:  # of a key that the stage has itself, that key is named
        own = {f"train.{name}=": f"{keys(f'{key}.{name}')}=" for name in ("lr", "lr_schedule", "batch_size") if node.get(name) is not None}
        said = str(error).splitlines()
        raise ConfigError(*(next((line.replace(old, new, 1) for old, new in own.items() if line.startswith(old)), line) for line in said)) from None
