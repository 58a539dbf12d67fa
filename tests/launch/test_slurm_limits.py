"""What a cluster allows and refuses, with scripts in the place of Slurm's commands."""

import os
import re
import runpy
import signal
import threading
import time
from pathlib import Path

import pytest
from conftest import ROOT
from rich.console import Console
from support import machine

from runner.commands.arguments import launcher
from runner.config.compose import compose_config
from runner.errors import ConfigError
from runner.launch.jobs import QueueJob
from runner.launch.launcher import make_launcher
from runner.launch.slurm import Slurm
from runner.launch.slurm_limits import array_size, most_jobs, refusal

SBATCH = """#!/bin/sh
touch {folder}/done
number=$(cat {folder}/number 2>/dev/null || echo 100)
echo $((number + 1)) > {folder}/number
grep -E "^#SBATCH --(array|dependency|account|qos)" "$1" | sort | tr '\\n' ' ' >> {folder}/log
echo >> {folder}/log
[ $number -lt {refused} ] || {{ echo "sbatch: error: {words}" >&2; exit 1; }}
echo "Submitted batch job $number"
"""
ACCOUNT = "Batch job submission failed: Invalid account or account/partition combination specified"


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of commands that look like Slurm's; arrays have at most 3 jobs."""
    folder = tmp_path / "bin"
    folder.mkdir()
    write(folder, "scontrol", "#!/bin/sh\necho 'MaxArraySize            = 3'\n")
    write(folder, "squeue", "#!/bin/sh\n")
    write(folder, "srun", "#!/bin/sh\n")
    write(folder, "sbatch", SBATCH.format(folder=folder, refused=1000, words=""))
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


def write(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text)
    (folder / name).chmod(0o755)


def jobs(cluster: Path, count: int) -> list[QueueJob]:
    done = cluster / "done"
    return [
        QueueJob(
            f"job{i}", ("python", "run.py", f"seed={i}"), cluster / "runs" / f"job{i}", done.is_file
        )
        for i in range(count)
    ]


def submitted(cluster: Path) -> list[str]:
    return [line.strip() for line in (cluster / "log").read_text().splitlines()]


def test_a_sweep_is_submitted_in_arrays_of_the_size_that_the_cluster_allows(cluster: Path) -> None:
    options = Slurm(array_parallelism=2, poll_s=0.1, extra={"account": "lab"})
    assert options.run(jobs(cluster, 7), machine(cluster), None, Console()) == (0, "")
    first, second, third = submitted(cluster)
    assert first == "#SBATCH --account=lab #SBATCH --array=0-2%2"
    assert second == "#SBATCH --account=lab #SBATCH --array=0-2%2 #SBATCH --dependency=afterany:100"
    assert third == "#SBATCH --account=lab #SBATCH --dependency=afterany:101"


def test_a_refusal_gives_one_message_with_sbatchs_words_and_the_key(
    cluster: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write(cluster, "sbatch", SBATCH.format(folder=cluster, refused=0, words=ACCOUNT))
    with pytest.raises(ConfigError) as caught:
        Slurm(poll_s=0.1).run(jobs(cluster, 2), machine(cluster), None, Console())
    assert str(caught.value) == (
        f"hydra/launcher=slurm: sbatch refused the jobs: {ACCOUNT};"
        " change hydra.launcher.extra.account"
    )
    assert capfd.readouterr() == ("", "")  # the command prints the message


@pytest.mark.parametrize("name", ["50%all", "a\\b", "a\nb"])
def test_a_folder_whose_name_slurm_replaces_is_refused(cluster: Path, name: str) -> None:
    # A real Slurm ends such jobs with signal 53 before they start: it cannot open their logs.
    job = QueueJob("job", ("python", "run.py"), cluster / name / "runs" / "job", lambda: False)
    with pytest.raises(ConfigError, match="(?s)env.results_dir=.*; choose another folder"):
        Slurm(poll_s=0.1).run([job], machine(cluster), None, Console())
    assert not (cluster / "log").exists()


def test_a_refusal_after_an_array_was_submitted_is_reported_at_the_end(cluster: Path) -> None:
    words = "Job violates accounting/QOS policy (job submit limit)"
    write(cluster, "sbatch", SBATCH.format(folder=cluster, refused=101, words=words))
    code, message = Slurm(poll_s=0.1).run(jobs(cluster, 5), machine(cluster), None, Console())
    assert code == 1
    assert words in message and "submit fewer jobs at a time" in message
    assert "2 jobs were not submitted; repeat the command" in message


def test_ctrl_c_ends_the_wait_and_the_message_names_the_arrays(cluster: Path) -> None:
    write(
        cluster,
        "sbatch",
        SBATCH.replace("touch", "true").format(folder=cluster, refused=1000, words=""),
    )
    before = signal.getsignal(signal.SIGINT)
    console = Console(file=(cluster / "shown").open("w"))

    def interrupt() -> None:
        while "102" not in (cluster / "shown").read_text():
            console.file.flush()
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    waiting = Slurm(poll_s=600).run(jobs(cluster, 7), machine(cluster), None, console)
    thread.join()
    assert waiting == (
        130,
        "no longer waiting; the jobs continue. To stop them: scancel 100 101 102",
    )
    assert signal.getsignal(signal.SIGINT) is before


def test_a_reason_that_may_never_end_is_printed_once_and_usual_ones_are_not(
    cluster: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    queue = """#!/bin/sh
echo x >> {folder}/polls
case $(wc -l < {folder}/polls) in
1) echo '100_0 Resources'; echo '100_1 Dependency' ;;
2|3) echo '100_0 None'; echo '100_1 launch failed requeued held'; echo '99_0 BadConstraints' ;;
5|6) echo "100_0 ReqNodeNotAvail, UnavailableNodes:n$(wc -l < {folder}/polls)" ;;
4) echo '100_0 PartitionTimeLimit'; echo '100_1 PartitionTimeLimit' ;;
esac
"""
    write(cluster, "squeue", queue.format(folder=cluster))
    assert Slurm(poll_s=0.1).run(jobs(cluster, 2), machine(cluster), None, Console()) == (0, "")
    lines = [line for line in capsys.readouterr().out.splitlines() if "does not start" in line]
    assert [line.partition(";")[0] for line in lines] == [
        "Slurm does not start 1 jobs for now: launch failed requeued held",
        "Slurm does not start 2 jobs for now: PartitionTimeLimit",
        "Slurm does not start 1 jobs for now: ReqNodeNotAvail",
    ]
    assert all("scancel 100," in line for line in lines)


@pytest.mark.parametrize(
    ("shown", "size"),
    [
        ("MaxArraySize            = 1001\nMaxJobCount = 10000", 1001),
        ("MaxArraySize = 0", 1),
        ("", 1000),
    ],
)
def test_the_size_of_an_array_is_the_clusters(shown: str, size: int) -> None:
    assert most_jobs(shown) == size


def test_without_scontrol_arrays_have_the_size_of_slurms_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert array_size() == 1000


@pytest.mark.parametrize(
    ("words", "key"),
    [
        ("Invalid qos specification", "extra.qos"),
        ("invalid partition specified: gpu", "partition"),
        ("Invalid job array specification", "fewer jobs"),
        ("Requested time limit is invalid", "timeout_min"),
        ("Memory specification can not be satisfied", "mem_gb"),
        ("Requested node configuration is not available", "cpus_per_task"),
        ("Unable to contact slurm controller", "hydra.launcher.NAME=VALUE"),
    ],
)
def test_a_refusal_names_the_option_to_change(words: str, key: str) -> None:
    message = refusal(f"sbatch: error: {words}\nsbatch: error: {words}\n")
    assert message.count(words) == 1 and key in message.rpartition("; ")[2]


# --- further options of sbatch

EXTRAS = (
    ["hydra.launcher.extra={account: lab, qos: low}"],
    ["hydra.launcher.extra={account:lab,qos:low}"],
    ["hydra.launcher.extra='{account: lab, qos: low}'"],
    ["hydra.launcher.extra.account=lab", "hydra.launcher.extra.qos=low"],
)


@pytest.mark.parametrize("words", EXTRAS)
def test_extra_options_are_accepted_in_every_form_by_sweeps_and_tables(words: list[str]) -> None:
    expected = Slurm(extra={"account": "lab", "qos": "low"})
    typed = runpy.run_path(str(ROOT / "run.py"))["hydra_arguments"](
        ["hydra/launcher=slurm", *words]
    )
    assert make_options(typed) == expected
    assert launcher(["hydra/launcher=slurm", *words, "imc_table01"]) == (expected, ["imc_table01"])
    split = [
        part for word in words for part in word.replace("'", "").split()
    ]  # ARGS without quotes
    assert launcher(["hydra/launcher=slurm", *split, "imc_table01"])[0] == expected


def make_options(overrides: list[str]) -> Slurm:
    """The launcher of a sweep's command line."""
    from hydra import compose, initialize_config_dir

    compose_config([])  # registers the schema
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("config", overrides=overrides, return_hydra_config=True)
    node = {k: v for k, v in cfg.hydra.launcher.items() if not k.startswith("_")}
    found = make_launcher(Slurm, node)
    assert isinstance(found, Slurm)
    return found


def test_an_extra_that_is_no_mapping_gives_an_error_with_the_form() -> None:
    with pytest.raises(ConfigError, match=re.escape("NAME.KEY=VALUE or '{KEY: VALUE}'")):
        launcher(["hydra/launcher=slurm", "hydra.launcher.extra=lab"])
