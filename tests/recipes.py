"""The files that the recipes of CONTRIBUTING.md print."""

import re
from pathlib import Path

from conftest import ROOT

PAGE = (ROOT / "CONTRIBUTING.md").read_text()


def own_files(heading: str) -> dict[str, str]:
    """The files of a section of CONTRIBUTING.md, as they are in a folder of one's own."""
    (section,) = re.findall(rf"^## {re.escape(heading)}\n(.*?)^## ", PAGE, re.DOTALL | re.MULTILINE)
    found = re.findall(r"`([\w./-]+)`:\n\n```\w+\n(.*?)```", section, re.DOTALL)
    return {_own_place(path): code for path, code in found}


def _own_place(path: str) -> str:
    path = path.removeprefix("my/")
    return path if path.startswith("conf/") else Path(path).name
