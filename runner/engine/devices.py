"""The kinds of devices that a run can be told to use, and what each can compute.

torch is imported where it is asked for a device: not for `auto` and `cpu`, which need no check.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner.errors import one_of

if TYPE_CHECKING:
    import torch

AUTO = "auto"  # the first of KINDS that torch finds and that is accepted


@dataclass(frozen=True)
class Kind:
    """A kind of device.

    Args:
        title: its name in messages.
        float64: whether it computes in float64. Losses and accuracies are summed in float64 on the
            device, and SynFlow, Lipschitz constants and others compute in it.
        found: whether torch finds such a device here.
    """

    title: str
    float64: bool
    found: Callable[[], bool]


def _cuda() -> bool:
    import torch

    return torch.cuda.is_available()


def _mps() -> bool:
    import torch

    return torch.backends.mps.is_available()


KINDS = {
    "cuda": Kind("CUDA", True, _cuda),
    "mps": Kind("Apple's mps", False, _mps),
    "cpu": Kind("CPU", True, lambda: True),
}


def refused(name: str) -> str | None:
    """The message about a value of `env.device` that cannot be used here; None if it can."""
    accepted = [AUTO, *sorted(kind for kind in KINDS if KINDS[kind].float64)]
    if name in accepted and (name == AUTO or KINDS[name].found()):
        return None
    if name not in KINDS:
        return one_of("env.device", name, accepted)
    instead = "use env.device=cpu, or auto, which uses the available device"
    if not KINDS[name].float64:
        return (
            f"env.device={name}: {KINDS[name].title} has no float64, in which losses are summed and"
            f" SynFlow's scores are computed; {instead}"
        )
    return f"env.device={name}: torch finds no {KINDS[name].title} device; {instead}"


def chosen(name: str) -> torch.device:
    """The device of a value of `env.device` that is not refused."""
    import torch

    if name != AUTO:
        return torch.device(name)
    return torch.device(next(k for k, kind in KINDS.items() if kind.float64 and kind.found()))
