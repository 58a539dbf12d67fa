"""A valid record, from which tests of records make others."""

from typing import Any


def run_name(seed: int, method: str = "snip") -> str:
    """The id of a run of `valid_record`, with a hash of no run."""
    return f"{method}-mlp-digits-d0.5-s{seed}-0123456789ab"


def valid_record(seed: int, method: str = "snip", **more: Any) -> dict[str, Any]:
    """A record of the run `run_name(seed, method)`, as docs/records.md describes it."""
    return {
        "schema": 1,
        "run_id": run_name(seed, method),
        "status": "done",
        "method": method,
        "label": "SNIP",
        "dataset": "digits",
        "train_fraction": 1.0,
        "model": "mlp",
        "seed": seed,
        "density_target": 0.5,
        "density": 0.5,
        "sparsity": 0.5,
        "prunable": 10,
        "kept": 5,
        "flops": {"dense": 10, "nonzero": 5, "unit": "multiply-accumulates per example"},
        "accuracy": 90.0,
        "accuracy_best": 100.0,
        "accuracy_top5": 100.0,
        "test_loss": 0.1,
        "val_accuracy": None,
        "epochs": 2,
        "epochs_total": 2,
        "epoch_kind": "train",
        "scale": 1.0,
        "runtime_s": 1.0,
        "wall_s": 1.0,
        "stages": [{"name": "train", "key": "0" * 32, "cached": False, "epochs": 2, "seconds": 1}],
        "report": {"a": 1e-300},
        "provenance": {
            "git_sha": None,
            "git_dirty": None,
            "device_name": "cpu A",
            "threads": 1,
            "numerics": {"train": 1},
            "precision": "fp32",
            "finished": "2026-11-28T06:07:40+00:00",
        },
        **more,
    }


def full_record(seed: int) -> dict[str, Any]:
    """A valid record with every field that some record has, of stages by two machines."""
    cpu = {
        "name": "cpu A",
        "capability": "AVX2",
        "instruction_sets": ["avx2", "fma"],
        "libraries": {"oneMKL": "2024.2"},
    }
    origin = {
        "git_sha": "0" * 40,
        "git_dirty": False,
        "installed": {"version": None, "sha256": "0" * 64},
        "versions": {"python": "3.12.3", "torch": "2.10.0"},
        "device": "cpu",
        "device_name": "cpu A",
        "cuda": None,
        "cpu": cpu,
        "threads": 1,
        "processes": 1,
        "host": "a",
        "determinism": {"matmul_tf32": False},
    }
    record = valid_record(seed, train_flops=7, train_flops_ratio=0.5, val_accuracy=80.0)
    stages = [{**record["stages"][0], "origin": index} for index in (0, 1)]
    found = {
        "content": "0" * 64,
        **dict.fromkeys(("channels", "height", "width", "train", "test"), 3),
        "classes": ["cat", "dog"],
        "validation": 0,
        "scale": 255.0,
        "mean": [0.5, 0.5, 0.5],
        "std": [0.2, 0.2, 0.2],
    }
    provenance = {
        **record["provenance"],
        **origin,
        "origins": [{**origin, "host": "b"}, origin],
        "memory_gb": 4.0,
        "command": "python run.py method=snip",
        "dataset_checksum": "0" * 64,
        "started": "2026-11-28T06:07:30+00:00",
        "profile": {"computing": 1.5},
        "own": {"my_net": {"from": "net.py", "version": "1"}},
        "files": {"metrics.jsonl": "0" * 64},
    }
    parts = {"data": found, "narrowed": {"widest": 4, "from": 8}}
    return {**record, **parts, "stages": stages, "provenance": provenance}
