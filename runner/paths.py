"""Paths of the repository's own files."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CONF = ROOT / "conf"
RUN_PY = ROOT / "run.py"
PAPERS = ROOT / "results" / "paper"  # the papers' printed numbers
PUBLISHED = ROOT / "results" / "published"  # records shipped with the code
