"""Figures agree with points worked by hand, list missing runs and are drawn reproducibly."""

import csv
import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
from conftest import SMALL
from rich.console import Console
from support import COMPOSER, compose_run, machine, perform_run
from table_support import record
from torch import nn

from pruners.base import Masks, Measurement, Task
from runner.commands.figures import draw_figures
from runner.commands.plan import show_plan
from runner.errors import ConfigError
from runner.figures.series import series_of
from runner.figures.write import write_figure
from runner.paths import CONF
from runner.records.read import find_run
from runner.spec.planned import PlannedRun
from runner.spec.rng import stream
from runner.suites.expand import Suite, expand
from runner.suites.layouts import series_key
from runner.suites.merge import on_variant
from runner.suites.schema_figures import FigureSpec
from runner.suites.spec import figure_names, read_spec, table_names, variants_of
from runner.suites.titles import title

SCALE = "train.scale=0.0123"  # no published records have this scale
A, B = "(a) tickets and random masks by sparsity", "(b) tickets and 10,000 random masks at 1.2 %"
NET = "LeNet-300-100"
TINY = ["method=random", "density=0.5", "dataset=digits", "model=mlp", "train.scale=0.00625"]


@pytest.fixture(scope="module")
def figure() -> Suite:
    return expand("sketching_figure02@digits", {"seeds": ["0", "1"]}, [SCALE], COMPOSER)


def jobs(figure: Suite, panel: str, series: str, point: str = "") -> list[PlannedRun]:
    return list(
        figure.cells[
            series_key(panel, series, NET),
            point or next(c for r, c in figure.cells if r.startswith(panel)),
        ].jobs
    )


def write(results: Path, job: PlannedRun, series: dict[str, list[float]], **more: Any) -> None:
    folder = results / "runs" / job.run_id
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "result.json").write_text(json.dumps(record(job, **{"accuracy": 80.0, **more})))
    (folder / "series.json").write_text(json.dumps(series))


def norms(*ticket: float) -> dict[str, list[float]]:
    return {
        "ticket_norm": list(ticket),
        "random_norm": [x / 2 for x in ticket],
        "random_norm_std": [0.0] * len(ticket),
    }


def lines(results: Path, figure: Suite, series: str, panel: str = A) -> list[dict[str, str]]:
    with (results / "figures" / f"{figure.name}.csv").open(newline="") as file:
        return [
            line
            for line in csv.DictReader(file)
            if line["series"] == series and line["panel"] == panel
        ]


# --- expansion


@pytest.mark.parametrize("name", figure_names())
def test_every_figure_expands_on_all_its_data_and_has_distinct_panels(name: str) -> None:
    spec = read_spec(name)
    assert isinstance(spec, FigureSpec)
    stem = (
        f"figure{spec.number:02d}"
        if isinstance(spec.number, int)
        else f"{spec.what}{spec.number}".lower().replace(".", "")
    )
    assert (spec.number is None or f"{spec.paper}_{stem}" == name) and name not in table_names()
    for form, variant in (
        (name, None),
        *((f"{name}@{variant}", variant) for variant in variants_of(name)),
    ):
        figure = expand(form, {"seeds": ["0"]}, [], COMPOSER)
        panels = on_variant(spec, variant).panels
        assert len({panel.label for panel in panels}) == len(panels)
        assert figure.drawn
        assert figure.jobs
        assert len(series_of(figure, Path("/nowhere"))) == sum(
            len(panel.series) * len(panel.networks_of(figure.networks)) for panel in panels
        )


def test_each_level_is_one_run_which_series_share(figure: Suite) -> None:
    assert len(figure.jobs) == 2 * 21  # 20 levels and a run with 10,000 masks, two seeds
    first = jobs(figure, A, "lt layer 1", "density=0.8")[0]
    last = jobs(figure, A, "lt layer 1", "density=0.0115")[0]
    assert jobs(figure, A, "random layer 3", "density=0.8")[0].run_id == first.run_id
    prunes = [stage.density for stage in last.run.stages if stage.kind == "prune"]
    assert prunes == pytest.approx([0.8**level for level in range(1, 21)], rel=1e-11)
    # the levels share one chain of trainings
    assert set(first.keys.values()) - {first.keys["portrait"]} <= set(last.keys.values())


def test_a_plan_accepts_the_name_of_a_figure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dirs = [f"env.results_dir={tmp_path / 'results'}", f"env.cache_dir={tmp_path / 'cache'}"]
    assert (
        show_plan(["sketching_figure02@digits", "seeds=0", SCALE, *dirs], Console(file=sys.stdout))
        == 0
    )
    output = capsys.readouterr().out
    # A training has one epoch (1.23 % of 40). There are the dense net and 20 levels, and each run
    # requests the epochs of its prefix of the chain.
    assert "runs: 21; done 0" in output
    assert f"epochs: asked {sum(range(2, 22)) + 21}, needed 21" in output


def test_an_unknown_figure_gives_an_error_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match="did you mean 'sketching_figure02'"):
        expand("sketching_figure20", {}, [], COMPOSER)


def test_the_title_contains_the_differences_from_the_paper() -> None:
    paper = read_spec("sketching_figure01").title
    assert title(expand("sketching_figure01", {}, [], COMPOSER)) == f"Figure 1: {paper}"
    assert (
        title(expand("sketching_figure01@digits", {}, [], COMPOSER))
        == f"Figure 1: {paper} (here on digits; ResNet-20; every duration x 0.025)"
    )


# --- numbers


def test_a_point_of_a_curve_is_mean_and_deviation_at_the_recorded_density(
    figure: Suite, tmp_path: Path
) -> None:
    for job, norm in zip(jobs(figure, A, "lt layer 1", "density=0.64"), (3.0, 5.0), strict=True):
        write(tmp_path, job, norms(norm, 10.0, 1.0), density=0.64)
    write_figure(figure, tmp_path)
    (line,) = lines(tmp_path, figure, "lt layer 1")
    assert (line["point"], line["n"], float(line["x"]), float(line["y"])) == (
        "density=0.64",
        "2",
        64.0,
        4.0,
    )
    # deviations -1 and 1, one degree of freedom
    assert float(line["y_std"]) == pytest.approx(2**0.5)
    (line,) = lines(tmp_path, figure, "random layer 2")
    assert (float(line["y"]), float(line["y_std"])) == (5.0, 0.0)


def test_histograms_and_marks_are_drawn_from_series(figure: Suite, tmp_path: Path) -> None:
    shares = {
        "norm_edges": [0.0, 1.0, 2.0, 3.0, 4.0],
        "random_share_0": [0.0, 0.25, 0.75, 0.0],
        "random_share_1": [1.0, 0, 0, 0],
        "random_share_2": [0.0] * 4,
    }
    for job, ticket in zip(jobs(figure, B, "lt layer 1"), (5.0, 7.0), strict=True):
        write(tmp_path, job, {**norms(ticket, 10.0, 1.0), **shares})
    write_figure(figure, tmp_path)
    bins = [
        (float(row["x"]), float(row["x_end"]), float(row["y"]))
        for row in lines(tmp_path, figure, "random layer 1", B)
    ]
    assert bins == [(1.0, 2.0, 0.25), (2.0, 3.0, 0.75)]  # empty ends are not drawn
    assert [(row["x"], row["y"]) for row in lines(tmp_path, figure, "lt layer 1", B)] == [
        ("6.0", "")
    ]


def test_seeds_with_different_bins_give_an_error(figure: Suite, tmp_path: Path) -> None:
    for i, job in enumerate(jobs(figure, B, "lt layer 1")):
        write(
            tmp_path,
            job,
            {
                **norms(1.0, 1.0, 1.0),
                "norm_edges": [0.0, 1.0 + i],
                **{f"random_share_{k}": [1.0] for k in range(3)},
            },
        )
    with pytest.raises(ConfigError, match="share their axis"):
        write_figure(figure, tmp_path)


def test_a_record_without_its_series_gives_an_error_with_the_run_id(
    figure: Suite, tmp_path: Path
) -> None:
    job = jobs(figure, B, "lt layer 1")[0]
    write(tmp_path, job, {})
    with pytest.raises(ConfigError, match=f"{job.run_id} has no norm_edges"):
        write_figure(figure, tmp_path)


def test_missing_runs_are_listed_in_legend_caption_and_output(
    figure: Suite, tmp_path: Path
) -> None:
    write(
        tmp_path, jobs(figure, A, "lt layer 1", "density=0.8")[0], norms(1.0, 2.0, 3.0), density=0.8
    )
    text = write_figure(figure, tmp_path)
    legends = {(s.panel, s.label): s.legend for s in series_of(figure, tmp_path)}
    assert legends[A, "lt layer 1"] == "lt layer 1 (1 of 40 runs)"
    assert legends[B, "lt layer 1"] == "lt layer 1 (not run)"
    assert (
        f"Missing in {B}: random layer 1, lt layer 1, random layer 2, lt layer 2, random layer 3,"
        " lt layer 3." in text
    )
    assert f"Missing in {A}" not in text
    assert "41 runs are not done: make reproduce TABLE=sketching_figure02@digits" in text
    assert "lt layer 1: – (2 runs to do)" in text


def history(results: Path, job: PlannedRun, stages: dict[str, list[dict[str, Any]]]) -> None:
    rows = [
        {"stage": stage, "epoch": i, **row}
        for stage, found in stages.items()
        for i, row in enumerate(found, start=1)
    ]
    (results / "runs" / job.run_id / "metrics.jsonl").write_text(
        "".join(json.dumps(row) + "\n" for row in rows)
    )


FIGURE = """
paper: imc
number: 9
title: A small one
layout: figure
seeds: [0, 1]
overrides: [dataset=digits, train=imc, train.scale=0.0123]
networks: {MLP: mlp, LeNet: lenet_300_100}
variants: {}
panels:
  - label: curves
    x: {label: learning rate, scale: log}
    y: {label: "accuracy [%]", range: [0, 100]}
    overrides: [density=0.5]
    points: {train.lr: [0.1, 0.01]}
    series:
      - {label: SNIP, y: accuracy, overrides: [method=snip]}
  - label: bars
    x: {label: learning rate}
    y: {label: K}
    overrides: [density=0.5]
    points: {train.lr: [0.1, 0.01]}
    series: [{label: SNIP, draw: bars, y: lipschitz, overrides: [method=snip]}]
  - label: traces
    x: {label: step}
    y: {label: loss}
    overrides: [density=0.5]
    series: [{label: SNIP, draw: trace, x: steps, y: losses, overrides: [method=snip]}]
  - label: histories
    x: {label: epoch}
    y: {label: loss, scale: log}
    overrides: [density=0.5]
    series:
      - label: SNIP
        draw: trace
        x: history.epoch
        y: history.train_loss
        overrides: [method=snip]
  - label: named points
    x: {label: points, mark: {at: 0.25, label: a fixed mark}}
    y: {label: K, levels: [{at: [2, 3], label: two fixed lines}]}
    points: {a step back: {-1: [density=0.25, train.lr=0.01], 0: [density=0.5]}}
    series:
      - {label: SNIP, y: lipschitz, overrides: [method=snip]}
      - {label: found, draw: mark, x: found, checked: true, times: -100, plus: 53,
          overrides: [method=snip]}
      - {label: sought, draw: mark, x: sought, overrides: [method=snip]}
"""
REPORT = {"lipschitz": 4.0, "found": 0.5, "sought": None}
# a trace shows the losses of the last training only
LOSSES = {"dense": [{"train_loss": 9.0}], "train": [{"train_loss": 2.0}, {"train_loss": 1.0}]}


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Suite:
    """A figure of the other kinds of series, in a configuration folder of its own."""
    conf = tmp_path / "conf"
    (conf / "figure").mkdir(parents=True)
    for path in CONF.iterdir():
        if path.name != "figure":
            (conf / path.name).symlink_to(path)
    (conf / "figure" / "imc_figure09.yaml").write_text(FIGURE)
    monkeypatch.setattr("runner.suites.spec.CONF", conf)
    return expand("imc_figure09", {}, [], COMPOSER)


def test_bars_traces_and_several_nets_are_drawn(small: Suite, tmp_path: Path) -> None:
    for cell in small.cells.values():
        for job in cell.jobs:
            seed, lenet = job.run.seed, job.run.model.name != "mlp"
            write(
                tmp_path,
                job,
                {"steps": [0.0, 10.0], "losses": [2.0, 1.0 + seed]},
                accuracy=90.0 + seed,
                report={**REPORT, "lipschitz": 4.0 + lenet},
            )
    write_figure(small, tmp_path)
    assert [
        (row["point"], float(row["x"]), float(row["y"]))
        for row in lines(tmp_path, small, "SNIP, MLP", "curves")
    ] == [
        ("train.lr=0.1", 0.1, 90.5),
        ("train.lr=0.01", 0.01, 90.5),
    ]
    assert [float(row["y"]) for row in lines(tmp_path, small, "SNIP, LeNet", "bars")] == [5.0, 5.0]
    trace = [
        (float(row["x"]), float(row["y"]), float(row["y_std"]))
        for row in lines(tmp_path, small, "SNIP, MLP", "traces")
    ]
    assert trace == [(0.0, 2.0, 0.0), (10.0, 1.5, pytest.approx(0.5**0.5))]


def test_a_series_of_an_unknown_method_gives_an_error(tmp_path: Path, small: Suite) -> None:
    misspelt = FIGURE.replace("method=snip", "method=snipp")
    (tmp_path / "conf" / "figure" / "imc_figure08.yaml").write_text(misspelt)
    with pytest.raises(ConfigError, match="method=snipp is not a choice: .*did you mean 'snip'"):
        expand("imc_figure08", {}, [], COMPOSER)


def test_the_best_epoch_is_drawn_on_request(tmp_path: Path, small: Suite) -> None:
    best = expand("imc_figure09", {"table.metric": ["accuracy_best"]}, [], COMPOSER)
    for cell in best.cells.values():
        for job in cell.jobs:
            write(tmp_path, job, {"steps": [0.0], "losses": [1.0]}, report=REPORT)
    write_figure(best, tmp_path)
    # record() sets accuracy_best to one point above the accuracy of 80
    assert {row["y"] for row in lines(tmp_path, best, "SNIP, MLP", "curves")} == {"81.0"}


def test_a_trace_reads_the_last_training_and_skips_missing_numbers(
    small: Suite, tmp_path: Path
) -> None:
    pair = small.cells[series_key("histories", "SNIP", "MLP"), "="].jobs
    diverged = {
        "dense": [{"train_loss": 9.0}],
        "train": [{"train_loss": 4.0}, {"train_loss": None}],
    }
    for job, rows in zip(pair, (LOSSES, diverged), strict=True):
        write(tmp_path, job, {"steps": [0.0], "losses": [1.0]}, report=REPORT)
        history(tmp_path, job, rows)
    write_figure(small, tmp_path)
    drawn = [
        (row["n"], float(row["x"]), float(row["y"]))
        for row in lines(tmp_path, small, "SNIP, MLP", "histories")
    ]
    # the mean of 2 and 4, then the remaining seed
    assert drawn == [("2", 1.0, 3.0), ("1", 2.0, 1.0)]


def test_a_record_without_history_counts_as_not_run_only_in_traces_of_the_history(
    small: Suite, tmp_path: Path
) -> None:
    for job in small.jobs:
        write(tmp_path, job, {"steps": [0.0], "losses": [1.0]}, report=REPORT)
    text = write_figure(small, tmp_path)
    legends = {(s.panel, s.label): s.legend for s in series_of(small, tmp_path)}
    assert legends["histories", "SNIP, MLP"] == "SNIP, MLP (not run)"
    assert legends["traces", "SNIP, MLP"] == "SNIP, MLP"
    assert "Missing in histories: SNIP, MLP, SNIP, LeNet." in text


def test_named_points_have_overrides_of_their_own(small: Suite) -> None:
    cells = {
        point: cell.jobs[0].run
        for (row, point), cell in small.cells.items()
        if row == series_key("named points", "SNIP", "MLP")
    }
    found = {point: (run.density, run.stage("train").recipe.lr) for point, run in cells.items()}
    assert found == {"a step back=-1": (0.25, 0.01), "a step back=0": (0.5, 0.1)}


def test_named_points_and_marks_are_drawn_at_their_values(small: Suite, tmp_path: Path) -> None:
    for job in small.jobs:
        write(tmp_path, job, {"steps": [0.0], "losses": [1.0]}, report=REPORT)
    text = write_figure(small, tmp_path)
    assert [float(row["x"]) for row in lines(tmp_path, small, "SNIP, MLP", "named points")] == [
        -1.0,
        0.0,
    ]
    # 53 - 100 * 0.5
    assert {float(row["x"]) for row in lines(tmp_path, small, "found, MLP", "named points")} == {
        3.0
    }
    assert lines(tmp_path, small, "sought, MLP", "named points") == []
    assert "sought, MLP: none" in text
    drawing = (tmp_path / "figures" / f"{small.name}.svg").read_text()
    assert "a fixed mark" in drawing and drawing.count(">two fixed lines</text>") == 1
    assert "sought, MLP (none)" in {s.legend for s in series_of(small, tmp_path)}


def test_a_number_that_has_not_converged_is_marked_in_legend_and_output(
    small: Suite, tmp_path: Path
) -> None:
    for job in small.jobs:
        check = {} if job.run.seed else {"found_converged": 0, "lipschitz_converged": 1}
        write(tmp_path, job, {"steps": [0.0], "losses": [1.0]}, report={**REPORT, **check})
    text = write_figure(small, tmp_path)
    (mark,) = (s for s in series_of(small, tmp_path) if s.label == "found, MLP")
    assert mark.done == 4  # two points, two seeds
    doubt = "not converged in 2 of 4 runs; convergence not checked in 2 of 4 runs"
    assert f"found, MLP ({doubt})" in mark.legend
    assert mark.doubt in text
    assert all(s.doubt == "" for s in series_of(small, tmp_path) if s.label.startswith("SNIP"))


# --- pictures


def test_the_same_records_give_the_same_bytes(figure: Suite, tmp_path: Path) -> None:
    for job in figure.jobs:
        shares = {
            "norm_edges": [0.0, 1.0, 2.0],
            **{f"random_share_{k}": [0.5, 0.5] for k in range(3)},
        }
        write(
            tmp_path,
            job,
            {**norms(3.0 + job.run.seed, 2.0, 1.0), **shares},
            density=job.run.density,
        )
    pictures = []
    for _ in range(2):
        write_figure(figure, tmp_path)
        pictures.append(
            {path.suffix: path.read_bytes() for path in sorted((tmp_path / "figures").iterdir())}
        )
    assert set(pictures[0]) == {".csv", ".pdf", ".png", ".svg", ".md", ".txt", ".tex"}
    assert pictures[0] == pictures[1]
    assert pictures[0][".png"].startswith(b"\x89PNG")
    assert pictures[0][".pdf"].startswith(b"%PDF")
    assert b"<svg" in pictures[0][".svg"]
    assert b"Date" not in pictures[0][".pdf"] and b"dc:date" not in pictures[0][".svg"]


def test_without_matplotlib_the_error_contains_the_pip_command(
    figure: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # makes `import matplotlib` fail
    with pytest.raises(ConfigError, match=r"pip install -e '\.\[figures\]'"):
        write_figure(figure, tmp_path)


def test_make_figures_draws_an_incomplete_figure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = draw_figures(
        [
            "sketching_figure02@digits",
            SCALE,
            f"env.results_dir={tmp_path}",
            f"env.cache_dir={tmp_path / 'cache'}",
        ]
    )
    (file,) = (tmp_path / "figures").glob("sketching_figure02@digits*.svg")
    assert code == 0 and file.stem == f"sketching_figure02@digits+{SCALE}"
    assert "63 runs are not done" in capsys.readouterr().out


# --- series.json


def test_series_are_written_beside_the_record_with_and_without_a_cache(
    tmp_path: Path,
) -> None:
    overrides = [
        "method=imp",
        "density=0.5",
        *(w for w in SMALL if not w.startswith("env.")),
        "train.lr=0.01",
        "portrait=norms",
    ]
    figures = []
    for results in ("cold", "warm"):
        where = machine(tmp_path, results=results)
        made, artefacts = perform_run(compose_run(*overrides), where)
        figures.append((where.results_dir / "runs" / made["run_id"] / "series.json").read_bytes())
    assert figures[0] == figures[1] and "series" not in made
    series = json.loads(figures[0])
    initial = compose_run(*overrides).model(1, 10, 8, stream(0, "init", "weights"))
    for i, (name, mask) in enumerate(artefacts["train4"].masks.items()):
        assert series["ticket_norm"][i] == pytest.approx(
            float((initial.get_parameter(name).detach().double() * mask).norm()), rel=1e-12
        )


def test_a_run_without_a_portrait_writes_no_series(tmp_path: Path) -> None:
    made, _ = perform_run(compose_run(*TINY), machine(tmp_path))
    assert not (tmp_path / "results" / "runs" / made["run_id"] / "series.json").exists()


@dataclass(frozen=True)
class Overflown:
    """A measurement with an infinite number."""

    tag: ClassVar[str] = "overflown"

    def __call__(self, model: nn.Module, masks: Masks, task: Task) -> Measurement:
        return Measurement(series={"fine": [1.0], "norms": [1.0, float("inf")]})


def test_a_measurement_that_is_not_finite_is_a_divergence(tmp_path: Path) -> None:
    run = compose_run(*TINY, "portrait=norms")
    broken = replace(
        run,
        stages=tuple(
            replace(s, component=Overflown()) if s.name == "portrait" else s for s in run.stages
        ),
    )
    record, _ = perform_run(broken, machine(tmp_path))
    assert (record["status"], record["report"]["diverged_stage"]) == ("diverged", "portrait")
    assert "series norms is not finite" in record["report"]["diverged_what"]


def test_diverged_runs_are_left_out_and_counted(figure: Suite, tmp_path: Path) -> None:
    first, second = jobs(figure, A, "lt layer 1")
    write(tmp_path, first, norms(2.0, 4.0, 6.0))
    nothing = {"accuracy": None, "test_loss": None, "density": None, "sparsity": None}
    write(tmp_path, second, {}, status="diverged", **nothing)
    text = write_figure(figure, tmp_path)
    (row,) = lines(tmp_path, figure, "lt layer 1")
    assert (row["n"], row["y"]) == ("1", "2.0")
    assert "1 of 40 runs, 1 diverged" in text
    assert "1 run diverged (a loss, weight or score is not finite) and left out of points" in text


def test_collapsed_runs_are_drawn_marked_and_counted(small: Suite, tmp_path: Path) -> None:
    job, *others = small.cells[series_key("curves", "SNIP", "MLP"), "train.lr=0.1"].jobs
    # chance is 10 % of 360 images, and three standard errors 4.74 %
    traced: dict[str, list[float]] = {"steps": [0.0, 1.0], "losses": [2.0, 1.0]}
    write(tmp_path, job, traced, accuracy=14.7, report=REPORT)
    write(tmp_path, others[0], traced, accuracy=14.8, report=REPORT)
    text = write_figure(small, tmp_path, [])
    assert "1 run collapsed: the test accuracy is that of chance" in text
    assert "SNIP, MLP: 1 points, 14.75 at 0.1 to 14.75 at 0.1; 2 of 4 runs, 1 collapsed" in text
    page = (tmp_path / "figures" / "imc_figure09.md").read_text()
    assert "- 1 run collapsed" in page and "2 of 4 runs, 1 collapsed" in page


def test_the_page_of_a_figure_has_notes_verdicts_and_provenance(
    figure: Suite, tmp_path: Path
) -> None:
    levels = ("density=0.8", "density=0.0115")
    made = [job for level in levels for job in jobs(figure, A, "lt layer 1", level)]
    for number, job in enumerate(made):
        write(tmp_path, job, norms(2.0, 4.0, 6.0))
        path = tmp_path / "runs" / job.run_id / "result.json"
        found = json.loads(path.read_text())
        found["provenance"] |= {
            "git_sha": str(number % 2) * 40,
            "versions": {"python": "3.12.3", "torch": "2.14.0"},
            "finished": f"2026-11-{20 + number}T06:07:40+00:00",
        }
        path.write_text(json.dumps(found))
    text = write_figure(figure, tmp_path, [])
    page = (tmp_path / "figures" / f"{figure.name}.md").read_text()
    lines = text.splitlines()
    shown = [
        line for line in lines if line.startswith(("n=2", "Missing in", "Device", "Precision"))
    ]
    assert len(shown) == 4 and all(f"- {line}\n" in page for line in shown)
    assert page.startswith(f"**{title(figure)}**\n\n- n=2 seeds")
    claims = (tmp_path / "figures" / f"{figure.name}.claims.md").read_text()
    assert f"## Verdicts\n\n{claims}" in page
    last = 20 + len(made) - 1
    half = len(made) // 2
    assert page.rpartition("## Provenance\n\n")[2].splitlines() == [
        f"- Made by `{figure.command}`.",
        f"- The numbers are in [{figure.name}.csv]({figure.name}.csv).",
        f"- {len(made)} runs, finished from 2026-11-20 to 2026-11-{last}; commit (runs with a stage"
        f" that it measured): `000000000000` ({len(made) - half}), `111111111111` ({half}).",
        "- Versions: Python 3.12.3, torch 2.14.0.",
    ]
    assert "![" not in page and "../records" not in page
    (tmp_path / "figures" / f"{figure.name}.png").touch()
    (tmp_path / "records").mkdir()
    (tmp_path / "records" / f"{figure.name}.jsonl").touch()
    write_figure(figure, tmp_path, [])
    page = (tmp_path / "figures" / f"{figure.name}.md").read_text()
    assert f"]({figure.name}.png)" in page
    assert f"[{figure.name}.jsonl](../records/{figure.name}.jsonl)" in page


def test_find_run_reads_local_results(figure: Suite, tmp_path: Path) -> None:
    job = figure.jobs[0]
    assert find_run(job.run_id, tmp_path) is None
    write(tmp_path, job, {"x": [1.0]})
    found = find_run(job.run_id, tmp_path)
    assert found is not None and found.number("x", 0) == 1.0 and found.number("accuracy") == 80.0


def test_a_number_and_a_list_of_the_same_name_are_distinguished(
    figure: Suite, tmp_path: Path
) -> None:
    # e.g. the overlap of a mask search: series.json contains all epochs, the report the last value
    job = figure.jobs[0]
    write(tmp_path, job, {"accuracy": [20.0, 70.0]})
    found = find_run(job.run_id, tmp_path)
    assert found is not None and found.number("accuracy") == 80.0
    assert found.numbers("accuracy") == [20.0, 70.0] and found.number("accuracy", 1) == 70.0
    with pytest.raises(ConfigError, match="has no overlap, which the figure draws"):
        found.number("overlap")
