"""Hydra's own sweeper, without the check for which it composes every job once more."""

from collections.abc import Sequence

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper


class WinnowSweeper(BasicSweeper):  # type: ignore[misc]  # Hydra has no types
    """Expands a sweep's values as Hydra's own sweeper does, of which it is the default here."""

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """Nothing: before any job starts, each is composed and checked (runner/launch/sweep.py)."""
