"""Values of a wrong type or sign are refused for every option of every file in conf/."""

import copy
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support import needed

from runner.config import typed
from runner.config.build import build_plain
from runner.config.compose import Composer
from runner.config.instantiate import construct
from runner.config.plain import read_plain
from runner.errors import ConfigError
from runner.launch.launcher import launcher_names, make_launcher, read_launcher
from runner.paths import CONF
from runner.spec.request import Environment
from runner.spec.run import Run

WRONG = (True, "abc", -1, float("nan"), float("inf"), [], {}, 10**400)
TEXTS = {  # any text is a value: it is printed, or names something elsewhere
    "label",
    "net",
    "project",
    "entity",
    "group",
    "paper_command",
    "highlights",
    "portrait.artefact.name",
}
# Options for which a wrong-looking value has a meaning, and that value.
MEANT = {
    "s0": -1,  # initial scores of both signs
    "doublings": [],  # the period of the updates stays as it is
    "low": -1,  # the edges of a histogram
    "high": -1,
    "size": -1,  # an amount that is added
    "hidden": [],  # a linear classifier
    "epoch_column": [],  # no stage is counted
    "dense": [],  # every layer is pruned
    "resnet": True,  # refers to the model
}
BY_FILE = {"name", "_target_", "stages", "trained", "before", "uses", "why", "from", "partition"}
BY_FILE |= {"per_data_set"}  # its values are checked as those of the options that read them
GAUSSIAN = ["dataset=gaussian_teacher", "model=student"]
SCORED = ["method=snip", "density=0.3"]


def cases(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Each group with overrides under which the values of one of its files apply.

    Args:
        folder: for files of masks and of images, which some choices read.
    """
    for group, words in _cases():
        name = {"dataset=folder": "images", "dataset=arrays": "arrays.npz"}.get(words[0])
        yield (
            group,
            [
                *words,
                *needed(folder, *words),
                *([f"dataset.path={folder / name}"] if name else []),
            ],
        )


def made(folder: Path) -> Path:
    """The folder, with ten 8x8 images of two classes in files and in one file of arrays."""
    pixels = np.random.default_rng(0).integers(0, 256, (10, 8, 8), dtype=np.uint8)
    for i, image in enumerate(pixels):
        place = folder / "images" / f"class{i % 2}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(place / f"{i}.png")
    np.savez(folder / "arrays.npz", images=pixels, labels=np.arange(10) % 2)
    return folder


def _cases() -> Iterator[tuple[str, list[str]]]:
    for path in sorted((CONF / "method").rglob("*.yaml")):
        name = path.relative_to(CONF / "method").with_suffix("").as_posix()
        if name.startswith("base/"):
            continue
        node = read_plain(path, resolve=False)["method"]
        dense = ["dataset.inputs=100"] if name == "theory/pruning" else []
        own = [*GAUSSIAN, *dense] if name.startswith("theory/") else ["model=mlp"]
        own = ["model=mlp"] if name == "theory/premise" else own
        pruned = [] if node.get("density") == "refused" else ["density=0.3"]
        yield "method", [f"method={name}", *pruned, *own]
    for group in ("train", "model", "dataset", "source", "allocate", "pick", "schedule"):
        for path in sorted((CONF / group).glob("*.yaml")):
            of_teacher = path.stem in ("student", "gaussian_teacher")
            unlabelled = path.stem in ("chi", "ones")
            base = ["method=theory/recovery", *GAUSSIAN] if of_teacher else SCORED
            base = ["method=synflow", "density=0.3"] if unlabelled else base
            # a share of every group of weights, hence of every layer
            base = ["method=snip", "density=0.5", "allocate=layer"] if path.stem == "n_m" else base
            if path.stem != "none":  # SNIP requires a choice
                yield group, [f"{group}={path.stem}", *(b for b in base if f"{group}=" not in b)]
    for start, method in (
        ("init", "snip"),
        ("dense", "snip"),
        ("rounds", "imp"),
        ("wstar", "imc"),
        ("pretrained", "sr_popup"),
    ):
        several = ("finetune", "rewind", "reinit", "lr_rewind")
        for retrain in ("none",) if start == "init" else several:
            chosen = [f"method={method}", "density=0.3", f"start={start}", f"retrain={retrain}"]
            yield "start", chosen
            yield "retrain", chosen
    for path in sorted((CONF / "portrait").glob("*.yaml")):
        needs = {"curvature": "dense", "lipschitz": "wstar", "ritz": "wstar", "spectrum": "imc"}
        base = [f"method={needs[path.stem]}"] if path.stem in needs else SCORED
        trained = ["start=dense"] if path.stem == "norms_rewound" else []
        yield "portrait", [f"portrait={path.stem}", *base, *trained]


def options(node: dict[str, Any], place: str) -> Iterator[tuple[str, Any, str]]:
    """Dotted key, value, and the class or group that has it, of every option below a node."""
    for key, value in node.items():
        if key in BY_FILE or (place, key) == ("retrain", "start"):
            continue
        if isinstance(value, dict):
            yield from options(value, f"{place}.{key}")
        else:
            yield f"{place}.{key}", value, f"{node.get('_target_', place)}.{key}"


def outcome(plain: dict[str, Any]) -> Run | str:
    """The run, or the message of a refusal. Any other exception fails the test."""
    try:
        return build_plain(plain)
    except ConfigError as error:
        return str(error)


def changed(plain: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    """The configuration with another value at a dotted key."""
    *above, last = key.split(".")
    made = node = dict(plain)
    for word in above:
        node[word] = copy.copy(node[word])
        node = node[word]
    node[last] = value
    return made


def right(key: str, was: Any, value: Any) -> bool:
    """Whether a value has a type and sign that the option's documentation allows."""
    last = key.rpartition(".")[2]
    if isinstance(was, bool) and isinstance(value, bool):
        return True
    if value == {} and (last == "hessian" or str(was).startswith("${")):  # a class's defaults
        return True
    if {last, key} & TEXTS and (isinstance(value, str) or (last == "highlights" and value == [])):
        return True
    return last in MEANT and value == MEANT[last] and type(value) is type(MEANT[last])


@cache
def composer() -> Composer:
    return Composer()


@pytest.mark.parametrize("group", dict.fromkeys(group for group, _ in _cases()))
def test_a_value_of_a_wrong_type_or_sign_is_refused(group: str, tmp_path: Path) -> None:
    seen: set[tuple[str, bool]] = set()
    accepted = []
    for of, base in cases(made(tmp_path)):
        if of != group:
            continue
        plain = composer().plain(base)
        default = outcome(plain)
        assert isinstance(default, Run), (base, default)
        if not isinstance(plain[group], dict):
            continue
        for key, was, owner in options(plain[group], group):
            if (owner, was is None) in seen:
                continue
            seen.add((owner, was is None))
            for value in WRONG:
                found = outcome(changed(plain, key, value))
                if isinstance(found, Run) and not right(key, was, value):
                    accepted.append((*base, key, value))
    assert accepted == []


def test_top_level_values_of_a_wrong_type_or_sign_are_refused() -> None:
    for key in ("density", "seed", "train_fraction"):
        for value in ("true", "abc", "-1", "nan", "inf", "[]", "{}", "1e400"):
            with pytest.raises(ConfigError, match=key):
                rest = SCORED[: 1 if key == "density" else 2]
                build_plain(composer().plain([*rest, f"{key}={value}"]))


@pytest.mark.parametrize("name", ["env", *launcher_names(), "wandb"])
def test_a_wrong_type_is_refused_outside_a_run(name: str) -> None:
    accepted = []
    if name == "env":
        node = {**composer().plain(SCORED)["env"], "cache_dir": ".cache", "data_dir": "data"}
    elif name == "wandb":
        node = read_plain(CONF / "logger" / "wandb.yaml", resolve=False)
    else:
        cls, node = read_launcher(name)
    for key, was in node.items():
        for value in WRONG:
            one = {**node, key: value}
            try:
                if name == "env":
                    typed.build(Environment, one, "env")
                elif name == "wandb":
                    construct(one, "logger")
                else:
                    make_launcher(cls, one)
            except ConfigError:
                continue
            text = isinstance(was, str) or key in (*TEXTS, *BY_FILE)
            if (isinstance(value, str) and text) or (key in ("extra", "sizes") and value == {}):
                continue
            if isinstance(was, bool) and isinstance(value, bool):
                continue
            accepted.append((key, value))
    # Ranges of env are checked with the machine (tests/engine/test_machine.py).
    assert [each for each in accepted if name != "env" or each[1] != -1] == []
