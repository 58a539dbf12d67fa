"""Read the settings of an entry of a table as text: from its configuration, run and table.

A key names a value of the resolved configuration (`train.momentum`), the recipe of a stage
(`search/lr`; `last/lr` is the last stage that trains), or one of `READINGS`.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, NamedTuple

from runner.data.counts import training_images
from runner.spec.identity import tag_of
from runner.spec.optimizer import Sgd
from runner.spec.recipe import Recipe
from runner.spec.run import Run, family
from runner.suites.schema import counted

LAST = "last"
NUMBER = re.compile(r"(\d+(?:\.\d+)?)(?:( epoch)s\b)?")


class Source(NamedTuple):
    """What the settings of an entry are read from.

    Args:
        values: its resolved configuration.
        metric: the accuracy that its table prints.
    """

    run: Run
    values: Mapping[str, Any]
    seeds: tuple[int, ...]
    metric: str


def _images(source: Source) -> str:
    run, info = source.run, source.run.dataset.info()
    trained = training_images(info.train, run.train_fraction, run.dataset.validation)
    return f"{thousands(trained)}/{thousands(info.test)}"


def _optimizer(run: Run) -> str:
    """The optimizer of the last training; SGD where a run trains nothing."""
    recipe = _recipe(run, LAST)
    return recipe.optimizer.label if recipe else Sgd.label


READINGS: Mapping[str, Callable[[Source], str | None]] = {
    "images": _images,  # of training and test
    "seeds": lambda source: str(len(source.seeds)) if source.seeds else None,
    "optimizer": lambda source: _optimizer(source.run),
    "reported epoch": lambda source: "best" if source.metric.endswith("_best") else "last",
    "prunings": lambda source: str(sum(stage.kind == "prune" for stage in source.run.stages)),
}


def read(key: str, source: Source) -> str | None:
    """The value at `key` as text; None if the entry has no such stage or key."""
    if key in READINGS:
        return READINGS[key](source)
    if "/" in key:
        stage, _, name = key.partition("/")
        recipe = _recipe(source.run, stage)
        return None if recipe is None else text_of(getattr(recipe, name))
    node: Any = source.values
    for word in key.split("."):
        if not isinstance(node, Mapping) or word not in node:
            return None
        node = node[word]
    return text_of(node)


def as_ran(key: str, run: Run) -> str | None:
    """The value at `key` in a run: a recipe's, such as `last/epochs`."""
    return read(key, Source(run, {}, (), ""))


def label_as_ran(label: str, key: str, run: Run) -> str:
    """A label whose first number is the value at `key` that a run has, the label's in brackets.

    `10` becomes `2 [10]` for a run of two epochs; a label that agrees with its run stays.
    """
    asked, value = NUMBER.search(label), as_ran(key, run)
    if asked is None or value is None or value == asked[1]:
        return label
    ran = counted(value, asked[2])
    return f"{label[: asked.start()]}{ran}{label[asked.end() :]} [{asked[1]}]"


def text_of(value: Any) -> str:
    """A value as text: numbers in their shortest form; a component with its options."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(text_of, value))
    if is_dataclass(value) and not isinstance(value, type):
        options = [f"{f.name} {text_of(getattr(value, f.name))}" for f in fields(value)]
        return tag_of(type(value)) + (f" ({'; '.join(options)})" if options else "")
    return str(value)


def thousands(count: int) -> str:
    """Format 50000 as 50K; a number that is not a multiple of 1000 is written in full."""
    return f"{count // 1000}K" if count >= 1000 and count % 1000 == 0 else f"{count:,}"


def _recipe(run: Run, stage: str) -> Recipe | None:
    """The recipe of the last stage that trains, or of the first stage of that name."""
    trained = [(family(each.name), each.recipe) for each in run.stages if each.recipe]
    if stage == LAST:
        return trained[-1][1] if trained else None
    return next((recipe for name, recipe in trained if name == stage), None)
