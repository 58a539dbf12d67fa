"""Memory that derivatives need: measured per image, and Hessian products under a bound."""

import pytest
import torch
from small_nets import images, mlp, resnet, task
from torch import Tensor
from torch.nn import functional as F

from pruners.base import full_masks
from pruners.curvature.hessian import HessianOperator
from pruners.curvature.options import HessianOptions
from pruners.memory import GIB, Need, SavedBytes, at_once, equal_parts, measured, tensors_of
from pruners.scores.chunks import loss_bytes, product_bytes
from pruners.selection.source import READ, Balanced

OPTIONS = HessianOptions(dtype="float64", batch_size=24)


def operator(memory: float, options: HessianOptions = OPTIONS) -> HessianOperator:
    net, (x, y) = resnet(1), images(48, seed=3)
    batches = [(x[i : i + 24], y[i : i + 24]) for i in (0, 24)]
    return HessianOperator(net, full_masks(net), batches, F.cross_entropy, options, memory)


def direction(d: int) -> Tensor:
    return torch.randn(d, generator=torch.Generator().manual_seed(7), dtype=torch.float64)


@pytest.mark.parametrize("mode", [True, False])
def test_four_images_predict_the_bytes_of_all(mode: bool) -> None:
    net, (x, y) = resnet(0).train(mode), images(40)
    parameters = list(net.parameters())

    def loss(n: int) -> int:
        return loss_bytes(net, (x, y), F.cross_entropy, n)

    def product(n: int) -> int:
        return product_bytes(net, parameters, (x, y), F.cross_entropy, n)

    for cost in (loss, product):
        need = measured(40, cost)
        assert need.of(40) == pytest.approx(cost(40), rel=1e-3) and need.each > 1000


def test_parts_are_as_few_as_fit_and_nearly_equal() -> None:
    taken: list[int] = []

    def cost(images_: int) -> int:
        taken.append(images_)
        return 100 + 10 * images_  # 1,100 bytes for 100 images

    assert at_once(100, 1100, cost) == 100
    assert max(taken) <= 4
    # 99 images fit, so there are two parts; 13 fit, so there are eight, of which 13 suffice
    assert [at_once(100, memory, cost) for memory in (1099, 239, 110)] == [50, 13, 1]
    assert equal_parts(10, 4) == 4 and equal_parts(9, 4) == 3 and equal_parts(3, 10) == 3
    assert at_once(0, 1.0, cost) == 0 and at_once(10**6, float("inf"), cost) == 10**6


def test_a_bound_below_one_image_names_a_sufficient_one() -> None:
    need = Need(fixed=2.0 * GIB, each=1.0 * GIB, images=10)
    with pytest.raises(
        ValueError, match=r"env\.memory_gb=2\.5 .* take 3 GiB .*env\.memory_gb=3\.3"
    ):
        need.within(2.5 * GIB)
    assert need.within(3.3 * GIB) == 1 and need.within(12.5 * GIB) == 10


def test_hessian_products_in_parts_equal_those_of_whole_mini_batches() -> None:
    whole = operator(float("inf"))
    v = direction(whole.dimension)
    expected, slope = whole.matvec(v), whole.gradient(whole.point)
    most = whole._need.of(24)
    for memory in (most / 2, most / 5):
        cut = operator(memory)
        assert len(cut.batches) > 2
        for found, wanted in ((cut.matvec(v), expected), (cut.gradient(cut.point), slope)):
            assert (found - wanted).abs().max() <= 1e-13 * wanted.abs().max()
        there = cut.at(cut.point * 1.01).matvec(v)
        wanted = whole.at(whole.point * 1.01).matvec(v)
        assert (there - wanted).abs().max() <= 1e-13 * wanted.abs().max()


@pytest.mark.parametrize("share", [0.4, 1.5, 2.5])
def test_no_graphs_of_hessian_products_exceed_the_bound(share: float) -> None:
    memory = operator(float("inf"))._need.of(24) * share
    cut = operator(memory)
    with SavedBytes([*tensors_of(cut.model), *(x for x, _ in cut.batches)]) as saved:
        cut.matvec(direction(cut.dimension))
        cut.gradient(cut.point * 1.01)
    assert memory / 4 < saved.peak <= memory * 1.01  # labels


def test_mini_batches_that_fit_are_left_whole_to_the_bit() -> None:
    whole = operator(float("inf"))
    fits = operator(whole._need.of(24) * 1.01)
    v = direction(whole.dimension)
    assert [len(y) for _, y in fits.batches] == [24, 24]
    assert torch.equal(fits.matvec(v), whole.matvec(v))


def test_mini_batches_that_share_statistics_are_refused_with_what_to_set() -> None:
    train = HessianOptions(mode="train", dtype="float64", batch_size=24)
    memory = operator(float("inf"), train)._need.of(24) / 2.5
    with pytest.raises(ValueError, match="method.hessian.mode=eval, or more memory") as error:
        operator(memory, train)
    message = str(error.value)
    assert message.startswith("method.hessian.batch_size=24: ") and "env.memory_gb=" in message
    size = int(message.partition("take method.hessian.batch_size=")[2].partition(",")[0])
    net, (x, y) = resnet(1), images(size)
    smaller = HessianOperator(net, full_masks(net), [(x, y)], F.cross_entropy, train, memory)
    assert 2 <= size < 24 and len(smaller.batches) == 1


def test_balanced_batches_hold_no_more_images_than_they_return() -> None:
    classes, drawn = 300, torch.Generator().manual_seed(0)
    y = torch.randint(0, classes, (9000,), generator=drawn)
    x = torch.arange(9000.0).view(-1, 1, 1, 1)
    reads: list[int] = []

    def batches(size: int) -> object:
        reads.append(size)
        return zip(x.split(size), y.split(size), strict=True)

    stage = task(0.5, classes=classes)
    object.__setattr__(stage, "batches", batches)
    found = list(Balanced(per_class=4)(stage))
    assert max(reads) <= READ and len(found) > 2
    for number, (some, labels) in enumerate(found):
        # of each class, its images number * 4 to number * 4 + 3, in the order of the pass
        wanted = (
            torch.cat(
                [(y == c).nonzero().flatten()[4 * number : 4 * number + 4] for c in range(classes)]
            )
            .sort()
            .values
        )
        assert torch.equal(some.flatten().long(), wanted) and torch.equal(labels, y[wanted])


def test_a_score_without_gradients_needs_no_memory() -> None:
    net = mlp().requires_grad_(False)
    assert measured(8, lambda n: loss_bytes(net, images(8), F.cross_entropy, n)).within(0) == 8
