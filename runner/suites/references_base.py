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


def check_notes(spec: SuiteSpec) -> Problems:
    """Check that notes are about methods, panels and networks of some form of the page."""
    forms = [form for _, form in forms_of(spec)]
    methods = list(dict.fromkeys(ref for form in forms for ref in form.method_refs))
    for i, note in enumerate(spec.notes):
        if note.of and not any(ref.startswith(note.of) for ref in methods):
            known = ", ".join(methods)
            yield f"notes.{i}.of={note.of} is not the beginning of a method's id: {known}"
        yield from check_name(
            f"notes.{i}.panel", note.panel, (ref for form in forms for ref in form.panel_refs)
        )
        yield from check_name(
            f"notes.{i}.network",
            note.network,
            (network for form in forms for network in form.networks),
        )


def forms_of(spec: SuiteSpec) -> list[tuple[str, SuiteSpec]]:
    """The spec and its merged variants, each with the key of the variant in the YAML."""
    return [
        ("", spec),
        *((f"variants.{name}.", on_variant(spec, name)) for name in spec.variants),
    ]
