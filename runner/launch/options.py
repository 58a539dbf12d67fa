"""Ranges of a launcher's options. Their types are checked by runner/config/typed.py."""

from collections.abc import Mapping
from typing import Any


def too_small(options: Any, least: Mapping[str, float]) -> list[str]:
    """One message for each value that is below its minimum."""
    values = {name: getattr(options, name) for name in least}
    return [
        f"{name}={value:g} must be at least {least[name]}"
        for name, value in values.items()
        if value is not None and not value >= least[name]
    ]
