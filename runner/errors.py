"""Errors that end a run with one message instead of a traceback."""

import difflib
import os
import re
from collections.abc import Iterable

# Exit codes of a command; 0 = done.
EXIT_FAILED, EXIT_CONFIG, EXIT_INTERRUPTED, EXIT_STOPPED = 1, 2, 130, 143
LEADING_ZEROS = re.compile(r"(?<!\d)0+(?=\d)")
LIKE = 0.5  # least likeness of a suggestion: twice the letters in common over all letters


class ConfigError(ValueError):
    """The configuration cannot be run; nothing was done.

    It has one or more messages, each once, with the key, the value, the choices and a remedy.
    """

    def __init__(self, *messages: str) -> None:
        messages = tuple(dict.fromkeys(messages))
        super().__init__("\n".join(messages))
        self.messages = messages


class Stopped(Exception):
    """A signal stopped the run after a checkpoint, from which the same command continues."""


class Damaged(Exception):
    """A stored file is not as it was written. The message names the file and the reason."""

    def __init__(self, path: os.PathLike[str], reason: str) -> None:
        super().__init__(f"{os.fspath(path)} is damaged: {reason}")
        self.path, self.reason = path, reason


def nearest(word: str, choices: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the choice with the spelling nearest to `word`, or an empty string.

    Capitals, dashes and leading zeros of numbers are ignored: Table-1 equals table_01.
    """
    plain = {choice: _plain(choice) for choice in choices}
    word = _plain(word)

    def likeness(choice: str) -> tuple[float, int]:
        ratio = difflib.SequenceMatcher(None, word, plain[choice]).ratio()
        return ratio, len(os.path.commonprefix([word, plain[choice]]))

    best = max(plain, key=likeness, default="")
    return f"; did you mean {best!r}?" if best and likeness(best)[0] >= LIKE else ""


def _plain(word: str) -> str:
    return LEADING_ZEROS.sub("", word.lower().replace("-", "_"))


def one_of(key: str, value: object, choices: Iterable[str]) -> str:
    """The message for a value that is not among the choices."""
    choices = list(choices)
    return f"{key}={value} is not a choice: {', '.join(choices)}{nearest(str(value), choices)}"


class SweepEnded(Exception):
    """A sweep ended with jobs not done and has reported it. `code` is the command's exit code."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code
