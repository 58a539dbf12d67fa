"""Stratified, nested subsets of the training split, and its part held out for validation.

One rule gives both. A fixed permutation shuffles each class once (numpy's RandomState, whose
streams never change). Image j of n of a class (j = 0, 1, ...) gets the key (j + 1/2) / n. All
images are sorted by key, ties by class index. A subset of m images is the first m of this order.

Nested: subsets are prefixes of the same sequence, so the larger contains the smaller whatever the
remainders are. (Largest remainders, recomputed for each m, are not nested: a class can lose an
image when m grows, the Alabama paradox.)

Stratified: m images contain, of a class with share p = n / N, more than p m - 1 and fewer than
p m + 1, hence floor or ceiling of p m, and exactly p m where that is whole. Proof: for a threshold
t on the keys, a class contains n t + e images with |e| <= 1/2 (ties shift an e within the same
bound). Summing over C classes gives m = N t + sum(e). So the count minus p m is e - p sum(e) =
(1 - p) e - p (sum of the other e). This is at most (1 - p) / 2 + p (C - 1) / 2 =
(1 + p (C - 2)) / 2, which is below 1 while p < 1 / (C - 2). Every data set here satisfies that
(MNIST's largest class: 0.1124 < 1/8) except ImageNet, where p is at most 1,300 of 1,281,167 with
C = 1,000, and the bound is 1.007.
"""

import math

import numpy as np
import torch
from torch import Tensor

# Seeds of the three orders: `train_fraction`, `dataset.validation`, the test split of digits.
SUBSET, VALIDATION, TEST = 0, 1, 2


def stratified_order(labels: Tensor, seed: int | tuple[int, ...]) -> Tensor:
    """Return all indices (N,), int64, ordered such that every prefix is stratified.

    `labels` (N,) are class indices, and `seed` is one of numpy's RandomState.
    """
    classes = labels.cpu().numpy()
    draws = np.random.RandomState(seed)
    keys = np.empty(len(classes))
    for label in np.unique(classes):
        members = np.flatnonzero(classes == label)
        keys[draws.permutation(members)] = (2 * np.arange(len(members)) + 1) / (2 * len(members))
    return torch.from_numpy(np.lexsort((classes, keys)))


def subset(labels: Tensor, fraction: float) -> Tensor:
    """Return sorted indices of round(fraction * N) images, stratified.

    The subset of every larger fraction contains them.

    Raises:
        ValueError: `train_fraction` is outside (0, 1] or leaves a class without an image.
    """
    if not is_number(fraction) or not 0 < fraction <= 1:
        raise ValueError(
            f"train_fraction={fraction} must be in (0, 1]: it is the share of the training images"
            " used; 1.0 uses all of them"
        )
    indices = stratified_order(labels, SUBSET)[: round(fraction * len(labels))]
    missing = absent_classes(labels, labels[indices])
    if missing:
        raise ValueError(
            f"train_fraction={fraction} keeps {len(indices):,} of {len(labels):,} training images:"
            f" none of class {missing} is left; the smallest that keeps one of each is"
            f" train_fraction={smallest(labels):g}"
        )
    return indices.sort().values


def hold_out(labels: Tensor, fraction: float) -> tuple[Tensor, Tensor]:
    """Return sorted indices (training, validation) of a split, the same for every seed of a run.

    round(fraction * N) images are held out, stratified.

    Raises:
        ValueError: `dataset.validation` is outside [0, 1) or leaves a class without a training or a
            validation image.
    """
    check_held_out(fraction)
    order = stratified_order(labels, VALIDATION)
    count = round(fraction * len(labels))
    held, kept = order[:count], order[count:]
    for part, what in ((kept, "training"), (held, "validation")):
        missing = absent_classes(labels, labels[part]) if fraction else ""
        if missing:
            raise ValueError(
                f"dataset.validation={fraction} splits {len(labels):,} training images into"
                f" {len(kept):,} and {len(held):,} held out: no {what} image of class {missing} is"
                " left; choose a value nearer to 0.5, a larger train_fraction, or"
                " dataset.validation=0"
            )
    return kept.sort().values, held.sort().values


def check_held_out(fraction: float) -> None:
    """Raise `ValueError` unless the share to hold out is in [0, 1)."""
    if not is_number(fraction) or not 0 <= fraction < 1:
        raise ValueError(
            f"dataset.validation={fraction} must be in [0, 1): it is the share of the training"
            " images held out; 0 holds out none"
        )


def is_number(value: object) -> bool:
    """Whether a value from a YAML file is a number (a bool is not)."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def absent_classes(labels: Tensor, part: Tensor) -> str:
    """Return the classes of `labels` that `part` lacks, as text; empty when it has all."""
    return ", ".join(str(label) for label in sorted(set(labels.tolist()) - set(part.tolist())))


def smallest(labels: Tensor) -> float:
    """Return the smallest fraction that keeps all classes, rounded up to four decimals."""
    order = labels[stratified_order(labels, SUBSET)].numpy()
    needed = max(int(np.flatnonzero(order == label)[0]) for label in np.unique(order)) + 1
    return min(math.ceil(needed / len(labels) * 10_000) / 10_000, 1.0)
