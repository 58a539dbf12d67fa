"""Errors that end a run with one message instead of a traceback."""

import difflib
import os.path
import re
import sys
from collections.abc import Callable, Iterable

EXIT_FAILED, EXIT_CONFIG, EXIT_STOPPED = 1, 2, 143  # of a command; 0 = done
LEADING_ZEROS = re.compile(r"(?<!\d)0+(?=\d)")
LIKE = 0.5  # of two words: twice the letters in common over all letters


class ConfigError(ValueError):
    """The configuration cannot be run; nothing was done. Holds one or more messages, each with the key, the value, the choices and the way out."""

    def __init__(self, *messages: str) -> None:
        super().__init__("\n".join(messages))
        self.messages = messages


class Stopped(Exception):
    """A signal asked the run to stop; a checkpoint was written, the same command goes on from there."""


def nearest(word: str, choices: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the choice spelled most like `word`, or nothing. Leading zeros of numbers do not count: table1 is table01."""
    plain = {choice: LEADING_ZEROS.sub("", choice) for choice in choices}
    word = LEADING_ZEROS.sub("", word)

    def likeness(choice: str) -> tuple[float, int]:
        return difflib.SequenceMatcher(None, word, plain[choice]).ratio(), len(os.path.commonprefix([word, plain[choice]]))

    best = max(plain, key=likeness, default="")
    return f"; did you mean {best!r}?" if best and likeness(best)[0] >= LIKE else ""


def one_of(key: str, value: object, choices: Iterable[str]) -> str:
    """The message for a value that is none of its choices."""
    choices = list(choices)
    return f"{key}={value} is not a choice: {', '.join(choices)}{nearest(str(value), choices)}"


class SweepEnded(Exception):
    """A sweep that did not get everything done and has said so; `code` is the command's exit code."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def complain(error: ConfigError) -> None:
    """The messages of a configuration error on standard error, one per line."""
    if os.environ.get("RANK", "0") == "0":  # of the processes that torchrun started, one speaks
        print("\n".join(f"error: {message}" for message in error.messages), file=sys.stderr)


def guarded(work: Callable[[], int]) -> int:
    """The exit code of `work`; 2 with its messages for a configuration that cannot be run."""
    try:
        return work()
    except ConfigError as error:
        complain(error)
        return EXIT_CONFIG
