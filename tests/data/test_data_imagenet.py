"""ImageNet and its subset: a small folder with real JPEGs against torchvision's transforms."""

import os
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from support import compose_run, machine, perform_run
from torchvision import transforms
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from runner.data.augment import DRAWS
from runner.data.base import Data, DataError, Info
from runner.data.batches import Batches, evaluation_batches, scoring_pass
from runner.data.catalog import ready
from runner.data.files import CROPS, Files
from runner.data.folder import classes, listed_once
from runner.data.image_files import as_tensor, middle
from runner.data.imagenet import FOLDER, NATIVE, Imagenet
from runner.data.imagenet_subset import ImagenetSubset, drawn
from runner.data.jpeg import central
from runner.display.progress import Watcher, display
from runner.engine.context import RunContext
from runner.engine.stages import run_stage
from runner.engine.store import Store
from runner.errors import Stopped
from runner.faults.made import noise_picture as picture
from runner.faults.made import write_image_folder as image_folder
from runner.spec.rng import stream

INDEX = f"{FOLDER}.index"
WNIDS = ["n01000000", "n02000000", "n03000000"]
# ImageNet's classes differ in size, too
TRAIN = {"n01000000": 5, "n02000000": 7, "n03000000": 6}
SMALL = Info(channels=3, size=32, classes=3, train=18, test=9)


class SmallImagenet(Imagenet):
    """The data set with 3 classes of 5, 7 and 6 training images and 3 test images each."""

    tag: ClassVar[str] = "small_imagenet"
    native: ClassVar[Info] = SMALL


class SmallSubset(ImagenetSubset):
    """4 training images and 2 test images of each of these classes, 16x16."""

    native: ClassVar[Info] = Info(channels=3, size=16, classes=3, train=12, test=6)
    whole: ClassVar[Info] = SMALL


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """train and val under tmp_path/imagenet; one image is grey, one is a PNG named .JPEG, one is
    CMYK, as in the official archives."""
    image_folder(tmp_path / FOLDER, TRAIN, dict.fromkeys(WNIDS, 3))
    (tmp_path / FOLDER / "train" / "n01000000.tar").write_text("an archive that was left behind")
    return tmp_path / FOLDER


def load(folder: Path, fraction: float = 1.0, **options: object) -> Data:
    return SmallImagenet(**options).load(folder.parent, fraction)


def batches(data: Data, workers: int = 0, batch_size: int = 7, seed: int = 0) -> Batches:
    data = data.to("cpu", workers)
    return Batches(
        data.train, data.mean, data.std, data.scale, batch_size, data.augment, seed, "dense"
    )


def same(one: list, other: list) -> bool:
    return len(one) == len(other) and all(
        torch.equal(a, c) and torch.equal(b, d) for (a, b), (c, d) in zip(one, other, strict=True)
    )


def pixels(x: torch.Tensor, data: Data) -> torch.Tensor:
    """Normalised images converted back to levels."""
    return ((x * data.std[:, None, None] + data.mean[:, None, None]) * 255).round().to(torch.uint8)


def nearly(shown: torch.Tensor, theirs: torch.Tensor) -> bool:
    """Whether no value differs by more than 2, and few differ: torch rounds other weights."""
    apart = (shown.int() - theirs.int()).abs()
    return int(apart.max()) <= 2 and float(apart.float().mean()) < 0.4


def test_test_images_equal_torchvisions_transforms_and_folder_order(folder: Path) -> None:
    data = load(folder)
    shown = list(evaluation_batches(data.test, data.mean, data.std, data.scale, 4))
    resize = transforms.Compose(
        [
            transforms.Resize(round(32 * 256 / 224)),
            transforms.CenterCrop(32),
            transforms.PILToTensor(),
        ]
    )
    pillow = [resize(image) for image, _ in ImageFolder(str(folder / "val"))]
    bytes_ = v2.Compose([v2.PILToTensor(), v2.Resize(round(32 * 256 / 224)), v2.CenterCrop(32)])
    theirs = [bytes_(image) for image, _ in ImageFolder(str(folder / "val"))]
    assert nearly(pixels(torch.cat([x for x, _ in shown]), data), torch.stack(pillow))
    assert [len(y) for _, y in shown] == [4, 4, 1]
    assert torch.cat([y for _, y in shown]).tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert torch.equal(pixels(torch.cat([x for x, _ in shown]), data), torch.stack(theirs))
    assert data.mean.tolist() == pytest.approx([0.485, 0.456, 0.406])
    assert data.std.tolist() == pytest.approx([0.229, 0.224, 0.225])


def test_official_test_images_are_resized_to_256_and_cropped_to_224() -> None:
    image = picture(5).resize((500, 375))
    theirs = transforms.CenterCrop(224)(transforms.Resize(256)(image))
    assert np.array_equal(np.array(middle(image, 256, 224)), np.array(theirs))
    assert nearly(central(as_tensor(image), 256, 224), as_tensor(theirs))
    assert Imagenet().info() == Info(
        channels=3, size=224, classes=1000, train=1_281_167, test=50_000
    )
    assert ImagenetSubset().info() == Info(
        channels=3, size=64, classes=1000, train=100_000, test=10_000
    )


def test_augmented_images_equal_torchvisions_resized_crop_and_flip(folder: Path) -> None:
    data = load(folder)
    x, y = next(batches(data, batch_size=18).epoch(0))
    theirs = list(ImageFolder(str(folder / "train")))
    order = torch.randperm(18, generator=stream(0, "dense", "order/0"))
    draws = torch.rand(18, DRAWS, generator=stream(0, "dense", "augment/0/0"), dtype=torch.float64)
    for shown, place, u in zip(pixels(x, data), order.tolist(), draws, strict=True):
        image, _ = theirs[place]
        left, top, width, height = CROPS["resized_crop"].box(*image.size, u)
        box = top, left, height, width, [32, 32]
        pillow, exact = (
            v2.functional.horizontal_flip(cut) if u[-1] < 0.5 else cut
            for cut in (
                v2.functional.pil_to_tensor(v2.functional.resized_crop(image, *box)),
                v2.functional.resized_crop(v2.functional.pil_to_tensor(image), *box),
            )
        )
        assert torch.equal(shown, exact) and nearly(shown, pillow)
    assert y.tolist() == [theirs[place][1] for place in order.tolist()]


def test_batches_do_not_depend_on_the_number_of_workers(folder: Path) -> None:
    data = load(folder)
    alone = list(batches(data).epoch(2))
    assert [len(y) for _, y in alone] == [7, 7, 4]
    assert same(alone, list(batches(data, workers=1).epoch(2)))
    assert same(alone, list(batches(data, workers=3).epoch(2)))
    test, scoring = (
        [list(f(data.to("cpu", w))) for w in (0, 2)]
        for f in (lambda d: evaluation_batches(d.test, d.mean, d.std, 255.0, 5), passed)
    )
    assert same(*test) and same(*scoring)


def passed(data: Data) -> list:
    return list(scoring_pass(data.train, data.mean, data.std, 255.0, 5, seed=1, stage="prune"))


def test_a_batch_decoded_in_pieces_contains_each_image_once_and_in_order(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = load(folder)
    whole = list(batches(data, batch_size=10).epoch(0))
    monkeypatch.setattr("runner.data.files.PIECE", 3)
    assert same(whole, list(batches(data, workers=2, batch_size=10).epoch(0)))


@pytest.mark.parametrize("first_step", range(4))
def test_an_epoch_resumed_at_any_step_equals_its_tail_without_the_global_generator(
    folder: Path, first_step: int
) -> None:
    data = load(folder)
    whole = list(batches(data).epoch(1))
    torch.manual_seed(first_step)
    before = torch.get_rng_state()
    assert same(
        list(batches(data, workers=first_step % 2).epoch(1, first_step)), whole[first_step:]
    )
    assert torch.equal(torch.get_rng_state(), before)


def test_augmentation_depends_on_epoch_step_and_seed_and_scoring_has_none(folder: Path) -> None:
    data = load(folder)
    # eight copies of one image: batches differ only in augmentation
    one = replace(data, train=data.train.take(torch.zeros(8, dtype=torch.long)))
    (a, _), (b, _) = batches(one, batch_size=4).epoch(0)
    (c, _), _ = batches(one, batch_size=4).epoch(1)
    (d, _), _ = batches(one, batch_size=4, seed=1).epoch(0)
    images = torch.cat([a, b, c, d])
    assert len(torch.unique(images, dim=0)) == 16
    assert len(torch.unique(torch.cat([x for x, _ in passed(one)]), dim=0)) == 1


def test_the_option_augment_selects_the_crop(folder: Path) -> None:
    made = [
        next(batches(load(folder, augment=name)).epoch(0))[0]
        for name in ("resized_crop", "resized_crop_open_lth", "none")
    ]
    assert not torch.equal(made[0], made[1]) and not torch.equal(made[0], made[2])
    data = load(folder, augment="none")
    order = torch.cat([y for _, y in batches(data).epoch(0)])
    assert torch.equal(
        torch.cat([x for x, _ in batches(data).epoch(0)]).sum((1, 2, 3)).sort().values,
        torch.cat([x for x, _ in passed(data)]).sum((1, 2, 3)).sort().values,
    )
    assert sorted(order.tolist()) == [0] * 5 + [1] * 7 + [2] * 6


def test_subsets_and_held_out_images_are_files_of_the_training_set(folder: Path) -> None:
    data = load(folder, validation=1 / 3)
    assert isinstance(data.train, Files) and isinstance(data.validation, Files)
    assert (len(data.train), len(data.validation), len(data.test)) == (12, 6, 9)
    together = sorted([*data.train.names.tolist(), *data.validation.names.tolist()])
    assert together == sorted(
        f"train/{name}/{name}_{i}.JPEG".encode()
        for name, count in TRAIN.items()
        for i in range(count)
    )
    assert data.validation.labels.bincount().tolist() == [2, 2, 2]
    assert data.checksum == load(folder, 0.5).checksum


def test_the_list_of_files_is_cached_until_a_file_is_added_or_removed(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    first = load(folder)
    assert "listing the images of 6 folders" in capfd.readouterr().err
    assert (folder.parent / INDEX).is_file()
    assert load(folder).checksum == first.checksum and capfd.readouterr().err == ""
    (folder / "val" / WNIDS[0] / f"{WNIDS[0]}_0.JPEG").rename(
        folder / "val" / WNIDS[0] / "other.JPEG"
    )
    assert load(folder).checksum != first.checksum and "listing" in capfd.readouterr().err
    (folder.parent / INDEX).write_bytes(b"PK\x03\x04 damaged")
    assert len(load(folder).train) == 18 and "listing" in capfd.readouterr().err


def test_images_with_other_endings_are_the_same_images_whatever_else_is_there(
    folder: Path,
) -> None:
    before = [list(passed(load(folder)))]
    for i, path in enumerate(sorted(folder.glob("*/*/*.JPEG"))):
        path.rename(path.with_suffix((".jpg", ".JPG", ".jpeg", ".JPEG")[i % 4]))
        (path.parent / ".DS_Store").write_text("no image")
        (path.parent / f"._{path.name}").write_text("no image")
    assert same(before[0], list(passed(load(folder))))


def test_an_invalid_list_is_not_kept(folder: Path) -> None:
    path = folder / "val" / WNIDS[1] / f"{WNIDS[1]}_0.JPEG"
    content, status = path.read_bytes(), path.parent.stat()
    path.write_bytes(b"")
    with pytest.raises(DataError):
        load(folder)
    path.write_bytes(content)  # the folder's time stays
    os.utime(path.parent, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert len(load(folder).test) == 9


def test_a_folder_in_place_of_the_list_is_set_aside_and_images_are_still_listed(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (folder.parent / INDEX / "in the way").mkdir(parents=True)
    assert len(load(folder).train) == 18
    assert f"{INDEX}.damaged-" in capfd.readouterr().err
    (aside,) = folder.parent.glob(f"{INDEX}.damaged-*")
    assert (aside / "in the way").is_dir()
    assert (folder.parent / INDEX).is_file()


def flat_val(folder: Path) -> None:
    for name in WNIDS:
        for path in (folder / "val" / name).iterdir():
            path.rename(folder / "val" / path.name)
        (folder / "val" / name).rmdir()


def dangling(path: Path) -> None:
    path.unlink()
    path.symlink_to("/nowhere")


def linked(folder: Path) -> None:
    shutil.rmtree(folder / "val" / WNIDS[0])
    (folder / "val" / WNIDS[0]).symlink_to("/nowhere")


LAYOUT: list[tuple[Callable[[Path], object], str]] = [
    (shutil.rmtree, r"there is no \S+/imagenet/train/ and no \S+/imagenet/val/"),
    (lambda folder: shutil.rmtree(folder / "val"), r"there is no \S+/val/"),
    (linked, r"val/n01000000 is a link to /nowhere, which does not exist"),
    (
        flat_val,
        (
            r"val holds 0 folders named as WordNet ids \(n01440764\), expected 3: the images are in"
            r" val/ itself; move them into folders"
        ),
    ),
    (
        lambda folder: (folder / "train" / WNIDS[0]).rename(folder / "train" / "tench"),
        "train holds 2 folders named as WordNet ids .* expected 3$",
    ),
    (
        lambda folder: (folder / "val" / WNIDS[0]).rename(folder / "val" / "n09000000"),
        "train and val have different classes: n01000000, n09000000",
    ),
]
IMAGES: list[tuple[Callable[[Path], object], str]] = [
    (
        lambda folder: (folder / "train" / WNIDS[1] / f"{WNIDS[1]}_0.JPEG").unlink(),
        r"train holds 17 images \(.* in folders of classes\), expected 18; unpack",
    ),
    (
        lambda folder: picture(1).save(folder / "val" / WNIDS[1] / "more.JPEG"),
        "val holds 10 images .* expected 9",
    ),
    (
        lambda folder: (folder / "train" / WNIDS[1] / f"{WNIDS[1]}_0.JPEG").rename(
            folder / "train" / WNIDS[1] / f"{WNIDS[1]}_0.gif"
        ),
        r"expected 18; not counted: train/n02000000/n02000000_0\.gif; unpack",
    ),
    (
        lambda folder: dangling(folder / "val" / WNIDS[1] / f"{WNIDS[1]}_0.JPEG"),
        r"n02000000_0\.JPEG is a link to /nowhere, which does not exist; restore",
    ),
    (
        lambda folder: (folder / "val" / WNIDS[1] / f"{WNIDS[1]}_0.JPEG").write_bytes(b""),
        r"val/n02000000/n02000000_0\.JPEG is empty",
    ),
]


@pytest.mark.parametrize(
    ("harm", "message"), LAYOUT + IMAGES, ids=[message[:30] for _, message in LAYOUT + IMAGES]
)
@pytest.mark.parametrize("component", [SmallImagenet, SmallSubset])
def test_an_invalid_folder_is_rejected_with_a_solution(
    folder: Path, harm: Callable[[Path], object], message: str, component: type
) -> None:
    assert classes(folder, SMALL) == WNIDS
    harm(folder)
    uses = [lambda: component().load(folder.parent, 1.0)]
    if any(message == text for _, text in LAYOUT):
        uses.append(lambda: component().check(folder.parent))
    for use in uses:
        with pytest.raises(DataError) as caught:
            use()
        assert re.search(message, caught.value.problem)
        printed = str(caught.value)
        assert printed.startswith(f"dataset={component().name} cannot be used: ")
        assert f"ln -s /where/it/is {folder}" in printed
        assert "image-net.org" in printed
        assert "make data" not in printed and "dataset=digits" in printed
    assert "imagenet" not in ready(folder.parent)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_image_is_reported_in_one_line_when_it_is_decoded(
    folder: Path, workers: int
) -> None:
    path = folder / "train" / WNIDS[2] / f"{WNIDS[2]}_1.JPEG"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(
        DataError,
        match=(
            rf"^{re.escape(str(path))} is not an intact JPEG or PNG \(.*\); delete it and unpack"
            r" the archive again$"
        ),
    ):
        list(batches(load(folder), workers).epoch(0))


def test_invalid_options_are_rejected() -> None:
    for options, message in (
        (
            {"size": 8},
            r"dataset\.size=8 must be null \(its own 224\) or a whole number of at least 16",
        ),
        (
            {"augment": "crop_flip"},
            (
                r"dataset\.augment=crop_flip is not a choice: none, resized_crop,"
                r" resized_crop_open_lth"
            ),
        ),
        ({"normalise": "computed"}, r"dataset\.normalise=computed is not a choice: imagenet"),
    ):
        with pytest.raises(ValueError, match=message):
            Imagenet(**options)
    with pytest.raises(
        ValueError, match="dataset.augment=resized_crop is not a choice: none, crop_flip"
    ):
        ImagenetSubset(augment="resized_crop")


def test_the_subset_has_equal_classes_and_is_drawn_by_the_documented_rule(folder: Path) -> None:
    data = SmallSubset().load(folder.parent, 1.0)
    assert (data.train.labels.tolist(), data.test.labels.tolist()) == (
        [0] * 4 + [1] * 4 + [2] * 4,
        [0, 0, 1, 1, 2, 2],
    )
    found = [path for path, _ in drawn_by_the_rule(folder)]
    for split, paths in ((data.train, found[:12]), (data.test, found[12:])):
        crop = transforms.Compose(
            [transforms.Resize(16), transforms.CenterCrop(16), transforms.PILToTensor()]
        )
        expected = torch.stack([crop(Image.open(path).convert("RGB")) for path in paths])
        assert torch.equal(split.images, expected)


def drawn_by_the_rule(folder: Path) -> list[tuple[Path, int]]:
    """The rule of conf/dataset/imagenet_subset.yaml."""
    found = []
    for part, (name, each) in enumerate((("train", 4), ("val", 2))):
        for label, wnid in enumerate(WNIDS):
            files = sorted((folder / name / wnid).glob("*.JPEG"))
            first = np.random.RandomState((2012, part, label)).permutation(len(files))[:each]
            found += [(files[i], label) for i in sorted(first)]
    return found


def test_the_subsets_classes_are_drawn_independently(folder: Path) -> None:
    def names(images: int) -> list[bytes]:
        found = drawn(
            listed_once(folder, folder.parent / INDEX, replace(SMALL, train=images))["train"], 4, 0
        )
        return found.names[found.labels > 0].tolist()

    before = names(18)
    picture(99).save(folder / "train" / WNIDS[0] / "another.JPEG")
    assert names(19) == before and len(before) == 8


def test_the_subset_is_decoded_once_for_each_size_without_padding(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    first = SmallSubset().load(folder.parent, 1.0)
    assert capfd.readouterr().err.count("decoding 18 images") == 1
    again = SmallSubset().load(folder.parent, 1.0)
    larger = SmallSubset(size=24).load(folder.parent, 1.0)
    assert capfd.readouterr().err.count("decoding") == 1
    assert again.checksum == first.checksum != larger.checksum
    assert larger.train.images.shape == (12, 3, 24, 24)
    assert bool((larger.train.images[:, :, -1] > 0).any())
    assert sorted(path.name for path in folder.parent.glob("*.safetensors")) == [
        "imagenet_subset-16.safetensors",
        "imagenet_subset-24.safetensors",
    ]


def test_a_class_with_too_few_images_is_named(folder: Path) -> None:
    class Greedy(SmallSubset):
        native: ClassVar[Info] = Info(channels=3, size=16, classes=3, train=18, test=6)

    with pytest.raises(
        DataError,
        match=(r"the class of train/n01000000/n01000000_0\.JPEG has 5 images, but 6 are required"),
    ):
        Greedy().load(folder.parent, 1.0)


def test_a_missing_folder_is_reported_before_files_are_listed(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        Imagenet().check(tmp_path)
    assert (
        caught.value.problem
        == f"there is no {tmp_path / FOLDER / 'train'}/ and no {tmp_path / FOLDER / 'val'}/"
    )
    assert NATIVE.train == 1_281_167 and list(os.scandir(tmp_path)) == []


def test_a_run_does_not_depend_on_workers_or_interruptions(folder: Path, tmp_path: Path) -> None:
    run = compose_run(
        "method=snip",
        "density=0.5",
        "model=resnet20",
        "dataset=imagenet",
        "dataset.size=32",
        "train.scale=0.0125",
        "train.batch_size=5",
    )
    run = replace(run, dataset=SmallImagenet())
    (tmp_path / "data").symlink_to(tmp_path)
    alone = perform_run(run, machine(tmp_path, cache="alone"))
    where = replace(machine(tmp_path, cache="stopped"), workers=2)
    stopped = RunContext(
        run,
        where,
        Store(where.cache_dir),
        Watcher(tmp_path / "status", display("none", Console()), {}),
        stop=lambda: True,
    )
    for stage in run.stages[:-1]:
        run_stage(replace(stopped, stop=lambda: False), stage)
    with pytest.raises(Stopped):
        run_stage(stopped, run.stages[-1])
    resumed = perform_run(run, where)
    assert (
        alone[0]["provenance"]["dataset_checksum"] == resumed[0]["provenance"]["dataset_checksum"]
    )
    assert alone[0]["accuracy"] == resumed[0]["accuracy"] and alone[0]["epochs"] == 2
    for name, weight in alone[1]["train"].weights.items():
        assert torch.equal(weight, resumed[1]["train"].weights[name])
