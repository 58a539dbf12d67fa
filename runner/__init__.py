"""Winnow's runner: configuration, stages, cache, records, tables.

`runner.load_ticket(run_id)` returns the network and masks of a finished run.
"""

from typing import Any

__all__ = ["load_ticket"]


def __getattr__(name: str) -> Any:
    # Imported on use: `run.py --help` must not load torch.
    if name == "load_ticket":
        from runner.engine.ticket import load_ticket

        return load_ticket
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
