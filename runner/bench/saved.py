"""results/bench/bench.json: one row for each figure, with what measured it.

A command that measures some parts replaces their rows and keeps those of the others, which may be
of another commit or machine. Hence each row states its own.
"""

import json
from collections.abc import Iterable
from dataclasses import fields
from datetime import datetime, timezone
from pathlib import Path

import torch

from runner.bench.figures import Figure
from runner.bench.parts import PARTS
from runner.code import git_state
from runner.errors import ConfigError
from runner.files import write_json
from runner.records.provenance import device_name

Row = dict[str, str | float | bool | None]


def row_of(figure: Figure, device: torch.device) -> Row:
    """A figure as a row: its fields, then device, versions, commit and time (UTC)."""
    row: Row = {field.name: getattr(figure, field.name) for field in fields(Figure)}
    state = git_state()
    return row | {
        "device": device_name(device),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "git_sha": state["git_sha"],
        "git_dirty": state["git_dirty"],
        "measured": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


class SavedRows:
    """The rows of the file, in the order of the parts.

    Args:
        path: bench.json; it need not exist.

    Raises:
        ConfigError: the file is not one that the bench has written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._by_part: dict[str, list[Row]] = {}
        for row in _read(path):
            self._by_part.setdefault(part_of(str(row["name"])), []).append(row)

    def replace(self, part: str, rows: Iterable[Row]) -> None:
        """Write the file with these rows of a part in the place of its former ones."""
        self._by_part[part] = list(rows)
        order = sorted(self._by_part, key=_place)
        write_json(self._path, [row for name in order for row in self._by_part[name]])


def part_of(name: str) -> str:
    """The part that measures a figure; the figure's name itself if there is no such part."""
    return next((part for part in PARTS if name == part or name.startswith(f"{part}_")), name)


def _place(part: str) -> int:
    return list(PARTS).index(part) if part in PARTS else len(PARTS)


def _read(path: Path) -> list[Row]:
    if not path.is_file():
        return []
    try:
        rows: list[Row] = json.loads(path.read_text(encoding="utf-8"))
        if all(isinstance(row, dict) and "name" in row for row in rows):
            return rows
    except (ValueError, TypeError):
        pass
    raise ConfigError(f"{path} is not a list of figures: remove it, or take env.results_dir=DIR")
