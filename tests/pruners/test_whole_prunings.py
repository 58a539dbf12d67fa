"""`mask_overlap` of schedules of many rounds: simulated scores, and prunings with more images."""

import copy
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar

import pytest
import torch
from small_nets import images, mlp, pruner, same_masks, seeded, state_check, task
from test_mask_overlap import digits
from torch import Generator, Tensor, nn

from models.resnet_cifar import ResNetCifar
from pruners.analysis.mask_overlap import MaskOverlap
from pruners.analysis.split_half import overlap_at, overlap_of_masks
from pruners.analysis.whole_prunings import Part, Prunings, from_samples, noise_of_longer
from pruners.base import CHANGE, CONVERGED, STANDARD_ERROR, Batch, LossFn, Masks, Scores, full_masks
from pruners.curvature.leverage import OVERLAP
from pruners.scores.force import Force
from pruners.scores.snip import Snip
from pruners.scores.synflow import SynFlow
from pruners.selection.ranks import largest
from pruners.selection.schedule import Exponential
from pruners.selection.source import Normal, Train

TIMES = 4  # further samples


@pytest.mark.parametrize("nu", [0.0, 0.1, 1.0, 10.0])
@pytest.mark.parametrize("kept", [0.5, 0.05])
def test_the_noise_follows_from_the_overlap_with_a_longer_sample(nu: float, kept: float) -> None:
    rho = ((1 + nu) * (1 + nu / TIMES)) ** -0.5
    assert noise_of_longer(overlap_at(rho, kept), kept, TIMES) == pytest.approx(nu, abs=1e-5)


def test_an_overlap_of_chance_is_noise_alone() -> None:
    assert noise_of_longer(0.1, 0.1, TIMES) == float("inf")


def simulated(nu: float, density: float, spread: float) -> tuple[list[Masks], Masks, float]:
    """Masks of five samples and of four together, and the overlap of the first with the exact mask.

    Args:
        spread: how much the size of the noise differs between weights.
    """
    rng, n = seeded(1), 50_000
    signal = torch.randn(n, generator=rng)
    size = (spread * torch.randn(n, generator=rng)).exp()
    samples = [signal + nu**0.5 * size * torch.randn(n, generator=rng) for _ in range(TIMES + 1)]

    def mask(scores: Tensor) -> Masks:
        return {"w": largest(scores, round(density * n))}

    masks, pooled = [mask(s) for s in samples], mask(torch.stack(samples[1:]).mean(0))
    return masks, pooled, overlap_of_masks(masks[0], mask(signal))


@pytest.mark.parametrize("nu", [0.1, 1.0, 5.0])
@pytest.mark.parametrize("density", [0.5, 0.1])
def test_the_overlap_with_the_true_scores_is_stated(nu: float, density: float) -> None:
    masks, pooled, exact = simulated(nu, density, spread=0.0)
    found, alone = from_samples(masks, pooled), from_samples(masks, None)
    assert found[OVERLAP] == pytest.approx(exact, abs=0.015)
    assert alone[OVERLAP] == pytest.approx(exact, abs=0.015)
    assert found[OVERLAP + CONVERGED] == 1
    assert OVERLAP + CONVERGED not in alone  # nothing checks it


def test_noise_of_different_sizes_is_overstated_by_pairs_and_marked() -> None:
    masks, pooled, exact = simulated(5.0, 0.1, spread=1.5)
    found = from_samples(masks, pooled)
    overlap, change = found[OVERLAP], found[OVERLAP + CHANGE]
    assert isinstance(overlap, float) and isinstance(change, float)
    by_pairs = overlap + change
    assert by_pairs > exact + 0.2  # the largest noise repeats
    assert exact < overlap < by_pairs - 0.05
    assert found[OVERLAP + CONVERGED] == 0


def test_a_part_gives_its_batches_and_counts_those_read() -> None:
    _, y = data = images(100)
    whole = Train(batch_size=10)
    part = Part(whole, first=3, count=2)
    labels = torch.cat([labels for _, labels in part(task(None, data))])
    assert torch.equal(labels, y[30:50]) and part.read == 2
    rest = Part(whole, first=8)
    assert sum(1 for _ in rest(task(None, data))) == 2


@pytest.mark.parametrize("score", [Snip(), SynFlow(), Force()], ids=lambda score: score.tag)
def test_the_first_mask_is_that_of_the_prune_stage_and_the_net_stays_as_it_is(score: Any) -> None:
    net, data, seen = mlp(), images(90), list[Masks]()
    unchanged = state_check(net)
    own = pruner(score, batch_size=6, schedule=Exponential(3))

    class Seeing(type(own)):  # type: ignore[misc]
        def __call__(self, *args: Any) -> Any:
            masking = super().__call__(*args)
            seen.append(masking.masks)
            return masking

    watched = Seeing(**{f.name: getattr(own, f.name) for f in fields(own)})
    steps = list[tuple[int, int]]()
    where = task(0.2, data, progress=lambda done, total, _: steps.append((done, total)))
    found = Prunings(watched, net, full_masks(net), where).measured(TIMES)
    assert unchanged()
    assert steps == [(done, TIMES + 2) for done in range(1, TIMES + 3)]
    pruned = own(copy.deepcopy(net), full_masks(net), task(0.2, data)).masks
    assert same_masks(seen[0], pruned)
    assert len(seen) == 2 * 1 + TIMES and found[f"{OVERLAP}_parts"] == TIMES
    read = 18 if isinstance(score, Force) else 6
    rest = data[0][read:], data[1][read:]
    further = own(copy.deepcopy(net), full_masks(net), task(0.2, rest)).masks
    assert same_masks(seen[1], further)  # the next images, as many as the first read


def test_noise_images_of_further_samples_are_new() -> None:
    own = pruner(SynFlow(), schedule=Exponential(3), source=Normal(batch_size=8))
    found = Prunings(own, mlp(), full_masks(mlp()), task(0.2, classes=10, image=(1, 8, 8)))
    report = found.measured(TIMES)
    overlap = report[OVERLAP]
    assert isinstance(overlap, float) and 0.2 < overlap < 1


def test_too_few_images_give_no_overlap() -> None:
    own = pruner(Force(), batch_size=8, schedule=Exponential(3))
    found = MaskOverlap(own, density=0.2, parts=8)(mlp(), full_masks(mlp()), task(None, images(50)))
    assert found.report == {OVERLAP: None, f"{OVERLAP}_parts": 1}


@dataclass(frozen=True)
class Activity:
    """A score of a user's own: it reads images, and nothing else is known about it."""

    tag: ClassVar[str] = "activity"
    needs_data: ClassVar[bool] = True

    def __call__(
        self,
        model: nn.Module,
        masks: Masks,
        batches: Iterable[Batch],
        loss: LossFn,
        rng: Generator,
        *_: Any,
    ) -> Scores:
        x, _labels = next(iter(batches))
        scale = x.flatten(1).std()
        return {
            name: scale * torch.randn(mask.shape, generator=rng) for name, mask in masks.items()
        }


def test_a_score_of_the_users_own_is_measured_but_not_checked() -> None:
    measure = MaskOverlap(pruner(Activity(), batch_size=8), density=0.2, parts="auto")
    assert measure.applies and measure.parts == TIMES
    found = measure(mlp(), full_masks(mlp()), task(None, images(80))).report
    assert found == {  # the draws of all samples are the same, and images only scale the scores
        OVERLAP: 1.0,
        OVERLAP + STANDARD_ERROR: 0.0,
        f"{OVERLAP}_parts": TIMES,
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    ("few", "rounds", "size"),
    [(Snip(), 5, 64), (Snip(bn="eval"), 5, 64), (Force(), 4, 16), (SynFlow(), 20, 4)],
    ids=repr,
)
def test_the_overlap_with_the_mask_of_twenty_times_the_images(
    few: Any, rounds: int, size: int
) -> None:
    x, y = digits()
    images_read = size * (rounds if isinstance(few, Force) else 1)
    for density in (0.5, 0.1, 0.05):
        stated, measured = list[float](), list[float]()
        for seed in range(2):
            net = ResNetCifar("net", depth=8, width=8)(1, 10, 8, seeded(seed))
            order = torch.randperm(len(y), generator=seeded(seed))
            every = (x[order], y[order])
            rest = tuple(t[images_read:] for t in every)

            def batches(of: Any) -> Any:
                return lambda count: zip(of[0].split(count), of[1].split(count), strict=True)

            short = pruner(few, batch_size=size, schedule=Exponential(rounds))
            long = pruner(replace(few, batches=20), batch_size=size, schedule=Exponential(rounds))
            ours, theirs = (
                own(
                    copy.deepcopy(net),
                    full_masks(net),
                    replace(task(density), batches=batches(of)),
                ).masks
                for own, of in ((short, every), (long, rest))
            )
            where = replace(task(None), batches=batches(every))
            found = MaskOverlap(short, density=density, parts=4)(net, full_masks(net), where).report
            overlap = found[OVERLAP]
            assert isinstance(overlap, float)
            stated.append(overlap)
            measured.append(overlap_of_masks(ours, theirs))
        pair = sum(stated) / 2, sum(measured) / 2
        print(few, rounds, f"{density}: stated {pair[0]:.3f}, measured {pair[1]:.3f}")
        assert pair[0] == pytest.approx(pair[1], abs=0.08)
