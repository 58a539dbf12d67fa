"""Processes that share files stay correct without locks; leases exclude where flock does not."""

import contextlib
import errno
import fcntl
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import ROOT, SMALL, environment
from safetensors.torch import save_file

from runner import locks
from runner.config.compose import compose_config
from runner.config.request import read_request
from runner.engine.execute import execute
from runner.engine.record import comparable
from runner.engine.store import Artefact, Store
from runner.files import atomically, write_json
from runner.locks import held, held_at_once, is_held
from runner.processes import current
from runner.records.find import record_in
from runner.spec.identity import run_id
from runner.spec.request import RunRequest

FORK = multiprocessing.get_context("fork")
KEY = "0123456789abcdef" * 2


def broken(code: int) -> Callable[..., None]:
    """A replacement of fcntl.flock; code 0: it succeeds and excludes nobody."""

    def flock(*arguments: object) -> None:
        if code:
            raise OSError(code, os.strerror(code))

    return flock


@pytest.mark.parametrize("code", [0, errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_leases_exclude_where_flock_does_not(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fcntl, "flock", broken(code))
    path = tmp_path / "a.lock"
    for _ in range(2):  # the second time after a release
        with held(path, pytest.fail):
            assert is_held(path)
            with held_at_once(path) as free:
                assert not free
            assert is_held(path)  # the failed attempt released nothing
        assert not is_held(path)
    assert {file.name for file in tmp_path.iterdir()} <= {"a.lock"}


DIE = """
import os, signal, sys
from pathlib import Path
from runner.locks import held
with held(Path(sys.argv[1]), print):
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_lease_of_a_killed_process_is_taken_over_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fcntl, "flock", broken(errno.ENOSYS))
    (tmp_path / "sitecustomize.py").write_text(
        "import errno, fcntl\n"
        "def flock(*arguments): raise OSError(errno.ENOSYS, 'no flock')\n"
        "fcntl.flock = flock\n"
    )
    own = {**environment(), "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    path = tmp_path / "a.lock"
    done = subprocess.run([sys.executable, "-c", DIE, str(path)], env=own, timeout=60)
    assert done.returncode == -signal.SIGKILL and path.with_suffix(".lease").is_file()
    with held_at_once(path) as free:
        assert free


def test_the_lease_of_another_host_is_taken_over_once_it_is_no_longer_renewed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "STALE", 0.5)
    path, lease = tmp_path / "a.lock", tmp_path / "a.lease"
    path.touch()
    lease.write_text(f"{replace(current(), host='elsewhere', pid=7).name} tag\n")
    begun, waits = time.monotonic(), []

    def renew() -> Iterator[float]:
        while time.monotonic() - begun < 1.0:
            os.utime(lease)
            yield 0.02

    pause, renewals = time.sleep, renew()
    monkeypatch.setattr(time, "sleep", lambda seconds: pause(next(renewals, seconds)))
    assert is_held(path)
    with held(path, waits.append):
        assert waits == ["process 7 on elsewhere"]
        assert time.monotonic() - begun > 1.4  # not while it was renewed


def test_a_lease_is_renewed_while_it_is_held_and_lost_without_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "BEAT", 0.02)
    path, lease = tmp_path / "a.lock", tmp_path / "a.lease"
    with held(path, pytest.fail):
        os.utime(lease, (0, 0))
        deadline = time.monotonic() + 30
        while lease.stat().st_mtime == 0 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert time.time() - lease.stat().st_mtime < 60
        lease.write_text("another process has taken it over\n")
    assert lease.read_text() == "another process has taken it over\n"  # not ours to release


def test_what_is_no_lease_is_taken_over_after_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "STALE", 0.05)
    for number, make in enumerate((Path.touch, Path.mkdir)):
        make(tmp_path / f"{number}.lease")
        with held(tmp_path / f"{number}.lock", lambda holder: None):
            pass
        assert not (tmp_path / f"{number}.lease").exists()
    (tmp_path / "2.lock").mkdir()
    with held(tmp_path / "2.lock", pytest.fail):
        pass


@pytest.mark.parametrize("code", [errno.EINVAL, errno.EIO])
def test_a_file_system_without_fsync_is_no_error_but_a_broken_disk_is(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", broken(code))
    fails = pytest.raises(OSError) if code == errno.EIO else contextlib.nullcontext()
    with fails:
        write_json(tmp_path / "a.json", [1])
    assert (tmp_path / "a.json").exists() == (code == errno.EINVAL)


@pytest.mark.parametrize("umask", [0o022, 0o002, 0o077])
def test_files_have_the_permissions_of_the_umask(umask: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        atomically(tmp_path / "a", lambda path: save_file({"w": torch.ones(2)}, path))  # private

        def private(path: Path) -> None:
            descriptor, name = tempfile.mkstemp(dir=tmp_path)
            os.close(descriptor)
            Path(name).rename(path)

        atomically(tmp_path / "b", private)
        store = Store(tmp_path / "cache")
        with store.lock(KEY, pytest.fail):
            snapshots = {1.0: {"w": torch.ones(2)}}
            store.save(KEY, Artefact(weights={"w": torch.ones(2)}, snapshots=snapshots))
    finally:
        os.umask(before)
    for path in tmp_path.rglob("*"):
        expected = (0o777 if path.is_dir() else 0o666) & ~umask
        assert path.stat().st_mode & 0o777 == expected, path


def in_forks(works: list[Callable[[], object]]) -> list[int | None]:
    """Exit codes of processes that begin `works` at the same time."""
    barrier = FORK.Barrier(len(works))

    def main(work: Callable[[], object]) -> None:
        barrier.wait()
        sys.exit(int(bool(work())))

    processes = [FORK.Process(target=main, args=(work,)) for work in works]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=120)
    return [process.exitcode for process in processes]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be two users")
def test_two_users_of_a_group_share_a_cache() -> None:
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o777)
    store, weights = Store(folder / "cache"), {"w": torch.arange(3.0)}

    def user(uid: int, own: str, others: str) -> object:
        os.setgid(12345)
        os.setuid(uid)
        os.umask(0o002)
        with store.lock(own, lambda holder: None):
            store.save(own, Artefact(weights=weights))
        deadline = time.monotonic() + 60
        while not store.has(others) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert torch.equal(store.load(others).weights["w"], weights["w"])
        with store.lock(others, lambda holder: None):  # a lock file of the other user
            store.add_snapshot(others, 1.0, weights)
        return False

    a, b = KEY, KEY[::-1]
    codes = in_forks([lambda: user(12346, a, b), lambda: user(12347, b, a)])
    assert codes == [0, 0] and store.has_snapshot(a, 1.0) and store.has_snapshot(b, 1.0)
    shutil.rmtree(folder)


def requested(folder: Path) -> RunRequest:
    own = [f"env.{name}_dir={folder / name}" for name in ("results", "cache")]
    run = ["method=magnitude", "density=0.3", "start=dense", "retrain=finetune", "portrait=weights"]
    return read_request(
        compose_config([*run, *SMALL, "model.hidden=[16]", "env.checkpoint_seconds=0", *own])
    )


@pytest.mark.parametrize("lock", ["flock excludes nobody", "no lock at all"])
def test_eight_processes_on_one_run_all_end_well_whatever_locks_do(
    lock: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    alone, shared = requested(tmp_path / "alone"), requested(tmp_path / "shared")
    assert in_forks([lambda: execute(alone)]) == [0]
    monkeypatch.setattr(fcntl, "flock", broken(0))
    if lock == "no lock at all":
        monkeypatch.setattr(locks._Attempt, "succeeds", lambda attempt: True)
    assert in_forks(8 * [lambda: execute(shared)]) == 8 * [0]
    name = run_id(shared.run)
    one, other = (record_in([tmp_path / part / "results"], name) for part in ("alone", "shared"))
    assert one is not None and other is not None and comparable(one) == comparable(other)
    left = {path.name for path in (tmp_path / "shared" / "cache").iterdir()}
    assert "damaged" not in left and not list((tmp_path / "shared" / "cache" / "tmp").iterdir())
    assert not list((tmp_path / "shared").rglob("*.tmp"))
