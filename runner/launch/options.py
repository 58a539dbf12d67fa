"""Ranges of a launcher's options, and mappings written as text.

Types are checked by runner/config/typed.py.
"""

from collections.abc import Mapping
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException


def mapping(text: str) -> Any:
    """The mapping that a text describes, as Hydra reads `{account: lab}`; else the text itself."""
    try:
        (parsed,) = OverridesParser.create().parse_overrides([f"mapping={text}"])
        return parsed.value()
    except HydraException:
        return text


def too_small(options: Any, least: Mapping[str, float]) -> list[str]:
    """One message for each value that is below its minimum."""
    values = {name: getattr(options, name) for name in least}
    return [
        f"{name}={value:g} must be at least {least[name]}"
        for name, value in values.items()
        if value is not None and not value >= least[name]
    ]
