"""Tiny-ImageNet: a small folder with real JPEGs, intact and invalid, and its cache of images."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from conftest import ROOT, environment
from PIL import Image
from torchvision.datasets import ImageFolder

from runner.data.base import DataError, Info
from runner.data.batches import Batches
from runner.data.catalog import ready
from runner.data.tiny_imagenet import FOLDER, TinyImagenet, list_files
from runner.faults.made import smooth_picture as picture
from runner.faults.made import write_tiny_imagenet

# in the order of wnids.txt, which is not alphabetical
WNIDS = ["n03000000", "n01000000", "n02000000"]
SMALL = Info(channels=3, size=16, classes=3, train=12, test=6)
KEPT = f"{FOLDER}.safetensors"


class SmallTinyImagenet(TinyImagenet):
    """The data set with 3 classes of 4 and 2 images."""

    native: ClassVar[Info] = SMALL


def write_folder(data_dir: Path) -> Path:
    """The official layout: 4 training images a class, the last of them grey, 2 validation images a
    class."""
    return write_tiny_imagenet(data_dir / FOLDER, WNIDS, train=4, test=2)


def load(data_dir: Path):
    return SmallTinyImagenet().load(data_dir, 1.0)


def test_classes_are_in_alphabetical_order_in_both_splits(tmp_path: Path) -> None:
    write_folder(tmp_path)
    data = load(tmp_path)
    assert (data.train.images.shape, data.test.images.shape, data.classes) == (
        (12, 3, 16, 16),
        (6, 3, 16, 16),
        3,
    )
    assert data.train.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4  # n01, n02, n03
    # val_0 belongs to n03, the last class in alphabetical order
    assert data.test.labels.tolist() == [2, 0, 1, 2, 0, 1]
    assert data.train.images.dtype == torch.uint8
    assert data.train.labels.dtype == data.test.labels.dtype == torch.int64
    # n01 is the second line of wnids.txt: its pictures are 4 to 7. JPEG at quality 95 changes a
    # smooth image by a few levels.
    for split, place, number in ((data.train, 1, 5), (data.test, 0, 20), (data.test, 4, 24)):
        drawn = torch.from_numpy(np.array(picture(number))).permute(2, 0, 1).int()
        assert (split.images[place].int() - drawn).abs().max() <= 12


def test_training_images_equal_those_of_torchvisions_folder_reader(tmp_path: Path) -> None:
    folder = write_folder(tmp_path)
    data = load(tmp_path)
    theirs = ImageFolder(str(folder / "train"))
    assert [label for _, label in theirs] == data.train.labels.tolist()
    for (image, _), ours in zip(theirs, data.train.images, strict=True):
        assert np.array_equal(np.array(image).transpose(2, 0, 1), ours.numpy())


def test_grey_images_become_rgb_with_three_equal_channels(tmp_path: Path) -> None:
    folder = write_folder(tmp_path)
    with Image.open(folder / "train" / WNIDS[0] / "images" / f"{WNIDS[0]}_3.JPEG") as image:
        assert image.mode == "L"
    grey = load(tmp_path).train.images[[3, 7, 11]]
    assert torch.equal(grey[:, 0], grey[:, 1])
    assert torch.equal(grey[:, 0], grey[:, 2])
    assert grey.float().std() > 0


def test_normalisation_comes_from_the_training_images(tmp_path: Path) -> None:
    write_folder(tmp_path)
    data = load(tmp_path)
    values = data.train.images.double() / 255
    torch.testing.assert_close(data.mean.double(), values.mean((0, 2, 3)), rtol=1e-6, atol=0)
    torch.testing.assert_close(
        data.std.double(), values.std((0, 2, 3), correction=0), rtol=1e-6, atol=0
    )
    rounded = SmallTinyImagenet(normalise="synflow").load(tmp_path, 1.0)
    assert rounded.mean.tolist() == pytest.approx([0.480, 0.448, 0.397])


def test_subsets_padding_and_augmentation_work_as_for_every_data_set(tmp_path: Path) -> None:
    write_folder(tmp_path)
    data = SmallTinyImagenet(size=20, validation=0.5).load(tmp_path, 1.0)
    assert data.validation is not None and (len(data.train), len(data.validation)) == (6, 6)
    assert data.train.labels.bincount().tolist() == [2, 2, 2]
    assert data.train.images.shape[2:] == (20, 20)
    x, y = next(
        Batches(
            data.train, data.mean, data.std, data.scale, 6, data.augment, seed=0, stage="dense"
        ).epoch(0)
    )
    assert data.augment == "crop_flip"
    assert x.shape == (6, 3, 20, 20)
    assert sorted(y.tolist()) == [0, 0, 1, 1, 2, 2]


def test_the_second_load_reads_the_cache_and_no_image(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = write_folder(tmp_path)
    first = load(tmp_path)
    assert "decoding 18 images, once" in capfd.readouterr().err
    assert sorted(tmp_path.glob("tiny*")) == [folder, tmp_path / KEPT]
    # users who share the folder can read it
    assert (tmp_path / KEPT).stat().st_mode & 0o444 == 0o444
    image = folder / "val" / "images" / "val_0.JPEG"
    status = image.stat()
    # of the same size and time, but no JPEG: opening it would fail
    image.write_bytes(b"x" * status.st_size)
    os.utime(image, ns=(status.st_atime_ns, status.st_mtime_ns))
    second = load(tmp_path)
    assert capfd.readouterr().err == "" and first.checksum == second.checksum
    assert all(
        torch.equal(getattr(a, w), getattr(b, w))
        for a, b in ((first.train, second.train), (first.test, second.test))
        for w in ("images", "labels")
    )


def change_an_image(folder: Path) -> None:
    path = folder / "val" / "images" / "val_3.JPEG"
    picture(90).save(path, quality=95)
    os.utime(path, (1, 1))


def swap_two_labels(folder: Path) -> None:
    path = folder / "val" / "val_annotations.txt"
    status = path.stat()
    lines = path.read_text().splitlines()
    lines[0], lines[1] = lines[0].replace(WNIDS[0], WNIDS[1]), lines[1].replace(WNIDS[1], WNIDS[0])
    path.write_text("\n".join(lines) + "\n")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize("change", [change_an_image, swap_two_labels])
def test_a_cache_of_other_images_or_labels_is_rebuilt(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], change: Callable[[Path], None]
) -> None:
    folder = write_folder(tmp_path)
    before = load(tmp_path)
    change(folder)
    after = load(tmp_path)
    assert capfd.readouterr().err.count("decoding 18 images") == 2
    assert after.checksum != before.checksum
    (tmp_path / KEPT).unlink()
    assert load(tmp_path).checksum == after.checksum


@pytest.mark.parametrize(
    "damage",
    [
        lambda raw: raw[:-100],
        lambda raw: b"",
        lambda raw: raw[:-50] + bytes(50),
        lambda raw: b"no safetensors" * 100,
    ],
)
def test_a_damaged_cache_is_rebuilt(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], damage: Callable[[bytes], bytes]
) -> None:
    write_folder(tmp_path)
    before = load(tmp_path)
    (tmp_path / KEPT).write_bytes(damage((tmp_path / KEPT).read_bytes()))
    assert load(tmp_path).checksum == before.checksum == load(tmp_path).checksum
    # the first and the second load decode, the third does not
    assert capfd.readouterr().err.count("decoding") == 2


def test_a_folder_in_place_of_the_cache_is_set_aside_and_images_are_still_loaded(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write_folder(tmp_path)
    (tmp_path / KEPT / "in the way").mkdir(parents=True)
    data = load(tmp_path)
    err = capfd.readouterr().err
    assert f"{KEPT}.damaged-" in err
    (aside,) = tmp_path.glob(f"{KEPT}.damaged-*")
    assert (aside / "in the way").is_dir()
    assert (tmp_path / KEPT).is_file()
    assert err.count("decoding") == 1
    assert len(data.train) == 12
    assert [path.name for path in tmp_path.glob(f".{KEPT}.*")] == []  # no temporary file stays


def test_two_simultaneous_loads_get_the_same_images_and_leave_one_cache(tmp_path: Path) -> None:
    write_folder(tmp_path)
    code = (
        "from pathlib import Path; from test_data_tiny_imagenet import load;"
        f" print(load(Path({str(tmp_path)!r})).checksum)"
    )
    paths = os.pathsep.join(map(str, (ROOT, ROOT / "tests", ROOT / "tests" / "data")))
    line = [sys.executable, "-c", code]
    running = [
        subprocess.Popen(
            line,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**environment(), "PYTHONPATH": paths},
        )
        for _ in range(2)
    ]
    outputs = [process.communicate(timeout=120) for process in running]
    assert len({out for out, _ in outputs}) == 1, outputs
    assert outputs[0][0].strip() == load(tmp_path).checksum, outputs
    assert sum(err.count("decoding") for _, err in outputs) == 1
    assert [path.name for path in tmp_path.iterdir() if "safetensors" in path.name] == [KEPT]


def test_a_missing_folder_is_reported_with_the_command_that_fetches_it(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        TinyImagenet().check(tmp_path)
    what, where, how, others = str(caught.value).splitlines()
    assert (
        what
        == "dataset=tiny_imagenet cannot be used: missing wnids.txt, train, val/images and 1 more"
    )
    assert str(tmp_path / FOLDER) in where and "make data DATASET=tiny_imagenet" in how
    assert "dataset=digits" in others
    assert "tiny" not in others
    assert "tiny_imagenet" not in ready(tmp_path)


def edited(path: str, edit: Callable[[str], str]) -> Callable[[Path], object]:
    return lambda folder: (folder / path).write_text(edit((folder / path).read_text()))


def removed(path: str) -> Callable[[Path], None]:
    return lambda folder: (folder / path).unlink()


def move_into_classes(folder: Path) -> None:
    (folder / "val" / WNIDS[0]).mkdir()
    (folder / "val" / "images" / "val_0.JPEG").rename(folder / "val" / WNIDS[0] / "val_0.JPEG")


ANNOTATIONS = "val/val_annotations.txt"
WRONG: list[tuple[Callable[[Path], object], str]] = [
    (removed("wnids.txt"), r"missing wnids\.txt$"),
    (removed(ANNOTATIONS), r"missing val/val_annotations\.txt$"),
    (lambda folder: shutil.rmtree(folder / "train" / WNIDS[2]), r"missing train/n02000000/images$"),
    (
        removed(f"train/{WNIDS[1]}/images/{WNIDS[1]}_2.JPEG"),
        r"train/n01000000/images holds 3 images, expected 4 in each class",
    ),
    (
        lambda folder: picture(1).save(folder / "train" / WNIDS[1] / "images" / "more.JPEG"),
        "train/n01000000/images holds 5 images, expected 4",
    ),
    (
        lambda folder: (folder / "train" / WNIDS[1] / "images" / f"{WNIDS[1]}_2.JPEG").write_bytes(
            b""
        ),
        r"n01000000_2\.JPEG is empty; unpack the archive again",
    ),
    (removed("val/images/val_5.JPEG"), r"missing val/images/val_5\.JPEG$"),
    (
        lambda folder: picture(1).save(folder / "val" / "images" / "val_6.JPEG"),
        r"gives no class for val/images/val_6\.JPEG",
    ),
    (
        move_into_classes,
        (
            r"missing val/images/val_0\.JPEG; other code has moved them .* unpack the"
            r" archive again"
        ),
    ),
    (
        edited("wnids.txt", lambda text: text.replace("n02000000\n", "")),
        r"wnids\.txt lists 2 different classes in 2 lines, expected 3",
    ),
    (
        edited("wnids.txt", lambda text: text.replace("n02000000", "n01000000")),
        r"wnids\.txt lists 2 different classes in 3 lines, expected 3",
    ),
    (
        edited("wnids.txt", lambda text: text.replace("n02000000", "../secret")),
        r"wnids\.txt lists \.\./secret: not WordNet ids such as n01443537",
    ),
    (
        edited(ANNOTATIONS, lambda text: text.replace("val_2.JPEG\t", "val_2.JPEG ")),
        r"val_annotations\.txt, line 3: 'val_2\.JPEG n02000000.* is not an image, its",
    ),
    (
        edited(ANNOTATIONS, lambda text: text.replace("val_2", "../val_2")),
        r"line 3: '\.\./val_2\.JPEG.* is not an image",
    ),
    (edited(ANNOTATIONS, lambda text: text + "\n"), r"line 7: '' is not an image"),
    (
        edited(
            ANNOTATIONS, lambda text: text.replace("val_1.JPEG\tn01000000", "val_1.JPEG\tn09999999")
        ),
        r"line 2: class 'n09999999' is not in wnids\.txt",
    ),
    (
        edited(ANNOTATIONS, lambda text: text.replace("val_4", "val_1")),
        r"line 5: val_1\.JPEG already has a class",
    ),
    (
        edited(ANNOTATIONS, lambda text: text.replace("val_0.JPEG\tn03", "val_0.JPEG\tn01")),
        r"class n01000000 has 3, n03000000 has 1 images, expected 2 of each class",
    ),
]


@pytest.mark.parametrize(("harm", "message"), WRONG, ids=[message[:40] for _, message in WRONG])
def test_check_and_load_reject_an_invalid_folder(
    tmp_path: Path, harm: Callable[[Path], object], message: str
) -> None:
    folder = write_folder(tmp_path)
    list_files(folder, SMALL)
    harm(folder)
    with pytest.raises(DataError, match=message):
        list_files(folder, SMALL)
    for use in (SmallTinyImagenet().check, load):
        with pytest.raises(DataError) as caught:
            use(tmp_path)
        assert str(caught.value).startswith("dataset=tiny_imagenet cannot be used: ")
        assert "make data DATASET=tiny_imagenet" in str(caught.value)


@pytest.mark.parametrize("harm", ["truncated", "text", "png", "size"])
def test_a_damaged_image_is_named_when_decoded_and_nothing_is_cached(
    tmp_path: Path, harm: str
) -> None:
    folder = write_folder(tmp_path)
    path = folder / "train" / WNIDS[2] / "images" / f"{WNIDS[2]}_0.JPEG"
    if harm == "truncated":
        path.write_bytes(path.read_bytes()[:-200])
    elif harm == "text":
        path.write_text("not found")
    else:
        (picture(1) if harm == "png" else picture(1).resize((15, 16))).save(
            path, format="PNG" if harm == "png" else "JPEG"
        )
    problem = (
        "has 15x16 pixels, expected 16x16"
        if harm == "size"
        else r"is not an intact JPEG \(.*\); delete it and unpack the archive again"
    )
    with pytest.raises(DataError, match=rf"{WNIDS[2]}_0\.JPEG {problem}"):
        load(tmp_path)
    assert not (tmp_path / KEPT).exists()


def test_the_official_size_is_64x64_with_200_classes() -> None:
    assert TinyImagenet().info() == Info(
        channels=3, size=64, classes=200, train=100_000, test=10_000
    )
