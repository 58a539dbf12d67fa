"""CIFAR: small files, pickled as by Python 2 and 3; intact, damaged, missing and malicious ones."""

import codecs
import hashlib
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runner.data import cifar_batches
from runner.data.base import DataError
from runner.data.checksums import read_verified
from runner.data.cifar_batches import Layout
from runner.faults import made
from runner.faults.made import CifarForm

FORM = CifarForm(
    train={"data_batch_1": 4, "data_batch_2": 4},
    test={"test_batch": 3},
    meta="batches.meta",
    names_key="label_names",
    labels_key="labels",
    classes=("cat", "dog", "car", "sea"),
)


def write_cifar(folder: Path, python2: bool = True, **changed: Any) -> Layout:
    """Two training batches of 4, a test batch of 3, four classes."""
    return made.write_cifar(folder, FORM, python2, changed)


@pytest.mark.parametrize("python2", [True, False])
def test_cifar_batches_are_read_and_joined_in_order(tmp_path: Path, python2: bool) -> None:
    official = cifar_batches.read_official(tmp_path, write_cifar(tmp_path, python2))
    assert official.train.labels.tolist() == [0, 1, 2, 3, 0, 1, 2, 3]
    assert official.test.labels.tolist() == [0, 1, 2]
    # A row contains 1,024 red values, then green, then blue, each image line by line.
    assert official.train.images[5, 2, 3, 4] == made.cifar_rows(4, 4)[1, 2 * 1024 + 3 * 32 + 4]
    assert official.train.images.shape == (8, 3, 32, 32)


def test_the_python_2_files_of_these_tests_resemble_the_official_ones(tmp_path: Path) -> None:
    write_cifar(tmp_path)
    content = (tmp_path / "data_batch_1").read_bytes()
    assert b"cnumpy.core.multiarray\n_reconstruct\n" in content
    assert b"_codecs" not in content
    assert content[:2] == b"\x80\x02"


@pytest.mark.parametrize("name", ["data_batch_2", "test_batch", "batches.meta"])
def test_a_damaged_cifar_file_is_reported_with_both_checksums(tmp_path: Path, name: str) -> None:
    layout = write_cifar(tmp_path)
    harmed = (tmp_path / name).read_bytes()[:-3]
    (tmp_path / name).write_bytes(harmed)
    for read in (cifar_batches.read_official, cifar_batches.verify_files):
        with pytest.raises(
            DataError,
            match=(
                f"{name} is corrupt or truncated .* MD5 is {hashlib.md5(harmed).hexdigest()},"
                f" expected {layout.files()[name]}"
            ),
        ):
            read(tmp_path, layout)


def test_all_missing_cifar_files_are_listed(tmp_path: Path) -> None:
    layout = write_cifar(tmp_path)
    (tmp_path / "data_batch_1").unlink()
    (tmp_path / "batches.meta").unlink()
    with pytest.raises(DataError, match=r"^missing data_batch_1, batches\.meta$"):
        cifar_batches.verify_files(tmp_path, layout)


@pytest.mark.parametrize(
    "entry",
    [
        {"data": np.zeros((2, 3072), np.uint8), "labels": [0, 4]},  # class 4 of four
        {"data": np.zeros((2, 3072), np.uint8), "labels": [0, -1]},
        {"data": np.zeros((2, 3072), np.uint8), "labels": [0]},
        {"data": np.zeros((2, 3072), np.uint8), "labels": [0.5, 1.0]},
        {"data": np.zeros((2, 1024), np.uint8), "labels": [0, 1]},
        {"data": np.zeros((2, 3072), np.int64), "labels": [0, 1]},
        {"data": np.zeros((0, 3072), np.uint8), "labels": []},
        {"data": [1, 2], "labels": [0, 1]},
        {"labels": [0, 1]},
        [1, 2],
        b"not a pickle",
        b"",
    ],
)
def test_a_file_that_is_no_cifar_batch_is_rejected(tmp_path: Path, entry: Any) -> None:
    with pytest.raises(DataError, match="test_batch (does not contain|is not a CIFAR batch)"):
        cifar_batches.read_official(
            tmp_path, write_cifar(tmp_path, python2=False, test_batch=entry)
        )


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, ("evil-was-here",))


def test_a_pickle_that_would_run_code_is_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        DataError, match=r"test_batch is not a CIFAR batch: it refers to \w+\.mkdir"
    ):
        cifar_batches.read_official(
            tmp_path, write_cifar(tmp_path, test_batch=pickle.dumps(Evil(), protocol=2))
        )
    assert not (tmp_path / "evil-was-here").exists()
    # the only function that a batch may name besides numpy's is harmless
    assert codecs.encode("x", "latin1") == b"x"


def test_an_unreadable_path_raises_a_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read: Is a directory"):
        read_verified(tmp_path, "0" * 32)
