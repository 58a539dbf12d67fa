"""The benchmark: its figure and its table have the same runs, at equal settings."""

from pathlib import Path

import pytest
from support import COMPOSER
from table_support import record, write

from runner.figures.series import series_of
from runner.suites.expand import Suite, expand
from runner.suites.schema_blocks import BlocksTable
from runner.suites.schema_figures import FigureSpec
from runner.tables.entries import entries
from runner.tables.render import as_markdown, sheet_of


@pytest.fixture(scope="module")
def figure() -> Suite:
    return expand("benchmark", {}, [], COMPOSER)


@pytest.fixture(scope="module")
def table() -> Suite:
    return expand("benchmark_table", {}, [], COMPOSER)


def test_the_table_prints_the_runs_that_the_figure_draws(figure: Suite, table: Suite) -> None:
    assert {job.run_id for job in figure.jobs} == {job.run_id for job in table.jobs}


def test_panels_and_blocks_have_seeds_and_densities_of_their_own(table: Suite) -> None:
    by_net: dict[str, set[tuple[float | None, int]]] = {}
    for cell in table.cells.values():
        for job in cell.jobs:
            by_net.setdefault(job.outline.model, set()).add((job.outline.density, job.outline.seed))
    densities = (0.5, 0.2, 0.1, 0.05, 0.02, 0.01, None)
    assert by_net["lenet_300_100"] == {(d, s) for d in densities for s in range(5)}
    assert by_net["resnet20"] == {(d, s) for d in (0.2, 0.05, 0.02, None) for s in range(3)}
    # seeds of the command line are those of all
    for name in ("benchmark", "benchmark_table"):
        asked = expand(name, {"seeds": ["7"]}, [], COMPOSER)
        assert {job.outline.seed for job in asked.jobs} == {7}


def test_every_pruned_net_trains_equally_long_and_counts_all_weights(table: Suite) -> None:
    for cell in table.cells.values():
        run = cell.jobs[0].run
        trained = [stage for stage in run.stages if stage.kind in ("train", "search")]
        epochs = 3 if run.model.name == "resnet20" else 5
        whole = sum(cell.jobs[0].outline.epochs)
        # a short W* and rewinding come on top; Flow&Prune cuts one training into segments
        assert whole % epochs in (0, 1) and whole >= epochs, (cell.row, whole)
        assert trained
        assert run.density is None or f"density={run.density}" in " ".join(cell.jobs[0].overrides)


def test_a_table_of_ours_has_no_brackets_for_a_paper(table: Suite, tmp_path: Path) -> None:
    page = as_markdown(sheet_of(table, entries(table, tmp_path)))
    assert "the paper's" not in page and "[" not in page.partition("\n\n")[2].partition("\n\n")[0]


def test_pages_from_records_worked_by_hand(tmp_path: Path) -> None:
    """Two methods and the dense net at 5 %, five seeds; the second is ten points better."""
    seeds = {"seeds": ["995", "996", "997", "998", "999"]}  # that no published page has
    figure, table = (expand(name, seeds, [], COMPOSER) for name in ("benchmark", "benchmark_table"))
    noise = [0.0, 0.2, -0.2, 0.1, -0.1]
    panel = "LeNet-300-100"
    for method, column, mean, epochs in (
        ("Dense", "dense", 88.0, 5),
        ("Random", "0.05", 70.0, 5),
        ("OBD", "0.05", 80.0, 10),
    ):
        jobs = table.cells[f"{panel}, {method}", column].jobs
        macs = {"train_flops": epochs * 10**12}
        for job, more in zip(jobs, noise, strict=True):
            write(tmp_path, record(job, mean + more, epochs_total=epochs, runtime_s=7.0, **macs))
    page = as_markdown(sheet_of(table, entries(table, tmp_path))).replace("*", "").splitlines()
    lines = [line.strip("|").split("|") for line in page if line.startswith("|")]
    # those of the first block stay
    rows = {name.strip(): [each.strip() for each in rest] for name, *rest in reversed(lines)}
    # deviation of 0, ±0.2, ±0.1: (0.1 / 4)^0.5; accuracies and ranks are in the column of 5 %
    assert rows["Dense"] == ["88.00 ± 0.16", "–", "–", "–", "–", "–", "5", "5.00e+12", "7.0"]
    assert rows["Random"] == ["–", "–", "–", "70.00 ± 0.16 (2)", "–", "–", "5", "5.00e+12", "7.0"]
    assert rows["OBD"] == ["–", "–", "–", "80.00 ± 0.16 (1) •", "–", "–", "10", "1.00e+13", "7.0"]
    found = {series.key: series for series in series_of(figure, tmp_path)}
    assert found["init", "Dense"].kind == "level"
    assert [point.y for point in found["trained", "Dense"].points] == pytest.approx([88.0])
    assert [(p.x, p.y, p.n) for p in found["trained", "OBD"].points] == [
        (pytest.approx(5.0), pytest.approx(80.0), 5)
    ]


@pytest.mark.slow  # expands 2 x 870 runs
@pytest.mark.parametrize("data", ["cifar10", "cifar100"])
def test_variants_have_the_same_runs_and_the_papers_numbers(data: str, tmp_path: Path) -> None:
    """Numbers as in results/paper: a cell of each paper, and cells that no paper has."""
    figure, table = (
        expand(f"{name}@{data}", {}, [], COMPOSER) for name in ("benchmark", "benchmark_table")
    )
    assert {job.run_id for job in figure.jobs} == {job.run_id for job in table.jobs}
    found = entries(table, tmp_path)
    papers = {key: each.paper["accuracy_mean"] for key, each in found.items() if each.paper}
    vgg, resnet = "VGG-19", "ResNet-20, 32 filters"
    if data == "cifar10":
        # sketching Tables 1, 4 and 2 (IMP), jackpots Table 1 (90 %: density 0.1; 30 epochs)
        assert papers[f"{vgg}, SynFlow", "0.1"] == "93.01"
        assert papers[f"{vgg}, SNIP", "0.02"] == "90.92"
        assert papers[f"{vgg}, LTH", "0.05"] == "92.64"
        assert papers[f"{vgg}, Jackpot", "0.1"] == "93.86"
        assert papers[f"{vgg}, OBD", "0.05"] == "93.58"
        # its ResNet-20 has 16 filters there
        assert not [key for key in papers if key[0].startswith(resnet)]
    else:
        assert papers[f"{resnet}, GraSP", "0.1"] == "67.24"
        assert papers[f"{vgg}, Random", "0.02"] == "58.28"
        assert (f"{vgg}, SET", "0.1") not in papers  # the jackpots paper has CIFAR-10 alone
    assert not [key for key in papers if key[1] in ("0.5", "0.2", "0.01", "dense")]
    page = as_markdown(sheet_of(table, found))
    assert ("– [93.01 ± 0.19]" in page) == (data == "cifar10") and "[–]" not in page


def test_the_figure_tells_its_curves_apart_without_colour(figure: Suite) -> None:
    spec, rows = figure.spec, table_rows()
    assert isinstance(spec, FigureSpec) and spec.look.marked
    for panel in spec.panels:
        curves = [series for series in panel.series if series.draw == "curve"]
        assert len(curves) <= 12  # markers
        for series in panel.series:
            assert series.ref in rows


def table_rows() -> list[str]:
    spec = expand("benchmark_table", {"seeds": ["0"]}, [], COMPOSER).spec
    assert isinstance(spec, BlocksTable)
    return [row.ref for row in spec.rows]
