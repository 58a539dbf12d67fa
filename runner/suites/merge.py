"""A table or figure on other data: the spec with what its variant says instead."""

from dataclasses import fields, replace
from typing import Any, TypeVar

from runner.suites.schema import SuiteSpec

S = TypeVar("S", bound=SuiteSpec)
ELSEWHERE = ("nets", "options", "where")  # keys of a variant that do not replace those of the table


def on_variant(spec: S, variant: str | None) -> S:
    """The spec as it is on the data set `variant`; itself for None.

    A variant has its own overrides and networks, and may have its own seeds, panels and claims. Its rules are added to those of the table or replace them, as
    the layout says (`adds_rules`).
    """
    if variant is None:
        return spec
    other = spec.elsewhere[variant]
    own: dict[str, Any] = {f.name: getattr(other, f.name) for f in fields(other) if f.name not in ELSEWHERE}
    return replace(spec, **{key: value for key, value in own.items() if value is not None}, where=(*(spec.where if spec.adds_rules else ()), *other.where))
