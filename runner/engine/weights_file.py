"""Reads a file of weights: safetensors' format or torch's, of which only plain values are read.

The content decides which format a file has, not its name. The state dict may be part of a
checkpoint. Masks in a file are found by their names. A file that contains masks which nothing
applies is refused: without them, another network is loaded than the one that was saved.
"""

import argparse
import pickle
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy._core.multiarray import _reconstruct, scalar
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.serialization import safe_globals

from runner.engine.weight_names import some

# Keys under which checkpoints store a state dict, in the order in which they are tried.
WRAPPERS = ("state_dict", "model_state_dict", "model_state", "model", "net", "network", "weights")
# Classes without behaviour that checkpoints store beside weights: numpy's numbers and arrays (the
# state of its generator), options.
KINDS_OF_NUMBERS = ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?")
INERT: tuple[Any, ...] = (
    np.dtype,
    np.ndarray,
    argparse.Namespace,
    *(type(np.dtype(name)) for name in KINDS_OF_NUMBERS),
    *(
        (function, f"numpy.{place}.multiarray.{function.__name__}")
        for function in (scalar, _reconstruct)
        for place in ("core", "_core")
    ),
)
# Parts of a name between dots, slashes or colons that denote masks: mask, masks, weight_mask.
MASK = re.compile(r"(^|[./:])([^./:]*_)?masks?([./:]|$)", re.IGNORECASE)
ORIGINAL = "_orig"  # ends the name of a weight that torch.nn.utils.prune has split from its mask
ALONE = "save the state dict alone: torch.save(model.state_dict(), PATH)"


class UnsuitableError(ValueError):
    """A file that is not used. The text states only the problem, e.g. `contains no state dict`."""


@dataclass(frozen=True)
class Content:
    """Tensors of a file by name.

    Args:
        state: on the CPU.
        ordered: whether they are in the order in which they were saved.
    """

    state: dict[str, Tensor]
    ordered: bool


def content_of(path: Path, own: frozenset[str], masks_applied: bool = False) -> Content:
    """The state dict in a file, without masks.

    Args:
        own: names of the network; one of these never denotes a mask.
        masks_applied: the run applies the masks of this file, so they are accepted.

    Raises:
        UnsuitableError: the file cannot be read, contains masks that nothing applies, or no plain
            tensors by name.
        OSError: the file cannot be opened.
    """
    content, ordered = _content(path)
    masks = _masks(content, own)
    if masks and not masks_applied:
        raise UnsuitableError(_about_masks(masks))
    state = _unwrapped(_without_masks(content, own) if masks else content)
    _require_plain(state)
    return Content(_unsplit(state, own) if masks else state, ordered)


def masks_of(path: Path, own: frozenset[str]) -> Content:
    """The masks in a file, under the names that it gives to their parameters.

    Without names that denote masks, the tensors of the state dict are the masks.

    Args:
        own: as for `content_of`.

    Raises:
        UnsuitableError: the file cannot be read, contains no masks, or one with other values than
            0 and 1.
        OSError: the file cannot be opened.
    """
    content, ordered = _content(path)
    named = _masks(content, own)
    masks = {_of_parameter(name): t for name, t in named.items()} if named else _unwrapped(content)
    if len(masks) < len(named):
        raise UnsuitableError(f"has several masks for a parameter: {some(sorted(named))}")
    _require_plain(masks)
    if wrong := [f"{name} has {value:g}" for name, t in masks.items() for value in _other(t)]:
        none = "" if named else "contains no masks: no name has a part mask or ends in _mask, and "
        raise UnsuitableError(
            f"{none}a tensor has values other than 0 and 1: {some(sorted(wrong, key=len))}"
        )
    return Content({name: tensor != 0 for name, tensor in masks.items()}, ordered)


def _require_plain(state: dict[str, Tensor]) -> None:
    for name, tensor in state.items():
        if kind := _kind(tensor):
            raise UnsuitableError(
                f"contains a {kind} tensor, {name}; save dense tensors of numbers"
            )


def _content(path: Path) -> tuple[Any, bool]:
    """Everything in a file, and whether it has the order in which it was saved."""
    try:
        if _is_safetensors(path):
            return load_file(path), False
        # torch would warn of protocols of foreign files, and chooses a format by a path's name
        with (
            warnings.catch_warnings(),
            safe_globals([*INERT]),
            path.open("rb") as file,
        ):
            warnings.simplefilter("ignore")
            return torch.load(file, map_location="cpu", weights_only=True), True
    except OSError:
        raise
    except pickle.UnpicklingError as error:
        raise UnsuitableError(
            f"is not a file of torch, or contains more than tensors and plain values; {ALONE}"
        ) from error
    except Exception as error:  # torch's readers raise errors of any class for foreign bytes
        reason = f" ({_reason(error)})" if isinstance(error, RuntimeError | SafetensorError) else ""
        raise UnsuitableError(
            f"cannot be read: it is neither a whole file of torch nor of safetensors{reason}"
        ) from error


def _is_safetensors(path: Path) -> bool:
    """Whether the file begins as safetensors' do: the length of a header in JSON, and its brace."""
    with path.open("rb") as file:
        start = file.read(9)
    length = int.from_bytes(start[:8], "little")
    return start[8:] == b"{" and length <= path.stat().st_size - 8


def _reason(error: Exception) -> str:
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    return text if len(text) <= 100 else f"{text[:97]}..."


def _tensors(content: Any) -> Iterator[tuple[str, Tensor]]:
    """All tensors in nested dicts and lists, with the keys that lead to them joined by dots."""
    waiting, seen = [("", content)], set()
    while waiting:
        name, value = waiting.pop()
        if isinstance(value, Tensor):
            yield name, value
        elif isinstance(value, dict | list | tuple) and id(value) not in seen:
            seen.add(id(value))  # a pickle may contain itself
            parts = value.items() if isinstance(value, dict) else enumerate(value)
            waiting += [(f"{name}.{key}" if name else str(key), part) for key, part in parts]


def _is_mask(name: str, own: frozenset[str]) -> bool:
    return name not in own and MASK.search(name) is not None


def _masks(content: Any, own: frozenset[str]) -> dict[str, Tensor]:
    """The tensors whose names denote masks, in the order of the file."""
    found = {name: tensor for name, tensor in _tensors(content) if _is_mask(name, own)}
    return dict(reversed(found.items()))  # `_tensors` begins with the last


def _of_parameter(name: str) -> str:
    """The name of a mask's parameter: that of a layer is followed by `.weight`."""
    parts = [re.sub("(?i)(^|_)masks?$", "", part) for part in re.split("[./:]", name)]
    kept = [part for part in parts if part]
    return ".".join(kept if kept[-1:] in (["weight"], ["bias"]) else [*kept, "weight"])


def _other(mask: Tensor) -> list[float]:
    """A value of a mask that is neither 0 nor 1; empty if there is none."""
    wrong = mask[(mask != 0) & (mask != 1)]
    return wrong.flatten()[:1].tolist()


def _without_masks(content: Any, own: frozenset[str], place: str = "", depth: int = 8) -> Any:
    """The nested dicts of a file without the tensors whose names denote masks."""
    if not isinstance(content, dict) or not depth:
        return content
    names = {key: f"{place}.{key}" if place else str(key) for key in content}
    return {
        key: _without_masks(value, own, names[key], depth - 1)
        for key, value in content.items()
        if not _is_mask(names[key], own)
    }


def _unsplit(state: dict[str, Tensor], own: frozenset[str]) -> dict[str, Tensor]:
    """The state dict with the names from before torch.nn.utils.prune split weights and masks."""
    names = {n: n if n in own else n.removesuffix(ORIGINAL) for n in state}
    return {name if names[name] in state else names[name]: t for name, t in state.items()}


def _about_masks(masks: dict[str, Tensor]) -> str:
    """Names of the masks, their density, and what to do."""
    plain = [tensor for tensor in masks.values() if not _kind(tensor)]
    size = sum(tensor.numel() for tensor in plain)
    kept = sum(int(tensor.count_nonzero()) for tensor in plain)
    density = f" (density {kept / size:.4g})" if size else ""
    return (
        f"contains {len(masks)} mask{'s' if len(masks) > 1 else ''}{density}, which would not be"
        f" applied: {some(sorted(masks))}; apply each to its weight (weight * mask; in torch,"
        " torch.nn.utils.prune.remove(module, 'weight')) or remove it, then save the state dict"
        " alone; or take both from the file: method.masks=FILE start=ticket"
        " (docs/methods/given.md)"
    )


def _unwrapped(found: Any) -> dict[str, Tensor]:
    """The state dict inside a checkpoint, which may be several wrappers deep."""
    while isinstance(found, dict) and (key := _wrapper(found)) is not None:
        found = found[key]
    if not isinstance(found, dict) or not any(isinstance(t, Tensor) for t in found.values()):
        inside = _dicts_of_tensors(found) if isinstance(found, dict) else []
        several = f"; it has tensors under {' and '.join(inside)}" if inside else ""
        raise UnsuitableError(
            "contains no state dict: expected names and tensors, alone or under"
            f" {', '.join(WRAPPERS[:-1])} or {WRAPPERS[-1]}{several}"
        )
    if strange := [key for key in found if not isinstance(key, str)]:
        raise UnsuitableError(
            f"has the key {strange[0]!r} of type {type(strange[0]).__name__} among its tensors:"
            f" a state dict has names; {ALONE}"
        )
    others = [
        f"{name} ({type(value).__name__})"
        for name, value in found.items()
        if not isinstance(value, Tensor)
    ]
    if others:
        raise UnsuitableError(f"contains more than tensors: {some(others)}; {ALONE}")
    return found


def _wrapper(found: dict[Any, Any]) -> Any:
    """The key of the state dict in a checkpoint: a usual one, or the only one with tensors."""
    inside = _dicts_of_tensors(found)
    usual = [key for key in WRAPPERS if key in inside]
    if usual or any(isinstance(value, Tensor) for value in found.values()):
        return usual[0] if usual else None
    return inside[0] if len(inside) == 1 else None


def _dicts_of_tensors(found: dict[Any, Any]) -> list[Any]:
    """Keys of the dicts that have tensors by name, also further inside."""
    return [
        key
        for key, value in found.items()
        if isinstance(key, str) and isinstance(value, dict) and _has_state(value)
    ]


def _has_state(value: dict[Any, Any], depth: int = 4) -> bool:
    tensors = [key for key, inner in value.items() if isinstance(inner, Tensor)]
    if tensors:
        return all(isinstance(key, str) for key in tensors)
    inner = (part for part in value.values() if isinstance(part, dict))
    return depth > 0 and any(_has_state(part, depth - 1) for part in inner)


def _kind(tensor: Tensor) -> str:
    """What makes a tensor unfit to be a weight; empty for a dense tensor of real numbers."""
    if tensor.is_meta:
        return "meta (without data)"
    if tensor.is_nested:
        return "nested"
    if tensor.layout != torch.strided:
        return f"sparse ({str(tensor.layout).removeprefix('torch.')})"
    if tensor.is_quantized:
        return "quantised"
    return "complex" if tensor.is_complex() else ""
