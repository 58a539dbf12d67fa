"""Identity of runs and stages: a hash of their canonical form.

The canonical form is JSON with sorted keys. A component appears under its tag, a short name that
its class declares. The form has neither class names nor file names, so code can be moved and
renamed. Fields at their default are left out, so that a new option whose default changes nothing
keeps all results valid. Fields that equality ignores (`compare=False`) are left out too, and so are
stages beside the run (`Stage.extra`), which have cache keys of their own. Settings of the machine
are not hashed.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from functools import cache
from typing import Any

from runner.registry import own_version
from runner.spec.run import Run

# Raised by hand when a change of the code alters the numbers of a kind of stage.
# The git sha is provenance, never identity.
NUMERICS = {"train": 1, "prune": 1, "search": 1, "measure": 1, "load": 1, "read": 1}
# Likewise the pixels of data sets that are read from image files in every epoch, by tag.
# imagenet 2: torch scales the bytes instead of Pillow; a value differs by at most 2.
PIXELS = {"imagenet": 2}
SCALARS = (bool, int, float, str)
Naming = Callable[[type], str]  # class of a component -> its name in the canonical form


@dataclass(frozen=True)
class Identity:
    """The id of a run and the cache keys of its stages.

    Args:
        run_id: a readable prefix and the first 12 hex digits of the run's hash.
        keys: stage name -> cache key, 32 hex digits.
    """

    run_id: str
    keys: dict[str, str]


def tag_of(cls: type) -> str:
    """The tag that a class declares itself: `tag: ClassVar[str] = "..."`; none is inherited.

    Raises:
        TypeError: the class declares none.
    """
    tag = vars(cls).get("tag")
    if not isinstance(tag, str):
        raise TypeError(
            f'{cls.__qualname__} has no canonical form: declare tag: ClassVar[str] = "..." in the'
            " class"
        )
    return tag


def name_of(cls: type) -> str:
    """The name of a class in the canonical form: its tag.

    A class of the user's own has the version of its code too (`registry.own_version`): its changes
    are not seen in NUMERICS.

    Raises:
        TypeError: as `tag_of`.
    """
    tag, version = tag_of(cls), own_version(cls)
    return f"{tag}@{version}" if version else tag


def canonical(value: Any, naming: Naming = name_of) -> Any:
    """Convert `value` to plain JSON types.

    Dataclasses become {"class": name, non-default fields}, whole floats ints, and tuples lists.

    Args:
        naming: gives the name of a class. Functions other than `name_of` reproduce the identities
            of older versions of the code.

    Raises:
        TypeError: a type without a canonical form.
    """
    if is_dataclass(value) and not isinstance(value, type):
        kept = {
            f.name: canonical(getattr(value, f.name), naming)
            for f in _compared(type(value))
            if not _is_default(f, getattr(value, f.name), naming)
        }
        return {"class": naming(type(value)), **kept}
    if isinstance(value, dict):
        return {str(k): canonical(v, naming) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [canonical(v, naming) for v in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)  # 1.0 and 1 are the same setting
    if value is None or isinstance(value, SCALARS):
        return value
    raise TypeError(
        f"{value!r} has no canonical form: use numbers, strings, lists, dicts and dataclasses of"
        " these"
    )


def own_parts(value: Any) -> dict[str, type]:
    """Tag -> class of each part of the user's own in a run or a component."""
    found: dict[str, type] = {}
    if is_dataclass(value) and not isinstance(value, type):
        if own_version(type(value)):
            found[tag_of(type(value))] = type(value)
        value = [getattr(value, f.name) for f in fields(value)]
    if isinstance(value, dict):
        value = list(value.values())
    for item in value if isinstance(value, (list, tuple)) else ():
        found |= own_parts(item)
    return found


def digest(value: Any) -> str:
    """SHA-256 of the canonical form, in hex."""
    return _sha(_compact(value))


def run_id(run: Run) -> str:
    """The run's identity: `Identity.run_id`."""
    return identify(run).run_id


def stage_keys(run: Run) -> dict[str, str]:
    """Stage name -> cache key: `Identity.keys`."""
    return identify(run).keys


def identify(run: Run, naming: Naming = name_of) -> Identity:
    """The identity of one run."""
    return identify_all([run], naming)[0]


def identify_all(runs: Sequence[Run], naming: Naming = name_of) -> list[Identity]:
    """The identities of several runs.

    A stage object that several runs share, as the runs of several seeds do, is serialized once.
    """
    texts = {
        id(stage): _compact(stage, naming)
        for stage in {id(s): s for run in runs for s in run.stages}.values()
    }
    shared = {id(part): _compact(part, naming) for run in runs for part in (run.dataset, run.model)}
    return [
        _identity(
            run,
            [texts[id(stage)] for stage in run.stages],
            shared[id(run.dataset)],
            shared[id(run.model)],
        )
        for run in runs
    ]


def _identity(run: Run, stages: list[str], dataset: str, model: str) -> Identity:
    """The identity of a run, from its parts as canonical JSON."""
    data = {
        "dataset": dataset,
        "model": model,
        "train_fraction": _compact(run.train_fraction),
        "seed": _compact(run.seed),
    }
    if pixels := PIXELS.get(tag_of(type(run.dataset))):
        data["pixels"] = _compact(pixels)
    base = _joined(data)
    keys: dict[str, str] = {}
    for stage, text in zip(run.stages, stages, strict=True):
        parents = {name: keys[name] for name in stage.parents}
        parts = {
            "base": base,
            "stage": text,
            "parents": _compact(parents),
            "numerics": _compact(NUMERICS[stage.kind]),
        }
        keys[stage.name] = _sha(_joined(parts))[:32]
    essential = [text for stage, text in zip(run.stages, stages, strict=True) if not stage.extra]
    numerics = {kind: NUMERICS[kind] for kind in {stage.kind for stage in run.essential}}
    plain = {"method": run.method, "density": run.density, "scale": run.scale, "numerics": numerics}
    if run.narrowed_from is not None:
        plain["narrowed_from"] = run.narrowed_from
    own = {name: _compact(value) for name, value in plain.items()}
    whole = own | data | {"stages": f"[{','.join(essential)}]"}
    return Identity(f"{_prefix(run)}-{_sha(_joined(whole))[:12]}", keys)


def _prefix(run: Run) -> str:
    """The readable part of a run id."""
    prunes = any(stage.component is not None for stage in run.essential)
    density = f"d{run.density:g}" if run.density is not None else "found" if prunes else "d1"
    return f"{run.method}-{run.model.name}-{run.dataset.name}-{density}-s{run.seed}"


def _joined(parts: dict[str, str]) -> str:
    """A JSON object with these values, which are JSON already, in the format of `_compact`."""
    return "{" + ",".join(f'"{name}":{parts[name]}' for name in sorted(parts)) + "}"


def _sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _compact(value: Any, naming: Naming = name_of) -> str:
    return json.dumps(
        canonical(value, naming), sort_keys=True, separators=(",", ":"), allow_nan=False
    )


@cache
def _compared(cls: type) -> tuple[Field[Any], ...]:
    """The fields of a dataclass that are part of the canonical form."""
    return tuple(f for f in fields(cls) if f.compare)


def _is_default(f: Field[Any], value: Any, naming: Naming) -> bool:
    default = f.default if f.default_factory is MISSING else f.default_factory()
    if default is MISSING or value is default:
        return default is not MISSING
    if type(value) is type(default) and isinstance(value, SCALARS):
        return bool(value == default)
    if isinstance(value, SCALARS) != isinstance(default, SCALARS):
        return False  # one is a scalar, the other is not
    if isinstance(value, SCALARS) and isinstance(default, SCALARS):  # most fields: needs no JSON
        one, other = canonical(value), canonical(default)
        return type(one) is type(other) and one == other
    # In canonical form 1 equals 1.0 and a list equals a tuple, but True equals no number.
    return _compact(value, naming) == _compact(default, naming)
