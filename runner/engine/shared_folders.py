"""Whether the processes of several nodes see the same folders."""

import secrets
from pathlib import Path

import torch
import torch.distributed as dist

from runner.engine.distributed import ProcessGroup
from runner.errors import ConfigError


def check_shared(group: ProcessGroup, folders: dict[str, Path]) -> None:
    """Refuse folders that are not the same for all processes: the first writes what all read.

    Args:
        folders: folders that exist, by the key that sets them.

    Raises:
        ConfigError: in all processes, with each folder that one of them does not share.
    """
    if group.size == 1:
        return
    token = torch.tensor([secrets.randbits(62)])
    dist.broadcast(token, src=0)
    name = f".shared-{int(token):x}"
    if group.first:
        for folder in folders.values():
            (folder / name).touch()
    group.wait()
    absent = {key: group.any(not (folder / name).exists()) for key, folder in folders.items()}
    if group.first:
        for folder in folders.values():
            (folder / name).unlink(missing_ok=True)
    problems = [
        f"{key}={folders[key]} is not the same folder for all {group.size} processes of torchrun:"
        f" {key} has to name a folder that all nodes share"
        for key, missing in absent.items()
        if missing
    ]
    if problems:
        raise ConfigError(*problems)
