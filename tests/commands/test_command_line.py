"""The command line: exit codes, output, and one error without side effects for invalid input."""

import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import ROOT, SMALL, environment, records

Command = Callable[..., subprocess.CompletedProcess[str]]

BAD = {  # case -> command line, parts of the error
    "unknown method": (["method=snpi"], ["method=snpi", "snip", "did you mean 'snip'"]),
    "unknown model": (["model=resnet2"], ["model=resnet2", "did you mean 'resnet20'"]),
    "unknown data set": (
        ["dataset=digit"],
        ["dataset=digit", "fashion_mnist", "did you mean 'digits'"],
    ),
    "density zero": (["method=snip", "density=0"], ["density=0", "(0, 1]"]),
    "density above one": (["method=snip", "density=1.5"], ["density=1.5", "(0, 1]"]),
    "density negative": (["method=snip", "density=-1"], ["density=-1", "(0, 1]"]),
    "density no number": (["method=snip", "density=abc"], ["density=abc", "a number"]),
    "density missing": (["method=snip"], ["density is missing", "method=snip"]),
    "density refused": (
        ["method=dense", "density=0.5"],
        ["method=dense takes no density", "every weight"],
    ),
    "density too small": (
        ["method=snip", "density=1e-6"],
        ["density=1e-06", "keeps none", "smallest density"],
    ),
    "a part of methods": (
        ["method=base/score"],
        ["that several methods share", "method=continuous_sparsification|", "|snip|"],
    ),
    "rewind too late": (
        ["method=imc", "retrain=rewind", "retrain.rewind=20ep"],
        ["retrain.rewind=20ep", "'wstar'", "10 epochs"],
    ),
    "rewind too late, the method's own key": (
        ["method=imc", "method.wstar.rewind_epoch=11"],
        ["rewind", "11", "'wstar'", "10 epochs"],
    ),
    "rewind past a dense stage": (
        ["method=magnitude", "density=0.5", "start=dense", "retrain.rewind=161ep"],
        ["161ep", "'dense'", "160 epochs"],
    ),
    "rewind no duration": (
        ["method=imc", "retrain.rewind=soon"],
        ["retrain.rewind='soon'", "10ep"],
    ),
    "negative seed": (["method=dense", "seed=-1"], ["seed=-1", "0 or more"]),
    "seed no number": (["method=dense", "seed=one"], ["seed=one", "a whole number"]),
    "unknown key": (["method=dense", "sed=1"], ["sed", "did you mean 'seed'"]),
    "unknown key in a block": (
        ["train.momentun=0.9"],
        ["train.momentun", "did you mean 'momentum'"],
    ),
    "unknown option of a method": (
        ["method=imc", "method.gap.rul=fixed"],
        ["method.gap.rul", "did you mean 'rule'"],
    ),
    "unknown choice of an option": (
        ["method=imc", "method.gap.rule=smooth"],
        ["method.gap.rule", "smooth", "smoothed_sign"],
    ),
    "option of the wrong type": (
        ["method=snip", "density=0.5", "method.score.batches=many"],
        ["method.score.batches", "many", "whole number"],
    ),
    "option out of range": (
        ["method=snip", "density=0.5", "method.score.batches=0"],
        ["batches=0", "at least 1"],
    ),
    "key of a part": (["method=dense", "lr=0.2"], ["lr is not a key", "did you mean 'train.lr'"]),
    "schedule as a group": (
        ["method=dense", "lr_schedule=cosine"],
        ["lr_schedule is not a key", "did you mean 'train.lr_schedule'"],
    ),
    "added key": (["+colour=red"], ["+colour=red", "adds"]),
    "flags that exclude each other": (["-m", "--cfg", "job"], ["--multirun", "--cfg"]),
    "no override": (["method"], ["method", "key=value"]),
    "option that the method does not use": (["method=dense", "pick=top"], ["pick", "method=dense"]),
    "portrait of what the method does not have": (
        ["method=sr_popup", "density=0.1", "portrait=scores"],
        ["portrait=scores", "method.score", "method=sr_popup", "snip"],
    ),
    "retrain without a trained net": (
        ["method=snip", "density=0.5", "retrain=finetune"],
        ["retrain=finetune", "start=dense"],
    ),
    "cuda where there is none": (
        ["method=dense", "env.device=cuda"],
        ["env.device=cuda", "env.device=cpu"],
    ),
    "unknown device": (["method=dense", "env.device=gpu"], ["env.device=gpu", "cuda"]),
    "no threads": (["method=dense", "env.threads=0"], ["env.threads=0"]),
    "train fraction": (["method=dense", "train_fraction=0"], ["train_fraction=0", "(0, 1]"]),
    "learning-rate schedule": (
        ["method=dense", "train.lr_schedule=linear"],
        ["train.lr_schedule=linear", "cosine"],
    ),
    "tests of held-out images": (
        ["method=dense", "train.test_every=-1"],
        ["train.test_every=-1", "0 or more", "last epoch"],
    ),
    "scale": (["method=dense", "train.scale=0"], ["train.scale=0", "positive"]),
    "image too small for the net": (["method=dense", "model=lenet5"], ["lenet5", "dataset.size"]),
    "missing files": (
        ["method=dense", "dataset=cifar10"],
        ["cifar10", "make data DATASET=cifar10", "ready"],
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_invalid_input_gives_one_error_and_exit_code_2_and_starts_nothing(
    case: str, command: Command, tmp_path: Path
) -> None:
    overrides, parts = BAD[case]
    if case.startswith("cuda") and torch.cuda.is_available():
        # this machine has CUDA, so test another invalid device
        overrides, parts = ["method=dense", "env.device=gpu"], ["env.device=gpu"]
    done = command(*overrides)
    assert done.returncode == 2, done.stdout + done.stderr
    lines = done.stderr.strip().splitlines()
    assert lines[0].startswith("error: ")
    assert sum(line.startswith("error: ") for line in lines) == 1, done.stderr
    for part in parts:
        assert part in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
    assert not done.stdout
    assert not list(tmp_path.glob("results/runs/*")) and not list(tmp_path.glob("cache/stages/*"))


def test_all_problems_are_reported_at_once(command: Command) -> None:
    done = command("method=snip", "density=2", "seed=-1", "train.scale=-1")
    assert done.returncode == 2
    assert [line.split("=")[0] for line in done.stderr.splitlines()] == [
        "error: density",
        "error: seed",
        "error: train.scale",
    ]


def test_an_unwritable_results_directory_gives_an_error(command: Command, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a directory")
    done = command("method=dense", "env.results_dir=file/results", own_dirs=False)
    assert done.returncode == 2
    assert "env.results_dir=file/results cannot be written" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_error_for_damaged_data_contains_file_and_checksum(
    command: Command, tmp_path: Path
) -> None:
    folder = tmp_path / "data" / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    for name in (
        "data_batch_1",
        "data_batch_2",
        "data_batch_3",
        "data_batch_4",
        "data_batch_5",
        "test_batch",
        "batches.meta",
    ):
        (folder / name).write_bytes(b"cut short")
    done = command("method=dense", "dataset=cifar10")
    assert done.returncode == 2
    # the published MD5 of CIFAR-10
    assert "data_batch_1" in done.stderr and "c99cafc152244af753f735de768cd75f" in done.stderr
    assert "Traceback" not in done.stderr


def test_help_and_printed_configuration_do_not_import_torch() -> None:
    for flag in ("['--help']", "['--cfg', 'job']", "['--info', 'defaults']"):
        call = (
            f"import sys, run\nsys.argv[1:] = {flag}\ntry:\n    run.main()\nexcept SystemExit:\n   "
            " pass\n"
        )
        code = call + "assert not {'torch', 'pandas', 'sklearn'} & set(sys.modules)\nprint('END')"
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            capture_output=True,
            text=True,
            env=environment(),
            timeout=60,
        )
        assert done.returncode == 0 and done.stdout.endswith("END\n"), done.stderr
        assert "method" in done.stdout


@pytest.mark.parametrize("method", ["imc", "sr_popup"])
def test_a_run_imports_neither_the_compiler_of_pytorch_nor_scikit_learn(
    method: str, tmp_path: Path, dirs: list[str]
) -> None:
    # their imports take seconds in each process of a sweep
    overrides = [
        f"method={method}",
        "density=0.5",
        *SMALL,
        "train_fraction=0.05",
        *(["method.spectrum.steps=2"] if method == "imc" else []),
        *dirs,
    ]
    call = (
        f"import sys, run\nsys.argv[1:] = {overrides}\n"
        "try:\n    run.main()\nexcept SystemExit:\n    pass\n"
    )
    code = (
        call + "assert not {'torch._dynamo', 'sklearn', 'scipy', 'pandas'} &"
        " set(sys.modules)\nprint('END')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=environment(),
        timeout=300,
    )
    assert done.returncode == 0 and done.stdout.endswith("END\n"), done.stderr
    assert [record["status"] for record in records(tmp_path)] == ["done"]


def test_a_run_prints_a_summary_and_a_second_call_trains_nothing(
    command: Command, tmp_path: Path
) -> None:
    overrides = ["method=snip", "density=0.25", *SMALL]
    first = command(*overrides)
    assert first.returncode == 0, first.stderr
    for part in (
        "SNIP",
        "digits",
        "mlp",
        "0.25",
        "test accuracy",
        "epochs",
        "runtime",
        "result.json",
    ):
        assert part in first.stdout, first.stdout
    assert "paper's setting" not in first.stdout  # no table has this net
    (record,) = records(tmp_path)
    written = {
        path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*") if path.is_file()
    }
    path = next((tmp_path / "results" / "runs").glob("*/result.json"))
    content = path.read_bytes()
    second = command(*overrides)
    assert second.returncode == 0
    assert path.read_bytes() == content  # finished runs are not written again
    assert {
        p: p.stat().st_mtime_ns for p in (tmp_path / "cache").rglob("*") if p.is_file()
    } == written
    assert record["run_id"] in second.stdout
    assert "already done" in second.stdout and "already done" not in first.stdout


def test_paths_and_commands_of_a_summary_can_be_copied_whole_and_work(
    command: Command, dirs: list[str], tmp_path: Path
) -> None:
    place = tmp_path / " ".join(["long"] * 40)  # longer than a line of the terminal
    words = ["method=snip", "density=0.25", *SMALL, f"env.results_dir={place}", dirs[1]]
    done = command(*words, own_dirs=False)
    assert done.returncode == 0, done.stderr
    assert not re.search("[\u2500-\u257f]", done.stdout)  # box characters
    items = dict(re.findall(r"^  (\S+(?: \S+)*)  +(.*)$", done.stdout, re.MULTILINE))
    assert Path(items["record"]).is_file()
    for name, found in (("its table", "snip"), ("its export", "ticket.safetensors")):
        program, *rest = shlex.split(items[name])
        assert program == "winnow"
        shown = subprocess.run(
            [sys.executable, "-c", "from runner.main import main; main()", *rest],
            cwd=tmp_path,
            env={**environment(), "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
        )
        assert shown.returncode == 0, shown.stderr
        assert found in shown.stdout + " ".join(p.name for p in place.rglob("*"))


def test_a_plan_counts_epochs_and_runs_nothing(command: Command, tmp_path: Path) -> None:
    overrides = ["method=imc", "retrain=rewind", *SMALL]
    done = command(*overrides, "env.plan=true")
    assert done.returncode == 0
    # at least one epoch for W*, then two of 160 x 0.0125
    assert "epochs: asked 3, needed 3" in done.stdout
    assert not list(tmp_path.glob("cache/stages/*"))
    assert not list(tmp_path.glob("results/runs/*/result.json"))


def test_multirun_writes_a_record_for_each_combination(command: Command, tmp_path: Path) -> None:
    # the flag -m may stand between overrides
    done = command("method=random,magnitude", "-m", "density=0.5", "seed=0,1", *SMALL)
    assert done.returncode == 0, done.stderr
    assert sorted((r["method"], r["seed"]) for r in records(tmp_path)) == [
        ("magnitude", 0),
        ("magnitude", 1),
        ("random", 0),
        ("random", 1),
    ]


def test_a_failure_writes_a_traceback_file_and_gives_exit_code_1(
    command: Command, tmp_path: Path
) -> None:
    # the literal scan finds no gap on real nets
    done = command(
        "method=imc", *SMALL, "method.gap.rule=literal", "method.gap.on_degenerate=error"
    )
    assert done.returncode == 1, done.stdout
    assert "Traceback" not in done.stderr and "traceback.txt" in done.stderr
    (path,) = (tmp_path / "results" / "runs").glob("*/traceback.txt")
    assert "ValueError" in path.read_text()
    assert not (path.parent / "result.json").exists()
    assert '"failed"' in (path.parent / "status.json").read_text()


def test_a_diverged_training_ends_every_run_that_needs_it(command: Command, tmp_path: Path) -> None:
    diverging = [*SMALL, "model=lenet_300_100", "train.lr=50"]
    done = command(*diverging, "method=snip", "density=0.5")
    assert done.returncode == 0, done.stderr
    assert "DIVERGED stage train, epoch 1: the training loss is not finite" in " ".join(
        done.stdout.split()
    )
    stopped = command(*diverging, "method=imc")
    assert stopped.returncode == 0, stopped.stderr
    # a run that shares the diverged stage has nothing left to compute
    plan = command(*diverging, "method=imc", "retrain=reinit", "env.plan=true")
    assert plan.returncode == 0 and "needed 0" in plan.stdout, plan.stdout
    repeated = command(*diverging, "method=imc", "env.plan=true")
    assert "diverged 1" in repeated.stdout and "needed 0" in repeated.stdout
    assert [
        (record["method"], record["status"], record["report"]["diverged_stage"])
        for record in sorted(records(tmp_path), key=lambda record: str(record["method"]))
    ] == [("imc", "diverged", "wstar"), ("snip", "diverged", "train")]


def test_the_bench_gives_an_error_for_an_invalid_argument() -> None:
    done = subprocess.run(
        [sys.executable, "scripts/bench.py", "rounds=0"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=environment(),
    )
    assert (done.returncode, done.stderr) == (
        2,
        "error: rounds=0: the bench takes rounds=N and threads=N, whole numbers from 1 up,"
        " only=NAME[,NAME], env.results_dir=DIR and env.cache_dir=DIR\n",
    )


def test_a_deleted_working_directory_gives_one_message(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    line = f'mkdir "{gone}" && cd "{gone}" && rmdir "{gone}" && exec "$@"'
    done = subprocess.run(
        ["sh", "-c", line, "sh", sys.executable, str(ROOT / "run.py"), "method=dense"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr.strip() == (
        "error: the working directory no longer exists: change to one that does"
    )
