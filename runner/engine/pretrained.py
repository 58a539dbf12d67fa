"""Weights that replace a training (`start.weights`): a file, or torchvision's for the network.

Their identity is the SHA-256 of the file, independent of its path, or the name of torchvision's
entry. Files are in safetensors' format or in torch's; of the latter only tensors and plain values
are read. The state dict may be part of a checkpoint, and may come from a network in DataParallel.
"""

import pickle
import socket
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from runner.data.download import PATIENCE
from runner.engine.checkpoint import State
from runner.errors import ConfigError
from runner.files import held
from runner.spec.pretrained import TORCHVISION, digest
from runner.spec.run import Run, Weights

WRAPPERS = ("state_dict", "model")  # keys under which checkpoints store a state dict
PARALLEL = "module."  # DataParallel's prefix of every name
# Of BatchNorm. Files from before PyTorch 0.4.1 have none; with a fixed momentum it is not used.
COUNTER = "num_batches_tracked"
SHOWN = 3  # names printed for each kind of mismatch


def fitting(weights: Weights, expected: State, run: Run) -> State:
    """The weights with the names and types of `expected`, a state dict of the run's network.

    Raises:
        ConfigError: the weights cannot be downloaded or read, or do not fit.
    """
    name, dataset, classes = run.model.name, run.dataset.name, run.dataset.info().classes
    # Checked before a download.
    if weights.path is None and (own := len(_entry(weights).meta["categories"])) != classes:
        raise ConfigError(
            f"{_override(weights)}: torchvision's weights of {name} are for {own} classes,"
            f" dataset={dataset} has {classes}; use dataset=imagenet, or omit start.weights to"
            " train the network"
        )
    state = _unwrapped(_read(weights), weights)
    counters = {key: tensor for key, tensor in expected.items() if key.endswith(COUNTER)}
    state = counters | state
    if lines := _misfits(state, expected):
        title = f"{_override(weights)} does not fit model={name} on dataset={dataset}"
        raise ConfigError("\n".join([f"{title} ({classes} classes)", *lines]))
    return {parameter: state[parameter].to(tensor.dtype) for parameter, tensor in expected.items()}


def _misfits(state: State, expected: State) -> list[str]:
    """One line for each kind of mismatch, with up to `SHOWN` names."""
    kinds = {
        "missing": [name for name in expected if name not in state],
        "not in the network": [name for name in state if name not in expected],
        "with another shape": [
            f"{name} {tuple(state[name].shape)} instead of {tuple(tensor.shape)}"
            for name, tensor in expected.items()
            if name in state and state[name].shape != tensor.shape
        ],
    }
    return [f"  {kind}: {_some(names)}" for kind, names in kinds.items() if names]


def _some(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _entry(weights: Weights) -> Any:
    import torchvision  # takes a second, and planning does not need it

    return torchvision.models.get_weight(weights.content.partition(":")[2])


def _override(weights: Weights) -> str:
    return f"start.weights={weights.path or TORCHVISION}"


def _read(weights: Weights) -> Any:
    """The content of the file, on the CPU."""
    path = Path(weights.path).expanduser() if weights.path else downloaded(_entry(weights).url)
    try:
        if weights.path and weights.content != f"sha256:{digest(path)}":
            raise ConfigError(
                f"{_override(weights)} has changed since the run started; start the run again"
            )
        return (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except pickle.UnpicklingError as error:
        raise ConfigError(
            f"{_override(weights)} is not a file of torch, or contains more than tensors and plain"
            " values; save the state dict alone: torch.save(model.state_dict(), PATH)"
        ) from error
    except (OSError, EOFError, RuntimeError, SafetensorError) as error:
        raise ConfigError(f"{_override(weights)} cannot be read: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    return (str(error).strip() or "it ends too early").splitlines()[0]


def _unwrapped(found: Any, weights: Weights) -> State:
    """The state dict inside a checkpoint, without DataParallel's prefix."""
    for name in WRAPPERS:
        if isinstance(found, dict) and isinstance(found.get(name), dict):
            found = found[name]
    tensors = isinstance(found, dict) and all(isinstance(t, torch.Tensor) for t in found.values())
    if not tensors or not found:
        raise ConfigError(
            f"{_override(weights)} contains no state dict: expected names and tensors, alone or"
            f" under {' or '.join(WRAPPERS)}"
        )
    parallel = all(name.startswith(PARALLEL) for name in found)
    return {
        name.removeprefix(PARALLEL) if parallel else name: tensor for name, tensor in found.items()
    }


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
