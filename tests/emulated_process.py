"""Registration of the emulated device (emulated.py), and the processes in which tests have it."""

import functools
import importlib
import multiprocessing
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from emulated import (
    NAME,
    DeviceTensor,
    Generator,
    compute,
    device,
    refuse_generator,
)
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

# The server computes nothing, so that it has no threads. PyTorch imports the second module with the
# first tensor of a subclass.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["runner.commands.run", "torch.distributed.tensor", "pytest"])
SECONDS = 300  # limit for a test
# Operations that autocast computes in bf16
LOWER = ("conv1d", "conv2d", "conv3d", "linear", "matmul", "mm", "bmm", "addmm", "baddbmm")


class _AsCuda(TorchFunctionMode):
    """What PyTorch does for CUDA, or on the host, where no operation of the device is called.

    A generator of the device is refused for a draw on the host. `x[mask] = 1.0` passes a scalar of
    the host, for which PyTorch needs no positions.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        puts = func is torch.Tensor.__setitem__ and isinstance(args[0], DeviceTensor)
        if puts and isinstance(args[2], (bool, int, float)):
            args = (*args[:2], torch.tensor(args[2], dtype=args[0].dtype))
        found = func(*args, **(kwargs or {}))
        generator = (kwargs or {}).get("generator")
        if generator is not None and isinstance(found, torch.Tensor):
            refuse_generator(func.__name__, [generator], found.device.type)
        return found


class _Backend:
    """What PyTorch asks of a device's module, `torch.emulated`."""

    is_initialized = is_available = staticmethod(lambda: True)
    current_device = staticmethod(lambda: 0)
    device_count = staticmethod(lambda: 1)
    _is_in_bad_fork = staticmethod(lambda: False)
    manual_seed_all = staticmethod(lambda seed: None)
    get_amp_supported_dtype = staticmethod(lambda: [torch.bfloat16])


LIBRARIES: list[torch.library.Library] = []  # registrations live as long as these


@contextmanager
def emulation() -> Iterator[torch.device]:
    """Register the device, once in a process and for its rest."""
    from torch.optim import optimizer
    from torch.utils import backend_registration

    backend_registration._setup_privateuseone_for_python_backend(NAME, _Backend())
    # Tensors reach `__torch_dispatch__` first; this is for factories, which have none.
    everything, aten = (torch.library.Library(space, "IMPL") for space in ("_", "aten"))
    LIBRARIES.extend((everything, aten))
    everything.fallback(compute, "PrivateUse1")
    everything.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")
    aten.impl("_copy_from", _copy_from, "PrivateUse1")
    for name in LOWER:
        kernel = functools.partial(_in_lower_precision, getattr(torch.ops.aten, name))
        aten.impl(name, kernel, "AutocastPrivateUse1")
    optimizer._foreach_supported_types.append(DeviceTensor)  # as for CUDA
    for module in list(sys.modules.values()):
        if (
            getattr(module, "__dict__", {}).get("Generator") is torch._C.Generator
            and module is not torch._C
        ):
            module.Generator = Generator  # type: ignore[attr-defined]
    with _AsCuda():
        yield device()


def _copy_from(source: torch.Tensor, into: torch.Tensor, non_blocking: bool = False) -> Any:
    """The kernel by which `torch.tensor(.., device=)` copies, past `__torch_dispatch__`."""
    return compute(torch.ops.aten.copy_.default, into, source)


def _in_lower_precision(op: Any, *args: Any, **kwargs: Any) -> Any:
    """The autocast kernel of a matrix product: its float arguments in bf16."""

    def cast(value: Any) -> Any:
        cast_it = isinstance(value, DeviceTensor) and value.dtype == torch.float32
        return value.to(torch.get_autocast_dtype(NAME)) if cast_it else value

    with torch.autocast(NAME, enabled=False):
        return op(*tree_map(cast, args), **tree_map(cast, kwargs))


def on_emulated_device(test: Callable[..., None]) -> Callable[..., None]:
    """Decorator: run a test in a process of its own that has the emulated device."""

    @functools.wraps(test)
    def in_its_own_process(**arguments: Any) -> None:
        ours, theirs = FORKS.Pipe(duplex=False)
        where = (test.__module__, test.__qualname__)
        process = FORKS.Process(target=_main, args=(theirs, *where, arguments))
        process.start()
        theirs.close()
        try:
            failure = ours.recv() if ours.poll(SECONDS) else f"not done in {SECONDS} seconds"
        except EOFError:
            failure = "the process died"
        process.kill()
        process.join()
        if failure:
            pytest.fail(failure, pytrace=False)

    return in_its_own_process


def _main(answer: Any, module: str, name: str, arguments: dict[str, Any]) -> None:
    failure = ""
    torch.set_num_threads(1)
    try:
        with emulation():
            getattr(importlib.import_module(module), name).__wrapped__(**arguments)
    except Exception:
        failure = traceback.format_exc()
    answer.send(failure)
