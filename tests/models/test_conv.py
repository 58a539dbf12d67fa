"""3x3 convolutions against PyTorch's, also on 2x2 images: values, first and second derivatives."""

import pytest
import torch
from torch import Generator, Tensor, nn
from torch.func import functional_call, jvp
from torch.nn import functional as F

from models.conv import WIDE, Conv3x3


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [(2, 2), (1, 2), (2, 1), (1, 1), (3, 2), (4, 4)])
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_values_and_gradients_of_both_orders_equal_pytorchs(
    size: tuple[int, int], stride: int, bias: bool, layout: torch.memory_format
) -> None:
    ours = Conv3x3(3, 5, stride=stride, bias=bias).double()
    theirs = nn.Conv2d(3, 5, 3, stride=stride, padding=1, bias=bias).double()
    assert ours.extra_repr() == theirs.extra_repr()
    found = []
    for conv in (ours, theirs):
        for seed, p in enumerate(conv.parameters()):
            p.data.copy_(drawn(*p.shape, seed=seed))
        x = drawn(4, 3, *size, seed=9).contiguous(memory_format=layout).requires_grad_()
        out = conv(x)
        inputs = [x, *conv.parameters()]
        first = torch.autograd.grad((out**3).sum(), inputs, create_graph=True)
        second = torch.autograd.grad(sum((g**2).sum() for g in first), inputs)
        found.append([out, *first, *second])
    for one, other in zip(*found, strict=True):
        assert one.shape == other.shape
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-9)


def test_a_two_by_two_image_equals_an_example_worked_by_hand() -> None:
    # Taps 1 to 9 in reading order on the image 1 10 / 100 1000. An output pixel is the sum over the
    # taps that lie on the image.
    conv = Conv3x3(1, 1)
    conv.weight.data.copy_(torch.arange(1.0, 10).reshape(1, 1, 3, 3))
    image = torch.tensor([[1.0, 10.0], [100.0, 1000.0]])[None, None]
    assert conv(image)[0, 0].tolist() == [
        [5 + 60 + 800 + 9000, 4 + 50 + 700 + 8000],
        [2 + 30 + 500 + 6000, 1 + 20 + 400 + 5000],
    ]


def test_functional_calls_forward_derivatives_and_autocast_work_on_two_by_two() -> None:
    conv, x = Conv3x3(3, 5), drawn(4, 3, 2, 2, seed=1).float()
    weight, move = drawn(5, 3, 3, 3, seed=2).float(), drawn(5, 3, 3, 3, seed=3).float()
    out, change = jvp(lambda w: functional_call(conv, {"weight": w}, (x,)), (weight,), (move,))
    torch.testing.assert_close(out, F.conv2d(x, weight, padding=1))
    torch.testing.assert_close(change, F.conv2d(x, move, padding=1))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert conv(x).dtype == torch.bfloat16


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("size", [(1, 3), (3, 2), (3, 3), (4, 4)])
def test_a_wide_layer_on_a_tiny_image_equals_pytorchs_in_bf16(
    size: tuple[int, int], bias: bool
) -> None:
    conv = Conv3x3(WIDE, 5, bias=bias)
    inputs = [
        drawn(4, WIDE, *size, seed=9),
        drawn(5, WIDE, 3, 3, seed=1),
        *([drawn(5, seed=2)] if bias else []),
    ]
    # Small whole numbers: bf16 represents them exactly and float32 their sums, so only the results
    # are rounded.
    ours = [t.round().float().requires_grad_() for t in inputs]
    theirs = [t.detach().double().requires_grad_() for t in ours]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = functional_call(
            conv, dict(zip(("weight", "bias"), ours[1:], strict=False)), (ours[0],)
        )
    expected = F.conv2d(*theirs, padding=1)
    assert out.dtype == torch.bfloat16
    assert out.is_contiguous(memory_format=torch.channels_last)
    weighing = drawn(*out.shape, seed=3).round()
    found = [out, *torch.autograd.grad(out, ours, weighing.bfloat16())]
    for one, other in zip(
        found, [expected, *torch.autograd.grad(expected, theirs, weighing)], strict=True
    ):
        assert one.shape == other.shape
        # half a unit in the last place of bf16 is 2**-9
        torch.testing.assert_close(one.double(), other.detach(), rtol=2**-8, atol=0)
