"""`make data`: download a data set if it is missing, and verify it."""

import argparse
from collections.abc import Sequence

from runner.config.environment import environment
from runner.config.overrides import search_path, with_search_path
from runner.data.base import DataError
from runner.data.catalog import names
from runner.data.download import fetch
from runner.errors import ConfigError
from runner.paths import user_path
from runner.streams import say


def main(argv: Sequence[str]) -> int:
    """Download and verify one data set; return 0, or print one message and return 2."""
    parser = argparse.ArgumentParser(
        prog="winnow data",
        description="Fetch a data set, unless it is there, and verify its checksums.",
    )
    parser.add_argument("name", metavar="DATASET", help=", ".join(names()))
    parser.add_argument(
        "--data-dir",
        type=user_path,
        help="folder of all data sets (default: the variable WINNOW_DATA, else data)",
    )
    words = with_search_path(argv)
    args = parser.parse_args([word for word in words if word not in search_path(words)])
    try:
        print(fetch(args.name, args.data_dir or environment([]).data_dir))
    except (DataError, ConfigError) as error:
        say(str(error))
        return 2
    return 0
