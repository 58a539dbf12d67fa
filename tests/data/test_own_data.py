"""The user's own images: folders of classes and arrays, against numpy and labels by hand."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image
from safetensors.numpy import save_file
from support import compose_run

from runner.config.instantiate import construct
from runner.data.arrays import Arrays
from runner.data.base import Data
from runner.data.catalog import names
from runner.data.class_folders import ClassFolders
from runner.errors import ConfigError
from runner.paths import CONF
from runner.spec.identity import canonical, run_id

CLASSES = ("ant", "bee", "cat")


def levels(number: int, shape: tuple[int, ...] = (8, 8), largest: int = 256) -> np.ndarray:
    return np.random.RandomState(number).randint(0, largest, shape)


def write(path: Path, values: np.ndarray, **options: Any) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path, **options)
    return values


def whole(folder: Path, each: int = 5, shape: tuple[int, ...] = (8, 8)) -> dict[str, np.ndarray]:
    """A folder of classes without parts; the images by name, in their order."""
    return {
        f"{name}/{i}.png": write(
            folder / name / f"{i}.png", levels(10 * c + i, shape).astype(np.uint8)
        )
        for c, name in enumerate(CLASSES)
        for i in range(each)
    }


def parted(folder: Path, *parts: str) -> dict[str, list[np.ndarray]]:
    """Three images of each class in each part."""
    return {
        part: [
            write(folder / part / name / f"{i}.png", levels(100 * p + 10 * c + i).astype(np.uint8))
            for c, name in enumerate(CLASSES)
            for i in range(3)
        ]
        for p, part in enumerate(parts)
    }


def load(component: Any, tmp_path: Path) -> Data:
    data: Data = component.survey(tmp_path / "data").load(tmp_path / "data", 1.0)
    return data


def images(split: Any) -> np.ndarray:
    return split.images.numpy()


def test_a_split_by_folder_has_the_folders_labels_and_the_training_images_statistics(
    tmp_path: Path,
) -> None:
    made = parted(tmp_path / "mine", "train", "test", "Val")
    data = load(ClassFolders(str(tmp_path / "mine")), tmp_path)
    assert np.array_equal(images(data.train)[:, 0], np.stack(made["train"]))
    assert np.array_equal(images(data.test)[:, 0], np.stack(made["test"]))
    assert data.validation is not None
    assert np.array_equal(images(data.validation)[:, 0], np.stack(made["Val"]))
    for split in (data.train, data.test, data.validation):
        assert split.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    train = np.stack(made["train"]).astype(np.float64) / 255
    assert data.mean.tolist() == [np.float32(train.mean())]
    assert data.std.tolist() == pytest.approx([train.std()], rel=1e-7)


def test_val_is_the_test_set_where_there_is_no_other(tmp_path: Path) -> None:
    made = parted(tmp_path / "mine", "train", "val")
    data = load(ClassFolders(str(tmp_path / "mine")), tmp_path)
    assert data.validation is None
    assert np.array_equal(images(data.test)[:, 0], np.stack(made["val"]))


@pytest.mark.parametrize("share", [None, 0.4])
def test_a_share_of_each_class_is_test_images_by_a_seed_of_its_own(
    tmp_path: Path, share: float | None
) -> None:
    made = whole(tmp_path / "mine")
    splits = []
    for seed in (0, 0, 1):
        data = load(ClassFolders(str(tmp_path / "mine"), test=share, split_seed=seed), tmp_path)
        each = 1 if share is None else 2
        assert data.test.labels.tolist() == [c for c in range(3) for _ in range(each)]
        assert data.train.labels.tolist() == [c for c in range(3) for _ in range(5 - each)]
        together = np.concatenate([images(data.train), images(data.test)])[:, 0]
        assert sorted(map(bytes, together)) == sorted(map(bytes, made.values()))
        splits.append(images(data.test))
    assert np.array_equal(splits[0], splits[1]) and not np.array_equal(splits[0], splits[2])


def test_images_of_every_format_give_their_pixels(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    endings = ("png", "bmp", "gif", "tif", "webp", "ppm")
    made = {
        name: [
            write(
                folder / split / name / f"{i}.{ending}",
                levels(i, (8, 8, 3)).astype(np.uint8) if ending != "gif" else grey(i),
                **({"lossless": True} if ending == "webp" else {}),
            )
            for i, ending in enumerate(endings)
        ]
        for split in ("train", "test")
        for name in CLASSES
    }
    (folder / "train" / "ant" / "notes.txt").write_text("no image")
    data = load(ClassFolders(str(folder)), tmp_path)
    found = images(data.train)[: len(endings)]  # sorted by name, which begins with the number
    for shown, values in zip(found, made["ant"], strict=True):
        colour = values if values.ndim == 3 else values[..., None].repeat(3, axis=2)
        assert np.array_equal(shown, colour.transpose(2, 0, 1))


def grey(number: int) -> np.ndarray:
    return levels(number).astype(np.uint8)


def test_grey_images_of_16_bits_keep_all_of_them(tmp_path: Path) -> None:
    folder, made = tmp_path / "mine", []
    for split in ("train", "test"):
        for c in range(2):
            for i in range(3):
                values = levels(10 * c + i, largest=4096).astype(np.uint16)
                made.append(write(folder / split / f"{c}" / f"{i}.{('png', 'tif')[i % 2]}", values))
    data = load(ClassFolders(str(folder)), tmp_path)
    train = np.stack(made[:6]).astype(np.float64)
    assert data.scale == 65535 and data.train.images.dtype == torch.float32
    assert np.array_equal(images(data.train)[:, 0], train)
    assert data.mean.tolist() == pytest.approx([(train / 65535).mean()], rel=1e-7)
    assert data.std.tolist() == pytest.approx([(train / 65535).std()], rel=1e-7)
    write(folder / "train" / "0" / "9.png", grey(0))  # an 8-bit image on the scale of 16 bits
    data = load(ClassFolders(str(folder)), tmp_path)
    assert np.array_equal(images(data.train)[3, 0], grey(0).astype(int) * 257)


def test_images_of_different_sizes_are_scaled_by_the_short_side_and_cropped(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "mine"
    for name in ("a", "b"):
        for i, shape in enumerate(((8, 16), (16, 8), (8, 8))):
            write(folder / name / f"{i}.png", np.full(shape, 40 * i + 9, dtype=np.uint8))
    wide = np.zeros((8, 16), dtype=np.uint8)
    wide[:, 4:12] = levels(1)
    write(folder / "a" / "3.png", wide)
    with pytest.raises(ValueError, match="3 different sizes .*dataset.size=S scales"):
        ClassFolders(str(folder)).survey(None)
    data = load(ClassFolders(str(folder), size=8, test=0.3), tmp_path)
    shown = [*images(data.train)[:, 0], *images(data.test)[:, 0]]
    assert all(image.shape == (8, 8) for image in shown)
    assert any(np.array_equal(image, levels(1)) for image in shown)  # the middle of the wide one
    assert {tuple(np.unique(image)) for image in shown} >= {(9,), (49,), (89,)}


def test_the_identity_has_the_content_and_not_the_path(tmp_path: Path) -> None:
    for name in ("one", "two"):
        whole(tmp_path / name)
    one, two = (ClassFolders(str(tmp_path / n)).survey(tmp_path / "data") for n in ("one", "two"))
    assert canonical(one) == canonical(two) and one == two
    write(tmp_path / "two" / "ant" / "0.png", grey(99))
    assert canonical(ClassFolders(str(tmp_path / "two")).survey(tmp_path / "data")) != canonical(
        one
    )
    arrays = {"images": levels(0, (20, 8, 8, 3)).astype(np.uint8), "labels": np.arange(20) % 2}
    np.savez(tmp_path / "a.npz", **arrays)
    save_file({k: np.ascontiguousarray(v) for k, v in arrays.items()}, tmp_path / "b.safetensors")
    contents = {
        Arrays(str(tmp_path / name)).survey(None).found.content  # type: ignore[union-attr]
        for name in ("a.npz", "b.safetensors")
    }
    assert len(contents) == 1


def test_a_changed_image_is_noticed_through_the_notes_and_a_finished_run_needs_no_files(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "mine"
    whole(folder)
    words = ("method=dense", "dataset=folder", f"dataset.path={folder}", "model=mlp")
    words += (f"env.data_dir={tmp_path / 'data'}",)
    first = compose_run(*words)
    assert list((tmp_path / "data" / "own").glob("folder-*.json"))
    assert run_id(compose_run(*words)) == run_id(first)
    assert first.dataset.info().train == 12 and first.dataset.info().channels == 1
    write(folder / "ant" / "0.png", grey(77))
    assert run_id(compose_run(*words)) != run_id(first)
    with pytest.raises(ValueError, match="mine has changed: its content is"):
        first.dataset.load(tmp_path / "data", 1.0)
    config = {"_target_": "folder", "path": "gone", "found": asdict(first.dataset.found)}
    assert construct(config, "dataset") == first.dataset  # as config.yaml stores it


def loose(folder: Path) -> None:
    folder.mkdir()
    write(folder / "a.png", grey(0))


def with_whole(harm: Callable[[Path], object]) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        whole(folder)
        harm(folder)

    return make


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


FOLDERS: list[tuple[Callable[[Path], object], dict[str, Any], str]] = [
    (lambda folder: None, {}, "there is no folder of images: no such folder"),
    (lambda folder: folder.mkdir(), {}, "there are no classes: .* has no sub-folders"),
    (loose, {}, "there are no classes: .*a.png belong in folders of their classes"),
    (lambda f: write(f / "one" / "a.png", grey(0)), {}, "has one class, one/"),
    (
        with_whole(lambda f: (f / "dog").mkdir()),
        {},
        "the class dog/ has no images; remove it or add images",
    ),
    (
        with_whole(lambda f: (f / "bee" / "0.png").write_text("hello")),
        {},
        "bee/0.png is not an intact image",
    ),
    (
        with_whole(lambda f: write(f / "bee" / "9.png", levels(0, (9, 9)).astype(np.uint8))),
        {},
        r"2 different sizes \(8x8 in .*, 9x9 in bee/9.png\)",
    ),
    (lambda f: whole(f, shape=(8, 9)), {}, "9x8 pixels and are not square; dataset.size=S"),
    (with_whole(lambda f: None), {"test": 0.01}, "the test split has no images .*test=0.01"),
    (with_whole(lambda f: None), {"test": 0.95}, "class ant has no training images|class"),
    (lambda f: parted(f, "train"), {}, "has train/ with folders of classes, but no test/ or val/"),
    (
        lambda f: (parted(f, "train", "test"), whole(f / "test" / "dog")),
        {},
        "has the class dog, but .*train does not",
    ),
    (lambda f: parted(f, "train", "test"), {"test": 0.3}, "dataset.test=0.3 has no effect"),
    (with_whole(lambda f: None), {"normalise": "imagenet"}, "3 channels, but the images have 1"),
]


@pytest.mark.parametrize(("make", "options", "message"), FOLDERS, ids=[m for *_, m in FOLDERS])
def test_a_folder_that_cannot_be_used_is_refused_by_name(
    tmp_path: Path, make: Callable[[Path], object], options: dict[str, Any], message: str
) -> None:
    make(tmp_path / "mine")
    with pytest.raises(ValueError, match=message) as caught:
        ClassFolders(str(tmp_path / "mine"), **options).survey(tmp_path / "data")
    assert str(caught.value).startswith("dataset.")


def test_a_damaged_image_is_named_when_it_is_decoded(tmp_path: Path) -> None:
    whole(tmp_path / "mine", shape=(64, 64))
    truncated(tmp_path / "mine" / "bee" / "1.png")
    with pytest.raises(ValueError, match=r"dataset=folder cannot be used: .*bee/1.png is not an"):
        load(ClassFolders(str(tmp_path / "mine")), tmp_path)
    nan = np.full((64, 64), np.nan, dtype=np.float32)
    for name in ("a", "b"):
        for i in range(5):
            write(tmp_path / "deep" / name / f"{i}.tif", nan)
    with pytest.raises(ValueError, match=r"a/0.tif has a pixel that is not finite"):
        load(ClassFolders(str(tmp_path / "deep")), tmp_path)


def arrays_of(kind: str, **changed: Any) -> dict[str, np.ndarray]:
    shape = {"grey": (30, 8, 8), "last": (30, 8, 8, 3), "first": (30, 3, 8, 8)}[kind]
    made = {"x_train": levels(0, shape).astype(np.uint8), "y_train": np.arange(30) % 3}
    made |= {"x_test": levels(1, shape).astype(np.uint8)[:9], "y_test": np.arange(9) % 3}
    return {**made, **changed}


@pytest.mark.parametrize("kind", ["grey", "last", "first"])
@pytest.mark.parametrize("ending", ["npz", "safetensors"])
def test_arrays_of_every_layout_are_read_with_their_labels(
    tmp_path: Path, kind: str, ending: str
) -> None:
    made = arrays_of(kind)
    path = tmp_path / f"a.{ending}"
    if ending == "npz":
        np.savez_compressed(path, **made)
    else:
        save_file(made, path)
    data = load(Arrays(str(path)), tmp_path)
    given = made["x_train"]
    expected = {
        "grey": lambda: given[:, None],
        "first": lambda: given,
        "last": lambda: given.transpose(0, 3, 1, 2),
    }[kind]()
    assert np.array_equal(images(data.train), expected)
    assert data.train.labels.tolist() == [0, 1, 2] * 10 and len(data.test) == 9
    exact = expected.astype(np.float64) / 255
    assert data.mean.numpy() == pytest.approx(exact.mean((0, 2, 3)), rel=1e-7)
    assert data.std.numpy() == pytest.approx(exact.std((0, 2, 3)), rel=1e-7)
    padded = load(Arrays(str(path), size=10), tmp_path)
    assert np.array_equal(images(padded.train)[:, :, 1:9, 1:9], expected)


@pytest.mark.parametrize("dtype", [np.uint16, np.float32, np.float64])
def test_deep_arrays_are_not_rounded_and_have_float64_statistics(
    tmp_path: Path, dtype: Any
) -> None:
    values = levels(0, (600, 4, 4), 60000).astype(dtype)
    np.savez(tmp_path / "a.npz", images=values, labels=np.arange(600)[:, None] % 2)
    data = load(Arrays(str(tmp_path / "a.npz"), test=0.5), tmp_path)
    together = np.concatenate([images(data.train), images(data.test)])[:, 0]
    assert sorted(map(bytes, together)) == sorted(map(bytes, values.astype(np.float32)))
    train = images(data.train).astype(np.float64) / (65535 if dtype is np.uint16 else 1)
    assert data.mean.numpy() == pytest.approx([train.mean()], rel=1e-7)
    assert data.std.numpy() == pytest.approx([train.std()], rel=1e-7)
    assert data.train.labels.bincount().tolist() == data.test.labels.bincount().tolist()


ARRAYS: list[tuple[dict[str, np.ndarray], dict[str, Any], str]] = [
    ({"a": np.zeros(3)}, {}, "has no images and labels among a arrays"),
    ({"images": levels(0, (9, 4, 4)).astype(np.uint8)}, {}, "has no labels among images"),
    (arrays_of("grey", y_test=np.full(9, 3)), {}, "test labels are out of range: 3 is not 0 to 2"),
    (arrays_of("grey", y_train=np.arange(30) - 1), {}, "labels are out of range: -1 is not"),
    (arrays_of("grey"), {"classes": 2}, r"out of range: 2 is not 0 to 1 \(dataset.classes\)"),
    (arrays_of("grey", y_train=np.arange(30) % 3 + 1), {}, "class 0 has no training images"),
    (arrays_of("grey", y_train=np.zeros(30, int), y_test=np.zeros(9, int)), {}, "no classes"),
    (arrays_of("grey", x_train=levels(0, (30, 8, 8))), {}, "x_train has the wrong type int64"),
    (arrays_of("grey", y_train=np.arange(30) / 2), {}, "y_train has the wrong type float64"),
    (arrays_of("grey", y_train=np.arange(29) % 3), {}, r"y_train has the shape \(29,\)"),
    (arrays_of("grey", x_train=np.zeros((30, 64), np.uint8)), {}, r"the shape \(30, 64\)"),
    (arrays_of("grey", x_test=levels(1, (9, 4, 4)).astype(np.uint8)), {}, "different shapes"),
    (arrays_of("grey", x_test=np.zeros((9, 8, 6), np.uint8)), {}, "6x8 pixels, which are not sq"),
    (
        {"x": np.full((9, 4, 4), np.nan, np.float32), "y": np.arange(9) % 2},
        {},
        "x has a NaN or infinite pixel, first in image 0",
    ),
    (
        {"x": np.array([None] * 9), "y": np.arange(9)},
        {},
        "it cannot be read .*save plain arrays of numbers",
    ),
    (
        arrays_of("grey", x_test=np.zeros((0, 8, 8), np.uint8), y_test=np.zeros(0, int)),
        {},
        "the test split has no images",
    ),
    (
        {k: v for k, v in arrays_of("grey").items() if "train" in k},
        {},
        "the test split has no images: .*has training arrays alone",
    ),
    (arrays_of("grey"), {"size": 4}, "dataset.size=4 is less than the 8 pixels"),
    (arrays_of("grey"), {"split_seed": 1}, "dataset.split_seed has no effect"),
]


@pytest.mark.parametrize(("made", "options", "message"), ARRAYS, ids=[m for *_, m in ARRAYS])
def test_arrays_that_cannot_be_used_are_refused_by_name(
    tmp_path: Path, made: dict[str, np.ndarray], options: dict[str, Any], message: str
) -> None:
    np.savez(tmp_path / "a.npz", **made)
    with pytest.raises(ValueError, match=message) as caught:
        Arrays(str(tmp_path / "a.npz"), **options).survey(None)
    assert str(caught.value).startswith("dataset.")


def test_files_of_another_kind_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(b"PK\x03\x04 no archive")
    (tmp_path / "b.safetensors").write_bytes(b"12345678 no header")
    (tmp_path / "c.txt").write_text("")
    for name, message in (
        ("a.npz", "it cannot be read"),
        ("b.safetensors", "it cannot be read"),
        ("c.txt", "it is no .npz or .safetensors file"),
        ("d.npz", "d.npz cannot be read: No such file"),
    ):
        with pytest.raises(ValueError, match=message):
            Arrays(str(tmp_path / name)).survey(None)
    with pytest.raises(ValueError, match="dataset=arrays reads files"):
        ClassFolders(str(tmp_path / "c.txt")).survey(None)


@pytest.mark.parametrize("component", [ClassFolders, Arrays])
def test_yaml_and_class_agree_and_a_path_is_required(component: type) -> None:
    tag = vars(component)["tag"]
    config = OmegaConf.to_container(OmegaConf.load(CONF / "dataset" / f"{tag}.yaml"))
    assert construct(config, "dataset") == component()
    assert tag not in names()  # it has no images of its own
    with pytest.raises(ConfigError, match="dataset.path is missing: give a"):
        compose_run("method=dense", f"dataset={tag}", "model=mlp")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"test": 1.0}, r"dataset.test=1.0 must be in \(0, 1\)"),
        ({"size": 0}, "dataset.size=0 must be null or"),
        ({"split_seed": -1}, "dataset.split_seed=-1 must be 0 or more"),
        ({"name": "a b"}, "dataset.name=a b must be one word"),
        ({"augment": "resized_crop"}, "dataset.augment=resized_crop is not a choice"),
        ({"normalise": "mnist"}, "dataset.normalise=mnist is not a choice"),
        ({"validation": 1.0}, "dataset.validation=1.0 must be in"),
    ],
)
def test_invalid_options_are_refused(options: dict[str, Any], message: str) -> None:
    for component in (ClassFolders, Arrays):
        with pytest.raises(ValueError, match=message):
            component("x", **options)


def test_models_adapt_to_the_images_that_were_found(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **arrays_of("last"))
    run = compose_run(
        "method=dense", "dataset=arrays", f"dataset.path={tmp_path / 'a.npz'}", "model=resnet20"
    )
    info = run.dataset.info()
    net = run.model(info.channels, info.classes, info.size, torch.Generator())
    assert net(torch.zeros(2, 3, 8, 8)).shape == (2, 3)
