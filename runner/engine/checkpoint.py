"""Checkpoint files, and conversion of a masking to and from tensors and plain values."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor, nn

from pruners.base import Masking
from runner.files import atomically

State = dict[str, Tensor]  # a state dict: parameters and buffers by name


def cpu_state(model: nn.Module) -> State:
    """The model's state dict on the CPU; on the CPU, it shares the model's memory."""
    return {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}


def masking_state(masking: Masking) -> dict[str, Any]:
    """All fields of a masking dataclass as tensors and plain values; a generator as its state."""
    return {f.name: _frozen(getattr(masking, f.name)) for f in fields(masking)}  # type: ignore[arg-type]


def restore_masking(masking: Masking, state: dict[str, Any]) -> None:
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


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a dict of tensors and plain values, atomically."""
    atomically(path, lambda p: torch.save(state, p))


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """The checkpoint, on the CPU, or None if there is none.

    Only tensors and plain values are read (`weights_only`).
    """
    if not path.is_file():
        return None
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state
