"""Code shared by all data sets: options, padding, statistics, subsets; and the data set digits."""

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from omegaconf import OmegaConf
from sklearn.datasets import load_digits

from runner.config.instantiate import construct
from runner.data.base import DataError, Info, Official, Split
from runner.data.catalog import data_sets, names
from runner.data.cifar import Cifar10, Cifar100
from runner.data.digits import Digits, read_digits
from runner.data.image_set import ImageSet
from runner.data.mnist import FashionMnist, Mnist
from runner.data.prepare import pad, statistics
from runner.registry import tags

CONF = Path(__file__).parents[2] / "conf" / "dataset"
NOWHERE = Path("there-is-no-such-folder")


def random_split(
    count: int, seed: int, channels: int = 3, size: int = 32, classes: int = 10
) -> Split:
    rng = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, channels, size, size), generator=rng, dtype=torch.uint8)
    return Split(images, torch.arange(count) % classes)


@pytest.mark.parametrize("name", names())
def test_yaml_and_component_agree_on_every_field(name: str) -> None:
    config = OmegaConf.load(CONF / f"{name}.yaml")
    component = construct(OmegaConf.to_container(config), "dataset")
    assert component == type(component)()
    assert set(config) == {"_target_", *(field.name for field in fields(component))}
    assert component.name == name


def test_every_data_set_of_images_is_found() -> None:
    made = [
        construct(OmegaConf.to_container(OmegaConf.load(path)), "dataset")
        for path in CONF.glob("*.yaml")
    ]
    assert sorted(names()) == sorted(
        component.name for component in made if component.info().images
    )
    assert "gaussian_teacher" not in names() and "gaussian_teacher" in tags("runner.data")


def test_data_sets_are_sorted_by_number_of_classes_and_image_size() -> None:
    known = [
        "digits",
        "fashion_mnist",
        "mnist",
        "cifar10",
        "cifar100",
        "tiny_imagenet",
        "imagenet_subset",
        "imagenet",
    ]
    assert [name for name in names() if name in known] == known


def test_tags_of_a_package_are_those_of_its_modules() -> None:
    assert set(tags("runner.data")) < set(tags())
    assert {"digits", "gaussian_teacher"} <= set(tags("runner.data"))
    assert tags("runner.data.mnist") == ["fashion_mnist", "mnist"] and tags("runner.dat") == []


@pytest.mark.parametrize("component", data_sets(), ids=names())
def test_published_constants_have_one_number_per_channel(component: ImageSet) -> None:
    for mean, std in component.normalisations.values():
        assert len(mean) == len(std) == component.info().channels


def test_a_data_set_without_read_and_load_raises_not_implemented() -> None:
    class Empty(ImageSet):
        native: ClassVar[Info] = Info(channels=1, size=8, classes=2, train=4, test=2)
        name: str = "empty"

        def verify(self, data_dir: Path) -> None:
            """Nothing to verify."""

    with pytest.raises(
        NotImplementedError,
        match="Empty reads no images into memory; it must implement read or load",
    ):
        dataclass(frozen=True)(Empty)().load(NOWHERE, 1.0)


def test_info_needs_no_files_and_contains_the_padded_size() -> None:
    assert Digits().info() == Info(channels=1, size=8, classes=10, train=1437, test=360)
    assert (
        Mnist(size=32).info()
        == FashionMnist(size=32).info()
        == Info(channels=1, size=32, classes=10, train=60_000, test=10_000)
    )
    assert Cifar10().info() == Info(channels=3, size=32, classes=10, train=50_000, test=10_000)
    assert Cifar100().info() == Info(channels=3, size=32, classes=100, train=50_000, test=10_000)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"size": 7},
            r"dataset\.size=7 must be null \(its own 32\) or a whole number of at least 32",
        ),
        ({"size": 40.5}, r"dataset\.size=40\.5 must be"),
        ({"size": "big"}, r"dataset\.size=big must be"),
        ({"validation": 1.0}, r"dataset\.validation=1\.0 must be in \[0, 1\)"),
        (
            {"augment": "cropflip"},
            (
                r"dataset\.augment=cropflip is not a choice: none, crop_flip; did you mean"
                r" 'crop_flip'\?"
            ),
        ),
        (
            {"normalise": "sinflow"},
            (
                r"dataset\.normalise=sinflow is not a choice: computed, grasp, .* did you mean"
                r" 'synflow'\?"
            ),
        ),
        ({"name": "mine"}, r"dataset\.name=mine must stay cifar10"),
    ],
)
def test_invalid_options_are_rejected_at_construction(
    options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Cifar10(**options)


def test_padding_centres_the_image_on_zeros() -> None:
    split = pad(
        Split(torch.full((1, 1, 2, 2), 9, dtype=torch.uint8), torch.zeros(1, dtype=torch.long)), 5
    )
    assert split.images[0, 0].tolist() == [
        [0, 0, 0, 0, 0],
        [0, 9, 9, 0, 0],
        [0, 9, 9, 0, 0],
        [0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0],
    ]


def test_statistics_equal_an_example_worked_by_hand() -> None:
    # Channel 0: 0, 0, 4, 4 of 16 -> mean 1/8, std 1/8. Channel 1: 0, 0, 0, 16 -> mean 1/4, variance
    # 3/16.
    images = torch.tensor([[[[0, 0], [4, 4]], [[0, 0], [0, 16]]]], dtype=torch.uint8)
    mean, std = statistics(images, 16.0)
    assert mean.tolist() == [0.125, 0.25]
    assert std.tolist() == pytest.approx([0.125, 3**0.5 / 4], rel=1e-7)


def test_a_constant_channel_cannot_be_normalised() -> None:
    with pytest.raises(DataError, match="constant"):
        statistics(torch.ones(2, 1, 2, 2, dtype=torch.uint8), 255.0)


def test_the_padded_training_set_has_mean_zero_and_std_one_before_any_subset() -> None:
    official = Official(random_split(200, seed=1), random_split(50, seed=2))
    data = Cifar10(size=36, validation=0.1).prepare(official, train_fraction=0.5)
    whole = pad(official.train, 36).images.double() / 255
    x = (whole - data.mean[:, None, None]) / data.std[:, None, None]
    assert x.mean((0, 2, 3)).abs().max() < 1e-6
    assert (x.std((0, 2, 3)) - 1).abs().max() < 1e-3
    assert data.validation is not None
    assert (len(data.train), len(data.validation), len(data.test)) == (90, 10, 50)
    assert data.test.images.shape == (50, 3, 36, 36)


def test_published_constants_replace_the_statistics() -> None:
    official = Official(random_split(20, seed=1), random_split(10, seed=2))
    data = Cifar10(normalise="grasp").prepare(official, train_fraction=1.0)
    assert torch.equal(data.mean, torch.tensor([0.4914, 0.4822, 0.4465]))
    assert torch.equal(data.std, torch.tensor([0.2023, 0.1994, 0.2010]))


def test_the_checksum_covers_the_official_arrays_for_every_subset() -> None:
    official = Official(random_split(40, seed=1), random_split(10, seed=2))
    whole, part = (Cifar10().prepare(official, fraction).checksum for fraction in (1.0, 0.5))
    other = replace(official, test=random_split(10, seed=3))
    assert whole == part != Cifar10().prepare(other, 1.0).checksum


def test_digits_have_a_fixed_stratified_split_and_levels_up_to_sixteen() -> None:
    data = Digits().load(NOWHERE, train_fraction=1.0)
    assert (data.train.images.shape, data.test.images.shape) == ((1437, 1, 8, 8), (360, 1, 8, 8))
    assert data.train.images.dtype == torch.uint8 and data.train.labels.dtype == torch.int64
    assert int(data.train.images.max()) == 16 == data.scale
    whole = data.train.labels.bincount() + data.test.labels.bincount()
    # the counts in scikit-learn's documentation
    assert whole.tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert (data.test.labels.bincount() - whole * 360 / 1797).abs().max() < 1
    assert data.validation is None


def test_digits_equal_scikit_learns_with_and_without_its_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own = read_digits()
    images, labels = load_digits(return_X_y=True)
    found = [
        (row.flatten().tolist(), int(label))
        for part in (own.train, own.test)
        for row, label in zip(part.images, part.labels, strict=True)
    ]
    assert sorted(found) == sorted(
        (row.astype(int).tolist(), int(label)) for row, label in zip(images, labels, strict=True)
    )
    monkeypatch.setattr("runner.data.digits.FILE", "moved.csv.gz")
    assert read_digits().checksum() == own.checksum()


def test_subset_and_held_out_part_of_digits_are_disjoint() -> None:
    data = Digits(validation=0.1, size=32).load(NOWHERE, train_fraction=0.5)
    assert data.validation is not None
    assert (len(data.train), len(data.validation)) == (718 - 72, 72)
    seen = {image.numpy().tobytes() for image in data.train.images}
    assert not seen & {image.numpy().tobytes() for image in data.validation.images}
    assert data.train.images.shape[2:] == (32, 32)
    assert data.to("cpu").train.images.equal(data.train.images)
