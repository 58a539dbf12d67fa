"""Checks of the machine: bf16 only where the processor supports it; provenance in records."""

import json
import platform
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import SMALL, records

from runner.engine.devices import KINDS, chosen
from runner.engine.machine import cpu_has_bf16, prepare
from runner.engine.record import comparable
from runner.errors import ConfigError
from runner.records.provenance import device_name, provenance
from runner.records.valid import problem_of
from runner.spec.request import Environment

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.mark.parametrize(
    ("processor", "flags", "native"),
    [
        ("Cooper Lake, Zen 4", "fpu avx2 avx512f avx512_bf16", True),
        ("Sapphire Rapids", "avx512f amx_bf16 amx_tile amx_int8", True),
        ("Neoverse V1", "fp asimd i8mm bf16", True),
        ("Zen 3", "fpu avx avx2 fma f16c", False),
        ("Skylake-X", "avx512f avx512bw avx512vl", False),
        ("Neoverse N1", "fp asimd fphp asimdhp", False),
    ],
)
def test_the_cpu_flags_show_whether_bf16_is_native(
    processor: str, flags: str, native: bool
) -> None:
    assert cpu_has_bf16(set(flags.split())) is native


def test_bf16_trains_where_native_and_gives_an_error_with_a_solution_elsewhere(
    command: Command, tmp_path: Path
) -> None:
    done = command("method=snip", "density=0.5", *SMALL, "train.precision=bf16")
    listed = Path("/proc/cpuinfo")
    if listed.is_file() and "bf16" in listed.read_text():  # avx512_bf16, amx_bf16, bf16
        assert done.returncode == 0, done.stderr
        (record,) = records(tmp_path)
        assert record["provenance"]["precision"] == "bf16"
        assert record["accuracy"] > 15  # chance level is 10; two epochs
    else:
        assert done.returncode == 2
        assert "train.precision=bf16" in done.stderr and "train.precision=fp32" in done.stderr


def test_the_record_contains_the_validation_split_and_the_training_fraction(
    command: Command, tmp_path: Path
) -> None:
    done = command("method=dense", *SMALL, "train_fraction=0.5", "dataset.validation=0.1")
    assert done.returncode == 0, done.stderr
    (record,) = records(tmp_path)
    assert record["train_fraction"] == 0.5
    # 718 of 1,437 training images, of which 72 are held out: a validation accuracy is a multiple of
    # 100 / 72.
    assert record["val_accuracy"] * 72 / 100 == pytest.approx(
        round(record["val_accuracy"] * 72 / 100), abs=1e-9
    )
    assert record["accuracy"] * 360 / 100 == pytest.approx(
        round(record["accuracy"] * 360 / 100), abs=1e-9
    )


def test_a_record_contains_device_threads_versions_and_checksum(
    command: Command, tmp_path: Path
) -> None:
    done = command("method=dense", *SMALL)
    assert done.returncode == 0, done.stderr
    (record,) = records(tmp_path)
    found = record["provenance"]
    assert (found["threads"], found["device_name"]) == (1, device_name(torch.device("cpu")))
    assert found["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert len(found["dataset_checksum"]) == 64 and set(found["numerics"]) == {"train"}
    assert found["started"] <= found["finished"]
    kind = found["cpu"]
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    flags = next(line for line in lines if line.startswith(("flags", "Features"))).split()
    assert kind["instruction_sets"] and set(kind["instruction_sets"]) <= set(flags)
    # torch names its kernels DEFAULT, AVX2 or AVX512 on x86; it takes no set that the CPU lacks
    assert kind["capability"] in ("DEFAULT", "AVX2", "AVX512") or platform.machine() != "x86_64"
    assert ("avx512f" in flags) or kind["capability"] != "AVX512"


def test_the_provenance_is_that_of_the_processes_that_computed_the_stages(
    command: Command, tmp_path: Path
) -> None:
    dense = ["method=dense", *SMALL]
    pruned = ["method=magnitude", "start=dense", "retrain=finetune", "density=0.5", *SMALL]
    for words in ([*dense, "env.threads=1"], [*pruned, "env.threads=2"]):
        assert command(*words).returncode == 0

    def record(words: list[str]) -> tuple[Path, Any]:
        method = words[0].removeprefix("method=")
        (path,) = (tmp_path / "results" / "runs").glob(f"{method}-*/result.json")
        return path, json.loads(path.read_text())

    _, first = record(dense)
    assert first["provenance"]["threads"] == 1 and "origins" not in first["provenance"]
    assert all("origin" not in stage for stage in first["stages"])
    path, second = record(pruned)
    assert problem_of(second, path.parent.name) is None
    threads = [origin["threads"] for origin in second["provenance"]["origins"]]
    assert [(s["name"], threads[s["origin"]]) for s in second["stages"]] == [
        ("dense", 1),
        ("prune", 2),
        ("train", 2),
    ]
    # the last stage's, whichever process reads the stages from the cache later
    path.unlink()
    assert command(*pruned, "env.threads=1").returncode == 0
    _, again = record(pruned)
    assert again["provenance"]["threads"] == 2
    assert [s["cached"] for s in again["stages"]] == [True, True, True]
    assert comparable(again) == comparable(second)
    assert again["provenance"]["origins"] == second["provenance"]["origins"]


def test_tf32_is_off_in_every_run_and_the_record_states_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("high")  # TF32 on CUDA
        prepare(environment(tmp_path))
        stated = provenance(torch.device("cpu"), 1).determinism
        assert (stated["matmul_tf32"], stated["cudnn_tf32"]) == (False, False)
        assert torch.get_float32_matmul_precision() == "highest"
    finally:
        torch.set_float32_matmul_precision(before)


def test_the_table_of_devices_agrees_with_torch() -> None:
    for name in (name for name, kind in KINDS.items() if kind.found()):
        try:
            torch.ones((), dtype=torch.float64, device=name)
        except TypeError:  # "the MPS framework doesn't support float64"
            assert not KINDS[name].float64
        else:
            assert KINDS[name].float64


def test_a_device_without_float64_is_refused_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        prepare(environment(tmp_path, device="mps"))
    assert str(error.value) == (
        "env.device=mps: Apple's mps has no float64, in which losses are summed and SynFlow's"
        " scores are computed; use env.device=cpu, or auto, which uses the available device"
    )


def test_auto_never_chooses_a_device_without_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("cuda", "mps"):
        monkeypatch.setitem(
            KINDS, name, replace(KINDS[name], found=lambda name=name: name == "mps")
        )
    assert chosen("auto") == torch.device("cpu")


def environment(folder: Path, device: str = "cpu") -> Environment:
    return Environment(
        device=device,
        threads=None,
        workers=0,
        results_dir=folder / "results",
        cache_dir=folder / "cache",
        data_dir=folder / "data",
        plan=False,
        checkpoint_seconds=60.0,
        progress="none",
    )


def test_all_invalid_environment_settings_are_reported_with_their_keys(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    env = Environment(
        device="tpu",
        threads=0,
        workers=-1,
        results_dir=tmp_path / "file" / "results",
        cache_dir=tmp_path / "cache",
        data_dir=Path("data"),
        plan=False,
        checkpoint_seconds=-1.0,
        progress="loud",
        memory_gb=0.0,
    )
    with pytest.raises(ValueError) as error:
        prepare(env)
    for key in (
        "env.device=tpu",
        "env.threads=0",
        "env.workers=-1",
        "env.memory_gb=0 must be positive",
        "env.results_dir=",
        "env.checkpoint_seconds=-1",
        "env.progress=loud",
    ):
        assert key in str(error.value)
