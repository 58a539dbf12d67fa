"""Commands on the user's own images: a run, a sweep through the queue, a plan, and a bad folder."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
from conftest import records
from PIL import Image

from runner.config.build import load_run
from runner.records.valid import problem_of
from runner.spec.identity import run_id

Command = Callable[..., "subprocess.CompletedProcess[str]"]
SMALL = ("model=mlp", "train.scale=0.0125", "env.device=cpu", "env.threads=1", "env.progress=none")


def write(folder: Path) -> Path:
    for c, name in enumerate(("ant", "bee")):
        (folder / name).mkdir(parents=True)
        for i in range(10):
            values = np.random.RandomState(10 * c + i).randint(0, 256, (8, 8)) // (c + 1)
            Image.fromarray(values.astype(np.uint8)).save(folder / name / f"{i}.png")
    return folder


def test_a_sweep_through_the_queue_a_plan_and_a_run_that_is_done_read_a_folder(
    command: Command, tmp_path: Path
) -> None:
    folder = write(tmp_path / "my images (1)")
    words = ("method=dense", "dataset=folder", f"dataset.path={folder}", *SMALL)
    done = command("-m", *words, "seed=0,1", "hydra/launcher=gpu_queue")
    assert done.returncode == 0, done.stderr
    first, second = records(tmp_path)
    for record in (first, second):
        assert problem_of(record, record["run_id"]) is None
        found = record["data"]
        assert record["dataset"] == "folder" and record["accuracy"] is not None
        assert (found["train"], found["test"], found["classes"]) == (16, 4, ["ant", "bee"])
        assert (found["channels"], found["height"], found["scale"]) == (1, 8, 255.0)
    assert first["provenance"]["dataset_checksum"] == second["provenance"]["dataset_checksum"]
    planned = command(*words, "seed=1", "env.plan=true")
    assert planned.returncode == 0, planned.stderr
    print(planned.stdout)
    # the same images elsewhere are the same run; other images are another
    moved = Path(shutil.move(folder, tmp_path / "elsewhere"))
    again = command(*words[:2], f"dataset.path={moved}", *SMALL)
    assert again.returncode == 0 and len(records(tmp_path)) == 2
    (config,) = tmp_path.glob("results/runs/*-s0-*/config.yaml")
    shutil.rmtree(moved)
    assert run_id(load_run(config)) == config.parent.name  # known without the files
    gone = command(*words)
    assert gone.returncode == 2 and "Traceback" not in gone.stderr
    assert f"dataset.path={folder}: there is no folder of images" in gone.stderr


def test_an_array_file_trains_a_convolutional_net_and_a_bad_label_is_refused(
    command: Command, tmp_path: Path
) -> None:
    draws = np.random.RandomState(0)
    made = {"x_train": draws.randint(0, 256, (20, 8, 8, 3)).astype(np.uint8)}
    made |= {"y_train": np.arange(20) % 4, "x_test": made["x_train"][:8], "y_test": np.arange(8)}
    np.savez(tmp_path / "a.npz", **made)
    words = ("method=dense", "dataset=arrays", f"dataset.path={tmp_path / 'a.npz'}", *SMALL)
    refused = command(*words, "dataset.name=mine")
    assert refused.returncode == 2
    assert "test labels are out of range: 4 is not 0 to 3" in refused.stderr
    np.savez(tmp_path / "a.npz", **{**made, "y_test": np.arange(8) % 4})
    done = command(*words, "dataset.name=mine")
    assert done.returncode == 0, done.stderr
    (record,) = records(tmp_path)
    assert record["dataset"] == "mine" and record["run_id"].startswith("dense-mlp-mine-")
    train = made["x_train"].astype(np.float64) / 255
    assert np.allclose(record["data"]["mean"], train.mean((0, 1, 2)), rtol=1e-7, atol=0)
    assert np.allclose(record["data"]["std"], train.std((0, 1, 2)), rtol=1e-7, atol=0)
