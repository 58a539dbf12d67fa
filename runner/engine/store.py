"""The cache of stages, content-addressed.

An entry is written under a temporary name and then renamed, so every entry is complete. It is
verified when it is read: what is not as it was written is never used.

<cache_dir>/stages/<key>/    stage.json (the manifest: key, kind, meta, and size and SHA-256 of each
                             other file, sealed by a checksum); weights, masks, optimizer and
                             findings as safetensors, where not empty; snapshots as
                             epoch_0002.safetensors
<cache_dir>/checkpoints/     unfinished trainings
<cache_dir>/damaged/         what was not as it was written, named <name>-<time>
<cache_dir>/locks/           one file per stage; its holder computes, the others wait. Locks prevent
                             duplicate work; correctness does not depend on them.
"""

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load, save

from pruners.base import Masks
from runner.engine.checkpoint import State
from runner.engine.stage_meta import StageMeta
from runner.errors import Damaged
from runner.files import (
    clear_leftovers,
    read_bytes,
    sealed,
    set_aside,
    sha256,
    temporary_path,
    unsealed,
    write_bytes,
)
from runner.locks import held


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
    meta: StageMeta = field(default_factory=StageMeta)


PARTS = ("weights", "masks", "optimizer", "findings")
MANIFEST = "stage.json"


@dataclass(frozen=True)
class Part:
    """A file of an artefact, as it was written."""

    size: int
    sha256: str

    @classmethod
    def of(cls, content: bytes) -> "Part":
        """The size and the SHA-256 of `content`."""
        return cls(len(content), sha256(content))

    def check(self, path: Path, content: bytes) -> None:
        """Compare the content of the file with what was written.

        Raises:
            Damaged: they differ.
        """
        if len(content) != self.size:
            raise Damaged(path, f"it has {len(content):,} bytes, not {self.size:,}")
        if sha256(content) != self.sha256:
            raise Damaged(path, "its SHA-256 is not the one in stage.json")


@dataclass(frozen=True)
class Manifest:
    """The content of stage.json: the metadata of an artefact and all its other files by name."""

    key: str
    meta: StageMeta
    parts: dict[str, Part]

    def write(self, folder: Path) -> None:
        """Write the manifest, sealed, to the folder of its artefact."""
        parts = {name: vars(part) for name, part in sorted(self.parts.items())}
        kind = self.meta.get("kind")
        content = {"key": self.key, "kind": kind, "parts": parts, "meta": self.meta}
        write_bytes(folder / MANIFEST, sealed(content))


def read_manifest(folder: Path) -> Manifest:
    """The manifest of the artefact in a folder, whose name is the key; reads no tensors.

    Raises:
        Damaged: the manifest is not as it was written, or that of another key, or a file is missing
            or has another size.
    """
    content = unsealed(folder / MANIFEST)
    parts = {name: Part(**part) for name, part in content["parts"].items()}
    if content["key"] != folder.name:
        raise Damaged(folder / MANIFEST, f"it is that of the stage with the key {content['key']}")
    for name, part in parts.items():
        size = _size(folder / name)
        if size != part.size:
            problem = "it is missing" if size is None else f"it has {size:,} bytes"
            raise Damaged(folder / name, f"{problem}, not {part.size:,}" if size else problem)
    return Manifest(content["key"], content["meta"], parts)


def _size(path: Path) -> int | None:
    with contextlib.suppress(OSError):
        return path.stat().st_size if path.is_file() else None
    return None


class Store:
    """Artefacts by key, in one directory that any number of processes can share."""

    def __init__(self, cache_dir: Path) -> None:
        self.root = cache_dir

    def path(self, key: str) -> Path:
        """Folder of the artefact of `key`, stored or not."""
        return self.root / "stages" / key

    def has(self, key: str) -> bool:
        """Whether the whole artefact of `key` is stored; the content of tensors is not read."""
        try:
            read_manifest(self.path(key))
        except Damaged:
            return False
        return True

    def verify(self, key: str) -> None:
        """Read every file of an artefact and compare it with what was written.

        Raises:
            Damaged: it is not as it was written, or is not stored.
        """
        manifest = read_manifest(self.path(key))
        for name, part in manifest.parts.items():
            part.check(self.path(key) / name, read_bytes(self.path(key) / name))

    def set_aside(self, path: Path) -> Path:
        """Move a damaged artefact or checkpoint to <cache_dir>/damaged and return its new path."""
        return set_aside(path, self.root / "damaged")

    def meta(self, key: str) -> StageMeta:
        """The metadata of an artefact; reads no tensors.

        Raises:
            Damaged: the artefact is not as it was written, or is not stored.
        """
        return read_manifest(self.path(key)).meta

    def load(self, key: str) -> Artefact:
        """The artefact without its snapshots.

        Raises:
            Damaged: it is not as it was written, or is not stored.
        """
        manifest = read_manifest(self.path(key))
        names = [f"{part}.safetensors" for part in PARTS]
        parts = [self._tensors(manifest, name) if name in manifest.parts else {} for name in names]
        weights, masks, optimizer, findings = parts
        return Artefact(weights, masks, optimizer, findings, meta=manifest.meta)

    def _tensors(self, manifest: Manifest, name: str) -> State:
        path = self.path(manifest.key) / name
        content = read_bytes(path)
        manifest.parts[name].check(path, content)
        try:
            state: State = load(content)  # in random order, but sums over layers need a fixed one
            return {name: state[name] for name in _names_by_offset(content)}
        except SafetensorError as error:
            raise Damaged(path, str(error)) from error

    def save(self, key: str, artefact: Artefact) -> None:
        """Write the whole artefact or nothing.

        A stored artefact is not replaced: equal keys mean equal contents. What is stored in its
        place and is no artefact of this key is set aside.
        """
        temporary = temporary_path(self.root / "tmp" / key)
        states = {f"{part}.safetensors": getattr(artefact, part) for part in PARTS}
        states |= {_snapshot_name(epoch): state for epoch, state in artefact.snapshots.items()}
        json.dumps(artefact.meta, allow_nan=False)  # fails before anything is written
        temporary.mkdir(parents=True)
        parts = {
            name: _write_tensors(temporary / name, state) for name, state in states.items() if state
        }
        Manifest(key, artefact.meta, parts).write(temporary)
        target = self.path(key)
        target.parent.mkdir(parents=True, exist_ok=True)
        for attempts_left in (2, 1, 0):
            try:
                temporary.rename(target)
                return
            except OSError:
                if self.has(key):
                    shutil.rmtree(temporary)
                    return
                if not attempts_left or not os.path.lexists(target):
                    raise
                self.set_aside(target)

    def has_snapshot(self, key: str, epoch: float) -> bool:
        """Whether the snapshot after `epoch` epochs is stored."""
        try:
            return _snapshot_name(epoch) in read_manifest(self.path(key)).parts
        except Damaged:
            return False

    def snapshot(self, key: str, epoch: float) -> State:
        """Weights and buffers after `epoch` epochs of a stage.

        Raises:
            Damaged: the artefact is not as it was written, or has no such snapshot.
        """
        manifest, name = read_manifest(self.path(key)), _snapshot_name(epoch)
        if name not in manifest.parts:
            raise Damaged(self.path(key) / name, "it is missing")
        return self._tensors(manifest, name)

    def add_snapshot(self, key: str, epoch: float, state: State) -> None:
        """Add a snapshot to a finished stage."""
        folder, name = self.path(key), _snapshot_name(epoch)
        part = _write_tensors(folder / name, state)
        manifest = read_manifest(folder)
        Manifest(key, manifest.meta, {**manifest.parts, name: part}).write(folder)

    def checkpoint_path(self, key: str) -> Path:
        """Path of the checkpoint of an unfinished training."""
        return self.root / "checkpoints" / f"{key}.pt"

    @contextmanager
    def lock(self, key: str, waiting: Callable[[str], None]) -> Iterator[None]:
        """Hold the lock on computing `key`.

        Leftovers of processes that have ended are removed.
        """
        with held(self.root / "locks" / f"{key}.lock", waiting):
            clear_leftovers(self.root / "tmp", key)
            clear_leftovers(self.root / "checkpoints", self.checkpoint_path(key).name)
            yield


def _names_by_offset(content: bytes) -> list[str]:
    """The names of the tensors in safetensors' format, ordered as `load_file` orders them."""
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    header.pop("__metadata__", None)
    return sorted(header, key=lambda name: (*header[name]["data_offsets"], name))


def _write_tensors(path: Path, state: State) -> Part:
    content = save(_plain(state))
    write_bytes(path, content)
    return Part.of(content)


def _plain(state: State) -> State:
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()}


def _snapshot_name(epoch: float) -> str:
    whole, _, fraction = f"{epoch:.6f}".rstrip("0").partition(".")
    return f"epoch_{whole:0>4}{'.' if fraction else ''}{fraction}.safetensors"
