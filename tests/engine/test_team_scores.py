"""Scores and Hessian products of two and three processes equal those of one, in float64.

In float64, sums in another order differ by 1e-13; a fault, such as batch statistics of a part in
place of the whole, shows as a difference of per cents.
"""

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from members import run_members
from torch import Generator, Tensor, nn

from pruners.base import Batch, full_masks
from pruners.curvature.hessian import HessianOperator
from pruners.curvature.options import HessianOptions
from pruners.divided import Moments
from pruners.scores.grasp import Grasp
from pruners.scores.obd import Obd
from pruners.scores.snip import Snip
from pruners.scores.synflow import SynFlow
from pruners.team import ALONE, Team
from runner.engine.distributed import ProcessGroup

UNEVEN = (7, 5)  # images of the two batches: uneven parts
FEW = (2, 2)  # fewer than three processes: one part is empty
SIZES = (2, 3)


class Net(nn.Module):
    """Two convolutions with BatchNorm and a shortcut around the second."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.bn1, self.bn2 = nn.BatchNorm2d(4), nn.BatchNorm2d(4)
        self.out = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.bn1(self.first(x)))
        x = x + torch.tanh(self.bn2(self.second(x)))
        logits: Tensor = self.out(x.mean((2, 3)))
        return logits


def net() -> Net:
    torch.manual_seed(0)
    model = Net().double()
    for bn in (model.bn1, model.bn2):
        nn.init.normal_(bn.weight)
        nn.init.normal_(bn.running_mean)  # type: ignore[arg-type]
    return model


def data(sizes: tuple[int, ...]) -> list[Batch]:
    """Images whose mean drifts: every part of a batch has statistics of its own."""
    rng, found = Generator().manual_seed(1), []
    for size in sizes:
        drift = torch.linspace(-1, 2, size, dtype=torch.float64)[:, None, None, None]
        x = torch.randn(size, 3, 5, 5, generator=rng, dtype=torch.float64)
        found.append((x + drift, torch.randint(3, (size,), generator=rng)))
    return found


@pytest.mark.parametrize("shape", [(3, 2, 2, 3), (4, 3), (1, 2, 2)])
def test_moments_and_their_derivatives_are_those_of_var_mean(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape, generator=Generator().manual_seed(3), dtype=torch.float64) + 1
    x.requires_grad_()
    dims = [d for d in range(x.dim()) if d != 1]
    expected = torch.var_mean(x, dims, correction=0)[::-1]
    torch.testing.assert_close(Moments.apply(x), expected)
    assert torch.autograd.gradcheck(Moments.apply, x)
    assert torch.autograd.gradgradcheck(Moments.apply, x)


def scored(score: Callable[..., dict[str, Tensor]], team: Team, sizes: tuple[int, ...]) -> Tensor:
    model, memory = net(), float("inf")
    before = copy.deepcopy(model.state_dict())
    rng = Generator().manual_seed(2)
    found = score(model, full_masks(model), data(sizes), F.cross_entropy, rng, memory, team)
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())
    return torch.cat([t.flatten() for t in found.values()])


def cut(score: Callable[..., dict[str, Tensor]], team: Team, memory: float) -> Tensor:
    """The score under a bound that forces batches to be computed in chunks."""
    model, rng = net(), Generator().manual_seed(2)
    found = score(model, full_masks(model), data((24,)), F.cross_entropy, rng, memory, team)
    return torch.cat([t.flatten() for t in found.values()])


def products(team: Team, mode: str, size: int) -> Tensor:
    """H v, the gradient at another point, and H v there."""
    options, model = HessianOptions(dtype="float64", mode=mode, batch_size=size), net()
    loss = F.cross_entropy
    h = HessianOperator(model, full_masks(model), data(UNEVEN), loss, options, team=team)
    v = torch.randn(h.dimension, generator=Generator().manual_seed(3), dtype=torch.float64)
    there = h.point + 0.1 * v
    return torch.cat([h.matvec(v), h.gradient(there), h.at(there).matvec(v)])


# conditions: name -> what a process computes
WORK: dict[str, Callable[[Team], Tensor]] = {
    **{
        f"{name}, {bn}, {sizes}": lambda team, f=f, sizes=sizes: scored(f, team, sizes)
        for sizes in (UNEVEN, FEW)
        for bn in ("train", "eval")
        for name, f in {
            "SNIP": Snip(batches=2, bn=bn),  # type: ignore[arg-type]
            "GraSP": Grasp(batches=2, bn=bn, temperature=2.0),  # type: ignore[arg-type]
        }.items()
    },
    **{
        f"{f}, {sizes}": lambda team, f=f, sizes=sizes: scored(f, team, sizes)
        for sizes in (UNEVEN, FEW)
        for f in (
            SynFlow(batches=2),
            Obd("ggn"),
            Obd("ggn_rademacher", draws=2),
            Obd("mc_fisher", draws=2),
        )
    },
    "GraSP by chunks": lambda team: cut(Grasp(temperature=2.0), team, 30_000.0),
    "SNIP by chunks": lambda team: cut(Snip(bn="train"), team, 15_000.0),
    "Hessian": lambda team: products(team, "eval", 4),
    "Hessian, batch statistics": lambda team: products(team, "train", 5),
}


def member(rank: int, size: int, folder: Path) -> None:
    found = {name: work(ProcessGroup(rank, size)) for name, work in WORK.items()}
    torch.save(found, folder / f"{size}-{rank}.pt")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[int, list[dict]]:
    folder = tmp_path_factory.mktemp("scores")
    for size in SIZES:
        run_members(member, size, folder)
    return {
        size: [torch.load(folder / f"{size}-{rank}.pt") for rank in range(size)] for size in SIZES
    }


@pytest.mark.parametrize("name", WORK)
@pytest.mark.parametrize("size", SIZES)
def test_processes_have_the_sums_of_one_and_all_the_same_bits(
    size: int, name: str, found: dict[int, list[dict[str, Tensor]]]
) -> None:
    alone = WORK[name](ALONE)
    first, *others = (each[name] for each in found[size])
    assert all(torch.equal(first, other) for other in others)
    assert alone.isfinite().all() and float(alone.abs().max()) > 1e-6
    torch.testing.assert_close(first, alone, rtol=1e-9, atol=1e-11 * float(alone.abs().max()))


def test_a_part_normalised_by_itself_would_be_noticed() -> None:
    """The fault that the test above looks for is not within its tolerance."""
    model, (x, y), snip = net(), data((7,))[0], Snip(bn="train")
    whole, parts = (
        sum(
            snip(model, full_masks(model), [(x[own], y[own])], F.cross_entropy, Generator())[
                "first.weight"
            ]
            * len(y[own])
            / len(y)
            for own in cuts
        )
        for cuts in ([slice(None)], [slice(4), slice(4, None)])
    )
    assert isinstance(whole, Tensor) and isinstance(parts, Tensor)
    assert (whole - parts).abs().max() > 0.01 * whole.abs().max()
