"""Finds a network's tensors among those of a file that names them in another way.

Other implementations of a network give its layers other names, and profilers and wrappers add
names of their own. A tensor is found by its name, by the renamings that the network's description
declares (`renamings`), or, if the user asks for it, by its place: the file's tensors have the
shapes of the network's in the same order.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from runner.engine.checkpoint import State

Match = Literal["names", "shape"]
# Of BatchNorm. Files from before PyTorch 0.4.1 have none; with a fixed momentum it is not used.
COUNTER = "num_batches_tracked"
# What profilers (thop) and averaged models (torch.optim.swa_utils) add to a state dict.
ADDED = re.compile(r"(^|\.)(total_ops|total_params)$|^n_averaged$")
SHOWN = 3  # names printed for each kind of problem


@dataclass(frozen=True)
class Found:
    """What a file contains for a network.

    Args:
        state: the file's tensors under the network's names, where they were found; others under
            their own.
        renamed: name in the file -> name in the network, where they differ.
        by_shape: whether the names come from the order of the tensors.
    """

    state: State
    renamed: Mapping[str, str]
    by_shape: bool = False

    @property
    def description(self) -> str | None:
        """What was renamed, in one line for the record; None if nothing was."""
        if not self.renamed:
            return None
        pairs = [f"{theirs} is {ours}" for theirs, ours in self.renamed.items()]
        how = "by order and shape" if self.by_shape else "by name"
        return f"{len(pairs)} tensors found {how}: {some(pairs)}"


def found(state: State, expected: State, renamings: Sequence[tuple[str, str]]) -> Found:
    """The tensors of a file by the network's names.

    Prefixes that all names share, such as DataParallel's `module.`, are left out, and so are the
    numbers of profilers. A matrix (outputs, inputs) and a convolution of one pixel
    (outputs, inputs, 1, 1) are the same layer. Counters of batches that the file lacks are the
    network's.

    Args:
        state: the tensors of the file by its own names.
        expected: the state dict of the network.
        renamings: pairs of a regular expression and its replacement, applied in turn.
    """
    plain = _plain_names(state, expected)
    ours = {name: _renamed(name, expected, renamings) for name in plain}
    taken = [own for own in ours.values() if own in expected]
    if len(set(taken)) < len(taken):  # two tensors of the file under one name
        ours = {name: name for name in plain}
    tensors = {own: _of_shape(state[plain[name]], expected.get(own)) for name, own in ours.items()}
    renamed = {plain[name]: own for name, own in ours.items() if own != name and own in expected}
    return Found(_counters(expected) | tensors, renamed)


def found_by_shape(state: State, expected: State) -> Found | None:
    """The tensors of a file, paired with the network's in their order; None if shapes differ.

    Args:
        state: as for `found`, in the order of the file.
    """
    plain = _plain_names(state, expected)
    theirs = [name for name in plain if not name.endswith(COUNTER)]
    ours = [name for name in expected if not name.endswith(COUNTER)]
    if len(theirs) != len(ours):
        return None
    tensors = {
        own: _of_shape(state[plain[name]], expected[own])
        for name, own in zip(theirs, ours, strict=True)
    }
    if any(tensors[own].shape != expected[own].shape for own in ours):
        return None
    renamed = {
        plain[name]: own for name, own in zip(theirs, ours, strict=True) if plain[name] != own
    }
    return Found(_counters(expected) | tensors, renamed, by_shape=True)


def by_order(
    state: State, expected: State, ordered: bool, match: Match, key: str
) -> tuple[Found | None, list[str]]:
    """The tensors found by shape if `match` asks for that, and lines on whether it would work.

    Args:
        ordered: whether `state` has the order of the file.
        key: the option that sets `match`, for messages.
    """
    paired = found_by_shape(state, expected) if ordered else None
    if paired is None and match == "shape":
        why = "in the order of the file, shapes differ"
        why = why if ordered else "safetensors keeps no order; save it with torch.save"
        return None, [f"  {key}=shape does not help: {why}"]
    if paired is not None and match == "names":
        pairs = some([f"{theirs} as {ours}" for theirs, ours in paired.renamed.items()])
        return None, [f"  in the order of the file, shapes agree: {key}=shape takes {pairs}"]
    return paired, []


def misfits(state: State, expected: State) -> list[str]:
    """One line for each kind of mismatch, with a few names, the shortest first."""
    common = {name: tensor for name, tensor in expected.items() if name in state}
    kinds: dict[str, Iterator[str]] = {
        "missing": (name for name in expected if name not in state),
        "not in the network": (name for name in state if name not in expected),
        "with another shape": (
            f"{name} {tuple(state[name].shape)} instead of {tuple(tensor.shape)}"
            for name, tensor in common.items()
            if state[name].shape != tensor.shape
        ),
        # Whole numbers in place of weights are usually quantised: their scale is elsewhere.
        "of another type": (
            f"{name} {state[name].dtype} instead of {tensor.dtype}"
            for name, tensor in common.items()
            if state[name].is_floating_point() != tensor.is_floating_point()
        ),
    }
    lines = {kind: sorted(names, key=len) for kind, names in kinds.items()}
    return [f"  {kind}: {some(names)}" for kind, names in lines.items() if names]


def some(names: Sequence[str]) -> str:
    """The first few names and the number of the others."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _plain_names(state: State, expected: State) -> dict[str, str]:
    """Name without prefixes that all names share -> name in the file, without added numbers."""
    kept = {name: name for name in state if name in expected or not ADDED.search(name)}
    own = {name.partition(".")[0] for name in expected}
    while kept:
        heads = {name.partition(".")[0] for name in kept}
        if len(heads) > 1 or heads <= own or any("." not in name for name in kept):
            break
        kept = {name.partition(".")[2]: whole for name, whole in kept.items()}
    return kept


def _renamed(name: str, expected: State, renamings: Sequence[tuple[str, str]]) -> str:
    """The network's name of a tensor; `name` itself if no renaming leads to one."""
    if name in expected:
        return name
    other = name
    for pattern, replacement in renamings:
        other = re.sub(pattern, replacement, other)
    return other if other in expected else name


def _of_shape(tensor: Tensor, like: Tensor | None) -> Tensor:
    """The tensor as a matrix or as a convolution of one pixel, if the network has it so."""
    if like is None or tensor.shape == like.shape or {tensor.dim(), like.dim()} != {2, 4}:
        return tensor
    matrix, convolution = sorted((tensor.shape, like.shape), key=len)
    return tensor.reshape(like.shape) if (*matrix, 1, 1) == tuple(convolution) else tensor


def _counters(expected: State) -> State:
    return {name: tensor for name, tensor in expected.items() if name.endswith(COUNTER)}
