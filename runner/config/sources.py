"""The text of `--cfg job`: the configuration, with the comments and files that explain each value.

A comment in `conf/` states the choices of a key, and the source of its default. Hydra's own text
has none, because a composed configuration has no comments.
"""

import argparse
import contextlib
import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml  # type: ignore[import-untyped]
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import OmegaConf

from runner.config.compose import compose_config
from runner.config.overrides import conf_folders
from runner.config.parsed_files import hydra_on
from runner.config.quoting import literal_paths
from runner.errors import ConfigError
from runner.paths import CONF

Keys = tuple[str, ...]
WIDTH = 100
TYPED = "command line"


@dataclass(frozen=True)
class Source:
    """Where a key is set last, and what is written beside it there."""

    place: str
    comment: str = ""


@dataclass(frozen=True)
class Request:
    """A command line with `--cfg job`.

    Args:
        package: the keys above the part to print; empty = the whole configuration.
    """

    overrides: tuple[str, ...]
    resolve: bool = False
    package: Keys = ()


def asked(words: Sequence[str]) -> Request | None:
    """The request of a command line with `--cfg job`; None for another one, which Hydra answers."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--cfg", "-c", choices=["job"], required=True)
    parser.add_argument("--resolve", action="store_true")
    parser.add_argument("--package", "-p", default="")
    flags = [word for word in words if word.startswith("-")]
    if "--cfg" not in flags and "-c" not in flags:
        return None
    with contextlib.suppress(argparse.ArgumentError):
        found, rest = parser.parse_known_args(words)
        if not any(word.startswith(("-", "hydra.", "hydra/")) for word in rest):
            package = tuple(found.package.split(".")) if found.package else ()
            return Request(tuple(rest), found.resolve, package)
    return None


def config_text(request: Request) -> str:
    """The configuration as YAML; each key has a comment with its source, where there is one.

    Raises:
        ConfigError: an override is invalid, or there is no such package.
    """
    cfg = compose_config(list(request.overrides))
    part = OmegaConf.select(cfg, ".".join(request.package)) if request.package else cfg
    if not OmegaConf.is_config(part):
        name = ".".join(request.package)
        raise ConfigError(f"--package {name}: no part of the configuration; {', '.join(cfg)} are")
    text = OmegaConf.to_yaml(part, resolve=request.resolve)
    return annotated(text, sources(request.overrides), request.package)


def sources(overrides: Sequence[str]) -> dict[Keys, Source]:
    """The source of each key of the configuration that the overrides give."""
    found: dict[Keys, Source] = {}
    folders = conf_folders(overrides)
    GlobalHydra.instance().clear()
    with hydra_on(str(CONF)):
        loader = GlobalHydra.instance().config_loader()
        quoted = literal_paths(list(overrides))
        files = loader.compute_defaults_list("config", quoted, RunMode.RUN).defaults
    for each in files:
        paths = (folder / f"{each.config_path}.yaml" for folder in folders)
        path = next(filter(Path.is_file, paths), None)
        if path is not None:
            place = f"{path.parents[each.config_path.count('/')].name}/{each.config_path}.yaml"
            above = tuple(filter(None, (each.package or "").split(".")))
            found[above] = Source(place)
            for keys, comment in comments(path.read_text(encoding="utf-8")):
                found[above + keys] = Source(place, comment)
    for override in overrides:
        key = tuple(override.partition("=")[0].lstrip("+").split("."))
        if key in found and not any(
            (folder / key[0]).is_dir() for folder in folders if not key[1:]
        ):
            found[key] = Source(TYPED)  # its comment is on the default
    return found


def comments(text: str) -> Iterator[tuple[Keys, str]]:
    """Each key of a file of mappings, and the comment beside it or on the lines above it."""
    lines = text.splitlines()
    for keys, line, column in positions(text):
        tail = re.match(r"\s+# ?(.*)", lines[line][column:])
        above: list[str] = []
        first = _first_of(lines, line)
        if tail is None and first is not None:
            above = [each.strip().lstrip("#").strip() for each in lines[first:line]]
        yield keys, tail[1].strip() if tail else " ".join(above)


def _first_of(lines: Sequence[str], line: int) -> int | None:
    """The first of the comment lines above a line; None without any, or if they begin the file."""
    indent = len(lines[line]) - len(lines[line].lstrip())
    first = line
    while first and lines[first - 1].startswith(f"{' ' * indent}#"):
        first -= 1
    return None if first in (0, line) else first


def positions(text: str) -> Iterator[tuple[Keys, int, int]]:
    """Each key of nested mappings, with the line of its value's begin and the column after it.

    Of several keys on one line, the first.
    """
    seen: set[int] = set()

    def visit(node: yaml.Node | None, above: Keys) -> Iterator[tuple[Keys, int, int]]:
        for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
            line = key.start_mark.line
            block = isinstance(value, yaml.CollectionNode) and not value.flow_style
            inside = not block and value.end_mark.line == line
            if line not in seen:
                seen.add(line)
                end = value.end_mark.column if inside else key.end_mark.column + 1
                yield (*above, key.value), line, end
            yield from visit(value, (*above, key.value))

    yield from visit(yaml.compose(text, Loader=yaml.SafeLoader), ())


def annotated(text: str, known: dict[Keys, Source], above: Keys = ()) -> str:
    """YAML with the source of each key as a comment: beside it if it fits, else above it."""
    lines = text.splitlines()
    for keys, line, _ in positions(text):
        path = above + keys
        source = known.get(path)
        if source is None:
            continue
        parent = known.get(path[:-1])
        place = "" if parent is not None and parent.place == source.place else f"[{source.place}]"
        note = " ".join(filter(None, (source.comment, place)))
        if not note:
            continue
        if len(lines[line]) + len(note) + 3 <= WIDTH:
            lines[line] += f" # {note}"
        else:
            indent = " " * (len(lines[line]) - len(lines[line].lstrip()))
            wrapped = textwrap.wrap(note, WIDTH - len(indent) - 2)
            lines[line] = "\n".join([*(f"{indent}# {each}" for each in wrapped), lines[line]])
    return "\n".join(lines)
