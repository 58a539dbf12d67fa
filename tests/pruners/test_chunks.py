"""Scores under a bound on memory: parts give the results of the whole batch, BatchNorm included."""

import copy
from collections.abc import Callable

import pytest
import torch
from small_nets import allocated, images, mlp, seeded, state_check
from torch import Tensor, nn
from torch.nn import functional as F

from pruners.base import Batch, full_masks
from pruners.memory import GIB, SavedBytes, tensors_of
from pruners.scores import chunks
from pruners.scores.gradients import normalised_together
from pruners.scores.grasp import Grasp
from pruners.scores.obd import Obd
from pruners.scores.snip import Snip
from pruners.scores.synflow import SynFlow

SCORES = {
    "snip": Snip(bn="train", batches=2),
    "snip eval": Snip(bn="eval", batches=2),
    "grasp": Grasp(bn="train", batches=2, temperature=1.0),
    "grasp eval": Grasp(bn="eval", batches=2, temperature=1.0),
    "grasp in chunks": Grasp(bn="train", batches=2, chunk=15, temperature=1.0),
    "obd": Obd("ggn_rademacher"),
    "obd of labels": Obd("mc_fisher"),
    "obd of all classes": Obd(estimator="ggn"),
    "hutchinson": Obd(estimator="hutchinson", probes=2),
    "synflow on data": SynFlow(batches=2),
}


class Residual(nn.Module):
    """Two convolutions with BatchNorm, a shortcut and a linear layer, for 8x8 grey images."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4)
        self.conv2, self.bn2 = nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        found: Tensor = self.fc(F.relu(self.bn2(self.conv2(x)) + x).mean((2, 3)))
        return found


def moved(seed: int) -> nn.Module:
    """A net with BatchNorm on every path, whose channels have means and scales of their own."""
    torch.manual_seed(seed)
    net, rng = Residual().double(), seeded(seed)
    with torch.no_grad():
        for layer in net.modules():
            if isinstance(layer, nn.BatchNorm2d):
                for tensor in (layer.weight, layer.bias, layer.running_mean, layer.running_var):
                    assert tensor is not None
                    tensor.copy_(torch.rand(tensor.shape, generator=rng) + 0.5)
    return net


def data(sizes: tuple[int, ...]) -> list[Batch]:
    """Images whose mean drifts, so that every chunk has other statistics."""
    found = []
    for i, size in enumerate(sizes):
        x, y = images(size, seed=i)
        found.append((x.double() + torch.linspace(-1, 2, size)[:, None, None, None], y))
    return found


def scores(
    score: object, net: nn.Module, batches: list[Batch], memory: float = float("inf")
) -> dict[str, Tensor]:
    assert isinstance(score, Callable)  # type: ignore[arg-type]
    found: dict[str, Tensor] = score(  # type: ignore[operator]
        net, full_masks(net), batches, F.cross_entropy, seeded(), memory
    )
    return found


def graph_bytes(net: nn.Module, batch: Batch, products: bool) -> int:
    """Bytes that autograd saves for the loss of a batch, and for its gradient with `products`."""
    net = copy.deepcopy(net)  # whose running statistics change
    with SavedBytes([*tensors_of(net), *batch]) as saved:
        value = F.cross_entropy(net(batch[0]), batch[1])
        if products:
            torch.autograd.grad(value, list(net.parameters()), create_graph=True)
    return saved.peak


def closely(found: dict[str, Tensor], whole: dict[str, Tensor], rounding: float) -> None:
    """Check that scores agree up to `rounding` of the largest of their layer."""
    for layer, expected in whole.items():
        assert (found[layer] - expected).abs().max() <= rounding * expected.abs().max(), layer


@pytest.mark.parametrize("name", SCORES)
def test_parts_give_the_score_of_the_whole_batch_in_float64(name: str) -> None:
    net, batches = moved(3), data((30, 20))
    whole = scores(SCORES[name], net, batches)
    unchanged = state_check(net)
    memory = graph_bytes(net, batches[0], products=name.startswith("grasp")) / 3
    memory /= 2 if name == "hutchinson" else 1  # folds BatchNorm and computes in float32
    found = scores(SCORES[name], net, batches, memory)
    assert any(not torch.equal(found[layer], whole[layer]) for layer in whole)  # it was cut
    closely(found, whole, 1e-5 if name == "hutchinson" else 1e-13)  # its products are in float32
    assert unchanged()


def test_chunks_of_their_own_statistics_give_another_score() -> None:
    net, ((x, y), *_) = moved(3), data((11,))
    whole = scores(Grasp(temperature=1.0), net, [(x, y)])
    cut = scores(Grasp(temperature=1.0, chunk=4), net, [(x, y)])
    smaller = scores(
        Grasp(temperature=1.0, batches=3), net, list(zip(x.split(4), y.split(4), strict=True))
    )
    name = next(iter(whole))
    assert (cut[name] - whole[name]).abs().max() > 0.01 * whole[name].abs().max()
    assert all(torch.equal(cut[n], smaller[n]) for n in whole)
    snip = scores(Snip(chunk=4), net, [(x, y)])
    batches = list(zip(x.split(4), y.split(4), strict=True))
    assert all(torch.equal(snip[n], s) for n, s in scores(Snip(batches=3), net, batches).items())


@pytest.mark.parametrize(
    ("images_", "chunk", "sizes"),
    [(250, 20, [20] * 12 + [10]), (9, 4, [4, 5]), (5, 4, [5]), (4, 4, [4]), (3, 4, [3])],
)
def test_no_chunk_has_a_single_image(images_: int, chunk: int, sizes: list[int]) -> None:
    x, y = images(images_)
    parts = list(normalised_together([(x, y)], chunk))
    assert [len(labels) for _, labels in parts] == sizes
    assert torch.equal(torch.cat([some for some, _ in parts]), x)


@pytest.mark.parametrize("score", [Snip, Grasp])
def test_invalid_chunks_are_refused_with_what_to_set(score: type) -> None:
    with pytest.raises(ValueError, match=r"method\.score\.chunk=1 must be at least 2.*null"):
        score(chunk=1)
    with pytest.raises(ValueError, match=r"chunk=20: with method\.score\.bn=eval .*env\.memory_gb"):
        score(chunk=20, bn="eval")


@pytest.mark.parametrize("name", ["snip", "grasp"])
def test_a_batch_within_the_bound_is_computed_at_once_to_the_bit(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, batches = moved(0), data((12,))
    whole = scores(SCORES[name], net, batches)
    taken = graph_bytes(net, batches[0], products=name == "grasp")

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("chunks were computed")

    monkeypatch.setattr(chunks.LargeBatch, "__init__", refuse)
    found = scores(SCORES[name], net, batches, taken * 1.2)  # of products, <g, gradient> is part
    assert all(torch.equal(found[layer], s) for layer, s in whole.items())
    with pytest.raises(AssertionError, match="chunks were computed"):
        scores(SCORES[name], net, batches, taken * 0.8)


@pytest.mark.parametrize("name", [name for name in SCORES if name[:3] != "obd"])
@pytest.mark.parametrize("parts", [1.5, 4])
def test_no_graph_of_a_score_exceeds_the_bound(name: str, parts: float) -> None:
    net, batches = moved(1), data((60, 30))
    whole = graph_bytes(net, batches[0], products=name.startswith(("grasp", "hutch")))
    own = sum(t.numel() * t.element_size() for t in tensors_of(net))  # scores that copy the net
    with SavedBytes([*tensors_of(net), *(t for batch in batches for t in batch)]) as saved:
        scores(SCORES[name], net, batches, whole / parts)
    assert saved.peak <= whole / parts + own
    assert saved.peak > whole / parts / 4 or name == "hutchinson"  # float32, running statistics


@pytest.mark.parametrize("estimator", ["ggn_rademacher", "mc_fisher", "ggn"])
def test_squared_gradients_allocate_no_more_than_twice_the_bound(estimator: str) -> None:
    # torch.func refuses hooks, so the profiler counts everything that is allocated; by default the
    # bound is half of what is free, and the other half is for what no graph holds
    net, batches = moved(1), data((64,))
    score = Obd(estimator=estimator)  # type: ignore[arg-type]
    own = 30_000  # the scores, the softmax and kernels
    for memory in (1e5, 4e5):
        taken = allocated(lambda m=memory: scores(score, net, batches, m))
        assert memory / 2 < taken < 2.1 * memory + own


@pytest.mark.parametrize("name", SCORES)
def test_a_bound_below_one_image_is_refused_with_one_that_suffices(name: str) -> None:
    net, batches = moved(2), data((16, 8))
    with pytest.raises(ValueError, match=r"env\.memory_gb=1e-06 is not enough") as error:
        scores(SCORES[name], net, batches, 1e-6 * GIB)
    suggested = float(str(error.value).partition("set env.memory_gb=")[2].split()[0])
    found = scores(SCORES[name], net, batches, max(suggested, enough(name, net, batches)) * GIB)
    closely(found, scores(SCORES[name], net, batches), 1e-5 if name == "hutchinson" else 1e-13)


def enough(name: str, net: nn.Module, batches: list[Batch]) -> float:
    """GiB of the next refusal: a second computation of the score may need more than the first."""
    memory = 1e-6
    while True:
        try:
            scores(SCORES[name], net, batches, memory * GIB)
        except ValueError as error:
            memory = float(str(error).partition("set env.memory_gb=")[2].split()[0])
        else:
            return memory


def test_layers_that_draw_numbers_draw_the_same_in_every_pass() -> None:
    net = nn.Sequential(
        nn.Flatten(), nn.Linear(64, 12), nn.BatchNorm1d(12), nn.Dropout(0.5), nn.Linear(12, 10)
    ).double()
    batches = data((110,))
    memory = graph_bytes(net, batches[0], products=True) / 3
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, other = (scores(Grasp(temperature=1.0), copy.deepcopy(net), batches, memory) for _ in "ab")
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_net_without_batchnorm_takes_one_pass_per_derivative() -> None:
    net, batches = mlp().double(), data((100,))
    seen: list[int] = []
    whole = scores(Grasp(temperature=1.0), net, batches)
    memory = graph_bytes(net, batches[0], products=True) * 0.7
    first = next(m for m in net.modules() if isinstance(m, nn.Linear))
    first.register_forward_hook(lambda module, inputs, out: seen.append(len(inputs[0])))
    closely(scores(Grasp(temperature=1.0), net, batches, memory), whole, 1e-13)
    # beside measurements on 2 and 4 images, and a look at the first chunk of each derivative
    assert 200 < sum(size for size in seen if size > 4) < 300


def test_graphs_are_measured_as_they_are_held() -> None:
    x, w = torch.ones(10, 4), torch.ones(4, 3, requires_grad=True)
    with SavedBytes([x, w]) as saved:
        hidden = (x @ w).exp()  # saves its result, 10 x 3 float32, twice as a view
        square = hidden[:5].square()
        assert (saved.now, saved.peak) == (120, 120)
        del square
        hidden.sum().backward()
        del hidden
    assert (saved.now, saved.peak) == (0, 120)
