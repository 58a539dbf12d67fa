"""The cells of expanded tables and figures, kept in the cache.

Which runs a table has is a function of the code and its configuration, of the table's entries, and
of what the user typed. The cells are kept under the SHA-256 of all of them, so that they cannot be
out of date: after any change there are none, and the table is expanded again. Expanding composes a
configuration for each entry and builds its runs, which imports torch and takes seconds.
"""

import contextlib
import hashlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

from runner.code import code_digest, own_digests
from runner.config.build import build_plain
from runner.config.compose import Composer
from runner.config.overrides import search_path
from runner.errors import Damaged
from runner.files import sealed, unsealed, write_bytes
from runner.spec.found import Surveyed
from runner.spec.identity import run_id
from runner.spec.planned import Outline, PlannedRun
from runner.spec.run import Run
from runner.suites.cells import Cell
from runner.suites.page import CellSpec, Key
from runner.suites.schema import SuiteSpec

FOLDER = "tables"  # of the cache


@dataclass(frozen=True)
class KeptCells:
    """The kept cells of all tables in a cache."""

    cache_dir: Path

    def path(
        self,
        spec: SuiteSpec,
        layout: Sequence[CellSpec],
        seeds: Sequence[int],
        overrides: Sequence[str],
    ) -> Path | None:
        """The file of a table's cells; None if they depend on the user's own configuration."""
        if search_path(overrides):
            return None
        code = code_digest(), sys.version, own_digests()
        parts = (*code, spec, tuple(layout), tuple(seeds), tuple(overrides))
        name = hashlib.sha256(repr(parts).encode(errors="backslashreplace")).hexdigest()[:32]
        return self.cache_dir / FOLDER / f"{name}.json"


def read_cells(
    path: Path | None, layout: Sequence[CellSpec], composer: Composer
) -> dict[Key, Cell] | None:
    """The cells in a file by the keys of `layout`; None if there are none.

    Args:
        composer: composes the runs that are asked for (`PlannedRun.run`).
    """
    if path is None:
        return None
    try:
        found = [_cell(plain, composer) for plain in unsealed(path)["cells"]]
    except (Damaged, OSError):
        return None
    keys = dict.fromkeys(spec.key for spec in layout)
    return dict(zip(keys, found, strict=True))


def write_cells(path: Path | None, cells: Sequence[Cell]) -> None:
    """Keep the cells in a file, if it has a path and can be written.

    Cells with files of weights, masks or images are not kept: their runs depend on the content.
    """
    runs = [job.run for cell in cells for job in cell.jobs[:1]]
    if path is None or any(_reads_files(run) for run in runs):
        return
    content = {"cells": [_plain(cell) for cell in cells]}
    with contextlib.suppress(OSError):  # nothing depends on it
        write_bytes(path, sealed(content))


def _reads_files(run: Run) -> bool:
    files = any((s.weights and s.weights.path) or s.mask_file for s in run.stages)
    return files or isinstance(run.dataset, Surveyed)


def _plain(cell: Cell) -> Mapping[str, object]:
    """A cell as plain JSON."""
    own = {f.name: getattr(cell, f.name) for f in fields(cell)}
    return {**own, "candidates": [[_plain_run(job) for job in jobs] for jobs in cell.candidates]}


def _plain_run(job: PlannedRun) -> Mapping[str, object]:
    return {
        "run_id": job.run_id,
        "overrides": job.overrides,
        "keys": job.keys,
        "required": sorted(job.required),
        "outline": asdict(job.outline),
    }


def _cell(plain: Mapping[str, Any], composer: Composer) -> Cell:
    candidates = tuple(
        tuple(_planned(job, composer) for job in jobs) for jobs in plain["candidates"]
    )
    return Cell(**{**plain, "paper": tuple(plain["paper"]), "candidates": candidates})


def _planned(plain: Mapping[str, Any], composer: Composer) -> PlannedRun:
    overrides, outline = tuple(plain["overrides"]), plain["outline"]
    lists = {name: tuple(outline[name]) for name in ("epochs", "tested")}
    return PlannedRun(
        run_id=plain["run_id"],
        overrides=overrides,
        keys=plain["keys"],
        required=frozenset(plain["required"]),
        outline=Outline(**{**outline, **lists}),
        build=partial(_built, plain["run_id"], overrides, composer),
    )


def _built(identity: str, overrides: Sequence[str], composer: Composer) -> Run:
    """The run of these overrides.

    Raises:
        RuntimeError: it is not the run of that identity: the file is not of this code.
    """
    run = build_plain(composer.plain(list(overrides)))
    if (found := run_id(run)) != identity:
        raise RuntimeError(f"{' '.join(overrides)} is {found}, and the cache states {identity}")
    return run
