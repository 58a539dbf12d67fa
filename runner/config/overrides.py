"""The words of a command line before Hydra sees them: own folders, and what is refused.

`--config-dir D` becomes the override `hydra.searchpath=[file://D]`. It thereby reaches whatever
repeats a command line: sweeps, launchers, plans, tables and printed commands.
"""

import os
import re
import shlex
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from runner.config.synonyms import as_read, corrected, other_key
from runner.errors import ConfigError
from runner.own import standing_folders, use
from runner.paths import CONF

SEARCH = "hydra.searchpath"
OWN_FOLDER = ("--config-dir", "-cd")
SWEEP = ("-m", "--multirun")
LONGEST_PATH = 4000  # bytes of a folder
LONGEST = 250  # bytes of a file's name without .yaml, on the file systems in use
# A word with two dashes that is not among Hydra's flags (--hydra-help) is meant as a value.
HYDRA_FLAGS = re.compile(
    r"--(help|hydra-help|version|cfg|resolve|package|run|multirun|shell-completion|config-path"
    r"|config-name|config-dir|experimental-rerun|info)"
)
# A data set refuses another name itself, unless it consists of the user's own files.
CHECKED = {"dataset.name"}
# Keys below a group that its file alone sets: they say what the choice is. `*` is any group.
BY_FILE = {
    "*": {"name", "_target_"},
    "allocate": {"net"},
    "dataset": {"found"},
    "model": {"resnet"},
    "method": {
        "density",
        "narrows",
        "uses",
        "why",
        "start",
        "retrain",
        "stages",
        "paper_command",
        "per_data_set",
    },
    "start": {"trained", "before", "finetune.from"},
    "retrain": {"label", "start"},
    "portrait": {"stages"},
}


def with_search_path(words: Sequence[str]) -> list[str]:
    """The words with synonyms as they are read, and `--config-dir D` as an override of a folder.

    The parts in the folder become known.

    Raises:
        ConfigError: the folder is missing, or the flag is given twice.
    """
    rest: list[str] = []
    folders: list[str] = []
    waiting = iter(words)
    for word in waiting:
        flag, sign, value = word.partition("=")
        if flag in OWN_FOLDER:
            folders.append(value if sign else next(waiting, ""))
        else:
            rest.append(as_read(word))
    if len(folders) > 1:
        raise ConfigError(f"--config-dir is given twice: {' and '.join(folders)}; give it once")
    for folder in folders:
        if not folder or len(os.fsencode(folder)) > LONGEST_PATH or not Path(folder).is_dir():
            raise ConfigError(
                f"--config-dir={folder}: there is no such folder; it contains groups of your own,"
                " e.g. method/mine.yaml"
            )
        rest.append(_search([Path(folder)]))
    use_folders(rest)
    return rest


def search_path(overrides: Iterable[str]) -> list[str]:
    """The override that names own folders, in a list; empty if there is none."""
    return [each for each in overrides if each.startswith(f"{SEARCH}=")]


def conf_folders(overrides: Iterable[str]) -> list[Path]:
    """Winnow's configuration folder and those of the user, each once."""
    standing = [folder.conf for folder in standing_folders()]
    return list(dict.fromkeys([CONF, *_named_folders(overrides), *standing]))


def use_folders(overrides: Iterable[str]) -> None:
    """Make the parts of the user's folders among the overrides known to this process."""
    use(_named_folders(overrides))


def _named_folders(overrides: Iterable[str]) -> list[Path]:
    own = [value for each in search_path(overrides) for value in _value(each) or []]
    return [Path(str(each).removeprefix("file://")) for each in own]


def with_standing_folders(overrides: Sequence[str]) -> list[str]:
    """The overrides with `WINNOW_PATH` as a part of them, for a machine where it is not set."""
    standing = [folder.conf for folder in standing_folders() if not folder.package]
    if not standing:
        return list(overrides)
    rest = [each for each in overrides if not each.startswith(f"{SEARCH}=")]
    return [*rest, _search(dict.fromkeys([*_named_folders(overrides), *standing]))]


def _search(folders: Iterable[Path]) -> str:
    """The override that names own folders."""
    texts = (f"file://{folder.absolute()}" for folder in folders)
    escaped = (text.replace("\\", "\\\\").replace("'", "\\'") for text in texts)
    quoted = ",".join(f"'{each}'" for each in escaped)
    return f"{SEARCH}=[{quoted}]"


def check_words(words: Sequence[str]) -> None:
    """Refuse a command line that Hydra would misread or accept in silence.

    Raises:
        ConfigError: with every problem found.
    """
    sweeps = any(word in SWEEP or word == "hydra.mode=MULTIRUN" for word in words)
    problems = [*_with_dashes(words), *given_twice(words)]
    launchers = [w for w in words if w.startswith(("hydra/launcher=", "hydra.launcher."))]
    if launchers and not sweeps:
        problems.append(
            f"{launchers[0]}: only a sweep has a launcher, and without -m this is one run; write"
            f" {command(['-m', *words])}"
        )
    if problems:
        raise ConfigError(*problems)
    check_overrides([word for word in words if not word.startswith("-")])


def command(words: Sequence[str]) -> str:
    """The command line to type for these words."""
    return shlex.join(["python", "run.py", *words])


def given_twice(words: Iterable[str]) -> list[str]:
    """A message for each key with several values; Hydra would take the last."""
    values: dict[str, list[str]] = {}
    for word in words:
        key, sign, value = word.partition("=")
        if sign and not key.startswith("-"):
            values.setdefault(key.lstrip("+~"), []).append(value)
    return [
        f"{key} is given {len(found)} times: {' and '.join(f'{key}={v}' for v in found)}; leave all"
        " but one out"
        for key, found in values.items()
        if len(found) > 1
    ]


def _with_dashes(words: Sequence[str]) -> Iterator[str]:
    """A message for each override with dashes, e.g. --density=0.1 or --density 0.1."""
    for word, following in zip(words, [*words[1:], ""], strict=True):
        key, sign, value = word.partition("=")
        if not re.fullmatch(r"--\w[\w./-]*", key) or HYDRA_FLAGS.fullmatch(key):
            continue
        if not sign:
            value = following if following and "=" not in following else "VALUE"
        plain = key.removeprefix("--").replace("-", "_")
        flag = "-m " if "," in value and not set(words) & set(SWEEP) else ""
        yield f"{word}: values have no dashes; write {flag}{corrected(plain, value)}"


def check_overrides(overrides: Sequence[str]) -> None:
    """Refuse overrides that add or delete keys, and those of keys that only a file sets.

    Raises:
        ConfigError: with a message for each such override.
    """
    folders = conf_folders(overrides)
    problems = [
        f"{each} adds or deletes a key, but only the keys of --cfg job are read;"
        f" {_without_sign(each, folders)}"
        for each in overrides
        if each.startswith(("+", "~"))
        and not each.lstrip("+~").startswith("hydra")
        and not _adds_group(each, folders)
    ]
    for each in overrides:
        for key in keys_set(each):
            if _by_file(key):
                problems.append(f"{each}: {_refusal(key)}")
        if (problem := _several_choices(each, folders) or _no_file_name(each, folders)) is not None:
            problems.append(problem)
    if problems:
        raise ConfigError(*dict.fromkeys(problems))


def _refusal(key: str) -> str:
    """Why a key that only a file sets is refused, and what to write."""
    if other := other_key(key):
        return f"{key} chooses nothing; take {other}"
    group = key.partition(".")[0]
    return (
        f"{key} says what {group}=NAME is, so only the file of that choice sets it; choose another"
        f" with {group}=NAME, or write a file of your own (--config-dir)"
    )


def corrected_word(word: str) -> str:
    """The override that a word of the command line may mean."""
    key, sign, value = word.partition("=")
    return corrected(key, value) if sign else word


def _no_file_name(override: str, folders: Sequence[Path]) -> str | None:
    """The message for a choice of a group that is longer than any file's name can be."""
    group, _, text = override.lstrip("+").partition("=")
    long = next((part for part in text.split(",") if len(os.fsencode(part)) > LONGEST), None)
    if long is None or not any((each / group).is_dir() for each in folders):
        return None
    return f"{group}={long[:40]}... is not a choice: it has {len(long):,} characters"


def _several_choices(override: str, folders: Sequence[Path]) -> str | None:
    """The message for a group that is given a list, a mapping or a reference, also by a function.

    Hydra would merge the listed files, and fails on items that are no text and on references. A
    group of the user's takes a list of names.
    """
    group, _, text = override.lstrip("+").partition("=")
    if not re.search(r"[\[{(]", text) or not any((each / group).is_dir() for each in folders):
        return None
    value = _value(override)
    if not isinstance(value, (list, dict)) and "${" not in str(value):
        return None
    names = isinstance(value, list) and all(isinstance(each, str) for each in value)
    if names and not (CONF / group).is_dir():
        return None
    return (
        f"{override}: {group} is one choice; write {group}=NAME, or for a sweep"
        f" -m {group}=NAME,NAME"
    )


def _without_sign(override: str, folders: Sequence[Path]) -> str:
    """What to write in place of an override that adds or deletes a key."""
    word = override.lstrip("+~")
    written = corrected_word(word)
    top = re.split("[./=]", written)[0]
    keys = re.findall(r"^(\w+):", (CONF / "config.yaml").read_text(encoding="utf-8"), re.MULTILINE)
    if top in keys or any((folder / top).is_dir() for folder in folders):
        return f"write {written}"
    return f"there is no {top}, so leave it out (--config-dir=FOLDER brings groups of your own)"


def _adds_group(override: str, folders: Sequence[Path]) -> bool:
    """Whether it chooses from a group of the user's that Winnow lacks, e.g. +experiment=a."""
    group = override.lstrip("+").partition("=")[0].partition("@")[0]
    if not override.startswith("+") or (CONF / group).is_dir():
        return False
    return any((folder / group).is_dir() for folder in folders)


def keys_set(override: str) -> Iterator[str]:
    """The dotted keys that an override sets, those inside a mapping included."""
    key, _, text = override.lstrip("+~").partition("=")
    yield key
    if "{" in text:
        yield from (f"{key}.{below}" for below in _below(_value(override)))


def _below(value: Any) -> Iterator[str]:
    for name, item in value.items() if isinstance(value, dict) else ():
        yield str(name)
        yield from (f"{name}.{below}" for below in _below(item))


def _value(override: str) -> Any:
    """The value as Hydra reads it; None if it cannot, which Hydra reports itself."""
    try:
        (parsed,) = OverridesParser.create().parse_overrides([override])
        return None if parsed.is_sweep_override() else parsed.value()
    except HydraException:
        return None


def _by_file(key: str) -> bool:
    group, _, inner = key.partition(".")
    words = inner.split(".")
    if group in ("hydra", "env") or not inner or key in CHECKED:
        return False
    fixed = BY_FILE["*"] if (CONF / group).is_dir() else set[str]()
    starts = {".".join(words[:count]) for count in range(1, len(words) + 1)}
    return words[0] in fixed or "_target_" in words or bool(starts & BY_FILE.get(group, set()))
