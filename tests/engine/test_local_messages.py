"""Messages between processes of one host: contents, sums, mistakes and the death of a process.

Except for connections, which processes make, both ends of a connection are threads of this process.
"""

import copy
import socket
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations
from pathlib import Path

import pytest
import torch
from members import run_members
from torch import Tensor

from runner.engine import local_messages
from runner.engine.distributed import connected, is_lost
from runner.engine.local_messages import HEADER, LocalMessages, connect
from runner.engine.messages import CollectiveMessages, summed

# Shape and type of messages: as BatchNorm sends them, single numbers, nothing, and more bytes than
# the buffers of a socket hold.
CASES = [
    ((129,), torch.float64),
    ((2, 64), torch.float32),
    ((), torch.float64),
    ((3,), torch.int64),
    ((0,), torch.float32),
    ((2, 0), torch.float64),
    ((300, 1000), torch.float64),
    ((5,), torch.bfloat16),
    ((1,), torch.bool),
]


def content(rank: int, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Numbers of many sizes, whose sums depend on the order of additions."""
    rng = torch.Generator().manual_seed(rank)
    return (torch.randn(shape, generator=rng, dtype=torch.float64).exp() ** 5).to(dtype)


@pytest.fixture
def ends() -> Iterator[Callable[[int], list[LocalMessages]]]:
    """A function that connects so many processes, which are threads here."""
    made: list[LocalMessages] = []

    def connections(size: int) -> list[LocalMessages]:
        made.extend(LocalMessages(rank, {}) for rank in range(size))
        for low, high in combinations(range(size), 2):
            pair = socket.socketpair()
            for end in pair:
                end.setblocking(False)
            made[low].connections[high], made[high].connections[low] = pair
        return made

    yield connections
    for each in made:
        each.close()


def at_once(*works: Callable[[], Tensor]) -> list[Tensor | Exception]:
    """The results or errors of functions that run at the same time."""
    with ThreadPoolExecutor(len(works)) as threads:
        found = [threads.submit(work) for work in works]
        return [each.exception(60) or each.result() for each in found]  # type: ignore[misc]


@pytest.mark.parametrize("busy", [0.0, 30.0])
@pytest.mark.parametrize("size", [2, 3])
def test_all_receive_the_tensors_of_all(
    size: int,
    busy: float,
    ends: Callable[[int], list[LocalMessages]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(local_messages, "BUSY", busy)  # asleep, or never asleep
    processes = ends(size)
    for shape, dtype in CASES:
        sent = [content(rank, shape, dtype) for rank in range(size)]
        works = [
            lambda p=p, own=own: p.gathered(own) for p, own in zip(processes, sent, strict=True)
        ]
        for found in at_once(*works):
            assert isinstance(found, Tensor), found
            assert torch.equal(found, torch.stack(sent))


def test_a_copy_of_a_net_uses_the_same_connections(
    ends: Callable[[int], list[LocalMessages]],
) -> None:
    first, _ = ends(2)
    assert copy.deepcopy({"net": first})["net"] is first


# --- mistakes and lost processes


def test_messages_of_another_size_or_number_are_an_error(
    ends: Callable[[int], list[LocalMessages]],
) -> None:
    first, second = ends(2)
    errors = at_once(lambda: first.gathered(torch.ones(3)), lambda: second.gathered(torch.ones(2)))
    assert [str(error) for error in errors] == [
        "process 1 sends message 1 of 8 bytes, and this one message 1 of 12",
        "process 0 sends message 1 of 12 bytes, and this one message 1 of 8",
    ]
    assert not any(is_lost(error) for error in errors if isinstance(error, Exception))


def test_a_message_that_was_left_out_is_an_error(
    ends: Callable[[int], list[LocalMessages]],
) -> None:
    first, second = ends(2)
    first._number = 1
    errors = at_once(*(lambda p=p: p.gathered(torch.ones(2)) for p in (first, second)))
    assert [str(error) for error in errors] == [
        "process 1 sends message 1 of 8 bytes, and this one message 2 of 8",
        "process 0 sends message 2 of 8 bytes, and this one message 1 of 8",
    ]


@pytest.mark.parametrize("sent", [0, 5, HEADER.size + 3])
@pytest.mark.parametrize("unread", [True, False])
def test_a_process_that_ends_before_or_within_a_message_is_lost(
    sent: int, unread: bool, ends: Callable[[int], list[LocalMessages]]
) -> None:
    first, second = ends(2)
    dying = second.connections[0]
    dying.sendall((HEADER.pack(1, 8) + bytes(8))[:sent])

    def end() -> Tensor:
        if not unread:  # else the system resets the connection
            while len(dying.recv(64, socket.MSG_PEEK)) < HEADER.size + 8:
                pass
            dying.recv(64)
        dying.close()
        return torch.ones(1)

    dying.setblocking(True)
    error, _ = at_once(lambda: first.gathered(torch.ones(2)), end)
    assert isinstance(error, Exception) and is_lost(error)
    assert str(error) == "process 1 has closed its connection"


# --- connections


def gathered_in(rank: int, size: int) -> dict[str, Tensor]:
    """Sums and tensors of all processes, by direct messages and by torch's group."""
    direct = connect(rank, size)
    assert direct is not None and sorted(direct.connections) == [
        peer for peer in range(size) if peer != rank
    ]
    found = {}
    for kind, messages in (("direct", direct), ("group", CollectiveMessages())):
        for shape, dtype in CASES[:4]:
            found[f"{kind} {shape}"] = summed(messages, content(rank, shape, dtype))
    direct.close()
    return found


def unconnected(rank: int, size: int, folder: Path) -> list[str]:
    """The kinds of messages if one process can have no socket, and if it is on another host."""
    kinds, gathered = [], local_messages._gathered_paths
    if rank == 1:
        tempfile.tempdir = str(folder / ("long" * 40))
        Path(tempfile.tempdir).mkdir()
    kinds.append(type(connected(torch.device("cpu")).messages).__name__)
    tempfile.tempdir = None
    local_messages._gathered_paths = lambda path, size: [
        f"{each}-elsewhere" if peer == 0 and rank == 1 else each
        for peer, each in enumerate(gathered(path, size))
    ]
    kinds.append(type(connected(torch.device("cpu")).messages).__name__)
    local_messages._gathered_paths = gathered
    kinds.append(type(connected(torch.device("cpu")).messages).__name__)
    return kinds


def member(rank: int, size: int, folder: Path) -> None:
    torch.save((gathered_in(rank, size), unconnected(rank, size, folder)), folder / f"{rank}.pt")


@pytest.mark.parametrize("size", [2, 3])
def test_processes_of_a_host_connect_and_have_the_sums_of_torchs_group(
    size: int, tmp_path: Path
) -> None:
    before = set(Path(tempfile.gettempdir()).glob("winnow-*/messages"))
    run_members(member, size, tmp_path)
    results = [torch.load(tmp_path / f"{rank}.pt") for rank in range(size)]
    for found, kinds in results:
        assert kinds == ["CollectiveMessages", "CollectiveMessages", "LocalMessages"]
        for shape, dtype in CASES[:4]:
            sums = content(0, shape, dtype)
            for rank in range(1, size):
                sums = sums + content(rank, shape, dtype)
            assert torch.equal(found[f"direct {shape}"], sums)
            assert torch.equal(found[f"group {shape}"], sums)
    assert set(Path(tempfile.gettempdir()).glob("winnow-*/messages")) <= before
