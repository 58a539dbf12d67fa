"""scripts/fetch_data.py on the command line, without a network."""

import hashlib
import io
import os
import subprocess
import sys
import tarfile
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest

from runner.data.catalog import data_sets
from runner.data.download import no_network
from runner.data.sources import Archive, Download

ROOT = Path(__file__).parents[2]


def fetch(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the script with a proxy that does not answer, that is, without a network."""
    dead = dict.fromkeys(
        ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9"
    )
    environment = {**os.environ, **dead, "no_proxy": "", "NO_PROXY": "", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "fetch_data.py"), *arguments],
        capture_output=True,
        text=True,
        env=environment,
        timeout=120,
    )


@pytest.mark.parametrize(
    ("name", "file", "md5"),
    [
        ("cifar10", "cifar-10-python.tar.gz", "c58f30108f718f92721af3b95e74349a"),
        (
            "tiny_imagenet",
            "http://cs231n.stanford.edu/tiny-imagenet-200.zip",
            "90528d7ca1a48142e341f4ef8d21d0de",
        ),
    ],
)
def test_fetching_without_a_network_prints_manual_instructions(
    tmp_path: Path, name: str, file: str, md5: str
) -> None:
    result = fetch(name, "--data-dir", str(tmp_path))
    assert result.returncode == 2 and "Traceback" not in result.stderr and result.stdout == ""
    for part in (
        f"{name} could not be fetched: no network",
        file,
        md5,
        str(tmp_path),
        f"make data DATASET={name}",
        "ready now:",
        "dataset=digits",
    ):
        assert part in result.stderr


def test_the_manual_instructions_list_every_file_its_folder_and_debians_package() -> None:
    name, folder = "fashion_mnist", Path("/nowhere")
    source = {component.name: component.source for component in data_sets()}[name]
    assert isinstance(source, Download)
    site = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com"
    place = "into /nowhere/FashionMNIST/raw/"
    assert no_network(name, source, folder, "timed out").splitlines()[:-1] == [
        "fashion_mnist could not be fetched: no network, or the server does not answer (timed out)",
        "  by hand:    on a machine with a network get",
        (
            f"                {site}/train-images-idx3-ubyte.gz  (md5"
            f" 8d4fb7e6c68d591d4c3dfef9ec88bf0d), {place}"
        ),
        (
            f"                {site}/train-labels-idx1-ubyte.gz  (md5"
            f" 25c81989df183df01b3e8a0aad5dffbe), {place}"
        ),
        (
            f"                {site}/t10k-images-idx3-ubyte.gz  (md5"
            f" bef4ecab320f06d8554ea6380940ec79), {place}"
        ),
        (
            f"                {site}/t10k-labels-idx1-ubyte.gz  (md5"
            f" bb300cfdad3c16e7a12a480ee83cd310), {place}"
        ),
        "              or install Debian's package: apt-get install dataset-fashion-mnist",
        "              then run    make data DATASET=fashion_mnist    again, to verify them",
    ]


def test_an_archive_with_another_checksum_is_not_unpacked(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "tiny-imagenet-200.zip", "w") as archive:
        archive.writestr("tiny-imagenet-200/wnids.txt", "n00000001\n")
    result = fetch("tiny_imagenet", "--data-dir", str(tmp_path))
    assert result.returncode == 2 and "Traceback" not in result.stderr
    assert "tiny_imagenet could not be fetched" in result.stderr
    assert not (tmp_path / "tiny-imagenet-200").exists()


def test_an_unknown_name_gets_a_suggestion() -> None:
    result = fetch("cifar1O")
    assert result.returncode == 2 and result.stderr.count("\n") == 1
    assert "DATASET=cifar1O is not a choice" in result.stderr
    assert "did you mean 'cifar10'?" in result.stderr


def test_a_data_set_that_is_ready_is_not_fetched() -> None:
    result = fetch("digits")
    assert (result.returncode, result.stderr) == (0, "") and "digits is ready" in result.stdout


@pytest.mark.parametrize("member", ["../evil", "../../evil", "{outside}/evil", "link/evil"])
def test_no_member_of_an_archive_is_written_outside_its_folder(member: str, tmp_path: Path) -> None:
    inside, outside = tmp_path / "in" / "data", tmp_path / "out"
    inside.mkdir(parents=True)
    outside.mkdir()
    with tarfile.open(inside / "archive.tar.gz", "w:gz") as tar:
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, str(outside)
        if member.startswith("link"):
            tar.addfile(link)
        evil = tarfile.TarInfo(member.format(outside=outside))
        evil.size = 1
        tar.addfile(evil, io.BytesIO(b"x"))
    md5 = hashlib.md5((inside / "archive.tar.gz").read_bytes(), usedforsecurity=False).hexdigest()
    before = getattr(tarfile.TarFile, "extraction_filter", None)
    with suppress(tarfile.FilterError):  # or it is written inside
        Archive("http://localhost/archive.tar.gz", md5).fetch(inside)
    assert not [path for path in tmp_path.rglob("evil") if inside not in path.parents]
    assert getattr(tarfile.TarFile, "extraction_filter", None) is before
