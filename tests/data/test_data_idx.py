"""MNIST and Fashion-MNIST: small files in IDX format; intact, damaged and missing ones."""

import gzip
import hashlib
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from runner.data import idx as idx_files
from runner.data.base import DataError
from runner.data.catalog import names, ready
from runner.data.cifar import Cifar10
from runner.data.idx import FILES
from runner.data.mnist import FashionMnist, Mnist

ARRAYS = {
    "train-images-idx3-ubyte": np.arange(20 * 16, dtype=np.uint8).reshape(20, 4, 4),
    "train-labels-idx1-ubyte": np.arange(20, dtype=np.uint8) % 10,
    "t10k-images-idx3-ubyte": np.arange(10 * 16, dtype=np.uint8).reshape(10, 4, 4) + 7,
    "t10k-labels-idx1-ubyte": np.arange(10, dtype=np.uint8)[::-1].copy(),
}


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def write_idx(folder: Path, packed: bool, arrays: dict[str, np.ndarray] = ARRAYS) -> dict[str, str]:
    """Write the four files and return checksums as published: MD5 of packed files, SHA-256 of
    unpacked."""
    folder.mkdir(parents=True, exist_ok=True)
    checksums = {}
    for name, array in arrays.items():
        content, zipped = idx(array), gzip.compress(idx(array), mtime=1)
        (folder / (f"{name}.gz" if packed else name)).write_bytes(zipped if packed else content)
        checksums |= {
            f"{name}.gz": hashlib.md5(zipped).hexdigest(),
            name: hashlib.sha256(content).hexdigest(),
        }
    return checksums


@pytest.mark.parametrize("packed", [True, False])
def test_idx_files_are_read_packed_and_unpacked(tmp_path: Path, packed: bool) -> None:
    official = idx_files.read_official([tmp_path], write_idx(tmp_path, packed))
    assert np.array_equal(official.train.images[:, 0].numpy(), ARRAYS["train-images-idx3-ubyte"])
    assert np.array_equal(official.test.images[:, 0].numpy(), ARRAYS["t10k-images-idx3-ubyte"])
    assert official.test.labels.tolist() == list(range(9, -1, -1))
    assert official.train.labels.dtype == torch.int64


def test_the_first_folder_takes_precedence_and_files_may_come_from_the_second(
    tmp_path: Path,
) -> None:
    checksums = write_idx(tmp_path / "a", packed=False)
    write_idx(tmp_path / "b", packed=True)
    (tmp_path / "a" / FILES[1]).unlink()
    assert idx_files.find_files([tmp_path / "a", tmp_path / "b"])[:2] == [
        tmp_path / "a" / FILES[0],
        tmp_path / "b" / f"{FILES[1]}.gz",
    ]
    idx_files.verify_files([tmp_path / "a", tmp_path / "b"], checksums)


def test_a_repacked_file_is_verified_by_its_contents(tmp_path: Path) -> None:
    checksums = write_idx(tmp_path, packed=True)
    path = tmp_path / f"{FILES[0]}.gz"
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()), mtime=2))
    assert hashlib.md5(path.read_bytes()).hexdigest() != checksums[path.name]
    idx_files.verify_files([tmp_path], checksums)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("harm", ["truncated", "corrupt", "empty", "other"])
def test_a_damaged_idx_file_is_reported_with_both_checksums(
    tmp_path: Path, packed: bool, harm: str
) -> None:
    checksums = write_idx(tmp_path, packed)
    path = tmp_path / (f"{FILES[2]}.gz" if packed else FILES[2])
    content = bytearray(path.read_bytes())
    content[-12] ^= 255
    harmed = {
        "truncated": path.read_bytes()[:-20],
        "corrupt": bytes(content),
        "empty": b"",
        "other": gzip.compress(b"other") if packed else b"other",
    }[harm]
    path.write_bytes(harmed)
    found = (hashlib.md5 if packed else hashlib.sha256)(harmed).hexdigest()
    for read in (idx_files.read_official, idx_files.verify_files):
        with pytest.raises(
            DataError,
            match=f"{path} is corrupt or truncated .* is {found}, expected {checksums[path.name]}",
        ):
            read([tmp_path], checksums)


@pytest.mark.parametrize(
    "content", [b"", b"\0\0\x08", b"\0\0\x0d\x01\0\0\0\x01\0", b"\0\0\x08\x01\0\0\0\x05\0"]
)
def test_contents_that_are_no_idx_array_are_rejected(content: bytes) -> None:
    with pytest.raises(
        DataError,
        match="file is not an IDX file of bytes|file holds 1 values, but its header states 5",
    ):
        idx_files.parse_idx(Path("file"), content)


@pytest.mark.parametrize(
    "labels", [np.full(20, 10, np.uint8), np.zeros(19, np.uint8), np.zeros((20, 1), np.uint8)]
)
def test_labels_that_do_not_match_the_images_are_rejected(
    tmp_path: Path, labels: np.ndarray
) -> None:
    checksums = write_idx(tmp_path, packed=False, arrays=ARRAYS | {FILES[1]: labels})
    with pytest.raises(DataError, match="train files do not fit together"):
        idx_files.read_official([tmp_path], checksums)


def test_the_message_lists_missing_files_their_folder_the_command_and_ready_data_sets(
    tmp_path: Path,
) -> None:
    with pytest.raises(DataError) as caught:
        Cifar10().load(tmp_path, 1.0)
    what, where, how, others = str(caught.value).splitlines()
    assert what.startswith("dataset=cifar10 cannot be used: missing data_batch_1, data_batch_2")
    assert str(tmp_path / "cifar-10-batches-py") in where
    assert "make data DATASET=cifar10" in how
    assert "ready now:" in others and "dataset=digits" in others and "cifar" not in others


def test_a_damaged_fashion_file_is_not_replaced_by_debians(tmp_path: Path) -> None:
    folder = tmp_path / "FashionMNIST" / "raw"
    write_idx(folder, packed=True)
    with pytest.raises(DataError) as caught:
        FashionMnist().check(tmp_path)
    message = str(caught.value)
    # the MD5 of torchvision
    assert f"{folder / FILES[0]}.gz is corrupt or truncated" in message
    assert "8d4fb7e6c68d591d4c3dfef9ec88bf0d" in message
    assert "apt-get install dataset-fashion-mnist" in message
    assert "/usr/share/datasets/fashion-mnist" in message


def test_mnist_without_files_is_missing(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match="missing train-images-idx3-ubyte.gz, .*t10k-labels-idx1-ubyte.gz"
    ):
        Mnist().check(tmp_path)
    assert "mnist" not in ready(tmp_path) and set(ready(tmp_path)) <= set(names())


@pytest.mark.fashion
def test_fashion_mnist_has_its_published_counts_and_statistics(tmp_path: Path) -> None:
    data = FashionMnist().load(tmp_path, train_fraction=1.0)
    assert data.train.images.shape == (60_000, 1, 28, 28)
    assert data.test.images.shape == (10_000, 1, 28, 28)
    assert data.train.labels.bincount().tolist() == [6000] * 10
    assert data.test.labels.bincount().tolist() == [1000] * 10
    assert data.mean.item() == pytest.approx(0.2860, abs=5e-5)
    assert data.std.item() == pytest.approx(0.3530, abs=5e-5)
    assert (
        FashionMnist().load(tmp_path, train_fraction=0.1).train.labels.bincount().tolist()
        == [600] * 10
    )
    assert "fashion_mnist" in ready(tmp_path)
