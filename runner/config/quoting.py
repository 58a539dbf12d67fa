"""Overrides that set a text exactly: Hydra's quoting, and paths without it.

Hydra gives a meaning to `=`, `,`, `(`, `[`, quotes, `#`, `~`, `${` and others in a value, and
reads words such as `1e3` and `yes` as numbers and truth values. A path has no such meaning: the
values of `PATHS` are taken as they are.
"""

import re
from functools import lru_cache

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException
from omegaconf import MISSING

from runner.errors import ConfigError
from runner.paths import expand_user

FOLDERS = ("env.results_dir", "env.cache_dir", "env.data_dir")
# A path; a list of them in a sweep.
SWEPT = ("start.weights", "method.masks", "dataset.path")
PATHS = (*FOLDERS, *SWEPT)
REFERENCE = "${"  # begins an interpolation


def override(key: str, text: str) -> str:
    """The override that sets `key` to `text` and nothing else; quoted only where necessary."""
    plain = f"{key}={text}"
    return plain if _text(plain) == text and REFERENCE not in text else f"{key}={quoted(text)}"


def quoted(text: str) -> str:
    """The value that Hydra reads as `text`, in double quotes and without interpolation."""
    escaped = re.sub(r"(\\*)\$\{", lambda found: found[1] * 2 + r"\${", text)
    return str(QuotedString(escaped, Quote.double).with_quotes())


def literal_paths(overrides: list[str], sweeps: bool = False) -> list[str]:
    """The overrides with each path quoted as Hydra requires, and `~` at its begin replaced.

    Quotes around a path are Hydra's and not part of it. Calling this twice changes nothing.

    Args:
        sweeps: with `-m`, where commas separate several paths of `SWEPT`.

    Raises:
        ConfigError: a path contains `${`, or is `???`.
    """
    found, problems = list[str](), list[str]()
    for each in overrides:
        key, sign, value = each.partition("=")
        if not sign or key not in PATHS or value == "null" or (sweeps and _several(each)):
            found.append(each)
            continue
        if REFERENCE in value:
            problems.append(no_reference(key, value))
        text = _text(each) if value[:1] in ("'", '"') else None
        if MISSING in (value, text):
            problems.append(f"{key}={value}: OmegaConf reads ??? as no value; take another name")
        found.append(override(key, expand_user(value if text is None else text)))
    if problems:
        raise ConfigError(*problems)
    return found


def no_reference(key: str, value: str) -> str:
    """The message for a path with an interpolation."""
    return f"{key}={value}: nothing in a path is replaced, and ${{ is not allowed; write the path"


@lru_cache(maxsize=1000)
def _text(each: str) -> str | None:
    """The text that an override sets; None if it sets something else or cannot be read."""
    try:
        (parsed,) = OverridesParser.create().parse_overrides([each])
        value = parsed.value()
    except (HydraException, ValueError):
        return None
    if isinstance(value, QuotedString):
        return str(value.text)
    return value if isinstance(value, str) and not parsed.is_sweep_override() else None


def _several(each: str) -> bool:
    """Whether an override of one of `SWEPT` is a sweep."""
    if each.partition("=")[0] not in SWEPT:
        return False
    try:
        (parsed,) = OverridesParser.create().parse_overrides([each])
    except HydraException:
        return False
    return bool(parsed.is_sweep_override())
