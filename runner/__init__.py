"""Winnow's runner: configuration, stages, cache, records, tables.

`runner.load_ticket(run_id)` returns the network and masks of a finished run, and
`runner.keep_masked(model, masks, optimizer)` keeps pruned weights at zero in any training loop.
`runner.load_records("results")` returns finished runs as a pandas DataFrame.
"""

from typing import Any

__all__ = ["keep_masked", "load_records", "load_ticket"]


def __getattr__(name: str) -> Any:
    # Imported on use: `run.py --help` must not load torch.
    if name == "load_ticket":
        from runner.engine.ticket import load_ticket

        return load_ticket
    if name == "keep_masked":
        from pruners.keep import keep_masked

        return keep_masked
    if name == "load_records":
        from runner.records.flat import load_records

        return load_records
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
