"""`winnow kinds` with the code of the checkout that this file lies in."""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    from runner.main import script

    script("kinds")
