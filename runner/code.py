"""The version and the content of the running code."""

import hashlib
import platform
import subprocess
from collections.abc import Iterator
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TypedDict

from runner.own import own_files
from runner.paths import CODE, ROOT

DISTRIBUTION = "winnow-pruning"
VERSION = "0.2.0"  # pyproject.toml reads it here


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


def own_digests() -> list[tuple[str, str]]:
    """Path and SHA-256 of each module and YAML file of the user's own."""
    return [(str(path), hashlib.sha256(path.read_bytes()).hexdigest()) for path in own_files()]


def installed() -> dict[str, str | None]:
    """The version of the installed distribution, None if another one is, and `code_digest`.

    It identifies code that is in no checkout.
    """
    try:
        found = metadata.distribution(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return {"version": None, "sha256": code_digest()}
    own = Path(str(found.locate_file("runner"))).resolve() == ROOT / "runner"
    return {"version": found.version if own else None, "sha256": code_digest()}


class GitState(TypedDict):
    """Commit of the running code, and whether the code differs from it; None outside a checkout."""

    git_sha: str | None
    git_dirty: bool | None


def git_state() -> GitState:
    """`git_sha` and `git_dirty` of the running code; None outside a checkout.

    Untracked files, such as those of a new method, make the code dirty.
    """

    def git(*words: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(ROOT), *words],
                capture_output=True,
                text=True,
                timeout=10,
                check=True,
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip()

    # an installed wheel can be inside another project's checkout
    inside = git("rev-parse", "--show-toplevel") == str(ROOT)
    status = git("status", "--porcelain", "--", *CODE) if inside else None
    return {
        "git_sha": git("rev-parse", "HEAD") if inside else None,
        "git_dirty": None if status is None else bool(status),
    }


def version_text() -> str:
    """What `--version` prints: the version, the commit of a checkout, Python and torch."""
    state = git_state()
    commit = f" at commit {state['git_sha'][:12]}" if state["git_sha"] else ""
    changed = " with changes" if state["git_dirty"] else ""
    torch = metadata.version("torch")  # from its metadata: importing it takes a second
    return f"winnow {VERSION}{commit}{changed}, Python {platform.python_version()}, torch {torch}"
