"""Tables and figures that have records, and what can be asked for: variants and ARGS."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from runner.commands.arguments import load
from runner.commands.published import published_line, read_index
from runner.commands.write import write, written
from runner.config.compose import Composer
from runner.config.environment import environment
from runner.errors import ConfigError
from runner.paths import PUBLISHED
from runner.records.find import all_records, find_record, results_roots
from runner.records.index import indexed
from runner.suites.expand import Suite, expand, parse_arguments
from runner.suites.kept import KeptCells
from runner.suites.merge import on_variant
from runner.suites.metrics import metric_names
from runner.suites.options import options_of
from runner.suites.schema import SuiteSpec
from runner.suites.schema_tables import NetworksTable
from runner.suites.spec import read_spec

DATA = re.compile(r"dataset=(\w+)")


def show(names: Sequence[str], words: list[str], command: str) -> int:
    """Write and print the named tables or figures from the available records.

    If the words name none, those that have records, and which of them, variants and ARGS exist.

    Args:
        names: all tables, or all figures.
        command: `make tables` or `make figures`.
    """
    named = any("=" not in word for word in words)
    env = environment([word for word in words if "=" in word])
    results_dir, kept = env.results_dir, KeptCells(env.cache_dir)
    with indexed(results_dir):
        for suite in load(words)[0] if named else available(names, words, results_dir, kept):
            print(write(suite, results_dir))
            print(f"written to {written(suite, results_dir)}\n")
    if not named:
        print("\n".join(guide(names, command)))
    return 0


def available(
    names: Sequence[str], words: list[str], results_dir: Path, kept: KeptCells | None = None
) -> list[Suite]:
    """The tables and variants with these words of which any run is finished.

    Without words, the lines of the published index are among them, each with its own.

    Args:
        names: of tables or of figures, without a data set.
        kept: as in `runner.suites.expand.expand`.

    Raises:
        ConfigError: no table accepts the words; with the reason of the first.
    """
    _, chosen, overrides = parse_arguments([names[0], *words])
    data = {r["dataset"] for root in results_roots(results_dir) for r in all_records(root)}
    composer, found = Composer(), dict[tuple[str, ...], Suite]()
    refused: list[ConfigError] = []
    asked = [(name, data_of(*name.split("@"))) for stem in names for name in variants(stem)]
    for name, theirs in asked:
        if theirs and not theirs & data and not any(map(DATA.match, words)):
            continue  # composing a table takes much longer than this
        try:
            suite = expand(name, chosen, overrides, composer, kept)
        except ConfigError as error:
            refused.append(error)
            continue
        key = (suite.name, *suite.settings)
        found[key] = suite
    if refused and not found:
        raise refused[0]
    for suite in () if words else _published(names, composer, kept):
        found.setdefault((suite.name, *suite.settings), suite)
    return [
        suite
        for _, suite in sorted(found.items())
        if any(find_record(job.run_id, results_dir) for job in suite.jobs)
    ]


def variants(stem: str) -> list[str]:
    """The names in `TABLE=` of a table: its own, and NAME@DATASET."""
    return [stem, *(f"{stem}@{variant}" for variant in read_spec(stem).variants)]


def data_of(stem: str, variant: str | None = None) -> set[str]:
    """The data sets that a table's overrides name, those of all its options."""
    plain = asdict(on_variant(read_spec(stem), variant))
    return set(_matches({key: value for key, value in plain.items() if key != "variants"}))


def _matches(value: Any) -> Iterator[str]:
    """The data sets that the texts within a value name."""
    if isinstance(value, str):
        yield from DATA.findall(value)
    elif isinstance(value, dict):
        for each in value.values():
            yield from _matches(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _matches(each)


def _published(names: Sequence[str], composer: Composer, kept: KeptCells | None) -> Iterator[Suite]:
    """The published ones among the tables or figures `names`, each with its ARGS."""
    for listed in read_index(PUBLISHED).values():
        for words in listed:
            if words.split()[0].partition("@")[0] in names:
                line = published_line(words, listed, composer, kept)
                yield from [line.suite] if line.suite else []


def choices(stem: str) -> str:
    """One line: the variants of a table, and the ARGS that it accepts."""
    spec = read_spec(stem)
    data = ", ".join(f"@{name}" for name in spec.variants) or "no other data set"
    return f"{stem}: {data}; {' '.join(_arguments(spec))}"


def _arguments(spec: SuiteSpec) -> Iterator[str]:
    if spec.networks:
        yield f"models={','.join(spec.networks.values())}"
    yield f"seeds={','.join(map(str, spec.seeds))}"
    for key, values in options_of(spec).items():
        yield f"table.{key}={'|'.join(values)}"
    if isinstance(spec, NetworksTable):
        yield "columns=METRIC"


def guide(names: Sequence[str], command: str) -> list[str]:
    """Lines that say which tables, variants and ARGS exist."""
    return [
        f'{command} TABLE=NAME or TABLE=NAME@DATASET ARGS="..." writes one of these:',
        *(f"  {choices(stem)}" for stem in names),
        "ARGS: some of the networks after models=; any seeds; of the values of table.KEY the first"
        " is the default; METRIC is one of"
        f" {', '.join(metric_names())}; other words, such as"
        " train.scale=0.1, apply to every run. Each combination has files of its own.",
    ]
