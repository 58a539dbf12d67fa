"""Names of files for pages: the words of the command line that distinguish them."""

import hashlib
import re
from collections.abc import Sequence

LONGEST = 100  # characters of a name
UNSAFE = re.compile(r"[^A-Za-z0-9_@.,=+:-]")


def file_name(words: Sequence[str]) -> str:
    """The words joined by plus signs, so that different words never share a file.

    A long name, or one with characters that are unsafe in paths, ends with a hash.
    """
    joined = "+".join(words)
    safe = UNSAFE.sub("_", joined)
    if safe == joined and len(joined) <= LONGEST:
        return joined
    return f"{safe[: LONGEST - 9]}-{hashlib.sha256(joined.encode()).hexdigest()[:8]}"
