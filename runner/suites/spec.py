"""Read and check the YAML of tables and figures, and build the specs of runner/suites/schema.py.

Nothing is composed here.
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from runner.config.plain import Plain, read_plain
from runner.config.typed import build, coerce
from runner.errors import ConfigError, one_of
from runner.own import own_folders
from runner.paths import CONF
from runner.suites.references import unknown_references
from runner.suites.schema import Names, SuiteSpec
from runner.suites.schema_blocks import BlocksTable, MatrixTable
from runner.suites.schema_figures import FigureSpec
from runner.suites.schema_tables import GridTable, NetworksTable, SettingsTable

KINDS = ("table", "figure")  # folders of conf
RENAMED = {"elsewhere": "variants"}  # former keys
LAYOUTS: Mapping[str, type[SuiteSpec]] = {
    "networks": NetworksTable,
    "grid": GridTable,
    "matrix": MatrixTable,
    "blocks": BlocksTable,
    "settings": SettingsTable,
    "figure": FigureSpec,
}


def table_names() -> list[str]:
    """The tables that have a configuration, sorted."""
    return sorted(path.stem for root in roots() for path in (root / "table").glob("*.yaml"))


def figure_names() -> list[str]:
    """The figures that have a configuration, sorted."""
    return sorted(path.stem for root in roots() for path in (root / "figure").glob("*.yaml"))


def roots() -> list[Path]:
    """The folders with files of tables and figures: Winnow's, then the user's own."""
    return [CONF, *(folder.conf for folder in own_folders())]


def variants_of(stem: str) -> list[str]:
    """The data sets for which a table or figure has a variant."""
    return list(read_spec(stem).variants)


def read_spec(stem: str) -> SuiteSpec:
    """Read the YAML of a table or figure.

    `like` names other files as a base: missing keys are taken from them, and the last one takes
    precedence. `row_densities` sets the densities of rows by id; `others` is for the remaining
    rows that have densities.

    Raises:
        ConfigError: every mistake in the file or in one named by `like`: unknown and missing keys,
            wrong types, unknown references.
    """
    return _read(next((root for root in roots() if _file(root, stem)), CONF), stem)


@cache
def _read(conf: Path, stem: str) -> SuiteSpec:
    path = _path(conf, stem)
    shown = path.relative_to(CONF.parent) if path.is_relative_to(CONF) else path
    return parse(plain_of(conf, stem), str(shown), conf)


def _path(conf: Path, stem: str) -> Path:
    """The file of a table or figure in a folder, else that of Winnow's."""
    return _file(conf, stem) or _file(CONF, stem) or CONF / KINDS[0] / f"{stem}.yaml"


def _file(conf: Path, stem: str) -> Path | None:
    files = (conf / kind / f"{stem}.yaml" for kind in reversed(KINDS))
    return next(filter(Path.is_file, files), None)


def parse(own: Plain, file: str, conf: Path | None = None) -> SuiteSpec:
    """Build a table or figure from the plain dicts of its file.

    Args:
        file: the file name for messages.
        conf: the folder of the files that `like` names, beside CONF.

    Raises:
        ConfigError: as `read_spec`.
    """
    conf = conf or CONF
    try:
        above = _above(own, conf)
    except ConfigError as error:
        raise _in(file, error) from None
    for name in above:
        _read(conf, name)  # reports mistakes under the name of that file
    try:
        return _build(merge(own, conf))
    except ConfigError as error:
        raise _in(file, error) from None


def _build(plain: Plain) -> SuiteSpec:
    """Build a spec from complete plain dicts."""
    if renamed := [key for key in RENAMED if key in plain]:
        raise ConfigError(
            *(f"{key} is now called {RENAMED[key]}: rename the key" for key in renamed)
        )
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


def plain_of(conf: Path, stem: str) -> Plain:
    """The plain dicts of one file. The result is cached and must not be modified."""
    return _load(_path(conf, stem))


def merged(conf: Path, stem: str) -> Plain:
    """The plain dicts of a file, merged over the files that `like` names."""
    return merge(plain_of(conf, stem), conf)


def merge(own: Plain, conf: Path) -> Plain:
    """Merge the plain dicts of a file over the files that `like` names.

    Raises:
        ConfigError: a mistake in `like` or `row_densities`.
    """
    plain: Plain = {}
    for name in _above(own, conf):
        plain |= merged(conf, name)
    plain |= {key: value for key, value in own.items() if key not in ("like", "row_densities")}
    if "row_densities" in own:
        plain["rows"] = _with_densities(plain.get("rows", []), own["row_densities"])
    return plain


def _above(own: Plain, conf: Path) -> tuple[str, ...]:
    """The names in `like`; the last one takes precedence."""
    like = own.get("like", ())
    names: tuple[str, ...] = coerce([like] if isinstance(like, str) else like, Names, "like")
    folders = [root / kind for root in {conf, CONF} for kind in KINDS]
    known = sorted(path.stem for folder in folders for path in folder.glob("*.yaml"))
    if problems := [one_of("like", name, known) for name in names if name not in known]:
        raise ConfigError(*problems)
    return names


def _with_densities(rows: list[Plain], plain: Any) -> list[Plain]:
    """Return the rows with the densities of `row_densities`."""
    densities: dict[str, tuple[float, ...]] = coerce(
        plain, dict[str, tuple[float, ...]], "row_densities"
    )
    pruned = [row.get("id") or row["label"] for row in rows if "density" in row]
    for name in densities:
        if name not in ("others", *pruned):
            raise ConfigError(one_of("row_densities", name, ["others", *pruned]))
    if "others" not in densities and not set(pruned) <= set(densities):
        raise ConfigError(
            "row_densities.others is missing: give it a value for the rows that are not named"
        )

    def of(row: Plain) -> tuple[float, ...] | None:
        return densities.get(row.get("id") or row["label"], densities.get("others"))

    return [{**row, "density": of(row)} if "density" in row else row for row in rows]


@cache
def _load(path: Path) -> Plain:
    """The plain dicts of a file. The result is cached and must not be modified."""
    return read_plain(path, resolve=True)
