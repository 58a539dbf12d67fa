"""Peak memory of making masks for VGG-19 beyond the network, in multiples of its weights.

Every method that scores once and needs no trained network is measured on random images of CIFAR's
shape, each in a separate process. `python -m runner.bench.memory METHOD` makes the masks of one
method and prints the memory on its last line.
"""

import json
import re
import resource
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F

from pruners.base import Pruner, Task, count_kept, full_masks, in_batches
from runner.config.build import build_run
from runner.config.compose import compose_config, method_names
from runner.engine.allocator import return_freed_memory
from runner.errors import ConfigError
from runner.paths import CONF
from runner.spec.rng import stream
from runner.spec.run import Run

DENSITY, IMAGES = 0.1, 1024
SETTING = [f"density={DENSITY}", "model=vgg19", "dataset=cifar10"]


def measured() -> Iterator[tuple[str, float]]:
    """Yield (method, peak memory / bytes of the network's parameters).

    Covers every method that scores once.
    """
    for name in method_names():
        if _pruner(name) is not None:
            done = subprocess.run(
                [sys.executable, "-m", "runner.bench.memory", name],
                cwd=CONF.parent,
                capture_output=True,
                text=True,
                check=True,
            )
            weights, taken = json.loads(done.stdout.splitlines()[-1])
            yield name, taken / weights


def _run(name: str) -> Run:
    return build_run(compose_config([f"method={name}", *SETTING]))


def _pruner(name: str) -> Pruner | None:
    """Return the component that makes a method's masks, or None for methods not measured.

    These are the methods that take no density, start with another stage or score in rounds.
    """
    try:
        first = _run(name).stages[0]
    except ConfigError:
        return None
    schedule = getattr(first.component, "schedule", None) if first.kind == "prune" else None
    if schedule is None or len(schedule(DENSITY)) != 1:
        return None
    pruner: Pruner = first.component
    return pruner


def main(name: str) -> None:
    """Make a method's masks once; print the bytes of the parameters and those taken at the peak."""
    run, pruner = _run(name), _pruner(name)
    assert pruner is not None
    info = run.dataset.info()
    model = run.model(info.channels, info.classes, info.size, stream(0, "bench", "weights"))
    shape = (info.channels, info.size, info.size)
    images = torch.randn(IMAGES, *shape, generator=stream(0, "bench", "images"))
    labels = torch.arange(IMAGES) % info.classes
    rng = stream(0, "bench", "prune")
    batches = partial(in_batches, images, labels)
    task = Task(F.cross_entropy, batches, DENSITY, 0, rng, image=shape, classes=info.classes)
    masks, before = full_masks(model), resident()
    made = pruner(model, masks, task)
    assert count_kept(made.masks) < count_kept(masks)
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    print(json.dumps([weights, resident(peak=True) - before]))


def resident(peak: bool = False) -> int:
    """Return the resident memory of this process in bytes, now or at its peak.

    On Linux, a call for the current value first returns free memory to the system, and it resets
    the peak. Elsewhere only the peak is available.
    """
    if not peak:
        return_freed_memory()
    status = Path("/proc/self/status")
    if not status.is_file():
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    if not peak:
        Path("/proc/self/clear_refs").write_text("5")
    (mark,) = re.findall(r"VmHWM:\s+(\d+) kB" if peak else r"VmRSS:\s+(\d+) kB", status.read_text())
    return int(mark) * 1024


if __name__ == "__main__":
    main(sys.argv[1])
