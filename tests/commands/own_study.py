"""A folder with parts of a stranger's own, written from CONTRIBUTING.md, and commands in it."""

import json
from pathlib import Path
from typing import Any

from conftest import ROOT, environment
from forked import start_forked
from recipes import own_files

SMALL = ["train.scale=0.0125", "env.device=cpu", "env.threads=1", "env.progress=none"]
SECTIONS = [
    "A new method in five minutes",
    "A new model",
    "A new data set",
    "Outside this repository",
]


def write_study(folder: Path) -> None:
    """Write the files of all sections to the folder `my` in an empty folder."""
    for heading in SECTIONS:
        for path, code in own_files(heading).items():
            (folder / "my" / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / "my" / path).write_text(code)


PROGRAM = f"""import sys
if __name__ == "__main__":
    sys.path[0] = {str(ROOT)!r}
    from runner.main import main
    main()
"""


def winnow(folder: Path, *words: str, path: str = "my", code: int = 0, limit: float = 300) -> str:
    """Output of `winnow WORDS` in a folder with WINNOW_PATH, which has to end with `code`.

    `limit` is in seconds.

    The command is a fork of a process that has imported torch (tests/forked.py).
    """
    script, written = folder / "winnow_command.py", folder / "output.txt"
    script.write_text(PROGRAM)
    variables = {**clean_environment(), **({"WINNOW_PATH": path} if path else {})}
    with written.open("wb") as file:
        number = file.fileno()
        process = start_forked(script, words, folder, variables, number, number)
        found = process.wait(limit)
    printed = written.read_text()
    assert found == code, printed
    return printed


def clean_environment() -> dict[str, str]:
    """The environment of a test, without parts of one's own."""
    return {key: value for key, value in environment().items() if key != "WINNOW_PATH"}


def records(folder: Path) -> list[dict[str, Any]]:
    """The records of the runs in a folder."""
    return [json.loads(path.read_text()) for path in folder.glob("results/runs/*/result.json")]
