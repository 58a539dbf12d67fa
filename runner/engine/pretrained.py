"""Weights that replace a training (`start.weights`): a file, or torchvision's for the network.

Their identity is the SHA-256 of the file, independent of its path, or the name of torchvision's
entry. runner/engine/weights_file.py reads the files.
"""

import socket
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from runner.data.download import PATIENCE
from runner.engine.checkpoint import State
from runner.engine.divergence import infinite_tensor
from runner.engine.weight_names import Found, by_order, found, misfits
from runner.engine.weights_file import Content, UnsuitableError, content_of
from runner.errors import ConfigError
from runner.locks import held
from runner.paths import user_path
from runner.spec.inputs import MaskFile, Weights
from runner.spec.pretrained import TORCHVISION, digest
from runner.spec.run import Run


@dataclass(frozen=True)
class Fitted:
    """Weights that fit a network.

    Args:
        state: they have the names, shapes and types of the network's state dict.
        renamed: what was renamed, for the record; None if nothing was.
    """

    state: State
    renamed: str | None


def fitting(weights: Weights, expected: State, run: Run) -> Fitted:
    """The weights with the names and types of `expected`, a state dict of the run's network.

    Raises:
        ConfigError: the weights cannot be downloaded or read, do not fit, or are not finite.
    """
    name, dataset, classes = run.model.name, run.dataset.name, run.dataset.info().classes
    # Checked before a download.
    if weights.path is None and (own := len(_entry(weights).meta["categories"])) != classes:
        raise ConfigError(
            f"{_override(weights)}: torchvision's weights of {name} are for {own} classes,"
            f" dataset={dataset} has {classes}; use dataset=imagenet, or omit start.weights to"
            " train the network"
        )
    content = _read(weights, frozenset(expected), masks_beside(weights, run) is not None)
    found = _found(content, weights, expected, run)
    fitted = {name: found.state[name].detach().to(t.dtype) for name, t in expected.items()}
    if what := infinite_tensor(fitted):
        raise ConfigError(
            f"{_override(weights)}: {what}: its training has diverged, or its numbers are too large"
            " for the network's; take other weights"
        )
    return Fitted(fitted, found.description)


def _found(content: Content, weights: Weights, expected: State, run: Run) -> Found:
    """The network's tensors among those of a file.

    Raises:
        ConfigError: some are missing, superfluous, or of another shape or type.
    """
    result = found(content.state, expected, getattr(run.model, "renamings", ()))
    lines = misfits(result.state, expected)
    if not lines:
        return result
    ordered, match = content.ordered, weights.match
    paired, advice = by_order(content.state, expected, ordered, match, "start.match")
    if paired is not None and not (lines := misfits(paired.state, expected)):
        return paired
    dataset, classes = run.dataset.name, run.dataset.info().classes
    title = f"{_override(weights)} does not fit model={run.model.name} on dataset={dataset}"
    raise ConfigError("\n".join([f"{title} ({classes} classes)", *lines, *advice]))


def masks_beside(weights: Weights, run: Run) -> MaskFile | None:
    """The file of masks that the run applies, if it is the file of the weights."""
    files = (stage.mask_file for stage in run.stages if stage.mask_file)
    return next((file for file in files if file.content == weights.content), None)


def _entry(weights: Weights) -> Any:
    import torchvision  # takes a second, and planning does not need it

    return torchvision.models.get_weight(weights.content.partition(":")[2])


def _override(weights: Weights) -> str:
    return f"start.weights={weights.path or TORCHVISION}"


def _read(weights: Weights, own: frozenset[str], masks_applied: bool) -> Content:
    """The state dict in the file; `own`: the names of the network."""
    read = partial(content_of, own=own, masks_applied=masks_applied)
    if weights.path:
        return read_as(_override(weights), user_path(weights.path), weights.content, read)
    return read_as(_override(weights), downloaded(_entry(weights).url), None, read)


def read_as(
    setting: str, path: Path, identity: str | None, read: Callable[[Path], Content]
) -> Content:
    """The content of a file.

    Args:
        setting: the override that names the file, for messages.
        identity: of the content that is expected; None: any.

    Raises:
        ConfigError: it has another content, cannot be read, or `read` finds it unsuitable.
    """
    try:
        if identity is not None and identity != f"sha256:{digest(path)}":
            raise ConfigError(f"{setting} has changed since the run started; start the run again")
        return read(path)
    except UnsuitableError as error:
        raise ConfigError(f"{setting} {error}") from error
    except OSError as error:
        raise ConfigError(f"{setting} cannot be read: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def downloaded(url: str) -> Path:
    """Path of the file of `url` in torch's cache, downloaded if missing.

    The file's checksum is compared with the one in its name.

    Raises:
        ConfigError: the download failed, or the checksum differs.
    """
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(url).name
    prefix = path.stem.rpartition("-")[2]
    if not path.is_file():
        # One process downloads, the others wait.
        with held(path.with_name(f"{path.name}.lock"), lambda holder: None):
            if not path.is_file():
                _download(url, path, prefix)
    if not digest(path).startswith(prefix):
        raise ConfigError(
            f"start.weights={TORCHVISION}: {path} is damaged or another file: its SHA-256 should"
            f" begin with {prefix}; delete it"
        )
    return path


def _download(url: str, path: Path, prefix: str) -> None:
    patience = socket.getdefaulttimeout()
    socket.setdefaulttimeout(PATIENCE)
    try:
        torch.hub.download_url_to_file(url, str(path), hash_prefix=prefix, progress=False)
    except (OSError, RuntimeError) as error:
        raise ConfigError(
            f"start.weights={TORCHVISION}: {url} could not be downloaded ({_reason(error)})\n "
            f" download it on a machine with network access, put it at {path} and repeat the"
            " command; or use start.weights=PATH"
        ) from error
    finally:
        socket.setdefaulttimeout(patience)
