"""An emulated accelerator, for tests on machines that have none.

Its tensors report the device `emulated:0`, in Python and in C++: PyTorch's dispatcher, autograd,
functorch and autocast treat them as those of a second device (the key PrivateUse1). Each one holds
a CPU tensor, and `__torch_dispatch__` computes on that. So results equal the CPU's bit for bit, and

- an operation that mixes devices raises an error, except where CUDA accepts the mixture: scalars
  (tensors without dimensions) in elementwise operations, and host tensors as indices;
- a generator of another device raises an error;
- every copy between host and device is recorded with the line of our code that caused it.

PyTorch counts devices when a process first computes a gradient, and the registration cannot be
undone. Tests therefore run in a process of their own: `@on_emulated_device` (emulated_process.py).

Not emulated: streams, memory limits, a second device of the kind, and branches of our code for
`device.type == "cuda"`.
"""

import functools
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils._pytree import tree_map

ROOT = Path(__file__).resolve().parent.parent
NAME = "emulated"
# Operations after which the host waits for a shape or a check, on every accelerator. It also waits
# for every value: `_local_scalar_dense` (item, bool, int, float, branches), `equal`, `allclose`.
WAITS = {
    "nonzero",
    "masked_select",
    "bincount",
    "multinomial",
    "repeat_interleave",
    "_unique2",
    "unique_dim",
    "unique_consecutive",
    "_linalg_eigh",  # these report whether they failed
    "linalg_eig",
    "_linalg_svd",
    "_linalg_check_errors",
}
INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index"}
CROSSING = {"copy_", "_to_copy"}
# Besides elementwise operations, those that read a scalar of the host
SCALAR = {
    "index_put",
    "index_put_",
    "_index_put_impl_",
    "fill",
    "fill_",
    "masked_fill",
    "masked_fill_",
}
SHAPES = {
    "is_same_size",
    "is_pinned",
    "is_set_to",
    "_has_compatible_shallow_copy_type",
}  # values that the host knows


@dataclass(frozen=True)
class Transfer:
    """A copy between host and device.

    Args:
        kind: `read` (device to host) or `upload`, for which the host waits until the device has
            done all that it was given; `queued` is an upload with non_blocking=True, for which it
            does not wait.
        where: the innermost line of our code, `pruners/base.py:210`; `autograd` in a backward pass.
    """

    kind: str
    op: str
    where: str


RECORDINGS: list[list[Transfer]] = []


@contextmanager
def recorded() -> Iterator[list[Transfer]]:
    """Record all transfers inside the context."""
    found: list[Transfer] = []
    RECORDINGS.append(found)
    try:
        yield found
    finally:
        RECORDINGS.remove(found)


def count(transfers: list[Transfer], kind: str = "read") -> Counter[str]:
    """Number of transfers of a kind by file, for instance {"pruners/base.py": 3}."""
    return Counter(t.where.partition(":")[0] for t in transfers if t.kind == kind)


def _note(kind: str, op: str) -> None:
    for found in RECORDINGS:
        found.append(Transfer(kind, op, _where()))


def _where() -> str:
    frame = sys._getframe(1)
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        ours = path.is_relative_to(ROOT) and ".venv" not in path.parts
        if ours and path.name not in ("emulated.py", "emulated_process.py"):
            return f"{path.relative_to(ROOT)}:{frame.f_lineno}"
        frame = frame.f_back  # type: ignore[assignment]
    return "autograd"


def device() -> torch.device:
    """The emulated device, inside `on_emulated_device`."""
    return torch.device(NAME, 0)


class DeviceTensor(torch.Tensor):
    """A tensor of the emulated device. `held` is its value on the host."""

    held: torch.Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> "DeviceTensor":
        found = torch.Tensor._make_wrapper_subclass(
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            layout=held.layout,
            device=device(),
        )
        found.held = held
        return found

    @classmethod
    def __torch_dispatch__(
        cls, op: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        return compute(op, *args, **(kwargs or {}))

    @property
    def data(self) -> torch.Tensor:  # type: ignore[override]
        """As in PyTorch; `module.to(dtype)` assigns it."""
        return torch.Tensor.data.__get__(self)

    @data.setter
    def data(self, value: "DeviceTensor") -> None:
        torch.Tensor.data.__set__(self, value)
        self.held = value.held

    def untyped_storage(self) -> torch.UntypedStorage:
        """The memory of the value."""
        return self.held.untyped_storage()

    def tolist(self) -> Any:
        """PyTorch refuses subclasses; other tensors are copied first."""
        return self.cpu().tolist()

    def numpy(self, *, force: bool = False) -> Any:
        """As on other accelerators."""
        if not force:
            raise TypeError(
                f"can't convert {self.device} device type tensor to numpy. Use Tensor.cpu() to copy"
                " the tensor to host memory first."
            )
        return self.detach().cpu().resolve_conj().resolve_neg().numpy()

    def __array__(self, dtype: Any = None) -> Any:
        return self.numpy()

    def __reduce_ex__(self, protocol: Any) -> Any:
        """As a host tensor, which `torch.load(.., map_location="cpu")` returns."""
        return self.detach().cpu().__reduce_ex__(protocol)

    def __format__(self, spec: str) -> str:
        return format(self.item() if self.dim() == 0 else str(self), spec)

    def __repr__(self, **kwargs: Any) -> str:
        return f"{self.held!r} on {self.device}"


def compute(op: Any, *args: Any, **kwargs: Any) -> Any:
    """The result of an operation, on the device where PyTorch would put it.

    Raises:
        RuntimeError: the arguments are on different devices.
    """
    name = op.overloadpacket.__name__
    leaves = list(_leaves((args, kwargs)))
    inside = [t for t in leaves if isinstance(t, DeviceTensor)]
    outside = [t for t in leaves if isinstance(t, torch.Tensor) and not isinstance(t, DeviceTensor)]
    target = torch.device(kwargs["device"]) if kwargs.get("device") is not None else None
    if name in CROSSING:
        _cross(name, args, kwargs, target)
    else:
        _refuse_mixture(op, name, args, inside, outside)
        _count_waits(name, args)
    refuse_generator(name, leaves, target.type if target else NAME)
    if target is not None:
        kwargs["device"] = "cpu"
    wrapped = {id(t.held): t for t in inside}
    found = op(*_unwrap(args), **_unwrap(kwargs))
    if isinstance(found, (bool, int, float, complex)) and name not in SHAPES:
        _note("read", name)
    if target is not None and target.type == "cpu":
        return found
    return _mapped(functools.partial(_wrap, wrapped), found)


def _leaves(tree: Any) -> Iterator[Any]:
    """What tuples, lists and dicts hold; torch.utils._pytree takes several times as long."""
    if isinstance(tree, (tuple, list)):
        for item in tree:
            yield from _leaves(item)
    elif isinstance(tree, dict):
        yield from _leaves(list(tree.values()))
    else:
        yield tree


def _unwrap(tree: Any) -> Any:
    return _mapped(lambda t: t.held if isinstance(t, DeviceTensor) else t, tree)


def _mapped(function: Callable[[Any], Any], tree: Any) -> Any:
    if type(tree) in (tuple, list):
        return type(tree)([_mapped(function, item) for item in tree])
    if isinstance(tree, dict):
        return {key: _mapped(function, value) for key, value in tree.items()}
    return tree_map(function, tree) if isinstance(tree, tuple) else function(tree)


def _wrap(wrapped: dict[int, DeviceTensor], found: Any) -> Any:
    if not isinstance(found, torch.Tensor):
        return found
    before = wrapped.get(id(found))  # an operation in place returns its argument
    if before is None:
        return DeviceTensor(found)
    if before.shape != found.shape or before.stride() != found.stride():
        torch.Tensor.data.__set__(before, DeviceTensor(found))  # copies the new shape
    return before


def _cross(
    name: str, args: tuple[Any, ...], kwargs: dict[str, Any], target: torch.device | None
) -> None:
    """Record a copy from one device to the other."""
    if name == "_to_copy":
        to_host = target is not None and target.type == "cpu"
        crosses = to_host == isinstance(args[0], DeviceTensor)
    else:
        to_host = not isinstance(args[0], DeviceTensor)
        crosses = to_host == isinstance(args[1], DeviceTensor)
    if crosses:
        waits = not (kwargs.get("non_blocking") or (name == "copy_" and args[2:] == (True,)))
        _note("read" if to_host else "upload" if waits else "queued", name)


def _refuse_mixture(
    op: Any,
    name: str,
    args: tuple[Any, ...],
    inside: list[DeviceTensor],
    outside: list[torch.Tensor],
) -> None:
    if not inside or not outside:
        return
    indices = _indices(name, args) if isinstance(args[0], DeviceTensor) else []
    uploaded = [t for t in outside if any(t is i for i in indices)]
    others = [t for t in outside if not any(t is i for i in uploaded)]
    scalars = torch.Tag.pointwise in op.tags or name in SCALAR
    written = op._schema.arguments[0].alias_info is not None
    if any(t.dim() > 0 or not scalars or (written and t is args[0]) for t in others):
        raise RuntimeError(
            f"Expected all tensors to be on the same device, but found at least two devices,"
            f" {device()} and cpu (in {op})"
        )
    for _ in uploaded:
        _note("upload", name)


def _indices(name: str, args: tuple[Any, ...]) -> list[torch.Tensor]:
    return [i for i in args[1] if i is not None] if name in INDEXING else []


def _count_waits(name: str, args: tuple[Any, ...]) -> None:
    if name in WAITS:
        _note("read", name)
    masks = [
        i
        for i in _indices(name, args)
        if isinstance(i, DeviceTensor) and i.dtype in (torch.bool, torch.uint8)
    ]
    # PyTorch fills with a scalar of the host without the positions: `x[mask] = 0`
    fills = name.startswith(("index_put", "_index_put")) and (
        not isinstance(args[2], DeviceTensor) and args[2].numel() == 1 and len(masks) == 1
    )
    for _ in () if fills else masks:
        _note("read", f"{name} with a mask")


def refuse_generator(name: str, leaves: list[Any], kind: str) -> None:
    """Raise an error if a generator among the arguments draws on another device."""
    for generator in (g for g in leaves if isinstance(g, torch._C.Generator)):
        # Operations receive another Python object around the same generator.
        drawn = NAME if generator._cdata in GENERATORS else generator.device.type
        if drawn != kind:
            raise RuntimeError(
                f"Expected a '{kind}' device type for generator but found '{drawn}' (in {name})"
            )


class Generator(torch._C.Generator):
    """Replaces `torch.Generator`: also generators of the emulated device.

    They draw what a CPU generator draws.
    """

    place: torch.device

    def __new__(cls, device: Any = "cpu") -> "Generator":
        place = torch.device(device)
        found = super().__new__(cls, device="cpu" if place.type == NAME else place)
        found.place = place
        if place.type == NAME:
            GENERATORS[found._cdata] = found
        return found

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        """Where it draws."""
        return self.place


GENERATORS: dict[int, Generator] = {}  # those of the emulated device, by address
