"""`make report`: every measured page once, each entry with its runs, and commands of the others."""

import random
import re
import shlex
import statistics
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, environment
from report_page import Page
from rich.console import Console
from support import COMPOSER
from table_support import record, write

from runner.commands import report as module
from runner.commands.again import again
from runner.commands.published import published_line, read_index
from runner.commands.report import report
from runner.commands.write import write as write_pages
from runner.config.environment import environment as default_environment
from runner.engine.record import comparable
from runner.errors import ConfigError
from runner.paths import PUBLISHED
from runner.records.find import find_record, finished_runs
from runner.report.pages import listed
from runner.report.pictures import Styles
from runner.suites.expand import Suite, expand
from runner.suites.file_names import file_name
from runner.suites.kept import KeptCells
from runner.suites.spec import figure_names, table_names

NAME = "imc_table01@digits"
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>&amp;"
MEAN = re.compile(r"(\d+\.\d+) ± ")  # only accuracies have a deviation


def table(*words: str, seeds: str = "0,1") -> Suite:
    """Table 1 on one net, with durations that nobody publishes."""
    chosen = {"models": ["resnet20"], "seeds": seeds.split(",")}
    return expand(NAME, chosen, ["train.scale=0.0123", *words], COMPOSER)


def measured(suite: Suite, results: Path, rows: int, **more: Any) -> None:
    """Write records for the first rows; the accuracies of all runs differ."""
    jobs = [job for cell in list(suite.cells.values())[:rows] for job in cell.jobs]
    write(results, *(record(job, 50 + 0.37 * i, **more) for i, job in enumerate(jobs)))


def make_report(results: Path) -> Page:
    assert report([f"env.results_dir={results}"], Console(quiet=True)) == 0
    return Page(results / "report.html")


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Results of this machine, and none that are published."""
    for place in (module, sys.modules["runner.records.find"]):
        monkeypatch.setattr(place, "results_roots", lambda folder: [folder])
    return tmp_path / "results"


def anchor_of(suite: Suite) -> str:
    return file_name((suite.name, *suite.settings))


# --- entries and their runs


def wrong_means(page: Page) -> list[str]:
    """The accuracies whose printed mean is not that of the runs behind them."""
    found, checked = [], 0
    for anchor, article in page.articles.items():
        for number, text in article.cells:
            runs = [page.numbers(name) for name in page.runs(anchor, number)]
            match = MEAN.match(text)
            if match and runs and "accuracy" in runs[0] and "|" not in text:  # one number
                mean = statistics.fmean(run["accuracy"] for run in runs)
                decimals = len(match[1].partition(".")[2])
                checked += 1
                if abs(mean - float(match[1])) > 0.501 * 10**-decimals:
                    found.append(f"{anchor}, {number}: {text}, not {mean}")
    assert checked
    return found


def test_a_printed_mean_is_that_of_the_runs_behind_the_entry(results: Path) -> None:
    suite = table()
    measured(suite, results, 4)
    write_pages(suite, results, ["html"])
    page = make_report(results)
    (anchor,) = page.articles
    assert anchor == anchor_of(suite)
    cells = [(n, t) for n, t in page.articles[anchor].cells if "±" in t]
    assert [n for n, _ in cells] == [0, 1, 2, 3]
    for (number, text), cell in zip(cells, suite.cells.values(), strict=False):
        runs = page.runs(anchor, number)
        assert runs == [job.run_id for job in cell.jobs]
        accuracies = [found["accuracy"] for n in runs if (found := find_record(n, results))]
        assert text.startswith(f"{statistics.fmean(accuracies):.2f} ± ")
        assert [page.numbers(name)["accuracy"] for name in runs] == accuracies


def test_what_is_missing_has_the_commands_that_measure_it(results: Path) -> None:
    suite = table()
    measured(suite, results, 2)
    write_pages(suite, results, ["html"])
    page = make_report(results)
    cells = list(suite.cells.values())
    assert page.commands(anchor_of(suite), 0) == []
    for number in (2, len(cells) - 1):
        commands = page.commands(anchor_of(suite), number)
        assert commands == [
            shlex.join(["python", "run.py", *job.overrides]) for job in cells[number].jobs
        ]
    assert f"{suite.command}" in page.text and 'ARGS="models=resnet20 seeds=0,1' in suite.command


def test_diverged_runs_and_candidates_that_were_not_chosen_are_named(results: Path) -> None:
    suite = table()
    first, second = (cell.jobs for cell in list(suite.cells.values())[:2])
    write(
        results,
        record(first[0], 90.0),
        record(first[1], None, status="diverged", test_loss=None, report={"diverged_stage": "t"}),
        *(record(job, 91.0) for job in second),
    )
    write_pages(suite, results, ["html"])
    page = make_report(results)
    assert page.runs(anchor_of(suite), 0) == [first[0].run_id]
    assert page.runs(anchor_of(suite), 0, kind=2) == [first[1].run_id]


def test_the_papers_line_is_named_with_its_file(results: Path) -> None:
    suite = table()
    measured(suite, results, 2)
    write_pages(suite, results, ["html"])
    page = make_report(results)
    entry = page.details["pages"][anchor_of(suite)][1]
    text = page.details["texts"][entry[5]]
    file, line = re.search(r"\((\S+), line (\d+)\)$", text).groups()  # type: ignore[union-attr]
    printed = (ROOT / file).read_text().splitlines()[int(line) - 1].split(",")
    assert {"Flow&Prune", "ResNet-20", "0.47", "91.6"} <= set(printed)
    for word in ("Flow&Prune", "sparsity 0.47", "accuracy_mean 91.6", "row 2"):
        assert word in text


def test_stages_of_different_origin_are_told_apart(results: Path) -> None:
    suite = table(seeds="0")
    job = next(iter(suite.cells.values())).jobs[0]
    cpus = [
        {"name": "A", "capability": kind, "instruction_sets": [], "libraries": {}}
        for kind in ("AVX2", "AVX512")
    ]
    found = record(job, 90.0)
    same = {key: found["provenance"][key] for key in ("git_dirty", "device_name", "threads")}
    origins = [{**same, "git_sha": kind["capability"], "cpu": kind} for kind in cpus]
    row = {"key": "0" * 32, "cached": False, "epochs": 1, "seconds": 1.0}
    stages = [{"name": name, **row} for name in ("one", "two", "three")]
    found["stages"] = [{**s, "origin": i} for s, i in zip(stages, (0, 1, 0), strict=True)]
    found["provenance"] |= {**origins[1], "origins": origins}
    write(results, found)
    write_pages(suite, results, ["html"])
    details = make_report(results).details
    made = details["shared"][details["runs"][0][7]]
    assert [stage[0] for stage in made] == ["one", "two", "three"]
    kinds = [details["shared"][stage[2]]["cpu"]["capability"] for stage in made]
    assert kinds == ["AVX2", "AVX512", "AVX2"]


# --- pages


def test_pages_of_dashes_are_not_measured_and_hide_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runner.records.find.results_roots", lambda folder: [folder])
    mine, shipped = tmp_path / "mine", tmp_path / "shipped"
    suite, bare = table(), table("train.lr=0.07")
    measured(suite, shipped, 2)
    write_pages(suite, shipped, ["html"])
    for dashes in (suite, bare):
        write_pages(dashes, mine, ["html"])
    (found,) = (each for each in listed("imc", [mine, shipped], Styles()) if each.name == NAME[:11])
    assert [shown.anchor for shown in found.shown] == [anchor_of(suite)]
    assert found.shown[0].leads.entries[0].runs
    assert [leads.command for leads in found.unmeasured] == [bare.command]


def test_settings_have_files_of_their_own(results: Path) -> None:
    ours, other = table(), table("train.lr=0.07")
    measured(ours, results, 2)
    measured(other, results, 3)
    for suite in (ours, other, expand(NAME, {}, ["env.threads=1"], COMPOSER)):
        write_pages(suite, results, ["html", "txt"])
    names = {path.stem for path in (results / "tables").glob("*.html")}
    assert names == {anchor_of(ours), anchor_of(other), NAME}
    again_ = expand(
        NAME, {"seeds": ["0", "1"], "models": ["resnet20"]}, ["train.scale=0.0123"], COMPOSER
    )
    assert anchor_of(again_) == anchor_of(ours)  # in another order
    assert set(make_report(results).articles) == {anchor_of(ours), anchor_of(other)}


def test_missing_pages_are_listed_with_their_commands(results: Path) -> None:
    commands = re.findall(r"make reproduce TABLE=(\w+)", make_report(results).text)
    assert sorted(commands) == sorted([*table_names(), *figure_names()])


def test_hostile_text_is_text(results: Path) -> None:
    suite = table()
    lines = [replace(line, labels=(HOSTILE,)) for line in suite.page.lines]
    bad = replace(suite, page=replace(suite.page, lines=tuple(lines)), overrides=(f"x={HOSTILE}",))
    measured(bad, results, 2, report={"note": HOSTILE, HOSTILE: 1.0})
    write_pages(bad, results)
    (results / "tables" / f"{anchor_of(bad)}.claims.csv").write_text(
        f'claim,measured,holds\n"{HOSTILE}",{HOSTILE},holds\n'
    )
    (page_path,) = (results / "tables").glob("*.html")
    for path in (page_path, results / "report.html"):
        page = make_report(results) if path.name == "report.html" else Page(path)
        assert not [name for name, _ in page.elements if name == "img"]
        scripts = [values for name, values in page.elements if name == "script"]
        assert len(scripts) == (2 if path.name == "report.html" else 0)
        assert HOSTILE in page.text
        assert not any(key.startswith("on") for _, values in page.elements for key in values)
    details = page.details
    assert HOSTILE in details["shared"][details["runs"][0][5]]
    assert details["runs"][0][6] == [HOSTILE, 1.0]


def test_a_page_of_an_earlier_version_is_named_and_left_out(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (results / "tables").mkdir(parents=True)
    path = results / "tables" / "imc_table02.html"
    path.write_text("<h3>old</h3>")
    assert not make_report(results).articles
    assert f"{path} is from an earlier version" in capsys.readouterr().err


def test_other_arguments_give_an_error(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match="models=resnet20: the report accepts only env.results_dir=DIR"
    ):
        report(["models=resnet20"], Console(quiet=True))


# --- the published pages


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Page:
    return make_report(tmp_path_factory.mktemp("report"))


def test_the_report_contains_all_published_pages(published: Page) -> None:
    # the report has expanded them, and keeps the cells
    index, kept = read_index(PUBLISHED), KeptCells(default_environment([]).cache_dir)
    for section, drawn in (("tables", False), ("figures", True)):
        for words in index[section]:
            suite = published_line(words, index[section], COMPOSER, kept).suite
            assert suite
            assert bool(published.articles[anchor_of(suite)].drawings) == drawn
    assert len(published.articles) == len(index["tables"]) + len(index["figures"])
    assert f"{len(finished_runs(PUBLISHED)):,} runs" in published.text


def test_the_report_is_one_small_file_that_loads_nothing(
    published: Page, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "report0" / "report.html"
    assert path.stat().st_size < 2_000_000
    assert published.remote == [] and "url(" not in published.sheets
    assert "@import" not in published.sheets and "http" not in published.sheets
    ids = [values["id"] for _, values in published.elements if "id" in values]
    assert len(ids) == len(set(ids))


def test_every_published_mean_is_that_of_the_runs_behind_it(published: Page) -> None:
    assert wrong_means(published) == []


def test_the_embedded_details_are_those_of_the_records(published: Page) -> None:
    details = published.details
    for row in random.Random(1).sample(details["runs"], 40):
        found = find_record(row[0], PUBLISHED)
        assert found
        numbers = published.numbers(row[0])
        assert all(numbers[key] == found[key] for key in set(numbers) & set(found))
        findings = dict(zip(details["shared"][row[5]], row[6], strict=True))
        assert findings == found["report"]
        for stage, theirs in zip(details["shared"][row[7]], found["stages"], strict=True):
            assert stage[0] == theirs["name"]
            origin = details["shared"][stage[2]]
            assert origin["git_sha"] == found["provenance"]["git_sha"]
            assert origin["versions"] == found["provenance"]["versions"]
        repeat, where, _ = details["shared"][row[1]]
        file, _, number = where.partition(", line ")
        assert number == "#" and repeat.startswith("python run.py --again {} ")
        assert (
            (ROOT / file).read_text().splitlines()[row[2] - 1].startswith(f'{{"run_id":"{row[0]}",')
        )


# --- from an entry to its repetition


@pytest.mark.slow
def test_three_entries_lead_to_commands_whose_repetition_is_equal(
    results: Path, tmp_path: Path
) -> None:
    def performed(command: str, *words: str) -> None:
        name, *rest = shlex.split(command)
        assert name == "python" and rest[0] == "run.py"
        last = {word.partition("=")[0]: word for word in (*rest[1:], *words)}
        done = subprocess.run(
            [sys.executable, str(ROOT / "run.py"), *last.values()],
            cwd=tmp_path,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    suite = table("env.device=cpu", seeds="0")
    anchor, places = anchor_of(suite), random.Random(7).sample(range(len(suite.cells)), 3)
    measured(suite, results, 0)
    first = next(number for number in range(len(suite.cells)) if number not in places)
    write(results, record(list(suite.cells.values())[first].jobs[0], 50.0))
    write_pages(suite, results, ["html"])
    page = make_report(results)  # the entries are missing, and have commands
    folders = [f"env.results_dir={results}", f"env.cache_dir={tmp_path / 'cache'}"]
    for place in places:
        (command,) = page.commands(anchor, place)
        performed(command, *folders, "env.threads=1")
    write_pages(suite, results, ["html"])
    page = make_report(results)
    for place in places:
        (run_id,) = page.runs(anchor, place)
        (row,) = (row for row in page.details["runs"] if row[0] == run_id)
        performed(page.details["shared"][row[1]][0].replace("{}", run_id))
        one, two = (find_record(run_id, root) for root in (results, tmp_path / "again" / "results"))
        assert one and two and comparable(one) == comparable(two)
        assert one["accuracy"] == page.numbers(run_id)["accuracy"]


def test_a_run_is_repeated_from_the_path_of_its_folder(tmp_path: Path) -> None:
    for words, why in (
        (["--again", "some/where/else"], "a path must be that of a run's folder"),
        (["--again", f"{tmp_path}/runs/method-x"], f"{tmp_path} does not have this run"),
    ):
        with pytest.raises(ConfigError, match=why):
            again(words)
