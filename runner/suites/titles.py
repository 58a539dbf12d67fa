"""Titles of tables and figures, differences to the paper's setting, and origins of the records."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace

from runner.records.kinds import DEVICES, kind_of, mixed
from runner.spec.record import Record
from runner.suites.expand import Suite
from runner.suites.rules import applies
from runner.suites.schema import SuiteSpec

DATA = re.compile(r"dataset=(\w+)")

# Settings that other parts of the page show where they matter, or that depend on the machine.
SHOWN = (
    "dataset",
    "dataset.size",
    "train.scale",
    "train_fraction",
    "train.precision",
    "train.test_every",
    "logger",
)


def title(suite: Suite) -> str:
    """Return the paper's title with the differences to the paper's setting."""
    original, runs = suite.original, [job.outline for job in suite.jobs]
    notes = []
    if others := other_data(suite):
        notes.append(f"here on {', '.join(others)}")
    if suite.networks != {
        name: model for name, model in original.networks.items() if name in suite.networks
    }:
        notes.append(_nets(suite))
    notes += [
        rule.title for rule in suite.spec.where if rule.title and applies(rule.when, suite.options)
    ]
    notes += _padding(suite)
    scales = {run.scale for run in runs}
    if scales - {1.0}:
        notes.append("every duration x " + ", ".join(f"{s:.4g}" for s in sorted(scales)))
    shares = sorted({run.train_fraction for run in runs})
    if shares and shares[0] < 1 and f"train_fraction={shares[0]:g}" not in original.overrides:
        notes.append(
            " to ".join(f"{share:.0%}" for share in dict.fromkeys((shares[0], shares[-1])))
            + " of the training images"
        )
    notes += _other_overrides(suite)
    return suite.spec.heading + (f" ({'; '.join(notes)})" if notes else "")


def other_data(suite: Suite) -> list[str]:
    """Names of the data sets, sorted, if they are not the paper's; else []."""
    names = sorted({job.outline.dataset for job in suite.jobs})
    papers = paper_data(suite.original)
    if not papers:  # the choices of the data are not the paper's alone
        return names if suite.variant else []
    return [] if set(names) & set(papers) else names


def paper_data(spec: SuiteSpec) -> list[str]:
    """Names of the data sets that a table or figure chooses anywhere, without its variants."""
    return [*dict.fromkeys(_chosen_data(replace(spec, variants={})))]


def _chosen_data(value: object) -> Iterator[str]:
    if isinstance(value, str):
        if found := DATA.fullmatch(value):
            yield found[1]
    elif is_dataclass(value):
        for each in fields(value):
            yield from _chosen_data(getattr(value, each.name))
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _chosen_data(each)
    elif isinstance(value, Sequence):
        for each in value:
            yield from _chosen_data(each)


def _nets(suite: Suite) -> str:
    """Describe how the networks differ from the paper's."""
    if suite.drawn:
        return ", ".join(suite.networks)
    stands = [
        f"{name} ({model}) in place of {suite.spec.stands_for[name]}"
        for name, model in suite.networks.items()
        if name in suite.spec.stands_for
    ]
    if stands or not suite.variant:
        return ", ".join(stands) or "other nets"
    return suite.original.variants[suite.variant].nets


def _other_overrides(suite: Suite) -> list[str]:
    """The command-line settings that affect the runs and that nothing else on the page shows."""
    return [
        each
        for each in suite.overrides
        if (key := each.partition("=")[0]) not in SHOWN and not key.startswith(("env.", "hydra"))
    ]


def _padding(suite: Suite) -> list[str]:
    """Describe which networks use images padded with black; empty if none does."""
    sizes: dict[int, list[str]] = {}
    for cell in suite.cells.values():
        for job in cell.jobs[:1]:
            sizes.setdefault(job.outline.size or 0, []).append(cell.network)
    padded = {
        size: "" if len(sizes) == 1 else f" for {', '.join(dict.fromkeys(networks))}"
        for size, networks in sizes.items()
        if size
    }
    return [f"padded to {size}x{size}{whose}" for size, whose in sorted(padded.items())]


def origins(records: Sequence[Record]) -> list[str]:
    """Describe devices, code versions, precision and kinds of the records, and any mixture.

    Devices, versions and CPUs are those of all stages.
    """
    mixed_code = [
        f"Mixed code versions: NUMERICS of {kind} are {sorted(numbers)}."
        for kind, numbers in _numerics(records).items()
        if len(numbers) > 1
    ]
    kinds = [kind_of(record) for record in records]
    mixtures = {part: texts for part, texts in mixed(kinds).items() if part != DEVICES}
    return [
        *_one_or_mixed("device", [dict(kind)[DEVICES] for kind in kinds]),
        *mixed_code,
        *_one_or_mixed("precision", [r["provenance"]["precision"] for r in records]),
        *(f"Mixes {part}: {'; '.join(texts)}." for part, texts in mixtures.items()),
    ]


def _one_or_mixed(what: str, values: list[str]) -> list[str]:
    """The one value, or that they are mixed."""
    distinct = sorted(set(values))
    if len(distinct) == 1:
        return [f"{what.capitalize()}: {distinct[0]}."]
    return [f"Mixes {what}s: {'; '.join(distinct)}."] if distinct else []


def _numerics(records: Sequence[Record]) -> dict[str, set[int]]:
    """Kind of stage -> its numbers in the records."""
    kinds: dict[str, set[int]] = {}
    for record in records:
        for kind, number in record["provenance"]["numerics"].items():
            kinds.setdefault(kind, set()).add(number)
    return kinds
