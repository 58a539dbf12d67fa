"""Other words for choices and keys (conf/synonyms.yaml), for error messages."""

from functools import cache
from typing import Any

from runner.config.plain import read_plain
from runner.paths import CONF


def other_key(word: str) -> str | None:
    """The key that `word` may mean; None if no synonym is known."""
    found: str | None = _read()["keys"].get(word.lower())
    return found


def other_choice(group: str, word: str) -> str | None:
    """The choice of a group that `word` may mean; None if no synonym is known."""
    names: dict[str, str] = _read()["choices"].get(group, {})
    return names.get(word.lower().replace("-", "_"))


@cache
def _read() -> dict[str, Any]:
    return read_plain(CONF / "synonyms.yaml", resolve=False)
