"""The YAML of tables and figures as it is read: names, what one takes from others, and its options. Nothing here composes."""

from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from runner.errors import ConfigError, one_of
from runner.paths import CONF

OPTIONS = {"select_on": ["validation", "test"], "metric": ["accuracy", "accuracy_best"]}  # of a table: key -> values, the default first


def table_names() -> list[str]:
    """Tables that have a configuration."""
    return sorted(path.stem for path in (CONF / "table").glob("*.yaml"))


def figure_names() -> list[str]:
    """Figures that have a configuration."""
    return sorted(path.stem for path in (CONF / "figure").glob("*.yaml"))


def read_spec(stem: str) -> dict[str, Any]:
    """A table's or figure's YAML. `like` names others of which it is a variant: what it does not say is theirs, of several the last one's.

    `row_densities` are those of the rows of another table: by the row's label, `others` for the rest of the rows that have any.
    """
    own = _load(CONF / ("figure" if stem in figure_names() else "table") / f"{stem}.yaml")
    above = own.get("like", [])
    spec: dict[str, Any] = {}
    for name in [above] if isinstance(above, str) else above:
        spec |= read_spec(name)
    spec |= own
    if "row_densities" in spec:
        given = spec.pop("row_densities")
        spec["rows"] = [{**row, "density": given.get(row["label"], given["others"])} if "density" in row else row for row in spec["rows"]]
    return spec


@cache
def _load(path: Path) -> dict[str, Any]:
    """A file as plain dicts, shared by all that read it: look, do not change."""
    spec: dict[str, Any] = OmegaConf.to_container(OmegaConf.load(path), resolve=True)  # type: ignore[assignment]
    return spec


def with_options(spec: dict[str, Any], chosen: dict[str, list[str]]) -> dict[str, Any]:
    """The table with the options `table.KEY=VALUE` of the command line.

    Raises:
        ConfigError: an option or a value that there is not.
    """
    given = {key.removeprefix("table."): value[-1] for key, value in chosen.items() if key.startswith("table.")}
    options = options_of(spec)
    for key, value in given.items():
        if key not in options:
            raise ConfigError(f"table.{key} is no option of this table: {', '.join(f'table.{name}' for name in options)}")
        if value not in options[key]:
            raise ConfigError(one_of(f"table.{key}", value, options[key]))
    return {**{key: values[0] for key, values in {**OPTIONS, **options}.items()}, **spec, **given}


def options_of(spec: dict[str, Any]) -> dict[str, list[str]]:
    """The options that a table has: key -> values, the default first."""
    own = OPTIONS if "best_of" in spec else {key: values for key, values in OPTIONS.items() if key != "select_on"}
    return {**own, **spec.get("options", {})}
