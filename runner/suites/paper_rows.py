"""The command of a paper's setting: that of the row of its tables which a run is a version of.

A run stands for a row if both have the same method, data set and net, a density that the row has,
and the same value of every option that the user typed and that tells rows apart. Small data sets
and nets stand for those of the papers, as in the tables' variants. Other options that the user
typed, such as a batch size for a small data set, are no part of a paper's setting.
"""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

from runner.config.compose import Composer
from runner.config.interpolation import resolve
from runner.config.unread import unread
from runner.spec.run import Run
from runner.suites.layouts import lay_out
from runner.suites.merge import on_variant
from runner.suites.options import choose_options
from runner.suites.page import CellSpec
from runner.suites.papers import paper_titles
from runner.suites.schema import SuiteSpec, TableSpec
from runner.suites.spec import read_spec, table_names

FIRST = ("method", "model", "dataset", "train")  # order in a command
# Keys that do not tell rows apart: data, net and training are the paper's; the rest is no setting.
NO_OPTION = ("dataset", "model", "train", "train_fraction", "density", "seed")
# Groups of which every choice makes another method of a row.
GROUPS = {"source", "allocate", "pick", "schedule", "start", "retrain"}
NO_SETTING = ("env", "logger", "hydra", "seed")
MISSING = object()


@dataclass(frozen=True)
class PaperRow:
    """An entry of a paper's table with its overrides by key."""

    spec: SuiteSpec
    cell: CellSpec

    @cached_property
    def own(self) -> dict[str, str]:
        """Key -> value of its overrides; the last of a key counts."""
        return _by_key(self.cell.overrides)

    @property
    def densities(self) -> tuple[float, ...]:
        """The densities that it has; empty for a method without one."""
        own = self.own.get("density")
        return self.cell.densities or (() if own is None else (float(own),))

    def names(self, model: str) -> bool:
        """Whether `model` is its net, or stands for it in a variant of the table."""
        label = self.cell.network
        nets = {self.own.get("model"), label.lower().replace("-", "")}
        forms = (on_variant(self.spec, name) for name in self.spec.variants)
        return model in nets | {
            own
            for form in forms
            for name, own in form.networks.items()
            if form.of_paper(name) == label
        }


@dataclass
class _Wanted:
    """A run and what its user typed, compared with rows."""

    run: Run
    values: Mapping[str, Any]
    typed: dict[str, str]
    composer: Composer

    def is_row(self, row: PaperRow, options: set[str]) -> bool:
        """Whether the run stands for `row`.

        Args:
            options: the keys that tell the rows of this method apart.
        """
        run = self.run
        dataset = run.dataset.stands_for or run.dataset.name
        return (
            row.own.get("dataset") == dataset
            and row.names(run.model.name)
            and (run.density is None or not row.densities or run.density in row.densities)
            and all(self._agrees(key, row) for key in options & self.typed.keys())
        )

    def _agrees(self, key: str, row: PaperRow) -> bool:
        if key in row.own:
            return self._has(key, row.own[key])
        values = resolve(self.composer.plain(_in_order(row.own))).values
        return _same(_select(values, key), _select(self.values, key))

    def differences(self, row: PaperRow) -> tuple[int, bool]:
        """How far the run is from `row`: fewer is nearer."""
        other = [key for key, value in row.own.items() if not self._has(key, value)]
        further = [key for key in self.typed if key not in row.own and not _in(key, NO_SETTING)]
        share = float(row.own.get("train_fraction", 1))
        return len({*other, *further} - {"density"}), share != self.run.train_fraction

    def _has(self, key: str, value: str) -> bool:
        return _same(value, self.typed.get(key)) or _same(value, _select(self.values, key))


def paper_command(
    run: Run, values: Mapping[str, Any], typed: Sequence[str], composer: Composer | None = None
) -> str | None:
    """The command of the row for which a run stands; None if no table of its paper has one.

    The paper is the one whose training the run has. For another training, `train=quick` among
    them, the papers are searched in their order.

    Args:
        values: the run's resolved configuration.
        typed: the overrides that the user typed.
        composer: the composer of rows compared before.
    """
    wanted = _Wanted(run, values, _by_key(typed), composer or Composer())
    papers = list(paper_titles())
    chosen = values["train"]["name"]
    for paper in [chosen] if chosen in papers else papers:
        rows = rows_of(paper, run.method)
        options = {key for row in rows for key in row.own if not _in(key, NO_OPTION)}
        found = [row for row in rows if wanted.is_row(row, GROUPS | options - {"method"})]
        if found:
            best = min(found, key=wanted.differences)
            return _command(best, run.density, wanted.composer)
    return None


@cache
def rows_of(paper: str, method: str) -> tuple[PaperRow, ...]:
    """The entries with runs of `method` in the numbered tables of a paper."""
    # by name: a run needs no other table, and no mistake in one stops it
    specs = [read_spec(name) for name in table_names() if name.startswith(f"{paper}_table")]
    rows = [
        PaperRow(spec, cell)
        for spec in specs
        if isinstance(spec, TableSpec) and spec.number is not None
        for cell in lay_out(spec, choose_options(spec, None, {}), spec.networks)[0]
        if not cell.reads
    ]
    return tuple(row for row in rows if row.own.get("method") == method)


def _command(row: PaperRow, density: float | None, composer: Composer) -> str:
    """The command of a row, at `density` or else its first one.

    Values that the rows of a table share and this one does not read are left out.
    """
    own = dict(row.own)
    if row.densities:
        own["density"] = str(row.densities[0] if density is None else density)
    words = _in_order(own)
    if any("." in key for key in own):
        idle = unread(composer.plain(words), words)
        words = [word for word in words if word not in idle]
    return "python run.py " + shlex.join(words)


def _in_order(own: Mapping[str, str]) -> list[str]:
    """Overrides, the choices of method, net, data set and training first."""
    keys = [*(key for key in FIRST if key in own), *(key for key in own if key not in FIRST)]
    return [f"{key}={own[key]}" for key in keys]


def _by_key(overrides: Sequence[str]) -> dict[str, str]:
    return {key: value for key, _, value in (each.partition("=") for each in overrides)}


def _in(key: str, groups: Sequence[str]) -> bool:
    return key.partition(".")[0] in groups


def _select(values: Mapping[str, Any], key: str) -> Any:
    """The value at `key`; for a group, the name of the choice."""
    node: Any = values
    for word in key.split("."):
        node = node.get(word, MISSING) if isinstance(node, Mapping) else MISSING
    return node.get("name", node.get("_target_")) if isinstance(node, Mapping) else node


def _same(one: Any, other: Any) -> bool:
    """Whether two values are equal, of which one may be the text of an override."""
    try:
        return float(one) == float(other)
    except (TypeError, ValueError):
        return _text(one) == _text(other)


def _text(value: Any) -> str:
    return "null" if value is None else str(value).lower()
