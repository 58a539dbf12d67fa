"""Merge the spec of a table or figure with its variant on another data set."""

from dataclasses import fields, replace
from typing import TypeVar

from runner.suites.schema import SuiteSpec

S = TypeVar("S", bound=SuiteSpec)
ADDED = ("nets", "options", "where")  # keys of a variant that replace no key of the table


def on_variant(spec: S, variant: str | None) -> S:
    """Return the spec on the data set `variant`; for None, the spec itself.

    A variant has its own overrides and networks, and may have its own seeds, panels and claims. Its
    rules are added to those of the table if the layout sets `adds_rules`; otherwise they replace
    them.
    """
    if variant is None:
        return spec
    other = spec.variants[variant]
    own = {f.name: getattr(other, f.name) for f in fields(other) if f.name not in ADDED}
    return replace(
        spec,
        **{key: value for key, value in own.items() if value is not None},
        where=(*(spec.where if spec.adds_rules else ()), *other.where),
    )
