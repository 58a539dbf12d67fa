"""`make data`: download a data set if it is missing, and verify it."""

import argparse
from collections.abc import Sequence

from runner.config.environment import environment
from runner.data.base import DataError
from runner.data.catalog import names
from runner.data.download import fetch
from runner.errors import ConfigError
from runner.paths import user_path
from runner.streams import say


def main(argv: Sequence[str]) -> int:
    """Download and verify one data set; return 0, or print one message and return 2."""
    parser = argparse.ArgumentParser(
        prog="scripts/fetch_data.py",
        description="Fetch a data set, unless it is there, and verify its checksums.",
    )
    parser.add_argument("name", metavar="DATASET", help=", ".join(names()))
    parser.add_argument(
        "--data-dir",
        type=user_path,
        help="folder of all data sets (default: the variable WINNOW_DATA, else data)",
    )
    args = parser.parse_args(argv)
    try:
        print(fetch(args.name, args.data_dir or environment([]).data_dir))
    except (DataError, ConfigError) as error:
        say(str(error))
        return 2
    return 0
