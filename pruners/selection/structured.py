"""Choices of the option group `pick` that keep patterns: N of M consecutive weights, and blocks.

A structured pick gets the scores of a layer in its shape, (out, in, ...), and returns bool of that
shape. The matrix of a layer has one row for each output and its other weights as columns, in the
order of the tensor: input channel by input channel and, within one, by rows of the kernel
(`weight.flatten(1)`). Pruned weights have the score -inf and are never picked.

N:M sparsity: Zhou et al., 2021, arXiv:2102.04010 (Sec. 3); 2:4 is what sparse tensor cores
multiply (Mishra et al., 2021, arXiv:2104.08378, Sec. 2). Block sparsity: Gray, Radford and Kingma,
GPU Kernels for Block-Sparse Weights, 2017.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol, get_args, runtime_checkable

import torch
from torch import Generator, Size, Tensor
from torch.nn import functional as F

from pruners.selection.ranks import largest

Along = Literal["row", "channels"]
CLOSE = 1e-9  # a density that is written in decimals, and N / M
SHOWN = 3  # layers that a message names


@runtime_checkable
class Structured(Protocol):
    """A pick that depends on the places of weights in their layer, and so gets its shape."""

    @property
    def even(self) -> bool: ...  # True: every layer keeps the same share

    def check_shapes(self, shapes: Mapping[str, Size]) -> None:
        """Raise `ValueError` unless layers of these shapes can have the pattern."""

    def check_target(self, density: float) -> None:
        """Raise `ValueError` unless the pattern has this density after the last pruning."""


@dataclass(frozen=True)
class NOfM:
    """At least the n largest of every m consecutive weights; exactly n at the density n / m.

    A layer that keeps k weights keeps the n largest scores of each group and, of the others, the
    largest. At k = n / m of the layer's weights this is N:M sparsity. At larger k, in earlier
    rounds of pruning and levels of IMP, later rounds can still reach it. Ties go to the lower
    index.

    Args:
        n: weights kept of each group, at least 1.
        m: weights of a group, at least n.
        along: `row`: groups are m consecutive columns of the layer's matrix; `channels`: m
            consecutive input channels at one position of the kernel, which is the layout of the
            convolutions of sparse tensor cores. For linear layers they are the same.
    """

    tag: ClassVar[str] = "n_m"
    n: int = 2
    m: int = 4
    along: Along = "row"
    exact: ClassVar[bool] = True
    draws: ClassVar[bool] = False
    even: ClassVar[bool] = True

    def __post_init__(self) -> None:
        problems = []
        if not 1 <= self.n <= self.m:
            problems.append(f"pick.n={self.n} must be from 1 to pick.m={self.m}: kept of a group")
        if self.along not in get_args(Along):
            problems.append(
                f"pick.along={self.along!r} must be one of {', '.join(get_args(Along))}"
            )
        if problems:
            raise ValueError("\n".join(problems))

    def check_shapes(self, shapes: Mapping[str, Size]) -> None:
        """`Structured.check_shapes`: the length of a row is a multiple of m."""
        lengths = {name: self._length(shape) for name, shape in shapes.items()}
        wrong = [f"{name} ({length})" for name, length in lengths.items() if length % self.m]
        if wrong:
            more = f" and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
            what = "input channels" if self.along == "channels" else "weights of a row"
            raise ValueError(
                f"pick.m={self.m} does not divide the {what} of {', '.join(wrong[:SHOWN])}{more}:"
                " take another pick.m, or leave the layer dense (method.pruner.dense=[first],"
                " method.pruner.classifier=dense)"
            )

    def check_target(self, density: float) -> None:
        """`Structured.check_target`: the density is n / m."""
        if abs(density - self.n / self.m) > CLOSE:
            raise ValueError(
                f"density={density:g}: pick=n_m keeps {self.n} of {self.m} weights (pick.n,"
                f" pick.m); take density={self.n / self.m:.10g}"
            )

    def __call__(self, scores: Tensor, k: int, rng: Generator) -> Tensor:
        """Bool of the shape of `scores`, with exactly k True.

        Raises:
            ValueError: k is less than n of each group.
        """
        rows = scores.movedim(1, -1) if self.along == "channels" else scores
        groups = rows.reshape(-1, self.m)
        order = groups.argsort(dim=1, descending=True, stable=True)[:, : self.n]
        first = torch.zeros_like(groups, dtype=torch.bool).scatter_(1, order, True).view(rows.shape)
        first = first.movedim(-1, 1) if self.along == "channels" else first
        first = first & (scores > -torch.inf)
        rest = k - int(first.sum())
        if rest < 0:
            raise ValueError(
                f"pick=n_m keeps {self.n} of every {self.m} weights, {int(first.sum()):,} of a"
                f" layer for which the allocation has {k:,}"
            )
        others = scores.masked_fill(first, -torch.inf).flatten()
        return first | largest(others, rest).view(scores.shape)

    def findings(self, scores: Tensor, k: int) -> dict[str, float]:
        """Return {}: there is nothing to report."""
        return {}

    def _length(self, shape: Size) -> int:
        return shape[1] if self.along == "channels" else math.prod(shape[1:])


@dataclass(frozen=True)
class Block:
    """Whole blocks of `rows` x `columns` entries of the layer's matrix, by the sum of their scores.

    Blocks begin at multiples of `rows` and `columns`; at the ends of the matrix they are smaller.
    Those with the largest sums are kept, as many as come nearest to the layer's count k together:
    of two numbers equally near the smaller, and at least one block if k > 0. A layer is thus off
    its count by at most half a block, or by less than one where it keeps only one. Ties go to the
    block whose first row, then first column, is lower. Weights that are pruned already count in no
    sum and no size.

    Args:
        rows: outputs of a block, at least 1.
        columns: other weights of a block, at least 1.
    """

    tag: ClassVar[str] = "block"
    rows: int = 4
    columns: int = 4
    exact: ClassVar[bool] = False
    draws: ClassVar[bool] = False
    even: ClassVar[bool] = False

    def __post_init__(self) -> None:
        problems = [
            f"pick.{key}={value} must be at least 1: a block has that many {what}"
            for key, value, what in (
                ("rows", self.rows, "outputs"),
                ("columns", self.columns, "inputs"),
            )
            if value < 1
        ]
        if problems:
            raise ValueError("\n".join(problems))

    def check_shapes(self, shapes: Mapping[str, Size]) -> None:
        """`Structured.check_shapes`: every matrix has blocks."""

    def check_target(self, density: float) -> None:
        """`Structured.check_target`: every density has a nearest number of blocks."""

    def __call__(self, scores: Tensor, k: int, rng: Generator) -> Tensor:
        """Bool of the shape of `scores`: whole blocks of about k weights."""
        kept, _ = self._kept(scores, k)
        wide = kept.repeat_interleave(self.rows, 0).repeat_interleave(self.columns, 1)
        matrix = scores.flatten(1)
        return wide[: matrix.shape[0], : matrix.shape[1]].reshape(scores.shape) & (
            scores > -torch.inf
        )

    def findings(self, scores: Tensor, k: int) -> dict[str, float]:
        """Number of weights that the allocation asked for, of blocks, and of blocks kept."""
        kept, sizes = self._kept(scores, k)
        there = int((sizes > 0).sum())
        return {"allocated": k, "blocks": there, "blocks_kept": int((kept & (sizes > 0)).sum())}

    def _kept(self, scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Which blocks are kept, bool (rows, columns) of blocks, and their number of weights."""
        there = scores > -torch.inf
        sums = self._sums(scores.double().masked_fill(~there, 0.0))
        sizes = self._sums(there.double())
        ranked = sums.masked_fill(sizes == 0, -torch.inf).flatten()
        order = ranked.argsort(descending=True, stable=True)
        # weights in the 0, 1, ... best blocks
        reached = F.pad(sizes.flatten()[order].cumsum(0), (1, 0))
        count = max(int((reached - k).abs().argmin()), min(k, 1))
        kept = torch.zeros_like(ranked, dtype=torch.bool)
        kept[order[:count]] = True
        return kept.view(sums.shape), sizes

    def _sums(self, values: Tensor) -> Tensor:
        """The sum of each block of a layer, by rows and columns of blocks."""
        matrix = values.flatten(1)
        height, width = matrix.shape
        high, wide = -(-height // self.rows), -(-width // self.columns)  # blocks
        matrix = F.pad(matrix, (0, wide * self.columns - width, 0, high * self.rows - height))
        return matrix.view(high, self.rows, wide, self.columns).sum((1, 3))
