"""Read what every run reads of the repository's own files, in a process that is then forked."""

import contextlib

from runner.code import code_digest
from runner.config.compose import Composer
from runner.errors import ConfigError
from runner.registry import tags
from runner.suites.paper_rows import rows_of
from runner.suites.papers import paper_titles


def warm() -> None:
    """Find the components, parse with Hydra, and read the code and the papers' tables.

    Nothing is computed that could start threads.
    """
    tags()
    code_digest()
    Composer().plain([])
    for paper in paper_titles():
        with contextlib.suppress(ConfigError):  # of a table's file; a run does not need it
            rows_of(paper, "")
