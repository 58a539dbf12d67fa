"""Training in the benchmark: our loop against a tutorial's loop and its own bare steps.

Also measured: bf16 against fp32, and the throughput for plans.
"""

import statistics
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from models.conv import Conv3x3
from models.count import multiply_accumulates
from models.resnet_cifar import ResNetCifar
from models.vgg import Vgg
from pruners.base import GRADIENT, FixedMasking, full_masks, in_batches
from runner.bench.timing import Comparison, seconds
from runner.data.base import Split
from runner.data.batches import Batches
from runner.engine.distributed import ALONE, ProcessGroup
from runner.engine.machine import check_precision
from runner.engine.optim import make_optimizer
from runner.engine.train import Loaders, LoopOptions, train
from runner.errors import ConfigError
from runner.planning.costs import Throughput
from runner.spec.recipe import Recipe
from runner.spec.rng import stream

BATCH = 128
# Size, channels, images of an epoch, augmentation.
SMALL, LARGE = (8, 1, 10 * BATCH, "none"), (32, 3, 4 * BATCH, "crop_flip")
IMAGES = (SMALL, LARGE)
Network = Callable[[int, int, int, Generator], nn.Module]  # channels, classes, size, weights' rng
RESNET20 = ResNetCifar("resnet20", depth=20, width=16)
MEAN, STD = torch.tensor([0.5]), torch.tensor([0.25])
RECIPE = Recipe(epochs=1, lr=0.1, batch_size=BATCH, momentum=0.9, weight_decay=5e-4)


def tutorial_comparison(
    name: str, device: torch.device, size: int, channels: int, images: int, augment: str
) -> Comparison:
    """Compare an epoch of our loop with an epoch of the loop of PyTorch's tutorials."""
    data = images_of(images, channels, size)
    work = f"an epoch of ResNet-20, {channels}x{size}x{size}"
    epoch, tutorial = epoch_of(data, augment, device), _textbook_epoch(data, augment, device)
    return Comparison(name, work, "a DataLoader's, image by image", epoch, tutorial)


def training_comparisons(device: torch.device) -> Iterator[Comparison]:
    """Yield comparisons of an epoch of our loop with its bare steps and of bf16 with fp32."""
    for size, channels, images, augment in IMAGES:
        data = images_of(images, channels, size)
        work = f"an epoch of ResNet-20, {channels}x{size}x{size}"
        epoch, bare = epoch_of(data, augment, device), bare_steps(data, device)
        limit = "limit: its bare steps on one batch"
        yield Comparison(f"training_steps_{size}", work, limit, epoch, bare)
        if size == 8 and device.type == "cpu":  # the input of the last stage is 2x2
            yield Comparison(
                "training_convolutions_8",
                f"bare steps of ResNet-20, {channels}x{size}x{size}",
                "with PyTorch's 3x3 convolutions",
                bare_steps(data, device),
                bare_steps(data, device, nn.Conv2d),
            )
        if has_bf16(device):
            half = epoch_of(data, augment, device, "bf16")
            fp32 = "the same in fp32"
            yield Comparison(f"training_bf16_{size}", f"{work}, bf16", fp32, half, epoch)
    if device.type == "cpu" and has_bf16(device):  # the input of the last block is 4x4
        vgg = Vgg("vgg11_small", depth=11, width=32, pools=3)
        yield Comparison(
            "training_convolutions_bf16",
            "bare steps of VGG-11 at half width, 3x32x32, bf16",
            "with PyTorch's 3x3 convolutions",
            bare_steps(data, device, Conv3x3, vgg, "bf16"),
            bare_steps(data, device, nn.Conv2d, vgg, "bf16"),
        )


def throughput(device: torch.device, rounds: int = 3) -> Iterator[Throughput]:
    """Yield images and multiply-accumulates per second of training.

    Each is the median of `rounds` epochs.
    """
    for size, channels, images, augment in IMAGES:
        data = images_of(images, channels, size)
        forward, _ = multiply_accumulates(net(channels, size, device), (channels, size, size))
        for precision in ("fp32", *(["bf16"] if has_bf16(device) else [])):
            work = epoch_of(data, augment, device, precision)
            speed = images / statistics.median([seconds(work) for _ in range(rounds + 1)][1:])
            yield {
                "work": f"ResNet-20, {channels}x{size}x{size}, {precision}",
                "precision": precision,
                "size": size,
                "macs_per_image": forward,
                "images_per_s": speed,
                "macs_per_s": speed * forward * GRADIENT,
            }


def net(channels: int, size: int, device: torch.device, make: Network = RESNET20) -> nn.Module:
    """Return a network for images of this size and number of channels."""
    net = make(channels, 10, size, stream(0, "bench", "weights"))
    return net.to(memory_format=torch.channels_last).to(device)


def images_of(count: int, channels: int, size: int) -> Split:
    """Return random images and labels."""
    rng = stream(0, "bench", "images")
    return Split(
        torch.randint(256, (count, channels, size, size), generator=rng, dtype=torch.uint8),
        torch.randint(10, (count,), generator=rng),
    )


def normalised(data: Split) -> Tensor:
    """Return normalised images, (n, channels, size, size)."""
    return (data.images.float() / 255 - MEAN[0]) / STD[0]


def pairs(data: Split) -> list[tuple[Tensor, Tensor]]:
    """Return batches of normalised images and labels."""
    return list(in_batches(normalised(data), data.labels, BATCH))


def epoch_of(
    data: Split,
    augment: str,
    device: torch.device,
    precision: str = "fp32",
    group: ProcessGroup = ALONE,
) -> Callable[[], object]:
    """Return a function that runs one epoch of the training loop of every run.

    Nothing is evaluated, as in the loops that it is compared with. `group` trains together.
    """
    channels, size = data.images.shape[1], data.images.shape[2]
    model, recipe = net(channels, size, device), replace(RECIPE, precision=precision)
    mean, std = MEAN.repeat(channels).to(device), STD.repeat(channels).to(device)
    batches = Batches(data.to(device), mean, std, 255.0, BATCH, augment, 0, "bench", group.shard)
    one = Split(data.images[:1], data.labels[:1])
    loaders = Loaders(batches, lambda: pairs(one.to(device)))
    masking = FixedMasking(full_masks(model))
    options = LoopOptions(group=group)
    return lambda: train(model, masking, recipe, loaders, F.cross_entropy, options)


def bare_steps(
    data: Split,
    device: torch.device,
    convolution: type[nn.Conv2d] = Conv3x3,
    make: Network = RESNET20,
    precision: str = "fp32",
) -> Callable[[], object]:
    """Return a function that runs training steps without data, hooks or bookkeeping."""
    channels, size = data.images.shape[1], data.images.shape[2]
    model = net(channels, size, device, make)
    for module in model.modules():
        if isinstance(module, Conv3x3):
            module.__class__ = convolution  # type: ignore[assignment]
    opt = make_optimizer(model, FixedMasking({}), RECIPE)
    x, y = pairs(data)[0]
    x, y = x.to(device, memory_format=torch.channels_last), y.to(device)

    autocast = torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")

    def work() -> None:
        model.train()
        for _ in range(len(data) // BATCH):
            with autocast:
                logits = model(x)
            torch.autograd.backward(F.cross_entropy(logits.float(), y))
            opt.step()
            opt.zero_grad()

    return work


class _PerImage(TensorDataset):
    """Crops, mirrors and normalises each image separately, as published code does."""

    augment = "none"

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image, label = (t[index] for t in self.tensors)
        if self.augment == "crop_flip":
            top, left = np.random.randint(9, size=2)
            height, width = image.shape[1:]
            image = F.pad(image, (4,) * 4)[:, top : top + height, left : left + width]
            image = image.flip(-1) if np.random.rand() < 0.5 else image
        return (image.float() / 255 - MEAN[0]) / STD[0], label


def _textbook_epoch(data: Split, augment: str, device: torch.device) -> Callable[[], object]:
    """Return a function that runs an epoch of the loop of PyTorch's tutorials.

    It uses a single process and PyTorch's default memory format.
    """
    channels, size = data.images.shape[1], data.images.shape[2]
    model = net(channels, size, device).to(memory_format=torch.contiguous_format)
    opt = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    images = _PerImage(data.images, data.labels)
    images.augment = augment
    loader = DataLoader(images, batch_size=BATCH, shuffle=True)

    def work() -> None:
        model.train()
        running = 0.0
        for x, y in loader:
            opt.zero_grad()
            loss = F.cross_entropy(model(x.to(device)), y.to(device))
            torch.autograd.backward(loss)
            opt.step()
            running += loss.item()

    return work


def has_bf16(device: torch.device) -> bool:
    """Whether bf16 training is possible on the device."""
    try:
        check_precision("bf16", device)
    except ConfigError:
        return False
    return True
