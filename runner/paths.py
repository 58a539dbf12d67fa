"""Paths of the repository's own files, and paths that users write."""

import os.path
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CONF = ROOT / "conf"
RUN_PY = ROOT / "run.py"
# paths below ROOT that can influence a number
CODE = ("run.py", "runner", "models", "pruners", "conf")
PAPERS = ROOT / "results" / "paper"  # the papers' printed numbers
PUBLISHED = ROOT / "results" / "published"  # records shipped with the code
CHECKOUT = (ROOT / "Makefile").is_file()  # not an installed wheel


def typed(
    command: str, name: str = "", *words: str, key: str = "TABLE", checkout: bool = CHECKOUT
) -> str:
    """How to type a command, for messages: with `make` in a checkout, with `winnow` elsewhere.

    Examples: make data DATASET=mnist and winnow data mnist; make cache ARGS="remove=true" and
    winnow cache remove=true.

    Args:
        name: what the command is for, which `make` takes as the variable `key`.
        words: further ones.
    """
    if not checkout:
        return " ".join(["winnow", command, *filter(None, [name]), *words])
    arguments = [f"{key}={name}"] if name else []
    arguments += [f'ARGS="{" ".join(words)}"'] if words else []
    return " ".join(["make", command, *arguments])


def expand_user(text: str) -> str:
    """A path as a user wrote it, with `~` or `~name` at its begin replaced as in a shell."""
    return os.path.expanduser(text)  # noqa: PTH111  (Path.expanduser fails for unknown names)


def user_path(text: str) -> Path:
    """The path that a user wrote."""
    return Path(expand_user(text))
