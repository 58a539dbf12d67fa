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


def expand_user(text: str) -> str:
    """A path as a user wrote it, with `~` or `~name` at its begin replaced as in a shell."""
    return os.path.expanduser(text)  # noqa: PTH111  (Path.expanduser fails for unknown names)


def user_path(text: str) -> Path:
    """The path that a user wrote."""
    return Path(expand_user(text))
