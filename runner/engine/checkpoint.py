"""Checkpoint files, and conversion of a masking to and from tensors and plain values."""

import io
import json
import os
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Generator, Tensor, nn

from pruners.base import Masking
from runner.errors import Damaged
from runner.files import read_bytes, sha256, write_bytes

# What a checkpoint has: tensors and plain values by names that its owner chooses, e.g. a masking.
Saved: TypeAlias = dict[str, Any]
State = dict[str, Tensor]  # a state dict: parameters and buffers by name


def cpu_state(model: nn.Module) -> State:
    """The model's state dict on the CPU; on the CPU, it shares the model's memory."""
    return {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}


def masking_state(masking: Masking) -> Saved:
    """All fields of a masking dataclass as tensors and plain values; a generator as its state."""
    saved = fields(masking)  # type: ignore[arg-type]
    return {f.name: _frozen(getattr(masking, f.name)) for f in saved}


def restore_masking(masking: Masking, state: Saved) -> None:
    """Restore a saved state, tensors in place: the optimizer holds references to the trainables."""
    for name, value in state.items():
        setattr(masking, name, _thawed(getattr(masking, name), value))


def _frozen(value: Any) -> Any:
    if isinstance(value, Generator):
        return value.get_state()
    if isinstance(value, dict):
        return {k: _frozen(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_frozen(v) for v in value)
    return value


def _thawed(current: Any, saved: Any) -> Any:
    if isinstance(current, Generator):
        current.set_state(saved)
        return current
    if isinstance(current, Tensor) and isinstance(saved, Tensor) and current.shape == saved.shape:
        with torch.no_grad():
            current.copy_(saved)
        return current
    if isinstance(saved, dict):
        known = current if isinstance(current, dict) else {}
        return {k: _thawed(known.get(k), v) for k, v in saved.items()}
    if isinstance(saved, (list, tuple)):
        before = list(current) if isinstance(current, (list, tuple)) else []
        before += [None] * (len(saved) - len(before))  # lists may have grown in training
        return type(saved)(_thawed(now, then) for now, then in zip(before, saved, strict=False))
    return saved


def save_checkpoint(path: Path, state: Saved) -> None:
    """Write a dict of tensors and plain values, atomically.

    The first line is a header with the stage's key, which is the name of the file, and a checksum
    of the key and of the bytes that follow.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_bytes(path, sealed_checkpoint(path.stem, buffer.getvalue()))


def sealed_checkpoint(key: str, payload: bytes) -> bytes:
    """The content of the checkpoint file of a stage: its header and what torch saved."""
    header = {"key": key, "bytes": len(payload), "checksum": _checksum(key, payload)}
    return json.dumps(header).encode() + b"\n" + payload


def _checksum(key: str, payload: bytes | memoryview) -> str:
    return sha256(f"{key} {sha256(payload)}".encode())


def load_checkpoint(path: Path) -> Saved | None:
    """The checkpoint, on the CPU, or None if there is none.

    Only tensors and plain values are read (`weights_only`).

    Raises:
        Damaged: the file is not as it was written, or that of another stage.
    """
    payload = checkpoint_payload(path)
    if payload is None:
        return None
    state: Saved = torch.load(payload, map_location="cpu", weights_only=True)
    return state


def checkpoint_payload(path: Path) -> io.BytesIO | None:
    """What torch saved in a checkpoint, verified; None if there is no checkpoint.

    Raises:
        Damaged: the file is not as it was written, or that of another stage.
    """
    if not os.path.lexists(path):
        return None
    try:
        content = read_bytes(path)
    except Damaged:
        if not os.path.lexists(path):  # another process has finished the stage since
            return None
        raise
    header, _, payload = content.partition(b"\n")
    try:
        about = json.loads(header)
        key, size, checksum = about["key"], about["bytes"], about["checksum"]
    except (ValueError, KeyError, TypeError):
        problem = "it does not begin with key, size and checksum" if content else "it is empty"
        raise Damaged(path, problem) from None
    if key != path.stem:
        raise Damaged(path, f"it is the checkpoint of the stage with the key {key}")
    if len(payload) != size:
        raise Damaged(path, f"it ends after {len(payload):,} of {size:,} bytes")
    if _checksum(key, payload) != checksum:
        raise Damaged(path, "its checksum is not that of its content")
    return io.BytesIO(payload)
