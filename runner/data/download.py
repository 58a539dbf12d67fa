"""Make a data set ready (`make data`, scripts/fetch_data.py), or explain how without a network."""

import io
import socket
import tarfile
import zipfile
from contextlib import redirect_stdout
from pathlib import Path

from runner.data.base import DataError
from runner.data.catalog import data_sets, is_ready, ready
from runner.data.sources import Download, Made, data_command
from runner.errors import ConfigError, one_of

PATIENCE = 30.0  # seconds without an answer after which a server counts as unreachable


def fetch(name: str, data_dir: Path) -> str:
    """Make the data set ready and return a message that names its folder.

    Raises:
        ConfigError: there is no such data set, or the folder cannot be written.
        DataError: the files could not be fetched, or they are damaged.
    """
    by_name = {component.name: component for component in data_sets()}
    if name not in by_name:
        raise ConfigError(one_of("DATASET", name, by_name))
    component = by_name[name]
    if not is_ready(component, data_dir):
        if isinstance(component.source, Download):
            _download(name, component.source, data_dir)
        elif isinstance(component.source, Made):
            component.source.make(data_dir)
        component.check(data_dir)
    if component.source.prepares:
        # List and decode the images now, not in the first run; this also finds damaged ones.
        component.load(data_dir, 1.0)
    folders = [folder for folder in component.places(data_dir) if folder.is_dir()]
    return f"{name} is ready{f': {folders[0]}' if folders else ''}; use it with dataset={name}"


def _download(name: str, source: Download, data_dir: Path) -> None:
    """Fetch and unpack the files with torchvision, showing only its progress bar."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"--data-dir={data_dir} cannot be written: {error.strerror}; choose another folder"
        ) from error
    patience = socket.getdefaulttimeout()
    socket.setdefaulttimeout(PATIENCE)
    try:
        with redirect_stdout(io.StringIO()):
            source.fetch(data_dir)
    except (tarfile.TarError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{name} could not be unpacked: {error}; remove the archive from {data_dir} and repeat"
            f" {data_command(name)}"
        ) from error
    except (OSError, RuntimeError) as error:
        raise DataError(
            no_network(name, source, data_dir, str(error).strip().splitlines()[-1])
        ) from error
    finally:
        socket.setdefaulttimeout(patience)


def no_network(name: str, source: Download, data_dir: Path, reason: str) -> str:
    """Return instructions for getting the files by hand.

    They list the official files with their MD5, the folder of the files, and the data sets that are
    ready.
    """
    lines = [
        f"{name} could not be fetched: no network, or the server does not answer ({reason})",
        "  by hand:    on a machine with a network get",
    ]
    lines += [f"                {line}" for line in source.files(data_dir)]
    if source.package:
        lines.append(f"              or install Debian's package: apt-get install {source.package}")
    lines += [f"              then run    {data_command(name)}    again, to {source.then}"]
    names = ", ".join(f"dataset={other}" for other in ready(data_dir))
    return "\n".join([*lines, f"  ready now:  {names or 'none'}"])
