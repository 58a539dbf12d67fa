"""BatchNorm over the shares of several processes equals nn.BatchNorm over the whole batch."""

from pathlib import Path

import pytest
import torch
from members import run_members
from torch import Tensor, nn

from runner.engine.local_messages import connect
from runner.engine.messages import CollectiveMessages
from runner.engine.shared_batchnorm import SharedBatchNorm, share_statistics

PROCESSES = 3
# Images of a batch: even shares, uneven shares, and fewer than processes
CASES = {"even": (6, 4, 3, 3), "uneven": (7, 4, 3, 3), "few": (2, 4, 3, 3), "vectors": (5, 4)}


def layer(shape: tuple[int, ...], affine: bool = True) -> nn.Module:
    torch.manual_seed(1)
    kind = nn.BatchNorm2d if len(shape) == 4 else nn.BatchNorm1d
    own = kind(shape[1], momentum=0.3, affine=affine)
    if affine:
        nn.init.normal_(own.weight)
        nn.init.normal_(own.bias)
    return nn.Sequential(own)


def inputs(shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """A batch and the gradients of its outputs; the mean is far from 0, the deviation small."""
    rng = torch.Generator().manual_seed(0)
    return torch.randn(shape, generator=rng) * 0.1 + 3, torch.randn(shape, generator=rng)


def results(net: nn.Module, x: Tensor, grads: Tensor) -> dict[str, Tensor]:
    """Outputs, gradients and running statistics after two steps of training."""
    x = x.clone().requires_grad_()
    for _ in range(2):
        net.zero_grad()
        x.grad = None
        y = net(x)
        torch.autograd.backward(y, grads)
    assert x.grad is not None
    own = {f"grad {name}": p.grad for name, p in net.named_parameters() if p.grad is not None}
    state = {name: t.detach() for name, t in net.state_dict().items()}
    return {"y": y.detach(), "grad x": x.grad, **own, **state}


def member(rank: int, size: int, folder: Path) -> None:
    found, direct = {}, connect(rank, size)
    assert direct is not None
    for name, shape in CASES.items():
        for affine in (True, False):
            for messages in (direct, CollectiveMessages()):
                net = layer(shape, affine)
                share_statistics(net, messages)
                x, grads = (whole.tensor_split(size)[rank] for whole in inputs(shape))
                found[name, affine, messages is direct] = results(net, x, grads)
    torch.save(found, folder / f"{rank}.pt")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[tuple[str, bool, bool], dict]]:
    folder = tmp_path_factory.mktemp("shares")
    run_members(member, PROCESSES, folder)
    return [torch.load(folder / f"{rank}.pt") for rank in range(PROCESSES)]


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("name", CASES)
def test_shares_have_outputs_gradients_and_statistics_of_the_whole_batch(
    found: list[dict[tuple[str, bool, bool], dict[str, Tensor]]], name: str, affine: bool
) -> None:
    whole = results(layer(CASES[name], affine).double(), *(t.double() for t in inputs(CASES[name])))
    parts = [each[name, affine, True] for each in found]
    for part, each in zip(parts, found, strict=True):
        by_group = each[name, affine, False]
        assert all(torch.equal(part[key], by_group[key]) for key in part)
    assert whole.keys() == parts[0].keys()
    for key, expected in whole.items():
        if key in ("y", "grad x"):  # of a process' own examples
            ours = torch.cat([part[key] for part in parts])
        elif key.startswith("grad"):  # sums over a process' examples, which are then added
            ours = torch.stack([part[key] for part in parts]).sum(0)
        else:  # running statistics are equal in all processes
            assert all(torch.equal(part[key], parts[0][key]) for part in parts)
            ours = parts[0][key]
        torch.testing.assert_close(ours.double(), expected.double(), rtol=2e-4, atol=2e-4)


def test_layers_keep_their_tensors_names_and_mode() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 1), nn.Sequential(nn.BatchNorm2d(2), nn.ReLU())).eval()
    before = dict(net.named_parameters()) | dict(net.named_buffers())
    share_statistics(net, CollectiveMessages())
    after = dict(net.named_parameters()) | dict(net.named_buffers())
    assert before.keys() == after.keys()
    assert all(after[name] is tensor for name, tensor in before.items())
    assert isinstance(net[1][0], SharedBatchNorm) and not net[1][0].training
    x = torch.randn(3, 1, 2, 2)
    assert torch.isfinite(net(x)).all()  # evaluation needs no other process
