"""From official arrays to the data of a run: checked options, zero padding, statistics, subset, held-out part.

The normalisation constants of published code stand here, in one table; the default, "computed", computes them from the training images.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from runner.data.augment import AUGMENTS
from runner.data.base import Data, DataError, DataSet, Images, Info, Official, Split
from runner.data.split import check_held_out, hold_out, subset
from runner.errors import one_of

Constants = tuple[tuple[float, ...], tuple[float, ...]]  # mean, std per channel of pixels in [0, 1]

_GRASP10: Constants = ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))  # alecwangcq/GraSP utils/data_utils.py; not the true std
_HALF: Constants = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))  # EkdeepSLubana/flowandprune
_MNIST: Constants = ((0.1307,), (0.3081,))  # open_lth, Synaptic-Flow, rahulvigneswaran
_MNIST_RGB: Constants = ((0.1307,) * 3, (0.3081,) * 3)  # rahulvigneswaran broadcasts MNIST's constants to RGB
_IMAGENET: Constants = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # GraSP, Synaptic-Flow, open_lth, torchvision's weights
NORMALISATIONS: dict[str, dict[str, Constants]] = {  # data set -> choice besides "computed" -> constants; the choice is named after its source
    "digits": {},
    "mnist": {"mnist": _MNIST, "grasp": ((0.5,), (0.5,))},  # GraSP: 0.5 / 0.5
    "fashion_mnist": {"mnist": _MNIST},  # rahulvigneswaran applies MNIST's constants
    "cifar10": {
        "grasp": _GRASP10,  # also JingtongSu (sanity-check), rethinking
        "synflow": ((0.491, 0.482, 0.447), (0.247, 0.243, 0.262)),  # ganguli-lab/Synaptic-Flow Utils/load.py
        "open_lth": _IMAGENET,  # facebookresearch/open_lth datasets/cifar10.py: ImageNet's constants
        "continuous_sparsification": ((125.3 / 255, 123.0 / 255, 113.9 / 255), (63.0 / 255, 62.1 / 255, 66.7 / 255)),  # lolemacs
        "flow_prune": _HALF,
        "mnist": _MNIST_RGB,
    },
    "cifar100": {
        "grasp": ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
        "rethinking": _GRASP10,  # rethinking and LT_prune: CIFAR-10's constants
        "synflow": ((0.507, 0.487, 0.441), (0.267, 0.256, 0.276)),
        "flow_prune": _HALF,
        "mnist": _MNIST_RGB,
    },
    "tiny_imagenet": {
        "grasp": (  # also JingtongSu (sanity-check)
            (0.48024578664982126, 0.44807218089384643, 0.3975477478649648),
            (0.2769864069088257, 0.26906448510256, 0.282081906210584),
        ),
        "synflow": ((0.480, 0.448, 0.397), (0.276, 0.269, 0.282)),
    },
    "imagenet": {"imagenet": _IMAGENET},
    "imagenet_subset": {"imagenet": _IMAGENET},
}


def check_options(options: DataSet, name: str, native: Info) -> None:
    """Refuse bad values of the fields that all data sets share; `native` is the data set as its files hold it."""
    check_size(options.size, native, native.size, "images are padded, never cut")
    check_choices(options, name, AUGMENTS, ("computed", *NORMALISATIONS[name]))


def check_size(size: int | None, native: Info, smallest: int, why: str) -> None:
    """Refuse a `dataset.size` that is neither null nor a whole number from `smallest` up."""
    if size is not None and (not isinstance(size, int) or isinstance(size, bool) or size < smallest):
        raise ValueError(f"dataset.size={size} must be null (its own {native.size}) or a whole number of at least {smallest}: {why}")


def check_choices(options: DataSet, name: str, augments: Sequence[str], normalisations: Sequence[str]) -> None:
    """Refuse another name, a bad share to hold out, and what is not among the choices."""
    if options.name != name:
        raise ValueError(f"dataset.name={options.name} must stay {name}: it is the data set's name in records; dataset=NAME chooses another data set")
    check_held_out(options.validation)
    if options.augment not in augments:
        raise ValueError(one_of("dataset.augment", options.augment, augments))
    if options.normalise not in normalisations:
        raise ValueError(one_of("dataset.normalise", options.normalise, normalisations))


def padded_info(options: DataSet, native: Info) -> Info:
    """`native` at the size that the options ask for."""
    return replace(native, size=options.size or native.size)


def assemble(options: DataSet, official: Official, scale: float, classes: int, train_fraction: float) -> Data:
    """The data of a run. Normalisation comes from the whole official training split, so that no subset changes a test input."""
    train, test = pad(official.train, options.size), pad(official.test, options.size)
    if options.normalise == "computed":
        mean, std = statistics(train.images, scale)
    else:
        mean, std = (torch.tensor(values) for values in NORMALISATIONS[options.name][options.normalise])
    used, held_out = parts(options, train, train_fraction)
    return Data(options.name, used, held_out, test, mean, std, scale, classes, options.augment, official.checksum())


def parts(options: DataSet, train: Images, train_fraction: float) -> tuple[Images, Images | None]:
    """What is trained on, and what is held out of it, if anything."""
    used = train if train_fraction == 1 else train.take(subset(train.labels, train_fraction))
    if not options.validation:
        return used, None
    kept, held = hold_out(used.labels, options.validation)
    return used.take(kept), used.take(held)


def pad(split: Split, size: int | None) -> Split:
    """Images (N, C, H, W) centred on a square of zeros, raw black; where the margin is odd, right and bottom get the extra pixel."""
    missing = (size or split.images.shape[-1]) - split.images.shape[-1]
    before, after = missing // 2, missing - missing // 2
    return Split(F.pad(split.images, (before, after, before, after)), split.labels) if missing else split


def statistics(images: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Mean and std (C,) of uint8 images (N, C, H, W) divided by `scale`: exact, from 256-bin histograms in float64, rounded to float32 at the end."""
    histograms = torch.stack([torch.bincount(images[:, c].flatten(), minlength=256) for c in range(images.shape[1])]).double()  # (C, 256)
    shares, levels = histograms / histograms.sum(1, keepdim=True), torch.arange(256, dtype=torch.float64) / scale
    mean = shares @ levels
    std = (shares * (levels - mean[:, None]) ** 2).sum(1).sqrt()
    if not bool((std > 0).all()):
        raise DataError(f"a channel of the training images is constant (std {std.tolist()}), so it cannot be normalised")
    return mean.float(), std.float()
