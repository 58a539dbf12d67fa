"""Sources of data set files: each class of runner/data has a `source`."""

import tarfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

from runner.paths import CHECKOUT, typed


class Source(Protocol):
    """How the files of a data set get to this machine."""

    # Whether the first `load` lists or decodes all images and keeps the result; `make data` does
    # that in advance.
    prepares: ClassVar[bool]

    def ways(self, name: str, data_dir: Path) -> list[str]: ...  # how to get the files, in messages


@runtime_checkable
class Download(Source, Protocol):
    """A source that `make data` can fetch from."""

    then: ClassVar[str]  # what `make data` does with files that the user has put there

    @property
    def package(self) -> str | None: ...  # Debian's package with the same files
    def fetch(self, data_dir: Path) -> None: ...  # raises OSError or RuntimeError
    def files(self, data_dir: Path) -> list[str]: ...  # a line per official file: URL, MD5, folder


@dataclass(frozen=True)
class Included:
    """Nothing to fetch: the images come with the code or with a package of `make setup`."""

    prepares: ClassVar[bool] = False

    def ways(self, name: str, data_dir: Path) -> list[str]:
        """`make data`, which checks for the files, and `make setup`."""
        return [data_command(name), *(["make setup"] if CHECKOUT else [])]


@dataclass(frozen=True)
class OwnFiles:
    """The user's own files.

    Args:
        kind: what they are.
    """

    kind: str
    prepares: ClassVar[bool] = False

    def ways(self, name: str, data_dir: Path) -> list[str]:
        """The option that names them."""
        return [f"dataset.path=PATH names {self.kind} (docs/data_sets.md)"]


@dataclass(frozen=True)
class ByHand:
    """Files that may not be redistributed: the user gets them.

    Args:
        folder: where they belong, inside the folder of all data sets.
        lines: one instruction for each way; `{folder}` stands for that folder.
    """

    folder: str
    lines: Sequence[str]
    prepares: ClassVar[bool] = True

    def ways(self, name: str, data_dir: Path) -> list[str]:
        """The instructions."""
        return [line.format(folder=data_dir / self.folder) for line in self.lines]


@runtime_checkable
class Made(Source, Protocol):
    """A source that `make data` makes from files on this machine."""

    def make(self, data_dir: Path) -> None: ...  # DataError if it cannot


@dataclass(frozen=True)
class Copies:
    """Copies of another data set's images.

    Args:
        of: name of the other data set.
        write: writes the missing copies below the folder of all data sets.
    """

    of: str
    write: Callable[[Path], None]
    prepares: ClassVar[bool] = True

    def ways(self, name: str, data_dir: Path) -> list[str]:
        """`make data`, once the other data set is there."""
        return [f"{data_command(name)}, once dataset={self.of} is ready"]

    def make(self, data_dir: Path) -> None:
        """Write the missing copies."""
        self.write(data_dir)


@dataclass(frozen=True)
class Archive:
    """One official archive of a data set that torchvision has no loader for."""

    url: str
    md5: str
    package: str | None = None
    prepares: ClassVar[bool] = True
    then: ClassVar[str] = "unpack and decode it"

    def ways(self, name: str, data_dir: Path) -> list[str]:
        """`make data`, and Debian's package if there is one."""
        return fetched(name, self.package)

    def fetch(self, data_dir: Path) -> None:
        """Download, verify and unpack the archive."""
        # Imported here, since importing torchvision takes seconds.
        from torchvision.datasets.utils import download_and_extract_archive

        with only_inside():
            download_and_extract_archive(
                self.url, data_dir, filename=self.url.rpartition("/")[2], md5=self.md5
            )

    def files(self, data_dir: Path) -> list[str]:
        """The archive."""
        return [f"{self.url}  (md5 {self.md5}), into {data_dir}/"]


@dataclass(frozen=True)
class TorchvisionFiles:
    """Single files that the class `name` of torchvision.datasets fetches."""

    name: str
    package: str | None = None
    prepares: ClassVar[bool] = False
    then: ClassVar[str] = "verify them"

    def ways(self, name: str, data_dir: Path) -> list[str]:
        """`make data`, and Debian's package if there is one."""
        return fetched(name, self.package)

    def fetch(self, data_dir: Path) -> None:
        """Download the files with torchvision."""
        torchvision_class(self.name)(data_dir, download=True)

    def files(self, data_dir: Path) -> list[str]:
        """The files that torchvision lists."""
        source = torchvision_class(self.name)
        return [
            f"{source.mirrors[0]}{file}  (md5 {md5}), into {data_dir / self.name / 'raw'}/"
            for file, md5 in source.resources
        ]


@dataclass(frozen=True)
class TorchvisionArchive:
    """One archive that the class `name` of torchvision.datasets fetches and unpacks."""

    name: str
    package: str | None = None
    prepares: ClassVar[bool] = False
    then: ClassVar[str] = "verify them"

    def ways(self, name: str, data_dir: Path) -> list[str]:
        """`make data`, and Debian's package if there is one."""
        return fetched(name, self.package)

    def fetch(self, data_dir: Path) -> None:
        """Download and unpack the archive with torchvision."""
        with only_inside():
            torchvision_class(self.name)(data_dir, download=True)

    def files(self, data_dir: Path) -> list[str]:
        """The archive that torchvision lists."""
        source = torchvision_class(self.name)
        return [
            f"{source.url}  (md5 {source.tgz_md5}), unpacked in {data_dir}/, which makes"
            f" {data_dir / source.base_folder}/"
        ]


@contextmanager
def only_inside() -> Iterator[None]:
    """Unpack tar archives with a filter, which refuses members outside the target folder.

    torchvision gives tarfile no filter, and Python before 3.14 has none by default (PEP 706).

    Raises:
        RuntimeError: this Python is older than filters.
    """
    if not hasattr(tarfile, "data_filter"):
        raise RuntimeError("archives are unpacked by Python 3.10.12, 3.11.4, 3.12 and newer only")
    before = getattr(tarfile.TarFile, "extraction_filter", None)
    tarfile.TarFile.extraction_filter = staticmethod(tarfile.data_filter)
    try:
        yield
    finally:
        tarfile.TarFile.extraction_filter = before and staticmethod(before)


def data_command(name: str) -> str:
    """How to type the command that gets a data set."""
    return typed("data", name, key="DATASET")


def fetched(name: str, package: str | None) -> list[str]:
    """The ways to get a data set that `make data` fetches."""
    return [data_command(name), *([f"apt-get install {package}"] if package else [])]


def torchvision_class(name: str) -> Any:
    """The class of torchvision.datasets with that name."""
    import torchvision.datasets  # here: importing torchvision takes seconds

    return getattr(torchvision.datasets, name)
