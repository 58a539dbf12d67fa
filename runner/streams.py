"""Standard output and standard error, to which writing never fails.

What is shown never stops what is computed: errors of writing are ignored, and characters that the
terminal lacks are replaced. Control characters in what users type do not reach the terminal.
"""

import contextlib
import io
import os
import sys
from pathlib import Path
from typing import Any, TextIO

# Control characters except tab and line feed -> the pictures that Unicode has for them.
PICTURES = {
    **{code: 0x2400 + code for code in range(0x20) if chr(code) not in "\t\n"},
    0x7F: 0x2421,
    **dict.fromkeys(range(0x80, 0xA0), 0xFFFD),
}


def visible(text: str) -> str:
    """The text with a picture in place of each control character, ␛ for ESC.

    A label or a path can contain them, and a terminal would act on them.
    """
    return text.translate(PICTURES)


def say(text: str) -> None:
    """Print text to standard error."""
    print(visible(text), file=sys.stderr, flush=True)


class TolerantFile(io.FileIO):
    """A file to which writing never fails: what cannot be written is lost."""

    def write(self, data: Any) -> int:
        """Write all of `data` or as much as possible; return its length."""
        rest = memoryview(data).cast("B")
        with contextlib.suppress(OSError):
            while rest:
                rest = rest[super().write(rest) or len(rest) :]
        return len(data)


def protect_streams() -> None:
    """Replace standard output and error by streams to which writing never fails."""
    sys.stdout = tolerant(sys.stdout, "replace")
    sys.stderr = tolerant(sys.stderr, "backslashreplace")


def tolerant(stream: TextIO | None, errors: str) -> TextIO:
    """A stream on the same file to which writing never fails.

    Args:
        stream: None = the file was closed when this process started.
        errors: what happens to characters that the stream's encoding lacks.
    """
    if stream is None:
        return Path(os.devnull).open("w", encoding="utf-8")
    try:
        number = stream.fileno()
    except (OSError, ValueError):  # a stream in memory
        return stream
    with contextlib.suppress(OSError):
        stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(TolerantFile(number, "w", closefd=False)),
        encoding=stream.encoding,
        errors=errors,
        line_buffering=True,
        write_through=getattr(stream, "write_through", False),
    )
