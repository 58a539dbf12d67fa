"""Every record that we ship was measured by committed code and is found through its table, figure
or command (results/published/index.yaml), and every published page is printed from the records."""

import re
import subprocess
from collections import Counter
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from support import COMPOSER

from runner.commands.publish import KEPT
from runner.commands.published import PublishedLine, published_line, read_index, section_of
from runner.config.build import build_plain
from runner.figures.claims import judged
from runner.figures.series import series_of
from runner.figures.write import as_csv, as_page
from runner.paths import PUBLISHED
from runner.records.find import finished_runs
from runner.records.packed import read_lines
from runner.records.read import find_run
from runner.spec.identity import NUMERICS, identify
from runner.spec.run import Run
from runner.suites.expand import Suite
from runner.suites.verdicts import write_claims
from runner.tables.claims import compared
from runner.tables.entries import entries
from runner.tables.render import FORMATS, sheet_of

INDEX = read_index(PUBLISHED)
LINES = [line for listed in INDEX.values() for line in listed]


@cache
def line_of(words: str) -> PublishedLine:
    """A line of the index with its runs."""
    return published_line(words, INDEX[section_of(words)], COMPOSER)


@cache
def packed(words: str) -> dict[str, dict[str, Any]]:
    """The runs in the file of a line by run id."""
    return read_lines(PUBLISHED / "records" / f"{line_of(words).name}.jsonl")


def page_of(words: str) -> Suite:
    page = line_of(words).page
    assert page
    return page


def published_pages(section: str, name: str) -> dict[str, str]:
    """The text of the published pages of a table or figure by file name."""
    paths = (PUBLISHED / section).glob(f"{name}.*")
    return {path.name: path.read_text() for path in paths if path.suffix[1:] in KEPT}


def claims_in(folder: Path) -> dict[str, str]:
    """The text of the published forms of verdicts by file name."""
    return {path.name: path.read_text() for path in folder.iterdir() if path.suffix[1:] in KEPT}


def test_nothing_is_published_that_no_line_of_the_index_reads() -> None:
    names = {section: {line_of(words).name for words in INDEX[section]} for section in INDEX}
    files = {"records": set[str](), "tables": set[str](), "figures": set[str]()}
    pictures = set()
    for path in PUBLISHED.rglob("*"):
        if path.suffix == ".png":
            pictures.add(path.relative_to(ROOT).as_posix())
        elif path.is_file() and path.parent != PUBLISHED:
            assert path.suffix == ".jsonl" or path.suffix[1:] in KEPT, path
            files[path.parent.name].add(path.stem.removesuffix(".claims"))
    assert files == {
        "records": set().union(*names.values()),
        "tables": names["tables"],
        "figures": names["figures"],
    }
    documents = [ROOT / "README.md", ROOT / "RESULTS.md", *(ROOT / "docs").rglob("*.md")]
    shown = {
        picture
        for path in documents
        for picture in re.findall(r"results/published/figures/[\w@+=.,-]+\.png", path.read_text())
    }
    assert pictures == shown
    assert len(finished_runs(PUBLISHED)) == len({run for words in LINES for run in packed(words)})


@pytest.mark.parametrize("words", LINES)
def test_the_file_of_a_line_has_its_runs_and_what_its_figure_reads(words: str) -> None:
    line = line_of(words)
    assert list(packed(words)) == sorted({job.run_id for job in line.jobs})
    for name, run in packed(words).items():
        assert ("history" in run) == line.reads_history, name
        assert not line.reads.isdisjoint(run["series"]) if "series" in run else True, name


@pytest.mark.parametrize("words", LINES)
def test_a_run_of_several_lines_is_the_same_in_each(words: str) -> None:
    for other in LINES[: LINES.index(words)]:
        for name in packed(words).keys() & packed(other).keys():
            one, two = packed(words)[name], packed(other)[name]
            assert (one["record"], one["config"]) == (two["record"], two["config"])


def essential(run: Run, keys: dict[str, str]) -> list[tuple[str, str]]:
    """The keys of the stages that make the run, in order; older records lack those beside it."""
    names = {stage.name for stage in run.essential}
    return [(name, key) for name, key in keys.items() if name in names]


@pytest.mark.parametrize("line", LINES)
def test_the_records_of_a_line_say_what_they_were_measured_with(line: str) -> None:
    for job in line_of(line).jobs:
        found = packed(line)[job.run_id]["record"]
        assert (found["schema"], found["run_id"], found["status"]) == (1, job.run_id, "done")
        measured = {stage["name"]: stage["key"] for stage in found["stages"]}
        assert essential(job.run, measured) == essential(job.run, job.keys), job.run_id
        assert measured.items() <= job.keys.items(), job.run_id
        assert job.required <= set(measured.values()), job.run_id
        assert (
            found["provenance"]["git_dirty"] is False and len(found["provenance"]["git_sha"]) == 40
        ), job.run_id
        assert found["provenance"]["numerics"] == {
            kind: NUMERICS[kind] for kind in found["provenance"]["numerics"]
        }, job.run_id
        pruned = found["kept"] is not None  # a theory experiment prunes no net
        assert found["density"] == (found["kept"] / found["prunable"] if pruned else None), (
            job.run_id
        )
        densities = [stage.density for stage in job.run.stages if stage.density is not None]
        # the last one is where iterative pruning has stopped: the level nearest to the density
        # asked, or that density
        if densities:
            assert found["kept"] == round(densities[-1] * found["prunable"]), job.run_id


@pytest.mark.parametrize("line", LINES)
def test_no_published_density_rests_on_a_spectrum_that_has_not_converged(line: str) -> None:
    for name, run in packed(line).items():
        record = run["record"]
        report = record["report"]
        if record["density_target"] is None and "gap_rule" in report:
            # a count of Ritz values has no limit; any other rule has passed its check
            verdict = report["found_density_converged"]
            assert verdict == (None if report["gap_rule"] == "ritz_sign" else 1), name


@pytest.mark.parametrize("line", LINES)
def test_the_published_configuration_of_a_run_gives_that_run(line: str) -> None:
    for job in line_of(line).jobs:
        run = build_plain(packed(line)[job.run_id]["config"], finished=True)
        found = identify(run)
        assert found.run_id == job.run_id
        assert essential(job.run, found.keys) == essential(job.run, job.keys)


@pytest.mark.parametrize("words", INDEX["tables"])
def test_the_printed_tables_and_the_verdicts_on_claims_are_those_of_the_records(
    words: str, tmp_path: Path
) -> None:
    table, name = page_of(words), line_of(words).name
    found = entries(table, PUBLISHED)
    if lines := compared(table, found):
        write_claims(lines, tmp_path, name)
    sheet = sheet_of(table, found)
    printed = {f"{name}.{ending}": FORMATS[ending](sheet) for ending in KEPT}
    assert published_pages("tables", name) == printed | claims_in(tmp_path)


@pytest.mark.parametrize("words", INDEX["figures"])
def test_the_drawn_numbers_and_the_verdicts_on_claims_are_those_of_the_records(
    words: str, tmp_path: Path
) -> None:
    # the bytes of pictures depend on the version of matplotlib; tests/figures/test_figures.py draws
    # the same ones twice
    figure = page_of(words)
    found = series_of(figure, PUBLISHED)
    assert all(series.done == series.requested for series in found)
    lines = judged(figure, found, partial(find_run, results_dir=PUBLISHED), tmp_path)
    drawn = {
        f"{figure.name}.csv": as_csv(figure, found),
        f"{figure.name}.md": as_page(figure, found, lines, PUBLISHED),
    } | claims_in(tmp_path)
    assert published_pages("figures", figure.name) == drawn


# Models -> the nets that labels may name. Our nets of another width have the paper's name.
NETS = {
    "lenet5": {"LeNet-5"},
    "lenet_300_100": {"LeNet-300-100"},
    "resnet20": {"ResNet-20"},
    "resnet32": {"ResNet-32"},
    "resnet32_w32a": {"ResNet-32"},
    "vgg11_small": {"VGG-11"},
    "student": set[str](),
    "mlp": set[str](),
}
NET = re.compile(r"(?:VGG|ResNet|LeNet|MobileNet|EfficientNet)\w*-\w+(?:-\d+)*")


@pytest.mark.parametrize("words", [*INDEX["tables"], *INDEX["figures"]])
def test_labels_name_the_net_that_ran(words: str) -> None:
    for (row, column), cell in page_of(words).cells.items():
        named = set(NET.findall(" ".join([row, column, cell.network, *cell.labels.values()])))
        for job in cell.jobs:
            model = packed(words)[job.run_id]["record"]["model"]
            assert named == NETS[model], (row, column, model)


def git(*words: str) -> str:
    done = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"this copy of the repository has no history: {done.stderr.strip()}")
    return done.stdout


def measured_by() -> Counter[str]:
    """Commit -> the number of published runs of which it measured a stage."""
    commits: dict[str, set[str]] = {}
    for path in (PUBLISHED / "records").glob("*.jsonl"):
        for run_id, line in read_lines(path).items():
            origin = line["record"]["provenance"]
            every = [origin, *(each for each in origin.get("origins", ()) if each)]
            commits[run_id] = {each["git_sha"] for each in every}
    return Counter(commit for found in commits.values() for commit in found)


def test_every_published_commit_is_in_the_history() -> None:
    if git("rev-parse", "--is-shallow-repository").strip() == "true":
        pytest.skip("this clone has a part of the history only")
    history = set(git("rev-list", "HEAD").split())
    outside = {commit: n for commit, n in measured_by().items() if commit not in history}
    # nobody can check out such a commit: measure its runs again from a clean checkout of main
    assert outside == {}
