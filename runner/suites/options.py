"""Options of tables and figures: `table.KEY=VALUE` on the command line."""

from collections.abc import Mapping

from runner.errors import ConfigError, one_of
from runner.suites.schema import Names, SuiteSpec
from runner.suites.schema_tables import NetworksTable

# Options of every table: key -> values, the default first. `select_on` is available only where a
# row chooses among densities.
OPTIONS: Mapping[str, Names] = {
    "select_on": ("validation", "test"),
    "metric": ("accuracy", "accuracy_best"),
}


def all_options(spec: SuiteSpec) -> dict[str, Names]:
    """All options that a `when` of a table or figure may name: key -> values."""
    return {**OPTIONS, **spec.options}


def options_of(spec: SuiteSpec) -> dict[str, Names]:
    """The options of a table or figure on the command line: key -> values, the default first."""
    chooses = isinstance(spec, NetworksTable) and spec.best_of
    return {
        key: values for key, values in OPTIONS.items() if key != "select_on" or chooses
    } | spec.options


def choose_options(
    spec: SuiteSpec, variant: str | None, chosen: Mapping[str, list[str]]
) -> dict[str, str]:
    """Return the value of every option: from the command line, else the variant, else the default.

    Args:
        chosen: `table.KEY` -> values, of which the last is used; other keys are ignored.

    Raises:
        ConfigError: an unknown option or value.
    """
    preset = spec.variants[variant].options if variant else {}
    requested = {
        key.removeprefix("table."): values[-1]
        for key, values in chosen.items()
        if key.startswith("table.")
    }
    offered = options_of(spec)
    for key, value in requested.items():
        if key not in offered:
            raise ConfigError(
                f"table.{key} is not an option of this table:"
                f" {', '.join(f'table.{name}' for name in offered)}"
            )
        if value not in offered[key]:
            raise ConfigError(one_of(f"table.{key}", value, offered[key]))
    return {key: values[0] for key, values in all_options(spec).items()} | preset | requested
