"""What makes a record valid. Every reader of records goes through this module (docs/records.md).

A record that is not valid is left out of everything, and one line names its file and the reason.
"""

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

SCHEMA = 1  # version of the format
STATUSES = ("done", "diverged")
CLOSE = 1e-9  # difference of a ratio from the quotient of its counts
Fits: TypeAlias = Callable[[Any], bool]


@dataclass(frozen=True)
class Field:
    """A field that every record has.

    Args:
        what: its values in words, for messages.
        fits: whether a value is one of them.
        nullable: whether null is one, too.
        optional: whether a record of an earlier version may lack it.
    """

    name: str
    what: str
    fits: Fits
    nullable: bool = False
    optional: bool = False

    def problem(self, record: Mapping[str, Any]) -> str | None:
        """Why the field of a record is not valid; None if it is."""
        if self.name not in record:
            return None if self.optional else f"it has no {self.name}"
        value = record[self.name]
        if value is None and self.nullable or value is not None and self.fits(value):
            return None
        return f"{self.name}={_short(value)} is not {self.what}"


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _positive(value: Any) -> bool:
    return _number(value) and value > 0


def _at_least_0(value: Any) -> bool:
    return _number(value) and value >= 0


def _share(value: Any) -> bool:
    return _number(value) and 0 <= value <= 1


def _some_share(value: Any) -> bool:
    return _share(value) and value > 0


def _percent(value: Any) -> bool:
    return _number(value) and 0 <= value <= 100


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _mapping(value: Any) -> bool:
    return isinstance(value, dict)


def _findings(value: Any) -> bool:
    return _mapping(value) and not any(isinstance(each, (dict, list)) for each in value.values())


def _counts(value: Any) -> bool:
    return _mapping(value) and all(map(_whole, value.values()))


def _list(value: Any) -> bool:
    return isinstance(value, list)


WHOLE, PERCENT, SHARE = "a whole number of 0 or more", "from 0 to 100", "from 0 to 1"
TIME, SOME = "a number of 0 or more", "above 0 and at most 1"
FIELDS = (
    Field("schema", f"{SCHEMA}, the format of this version", lambda value: value == SCHEMA),
    Field("run_id", "text", _text),
    Field("status", " or ".join(STATUSES), lambda value: value in STATUSES),
    *(Field(name, "text", _text) for name in ("method", "label", "dataset", "model")),
    Field("seed", WHOLE, _whole),
    Field("train_fraction", SOME, _some_share),
    Field("scale", "above 0", _positive),
    Field("density_target", SOME, _some_share, nullable=True),
    *(Field(name, SHARE, _share, nullable=True) for name in ("density", "sparsity")),
    *(Field(name, WHOLE, _whole, nullable=True) for name in ("prunable", "kept")),
    *(
        Field(name, PERCENT, _percent, nullable=True)
        for name in ("accuracy", "accuracy_best", "accuracy_top5", "val_accuracy")
    ),
    Field("test_loss", TIME, _at_least_0, nullable=True),
    Field("train_flops", WHOLE, _whole, nullable=True, optional=True),
    Field("train_flops_ratio", TIME, _at_least_0, nullable=True, optional=True),
    *(Field(name, WHOLE, _whole) for name in ("epochs", "epochs_total")),
    Field("epoch_kind", "train or search", lambda value: value in ("train", "search")),
    *(Field(name, TIME, _at_least_0) for name in ("runtime_s", "wall_s")),
    *(Field(name, "a mapping", _mapping) for name in ("flops", "provenance")),
    Field("report", "a mapping to numbers, text or null", _findings),
    Field("stages", "a list", _list),
)
FLOPS = (
    Field("dense", TIME, _at_least_0),
    Field("nonzero", TIME, _at_least_0, nullable=True),
)
STAGE = (
    *(Field(name, "text", _text) for name in ("name", "key")),
    Field("epochs", WHOLE, _whole),
    Field("seconds", TIME, _at_least_0),
)
PROVENANCE = (
    *(Field(name, "text", _text) for name in ("device_name", "precision", "finished")),
    Field("git_sha", "text", _text, nullable=True),
    Field("git_dirty", "true or false", lambda value: isinstance(value, bool), nullable=True),
    Field("threads", "a whole number of 1 or more", lambda value: _whole(value) and value > 0),
    Field("numerics", "a mapping to whole numbers", _counts),
)
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


def _problems(record: dict[str, Any], run_id: str) -> Iterator[str]:
    """Every problem; those of a group of rules only if the groups before it have none."""
    if record.get("run_id") != run_id:
        yield f"it is the record of run_id={_short(record.get('run_id'))}"
    yield from _of_fields(record, FIELDS)
    yield from (f"flops: {each}" for each in _of_fields(record["flops"], FLOPS))
    yield from (f"provenance: {each}" for each in _of_fields(record["provenance"], PROVENANCE))
    for number, stage in enumerate(record["stages"], 1):
        if not isinstance(stage, dict):
            yield f"stage {number} is not a mapping"
        yield from (f"stage {number}: {each}" for each in _of_fields(stage, STAGE))
    yield from _of_counts(record)
    yield from _of_identity(record)


def _of_fields(record: Mapping[str, Any], fields: tuple[Field, ...]) -> Iterator[str]:
    return (problem for field in fields if (problem := field.problem(record)))


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
            f"its configuration has {key}={_short(config[key])}, and its record"
            f" {name}={_short(record[name])}"
            for key, name in STATED.items()
            if key in config and config[key] != record[name]
        ),
        None,
    )


def stated(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of `STATED` in a configuration of plain mappings."""
    found: dict[str, Any] = {}
    for key in STATED:
        node: Any = config
        for word in key.split("."):
            node = node.get(word, ...) if isinstance(node, Mapping) else ...
        if node is not ...:
            found[key] = node
    return found


NAME = re.compile(r"^(method|model|dataset):\n(?:  .*\n)*?  name: ([^\s'\"]+)$", re.MULTILINE)
VALUE = re.compile(r"^(seed|density|train_fraction): (\S+)$", re.MULTILINE)


def stated_in(yaml: str) -> dict[str, Any]:
    """`stated` for the text of a config.yaml, as OmegaConf writes it; {} for other texts.

    Only the lines of these settings are read: parsing YAML takes longer than everything else that
    is done for a record.
    """
    names = {f"{key}.name": name for key, name in NAME.findall(yaml)}
    values: dict[str, Any] = {}
    for key, text in VALUE.findall(yaml):
        try:
            values[key] = None if text == "null" else json.loads(text)
        except ValueError:
            continue
    return names | values


def problem_of_rows(rows: Any) -> str | None:
    """Why the rows of a metrics.jsonl are not valid; None if they are."""
    if all(isinstance(row, dict) and _text(row.get("stage")) for row in rows):
        return None
    return "a line is not the row of an epoch"


def problem_of_series(series: Any) -> str | None:
    """Why the content of a series.json is not valid; None if it is."""
    if isinstance(series, dict) and all(map(_list, series.values())):
        return None
    return "it does not map names to lists"


def _short(value: Any) -> str:
    text = json.dumps(value) if isinstance(value, (dict, list)) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
