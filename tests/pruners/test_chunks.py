"""Scores of large batches: chunks give the results of the whole batch, BatchNorm included."""

import copy
from collections.abc import Callable

import pytest
import torch
from small_nets import images, mlp, resnet, seeded, state_check
from torch import Tensor, nn
from torch.nn import functional as F

from pruners.base import Batch, full_masks
from pruners.scores import chunks
from pruners.scores.grasp import Grasp
from pruners.scores.obd import Obd
from pruners.scores.snip import Snip

SCORES = {
    "snip": Snip(bn="train"),
    "snip eval": Snip(bn="eval"),
    "grasp eval": Grasp(bn="eval", temperature=1.0),
    "grasp": Grasp(bn="train", batches=2, temperature=1.0),
    "obd": Obd(),
    "hutchinson": Obd(estimator="hutchinson", probes=2),
}


def moved(seed: int) -> nn.Module:
    """A net with BatchNorm on every path, whose channels have means and scales of their own."""
    net, rng = resnet(seed).double(), seeded(seed)
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


def scores(score: object, net: nn.Module, batches: list[Batch]) -> dict[str, Tensor]:
    assert isinstance(score, Callable)  # type: ignore[arg-type]
    return score(net, full_masks(net), batches, F.cross_entropy, seeded())  # type: ignore[operator]


@pytest.mark.parametrize("name", SCORES)
def test_chunks_give_the_score_of_the_whole_batch_in_float64(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, batches = moved(3), data((9, 6))
    whole = scores(SCORES[name], net, batches)
    unchanged = state_check(net)
    monkeypatch.setattr(chunks, "PIXELS", 4 * 64)  # chunks of 4, 4 and 1 images, 4 and 2
    found = scores(SCORES[name], net, batches)
    rounding = 1e-5 if name == "hutchinson" else 1e-10  # its products are in float32
    for layer, expected in whole.items():
        scale = rounding * float(expected.abs().max())
        torch.testing.assert_close(found[layer], expected, rtol=rounding, atol=scale)
    assert unchanged()


def test_chunks_of_their_own_statistics_would_give_another_score() -> None:
    net, ((x, y), *_) = moved(3), data((11,))
    whole = scores(Grasp(temperature=1.0), net, [(x, y)])
    cut = scores(
        Grasp(temperature=1.0, batches=3), net, list(zip(x.split(4), y.split(4), strict=True))
    )
    name = next(iter(whole))
    assert (cut[name] - whole[name]).abs().max() > 0.01 * whole[name].abs().max()


def test_a_batch_within_the_bound_is_computed_at_once_to_the_bit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("chunks were computed")

    monkeypatch.setattr(chunks.LargeBatch, "__init__", refuse)
    monkeypatch.setattr(chunks, "PIXELS", 11 * 64)
    for score in (SCORES["snip"], SCORES["grasp"]):
        scores(score, moved(0), data((11,)))
    with pytest.raises(AssertionError, match="chunks were computed"):
        scores(SCORES["snip"], moved(0), data((12,)))


def test_the_bound_covers_the_batches_of_published_settings() -> None:
    for images_in_batch, side in ((1000, 32), (200, 64), (256, 64), (256, 28), (128, 32)):
        assert chunks.at_once(torch.empty(1, 3, side, side)) >= images_in_batch
    assert chunks.at_once(torch.empty(1, 3, 224, 224)) == 20


@pytest.mark.parametrize("bn", ["train", "eval"])
def test_no_graph_holds_more_images_than_a_chunk(bn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    net, seen = moved(1), []
    monkeypatch.setattr(chunks, "PIXELS", 5 * 64)
    first = next(m for m in net.modules() if isinstance(m, nn.Conv2d))
    first.register_forward_hook(lambda module, inputs, out: seen.append(len(inputs[0])))
    scores(Grasp(bn=bn), net, data((13,)))  # type: ignore[arg-type]
    # hooks are copied with the net; 13 images are chunks of 5, 5 and 3
    layers = sum(isinstance(m, nn.BatchNorm2d) for m in net.modules()) if bn == "train" else 0
    passes = (2 * layers + 1) + (2 * layers) + (2 * layers + 1)
    assert max(seen) == 5 and len(seen) == 3 * passes + 2


def test_layers_that_draw_numbers_draw_the_same_in_every_pass(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    net = nn.Sequential(
        nn.Flatten(), nn.Linear(64, 12), nn.BatchNorm1d(12), nn.Dropout(0.5), nn.Linear(12, 10)
    ).double()
    monkeypatch.setattr(chunks, "PIXELS", 4 * 64)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, other = (scores(Grasp(temperature=1.0), copy.deepcopy(net), data((11,))) for _ in "ab")
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_net_without_batchnorm_takes_one_pass_per_derivative(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    net, batches = mlp().double(), data((10,))
    whole = scores(Grasp(temperature=1.0), net, batches)
    monkeypatch.setattr(chunks, "PIXELS", 3 * 64)
    found = scores(Grasp(temperature=1.0), net, batches)
    for name in whole:
        torch.testing.assert_close(found[name], whole[name], rtol=1e-10, atol=1e-14)
