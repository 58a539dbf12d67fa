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
        "accuracy_best": 91.0,
        "accuracy_top5": 99.0,
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
