"""The paired bootstrap over test images: what one seed's difference says about other images.

Two methods are compared on the same images, so that an image is drawn with its results of both. The
distribution of the bootstrap is computed by convolution instead of drawn: it has no sampling error
of its own. One image for each side is added to those that were measured (Bonett and Price,
J. Educational and Behavioral Statistics 37, 2012, 479-488): without them the interval is too short
where few images differ, and a point where none does.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.fft import next_fast_len

from runner.stats.estimates import SIDE

ADDED = 2  # images, one for each side


def over_images(differences: NDArray[np.int64], parts: int = 1) -> tuple[float, float]:
    """The 95 % interval of the mean difference over images like these, as a share of the images.

    Args:
        differences: for each image, the number of right answers of one method minus that of the
            other, shape (n,), from -parts to parts.
        parts: the number of pairs of networks that answered, such as one for each density.
    """
    counts = np.bincount(differences + parts, minlength=2 * parts + 1).astype(float)
    counts[[0, -1]] += 1
    n = len(differences) + ADDED
    # the distribution of a sum of n differences, from -parts n to parts n, and zeros
    size = next_fast_len(2 * parts * n + 1, real=True)
    distribution = np.fft.irfft(np.fft.rfft(counts / n, size) ** n, size)
    below = np.cumsum(np.maximum(distribution, 0.0))
    low = int(np.searchsorted(below, SIDE, side="right"))
    high = int(np.searchsorted(below, 1 - SIDE))
    return low / (parts * n) - 1, high / (parts * n) - 1
