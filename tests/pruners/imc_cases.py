"""Small problems with a known or cheap Hessian, shared by the tests of IMC's parts."""

from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Generator, Tensor, nn

from pruners.base import Batch, Measurement, Task


class Constant(nn.Module):
    """Logits that equal the weights for every sample: a loss of the logits is one of the
    weights."""

    def __init__(self, w: Tensor) -> None:
        super().__init__()
        self.layer = nn.Linear(1, len(w), bias=False, dtype=w.dtype)
        self.layer.weight.data = w[:, None].clone()

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(torch.ones(len(x), 1, dtype=self.layer.weight.dtype))


def quadratic(a: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """The loss w'Aw / 2 of a `Constant`: its Hessian is A."""
    return lambda logits, _: 0.5 * ((logits @ a.to(logits)) * logits).sum(1).mean()


def quartic(logits: Tensor, _: Tensor) -> Tensor:
    """The loss sum w_i^4 / 4 of a `Constant`: gradient w^3."""
    return (logits**4).sum(1).mean() / 4


def symmetric(values: Tensor, seed: int = 0) -> Tensor:
    """A random symmetric matrix with these eigenvalues, float64."""
    q, _ = torch.linalg.qr(
        torch.randn(
            len(values), len(values), generator=Generator().manual_seed(seed), dtype=torch.float64
        )
    )
    return q @ torch.diag(values.double()) @ q.T


def make_task(
    x: Tensor,
    y: Tensor,
    loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
    seed: int = 0,
    **more: Any,
) -> Task:
    """A one-shot task over these samples, in their order."""

    def batches(size: int) -> Iterable[Batch]:
        return zip(x.split(size), y.split(size), strict=True)

    return Task(
        loss=loss,
        batches=batches,
        density=more.pop("density", None),
        steps=0,
        rng=Generator().manual_seed(seed),
        **more,
    )


def constant_task(loss: Callable[[Tensor, Tensor], Tensor], samples: int = 6, **more: Any) -> Task:
    """A task whose inputs do not affect the loss."""
    return make_task(torch.zeros(samples, 1), torch.zeros(samples, dtype=torch.long), loss, **more)


@cache
def digits() -> tuple[Tensor, Tensor]:
    """400 normalised digits, (400, 1, 8, 8), and their labels."""
    x, y = load_digits(return_X_y=True)
    images = torch.tensor(x[:400], dtype=torch.float32).view(-1, 1, 8, 8)
    return (images - images.mean()) / images.std(), torch.tensor(y[:400])


def mlp(seed: int = 0) -> nn.Module:
    """64-8-10, 592 conv or linear weights, tanh."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Tanh(), nn.Linear(8, 10))


def conv_bn(seed: int = 0) -> nn.Module:
    """A conv, BatchNorm, ReLU and a linear layer: 36 + 160 weights, trained running statistics."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = nn.Sequential(
            nn.Conv2d(1, 4, 3, 2, 1),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.AvgPool2d(2),
            nn.Flatten(),
            nn.Linear(16, 10),
        )
        net(digits()[0])
    return net


def train(model: nn.Module, steps: int = 60, lr: float = 0.1) -> nn.Module:
    """The same model after some SGD steps on the digits."""
    x, y = digits()
    opt = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    for step in range(steps):
        part = slice(100 * (step % 4), 100 * (step % 4) + 100)
        opt.zero_grad()
        F.cross_entropy(model(x[part]), y[part]).backward()
        opt.step()
    opt.zero_grad()
    return model


def snapshot(model: nn.Module) -> dict[str, Any]:
    """The state that a measurement must leave unchanged, bit for bit."""
    return {
        "state": {name: t.clone() for name, t in model.state_dict().items()},
        "strides": [p.stride() for p in model.parameters()],
        "flags": [module.training for module in model.modules()],
        "learns": [p.requires_grad for p in model.parameters()],
        "grads": [None if p.grad is None else p.grad.clone() for p in model.parameters()],
    }


def unchanged(before: dict[str, Any], model: nn.Module) -> bool:
    """Whether the model equals its snapshot."""
    now = snapshot(model)
    states = all(torch.equal(before["state"][name], t) for name, t in now["state"].items())
    grads = all(
        (a is None) == (b is None) and (a is None or torch.equal(a, b))
        for a, b in zip(before["grads"], now["grads"], strict=True)
    )
    return (
        states and grads and all(before[key] == now[key] for key in ("strides", "flags", "learns"))
    )


def initial(model: nn.Module) -> Measurement:
    """The initial weights as the measurement `init` that the runner passes."""
    return Measurement(tensors={name: p.detach().clone() for name, p in model.named_parameters()})
