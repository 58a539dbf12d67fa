"""What makes a record valid. Every reader of records goes through this module (docs/records.md).

A record that is not valid is left out of everything, and one line names its file and the reason.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from runner.records.fields import (
    CPU,
    DATA,
    FIELDS,
    FLOPS,
    NARROWED,
    ORIGIN,
    PROVENANCE,
    ROW,
    STAGE,
    Field,
    problems,
    short,
)
from runner.spec.record_values import list_of, number

Stated: TypeAlias = Mapping[str, object]  # key of `STATED` -> its value, of any type in the file
CLOSE = 1e-9  # difference of a ratio from the quotient of its counts
# Pairs of which the first is at least the second: both are of the last epoch's network, and the
# best epoch is at least the last one.
ORDERED = (("accuracy_best", "accuracy"), ("accuracy_top5", "accuracy"))
# The settings that a configuration and a record both state: key -> field.
STATED = {
    "method.name": "method",
    "model.name": "model",
    "dataset.name": "dataset",
    "seed": "seed",
    "density": "density_target",
    "train_fraction": "train_fraction",
}


def strict_json(text: str | bytes) -> Any:
    """The content of JSON whose numbers are all finite.

    Raises:
        ValueError: it is no such JSON.
        RecursionError: it is nested too deeply.
    """
    content = json.loads(text, parse_constant=_refuse)
    if not _finite(content):
        raise ValueError("a number is not finite")
    return content


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not finite")


def _finite(value: Any) -> bool:
    """Whether no number in plain JSON is infinite: 1e999 is read as infinity."""
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, dict):
        return all(map(_finite, value.values()))
    return not isinstance(value, list) or all(map(_finite, value))


def problem_of(record: Any, run_id: str) -> str | None:
    """Why the content of a result.json is not the record of a run; None if it is.

    Args:
        record: plain JSON with finite numbers.
        run_id: the run for which it is stored.
    """
    if not isinstance(record, dict):
        return "it is not the record of a run"
    return next(_problems(record, run_id), None)


def _problems(record: Mapping[str, Any], run_id: str) -> Iterator[str]:
    """Every problem; those of a group of rules only if the groups before it have none."""
    if record.get("run_id") != run_id:
        yield f"it is the record of run_id={short(record.get('run_id'))}"
    yield from problems(record, FIELDS)
    yield from _in("flops", record["flops"], FLOPS)
    for name, fields in (("data", DATA), ("narrowed", NARROWED)):
        if name in record:
            yield from _in(name, record[name], fields)
    yield from _of_provenance(record["provenance"])
    yield from _of_stages(record["stages"], record["provenance"].get("origins", []))
    yield from _of_counts(record)
    yield from _of_accuracies(record)
    yield from _of_identity(record)


def _in(place: str, mapping: Any, fields: tuple[Field, ...]) -> Iterator[str]:
    """Every problem of a part of a record, with its place."""
    if not isinstance(mapping, dict):
        yield f"{place} is not a mapping"
        return
    yield from (f"{place}: {each}" for each in problems(mapping, fields))


def _of_provenance(provenance: Mapping[str, Any]) -> Iterator[str]:
    yield from _in("provenance", provenance, PROVENANCE)
    parts = {"provenance": provenance}
    for index, origin in enumerate(provenance.get("origins", [])):
        if origin is not None:  # null: from before version 0.2.0
            yield from _in(f"provenance: origins.{index}", origin, ORIGIN)
            parts[f"provenance: origins.{index}"] = origin
    for place, part in parts.items():
        if "cpu" in part:
            yield from _in(f"{place}: cpu", part["cpu"], CPU)


def _of_stages(stages: list[Any], origins: list[Any]) -> Iterator[str]:
    """Problems of the rows of stages; each has an `origin` where the origins differ."""
    for position, stage in enumerate(stages, 1):
        place = f"stage {position}"
        yield from _in(place, stage, STAGE)
        if ("origin" in stage) != bool(origins):
            has = "an origin" if "origin" in stage else "no origin"
            yield f"{place} has {has}, and provenance has {len(origins)} origins"
        elif origins and stage["origin"] >= len(origins):
            yield f"{place}: origin={stage['origin']} is none of the {len(origins)} origins"


def _of_counts(record: Mapping[str, Any]) -> Iterator[str]:
    """Problems of numbers that determine each other."""
    kept, prunable, density = record["kept"], record["prunable"], record["density"]
    if kept is not None and (prunable is None or kept > prunable):
        yield f"kept={kept} is more than prunable={prunable}"
    if density is not None and kept is not None and abs(density * prunable - kept) > CLOSE * kept:
        yield f"density={density} is not kept / prunable = {kept} / {prunable}"
    sparsity = record["sparsity"]
    if None not in (density, sparsity) and abs(1 - density - sparsity) > CLOSE:
        yield f"sparsity={sparsity} is not 1 - density = 1 - {density}"
    dense, nonzero = record["flops"]["dense"], record["flops"]["nonzero"]
    if nonzero is not None and nonzero > dense:
        yield f"flops.nonzero={nonzero} is more than flops.dense={dense}"
    if record["status"] == "diverged" and record["accuracy"] is not None:
        yield f"accuracy={record['accuracy']} of a run that diverged is not null"


def _of_accuracies(record: Mapping[str, Any]) -> Iterator[str]:
    for larger, smaller in ORDERED:
        values = record[larger], record[smaller]
        if None not in values and values[0] < values[1]:
            yield f"{larger}={values[0]} is less than {smaller}={values[1]}"


def _of_identity(record: Mapping[str, Any]) -> Iterator[str]:
    """The problem of a record whose fields are not those of its run id."""
    target, found = record["density_target"], str(record["run_id"])
    density = f"d{target:g}" if target is not None else None
    head = f"{record['method']}-{record['model']}-{record['dataset']}-"
    tail = rf"({re.escape(density) if density else 'found|d1'})-s{record['seed']}-[0-9a-f]{{12}}"
    if not found.startswith(head) or not re.fullmatch(tail, found.removeprefix(head)):
        yield (
            f"its method, model, dataset, density and seed are not those of its run id, but"
            f" {head}{density or 'found'}-s{record['seed']}"
        )


def problem_of_config(config: Mapping[str, Any], record: Mapping[str, Any]) -> str | None:
    """Why a record does not belong to a configuration; None if it can.

    Args:
        config: settings by key, some of `STATED`; others are not compared.
    """
    return next(
        (
            f"its configuration has {key}={short(config[key])}, and its record"
            f" {name}={short(record[name])}"
            for key, name in STATED.items()
            if key in config and config[key] != record[name]
        ),
        None,
    )


def stated(config: Mapping[str, Any]) -> Stated:
    """The settings of `STATED` in a configuration of plain mappings."""
    found: dict[str, object] = {}
    for key in STATED:
        node: Any = config
        for word in key.split("."):
            node = node.get(word, ...) if isinstance(node, Mapping) else ...
        if node is not ...:
            found[key] = node
    return found


NAME = re.compile(r"^(method|model|dataset):\n(?:  .*\n)*?  name: ([^\s'\"]+)$", re.MULTILINE)
VALUE = re.compile(r"^(seed|density|train_fraction): (\S+)$", re.MULTILINE)


def stated_in(yaml: str) -> Stated:
    """`stated` for the text of a config.yaml, as OmegaConf writes it; {} for other texts.

    Only the lines of these settings are read: parsing YAML takes longer than everything else that
    is done for a record.
    """
    names = {f"{key}.name": name for key, name in NAME.findall(yaml)}
    values: dict[str, object] = {}
    for key, text in VALUE.findall(yaml):
        try:
            values[key] = None if text == "null" else json.loads(text)
        except ValueError:
            continue
    return names | values


def problem_of_rows(rows: Any) -> str | None:
    """Why the rows of a metrics.jsonl are not valid; None if they are."""
    if not isinstance(rows, list):
        return "it is not a list of rows"
    found = (each for i, row in enumerate(rows, 1) for each in _in(f"row {i}", row, ROW))
    return next(found, None)


def problem_of_series(series: Any) -> str | None:
    """Why the content of a series.json is not valid; None if it is."""
    if not isinstance(series, dict):
        return "it does not map names to lists of numbers"
    wrong = (name for name, numbers in series.items() if not list_of(number)(numbers))
    return next((f"series {name} is not a list of numbers" for name in wrong), None)
