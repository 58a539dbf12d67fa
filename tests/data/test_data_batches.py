"""Batches: order, augmentation, normalisation, and resuming at any step, bit for bit."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from runner.data.augment import crop_draws, crop_flip
from runner.data.base import Split
from runner.data.batches import Batches, evaluation_batches, scoring_pass

MEAN, STD = torch.tensor([0.5, 0.25, 0.125]), torch.tensor([0.25, 0.5, 0.125])


def numbered(count: int, size: int = 8) -> Split:
    rng = torch.Generator().manual_seed(3)
    return Split(
        torch.randint(0, 256, (count, 3, size, size), generator=rng, dtype=torch.uint8),
        torch.arange(count),
    )


def batches(augment: str = "crop_flip", count: int = 23, batch_size: int = 5) -> Batches:
    return Batches(numbered(count), MEAN, STD, 255.0, batch_size, augment, seed=7, stage="dense")


def same(one: list, other: list) -> bool:
    return len(one) == len(other) and all(
        torch.equal(a, c) and torch.equal(b, d) for (a, b), (c, d) in zip(one, other, strict=True)
    )


def test_an_epoch_contains_every_image_once_and_keeps_the_last_partial_batch() -> None:
    made = batches()
    shown = [y for _, y in made.epoch(0)]
    assert made.steps_per_epoch == len(shown) == 5
    assert [len(y) for y in shown] == [5, 5, 5, 5, 3]
    assert torch.cat(shown).sort().values.tolist() == list(range(23))


@pytest.mark.parametrize(("batch_size", "steps"), [(128, 391), (100, 500), (64, 782)])
def test_steps_per_epoch_are_those_of_the_published_code(batch_size: int, steps: int) -> None:
    split = Split(
        torch.zeros(50_000, 1, 1, 1, dtype=torch.uint8), torch.zeros(50_000, dtype=torch.long)
    )
    assert (
        Batches(split, MEAN, STD, 255.0, batch_size, "none", seed=0, stage="dense").steps_per_epoch
        == steps
    )


@pytest.mark.parametrize("first_step", range(6))
def test_an_epoch_resumed_at_any_step_equals_its_tail_bit_for_bit(first_step: int) -> None:
    torch.manual_seed(first_step)  # the global generator must not matter
    assert same(list(batches().epoch(4, first_step)), list(batches().epoch(4))[first_step:])


def test_epochs_depend_on_number_seed_and_stage_and_repeat() -> None:
    made = batches()
    whole = list(made.epoch(1))
    assert same(whole, list(batches().epoch(1)))
    for other in (
        made.epoch(2),
        replace(made, seed=8).epoch(1),
        replace(made, stage="retrain").epoch(1),
    ):
        assert not same(whole, list(other))


def test_the_order_differs_between_epochs() -> None:
    one, other = (torch.cat([y for _, y in batches("none").epoch(epoch)]) for epoch in (1, 2))
    assert not torch.equal(one, other)


def test_two_steps_of_an_epoch_are_augmented_differently() -> None:
    # ten equal images: batches differ only in augmentation
    split = Split(numbered(1).images.expand(10, -1, -1, -1), torch.zeros(10, dtype=torch.long))
    (one, _), (other, _) = Batches(
        split, MEAN, STD, 255.0, 5, "crop_flip", seed=7, stage="dense"
    ).epoch(0)
    assert not torch.equal(one, other)


@pytest.mark.parametrize("first_step", [-1, 6])
def test_a_first_step_outside_the_epoch_is_rejected_at_once(first_step: int) -> None:
    with pytest.raises(ValueError, match=f"first_step={first_step} must be from 0 to 5"):
        batches().epoch(0, first_step)


def test_invalid_batch_sizes_and_augmentations_are_rejected() -> None:
    with pytest.raises(ValueError, match="train.batch_size=0 must be at least 1"):
        batches(batch_size=0)
    with pytest.raises(ValueError, match="dataset.augment=flip is not a choice"):
        batches(augment="flip")


def test_augmented_images_are_the_162_crops_with_and_without_mirroring() -> None:
    image = numbered(1).images
    padded = F.pad(image, (4, 4, 4, 4))
    crops = [padded[0, :, top : top + 8, left : left + 8] for top in range(9) for left in range(9)]
    allowed = {
        view.contiguous().numpy().tobytes() for crop in crops for view in (crop, crop.flip(2))
    }
    assert len(allowed) == 162
    augmented = crop_flip(
        image.expand(4000, -1, -1, -1), crop_draws(4000, torch.Generator().manual_seed(0))
    )
    counts: dict[bytes, int] = {}
    for view in augmented:
        key = view.contiguous().numpy().tobytes()
        counts[key] = counts.get(key, 0) + 1
    assert set(counts) == allowed
    mirrored = sum(counts[crop.flip(2).contiguous().numpy().tobytes()] for crop in crops)
    assert abs(mirrored - 2000) < 4 * 1000**0.5  # binomial(4000, 1/2), 4 standard deviations


def test_each_augmented_image_comes_from_its_own_source() -> None:
    images = torch.arange(1, 51, dtype=torch.uint8)[:, None, None, None].expand(50, 3, 8, 8)
    augmented = crop_flip(images, crop_draws(50, torch.Generator().manual_seed(1)))
    assert all(
        set(view.unique().tolist()) <= {0, number} and view.max() == number
        for number, view in enumerate(augmented, start=1)
    )


def test_the_border_is_black_before_normalisation() -> None:
    # A white image: its pixels become (1 - mean) / std, and the border inside a crop becomes -mean
    # / std.
    split = Split(
        torch.full((40, 3, 8, 8), 255, dtype=torch.uint8), torch.zeros(40, dtype=torch.long)
    )
    x, _ = next(Batches(split, MEAN, STD, 255.0, 40, "crop_flip", seed=0, stage="dense").epoch(0))
    for channel, (mean, std) in enumerate(zip(MEAN.tolist(), STD.tolist(), strict=True)):
        assert x[:, channel].unique().tolist() == pytest.approx(
            [-mean / std, (1 - mean) / std], rel=1e-6
        )


def test_batches_are_float_channels_last_and_normalised() -> None:
    made = batches("none")
    for x, y in made.epoch(0):
        assert x.dtype == torch.float32 and x.is_contiguous(memory_format=torch.channels_last)
        expected = (made.split.images[y] / 255 - MEAN[:, None, None]) / STD[:, None, None]
        torch.testing.assert_close(x, expected, rtol=1e-5, atol=1e-6)
    x, _ = next(batches("crop_flip").epoch(0))
    assert x.is_contiguous(memory_format=torch.channels_last)


def test_evaluation_keeps_the_order_of_the_split() -> None:
    split = numbered(23)
    made = [list(evaluation_batches(split, MEAN, STD, 255.0, 10)) for _ in range(2)]
    assert same(*made)
    assert torch.cat([y for _, y in made[0]]).tolist() == list(range(23))


def test_a_scoring_pass_is_shuffled_and_not_augmented_and_repeats() -> None:
    split = numbered(23)
    passes = [
        list(scoring_pass(split, MEAN, STD, 255.0, 10, seed=1, stage="prune")) for _ in range(2)
    ]
    order = torch.cat([y for _, y in passes[0]])
    assert same(*passes)
    assert order.tolist() != list(range(23)) and sorted(order.tolist()) == list(range(23))
    plain = torch.cat([x for x, _ in evaluation_batches(split, MEAN, STD, 255.0, 23)])
    assert torch.equal(torch.cat([x for x, _ in passes[0]]), plain[order])
    assert not same(
        passes[0], list(scoring_pass(split, MEAN, STD, 255.0, 10, seed=2, stage="prune"))
    )
