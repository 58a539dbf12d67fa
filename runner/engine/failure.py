"""The file of an error in a run's folder."""

import contextlib
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runner.engine.distributed import LOST, is_lost
from runner.engine.out_of_memory import describe
from runner.files import write_bytes

TRACEBACK = "traceback.txt"


def write_failure(folder: Path, error: Exception, values: Mapping[str, Any]) -> tuple[str, Path]:
    """Write the traceback of the error that is handled; a message for the user, and the file.

    Args:
        values: the run's configuration, to name the keys that need memory.
    """
    message, details = describe(error, values)
    path, text = folder / TRACEBACK, traceback.format_exc() + details
    with contextlib.suppress(OSError):  # a full disk can be what failed
        write_bytes(path, text.encode(errors="replace"))
    return LOST if is_lost(error) else message, path
