"""The outcome of a command after a fault, and its verdict."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeAlias

from runner.errors import EXIT_CONFIG, EXIT_FAILED

# What a run leaves that must be equal: fields of its record, and the text of its series.
Left: TypeAlias = Mapping[str, object]
TRACEBACK = "Traceback (most recent call last)"


class Verdict(Enum):
    """What a trial showed. The values are the columns of the table."""

    EQUAL = "equal"  # exit 0, and the record of an undisturbed run
    REFUSED = "refused"  # exit 2 with a message
    FAILED = "failed"  # exit 1 with a message that names the file
    UNCLEAR = "unclear"  # exit 1 or 2 without such a message
    UNEQUAL = "unequal"  # exit 0 with another record: a silent wrong number
    TRACEBACK = "traceback"  # a traceback on the terminal, or a crash
    HANG = "hang"  # the command did not end


FAULTS = (Verdict.UNCLEAR, Verdict.UNEQUAL, Verdict.TRACEBACK, Verdict.HANG)
SEVERITY = tuple(Verdict)  # of two commands in a trial, the later verdict counts


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Args:
        code: exit code, or minus the number of the signal that killed it; None = it was killed at
            its time limit.
        output: standard output and standard error.
    """

    code: int | None
    output: str = ""

    @property
    def last_line(self) -> str:
        """The last line that reports something."""
        lines = [line.strip() for line in self.output.splitlines() if line.strip()]
        named = [line for line in lines if line.startswith(("error:", "failed:"))]
        return (named or lines or ["(no output)"])[-1][:300]


@dataclass(frozen=True)
class Trial:
    """One fault and its verdict.

    Args:
        kind: the row of the table.
        what: the fault, in words.
        command: what a user would type to see it.
        message: the last message of the command.
    """

    kind: str
    what: str
    verdict: Verdict
    command: str = ""
    message: str = ""

    @property
    def is_fault(self) -> bool:
        """Whether the code under test is wrong."""
        return self.verdict in FAULTS


def classify(ended: Ended, same: bool, names: Iterable[str] = ()) -> Verdict:
    """The verdict on a command.

    Args:
        same: whether what it left equals what an undisturbed run leaves.
        names: words of which a message of a failure contains at least one: the damaged file. Empty
            = any message will do.
    """
    if ended.code is None:
        return Verdict.HANG
    if TRACEBACK in ended.output or ended.code not in (0, EXIT_FAILED, EXIT_CONFIG):
        return Verdict.TRACEBACK
    if ended.code == 0:
        return Verdict.EQUAL if same else Verdict.UNEQUAL
    if ended.code == EXIT_CONFIG:
        return Verdict.REFUSED if "error:" in ended.output else Verdict.UNCLEAR
    # messages are folded at the width of the terminal
    output = "".join(ended.output.split())
    wanted = ["".join(name.split()) for name in names]
    named = not wanted or any(name in output for name in wanted)
    return Verdict.FAILED if named and ended.output.strip() else Verdict.UNCLEAR


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """The verdict that counts for several commands of a trial."""
    return max(verdicts, key=SEVERITY.index)


def differences(found: Left, expected: Left) -> str:
    """The fields in which two records differ, with both values."""
    keys = sorted({*found, *expected})
    unlike = [key for key in keys if found.get(key) != expected.get(key)]
    return "; ".join(
        f"{key}: {_short(found.get(key))} not {_short(expected.get(key))}" for key in unlike
    )


def _short(value: Any) -> str:
    return " ".join(str(value).split())[:60]
