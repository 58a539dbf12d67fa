"""What all checks of references have in common: the check of one name, and a spec's variants."""

from collections.abc import Iterable, Iterator

from runner.errors import one_of
from runner.suites.merge import on_variant
from runner.suites.schema import SuiteSpec

Problems = Iterator[str]  # messages


def check_name(key: str, value: str | None, choices: Iterable[str]) -> Problems:
    """Yield a message if `value` is not one of the choices; None is always valid."""
    choices = list(dict.fromkeys(choices))
    if value is not None and value not in choices:
        none = f"{key}={value} is not a choice: there are none"
        yield one_of(key, value, choices) if choices else none


def forms_of(spec: SuiteSpec) -> list[tuple[str, SuiteSpec]]:
    """The spec and its merged variants, each with the key of the variant in the YAML."""
    return [
        ("", spec),
        *((f"variants.{name}.", on_variant(spec, name)) for name in spec.variants),
    ]
