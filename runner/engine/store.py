"""The cache of stages: content-addressed, written under a temporary name and renamed, so that what is there is whole.

<cache_dir>/stages/<key>/    stage.json (last); weights, masks, optimizer, findings as safetensors where there are any; snapshots as epoch_0002.safetensors
<cache_dir>/checkpoints/     trainings under way
<cache_dir>/locks/           one file per stage: who holds it computes, the others wait. Speed rests on it, correctness does not.
"""

import json
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from pruners.base import Masks
from runner.engine.checkpoint import State
from runner.files import _flush, atomically, clear_leftovers, held, write_json


@dataclass
class Artefact:
    """What a stage leaves behind. Tensors are on the CPU.

    Args:
        meta: plain JSON: report, seconds, epochs, history (a dict per epoch), dataset checksum, provenance.
        snapshots: weights after some epochs, for rewinding.
    """

    weights: State = field(default_factory=dict)
    masks: Masks = field(default_factory=dict)
    optimizer: State = field(default_factory=dict)
    findings: State = field(default_factory=dict)
    snapshots: dict[float, State] = field(default_factory=dict)
    meta: dict[str, Any] = field(default_factory=dict)


PARTS = ("weights", "masks", "optimizer", "findings")


class Store:
    """Artefacts by key, under one directory that any number of processes share."""

    def __init__(self, cache_dir: Path) -> None:
        self.root = cache_dir

    def path(self, key: str) -> Path:
        """Where the artefact of `key` is or will be."""
        return self.root / "stages" / key

    def has(self, key: str) -> bool:
        """Whether a whole artefact is there."""
        return (self.path(key) / "stage.json").is_file()

    def meta(self, key: str) -> dict[str, Any]:
        """The metadata alone, without a tensor."""
        meta: dict[str, Any] = json.loads((self.path(key) / "stage.json").read_text())
        return meta

    def load(self, key: str) -> Artefact:
        """The artefact without its snapshots."""
        files = {part: self.path(key) / f"{part}.safetensors" for part in PARTS}
        parts = {part: load_file(file) for part, file in files.items() if file.is_file()}
        return Artefact(**parts, meta=self.meta(key))

    def save(self, key: str, artefact: Artefact) -> None:
        """Write all of it or nothing. An artefact that is there already stays: equal keys mean equal contents."""
        temporary = self.root / "tmp" / f"{key}-{uuid.uuid4().hex}"
        temporary.mkdir(parents=True)
        for part in PARTS:
            if getattr(artefact, part):
                save_file(_plain(getattr(artefact, part)), temporary / f"{part}.safetensors")
        for epoch, state in artefact.snapshots.items():
            save_file(_plain(state), temporary / _snapshot_name(epoch))
        for file in temporary.iterdir():
            _flush(file)  # before stage.json, which says that all is there
        write_json(temporary / "stage.json", artefact.meta)
        target = self.path(key)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.rename(target)
        except OSError:
            if self.has(key):
                shutil.rmtree(temporary)
                return
            if not target.is_dir():
                raise
            broken = temporary.with_name(f"{temporary.name}-broken")  # somebody deleted a part of it: without its stage.json it is no artefact
            target.rename(broken)
            temporary.rename(target)
            shutil.rmtree(broken)

    def has_snapshot(self, key: str, epoch: float) -> bool:
        """Whether the weights after `epoch` epochs were kept."""
        return (self.path(key) / _snapshot_name(epoch)).is_file()

    def snapshot(self, key: str, epoch: float) -> State:
        """Weights and buffers after `epoch` epochs of a stage."""
        state: State = load_file(self.path(key) / _snapshot_name(epoch))
        return state

    def add_snapshot(self, key: str, epoch: float, state: State) -> None:
        """Keep one more snapshot of a finished stage."""
        atomically(self.path(key) / _snapshot_name(epoch), lambda path: save_file(_plain(state), path))

    def checkpoint_path(self, key: str) -> Path:
        """Where a training under way is kept."""
        return self.root / "checkpoints" / f"{key}.pt"

    @contextmanager
    def lock(self, key: str, waiting: Callable[[str], None]) -> Iterator[None]:
        """Hold the right to compute `key`. The lock is the kernel's: it ends with its process, so a crash leaves none behind."""
        with held(self.root / "locks" / f"{key}.lock", waiting):
            for leftover in self.root.glob(f"tmp/{key}-*"):  # of a process that died while writing: only the holder writes
                shutil.rmtree(leftover, ignore_errors=True)
            clear_leftovers(self.root / "checkpoints", self.checkpoint_path(key).name)
            yield


def _plain(state: State) -> State:
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()}


def _snapshot_name(epoch: float) -> str:
    whole, _, fraction = f"{epoch:.6f}".rstrip("0").partition(".")
    return f"epoch_{whole:0>4}{'.' if fraction else ''}{fraction}.safetensors"
