"""Weights that replace a training (`start.weights`): a file, or torchvision's for the network.

Their identity is the SHA-256 of the file, independent of its path, or the name of torchvision's
entry. runner/engine/weights_file.py reads the files.
"""

import socket
from pathlib import Path
from typing import Any

import torch

from runner.data.download import PATIENCE
from runner.engine.checkpoint import State
from runner.engine.divergence import infinite_tensor
from runner.engine.weights_file import UnsuitableError, some, state_of
from runner.errors import ConfigError
from runner.locks import held
from runner.paths import user_path
from runner.spec.pretrained import TORCHVISION, digest
from runner.spec.run import Run, Weights

# Of BatchNorm. Files from before PyTorch 0.4.1 have none; with a fixed momentum it is not used.
COUNTER = "num_batches_tracked"


def fitting(weights: Weights, expected: State, run: Run) -> State:
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
    try:
        state = _read(weights, frozenset(expected))
    except UnsuitableError as error:
        raise ConfigError(f"{_override(weights)} {error}") from error
    counters = {key: tensor for key, tensor in expected.items() if key.endswith(COUNTER)}
    state = counters | state
    if lines := _misfits(state, expected):
        title = f"{_override(weights)} does not fit model={name} on dataset={dataset}"
        raise ConfigError("\n".join([f"{title} ({classes} classes)", *lines]))
    fitted = {name: state[name].detach().to(tensor.dtype) for name, tensor in expected.items()}
    if what := infinite_tensor(fitted):
        raise ConfigError(
            f"{_override(weights)}: {what}: its training has diverged, or its numbers are too large"
            " for the network's; take other weights"
        )
    return fitted


def _misfits(state: State, expected: State) -> list[str]:
    """One line for each kind of mismatch, with a few names."""
    common = {name: tensor for name, tensor in expected.items() if name in state}
    kinds = {
        "missing": [name for name in expected if name not in state],
        "not in the network": [name for name in state if name not in expected],
        "with another shape": [
            f"{name} {tuple(state[name].shape)} instead of {tuple(tensor.shape)}"
            for name, tensor in common.items()
            if state[name].shape != tensor.shape
        ],
        # Whole numbers in place of weights are usually quantised: their scale is elsewhere.
        "of another type": [
            f"{name} {state[name].dtype} instead of {tensor.dtype}"
            for name, tensor in common.items()
            if state[name].is_floating_point() != tensor.is_floating_point()
        ],
    }
    return [f"  {kind}: {some(names)}" for kind, names in kinds.items() if names]


def _entry(weights: Weights) -> Any:
    import torchvision  # takes a second, and planning does not need it

    return torchvision.models.get_weight(weights.content.partition(":")[2])


def _override(weights: Weights) -> str:
    return f"start.weights={weights.path or TORCHVISION}"


def _read(weights: Weights, own: frozenset[str]) -> State:
    """The state dict in the file; `own`: the names of the network."""
    path = user_path(weights.path) if weights.path else downloaded(_entry(weights).url)
    try:
        if weights.path and weights.content != f"sha256:{digest(path)}":
            raise ConfigError(
                f"{_override(weights)} has changed since the run started; start the run again"
            )
        return state_of(path, own)
    except OSError as error:
        raise ConfigError(f"{_override(weights)} cannot be read: {_reason(error)}") from error


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
