"""Tiny nets, tasks on given data and a check for unchanged models, for the tests of scores."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile

from models.mlp import Mlp
from models.resnet_cifar import ResNetCifar
from pruners.base import Batch, LossFn, Masks, Task, count_kept, full_masks
from pruners.selection.allocate import Global
from pruners.selection.pick import Top
from pruners.selection.schedule import Once
from pruners.selection.score_pruner import ScorePruner
from pruners.selection.source import Train


def seeded(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def linear(weight: list[list[float]], dtype: torch.dtype = torch.float32) -> nn.Linear:
    """A linear layer without bias and with these weights."""
    layer = nn.Linear(len(weight[0]), len(weight), bias=False, dtype=dtype)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(weight))
    return layer


def mlp(hidden: tuple[int, ...] = (30, 20), seed: int = 0) -> nn.Module:
    """64-30-20-10 by default: 1,920 + 600 + 200 = 2,720 prunable weights."""
    return Mlp("mlp", hidden)(1, 10, 8, seeded(seed))


def resnet(seed: int = 0) -> nn.Module:
    """Eight layers, four filters, BatchNorm and both kinds of shortcut, for 8x8 grey images."""
    return ResNetCifar("net", depth=8, width=4)(1, 10, 8, seeded(seed))


def images(count: int = 32, seed: int = 0) -> Batch:
    rng = seeded(seed)
    return torch.randn(count, 1, 8, 8, generator=rng), torch.randint(0, 10, (count,), generator=rng)


def l1_loss(outputs: Tensor, labels: Tensor) -> Tensor:
    return (outputs.flatten() - labels).abs().mean()


def task(
    density: float | None,
    data: Batch | None = None,
    loss: LossFn = F.cross_entropy,
    seed: int = 0,
    **more: Any,
) -> Task:
    """A one-shot task on `data`, in batches in their given order."""
    x, y = images() if data is None else data

    def batches(size: int) -> Iterator[Batch]:
        return zip(x.split(size), y.split(size), strict=True)

    return Task(loss=loss, batches=batches, density=density, steps=0, rng=seeded(seed), **more)


def pruner(score: Any, batch_size: int = 256, **options: Any) -> ScorePruner:
    """A score with its method's YAML options: training data if needed, global, top, one shot."""
    source = Train(batch_size) if score.needs_data else None
    return ScorePruner(
        **{
            "score": score,
            "source": source,
            "allocate": Global(),
            "pick": Top(),
            "schedule": Once(),
            **options,
        }
    )


def masks_of(score: Any, model: nn.Module, density: float, seed: int = 0, **options: Any) -> Masks:
    """The masks of a method on `model`, which is pruned in place."""
    return pruner(score, **options)(model, full_masks(model), task(density, seed=seed)).masks


def kept_by_layer(masks: Masks) -> list[int]:
    return [int(mask.sum()) for mask in masks.values()]


def same_masks(one: Masks, other: Masks) -> bool:
    return list(one) == list(other) and all(torch.equal(one[name], other[name]) for name in one)


def jaccard(one: Masks, other: Masks) -> float:
    both = count_kept({name: one[name] & other[name] for name in one})
    return both / (count_kept(one) + count_kept(other) - both)


def state_check(model: nn.Module) -> Callable[[], bool]:
    """Copy weights, buffers, gradients, training flags and requires_grad; the returned function
    reports whether all are unchanged, to the bit."""

    def state() -> dict[str, Any]:
        tensors: dict[str, Any] = {
            name: t.detach().clone() for name, t in model.state_dict().items()
        }
        grads = {
            f"{name}.grad": None if p.grad is None else p.grad.clone()
            for name, p in model.named_parameters()
        }
        flags = {
            f"{name}.flags": (p.requires_grad, p.is_leaf) for name, p in model.named_parameters()
        }
        return {
            **tensors,
            **grads,
            **flags,
            **{f"{name}.training": m.training for name, m in model.named_modules()},
        }

    before, global_stream = state(), torch.get_rng_state()

    def unchanged() -> bool:
        after = state()
        same = [
            torch.equal(before[k], v)
            if isinstance(v, Tensor) and isinstance(before[k], Tensor)
            else before[k] is v or before[k] == v
            for k, v in after.items()
        ]
        return (
            before.keys() == after.keys()
            and all(same)
            and torch.equal(torch.get_rng_state(), global_stream)
        )

    return unchanged


def allocated(act: Callable[[], object]) -> int:
    """Bytes that were allocated at the peak of `act`, beyond those before it."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        act()
    now = peak = 0
    for event in seen.profiler.kineto_results.events():  # type: ignore[union-attr]
        now += event.nbytes() if event.name() == "[memory]" else 0
        peak = max(peak, now)
    return peak
