"""Errors that end a run with one message instead of a traceback."""

import difflib
import os.path
import re
import sys
from collections.abc import Callable, Iterable

EXIT_FAILED, EXIT_CONFIG, EXIT_STOPPED = 1, 2, 143  # exit codes of a command; 0 = done
LEADING_ZEROS = re.compile(r"(?<!\d)0+(?=\d)")
LIKE = 0.5  # least likeness of a suggestion: twice the letters in common over all letters


class ConfigError(ValueError):
    """The configuration cannot be run; nothing was done.

    It has one or more messages, each with the key, the value, the choices and a remedy.
    """

    def __init__(self, *messages: str) -> None:
        super().__init__("\n".join(messages))
        self.messages = messages


class Stopped(Exception):
    """A signal stopped the run after a checkpoint, from which the same command continues."""


def nearest(word: str, choices: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the choice with the spelling nearest to `word`, or an empty string.

    Leading zeros of numbers are ignored: table1 equals table01.
    """
    plain = {choice: LEADING_ZEROS.sub("", choice) for choice in choices}
    word = LEADING_ZEROS.sub("", word)

    def likeness(choice: str) -> tuple[float, int]:
        ratio = difflib.SequenceMatcher(None, word, plain[choice]).ratio()
        return ratio, len(os.path.commonprefix([word, plain[choice]]))

    best = max(plain, key=likeness, default="")
    return f"; did you mean {best!r}?" if best and likeness(best)[0] >= LIKE else ""


def one_of(key: str, value: object, choices: Iterable[str]) -> str:
    """The message for a value that is not among the choices."""
    choices = list(choices)
    return f"{key}={value} is not a choice: {', '.join(choices)}{nearest(str(value), choices)}"


class SweepEnded(Exception):
    """A sweep ended with jobs not done and has reported it. `code` is the command's exit code."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def complain(error: ConfigError) -> None:
    """Print the messages of a configuration error to standard error, one per line."""
    if os.environ.get("RANK", "0") == "0":  # under torchrun only the first process prints
        print("\n".join(f"error: {message}" for message in error.messages), file=sys.stderr)


def guarded(work: Callable[[], int]) -> int:
    """Run `work` and return its exit code; on a ConfigError, print its messages and return 2."""
    try:
        return work()
    except ConfigError as error:
        complain(error)
        return EXIT_CONFIG
