"""Messages between the processes of one host, through UNIX sockets.

A layer of BatchNorm waits for two messages in each step, of some hundred numbers. gloo sends each
through threads of its own, which have to be woken; here the process that computes sends and
receives by itself. It asks for the other's message again and again for a short time, and then
sleeps until it is there, so that it does not keep a core from others while it waits for long.
"""

import os
import select
import socket
import struct
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

HEADER = struct.Struct("<QQ")  # number of the message, bytes of its tensor
RANK = struct.Struct("<I")  # the first bytes of a connection
PATH_BYTES = 128  # more than the path of a socket can have on any system
BUSY = 0.0002  # seconds of asking before a process sleeps: some times as long as waking it takes


@dataclass
class _Exchange:
    """The messages of two processes to each other, as far as they have not been transferred."""

    peer: int
    connection: socket.socket
    header: bytes  # of both messages
    sending: memoryview  # the bytes that are left
    arriving: memoryview  # the whole message to be received
    arrived: int = 0

    def advance(self) -> bool:
        """Transfer what is possible without waiting; return whether everything is transferred.

        Raises:
            DistNetworkError: the other process has ended.
            RuntimeError: it sends something else, as the processes do not call the same.
        """
        try:
            if len(self.sending):
                self.sending = self.sending[self.connection.send(self.sending) :]
        except BlockingIOError:
            pass
        except OSError as error:
            raise self._lost() from error
        try:
            if self.arrived < len(self.arriving):
                self._receive()
        except BlockingIOError:
            pass
        except OSError as error:
            raise self._lost() from error
        return not len(self.sending) and self.arrived == len(self.arriving)

    def _receive(self) -> None:
        count = self.connection.recv_into(self.arriving[self.arrived :])
        if not count:
            raise self._lost()
        before, self.arrived = self.arrived, self.arrived + count
        if before < HEADER.size <= self.arrived:
            header = self.arriving[: HEADER.size].tobytes()
            if header != self.header:
                (number, size), (ours, expected) = map(HEADER.unpack, (header, self.header))
                raise RuntimeError(
                    f"process {self.peer} sends message {number} of {size} bytes, and this one"
                    f" message {ours} of {expected}"
                )

    def _lost(self) -> Exception:
        return dist.DistNetworkError(f"process {self.peer} has closed its connection")


@dataclass(eq=False)
class LocalMessages:
    """Messages between all processes of a group, which are on this host.

    Args:
        connections: to the other processes, by their rank.
    """

    rank: int
    connections: dict[int, socket.socket]
    _number: int = field(default=0, init=False)  # of messages so far

    def __deepcopy__(self, memo: object) -> "LocalMessages":
        """The same connections, for a copy of a net that uses them."""
        return self

    def gathered(self, own: Tensor) -> Tensor:
        """The tensors of all processes (size, ...), of one shape and type, in their order.

        Raises:
            DistNetworkError: another process has ended.
            RuntimeError: the processes do not call the same.
        """
        self._number += 1
        header = HEADER.pack(self._number, own.nbytes)
        messages = np.empty((len(self.connections) + 1, HEADER.size + own.nbytes), np.uint8)
        messages[self.rank, : HEADER.size] = np.frombuffer(header, np.uint8)
        contents = torch.from_numpy(messages)[:, HEADER.size :].view(own.dtype)
        contents[self.rank] = own.reshape(-1)
        _complete(
            [
                _Exchange(peer, connection, header, messages[self.rank].data, messages[peer].data)
                for peer, connection in self.connections.items()
            ]
        )
        return contents.view(len(contents), *own.shape)

    def close(self) -> None:
        """Close the connections."""
        for connection in self.connections.values():
            connection.close()


def _complete(exchanges: list[_Exchange]) -> None:
    """Transfer all messages."""
    until = time.perf_counter() + BUSY
    while exchanges := [each for each in exchanges if not each.advance()]:
        if time.perf_counter() > until:
            _sleep(exchanges)


def _sleep(exchanges: Sequence[_Exchange]) -> None:
    """Wait until something can be sent or received."""
    waiting = select.poll()
    for each in exchanges:
        arriving = each.arrived < len(each.arriving)
        events = select.POLLIN * arriving | select.POLLOUT * bool(len(each.sending))
        waiting.register(each.connection, events)
    waiting.poll()


def connect(rank: int, size: int) -> LocalMessages | None:
    """Connect all processes of torch's group; None if they are not on one host.

    They are if each can connect to the sockets of the others, which lie in private folders.
    """
    with ExitStack() as stack:
        listener, path = _listening(stack, size)
        connections = _connected(_gathered_paths(path, size)[:rank], rank)
        possible = torch.tensor(int(bool(path) and len(connections) == rank))
        dist.all_reduce(possible, dist.ReduceOp.MIN)
        if not possible:
            LocalMessages(rank, connections).close()
            return None
        for _ in range(rank + 1, size):  # they have connected: accept does not wait for them
            connection, _ = listener.accept()
            (peer,) = RANK.unpack(connection.recv(RANK.size, socket.MSG_WAITALL))
            connections[peer] = connection
    for connection in connections.values():
        connection.setblocking(False)
    return LocalMessages(rank, connections)


def _listening(stack: ExitStack, size: int) -> tuple[socket.socket, str]:
    """A socket that the other processes of this host can connect to, and its path.

    The path is empty where the system has no such sockets, or no folder with a short enough name.
    """
    kind = getattr(socket, "AF_UNIX", socket.AF_INET)  # Windows has none
    listener = stack.enter_context(socket.socket(kind))
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="winnow-"))
    path = f"{folder}/messages"
    try:
        listener.bind(path)
        listener.listen(size)
    except (OSError, TypeError):
        return listener, ""
    return listener, path


def _gathered_paths(path: str, size: int) -> list[str]:
    """The paths of all processes."""
    own = torch.zeros(PATH_BYTES, dtype=torch.uint8)
    encoded = os.fsencode(path)
    own[: len(encoded)] = torch.tensor(list(encoded), dtype=torch.uint8)
    found = [torch.empty_like(own) for _ in range(size)]
    dist.all_gather(found, own)
    return [os.fsdecode(bytes(each.tolist()).rstrip(b"\0")) for each in found]


def _connected(paths: Sequence[str], rank: int) -> dict[int, socket.socket]:
    """Connections to the processes with these paths, as far as they are on this host."""
    found = {}
    for peer, path in enumerate(paths):
        if not path:
            continue
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(path)
            connection.sendall(RANK.pack(rank))
        except OSError:  # on another host
            connection.close()
            continue
        found[peer] = connection
    return found
