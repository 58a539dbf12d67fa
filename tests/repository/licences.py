"""Write docs/licences.md: the licence of each package in requirements.lock, as its metadata say.

Packages that this machine does not need, such as those of other systems, keep their line.
"""

import re
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "licences.md"
HEAD = "| package | licence |\n|---|---|\n"
ROW = re.compile(r"^\| ([\w.-]+) \| (.*) \|$", re.MULTILINE)
# Texts that stand in metadata in place of a name.
LONG = re.compile(r"copyright|agreement|===", re.IGNORECASE)


def locked() -> list[str]:
    """The names in requirements.lock, sorted."""
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    return sorted({line.partition("==")[0] for line in lines if line and line[0] != "#"})


def licence(package: str) -> str:
    """The licence that the metadata of an installed package state.

    Raises:
        PackageNotFoundError: it is not installed.
    """
    about = metadata.metadata(package)
    for field in ("License-Expression", "License"):
        named = str((about.get_all(field) or [""])[0]).splitlines()
        if named and not LONG.search(named[0]):
            return named[0]
    labels = [each.rpartition(" :: ")[2] for each in about.get_all("Classifier") or ()]
    return ", ".join(each for each in labels if "License" in each) or "not stated"


def rows(page: str) -> dict[str, str]:
    """Package -> licence in the table of a page."""
    return {name: text for name, text in ROW.findall(page) if name != "package"}


def renewed(page: str) -> str:
    """The page with the table of this environment."""
    known, found = rows(page), {}
    for package in locked():
        try:
            found[package] = licence(package)
        except metadata.PackageNotFoundError:
            found[package] = known.get(package, "not installed here")
    table = "".join(f"| {name} | {text} |\n" for name, text in found.items())
    return page[: page.index(HEAD) + len(HEAD)] + table


if __name__ == "__main__":
    PAGE.write_text(renewed(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
