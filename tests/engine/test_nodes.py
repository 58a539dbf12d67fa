"""Two nodes on one machine, each in a network namespace of its own: two agents of torchrun.

The namespaces have an interface each and no other way to each other.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, SMALL, environment, last_of_each
from members import run_members
from support import machine

from runner.engine.distributed import ALONE, ProcessGroup
from runner.engine.record import comparable
from runner.engine.shared_folders import checked_by_all
from runner.errors import ConfigError

SECONDS = 400  # until a test counts as hanging
PORT = 29400  # free in a namespace of its own


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


def namespaces_can_be_had() -> bool:
    if sys.platform != "linux" or os.geteuid() or not shutil.which("ip"):
        return False
    name = f"winnow-{os.getpid()}"
    try:
        ip("netns", "add", name)
        ip("netns", "exec", name, "true")
        ip("netns", "delete", name)
    except subprocess.CalledProcessError:
        return False
    return True


@pytest.fixture(scope="module")
def nodes() -> Iterator[list[str]]:
    """The names of two namespaces with the addresses 10.77.0.1 and 10.77.0.2."""
    if not namespaces_can_be_had():
        pytest.skip("network namespaces need root, Linux and the program ip")
    names = [f"winnow{i}-{os.getpid()}" for i in range(2)]
    links = [f"win{i}-{os.getpid() % 100_000}" for i in range(2)]
    try:
        for name in names:
            ip("netns", "add", name)
        pair = ["type", "veth", "peer", "name", links[1], "netns", names[1]]
        ip("link", "add", links[0], "netns", names[0], *pair)
        for i, name in enumerate(names):
            ip("-n", name, "address", "add", f"10.77.0.{i + 1}/24", "dev", links[i])
            for link in (links[i], "lo"):
                ip("-n", name, "link", "set", link, "up")
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True)


def agent(nodes: list[str], node: int, folder: Path, *overrides: str) -> subprocess.Popen[str]:
    """torchrun with one process on a node."""
    words = [
        *("--nnodes=2", "--nproc-per-node=1", "--rdzv-backend=c10d"),
        *(f"--rdzv-endpoint=10.77.0.1:{PORT}", f"--local-addr=10.77.0.{node + 1}"),
        # The names of hosts do not lead to these addresses.
        *("--rdzv-id=test", f"--rdzv-conf=is_host={int(node == 0)}", str(ROOT / "run.py")),
    ]
    own = {key: f"env.{key}_dir={folder / key}" for key in ("results", "cache")}
    chosen = last_of_each(*SMALL, "method=dense", *own.values(), *overrides)
    (link,) = [
        each["ifname"]
        for each in json.loads(
            subprocess.run(
                ["ip", "-n", nodes[node], "-j", "address"], capture_output=True, check=True
            ).stdout
        )
        if each["ifname"] != "lo"
    ]
    return subprocess.Popen(
        [
            *("ip", "netns", "exec", nodes[node]),
            *(sys.executable, "-m", "torch.distributed.run", *words, *chosen),
        ],
        cwd=folder,
        env={**environment(), "GLOO_SOCKET_IFNAME": link},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def both(
    nodes: list[str], folder: Path, *overrides: str, own: tuple[str, str] = ("", "")
) -> tuple[list[int], list[str]]:
    """The exit codes and outputs of both nodes; `own` is an override of each."""
    agents = [
        agent(nodes, node, folder, *overrides, *([own[node]] if own[node] else []))
        for node in range(2)
    ]
    try:
        outputs = [each.communicate(timeout=SECONDS)[0] for each in agents]
    finally:
        for each in agents:
            each.kill()
    return [each.returncode for each in agents], outputs


@pytest.mark.slow
def test_two_nodes_train_one_run_with_a_copy_of_the_data_on_each(
    nodes: list[str], tmp_path: Path
) -> None:
    copies = tuple(f"env.data_dir={tmp_path / f'data{node}'}" for node in range(2))
    codes, outputs = both(nodes, tmp_path, own=(copies[0], copies[1]))
    assert codes == [0, 0], outputs
    (path,) = tmp_path.glob("results/runs/*/result.json")
    found = json.loads(path.read_text())
    assert found["provenance"]["processes"] == 2
    words = last_of_each(*SMALL, "method=dense", f"env.results_dir={tmp_path / 'one'}")
    subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
        + [str(ROOT / "run.py"), *words, f"env.cache_dir={tmp_path / 'one-cache'}"],
        env=environment(),
        check=True,
        capture_output=True,
        timeout=SECONDS,
    )
    (path,) = tmp_path.glob("one/runs/*/result.json")
    assert comparable(found) == comparable(json.loads(path.read_text()))


@pytest.mark.slow
@pytest.mark.parametrize("key", ["results_dir", "cache_dir"])
def test_a_folder_that_the_nodes_do_not_share_gives_one_message(
    key: str, nodes: list[str], tmp_path: Path
) -> None:
    own = (f"env.{key}={tmp_path / 'a'}", f"env.{key}={tmp_path / 'b'}")
    codes, outputs = both(nodes, tmp_path, own=own)
    assert all(codes), outputs
    said = [line for text in outputs for line in text.splitlines() if line.startswith("error: ")]
    assert len(said) == 1 and f"env.{key}={tmp_path / 'a'} is not the same folder" in said[0], said
    assert "but another one for process 1 on " in said[0]
    assert not list(tmp_path.glob("*/runs/*/result.json"))


# --- checks of all processes, as forks of this one


def check(rank: int, size: int, folder: Path) -> None:
    group, found = ProcessGroup(rank, size), list[Any]()

    def refused() -> str:
        if rank == 1:
            raise ConfigError("digits cannot be used")
        return "content"

    def refused_by_all() -> str:
        raise ConfigError("no such net")

    works: list[tuple[Any, Any]] = [
        (lambda: "content", str),
        (lambda: f"content {rank}", str),
        (lambda: rank, lambda value: "" if value else "content"),  # the second has read nothing
        (refused, str),
        (refused_by_all, str),
    ]
    for work, content in works:
        try:
            found.append(checked_by_all(group, work, content, "env.data_dir=data"))
        except ConfigError as error:
            found.append(str(error))
    (folder / f"{rank}.json").write_text(json.dumps(found))


def test_what_one_process_refuses_is_refused_by_all_with_its_place(tmp_path: Path) -> None:
    run_members(check, 2, tmp_path)
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2))
    host = socket.gethostname()
    messages = [
        f"env.data_dir=data has other files for process 1 on {host} than for process 0; copy the"
        " same to all nodes",
        f"process 1 on {host}: digits cannot be used",
        "no such net",
    ]
    assert first == ["content", messages[0], 0, *messages[1:]]
    assert second == ["content", messages[0], 1, *messages[1:]]


def test_a_single_process_checks_for_itself(tmp_path: Path) -> None:
    assert machine(tmp_path).group == ALONE
    assert checked_by_all(ALONE, lambda: 3, str, "data") == 3
