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
from numpy.typing import NDArray
from torch import Tensor

from runner.engine.messages import Numbers

HEADER = struct.Struct("<QQ")  # number of the message, bytes of its tensor
RANK = struct.Struct("<I")  # the first bytes of a connection
PATH_BYTES = 128  # more than the path of a socket can have on any system
BUSY = 0.0002  # seconds of asking before a process sleeps: some times as long as waking it takes


@dataclass(eq=False)
class _Exchange:
    """Messages of one size between two processes; its buffers are used again and again."""

    peer: int
    connection: socket.socket
    ours: bytearray  # header and content
    theirs: bytearray
    sent: int = 0
    arrived: int = 0

    def advance(self) -> bool:
        """Transfer what is possible without waiting; return whether everything is transferred.

        Raises:
            DistNetworkError: the other process has ended.
            RuntimeError: it sends something else, as the processes do not call the same.
        """
        size = len(self.ours)
        try:
            if self.sent < size:
                self.sent += self.connection.send(memoryview(self.ours)[self.sent :])
        except BlockingIOError:
            pass
        except OSError as error:
            raise self._lost() from error
        try:
            if self.arrived < size:
                self._receive()
        except BlockingIOError:
            pass
        except OSError as error:
            raise self._lost() from error
        return self.sent == self.arrived == size

    def _receive(self) -> None:
        count = self.connection.recv_into(memoryview(self.theirs)[self.arrived :])
        if not count:
            raise self._lost()
        before, self.arrived = self.arrived, self.arrived + count
        if before < HEADER.size <= self.arrived:
            theirs, ours = HEADER.unpack_from(self.theirs), HEADER.unpack_from(self.ours)
            if theirs != ours:
                raise RuntimeError(
                    f"process {self.peer} sends message {theirs[0]} of {theirs[1]} bytes, and this"
                    f" one message {ours[0]} of {ours[1]}"
                )

    def _lost(self) -> Exception:
        return dist.DistNetworkError(f"process {self.peer} has closed its connection")


@dataclass(eq=False)
class _Round:
    """The exchanges of one size with all processes.

    A layer of BatchNorm sends messages of one size in every step. After the passes over its values
    the caches hold nothing of this module, so that each operation takes some times as long as in
    a loop: the less there is to do for a message, the better.
    """

    exchanges: list[_Exchange]
    contents: list[NDArray[np.uint8]]  # of all processes in their order, views of the buffers
    own: NDArray[np.uint8]

    def transfer(self, number: int) -> None:
        """Send the content of `own` as the message of that number, and receive the others."""
        for each in self.exchanges:
            HEADER.pack_into(each.ours, 0, number, len(self.own))
            each.sent = each.arrived = 0
        _complete(self.exchanges)


@dataclass(eq=False)
class LocalMessages:
    """Messages between all processes of a group, which are on this host.

    Args:
        connections: to the other processes, by their rank.
    """

    rank: int
    connections: dict[int, socket.socket]
    _number: int = field(default=0, init=False)  # of messages so far
    _rounds: dict[int, _Round] = field(default_factory=dict, init=False)  # by bytes

    def __deepcopy__(self, memo: object) -> "LocalMessages":
        """The same connections, for a copy of a net that uses them."""
        return self

    def gathered(self, own: Tensor) -> Tensor:
        """The tensors of all processes (size, ...), of one shape and type, in their order.

        Raises:
            DistNetworkError: another process has ended.
            RuntimeError: the processes do not call the same.
        """
        parts = self._exchanged(own.contiguous().view(-1).view(torch.uint8).numpy())
        found = own.new_empty(len(parts), *own.shape)
        for row, part in zip(found.view(len(parts), -1).view(torch.uint8), parts, strict=True):
            row.numpy()[:] = part
        return found

    def summed(self, own: Numbers) -> Numbers:
        """The sum of the arrays of all processes, in their order: all have equal bits.

        Raises:
            DistNetworkError, RuntimeError: as `gathered`.
        """
        first, *others = self._exchanged(own.reshape(-1).view(np.uint8))
        total: Numbers = first.view(own.dtype).reshape(own.shape).copy()
        for each in others:
            total += each.view(own.dtype).reshape(own.shape)
        return total

    def _exchanged(self, own: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
        """The bytes of all processes in their order, until the next message of this size."""
        self._number += 1
        found = self._rounds.get(len(own))
        if found is None:
            found = self._rounds[len(own)] = self._new_round(len(own))
        found.own[:] = own
        found.transfer(self._number)
        return found.contents

    def _new_round(self, size: int) -> _Round:
        """Buffers for messages of `size` bytes."""
        ours = bytearray(HEADER.size + size)
        theirs = {peer: bytearray(HEADER.size + size) for peer in self.connections}
        buffers = [ours if peer == self.rank else theirs[peer] for peer in range(len(theirs) + 1)]
        contents = [np.frombuffer(each, np.uint8, offset=HEADER.size) for each in buffers]
        return _Round(
            [_Exchange(peer, c, ours, theirs[peer]) for peer, c in self.connections.items()],
            contents,
            contents[self.rank],
        )

    def close(self) -> None:
        """Close the connections."""
        for connection in self.connections.values():
            connection.close()


def _complete(exchanges: list[_Exchange]) -> None:
    """Transfer all messages."""
    until = time.perf_counter() + BUSY
    while left := [each for each in exchanges if not each.advance()]:
        if time.perf_counter() > until:
            _sleep(left)


def _sleep(exchanges: Sequence[_Exchange]) -> None:
    """Wait until something can be sent or received."""
    waiting = select.poll()
    for each in exchanges:
        arriving, sending = each.arrived < len(each.theirs), each.sent < len(each.ours)
        events = select.POLLIN * arriving | select.POLLOUT * sending
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
