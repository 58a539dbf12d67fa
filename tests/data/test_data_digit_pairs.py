"""digit_pairs: two digits in an image, worked out again from scikit-learn's own arrays."""

from pathlib import Path

import pytest
import torch
from support import compose_run

from runner.data.base import Info
from runner.data.digit_pairs import DigitPairs
from runner.data.digits import read_digits
from runner.errors import ConfigError

NOWHERE = Path("nowhere")


def test_images_are_two_digits_of_their_own_split_in_the_middle_rows() -> None:
    pairs, digits = DigitPairs().read(NOWHERE), read_digits()
    for made, part in ((pairs.train, digits.train), (pairs.test, digits.test)):
        known = {
            (image.numpy().tobytes(), int(label))
            for image, label in zip(part.images, part.labels, strict=True)
        }
        assert not made.images[:, :, :4].any() and not made.images[:, :, 12:].any()
        for image, number in zip(made.images[::7], made.labels[::7].tolist(), strict=True):
            left, right = image[:, 4:12, :8].contiguous(), image[:, 4:12, 8:].contiguous()
            assert (left.numpy().tobytes(), number // 10) in known
            assert (right.numpy().tobytes(), number % 10) in known


@pytest.mark.parametrize("classes", [2, 10, 20, 50, 100])
def test_classes_are_the_number_modulo_their_count_and_equally_frequent(classes: int) -> None:
    numbers, data = DigitPairs().read(NOWHERE), DigitPairs(classes=classes)
    made = data.read(NOWHERE)
    assert torch.equal(made.train.images, numbers.train.images)
    assert torch.equal(made.train.labels, numbers.train.labels % classes)
    assert made.train.labels.bincount().tolist() == [8000 // classes] * classes
    assert made.test.labels.bincount().tolist() == [2000 // classes] * classes
    assert data.info() == Info(channels=1, size=16, classes=classes, train=8000, test=2000)


def test_a_run_has_as_many_outputs_as_classes_and_may_pad_the_images() -> None:
    data = DigitPairs(classes=20, size=28, validation=0.1).load(NOWHERE, train_fraction=0.5)
    assert data.classes == 20 and data.train.images.shape == (3600, 1, 28, 28)
    assert data.validation is not None and len(data.validation) == 400
    run = compose_run("method=dense", "dataset=digit_pairs", "dataset.classes=50", "model=mlp")
    info = run.dataset.info()
    model = run.model(info.channels, info.classes, info.size, torch.Generator())
    assert model(torch.zeros(2, 1, 16, 16)).shape == (2, 50)


@pytest.mark.parametrize("classes", [1, 3, 200, True])
def test_a_count_that_does_not_divide_100_is_refused_with_the_choices(classes: int) -> None:
    with pytest.raises(
        ValueError,
        match=r"dataset\.classes=.* must be one of 2, 4, 5, 10, 20, 25, 50, 100",
    ):
        DigitPairs(classes=classes)


def test_other_classes_are_another_run() -> None:
    words = ["method=dense", "dataset=digit_pairs", "model=mlp"]
    assert compose_run(*words, "dataset.classes=10") != compose_run(*words)
    with pytest.raises(ConfigError, match=r"dataset\.classes=7"):
        compose_run(*words, "dataset.classes=7")
