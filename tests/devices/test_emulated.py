"""The emulated device itself: what it refuses, what it counts, what it computes."""

import copy
import io
import sys
from collections.abc import Callable

import pytest
import torch
from emulated import DeviceTensor, Generator, Transfer, device, recorded
from emulated_process import on_emulated_device
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F

from runner.engine.optim import Sgd


def found(act: Callable[[], object]) -> list[str]:
    """Kinds of the transfers that `act` causes."""
    with recorded() as transfers:
        act()
    return [t.kind for t in transfers]


@on_emulated_device
def test_tensors_report_the_device_in_python_and_to_pytorch() -> None:
    x = torch.arange(6.0).view(2, 3).to(device())
    assert isinstance(x, DeviceTensor)
    assert (x.device, x.is_cpu, x.is_cuda) == (device(), False, False)
    for y in (x + 1, x[0], x.T, x.double(), x.to(memory_format=torch.contiguous_format), x.clone()):
        assert y.device == device()
    assert x.to("cpu").device == x.cpu().device == torch.device("cpu")
    assert torch.ones(2).to(x).device == device()


@on_emulated_device
def test_factories_put_tensors_where_they_are_told() -> None:
    there = [
        torch.zeros(2, device=device()),
        torch.tensor([1, 2], device=device()),
        torch.arange(3, device=device()),
        torch.full((2,), 0.5, device=device()),
        torch.randn(2, device=device()),
        torch.randperm(4, device=device()),
        torch.eye(2, device=device()),
        torch.tril_indices(3, 3, device=device()),
    ]
    x = there[0]
    there += [torch.zeros_like(x), torch.rand_like(x), x.new_tensor([1.0]), x.new_zeros(3)]
    there += [F.one_hot(torch.tensor([0, 2], device=device()), 3)]
    assert all(isinstance(t, DeviceTensor) and t.device == device() for t in there)
    assert there[1].tolist() == [1, 2]
    assert type(torch.zeros(2)) is type(torch.zeros_like(x, device="cpu")) is Tensor


MIXTURES: dict[str, Callable[[Tensor, Tensor], object]] = {
    "add": lambda x, h: x + h,
    "add the other way": lambda x, h: h + x,
    "add in place": lambda x, h: x.add_(h),
    "into the host's": lambda x, h: h.add_(x),
    "into the host's scalar": lambda x, h: h.sum().add_(x.sum()),
    "cat": lambda x, h: torch.cat([x, h]),
    "stack with a scalar": lambda x, h: torch.stack([x.sum(), h.sum()]),
    "where": lambda x, h: torch.where(x > 0, x, h),
    "masked_fill": lambda x, h: x.masked_fill(h > 0, 0.0),
    "compare": lambda x, h: x == h,
    "equal": lambda x, h: torch.equal(x, h),
    "matmul": lambda x, h: x @ h,
    "linear": lambda x, h: F.linear(x, h),
    "loss": lambda x, h: F.cross_entropy(x, h[0].long()),
    "index the host's": lambda x, h: h[x.long()],
    "index_add": lambda x, h: x.index_add_(0, h[0].long(), x),
    "gather": lambda x, h: x.gather(0, h.long()),
    "put": lambda x, h: x.__setitem__(x > 0, h.flatten()),
    "out": lambda x, h: torch.add(x, x, out=h),
    "foreach": lambda x, h: torch._foreach_add([x], [h]),
}


@on_emulated_device
def test_operations_that_mix_devices_raise() -> None:
    for name, mix in MIXTURES.items():
        with pytest.raises((RuntimeError, ValueError), match="device|cpu"):
            mix(torch.ones(2, 2, device=device()), torch.ones(2, 2))
            raise AssertionError(name)


@on_emulated_device
def test_scalars_of_the_host_are_accepted_where_cuda_accepts_them() -> None:
    x = torch.arange(3.0, device=device())
    half = torch.tensor(0.5)
    for y in (x * half, half * x, torch.where(x > 1, x, half), x.masked_fill(x > 1, half)):
        assert y.device == device()
    assert found(lambda: x.mul_(half)) == []
    assert x.tolist() == [0.0, 0.5, 1.0]


COPIES: dict[str, tuple[Callable[[Tensor], object], list[str]]] = {
    "cpu": (lambda x: x.cpu(), ["read"]),
    "to the host": (lambda x: x.to("cpu"), ["read"]),
    "to the host, another type": (lambda x: x.to("cpu", torch.float64), ["read"]),
    "item": (lambda x: x[0].item(), ["read"]),
    "float": (lambda x: float(x[0]), ["read"]),
    "int": (lambda x: int(x[0]), ["read"]),
    "index": (lambda x: range(5)[x[0].long()], ["read"]),
    "bool": (lambda x: bool(x[0]), ["read"]),
    "branch": (lambda x: 1 if (x > 0).any() else 2, ["read"]),
    "comparison": (lambda x: max(x[0], x[1]), ["read"]),
    "format": (lambda x: f"{x[0]:.2f}", ["read"]),
    "tolist": (lambda x: x.tolist(), ["read"]),
    "iterate over values": (lambda x: [float(v) for v in x], ["read"] * 3),
    "numpy by force": (lambda x: x.numpy(force=True), ["read"]),
    "nonzero": (lambda x: x.nonzero(), ["read"]),
    "argwhere": (lambda x: torch.argwhere(x), ["read"]),
    "where": (lambda x: torch.where(x > 0), ["read"]),
    "masked_select": (lambda x: x.masked_select(x > 0), ["read"]),
    "by a mask": (lambda x: x[x > 0], ["read"]),
    "values into a mask": (lambda x: x.__setitem__(x > 0, x[:2].clone()), ["read"]),
    "equal": (lambda x: torch.equal(x, x.clone()), ["read"]),
    "allclose": (lambda x: torch.allclose(x, x), ["read"]),
    "unique": (lambda x: x.unique(), ["read"]),
    "bincount": (lambda x: x.long().bincount(), ["read"]),
    "eigenvalues": (lambda x: torch.linalg.eigh(torch.diag(x)), ["read"]),
    "host tensor filled": (lambda x: torch.empty(3).copy_(x), ["read"]),
    "to the device": (lambda x: torch.ones(3).to(device()), ["upload"]),
    "made of numbers": (lambda x: torch.tensor([1.0], device=device()), ["upload"]),
    "by host indices": (lambda x: x[torch.tensor([0, 1])], ["upload"]),
    "into host indices": (lambda x: x.__setitem__(torch.tensor([0, 1]), 1.0), ["upload"]),
    "from the host": (lambda x: x.copy_(torch.ones(3)), ["upload"]),
    # and no copy:
    "by indices": (lambda x: x[torch.arange(2, device=device())], []),
    "a number into a mask": (lambda x: x.__setitem__(x > 0, 1.0), []),
    "masked_fill": (lambda x: x.masked_fill_(x > 0, 0.0), []),
    "slice": (lambda x: x[1:], []),
    "sum": (lambda x: x.sum() / len(x), []),
    "topk": (lambda x: torch.topk(x, 2), []),
    "sort": (lambda x: x.sort(), []),
    "another type": (lambda x: x.to(torch.float64), []),
    "where it is": (lambda x: x.to(device()), []),
    "where another is": (lambda x: x.to(x[:1]), []),
    "copy": (lambda x: copy.deepcopy(x), []),
    "on the device": (lambda x: x.copy_(torch.ones_like(x)), []),
    "a constant": (lambda x: torch.full((3,), 2.0, device=device()), []),
    "shape": (lambda x: (len(x), x.shape, x.numel(), x.dtype, x.dim()), []),
    "chunks": (lambda x: x.split(2), []),
}


@on_emulated_device
def test_copies_between_host_and_device_are_counted() -> None:
    for name, (act, expected) in COPIES.items():
        x = torch.tensor([1.0, 0.0, 2.0], device=device())
        assert found(lambda: act(x)) == expected, name  # noqa: B023
    with pytest.raises(TypeError, match="Use Tensor.cpu()"):
        torch.ones(2, device=device()).numpy()


@on_emulated_device
def test_a_transfer_names_the_line_that_causes_it() -> None:
    x = torch.ones(2, device=device())
    with recorded() as transfers:
        line = this_line() + 1
        float(x[0])
    assert transfers == [
        Transfer("read", "_local_scalar_dense", f"tests/devices/test_emulated.py:{line}")
    ]


def this_line() -> int:
    return sys._getframe(1).f_lineno


@on_emulated_device
def test_generators_draw_on_their_own_device_only() -> None:
    ours, hosts = torch.Generator(device()).manual_seed(1), torch.Generator().manual_seed(1)
    assert isinstance(ours, Generator)
    assert (ours.device, hosts.device) == (device(), torch.device("cpu"))
    drawn = torch.randn(4, device=device(), generator=ours)
    assert torch.equal(drawn.cpu(), torch.randn(4, generator=hosts))
    state = ours.get_state()
    after = torch.rand(2, device=device(), generator=ours)
    assert torch.equal(torch.rand(2, device=device(), generator=ours.set_state(state)), after)
    for draw in (
        lambda: torch.randn(4, device=device(), generator=hosts),
        lambda: torch.randperm(4, device=device(), generator=hosts),
        lambda: drawn.normal_(generator=hosts),
        lambda: drawn.abs().bernoulli(generator=hosts),
        lambda: torch.multinomial(drawn.abs(), 1, generator=hosts),
        lambda: torch.randn(4, generator=ours),
        lambda: torch.randint(4, (), generator=ours),
        lambda: torch.empty(4).uniform_(generator=ours),
    ):
        with pytest.raises(RuntimeError, match="device type for generator"):
            draw()


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3)
    )


def steps(model: nn.Module, place: torch.device, autocast: bool = False) -> list[Tensor]:
    """Parameters after three steps of SGD, computed with foreach where the device has it."""
    model.to(place)
    x, y = (t.to(place) for t in (torch.linspace(-1, 1, 80).view(5, 1, 4, 4), torch.arange(5) % 3))
    groups: list[dict[str, object]] = [{"params": list(model.parameters())}]
    opt = Sgd(groups, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01)
    for _ in range(3):
        with torch.autocast(place.type, torch.bfloat16, enabled=autocast):
            logits = model(x)
        assert logits.dtype == (torch.bfloat16 if autocast else torch.float32)
        F.cross_entropy(logits.float(), y).backward()
        opt.step()
        opt.zero_grad()
    return [*model.parameters(), *model.buffers()]


@on_emulated_device
def test_training_equals_the_hosts_bit_for_bit_and_copies_nothing() -> None:
    for autocast in (False, True):
        there, here = net(), net()
        with recorded() as transfers:
            a = steps(there, device(), autocast)
        assert {t.op for t in transfers} == {"copy_"}, "model and images go there, nothing returns"
        for x, y in zip(a, steps(here, torch.device("cpu"), autocast), strict=True):
            assert x.device == device()
            assert torch.equal(x.cpu(), y)


@on_emulated_device
def test_optimizers_take_their_foreach_path() -> None:
    weight = torch.ones(2, device=device(), requires_grad=True)
    weight.grad = torch.ones_like(weight)
    called = []
    original = torch._foreach_add_
    torch._foreach_add_ = lambda *args, **kwargs: called.append(1) or original(*args, **kwargs)
    Sgd([{"params": [weight]}], lr=0.5).step()
    assert called
    assert weight.tolist() == [0.5, 0.5]


@on_emulated_device
def test_function_transforms_see_the_device() -> None:
    model = net().eval().to(device())
    x = torch.linspace(-1, 1, 32, device=device()).view(2, 1, 4, 4)
    weights = {n: 2 * p.detach() for n, p in model.named_parameters()}
    assert functional_call(model, weights, (x,)).device == device()

    def loss(weights: dict[str, Tensor], image: Tensor) -> Tensor:
        return functional_call(model, weights, (image[None],)).square().sum()

    each = vmap(grad(loss), in_dims=(None, 0))(weights, x)
    alone = [grad(loss)(weights, image) for image in x]
    for name, values in each.items():
        assert values.device == device()
        assert torch.allclose(values, torch.stack([g[name] for g in alone]), atol=1e-6)
    norm = nn.BatchNorm2d(1, track_running_stats=False).to(device())
    assert vmap(lambda image: norm(image[None]))(x).device == device()
    # a gradient of a gradient: f = sum w^3, its Hessian times one is 6 w
    w = torch.tensor([1.0, 2.0], device=device(), requires_grad=True)
    (first,) = torch.autograd.grad((w**3).sum(), w, create_graph=True)
    assert torch.autograd.grad(first.sum(), w)[0].tolist() == [6.0, 12.0]


@on_emulated_device
def test_what_is_saved_loads_on_the_host() -> None:
    file = io.BytesIO()
    state = {"x": torch.arange(3.0, device=device()), "n": 1}
    assert found(lambda: torch.save(state, file)) == ["read"]
    file.seek(0)
    loaded = torch.load(file, map_location="cpu", weights_only=True)
    assert type(loaded["x"]) is Tensor and loaded["x"].tolist() == [0.0, 1.0, 2.0]
    model = net().to(device())
    assert found(lambda: model.load_state_dict(net().state_dict())) == ["upload"] * 9


@on_emulated_device
def test_views_share_their_values() -> None:
    x = torch.zeros(2, 3, device=device())
    x[0].add_(1)
    x.view(-1)[4] = 5
    x.T[2].mul_(2)
    assert x.tolist() == [[1, 1, 2], [0, 5, 0]]
    row = torch.arange(3, device=device())
    row.unsqueeze_(0).resize_(2, 3)
    assert (row.shape, row[0].tolist()) == ((2, 3), [0, 1, 2])
    images = torch.ones(2, 3, 4, 4, device=device()).to(memory_format=torch.channels_last)
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert images.stride() == images.cpu().stride()


def test_a_failure_in_the_process_fails_the_test() -> None:
    with pytest.raises(pytest.fail.Exception, match="AssertionError: of one = 1"):
        failing(one=1)


@on_emulated_device
def failing(one: int) -> None:
    raise AssertionError(f"of one = {one}")
