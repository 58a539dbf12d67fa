"""A stranger's method, network and data set, by CONTRIBUTING.md alone: runs, tables, figure, page.

Nothing in Winnow's own folders knows these parts. A sweep of them goes through the queue, or a real
Slurm, and on to every output.
"""

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import environment
from own_study import SECTIONS, SMALL, records, winnow, write_study
from recipes import PAGE, own_files

from runner.faults.cluster import missing, slurm

PARTS = ["method=gradient", "model=linear", "dataset=stripes"]
TAGS = {"gradient", "linear", "stripes"}
WEIGHTS = 64 * 2  # of the network: 64 pixels, 2 classes
IMAGES, EPOCHS = 400, 2


def own_figure() -> str:
    """The recipe's figure, of the stranger's parts in place of Winnow's."""
    head = r"`conf/figure/imc_small_curve.yaml`:"
    (text,) = re.findall(rf"{head}\n\n```yaml\n(.*?)```", PAGE, re.DOTALL)
    own = {
        "paper: imc": "paper: mine",
        "dataset=digits": "dataset=stripes",
        "{MLP: mlp}": "{Own: linear}",
        "method=snip": "method=gradient",
        "SNIP": "Gradients",
    }
    for ours, theirs in own.items():
        assert ours in text
        text = text.replace(ours, theirs)
    return str(text)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty folder with the folder `my`, whose score also states what it costs."""
    folder = tmp_path_factory.mktemp("stranger")
    write_study(folder)
    (cost,) = re.findall(r"`(def passes\(.*?\) -> int: return 3 \* images)`", PAGE)
    score = folder / "my" / "gradient.py"
    score.write_text(f"{score.read_text()}\n    {cost}\n")
    figure = folder / "my" / "conf" / "figure" / "own_curve.yaml"
    figure.parent.mkdir()
    figure.write_text(own_figure())
    return folder


def test_each_part_takes_at_most_two_files() -> None:
    for heading in SECTIONS:
        assert 1 <= len(own_files(heading)) <= 2, heading


@pytest.mark.slow
def test_a_strangers_parts_reach_every_output(study: Path) -> None:
    queue = ["hydra/launcher=gpu_queue", "hydra.launcher.slots=2"]
    printed = winnow(study, "run", "-m", *PARTS, "density=0.5,0.1", "seed=0,1", *queue, *SMALL)
    assert "4 runs, 0 done, 4 to do" in printed
    found = records(study)
    assert len(found) == 4
    for record in found:
        assert set(record["provenance"]["own"]) == TAGS
        assert record["kept"] == round(record["density_target"] * WEIGHTS)
        # one batch of 256 images is scored, then the kept weights are trained
        training = IMAGES * record["epochs_total"] * 3 * record["kept"]
        assert record["train_flops"] == 256 * 3 * WEIGHTS + training
    pivot = winnow(study, "table", "--value", "train_flops")
    assert re.search(r"^gradient .*\(2\).*\(2\)", pivot, re.MULTILINE), pivot

    settings = ["slots=2", "env.device=cpu", "env.threads=1"]
    table = winnow(study, "reproduce", "mine", *settings, "columns=train_flops_ratio")
    assert "Gradients against random masks" in table and "Training MACs / dense" in table
    figure = winnow(study, "reproduce", "own_curve", *settings)
    assert "Gradients against random masks, by density" in figure
    drawn = study / "results" / "figures" / "own_curve"
    assert drawn.with_suffix(".pdf").is_file() or drawn.with_suffix(".png").is_file()
    with drawn.with_suffix(".csv").open(newline="") as file:
        assert {row["series"] for row in csv.DictReader(file)} == {"Gradients", "Random"}
    winnow(study, "report", limit=1500)  # it has all published tables and figures, too
    page = (study / "results" / "report.html").read_text()
    assert "Gradients against random masks, by density" in page


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[dict[str, str]]:
    if missing():
        pytest.fail(f"not installed: {', '.join(missing())}; apt-get install slurm-wlm munge")
    with slurm(tmp_path / "cluster") as variables:
        yield {**environment(), **variables}


@pytest.mark.slurm
def test_a_strangers_parts_go_through_slurm_and_into_a_table(
    study: Path, cluster: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in cluster.items():
        monkeypatch.setenv(name, value)
    options = ["cpus_per_task=1", "poll_s=0.5"]
    queue = ["hydra/launcher=slurm", *(f"hydra.launcher.{each}" for each in options)]
    folders = [f"env.results_dir={tmp_path / 'slurm'}", f"env.cache_dir={tmp_path / 'cache'}"]
    winnow(study, "run", "-m", *PARTS, "density=0.5", "seed=0,1", *queue, *folders, *SMALL)
    paths = list((tmp_path / "slurm" / "runs").glob("*/result.json"))
    own = [set(json.loads(path.read_text())["provenance"]["own"]) for path in paths]
    assert own == [TAGS, TAGS]
    assert "(2)" in winnow(study, "table", str(tmp_path / "slurm"))
