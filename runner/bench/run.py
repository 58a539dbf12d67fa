"""Print `make bench`: speed as ratios to a rival or limit, measured in alternation in one run.

Absolute times say little about another machine. Rows of the table:

- our training loop against a tutorial's loop (a DataLoader that transforms image by image), and
  against its own limit (the bare steps on one batch already in memory);
- bf16 against fp32;
- Hessian-vector products against PyHessian's and curvlinops';
- every method that scores with data against training steps on the same images;
- steps of every mask search against training steps of the same network;
- trials of theory experiments solved together against one after another;
- expanding a table against composing each of its jobs.

Below the table: evaluation beside that of version 0.1.0; planning and printing 29 tables over
10,000 records; peak memory of making masks, of scores of 1 to 1,000 classes and of trials; the cost
in epochs of measuring a Hessian before pruning; error and memory of a spectrum beside PyHessian's.
The training throughput is saved for the estimates of `make plan`.
"""

import statistics
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from runner.bench import hessian_stages as bench_stages
from runner.bench import memory as bench_memory
from runner.bench import memory_by_classes as bench_classes
from runner.bench import spectrum as bench_spectrum
from runner.bench.evaluation import evaluation_figure
from runner.bench.hessian import hessian_comparisons
from runner.bench.planning import composed, expanded, make_tables, measure
from runner.bench.scores import EXAMPLES, score_comparisons
from runner.bench.search import search_comparisons
from runner.bench.timing import Comparison, measure_ratios
from runner.bench.training import (
    BATCH,
    epoch_of,
    images_of,
    net,
    normalised,
    throughput,
    training_comparisons,
)
from runner.bench.trials import trial_comparison, trial_memory
from runner.config.compose import compose_config
from runner.display.sizes import readable
from runner.engine.allocator import keep_freed_memory
from runner.errors import ConfigError
from runner.planning.costs import BENCH, save_bench
from runner.records.provenance import device_name

RECORDS = 10_000
STAGE_ROUNDS = 3  # at most; each takes half a minute


@dataclass(frozen=True)
class Options:
    """Rounds of each comparison, threads, and the folder that keeps the throughput."""

    rounds: int
    threads: int
    cache_dir: Path


def bench(arguments: list[str], console: Console) -> int:
    """Print the ratio of every comparison and the cost of plans; save the throughput.

    Arguments: rounds=N (default 5), threads=N, env.cache_dir=DIR.

    Raises:
        ConfigError: another argument, or a value that is not a whole number from 1 up.
    """
    options = read_options(arguments)
    torch.set_num_threads(options.threads)
    keep_freed_memory()  # as a run
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # warnings of PyHessian and curvlinops
        _comparisons(device, options, console)
    _evaluation(options.rounds, console)
    _plans(console)
    _masks(console)
    _classes(console)
    _stages(device, min(options.rounds, STAGE_ROUNDS), console)
    _spectrum(console)
    _keep_throughput(device, {1, options.threads}, options.cache_dir, console)
    return 0


def read_options(arguments: list[str]) -> Options:
    """Read the arguments of `bench`.

    Raises:
        ConfigError: see `bench`.
    """
    numbers = {"rounds": 5, "threads": torch.get_num_threads()}
    env = [argument for argument in arguments if argument.startswith("env.cache_dir=")]
    for argument in arguments:
        key, _, value = argument.partition("=")
        if argument in env:
            continue
        if key not in numbers or not value.isdigit() or int(value) < 1:
            raise ConfigError(
                f"{argument}: the bench takes rounds=N and threads=N, whole numbers from 1 up"
            )
        numbers[key] = int(value)
    return Options(**numbers, cache_dir=Path(compose_config(env).env.cache_dir))


def _comparisons(device: torch.device, options: Options, console: Console) -> None:
    """Print the table of all comparisons."""
    table = Table(
        title=f"{device_name(device)}, {options.threads} threads, {options.rounds} rounds",
        title_justify="left",
    )
    for column in ("work", "rival or limit", "times as fast", "all rounds"):
        table.add_column(column)
    comparisons = list(all_comparisons(device))
    for each in track(comparisons, "measuring", console=console, transient=True):
        ratios = measure_ratios(each, options.rounds)
        median, low, high = statistics.median(ratios), min(ratios), max(ratios)
        table.add_row(each.work, each.baseline, f"{median:.2f}", f"{low:.2f} to {high:.2f}")
    console.print(table)


def _evaluation(rounds: int, console: Console) -> None:
    """Print the speed of evaluation as a multiple of that of version 0.1.0."""
    with console.status("evaluating"):
        figure = evaluation_figure(rounds)
    console.print(
        f"{figure.name}: {figure.value:.3g} {figure.unit}; {figure.rival}:"
        f" {figure.rival_value:.3g} {figure.unit}; ratio {figure.ratio:.2f}",
        soft_wrap=True,
    )


def _plans(console: Console) -> None:
    """Print time and memory of plans and tables over many records, in a separate process."""
    with tempfile.TemporaryDirectory() as folder, console.status("planning"):
        make_tables(Path(folder), RECORDS)
        took = measure(Path(folder))
    console.print(
        f"29 tables (stand-ins) over {RECORDS:,} records: planned after {took.planned:.1f} s,"
        f" printed after {took.printed:.1f} s, {took.cpu:.1f} s of processor time, peak memory"
        f" {readable(took.peak)}",
        soft_wrap=True,
    )


def _masks(console: Console) -> None:
    """Print the peak memory of trials and, in multiples of the network's weights, of masks."""
    with console.status("making masks"):
        ratios = list(bench_memory.measured())
    each = ", ".join(f"{name} {ratio:.1f}" for name, ratio in ratios)
    inputs, taken = trial_memory()
    console.print(
        f"trials of theory experiments on a CPU: {readable(inputs)} of inputs at a time, peak"
        f" memory {readable(taken)}",
        soft_wrap=True,
    )
    console.print(
        "masks of VGG-19 (20 M weights, 3x32x32), peak memory beside the network in multiples of"
        f" it: {each}",
        soft_wrap=True,
    )


def _classes(console: Console) -> None:
    """Print the peak memory of derivatives under a bound, by the number of classes."""
    with console.status("scoring images of up to 1,000 classes"):
        lines = [str(peaks) for peaks in bench_classes.measured()]
    more = ", ".join(map(str, bench_classes.CLASSES[1:]))
    console.print(
        f"scores under a bound on memory, {bench_classes.PER_CLASS} images of each class; peak"
        f" beside the network for 1 class, then for {more}: {'; '.join(lines)}",
        soft_wrap=True,
    )


def _stages(device: torch.device, rounds: int, console: Console) -> None:
    """Print the cost, in epochs, of the stages before retraining that measure a Hessian."""
    trained = images_of(2 * BATCH, 3, 32)
    for stages in bench_stages.methods():
        shown = images_of(stages.spectrum.hessian.n_samples, 3, 32)
        x = normalised(shown).to(device, memory_format=torch.channels_last)
        with console.status(f"measuring stages of method={stages.method}"):
            epoch = epoch_of(trained, "crop_flip", device)
            batch = (x, shown.labels.to(device))
            model = net(3, 32, device)
            cost = bench_stages.stage_cost(stages, model, batch, epoch, len(trained), rounds)
        console.print(str(cost), soft_wrap=True)


def _spectrum(console: Console) -> None:
    """Print error and memory of our spectrum and of PyHessian's."""
    with console.status("estimating spectra"):
        lines = list(bench_spectrum.lines(bench_spectrum.errors(), bench_spectrum.memory()))
    for line in lines:
        console.print(line, soft_wrap=True)


def _keep_throughput(
    device: torch.device, threads: set[int], cache_dir: Path, console: Console
) -> None:
    """Measure the training throughput and save it by number of threads.

    On CPUs, tables run with one thread per job.
    """
    for n in sorted(threads):
        torch.set_num_threads(n)
        rows = list(throughput(device))
        save_bench(cache_dir, device_name(device), n, rows)
        for row in rows:
            console.print(
                f"{n} thread(s), {row['work']}: {row['images_per_s']:,.0f} images/s,"
                f" {row['macs_per_s']:.3g} multiply-accumulates/s",
                soft_wrap=True,
            )
    console.print(f"kept for make plan in {cache_dir / BENCH}")


def all_comparisons(device: torch.device) -> Iterator[Comparison]:
    """Yield every row of the table in order. Images are random: values do not change the work."""
    yield from training_comparisons(device)
    yield from hessian_comparisons(device)
    data = images_of(EXAMPLES, 3, 32)
    x = normalised(data).to(device, memory_format=torch.channels_last)
    yield from score_comparisons(net(3, 32, device), (x, data.labels.to(device)))
    yield from search_comparisons(device)
    yield trial_comparison(device)
    yield Comparison(
        "expanding 25 jobs of a table", "a Hydra composition for each", expanded, composed
    )
