"""What the processes of several nodes have to agree on before any work: folders, data, checks."""

import secrets
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from runner.engine.distributed import ProcessGroup
from runner.errors import ConfigError

T = TypeVar("T")
Places = Mapping[int, str]  # rank -> host name


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
    absent = _gathered(group, [key for key, path in folders.items() if not (path / name).exists()])
    if group.first:
        for folder in folders.values():
            (folder / name).unlink(missing_ok=True)
    problems = [
        f"{key}={folders[key]} is not the same folder for all {group.size} processes of torchrun,"
        f" but another one for {_listed(without)}; {key} has to name a folder that all nodes share"
        for key in folders
        if (without := {rank: host for rank, (host, keys) in absent.items() if key in keys})
    ]
    if problems:
        raise ConfigError(*problems)


def checked_by_all(
    group: ProcessGroup, check: Callable[[], T], content: Callable[[T], str], what: str
) -> T:
    """The result of `check`, which has to succeed in all processes and to read equal files.

    Args:
        content: a checksum of what was read; empty if nothing was.
        what: names the files in a message.

    Raises:
        ConfigError: in all processes, with the messages of each of them, or because the contents
            differ.
    """
    if group.size == 1:
        return check()
    result: T | None = None
    messages: tuple[str, ...] = ()
    read = ""
    try:
        result = check()
        read = content(result)
    except ConfigError as error:
        messages = error.messages
    found = _gathered(group, (messages, read))
    problems = dict.fromkeys(each for _, (messages, _) in found.values() for each in messages)
    if not problems:
        problems = dict.fromkeys(_differing({r: (h, c) for r, (h, (_, c)) in found.items()}, what))
    else:
        problems = dict.fromkeys(_placed(each, found) for each in problems)
    if problems:
        raise ConfigError(*problems)
    return result  # type: ignore[return-value]  # `check` has returned it


def _placed(message: str, found: Mapping[int, tuple[str, Any]]) -> str:
    """A message with the processes that have it, unless all do."""
    places = {rank: host for rank, (host, (messages, _)) in found.items() if message in messages}
    return message if len(places) == len(found) else f"{_listed(places)}: {message}"


def _differing(contents: Mapping[int, tuple[str, str]], what: str) -> list[str]:
    """A message if processes have read different files; "" means that one has read none."""
    read = {rank: each for rank, each in contents.items() if each[1]}
    first = next((content for _, content in read.values()), "")
    others = {rank: host for rank, (host, content) in read.items() if content != first}
    if not others:
        return []
    where = _listed(others)
    return [f"{what} has other files for {where} than for process 0; copy the same to all nodes"]


def _gathered(group: ProcessGroup, value: Any) -> dict[int, tuple[str, Any]]:
    """Rank -> host and value of each process."""
    found: list[Any] = [None] * group.size
    dist.all_gather_object(found, (socket.gethostname(), value))
    return dict(enumerate(found))


def _listed(places: Places) -> str:
    """Processes with their hosts as text."""
    hosts = dict[str, list[int]]()
    for rank, host in places.items():
        hosts.setdefault(host, []).append(rank)
    return ", ".join(
        f"process{'es' if len(ranks) > 1 else ''} {', '.join(map(str, ranks))} on {host}"
        for host, ranks in hosts.items()
    )
