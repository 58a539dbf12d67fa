"""The cache of stages, content-addressed.

An entry is written under a temporary name and then renamed, so every entry is complete.

<cache_dir>/stages/<key>/    stage.json (written last); weights, masks, optimizer and findings as
                             safetensors, where not empty; snapshots as epoch_0002.safetensors
<cache_dir>/checkpoints/     unfinished trainings
<cache_dir>/locks/           one file per stage; its holder computes, the others wait. Locks prevent
                             duplicate work; correctness does not depend on them.
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
    """The result of a stage. Tensors are on the CPU.

    Args:
        meta: plain JSON: report, seconds, epochs, history (a dict per epoch), dataset checksum,
            provenance.
        snapshots: weights and buffers after some epochs, for rewinding.
    """

    weights: State = field(default_factory=dict)
    masks: Masks = field(default_factory=dict)
    optimizer: State = field(default_factory=dict)
    findings: State = field(default_factory=dict)
    snapshots: dict[float, State] = field(default_factory=dict)
    meta: dict[str, Any] = field(default_factory=dict)


PARTS = ("weights", "masks", "optimizer", "findings")


class Store:
    """Artefacts by key, in one directory that any number of processes can share."""

    def __init__(self, cache_dir: Path) -> None:
        self.root = cache_dir

    def path(self, key: str) -> Path:
        """Folder of the artefact of `key`, stored or not."""
        return self.root / "stages" / key

    def has(self, key: str) -> bool:
        """Whether the artefact of `key` is stored."""
        return (self.path(key) / "stage.json").is_file()

    def meta(self, key: str) -> dict[str, Any]:
        """The metadata of an artefact; reads no tensors."""
        meta: dict[str, Any] = json.loads((self.path(key) / "stage.json").read_text())
        return meta

    def load(self, key: str) -> Artefact:
        """The artefact without its snapshots."""
        files = {part: self.path(key) / f"{part}.safetensors" for part in PARTS}
        parts = {part: load_file(file) for part, file in files.items() if file.is_file()}
        return Artefact(**parts, meta=self.meta(key))

    def save(self, key: str, artefact: Artefact) -> None:
        """Write the whole artefact or nothing.

        A stored artefact is not replaced: equal keys mean equal contents.
        """
        temporary = self.root / "tmp" / f"{key}-{uuid.uuid4().hex}"
        temporary.mkdir(parents=True)
        for part in PARTS:
            if getattr(artefact, part):
                save_file(_plain(getattr(artefact, part)), temporary / f"{part}.safetensors")
        for epoch, state in artefact.snapshots.items():
            save_file(_plain(state), temporary / _snapshot_name(epoch))
        for file in temporary.iterdir():
            _flush(file)  # before stage.json, whose presence means that the artefact is complete
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
            # The stored folder lacks stage.json (files were deleted), so it is not an artefact.
            broken = temporary.with_name(f"{temporary.name}-broken")
            target.rename(broken)
            temporary.rename(target)
            shutil.rmtree(broken)

    def has_snapshot(self, key: str, epoch: float) -> bool:
        """Whether the snapshot after `epoch` epochs is stored."""
        return (self.path(key) / _snapshot_name(epoch)).is_file()

    def snapshot(self, key: str, epoch: float) -> State:
        """Weights and buffers after `epoch` epochs of a stage."""
        state: State = load_file(self.path(key) / _snapshot_name(epoch))
        return state

    def add_snapshot(self, key: str, epoch: float, state: State) -> None:
        """Add a snapshot to a finished stage."""
        atomically(
            self.path(key) / _snapshot_name(epoch), lambda path: save_file(_plain(state), path)
        )

    def checkpoint_path(self, key: str) -> Path:
        """Path of the checkpoint of an unfinished training."""
        return self.root / "checkpoints" / f"{key}.pt"

    @contextmanager
    def lock(self, key: str, waiting: Callable[[str], None]) -> Iterator[None]:
        """Hold the lock on computing `key`.

        The kernel releases it when its process ends, so a crash leaves no lock behind.
        """
        with held(self.root / "locks" / f"{key}.lock", waiting):
            # Left by a process that died while writing: only the lock's holder writes.
            for leftover in self.root.glob(f"tmp/{key}-*"):
                shutil.rmtree(leftover, ignore_errors=True)
            clear_leftovers(self.root / "checkpoints", self.checkpoint_path(key).name)
            yield


def _plain(state: State) -> State:
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()}


def _snapshot_name(epoch: float) -> str:
    whole, _, fraction = f"{epoch:.6f}".rstrip("0").partition(".")
    return f"epoch_{whole:0>4}{'.' if fraction else ''}{fraction}.safetensors"
