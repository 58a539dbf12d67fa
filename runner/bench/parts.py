"""The parts of `make bench`: what `only=NAME` chooses from, and what measures each.

A part measures one figure of its own name, or several whose names begin with it. A new figure is a
function in a module of its own and one line in PARTS.
"""

import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from runner.bench import memory as bench_memory
from runner.bench import memory_by_classes as bench_classes
from runner.bench import spectrum as bench_spectrum
from runner.bench import start_up
from runner.bench.convolutions import limit_comparison, limit_in_bf16
from runner.bench.decoding import decode_comparison, limit_of_decoding
from runner.bench.evaluation import evaluation_figure
from runner.bench.figures import Figure
from runner.bench.hessian import hessian_comparisons
from runner.bench.hessian_overhead import overhead
from runner.bench.jobs import job_overhead
from runner.bench.layers import evaluation_comparisons, step_comparisons
from runner.bench.planning import composed, expanded, make_tables, measure
from runner.bench.scores import EXAMPLES, score_comparisons
from runner.bench.search import NETS, search_comparisons
from runner.bench.seeds import seed_comparisons
from runner.bench.synflow import synflow_figures
from runner.bench.teams import decodes_figure, scores_figures, training_figures
from runner.bench.timing import Comparison, compare
from runner.bench.training import (
    LARGE,
    SMALL,
    images_of,
    net,
    normalised,
    throughput,
    training_comparisons,
    tutorial_comparison,
)
from runner.bench.trials import trial_comparison, trial_memory
from runner.planning.costs import save_bench
from runner.records.provenance import device_name

RECORDS = 10_000
STAGE_ROUNDS = 2  # at most; each takes half a minute
MIB = 2**20


@dataclass(frozen=True)
class Setting:
    """What a part is measured with.

    Args:
        device: where the network is.
        rounds: of each comparison, at most.
        threads: of torch.
        cache_dir: folder that keeps the throughput for plans.
    """

    device: torch.device
    rounds: int
    threads: int
    cache_dir: Path


@dataclass(frozen=True)
class Part:
    """A part of the benchmark.

    Args:
        measure: measures the figures.
        on_cpu: on the CPU also where there is a GPU.
    """

    measure: Callable[[Setting], Iterable[Figure]]
    on_cpu: bool = False


def compared(comparisons: Callable[[torch.device], Iterable[Comparison]]) -> Part:
    """The part of several comparisons on the device."""
    return Part(
        lambda setting: (compare(each, setting.rounds) for each in comparisons(setting.device))
    )


def on_cpu(comparison: Callable[[torch.device], Comparison]) -> Part:
    """The part of one comparison on the CPU."""
    return Part(lambda setting: [compare(comparison(setting.device), setting.rounds)], on_cpu=True)


def _scores(device: torch.device) -> Iterator[Comparison]:
    data = images_of(EXAMPLES, 3, 32)
    x = normalised(data).to(device, memory_format=torch.channels_last)
    yield from score_comparisons(net(3, 32, device), (x, data.labels.to(device)))


def _expanding(device: torch.device) -> Iterator[Comparison]:
    rival = "a Hydra composition for each"
    yield Comparison("expanding", "expanding 25 jobs of a table", rival, expanded, composed)


def _tables(setting: Setting) -> Iterator[Figure]:
    """Plan and print 29 tables over many records in a separate process."""
    with tempfile.TemporaryDirectory() as folder:
        make_tables(Path(folder), RECORDS)
        first, again = measure(Path(folder)), measure(Path(folder))
    what = f"29 tables (stand-ins) over {RECORDS:,} records"
    calls = {"": (again, "cells kept"), "_first": (first, "the first call of new code")}
    for name, (took, which) in calls.items():
        yield Figure(
            f"tables_10k_s{name}", took.printed, "s", f"{what}: planned and printed, {which}"
        )
        yield Figure(f"tables_10k_s{name}_planned", took.planned, "s", f"{what}: planned, {which}")
        yield Figure(f"tables_10k_s{name}_cpu", took.cpu, "s", f"{what}: processor time, {which}")
        yield Figure(
            f"tables_10k_s{name}_memory", took.peak / MIB, "MiB", f"{what}: peak memory, {which}"
        )


def _masks(setting: Setting) -> Iterator[Figure]:
    """Measure the peak memory of making masks of VGG-19 in multiples of its weights."""
    for name, ratio in bench_memory.measured():
        yield Figure(f"mask_memory_{name}", ratio, "times the weights of VGG-19")


def _classes(setting: Setting) -> Iterator[Figure]:
    """Measure the peak memory of derivatives under a bound, by the number of classes."""
    for peaks in bench_classes.measured():
        most, one = peaks.taken[-1] / MIB, peaks.taken[0] / MIB
        name = "class_memory_" + peaks.name.lower().replace(" ", "_")
        rival = f"the same with one class; ours: {bench_classes.CLASSES[-1]:,} classes"
        yield Figure(name, most, "MiB", rival, one, most / one)


def _spectrum(setting: Setting) -> Iterator[Figure]:
    return bench_spectrum.spectrum_figures(bench_spectrum.errors(), bench_spectrum.memory())


def _trial_memory(setting: Setting) -> Iterator[Figure]:
    inputs, taken = trial_memory()
    yield Figure(
        "memory_of_trials", taken / MIB, "MiB", "their inputs", inputs / MIB, taken / inputs
    )


def _throughput(setting: Setting) -> Iterator[Figure]:
    """Measure the training throughput and save it by number of threads.

    On CPUs, tables run with one thread per job.
    """
    for n in sorted({1, setting.threads}):
        torch.set_num_threads(n)
        rows = list(throughput(setting.device))
        save_bench(setting.cache_dir, device_name(setting.device), n, rows)
        for row in rows:
            what = f"{n} threads, {row['work']}, {row['macs_per_s']:.3g} multiply-accumulates/s"
            name = f"throughput_{row['precision']}_{row['size']}_{n}"
            yield Figure(name, row["images_per_s"], "images/s", what)


# Those that are checked from outside come first: a complete bench leaves out the last ones when its
# time is over.
PARTS: dict[str, Part] = {
    "train_cpu_fp32": on_cpu(lambda device: tutorial_comparison("train_cpu_fp32", device, *LARGE)),
    "limit_cpu_fp32": on_cpu(partial(limit_comparison, "limit_cpu_fp32")),
    "limit_cpu_bf16": compared(partial(limit_in_bf16, "limit_cpu_bf16")),
    "eval_vs_before": Part(lambda setting: [evaluation_figure(setting.rounds)], on_cpu=True),
    "eval_limit": compared(evaluation_comparisons),
    "synflow_limit": Part(lambda setting: synflow_figures(setting.device, setting.rounds), True),
    "imc_overhead": Part(
        lambda setting: overhead(setting.device, min(setting.rounds, STAGE_ROUNDS)), on_cpu=True
    ),
    "decode_vs_imagefolder": on_cpu(partial(decode_comparison, "decode_vs_imagefolder")),
    "decode_limit": on_cpu(partial(limit_of_decoding, "decode_limit")),
    "job_overhead_s": Part(lambda _: [job_overhead("job_overhead_s")], on_cpu=True),
    "done_vs_torch": Part(
        lambda setting: [start_up.done_vs_torch("done_vs_torch", setting.rounds)], on_cpu=True
    ),
    "help_vs_torch": Part(
        lambda setting: [start_up.help_vs_torch("help_vs_torch", setting.rounds)], on_cpu=True
    ),
    "team_cpu": Part(lambda setting: training_figures("team_cpu", setting.rounds), on_cpu=True),
    "team_scores": Part(lambda setting: scores_figures("team_scores", setting.rounds), on_cpu=True),
    "team_decodes": Part(lambda _: [decodes_figure("team_decodes")], on_cpu=True),
    "tables_10k_s": Part(_tables, on_cpu=True),
    "throughput": Part(_throughput),
    "tutorial": compared(
        lambda device: [
            tutorial_comparison(f"tutorial_{each[0]}", device, *each) for each in (SMALL, LARGE)
        ]
    ),
    "training": compared(training_comparisons),
    "layers": compared(step_comparisons),
    "seeds": compared(seed_comparisons),
    "hessian": compared(hessian_comparisons),
    "score_limit": compared(_scores),
    "search_limit": compared(lambda device: search_comparisons(device, NETS[::2])),
    "trials": compared(lambda device: [trial_comparison(device)]),
    "expanding": compared(_expanding),
    "memory_of_trials": Part(_trial_memory, on_cpu=True),
    "mask_memory": Part(_masks, on_cpu=True),
    "class_memory": Part(_classes, on_cpu=True),
    "spectrum": Part(_spectrum, on_cpu=True),
}
