"""Parts of the benchmark by processor time: for a machine that others use, too.

`python -m runner.bench.busy NAME ROUNDS` prints a line for each comparison of a part of `make
bench`: the least seconds of the work and of what it is compared with, both in alternation, and the
ratio of these, as the figure of `make bench` has it. One thread.
"""

import sys
import time
from collections.abc import Callable, Iterator

import torch

from runner.bench.layers import evaluation_comparisons, step_comparisons
from runner.bench.seeds import seed_comparisons
from runner.bench.synflow import synflow_comparison
from runner.bench.timing import Comparison
from runner.engine.allocator import keep_freed_memory

PARTS: dict[str, Callable[[torch.device], Iterator[Comparison]]] = {
    "eval_limit": evaluation_comparisons,
    "layers": step_comparisons,
    "seeds": seed_comparisons,
    "synflow_limit": synflow_comparison,
}


def processor_seconds(work: Callable[[], object]) -> float:
    """The processor time of `work`, also where others keep it waiting."""
    start = time.process_time()
    work()
    return time.process_time() - start


def least(comparison: Comparison, rounds: int) -> tuple[float, float]:
    """The least processor time of the work and of its baseline; a first round is not counted."""
    works = (comparison.run, comparison.run_baseline)
    took = [[processor_seconds(work) for work in works] for _ in range(rounds + 1)][1:]
    ours, baseline = (min(each) for each in zip(*took, strict=True))
    return ours, baseline


def main(name: str, rounds: int) -> None:
    """Print the comparisons of a part."""
    torch.set_num_threads(1)
    keep_freed_memory()
    for each in PARTS[name](torch.device("cpu")):
        ours, baseline = least(each, rounds)
        ratio = ours / baseline if each.cost else baseline / ours
        print(f"{each.name}: {ours:.4f} s; {each.baseline}: {baseline:.4f} s; ratio {ratio:.3f}")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
