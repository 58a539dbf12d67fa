"""The content of the running code."""

import hashlib
from collections.abc import Iterator
from functools import cache
from importlib import metadata
from pathlib import Path

from runner.own import own_files
from runner.paths import CODE, ROOT

DISTRIBUTION = "winnow-pruning"


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
