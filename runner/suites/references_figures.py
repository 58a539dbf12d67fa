"""Check the references inside the YAML of figures."""

from runner.suites.references_base import Problems, check_name, forms_of
from runner.suites.schema_claims import BelowClaim
from runner.suites.schema_figures import FigurePanel, FigureSpec


def check_figure(spec: FigureSpec) -> Problems:
    """Check that ids of panels and series are unique and that claims and panels name known ones."""
    for prefix, form in forms_of(spec):
        assert isinstance(form, FigureSpec)
        by_ref = {panel.ref: panel for panel in form.panels}
        yield from _twice(f"{prefix}panels", form.panel_refs)
        for i, panel in enumerate(form.panels):
            yield from _twice(f"{prefix}panels.{i}.series", [series.ref for series in panel.series])
            for network in panel.networks or ():
                yield from check_name(f"{prefix}panels.{i}.networks", network, form.networks)
        for i, claim in enumerate(form.claims):
            key = f"{prefix}claims.{i}"
            panels = claim.panel.ids if claim.panel else tuple(by_ref)
            for name in panels:
                yield from check_name(f"{key}.panel", name, by_ref)
            for panel in (by_ref[name] for name in panels if name in by_ref):
                names = _series(panel, form)
                for series in claim.series.ids:
                    yield from check_name(f"{key}.series", series, names)
                name = "below" if isinstance(claim, BelowClaim) else "beside"
                for other in claim.others:
                    yield from check_name(f"{key}.{name}", other, names)


def _series(panel: FigurePanel, spec: FigureSpec) -> list[str]:
    """The ids of a panel's series in claims: with the network if the panel shows several."""
    return [series.ref + more for series, _, more in panel.names(spec.networks)]


def _twice(key: str, refs: list[str]) -> Problems:
    for ref in dict.fromkeys(ref for ref in refs if refs.count(ref) > 1):
        yield f"{key}: {ref} appears twice; give each its own id"
