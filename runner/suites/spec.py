"""The door: the YAML of tables and figures is read here, checked, and becomes what runner/suites/schema.py says. Nothing here composes."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from runner.config.typed import build, coerce
from runner.errors import ConfigError, one_of
from runner.paths import CONF
from runner.suites.references import unknown_references
from runner.suites.schema import SuiteSpec
from runner.suites.schema_blocks import BlocksTable, MatrixTable
from runner.suites.schema_figures import FigureSpec
from runner.suites.schema_tables import GridTable, NetworksTable, SettingsTable

LAYOUTS: Mapping[str, type[SuiteSpec]] = {
    "networks": NetworksTable,
    "grid": GridTable,
    "matrix": MatrixTable,
    "blocks": BlocksTable,
    "settings": SettingsTable,
    "figure": FigureSpec,
}


def table_names() -> list[str]:
    """Tables that have a configuration."""
    return sorted(path.stem for path in (CONF / "table").glob("*.yaml"))


def figure_names() -> list[str]:
    """Figures that have a configuration."""
    return sorted(path.stem for path in (CONF / "figure").glob("*.yaml"))


def variants_of(stem: str) -> list[str]:
    """Data sets on which there is a variant of a table or figure."""
    return list(read_spec(stem).elsewhere)


def read_spec(stem: str) -> SuiteSpec:
    """A table's or figure's YAML.

    `like` names others of which it is a variant: what it does not say is theirs, of several the last one's. `row_densities` are those of the rows of another
    table: by the row's id, `others` for the rest of the rows that have any.

    Raises:
        ConfigError: every mistake in the file, or in one that it is like: unknown and missing keys, wrong types, references to what there is not.
    """
    return _read(CONF, stem)


@cache
def _read(conf: Path, stem: str) -> SuiteSpec:
    path = _path(conf, stem)
    return parse(plain_of(conf, stem), str(path.relative_to(conf.parent)), conf)


def _path(conf: Path, stem: str) -> Path:
    table, figure = (conf / kind / f"{stem}.yaml" for kind in ("table", "figure"))
    return figure if figure.is_file() else table


def parse(own: dict[str, Any], file: str, conf: Path | None = None) -> SuiteSpec:
    """A table or figure from the plain dicts of its file.

    Args:
        file: its name for messages.
        conf: where those are that it is like.

    Raises:
        ConfigError: as `read_spec`.
    """
    conf = conf or CONF
    try:
        above = _above(own, conf)
    except ConfigError as error:
        raise _in(file, error) from None
    for name in above:
        _read(conf, name)  # its mistakes are told under its own name
    try:
        return _build(merge(own, conf))
    except ConfigError as error:
        raise _in(file, error) from None


def _build(plain: dict[str, Any]) -> SuiteSpec:
    """A spec from plain dicts that have everything."""
    layout: Any = plain.get("layout")
    if layout not in LAYOUTS:
        raise ConfigError(one_of("layout", layout, LAYOUTS))
    spec = build(LAYOUTS[layout], plain, "")
    if problems := unknown_references(spec):
        raise ConfigError(*problems)
    return spec


def _in(file: str, error: ConfigError) -> ConfigError:
    return ConfigError(*(f"{file}: {message}" for message in error.messages))


# --- plain dicts


def plain_of(conf: Path, stem: str) -> dict[str, Any]:
    """A file as plain dicts, alone; shared by all that read it: look, do not change."""
    return _load(_path(conf, stem))


def merged(conf: Path, stem: str) -> dict[str, Any]:
    """A file as plain dicts, over those that it is like."""
    return merge(plain_of(conf, stem), conf)


def merge(own: dict[str, Any], conf: Path) -> dict[str, Any]:
    """What a file says, over those that it is like.

    Raises:
        ConfigError: a mistake in `like` or `row_densities`.
    """
    plain: dict[str, Any] = {}
    for name in _above(own, conf):
        plain |= merged(conf, name)
    plain |= {key: value for key, value in own.items() if key not in ("like", "row_densities")}
    return plain if "row_densities" not in own else {**plain, "rows": _with_densities(plain.get("rows", []), own["row_densities"])}


def _above(own: dict[str, Any], conf: Path) -> tuple[str, ...]:
    """The tables that one is like, the last of which wins."""
    given = own.get("like", ())
    found: tuple[str, ...] = coerce((given,) if isinstance(given, str) else given, tuple[str, ...], "like")
    names = sorted(path.stem for kind in ("table", "figure") for path in (conf / kind).glob("*.yaml"))
    if problems := [one_of("like", name, names) for name in found if name not in names]:
        raise ConfigError(*problems)
    return found


def _with_densities(rows: list[dict[str, Any]], plain: Any) -> list[dict[str, Any]]:
    """The rows with the densities of `row_densities`."""
    given = coerce(plain, dict[str, tuple[float, ...]], "row_densities")
    pruned = [row.get("id") or row["label"] for row in rows if "density" in row]
    for name in given:
        if name not in ("others", *pruned):
            raise ConfigError(one_of("row_densities", name, ["others", *pruned]))
    if "others" not in given and not set(pruned) <= set(given):
        raise ConfigError("row_densities.others is missing: give it a value for the rows that are not named")
    return [{**row, "density": given.get(row.get("id") or row["label"], given.get("others"))} if "density" in row else row for row in rows]


@cache
def _load(path: Path) -> dict[str, Any]:
    """A file as plain dicts, shared by all that read it: look, do not change."""
    plain: dict[str, Any] = OmegaConf.to_container(OmegaConf.load(path), resolve=True)  # type: ignore[assignment]
    return plain
