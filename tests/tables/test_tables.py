"""Tables print our numbers as worked by hand from records, and the paper's numbers of its CSV."""

import csv
import html
import io
import json
import re
from pathlib import Path
from typing import Any

import pandas
import pytest
from conftest import ROOT, SMALL
from support import COMPOSER, compose_run, machine, perform_run
from table_support import printed, record, unmarked, write

from runner.errors import ConfigError
from runner.spec.planned import PlannedRun
from runner.suites.expand import Suite, expand, parse_arguments
from runner.suites.schema_tables import NetworksTable
from runner.suites.titles import title
from runner.tables.entries import entries
from runner.tables.render import as_csv, long_form, sheet_of, write_table

# no published records have this scale, so that a table contains only the records of the test
SCALE = "train.scale=0.0123"
PAPER = ROOT / "results" / "paper" / "imc_table01.csv"
OURS = "Magnitude at IMC's density and rewinding point (ours)"  # no row of the paper
METRICS = ("Sparsity", "Accuracy", "Epoch", "Runtime (s)")


@pytest.fixture(scope="module")
def table() -> Suite:
    return expand("imc_table01@digits", {"models": ["resnet20"]}, [SCALE], COMPOSER)


@pytest.fixture(scope="module")
def whole() -> Suite:
    """The table with the setting of the paper and both networks."""
    return expand("imc_table01", {}, [], COMPOSER)


def jobs(table: Suite, row: str) -> list[PlannedRun]:
    network = next(iter(table.networks))
    return list(table.cells[row, network].jobs)


def paper_lines() -> list[dict[str, str]]:
    with PAPER.open(newline="") as file:
        return list(csv.DictReader(file))


# --- our numbers


def test_an_entry_has_mean_deviation_median_time_and_the_number_of_the_paper(
    table: Suite, tmp_path: Path
) -> None:
    seconds = (100.0, 200.0, 1000.0)
    runs = [
        record(job, accuracy, runtime_s=s)
        for job, accuracy, s in zip(jobs(table, "SNIP"), (90.0, 92.0, 97.0), seconds, strict=True)
    ]
    write(tmp_path, *runs)
    rows, text = printed(table, tmp_path)
    # mean 93; deviations -3, -1, 4; squares 9 + 1 + 16 = 26; 26 / 2 = 13; sqrt 13 = 3.6056. The
    # time is the median: one of three runs waited for other work. The paper: 92.4 at 0.47, 160
    # epochs, 2,675 s.
    assert rows["SNIP"] == ["0.47 [0.47]", "93.00 ± 3.61 [92.4]", "2 [160]", "200 [2,675]"]
    assert "93.00 ± 3.61 [92.4]" in text


def test_only_numbers_of_the_same_data_are_subtracted(tmp_path: Path) -> None:
    selected = {"models": ["resnet20"], "seeds": ["0"]}
    for name, shown in (
        ("imc_table01", "91.00 [92.4, -1.4]"),
        ("imc_table01@digits", "91.00 [92.4]"),
    ):
        table = expand(name, selected, [SCALE], COMPOSER)
        (job,) = jobs(table, "SNIP")
        write(tmp_path, record(job, 91.0))
        rows, text = printed(table, tmp_path)
        assert rows["SNIP"][1] == shown
        assert ("[the paper's, difference]" in text) == ("," in shown)
        assert ("The paper's numbers are those for CIFAR-10." in text) == ("," not in shown)


def test_a_single_seed_has_no_deviation(tmp_path: Path) -> None:
    single = expand(
        "imc_table01@digits", {"models": ["resnet20"], "seeds": ["4"]}, [SCALE], COMPOSER
    )
    (job,) = jobs(single, "Baseline")
    write(tmp_path, record(job, 90.125, runtime_s=12345.6, epochs=1120))
    rows, text = printed(single, tmp_path)
    assert rows["Baseline"] == ["0 [0]", "90.12 [94.6]", "1,120 [160]", "12,346 [1,956]"]
    assert "over n=1 seeds" in text


def test_an_entry_with_missing_seeds_prints_their_number(table: Suite, tmp_path: Path) -> None:
    first, second, _ = jobs(table, "SNIP")
    write(tmp_path, record(first, 90.0), record(second, 92.0))
    rows, text = printed(table, tmp_path)
    assert rows["SNIP"][1] == "91.00 ± 1.41 (n=2 of 3) [92.4]"  # sqrt((1 + 1) / 1)
    assert (
        f"{len(table.jobs) - 2} runs are not done: make reproduce TABLE=imc_table01@digits" in text
    )


def test_missing_numbers_are_printed_as_dashes(table: Suite, tmp_path: Path) -> None:
    rows, text = printed(table, tmp_path)
    for line in paper_lines():
        if line["architecture"] == "ResNet-20":
            assert [cell.partition(" ")[0] for cell in rows[line["method"]]] == ["–"] * 4
    assert f"{len(table.jobs)} runs are not done" in text


def test_a_short_runtime_has_one_decimal(table: Suite, tmp_path: Path) -> None:
    write(
        tmp_path,
        *(
            record(job, 50.0, runtime_s=s)
            for job, s in zip(jobs(table, "SNIP"), (1.0, 2.0, 4.0), strict=True)
        ),
    )
    rows, _ = printed(table, tmp_path)
    assert rows["SNIP"][3] == "2.0 [2,675]"


def test_failed_and_unfinished_runs_are_not_counted(table: Suite, tmp_path: Path) -> None:
    done, failed, running = jobs(table, "SNIP")
    write(tmp_path, record(done, 90.0))
    # the files that runner/engine/execute.py writes for such runs
    for job, status in ((failed, "failed"), (running, "running")):
        folder = tmp_path / "runs" / job.run_id
        folder.mkdir()
        (folder / "status.json").write_text(
            json.dumps({"run_id": job.run_id, "status": status, "accuracy": 10.0})
        )
        (folder / "metrics.jsonl").write_text(
            json.dumps({"stage": "train", "epoch": 1, "accuracy": 10.0}) + "\n"
        )
        (folder / "traceback.txt").write_text("ValueError")
        (folder / f".result.json.{'a' * 32}").write_text(json.dumps(record(job, 10.0)))
    rows, _ = printed(table, tmp_path)
    assert rows["SNIP"][1] == "90.00 (n=1 of 3) [92.4]"


@pytest.mark.parametrize(
    "overrides",
    [
        ["dataset=mnist"],
        ["dataset.size=16"],
        ["train.scale=0.0124"],
        ["train_fraction=0.5"],
        ["train.lr=0.2"],
        ["model.width=8"],
        ["method.score.batches=2"],
    ],
    ids=lambda overrides: overrides[0],
)
def test_records_of_another_setting_are_not_in_the_table(
    overrides: list[str], table: Suite, tmp_path: Path
) -> None:
    other = expand("imc_table01@digits", {"models": ["resnet20"]}, [SCALE, *overrides], COMPOSER)
    theirs, ours = jobs(other, "SNIP"), jobs(table, "SNIP")
    write(tmp_path, *(record(job, 99.0) for job in theirs))
    rows, _ = printed(table, tmp_path)
    assert rows["SNIP"][1] == "– [92.4]"
    write(tmp_path, record(ours[0], 70.0))
    rows, _ = printed(table, tmp_path)
    assert rows["SNIP"][1] == "70.00 (n=1 of 3) [92.4]"
    rows, _ = printed(other, tmp_path)
    assert rows["SNIP"][1] == "99.00 ± 0.00 [92.4]"


def test_records_of_other_seeds_are_not_in_the_table(table: Suite, tmp_path: Path) -> None:
    more = expand(
        "imc_table01@digits", {"models": ["resnet20"], "seeds": ["2", "3", "4"]}, [SCALE], COMPOSER
    )
    write(tmp_path, *(record(job, 80.0 + job.run.seed) for job in jobs(more, "SNIP")))
    rows, _ = printed(table, tmp_path)
    assert rows["SNIP"][1].startswith("82.00 (n=1 of 3)")  # both tables have seed 2


def test_the_record_of_these_tests_has_the_fields_of_a_real_record(
    table: Suite, tmp_path: Path
) -> None:
    real, _ = perform_run(compose_run("method=dense", *SMALL), machine(tmp_path))
    ours = record(jobs(table, "Baseline")[0], 90.0)
    assert ours.keys() == real.keys()
    assert ours["provenance"].keys() <= real["provenance"].keys()
    assert ours["stages"][0].keys() == real["stages"][0].keys()


# --- the paper's numbers and layout


def test_all_cells_have_the_numbers_of_the_csv_of_the_paper(whole: Suite, tmp_path: Path) -> None:
    rows, _ = printed(whole, tmp_path)
    lines = paper_lines()
    # thirteen rows in the order of the paper, and ours, which has none of its numbers
    assert len(lines) == 26 and list(rows) == [*dict.fromkeys(x["method"] for x in lines), OURS]
    assert {cell.partition("[")[2] for cell in rows[OURS]} == {"–]"}
    for line in lines:
        cells = rows[line["method"]][{"ResNet-20": 0, "ResNet-32": 4}[line["architecture"]] :][:4]
        matches = [re.search(r"\[(\d[\d,]*(?:\.\d+)?)", cell) for cell in cells]
        numbers = [match[1] for match in matches if match]
        assert numbers == [
            line["sparsity"],
            line["accuracy_mean"],
            f"{int(line['epochs']):,}",
            f"{int(line['runtime_s']):,}",
        ]


def test_known_numbers_of_the_paper_are_in_their_cells(whole: Suite, tmp_path: Path) -> None:
    rows, _ = printed(whole, tmp_path)
    inside = {
        row: [re.findall(r"\[([\d.]+(?:,\d{3})*)", cell)[0] for cell in cells]
        for row, cells in rows.items()
        if row != OURS
    }
    assert inside["Baseline"] == ["0", "94.6", "160", "1,956", "0", "95.0", "160", "4,233"]
    assert inside["LTH+Rewinding"] == [
        "0.47",
        "92.5",
        "1,120",
        "24,477",
        "0.47",
        "93.6",
        "1,120",
        "100,328",
    ]
    assert inside["Continuous Sparsification"] == [
        "0.47",
        "92.2",
        "320",
        "5,298",
        "0.44",
        "92.9",
        "320",
        "7,490",
    ]
    assert inside["IMC-FineTuning"] == [
        "0.47",
        "94.6",
        "160",
        "3,205",
        "0.45",
        "95.1",
        "160",
        "4,607",
    ]


def test_every_row_runs_at_the_sparsity_of_the_paper(whole: Suite) -> None:
    assert isinstance(whole.spec, NetworksTable)
    densities = {row.label: row.density for row in whole.spec.rows}
    for line in paper_lines():
        density = densities[line["method"]]
        if line["sparsity"] == "0":
            assert density == ()
            continue
        i = list(whole.networks).index(line["architecture"])
        assert round(1 - density[i], 10) == float(line["sparsity"])
        for job in whole.cells[line["method"], line["architecture"]].jobs:
            assert job.run.density == density[i]


def test_the_table_runs_the_setting_of_the_paper(whole: Suite) -> None:
    printed = [(line["method"], line["architecture"]) for line in paper_lines()]
    assert list(whole.cells) == [*printed, *((OURS, network) for network in whole.networks)]
    assert {
        (job.run.dataset.name, job.run.scale, job.run.train_fraction) for job in whole.jobs
    } == {("cifar10", 1.0, 1.0)}
    for cell in whole.cells.values():
        assert {job.run.model.name for job in cell.jobs} <= {
            {"ResNet-20": "resnet20_w32", "ResNet-32": "resnet32_w32"}[cell.network]
        }
        assert [job.run.seed for job in cell.jobs] in ([], [0, 1, 2])


def test_title_and_header_lines_are_those_of_the_paper(whole: Suite, tmp_path: Path) -> None:
    lines = write_table(whole, tmp_path).splitlines()
    assert lines[0] == "Table 1: Accuracy with found sparsity by our IMC method on CIFAR-10"
    assert lines[1] == ""
    assert lines[2].split() == ["Neural", "Network", "ResNet-20", "ResNet-32"]
    assert re.split(r"\s{2,}", lines[3].strip()) == ["Metric", *METRICS, *METRICS]
    # the name of a network is above the first of its columns
    assert lines[2].index("ResNet-20") == lines[3].index("Sparsity")
    assert lines[2].index("ResNet-32") == lines[3].rindex("Sparsity")
    assert set(lines[4]) == {"-", " "}
    assert lines[19] == "" and all(lines[5:19])  # thirteen rows and ours


def test_further_columns_follow_the_own_ones(tmp_path: Path) -> None:
    chosen = {"models": ["resnet20"], "columns": ["mask_overlap", "accuracy"]}
    page = write_table(expand("imc_table01@digits", chosen, [], COMPOSER), tmp_path).splitlines()
    assert re.split(r"\s{2,}", page[3].strip()) == ["Metric", *METRICS, "Mask overlap"]


def test_a_column_of_mask_overlaps_has_their_spread_and_marks_failed_checks(
    tmp_path: Path,
) -> None:
    chosen = {"models": ["resnet20"], "columns": ["mask_overlap"]}
    suite = expand("imc_table01@digits", {**chosen, "seeds": ["0", "1", "2"]}, [SCALE])
    for row, checks in (("SNIP", (1, 0, 1)), ("GraSP", (1, 1, 1))):
        reports = [  # mean 0.52, deviations -0.02, 0, 0.02
            {"mask_overlap": 0.5 + 0.02 * i, "mask_overlap_converged": check}
            for i, check in enumerate(checks)
        ]
        each = zip(jobs(suite, row), reports, strict=True)
        write(tmp_path, *(record(job, 90.0, report=report) for job, report in each))
    rows, text = printed(suite, tmp_path)
    assert rows["GraSP"][4] == "52.0 ± 2.0%" and rows["SNIP"][4] == "52.0 ± 2.0%‡"
    assert "‡: not converged in at least one run" in text


def test_the_training_cost_is_a_column_and_earlier_records_lack_it(tmp_path: Path) -> None:
    chosen = {"models": ["resnet20"], "columns": ["train_flops", "train_flops_ratio"]}
    suite = expand("imc_table01@digits", {**chosen, "seeds": ["0", "1"]}, [SCALE], COMPOSER)
    first, second = jobs(suite, "SNIP")
    (earlier, _), counted = jobs(suite, "Baseline"), {"train_flops_ratio": 0.25}
    write(
        tmp_path,
        record(first, 90.0, train_flops=1 * 10**15, **counted),
        record(second, 90.0, train_flops=2 * 10**15, **counted),
        record(earlier, 90.0),
    )
    rows, text = printed(suite, tmp_path)
    assert rows["SNIP"][4:] == ["1.50e+15", "0.25x"] and rows["Baseline"][4:] == ["–", "–"]
    assert "Training MACs / dense" in text


@pytest.mark.parametrize(
    ("name", "column", "message"),
    [
        ("imc_table01", "mask_overlp", "columns=mask_overlp .*did you mean 'mask_overlap'"),
        ("imc_table14", "mask_overlap", "columns=mask_overlap: only tables with several columns"),
    ],
)
def test_columns_that_a_table_cannot_have_are_refused(name: str, column: str, message: str) -> None:
    names, chosen, overrides = parse_arguments([name, f"columns={column}"])
    with pytest.raises(ConfigError, match=message):
        expand(names[0], chosen, overrides, COMPOSER)


def test_the_title_contains_deviations_in_data_net_and_schedule(tmp_path: Path) -> None:
    def title(*overrides: str) -> str:
        return write_table(
            expand(
                "imc_table01@digits",
                {"models": ["resnet20"], "seeds": ["0"]},
                list(overrides),
                COMPOSER,
            ),
            tmp_path,
        ).splitlines()[0]

    start = (
        "Table 1: Accuracy with found sparsity by our IMC method on CIFAR-10 (here on digits;"
        " width-16 nets; "
    )
    assert title() == start + "every duration x 0.1875)"
    assert title("train.scale=1", "train_fraction=0.1") == start + "10% of the training images)"
    assert (
        title("train.batch_size=32", "train.scale=0.5", "env.threads=1")
        == start + "every duration x 0.5; train.batch_size=32)"
    )
    assert (
        title("train.scale=0.5", "dataset.size=16")
        == start + "padded to 16x16; every duration x 0.5)"
    )


def test_notes_list_devices_and_code_versions(table: Suite, tmp_path: Path) -> None:
    first, second, third = jobs(table, "SNIP")
    write(tmp_path, record(first, 90.0), record(second, 91.0))
    _, text = printed(table, tmp_path)
    assert "Device: cpu A, 1 thread(s)." in text
    assert "Precision: fp32." in text
    assert "Mixes" not in text
    assert "Mixed" not in text
    provenance = {
        "device_name": "gpu B",
        "threads": 2,
        "numerics": {"train": 2, "prune": 1},
        "precision": "bf16",
    }
    found = record(third, 92.0)
    found["provenance"] |= provenance
    write(tmp_path, found)
    _, text = printed(table, tmp_path)
    assert "Mixes devices: cpu A, 1 thread(s); gpu B, 2 thread(s)." in text
    assert "Mixes precisions: bf16; fp32." in text
    assert "Mixed code versions: NUMERICS of train are [1, 2]." in text
    assert "NUMERICS of prune" not in text


def test_notes_state_mixtures_of_processors_and_torch_versions(
    table: Suite, tmp_path: Path
) -> None:
    def made(version: str, *sets: str) -> dict[str, Any]:
        kind = {"capability": sets[-1].upper(), "instruction_sets": list(sets)}
        kind |= {"name": "A", "libraries": {}}
        return {
            **record(jobs(table, "SNIP")[0], 90.0)["provenance"],
            "versions": {"torch": version},
            "cpu": kind,
        }

    first, second, third = jobs(table, "SNIP")
    write(
        tmp_path, *(record(job, 90.0, provenance=made("2.14", "avx2")) for job in (first, second))
    )
    _, text = printed(table, tmp_path)
    assert "Mixes" not in text
    older = made("2.13", "avx2")
    # a stage of another kind than the last one
    older["origins"] = [made("2.13", "avx2", "avx512"), made("2.13", "avx2")]
    mixed = record(third, 90.0, provenance=older)
    mixed["stages"] = [{**stage, "origin": min(i, 1)} for i, stage in enumerate(mixed["stages"])]
    write(tmp_path, mixed)
    _, text = printed(table, tmp_path)
    assert "Mixes PyTorch versions: 2.13; 2.14." in text
    expected = "AVX2 of avx2; AVX2 of avx2 and AVX512 of avx2 avx512"
    assert f"Mixes kinds of CPU: {expected}." in text


def test_different_kinds_of_stages_are_not_a_mixture_of_code_versions(
    table: Suite, tmp_path: Path
) -> None:
    (dense, *_), (snip, *_) = jobs(table, "Baseline"), jobs(table, "SNIP")
    write(tmp_path, record(dense, 90.0), record(snip, 90.0))
    _, text = printed(table, tmp_path)
    assert "Mixed code versions" not in text


def test_the_appendix_lists_the_findings_of_methods(table: Suite, tmp_path: Path) -> None:
    runs = jobs(table, "IMC-Rewinding")
    reports = [
        {"smoothed_density": d, "literal_k": k, "lipschitz": 12.5}
        for d, k in ((0.5, None), (0.52, 3), (0.57, None))
    ]
    write(
        tmp_path,
        *(record(job, 90.0, report=report) for job, report in zip(runs, reports, strict=True)),
    )
    _, text = printed(table, tmp_path)
    # mean 0.53; deviations -0.03, -0.01, 0.04; sqrt(0.0026 / 2) = 0.0361
    assert "no finding), ResNet-20: 0.53 ± 0.036 (convergence not checked in 3 of 3 runs)" in text
    assert "ResNet-20: none, 3, none" in text
    assert "Appendix: K of Eq. 23, ResNet-20: 12.5 ± 0" in text


def test_the_appendix_marks_findings_that_have_not_converged(table: Suite, tmp_path: Path) -> None:
    checks = [{"smoothed_density_converged": 0}, {"smoothed_density_converged": 1}, {}]
    runs = jobs(table, "IMC-Rewinding")
    rest = {"smoothed_density": 0.5, "literal_k": 3, "literal_k_converged": 1, "lipschitz": 1.0}
    write(
        tmp_path,
        *(
            record(job, 90.0, report={**rest, **check})
            for job, check in zip(runs, checks, strict=True)
        ),
    )
    _, text = printed(table, tmp_path)
    expected = "(not converged in 1 of 3 runs; convergence not checked in 1 of 3 runs)"
    assert f"ResNet-20: 0.5 ± 0 {expected}" in text
    assert text.count("converged") == 1  # the other findings have passed or need no check


# --- other forms


def test_the_csv_has_a_line_per_row_network_and_seed(table: Suite, tmp_path: Path) -> None:
    first, *_ = jobs(table, "SNIP")
    write(tmp_path, record(first, 90.25))
    printed(table, tmp_path)
    lines = list(
        csv.DictReader(io.StringIO((tmp_path / "tables" / "imc_table01@digits.csv").read_text()))
    )
    assert len(lines) == sum(len(cell.jobs) or 1 for cell in table.cells.values())
    assert list(dict.fromkeys(line["row"] for line in lines)) == [
        *dict.fromkeys(line["method"] for line in paper_lines()),
        OURS,
    ]
    assert {line["paper_accuracy"] for line in lines if line["row"] == OURS} == {""}
    measured = [line for line in lines if line["accuracy"]]
    assert [
        (m["run_id"], m["seed"], m["accuracy"], m["paper_accuracy"], m["missing"]) for m in measured
    ] == [(first.run_id, "0", "90.25", "92.4", "")]
    assert {
        line["missing"] for line in lines if line["row"] == "SNIP" and not line["accuracy"]
    } == {"not run"}
    theirs = (line for line in lines if line["row"] != OURS)
    assert all(line["paper_epochs"] in ("160", "320", "1120") for line in theirs)


@pytest.mark.parametrize("done", [0, 1, 2])
def test_the_csv_is_what_pandas_writes(done: int, table: Suite, tmp_path: Path) -> None:
    write(tmp_path, *(record(job, 90.25 + i) for i, job in enumerate(jobs(table, "SNIP")[:done])))
    found = entries(table, tmp_path)
    assert as_csv(sheet_of(table, found)) == pandas.DataFrame(long_form(table, found)).to_csv(
        index=False
    )


def test_latex_and_html_have_the_same_cells_with_escaped_characters(
    whole: Suite, tmp_path: Path
) -> None:
    rows, _ = printed(whole, tmp_path)
    tex = unmarked((tmp_path / "tables" / "imc_table01.tex").read_text())
    body = tex[tex.index("\\midrule") : tex.index("\\bottomrule")].splitlines()[1:]
    assert len(body) == 14 and body[1].startswith("Flow\\&Prune & ")
    for line, (name, cells) in zip(body, rows.items(), strict=True):
        assert line.removesuffix(" \\\\").replace("\\&", "+").replace("--", "–").replace(
            "$\\pm$", "±"
        ).split(" & ") == [name.replace("&", "+"), *cells]
    assert tex.count("\\multicolumn{4}{c}") == 2 and "\\cmidrule(lr){2-5}\\cmidrule(lr){6-9}" in tex
    text = tex.partition("\n")[2].replace("{!}{%\n", "")  # without a comment and an end of line
    assert not re.search(r"(?<!\\)[%#_]", text.replace("\\_", ""))
    page = unmarked((tmp_path / "tables" / "imc_table01.html").read_text())
    inside = re.findall(r"<td[^>]*>(.*?)</td>", page)
    found = [html.unescape(re.sub("<[^>]*>", "", cell)) for cell in inside]
    assert found == [cell for cells in rows.values() for cell in cells]
    assert "Flow&amp;Prune" in page and page.count("<tr") == 16  # two header rows


def test_writing_a_table_twice_gives_the_same_files(table: Suite, tmp_path: Path) -> None:
    write(tmp_path, record(jobs(table, "SNIP")[0], 90.0))
    contents = []
    for _ in range(2):
        write_table(table, tmp_path)
        contents.append({path.name: path.read_bytes() for path in (tmp_path / "tables").iterdir()})
    assert contents[0] == contents[1]
    endings = ["txt", "md", "tex", "csv", "html"]
    endings += [f"claims.{ending}" for ending in ("txt", "md", "tex", "csv")]
    assert set(contents[0]) == {f"imc_table01@digits.{ending}" for ending in endings}


# --- which runs


def test_the_runs_of_a_cell_differ_only_in_the_seed(table: Suite) -> None:
    for cell in table.cells.values():
        assert len({job.run_id for job in cell.jobs}) == len(cell.jobs)
        assert len({str({**vars(job.run), "seed": None}) for job in cell.jobs}) <= 1


def test_the_command_of_a_job_gives_its_run(table: Suite) -> None:
    for row in ("Baseline", "SNIP", "IMC-FineTuning"):
        for job in jobs(table, row)[:2]:
            assert compose_run(*job.overrides) == job.run


def test_an_option_of_one_method_applies_to_the_rows_of_that_method(table: Suite) -> None:
    other = expand(
        "imc_table01@digits",
        {"models": ["resnet20"]},
        [SCALE, "method.gap.sigma2=2.0e-5"],
        COMPOSER,
    )
    for place, cell in table.cells.items():
        same = [job.run_id for job in cell.jobs] == [job.run_id for job in other.cells[place].jobs]
        assert same == ("IMC" not in place[0] or not cell.jobs)
    with pytest.raises(
        ConfigError, match="method.gap.sigma=1: no method of imc_table01 has this option"
    ):
        expand("imc_table01@digits", {"models": ["resnet20"]}, ["method.gap.sigma=1"], COMPOSER)


def test_an_option_of_a_group_applies_to_the_rows_whose_choice_has_it(table: Suite) -> None:
    chosen = {"models": ["resnet20"]}
    nearest = expand("imc_table01@digits", chosen, [SCALE, "schedule.counts=nearest"], COMPOSER)
    for place, cell in table.cells.items():
        same = [job.run_id for job in cell.jobs] == [
            job.run_id for job in nearest.cells[place].jobs
        ]
        assert same == (place[0] != "SynFlow" or not cell.jobs)
    # with the choice for every row, the option is that of every row that has a schedule
    rounds = expand(
        "sketching_table01@digits",
        chosen,
        ["schedule=exponential", "schedule.iterations=3"],
        COMPOSER,
    )
    schedules = {job.run.stage("prune").component.schedule.iterations for job in rounds.jobs}
    assert schedules == {3}
    with pytest.raises(
        ConfigError, match="schedule.count=nearest: no method of sketching_table01 has this option"
    ):
        expand("sketching_table01@digits", chosen, ["schedule.count=nearest"], COMPOSER)


@pytest.mark.parametrize(
    ("name", "chosen", "message"),
    [
        ("imc_table1", {}, "TABLE=imc_table1 is not a choice: .*did you mean 'imc_table01'"),
        (
            "imc_table01@digit",
            {},
            "TABLE=imc_table01@=digit|digit is not a choice: digits, fashion_mnist",
        ),
        (
            "imc_table01@digits",
            {"models": ["resnet21"]},
            "models=resnet21: this table has resnet20, resnet32; did you mean 'resnet20'",
        ),
        ("imc_table01@digits", {"seeds": ["0", "x"]}, "seeds=0,x must be whole numbers"),
        ("imc_table01@digits", {"seeds": ["-1"]}, "seeds=-1 must be whole numbers of 0 or more"),
    ],
)
def test_an_invalid_table_or_selection_gives_an_error_with_the_choices(
    name: str, chosen: dict[str, list[str]], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        expand(name, chosen, [], COMPOSER)


@pytest.mark.parametrize(
    ("name", "override", "message"),
    [
        (
            "imc_figure04@digits",
            "method.hessian.n_samples=128",
            (
                "method.hessian.n_samples=128: entries of imc_figure04 differ in it (16 and 32);"
                " leave it out"
            ),
        ),
        # the default is another point than 20
        ("imc_figure02@digits", "method.wstar.epochs=20", "(the default and 20)"),
        (
            "imc_figure01@digits",
            "density=0.5",
            "density=0.5: entries of imc_figure01 differ in it (0.73 and 0.68)",
        ),
        ("sketching_table02@digits", "density=0.1", "(0.1 and 0.05)"),
    ],
)
def test_an_override_of_an_option_that_entries_differ_in_gives_an_error(
    name: str, override: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        expand(name, {}, [override], COMPOSER)


def test_arguments_are_split_into_tables_selections_and_overrides() -> None:
    arguments = [
        "imc_table01@digits,imc_table02",
        "models=resnet20,resnet32",
        "train.scale=0.1",
        "seeds=0,1",
        "imc_table03",
        "model.hidden=[1,2]",
    ]
    names, chosen, overrides = parse_arguments(arguments)
    assert names == ["imc_table01@digits", "imc_table02", "imc_table03"]
    assert chosen == {"models": ["resnet20", "resnet32"], "seeds": ["0", "1"]}
    assert overrides == ["train.scale=0.1", "model.hidden=[1,2]"]
    with pytest.raises(ConfigError, match="TABLE is missing"):
        parse_arguments(["seeds=0"])


def test_networks_can_be_selected_by_either_model_name() -> None:
    for name in ("resnet32", "resnet32_w32"):
        table = expand("imc_table01", {"models": [name], "seeds": ["0"]}, [], COMPOSER)
        assert table.networks == {"ResNet-32": "resnet32_w32"}
        (job,) = table.cells["SNIP", "ResNet-32"].jobs
        # the second density of the row, although the table has only this network
        assert job.run.density == 0.55


def test_the_title_contains_the_range_of_the_training_fraction() -> None:
    # 240 to 958 of 1,437
    assert "; 17% to 67% of the training images)" in title(
        expand("samples_figure07@digits", {}, [], COMPOSER)
    )


# --- diverged runs


def diverged(job: PlannedRun) -> dict[str, object]:
    """A diverged run's record."""
    nothing = dict.fromkeys(("test_loss", "accuracy_best", "density", "sparsity", "kept"))
    report = {"diverged_stage": "train", "diverged_epoch": 2, "diverged_what": "a loss"}
    return record(job, None, **nothing, status="diverged", report=report)


def test_diverged_runs_are_in_no_mean_and_counted_in_every_form(
    table: Suite, tmp_path: Path
) -> None:
    first, second, third = jobs(table, "SNIP")
    write(tmp_path, record(first, 90.0), record(second, 92.0), diverged(third))
    write(tmp_path, *(diverged(job) for job in jobs(table, "SynFlow")))
    some, *_ = jobs(table, "GraSP")
    write(tmp_path, diverged(some))
    rows, text = printed(table, tmp_path)
    mark = "(n=2 of 3, 1 diverged)"
    assert rows["SNIP"][1] == f"91.00 ± 1.41 {mark} [92.4]"
    assert all(mark in cell for cell in rows["SNIP"])
    assert all(cell.partition(" [")[0] == "diverged" for cell in rows["SynFlow"])
    assert all(cell.partition(" [")[0] == "diverged (1 of 3)" for cell in rows["GraSP"])
    assert "5 runs diverged: a loss, weight or score is not finite" in text
    for ending in ("txt", "md", "tex", "html"):
        page = (tmp_path / "tables" / f"{table.name}.{ending}").read_text()
        assert mark in page and "5 runs diverged" in page and "diverged (1 of 3)" in page
    with (tmp_path / "tables" / f"{table.name}.csv").open(newline="") as file:
        lines = {line["run_id"]: line for line in csv.DictReader(file)}
    assert (lines[third.run_id]["accuracy"], lines[third.run_id]["missing"]) == ("", "diverged")
    assert lines[first.run_id]["missing"] == ""
    assert f"{len(table.jobs) - 7} runs are not done" in text
