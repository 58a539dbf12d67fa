"""The cache contains only complete artefacts, even if processes collide, fail or are killed."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ROOT, environment
from torch import Tensor

from runner.engine.checkpoint import load_checkpoint, save_checkpoint
from runner.engine.store import Artefact, Store
from runner.files import atomically, clear_leftovers, held, write_json

KEY = "0123456789abcdef0123456789abcdef"
PARTS = ("weights", "masks", "optimizer", "findings")


def artefact(seed: int = 0) -> Artefact:
    """An artefact with all parts and with tensors of many types and layouts."""
    rng = torch.Generator().manual_seed(seed)
    image = torch.randn(2, 3, 4, 5, generator=rng)
    return Artefact(
        weights={
            "fc.weight": torch.randn(3, 4, generator=rng),
            "conv.weight": image.to(memory_format=torch.channels_last),
            "norm.steps": torch.tensor(7),
        },
        masks={
            "fc.weight": torch.rand(3, 4, generator=rng) < 0.5,
            "conv.weight": torch.ones(2, 3, 4, 5, dtype=torch.bool),
        },
        optimizer={
            "fc.weight": torch.randn(3, 4, generator=rng).bfloat16(),
            "empty": torch.zeros(0, 4),
        },
        findings={
            "spectrum": torch.randn(6, generator=rng, dtype=torch.float64),
            "slice": torch.arange(12).view(3, 4)[:, ::2],
            "k": torch.tensor(-1),
        },
        snapshots={
            1: {"fc.weight": torch.randn(3, 4, generator=rng)},
            12: {"fc.weight": image[0].transpose(0, 1)},
        },
        meta={
            "report": {"found_density": 0.53, "literal_k": None, "rule": "±"},
            "seconds": 1.5,
            "epochs": 2,
            "history": [{"epoch": 1}],
        },
    )


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(
        t.dtype == other[k].dtype and t.shape == other[k].shape and torch.equal(t, other[k])
        for k, t in one.items()
    )


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    """Start another process that runs `code` with our modules."""
    line = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(
        line, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment()
    )


def test_a_loaded_artefact_has_all_tensors_and_types(tmp_path: Path) -> None:
    store, saved = Store(tmp_path), artefact()
    store.save(KEY, saved)
    loaded = store.load(KEY)
    for part in PARTS:
        assert equal(getattr(loaded, part), getattr(saved, part)), part
    for epoch, state in saved.snapshots.items():
        assert store.has_snapshot(KEY, epoch) and equal(store.snapshot(KEY, epoch), state)
    assert not store.has_snapshot(KEY, 2)
    assert loaded.snapshots == {}  # they can be large, so each is read on request
    assert loaded.meta == store.meta(KEY) == saved.meta
    assert store.has(KEY) and not store.has(KEY[:-1])
    assert not list((tmp_path / "tmp").iterdir())


def test_empty_parts_are_loaded_as_empty(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.save(KEY, Artefact(meta={"seconds": 0.0}))
    assert store.load(KEY) == Artefact(meta={"seconds": 0.0})
    assert files(store.path(KEY)) == ["stage.json"]


def test_a_saved_artefact_does_not_share_memory_with_its_tensors(tmp_path: Path) -> None:
    store, saved = Store(tmp_path), artefact()
    store.save(KEY, saved)
    kept = saved.weights["fc.weight"].clone()
    saved.weights["fc.weight"].zero_()
    assert torch.equal(store.load(KEY).weights["fc.weight"], kept)


def test_tensors_that_share_memory_are_saved_separately(tmp_path: Path) -> None:
    store, whole = Store(tmp_path), torch.arange(6.0)
    tied = {
        "one": whole[:3],
        "other": whole[3:],
        "same": whole[:3],
        "leaf": whole[:2].clone().requires_grad_(),
    }
    store.save(KEY, Artefact(weights=tied))
    assert equal(store.load(KEY).weights, tied)


def test_a_second_artefact_does_not_replace_the_first(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.save(KEY, artefact(0))
    before = {name: (store.path(KEY) / name).read_bytes() for name in files(store.path(KEY))}
    store.save(KEY, artefact(1))
    assert {
        name: (store.path(KEY) / name).read_bytes() for name in files(store.path(KEY))
    } == before
    assert not list((tmp_path / "tmp").iterdir())


def test_a_directory_without_stage_json_is_no_artefact(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.save(KEY, artefact())
    (store.path(KEY) / "stage.json").unlink()
    assert not store.has(KEY)
    assert store.has_snapshot(KEY, 1)  # so a stage has to check both


def test_a_partly_deleted_artefact_can_be_saved_again(tmp_path: Path) -> None:
    store, saved = Store(tmp_path), artefact()
    store.save(KEY, saved)
    (store.path(KEY) / "stage.json").unlink()  # as after an interrupted `rm -r` of the cache
    (store.path(KEY) / "masks.safetensors").unlink()
    store.save(KEY, saved)
    assert store.has(KEY) and equal(store.load(KEY).masks, saved.masks)
    assert not list((tmp_path / "tmp").iterdir())


def test_a_failed_save_leaves_no_artefact(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(TypeError):
        store.save(KEY, Artefact(weights={"w": torch.ones(2)}, meta={"report": object()}))
    assert not store.has(KEY) and not store.path(KEY).exists()
    store.save(KEY, artefact())  # the failed save does not prevent another
    assert store.has(KEY)


SAVE = """
import sys, torch
from pathlib import Path
from runner.engine.store import Artefact, Store
store, number = Store(Path(sys.argv[1])), int(sys.argv[3])
weights = {f"layer{i}": torch.full((10_000,), float(number)) for i in range(4)}
print("ready", flush=True)
sys.stdin.readline()
for i in range(8):
    store.save(f"{sys.argv[2]}{i:02d}", Artefact(weights=weights, meta={"number": number}))
"""


def test_two_processes_that_save_the_same_keys_leave_complete_artefacts(tmp_path: Path) -> None:
    both = [start(SAVE, tmp_path, KEY, number) for number in (1, 2)]
    for process in both:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    for process in both:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    assert [process.wait(timeout=60) for process in both] == [0, 0]
    store = Store(tmp_path)
    for i in range(8):
        found = store.load(f"{KEY}{i:02d}")
        number = found.meta["number"]
        assert number in (1, 2) and len(found.weights) == 4
        # all parts are from the same process
        assert all(
            torch.equal(t, torch.full((10_000,), float(number))) for t in found.weights.values()
        )
    assert not list((tmp_path / "tmp").iterdir())


def test_a_snapshot_can_be_added_to_a_finished_stage(tmp_path: Path) -> None:
    store, saved = Store(tmp_path), artefact()
    store.save(KEY, saved)
    state = {"fc.weight": torch.full((3, 4), 2.0), "norm.steps": torch.tensor(3)}
    store.add_snapshot(KEY, 3, state)
    assert store.has_snapshot(KEY, 3) and equal(store.snapshot(KEY, 3), state)
    assert equal(store.snapshot(KEY, 1), saved.snapshots[1])
    assert equal(store.load(KEY).weights, saved.weights)
    assert not [name for name in files(store.path(KEY)) if name.startswith(".")]


HOLD = """
import sys
from pathlib import Path
from runner.engine.store import Store
report = lambda holder: print(f"waits for {holder}", flush=True)
with Store(Path(sys.argv[1])).lock(sys.argv[2], report):
    print("holds", flush=True)
    sys.stdin.readline()
"""


def test_a_second_process_waits_and_prints_the_holder_of_the_lock(tmp_path: Path) -> None:
    first = start(HOLD, tmp_path, KEY)
    assert first.stdin is not None
    assert first.stdout is not None
    assert first.stdout.readline() == "holds\n"
    second = start(HOLD, tmp_path, KEY)
    assert second.stdin is not None and second.stdout is not None
    assert second.stdout.readline() == f"waits for process {first.pid} on {socket.gethostname()}\n"
    with Store(tmp_path).lock("another key", pytest.fail):  # another key is free
        assert second.poll() is None
    first.stdin.write("done\n")
    first.stdin.flush()
    assert second.stdout.readline() == "holds\n"
    assert first.wait(timeout=30) == 0
    assert second.communicate("done\n", timeout=30) == ("", None) and second.returncode == 0


def test_a_lock_is_released_when_its_process_is_killed(tmp_path: Path) -> None:
    process = start(HOLD, tmp_path, KEY)
    assert process.stdout is not None and process.stdout.readline() == "holds\n"
    process.kill()
    process.wait()
    waited: list[str] = []
    with Store(tmp_path).lock(KEY, waited.append):
        assert waited == []


def test_a_lock_is_released_after_an_exception(tmp_path: Path) -> None:
    waited: list[str] = []
    with pytest.raises(ZeroDivisionError), held(tmp_path / "folder" / "a.lock", waited.append):
        raise ZeroDivisionError
    with held(tmp_path / "folder" / "a.lock", waited.append):
        assert waited == []


def test_the_holder_of_a_key_removes_leftovers_of_a_killed_process(tmp_path: Path) -> None:
    store, other = Store(tmp_path), KEY[::-1]
    for key in (KEY, other):
        (tmp_path / "tmp" / f"{key}-{'a' * 32}").mkdir(parents=True)
        (tmp_path / "tmp" / f"{key}-{'a' * 32}" / "weights.safetensors").write_bytes(b"half")
        save_checkpoint(store.checkpoint_path(key), {"step": 1})
        (tmp_path / "checkpoints" / f".{key}.pt.{'b' * 32}").write_bytes(b"half")
    with store.lock(KEY, lambda holder: None):
        left = [name for name in files(tmp_path) if not name.startswith("locks/")]
    assert left == sorted(
        [
            f"checkpoints/.{other}.pt.{'b' * 32}",  # another process may be writing it
            f"checkpoints/{KEY}.pt",
            f"checkpoints/{other}.pt",
            f"tmp/{other}-{'a' * 32}/weights.safetensors",
        ]
    )


class Interrupted(BaseException):
    pass


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, Interrupted])
def test_a_failed_write_keeps_the_old_file_and_leaves_no_other(
    error: type[BaseException], tmp_path: Path
) -> None:
    path = tmp_path / "folder" / "result.json"
    atomically(path, lambda p: p.write_text("old"))

    def write(temporary: Path) -> None:
        # same folder, so that the rename stays within one file system
        assert path.read_text() == "old" and temporary.parent == path.parent
        temporary.write_text("half of the n")
        raise error

    with pytest.raises(error):
        atomically(path, write)
    assert files(tmp_path) == ["folder/result.json"] and path.read_text() == "old"
    atomically(path, lambda p: p.write_text("new"))
    assert files(tmp_path) == ["folder/result.json"] and path.read_text() == "new"


def test_a_write_that_fails_at_once_leaves_no_file(tmp_path: Path) -> None:
    def write(temporary: Path) -> None:
        raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space left"):
        atomically(tmp_path / "a.json", write)
    assert files(tmp_path) == []


READ = """
import json, sys
from pathlib import Path
path = Path(sys.argv[1])
print("ready", flush=True)
seen = set()
while 0 not in seen:
    value = json.loads(path.read_text())
    assert len(set(value)) == 1 and len(value) == 20_000
    seen.add(value[0])
"""


def test_a_reader_never_reads_a_partial_file(tmp_path: Path) -> None:
    path = tmp_path / "values.json"
    write_json(path, [1] * 20_000)
    reader = start(READ, path)
    assert reader.stdout is not None and reader.stdout.readline() == "ready\n"
    for number in [*range(2, 40), 0]:
        write_json(path, [number] * 20_000)
    assert reader.wait(timeout=60) == 0


def test_only_hidden_files_with_a_tag_are_removed_as_leftovers(
    tmp_path: Path,
) -> None:
    tag, other = "0123456789abcdef" * 2, "f" * 32
    leftovers = [f".result.json.{tag}", f".result.json.{other}"]
    others = [
        f".status.json.{tag}",
        "result.json",
        ".result.json",
        ".lock",
        f"result.json.{tag}",
        f".result.json.{tag[:-1]}",
        f".result.json.{tag}0",
        f".result.json.{tag[:-1]}g",
        f".result.json{tag}",
        f"x.result.json.{tag}",
        f"folder/.result.json.{tag}",
    ]
    (tmp_path / "folder").mkdir()
    for name in (*leftovers, *others):
        (tmp_path / name).write_text("")
    clear_leftovers(tmp_path, "result.json")
    assert files(tmp_path) == sorted(others)
    clear_leftovers(tmp_path)
    assert files(tmp_path) == sorted(set(others) - {f".status.json.{tag}"})
    clear_leftovers(tmp_path / "not there")


def test_clear_leftovers_removes_the_temporary_file_of_a_killed_write(tmp_path: Path) -> None:
    kill = "import os, signal, sys\nfrom pathlib import Path\nfrom runner.files import atomically\n"
    kill += (
        "atomically(Path(sys.argv[1]), lambda p: (p.write_text('half'), os.kill(os.getpid(),"
        " signal.SIGKILL)))"
    )
    process = start(kill, tmp_path / "a.json")
    assert process.wait(timeout=60) == -9
    (left,) = files(tmp_path)
    clear_leftovers(tmp_path, "b.json")
    assert files(tmp_path) == [left]
    clear_leftovers(tmp_path, "a.json")
    assert files(tmp_path) == []


def test_a_loaded_checkpoint_has_its_tensors_and_plain_values(tmp_path: Path) -> None:
    path = Store(tmp_path).checkpoint_path(KEY)
    assert load_checkpoint(path) is None
    done = {"epoch": 3, "history": [{"loss": None}], "pair": (1, "a")}
    state: dict[str, Any] = {
        "model": {"w": torch.randn(3, dtype=torch.float64)},
        "rng": torch.get_rng_state(),
        "done": done,
    }
    save_checkpoint(path, state)
    loaded = load_checkpoint(path)
    assert loaded is not None
    assert equal(loaded["model"], state["model"])
    assert torch.equal(loaded["rng"], state["rng"])
    assert loaded["done"] == done
    path.unlink()
    assert load_checkpoint(path) is None


class Code:
    """An object whose unpickling would create the folder `ran`."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("ran",)


def test_code_in_a_checkpoint_is_not_executed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"model": Code()}, tmp_path / "c.pt")
    with pytest.raises(Exception, match="(?i)weights.only"):
        load_checkpoint(tmp_path / "c.pt")
    assert files(tmp_path) == ["c.pt"] and not (tmp_path / "ran").exists()


def test_json_is_readable_and_keeps_every_digit(tmp_path: Path) -> None:
    value = {"label": "mean ± std", "x": [0.1, 1e-300, 2**53 + 1, None, True]}
    write_json(tmp_path / "deep" / "a.json", value)
    text = (tmp_path / "deep" / "a.json").read_text()
    assert json.loads(text) == value and "±" in text and text.endswith("}\n")
