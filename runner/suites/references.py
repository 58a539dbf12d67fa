"""Check the references inside the YAML of tables and figures.

An unknown name produces a message with its key, the known names and the nearest spelling. Keys and
types are checked before (runner/config/typed.py); Hydra checks what it composes.
"""

from collections.abc import Iterator

from runner.errors import nearest
from runner.suites.merge import on_variant
from runner.suites.metrics import accuracy_names
from runner.suites.options import OPTIONS, all_options
from runner.suites.references_base import Problems, check_name, check_notes, forms_of
from runner.suites.references_figures import check_figure
from runner.suites.references_tables import check_table
from runner.suites.schema import Rule, SuiteSpec, TableSpec, TableVariant, When, whens
from runner.suites.schema_figures import FigureSpec


def unknown_references(spec: SuiteSpec) -> list[str]:
    """Return a message for every unknown reference in the spec."""
    problems = [*_options(spec), *_stand_ins(spec), *_rules(spec), *check_notes(spec)]
    if isinstance(spec, TableSpec):
        problems += check_table(spec)
    if isinstance(spec, FigureSpec):
        problems += check_figure(spec)
    return list(dict.fromkeys(problems))


# --- options and rules


def _conditions(spec: SuiteSpec) -> Iterator[tuple[str, When]]:
    """Yield every `when` of the spec and of its variants with its key."""
    yield from spec.conditions()
    for name, variant in spec.variants.items():
        claims = (variant.claims or ()) if isinstance(variant, TableVariant) else ()
        yield from whens(
            **{f"variants.{name}.where": variant.where, f"variants.{name}.claims": claims}
        )


def _options(spec: SuiteSpec) -> Problems:
    """Check the options.

    Every `when` names an option and one of its values, some `when` uses each option, and variants
    set options to values that they have.
    """
    known = all_options(spec)
    for key, when in _conditions(spec):
        for option, value in when.items():
            yield from check_name(key, option, known)
            yield from check_name(f"{key}.{option}", value, known.get(option, (value,)))
    used = list(
        dict.fromkeys([*OPTIONS, *(option for _, when in _conditions(spec) for option in when)])
    )
    for option, values in spec.options.items():
        if option not in used:
            yield (
                f"options.{option} has no effect: no `when` refers to it; they refer to"
                f" {', '.join(used)}{nearest(option, used)}"
            )
        if not values:
            yield f"options.{option} has no values"
    for value in spec.options.get("metric", ()):
        yield from check_name("options.metric", value, accuracy_names())
    for name, variant in spec.variants.items():
        for option, value in variant.options.items():
            yield from check_name(f"variants.{name}.options", option, known)
            yield from check_name(
                f"variants.{name}.options.{option}", value, known.get(option, (value,))
            )


def _stand_ins(spec: SuiteSpec) -> Problems:
    """Check that networks of variants are in the place of networks of the table."""
    for name, variant in spec.variants.items():
        key = f"variants.{name}.stands_for"
        for network, standing in variant.stands_for.items():
            yield from check_name(key, network, variant.networks)
            yield from check_name(f"{key}.{network}", standing, spec.networks)


def _rules(spec: SuiteSpec) -> Problems:
    """Check that every rule of `where` can match an entry of the table or of the rule's variant."""
    yield from _rules_of(
        "where", spec.where, [form for _, form in forms_of(spec)] if spec.adds_rules else [spec]
    )
    for name, variant in spec.variants.items():
        yield from _rules_of(f"variants.{name}.where", variant.where, [on_variant(spec, name)])


def _rules_of(key: str, rules: tuple[Rule, ...], forms: list[SuiteSpec]) -> Problems:
    methods = list(dict.fromkeys(ref for form in forms for ref in form.method_refs))
    beginnings = [ref.split()[0] for ref in methods]
    for i, rule in enumerate(rules):
        yield from check_name(
            f"{key}.{i}.panel", rule.panel, (ref for form in forms for ref in form.panel_refs)
        )
        yield from check_name(
            f"{key}.{i}.network",
            rule.network,
            (network for form in forms for network in form.networks),
        )
        if rule.method and not any(ref.startswith(rule.method) for ref in methods):
            like = nearest(rule.method, [*beginnings, *methods])
            yield (
                f"{key}.{i}.method={rule.method} is not the beginning of a method's id:"
                f" {', '.join(methods) or 'there are none'}{like}"
            )
