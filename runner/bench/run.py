"""Print `make bench`: speed and memory beside a rival or limit, measured in the same run.

Absolute times say little about another machine, so most figures are ratios. runner/bench/parts.py
lists what is measured. Each figure is printed when it is known and written to
results/bench/bench.json (runner/bench/saved.py). The training throughput is also saved for the
estimates of `make plan`.
"""

import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console

from runner.bench.figures import Figure
from runner.bench.parts import PARTS, Setting
from runner.bench.saved import Row, SavedRows, row_of
from runner.bench.timing import Compared
from runner.config.compose import compose_config
from runner.engine.allocator import keep_freed_memory
from runner.errors import ConfigError, one_of

USAGE = (
    "the bench takes rounds=N and threads=N, whole numbers from 1 up, only=NAME[,NAME],"
    " env.results_dir=DIR and env.cache_dir=DIR"
)
LAST_START = 12 * 60.0  # seconds after which a complete bench starts no further part
FOLDERS = ("env.results_dir=", "env.cache_dir=")


@dataclass(frozen=True)
class Options:
    """Rounds of each comparison, threads, the parts to measure, and the folders to write to."""

    rounds: int
    threads: int
    only: tuple[str, ...]
    results_dir: Path
    cache_dir: Path


def bench(arguments: list[str], console: Console) -> int:
    """Print the figures and write them to results/bench/bench.json, beside those of other parts.

    Arguments: rounds=N (default 5), threads=N, only=NAME[,NAME] (default: all parts),
    env.results_dir=DIR, env.cache_dir=DIR.

    Raises:
        ConfigError: another argument, a value that is not a whole number from 1 up, an unknown
            part, or bench.json is another file.
    """
    options = read_options(arguments)
    path = options.results_dir / "bench" / "bench.json"
    saved, count, start = SavedRows(path), 0, time.monotonic()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # warnings of PyHessian and curvlinops
        for i, name in enumerate(options.only):
            if options.only == tuple(PARTS) and time.monotonic() - start > LAST_START:
                console.print(f"left out, measure them with ONLY={','.join(options.only[i:])}")
                break
            rows: list[Row] = []
            for figure, row in measured(name, options):
                console.print(line(figure), soft_wrap=True, highlight=False)
                rows.append(row)
                saved.replace(name, rows)
            count += len(rows)
    console.print(f"{count} figures in {time.monotonic() - start:.0f} s: {path}")
    return 0


def read_options(arguments: list[str]) -> Options:
    """Read the arguments of `bench`.

    Raises:
        ConfigError: see `bench`.
    """
    numbers = {"rounds": 5, "threads": torch.get_num_threads()}
    only = tuple(PARTS)
    for argument in arguments:
        key, _, value = argument.partition("=")
        if argument.startswith(FOLDERS):
            continue
        if key == "only":
            only = tuple(value.split(","))
        elif key in numbers and value.isdigit() and int(value) > 0:
            numbers[key] = int(value)
        else:
            raise ConfigError(f"{argument}: {USAGE}")
    if unknown := [name for name in only if name not in PARTS]:
        raise ConfigError(*(one_of("only", name, PARTS) for name in unknown))
    env = compose_config([each for each in arguments if each.startswith(FOLDERS)]).env
    folders = Path(env.results_dir), Path(env.cache_dir)
    return Options(numbers["rounds"], numbers["threads"], only, *folders)


def measured(name: str, options: Options) -> Iterator[tuple[Figure, Row]]:
    """Yield the figures of a part, each also as a row of bench.json."""
    part = PARTS[name]
    gpu = torch.cuda.is_available() and not part.on_cpu
    device = torch.device("cuda" if gpu else "cpu")
    torch.set_num_threads(options.threads)
    keep_freed_memory()  # as a run
    for figure in part.measure(Setting(device, options.rounds, options.threads, options.cache_dir)):
        yield figure, row_of(figure, device)


def line(figure: Figure) -> str:
    """A figure as text: what was measured, beside what, and the ratio that counts."""
    work = f", {figure.work}" if isinstance(figure, Compared) else ""
    text = f"{figure.name}{work}: {figure.value:.3g} {figure.unit}"
    if figure.rival is not None:
        text += f"; {figure.rival}"
    if figure.rival_value is not None:
        text += f": {figure.rival_value:.3g} {figure.unit}"
    if figure.ratio is not None:
        text += f"; ratio {figure.ratio:.2f}"
    if isinstance(figure, Compared):
        text += f" ({min(figure.ratios):.2f} to {max(figure.ratios):.2f})"
    return text
