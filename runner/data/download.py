"""Fetching data sets through torchvision, and the one message for a machine without a network (`make data`, scripts/fetch_data.py)."""

import io
import socket
from contextlib import redirect_stdout
from pathlib import Path

from runner.data.base import DataError
from runner.data.catalog import ARCHIVES, BY_HAND, COMPONENTS, is_ready, ready
from runner.errors import ConfigError, one_of

TORCHVISION = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST", "cifar10": "CIFAR10", "cifar100": "CIFAR100"}
PATIENCE = 30.0  # seconds without an answer after which a server counts as absent


def fetch(name: str, data_dir: Path) -> str:
    """Make the data set ready and say where it is.

    Raises:
        ConfigError: there is no such data set, or the folder cannot be written.
        DataError: it could not be fetched, or what was fetched is damaged.
    """
    by_name = {component().name: component() for component in COMPONENTS}
    if name not in by_name:
        raise ConfigError(one_of("DATASET", name, by_name))
    component = by_name[name]
    if not is_ready(component, data_dir):
        if name in TORCHVISION or name in ARCHIVES:
            _download(name, data_dir)
        component.check(data_dir)
    if name in ARCHIVES or name in BY_HAND:
        component.load(data_dir, 1.0)  # lists and decodes the images now, not in the first run, and finds damaged ones
    places = [str(place) for place in component.places(data_dir) if place.is_dir()]
    return f"{name} is ready{': ' + places[0] if places else ''}; use it with dataset={name}"


def _download(name: str, data_dir: Path) -> None:
    """Have torchvision fetch and unpack the files; its own chatter is dropped, its progress bar is not."""
    import torchvision.datasets  # here: importing torchvision takes seconds

    try:
        data_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--data-dir={data_dir} cannot be written: {error.strerror}; choose another folder") from error
    patience = socket.getdefaulttimeout()
    socket.setdefaulttimeout(PATIENCE)
    try:
        with redirect_stdout(io.StringIO()):
            if name in TORCHVISION:
                getattr(torchvision.datasets, TORCHVISION[name])(data_dir, download=True)
            else:
                archive = ARCHIVES[name]
                torchvision.datasets.utils.download_and_extract_archive(archive.url, data_dir, filename=archive.file, md5=archive.md5)
    except (OSError, RuntimeError) as error:
        raise DataError(no_network(name, data_dir, str(error).strip().splitlines()[-1])) from error
    finally:
        socket.setdefaulttimeout(patience)


def no_network(name: str, data_dir: Path, reason: str) -> str:
    """What to do by hand: the official files with their MD5, the folder that they belong in, and what is ready without them."""
    lines = [f"{name} could not be fetched: no network, or the server does not answer ({reason})", "  by hand:    on a machine with a network get"]
    lines += [f"                {line}" for line in by_hand(name, data_dir)]
    if name == "fashion_mnist":
        lines.append("              or install Debian's package: apt-get install dataset-fashion-mnist")
    then = "unpack and decode it" if name in ARCHIVES else "verify them"
    lines += [f"              then run    make data DATASET={name}    again, to {then}"]
    return "\n".join([*lines, f"  ready now:  {', '.join(f'dataset={other}' for other in ready(data_dir)) or 'none'}"])


def by_hand(name: str, data_dir: Path) -> list[str]:
    """One line per official file: address, MD5, and where it goes."""
    import torchvision.datasets

    if name in ARCHIVES:
        return [f"{ARCHIVES[name].url}  (md5 {ARCHIVES[name].md5}), into {data_dir}/"]
    source = getattr(torchvision.datasets, TORCHVISION[name])
    if name.startswith("cifar"):
        return [f"{source.url}  (md5 {source.tgz_md5}), unpacked in {data_dir}/, which makes {data_dir / source.base_folder}/"]
    folder = data_dir / TORCHVISION[name] / "raw"
    return [f"{source.mirrors[0]}{file}  (md5 {md5}), into {folder}/" for file, md5 in source.resources]
