"""Paths of the repository's own files, their digest, and paths that users write."""

import hashlib
import os.path
from collections.abc import Iterator
from functools import cache
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


@cache
def code_digest(root: Path = ROOT) -> str:
    """The SHA-256 of the names and the contents of all files that can influence a run."""
    found = hashlib.sha256()
    for path in sorted(_files(root)):
        content = path.read_bytes()
        found.update(f"{path.relative_to(root).as_posix()}\0{len(content)}\0".encode())
        found.update(content)
    return found.hexdigest()


def _files(root: Path) -> Iterator[Path]:
    for name in CODE:
        path = root / name
        yield from (path,) if path.is_file() else path.rglob("*.py")
        yield from path.rglob("*.yaml")
