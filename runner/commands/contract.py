"""What every method, network and data set has to fulfil. Each check yields what is wrong.

`winnow check` runs them on parts of the user's own, tests/methods/test_contract.py on all methods.
"""

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import Generator

from pruners.base import count_kept, count_prunable, full_masks, keep_count
from runner.config.instantiate import locate
from runner.console import console
from runner.data.base import DataError
from runner.display.progress import Watcher, display
from runner.engine.context import RunContext
from runner.engine.execute import perform
from runner.engine.machine import Machine
from runner.engine.record import final_stage
from runner.engine.stages import run_stage
from runner.engine.store import Artefact, Store
from runner.spec.identity import run_id, stage_keys
from runner.spec.network import prunable_weights, shapes_of
from runner.spec.record import Record
from runner.spec.run import Run

Problems = Iterator[str]
# Settings of the machine, which no identity depends on.
ELSEWHERE = (
    "env.threads=7",
    "env.results_dir=/elsewhere",
    "env.progress=none",
    "env.checkpoint_seconds=1",
)
BATCH = 3  # images that a network is tried with


def context_of(run: Run, machine: Machine) -> RunContext:
    """The context of a run that shows nothing."""
    folder = machine.results_dir / "runs" / run_id(run)
    watcher = Watcher(folder, display("none", console()), {"run_id": run_id(run)})
    return RunContext(run, machine, Store(machine.cache_dir), watcher)


def performed(run: Run, machine: Machine) -> tuple[Record, dict[str, Artefact]]:
    """Run all stages; the record, and the artefact of each stage by name."""
    context = context_of(run, machine)
    record = perform(context, run_id(run))
    return record, {
        stage.name: context.store.load(context.keys[stage.name]) for stage in run.stages
    }


def ticket_of(run: Run, artefacts: Mapping[str, Artefact]) -> Artefact | None:
    """The masks and weights that are the run's result; None for a run of measurements only."""
    name = final_stage(run)
    return None if name is None else artefacts[name]


def density(run: Run, record: Record, ticket: Artefact) -> Problems:
    """The density is the requested one, the record states it, and pruned weights are zeros.

    A narrower net keeps all its weights, and the record states them as a share of the whole net's.
    """
    kept, prunable = count_kept(ticket.masks), count_prunable(ticket.masks)
    exact = all(stage.exact for stage in run.stages)
    wanted = kept if run.masked_density is None else keep_count(run.masked_density, prunable)
    if exact and kept != wanted:
        yield f"{kept} of {prunable} weights are kept instead of {wanted}"
    if run.narrowed_from is not None:
        if kept != prunable:
            yield f"{kept} of the {prunable} weights of a narrower net are kept"
        prunable = prunable_weights(shapes_of(run.narrowed_from, run.dataset.info()))
    if (record["kept"], record["prunable"]) != (kept, prunable):
        yield f"the record states {record['kept']} of {record['prunable']} weights"
    for layer, mask in ticket.masks.items():
        if nonzero := int(torch.count_nonzero(ticket.weights[layer][~mask])):
            yield f"{nonzero} pruned weights of {layer} are not zero after training"
        if mask.any() and not torch.count_nonzero(ticket.weights[layer][mask]):
            yield f"all kept weights of {layer} are zero"


def repeats(first: Artefact, second: Artefact, other: Artefact, prunes: bool = True) -> Problems:
    """Two runs of one seed are equal bit for bit, and another seed gives other weights and masks.

    Args:
        other: of another seed.
        prunes: whether the masks have to differ, too.
    """
    for what, a, b, c, differ in (
        ("mask", first.masks, second.masks, other.masks, prunes),
        ("weights", first.weights, second.weights, other.weights, True),
    ):
        unequal = [name for name in a if not torch.equal(a[name], b[name])]
        if unequal:
            yield (
                f"the {what} of {', '.join(unequal)} differ between two runs with one seed: draw"
                " random numbers from task.rng or `rng` alone"
            )
        if differ and all(torch.equal(a[name], c[name]) for name in a):
            yield f"another seed gives the same {what}"


def leaves_the_model(run: Run, machine: Machine) -> Problems:
    """A pruner changes no weight but those that it prunes, and a measurement changes nothing."""
    context = context_of(run, machine)
    for stage in run.stages:
        if stage.component is not None and stage.kind in ("prune", "measure"):
            model = context.fresh_model()
            flags = [module.training for module in model.modules()]
            before = copy.deepcopy(model.state_dict())
            found: Any = stage.component(model, full_masks(model), context.task(stage, steps=0))
            masks = found.masks if stage.kind == "prune" else {}
            for name, value in model.state_dict().items():
                expected = before[name] * masks[name] if name in masks else before[name]
                if not torch.equal(value, expected):
                    yield f"stage {stage.name} changes {name}"
            if [module.training for module in model.modules()] != flags:
                yield f"stage {stage.name} changes the training mode of modules"
            if any(p.grad is not None or not p.requires_grad for p in model.parameters()):
                yield f"stage {stage.name} leaves gradients, or parameters that need none"
        run_stage(context, stage)  # later stages need its artefact


def identity(run: Run, moved: Run, changed: Sequence[Run]) -> Problems:
    """The identity ignores the machine and depends on everything else.

    Args:
        moved: the same run with the settings `ELSEWHERE`.
        changed: runs that differ from it, and from each other, in one setting.
    """
    if (run_id(moved), stage_keys(moved)) != (run_id(run), stage_keys(run)):
        yield "settings of the machine (env.*) change the run id or the keys of stages"
    identities = [run_id(each) for each in (run, *changed)]
    if len(set(identities)) != len(identities):
        yield "runs that differ in one setting have the same id"


def options(node: Any, key: str) -> Problems:
    """The YAML lists every option of each component, so that the command line can set it.

    Args:
        node: a node of the configuration; references in it are left out.
    """
    if not isinstance(node, dict):
        return
    if "_target_" in node:
        for each in fields(locate(node["_target_"], key)):
            if each.name not in node:
                yield f"{key}.{each.name} is not in the YAML, so no command line can set it"
    for name, value in node.items():
        yield from options(value, f"{key}.{name}")


def network(run: Run) -> Problems:
    """A network is a function of its generator alone: CPU, float32, in training mode, (B, classes).

    Its output is finite, and it has weights to prune.
    """
    info = run.dataset.info()

    def made(seed: int) -> torch.nn.Module:
        torch.manual_seed(seed + 1)  # which must not matter
        rng = Generator().manual_seed(seed // 2)
        found: torch.nn.Module = run.model(info.channels, info.classes, info.size, rng)
        return found

    first, second, other = (made(seed) for seed in (0, 1, 2))
    states = [model.state_dict() for model in (first, second, other)]
    if any(not torch.equal(value, states[1][name]) for name, value in states[0].items()):
        yield "two networks from one generator differ: draw initial weights from `rng` alone"
    if all(torch.equal(value, states[2][name]) for name, value in states[0].items()):
        yield "generators of two seeds give the same initial weights"
    if not first.training:
        yield "it is not in training mode"
    if any(p.dtype != torch.float32 or p.device.type != "cpu" for p in first.parameters()):
        yield "its parameters are not float32 on the CPU"
    if not count_prunable(full_masks(first)):
        yield "it has no weights to prune: linear layers or convolutions"
    images = torch.randn(
        BATCH, info.channels, info.size, info.size, generator=Generator().manual_seed(0)
    )
    output = first(images)
    if output.shape != (BATCH, info.classes):
        yield f"its output has the shape {tuple(output.shape)} instead of {(BATCH, info.classes)}"
    elif not torch.isfinite(output).all():
        yield "its output is not finite at the initial weights"


def data_set(run: Run, data_dir: Path) -> Problems:
    """A data set is verified, is the same whenever it is read, and is as its `info` says."""
    info = run.dataset.info()
    try:
        run.dataset.verify(data_dir)
        first, second = (run.dataset.load(data_dir, 1.0) for _ in range(2))
    except DataError as error:
        yield str(error)
        return
    if first.checksum != second.checksum:
        yield "two readings have different checksums"
    held_out = 0 if first.validation is None else len(first.validation)
    counts = (len(first.train) + held_out, len(first.test))
    if counts != (info.train, info.test):
        yield f"it has {counts} training and test images instead of {(info.train, info.test)}"
    for name, part in (("training", first.train), ("test", first.test)):
        labels = part.labels
        if labels.dtype != torch.int64 or not 0 <= int(labels.min()) <= int(labels.max()):
            yield f"its {name} labels are not int64 from 0"
        elif int(labels.max()) >= info.classes:
            yield f"a {name} label is {int(labels.max())}, but there are {info.classes} classes"
        wanted = iter([(torch.arange(min(BATCH, len(part))), None)])
        images, _ = next(iter(part.read(wanted, "none")))
        shape = (info.channels, info.size, info.size)
        found = tuple(images.shape[1:])
        if found != shape or images.dtype != torch.uint8:
            yield f"its {name} images are {images.dtype} {found} instead of uint8 {shape}"
