"""The command `winnow COMMAND ...`; scripts/*.py, `make` and `python run.py` run the same code."""

import sys
from pathlib import Path
from typing import NoReturn

from runner.command_list import COMMANDS
from runner.entry import command
from runner.errors import EXIT_CONFIG, ConfigError, nearest
from runner.paths import ROOT
from runner.streams import say

HELP = ("-h", "--help", "help")


def main() -> NoReturn:
    """Run `winnow COMMAND ...` and exit. Exit codes: `runner.errors`."""
    command(lambda: dispatch(sys.argv[1:]))


def script(name: str) -> NoReturn:
    """Run the command `name` with the words of the command line, and exit."""
    command(lambda: dispatch([name, *sys.argv[1:]]))


def dispatch(words: list[str]) -> int:
    """Run the command that the words begin with; without a command, `run`.

    Raises:
        ConfigError: there is no such command.
    """
    if not words or words[0] in HELP:
        print(overview(), end="")
        return 0 if words else EXIT_CONFIG
    if "=" in words[0] or words[0].startswith("-"):
        words = ["run", *words]
    by_name = {each.name: each for each in COMMANDS}
    if words[0] not in by_name:
        known = ", ".join(by_name)
        raise ConfigError(
            f"winnow {words[0]} is not a command: {known}{nearest(words[0], by_name)}"
        )
    chosen, rest = by_name[words[0]], words[1:]
    if len(rest) == 1 and rest[0] in HELP and chosen.usage:
        print(chosen.help, end="")
        return 0
    if note := other_checkout(Path(sys.argv[0])):
        say(note)
    return chosen.run(rest)


def overview() -> str:
    """The text of `winnow --help`."""
    lines = "".join(f"  {each.name:<11}{each.summary}\n" for each in COMMANDS)
    return (
        "winnow COMMAND [WORD ...]\n\n"
        f"{lines}\n"
        "winnow COMMAND --help explains a command. In a checkout, python run.py is winnow run and\n"
        "make COMMAND TABLE=... ARGS=... is winnow COMMAND ..., with the code of the checkout.\n"
    )


def other_checkout(program: Path) -> str:
    """A note if the working directory is a checkout whose code does not run; else empty.

    Args:
        program: the file that was started.
    """
    if not Path("runner", "main.py").is_file() or Path.cwd().resolve() == ROOT:
        return ""
    return (
        f"note: {program.name} runs the code in {ROOT}, not that of this folder; for the latter:"
        " python run.py, scripts/ and make"
    )
