"""The sketching paper's tables: its numbers in their cells, and the runs of the labels."""

import csv
import html
import io
import re
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from support import COMPOSER, compose_run
from table_support import record, unmarked, write

from pruners.scores.synflow import SynFlow
from pruners.selection.pick import Proportional, Top, Uniform
from pruners.selection.source import Balanced, Chi, Normal, Ones, SparseNormal, Train
from runner.errors import ConfigError
from runner.spec.planned import PlannedRun
from runner.spec.run import Run
from runner.suites.expand import Suite, expand
from runner.tables.render import write_table

NUMBERS = (1, 2, 3, 4)
SIZES = {1: (96, 12), 2: (96, 16), 3: (12, 6), 4: (24, 4)}  # entries, printed rows
NETS = {
    "VGG-19": "vgg19",
    "ResNet-20": "resnet20",
    "ResNet-18": "resnet18_tiny",
    "WideResNet": "wide_resnet18_tiny",
}
DATA = {"CIFAR-10": "cifar10", "CIFAR-100": "cifar100", "Tiny-ImageNet": "tiny_imagenet"}
DENSITIES = ["10 %", "5 %", "2 %"]


def expand_one_seed(name: str, *overrides: str, **chosen: list[str]) -> Suite:
    """Expand a table, by default with one seed, since seeds change no entry."""
    return expand(
        name,
        {"seeds": ["0"], **{key.replace("__", "."): value for key, value in chosen.items()}},
        list(overrides),
        COMPOSER,
    )


@pytest.fixture(scope="module")
def tables() -> dict[int, Suite]:
    return {n: expand_one_seed(f"sketching_table{n:02d}") for n in NUMBERS}


@pytest.fixture(scope="module")
def with_controls() -> dict[int, Suite]:
    """The tables with the rows and columns of the controls."""
    return {
        n: expand_one_seed(f"sketching_table{n:02d}", table__controls=["shown"]) for n in NUMBERS
    }


def paper(number: int) -> list[dict[str, str]]:
    with (ROOT / "results" / "paper" / f"sketching_table{number:02d}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def number_of(line: dict[str, str]) -> str:
    return line["accuracy_mean"] + (f"±{line['accuracy_std']}" if line["accuracy_std"] else "")


def name_of(line: dict[str, str]) -> str:
    """The label that the paper prints for a method."""
    return f"{line['method']} {line['variant'].replace('chi', 'χ')}".strip()


def grid(table: Suite, results: Path) -> list[list[str]]:
    """The cells of the Markdown form by line, header first, without the rule and bold type."""
    write_table(table, results)
    lines = unmarked((results / "tables" / f"{table.name}.md").read_text()).splitlines()
    cells = [
        [cell.strip().strip("*") for cell in line.strip("|").split("|")]
        for line in lines
        if line.startswith("|")
    ]
    return [row for row in cells if set(row[0]) != {":", "-"}]


def number_in(cell: str) -> str:
    """The paper's number in `– [number]`."""
    match = re.fullmatch(r"– \[(.+)\]", cell)
    assert match
    return match[1]


def run_of(table: Suite, key: tuple[str, str]) -> Run:
    (job,) = table.cells[key].jobs
    return job.run


# --- the paper's numbers and layout


@pytest.mark.parametrize("number", NUMBERS)
def test_every_number_of_the_paper_is_in_the_cell_of_its_labels(
    number: int, tables: dict[int, Suite], tmp_path: Path
) -> None:
    table, lines = tables[number], paper(number)
    assert (len(lines), max(int(line["row"]) for line in lines)) == SIZES[number]
    # data set, network, method, density -> printed number
    found: dict[tuple[str, str, str, str], str] = {}
    head, *rest = grid(table, tmp_path)
    second = rest.pop(0) if number in (2, 4) else None
    panel, network = ("Tiny-ImageNet" if number == 3 else ""), ""
    for row in rest:
        if row[0] in DATA:
            panel = row[0]
            assert set(row[1:]) == {""}
        elif second is None:
            network = row[0] or network
            found |= {
                (panel, network, method, row[1]): number_in(cell)
                for method, cell in zip(head[2:], row[2:], strict=True)
            }
        else:
            # three densities under each network
            spans = [text or head[i - i % 3 + 1] for i, text in enumerate(head[1:])]
            found |= {
                (panel, net, row[0], density): number_in(cell)
                for net, density, cell in zip(spans, second[1:], row[1:], strict=True)
            }
    expected = {
        (
            line["dataset"],
            line["architecture"],
            name_of(line),
            f"{100 * float(line['density']):g} %",
        ): number_of(line)
        for line in lines
    }
    assert found == expected


@pytest.mark.parametrize("number", NUMBERS)
def test_rows_and_columns_have_the_order_of_the_paper(
    number: int, tables: dict[int, Suite], tmp_path: Path
) -> None:
    rows: dict[int, list[str]] = {}
    for line in paper(number):
        rows.setdefault(int(line["row"]), []).append(number_of(line))
    body = [
        row for row in grid(tables[number], tmp_path) if any(cell.startswith("–") for cell in row)
    ]
    assert [[number_in(cell) for cell in row if cell.startswith("–")] for row in body] == [
        rows[i] for i in sorted(rows)
    ]


def test_known_numbers_of_the_paper_are_in_their_cells(
    tables: dict[int, Suite], tmp_path: Path
) -> None:
    one, two, three, four = (grid(tables[n], tmp_path) for n in NUMBERS)
    assert number_in(one[2][2]) == "93.01±0.19" and one[2][:2] == ["VGG-19", "10 %"]
    # chance level, printed without deviation
    assert number_in(one[11][6]) == "1.00" and one[11][:2] == ["", "2 %"]
    assert number_in(one[14][9]) == "51.76±0.36"
    assert number_in(two[3][6]) == "10.0"
    assert number_in(two[12][6]) == "1.0±0.0"
    assert two[3][0] == two[12][0] == "Random"
    assert number_in(three[1][2]) == "58.3" and number_in(three[6][3]) == "55.54"
    assert number_in(four[6][3]) == "56.05±13.97"


@pytest.mark.parametrize("number", [1, 3])
def test_methods_are_columns_and_a_network_has_three_rows(
    number: int, tables: dict[int, Suite], tmp_path: Path
) -> None:
    head, *rest = grid(tables[number], tmp_path)
    methods = list(dict.fromkeys(name_of(line) for line in paper(number)))
    assert head == ["Model", "Density", *methods]
    nets = (
        ["VGG-19", "", "", "ResNet-20", "", ""]
        if number == 1
        else ["ResNet-18", "", "", "WideResNet", "", ""]
    )
    panels = ["CIFAR-10", "CIFAR-100"] if number == 1 else []
    assert [row[0] for row in rest] == (
        [label for panel in panels for label in (panel, *nets)] or nets
    )
    assert [row[1] for row in rest if row[1]] == DENSITIES * 2 * max(1, len(panels))


@pytest.mark.parametrize("number", [2, 4])
def test_networks_and_densities_are_in_two_header_lines(
    number: int, tables: dict[int, Suite], tmp_path: Path
) -> None:
    first, second, *rest = grid(tables[number], tmp_path)
    assert first == ["Model", "VGG-19", "", "", "ResNet-20", "", ""]
    assert second == [
        "Density",
        *DENSITIES,
        *DENSITIES,
    ]
    methods = list(dict.fromkeys(name_of(line) for line in paper(number)))
    assert [row[0] for row in rest] == ["CIFAR-10", *methods, "CIFAR-100", *methods]


def terminal(table: Suite, results: Path) -> list[str]:
    """The lines of the text form without the verdicts."""
    write_table(table, results)
    return (results / "tables" / f"{table.name}.txt").read_text().splitlines()


def test_the_text_form_has_aligned_headings_and_a_rule_between_panels(
    tables: dict[int, Suite], tmp_path: Path
) -> None:
    for number, depth in ((1, 2), (2, 2)):
        lines = terminal(tables[number], tmp_path)
        assert lines[0].startswith(f"Table {number}: Accuracy results ") and not lines[1]
        rules = [i for i, line in enumerate(lines) if line and set(line) == {"-", " "}]
        body = {1: 6, 2: 8}[number]
        # below the header, and below name and rows of the first panel
        assert rules == [2 + depth, 2 + depth + 1 + 1 + body]
        assert lines[rules[0] + 1].strip() == "CIFAR-10"
        assert lines[rules[1] + 1].strip() == "CIFAR-100"
    two = terminal(tables[2], tmp_path)
    assert two[2].index("ResNet-20") == two[3].rindex("10 %") == two[6].index("– [85.04±0.12]")


# --- which runs


def expected_options(label: str) -> tuple[str, Any, Any]:
    """Method, source and pick of a printed label."""
    method = label.split()[0].lower()
    own = {"synflow": Ones(), "snip": Train(), "grasp": Balanced()}.get(method)
    if "GraSP (supervised)" in label:  # the paper's batch of 256, not GraSP's ten of each class
        own = Train(256)
    noise = {
        "χ": Chi(128),
        "normal": Normal(256),
        "sparse": SparseNormal(256),
        "rand. data": Normal(256),
    }
    source = next((value for part, value in noise.items() if part in label), own)
    pick = (
        Proportional()
        if re.search(r"rand(\.|om) mask", label)
        else Uniform()
        if "rearranged" in label
        else Top()
    )
    return method, source, pick


@pytest.mark.parametrize("number", NUMBERS)
def test_every_entry_runs_density_method_source_and_pick_of_its_labels(
    number: int, with_controls: dict[int, Suite]
) -> None:
    table = with_controls[number]
    for (row, column), cell in table.cells.items():
        run, text = run_of(table, (row, column)), f"{row} {column}"
        label = (
            column
            if number in (1, 3)
            else row.partition(" ")[2]
            if number == 2 or number == 4
            else ""
        )
        method, source, pick = expected_options(label)
        assert run.method == method
        assert [f"{100 * run.density:g} %"] == re.findall(r"\d+ %", text)
        assert run.dataset.name == DATA[row.split()[0]] and run.train_fraction == run.scale == 1.0
        assert cell.network in text and run.model.name in {NETS[cell.network], "resnet20_w32"}
        prunes = [stage for stage in run.stages if stage.kind == "prune"]
        assert {stage.component.pick for stage in prunes} == {pick}
        assert (run.stages[0].data if method == "imp" else prunes[0].component.source) == source
        last = run.stages[-1].recipe
        # the settings of the paper: docs/decisions.md 8
        assert last is not None and last.first_epoch == 0
        assert (last.epochs, last.lr, last.batch_size, last.weight_decay, last.momentum) == (
            160,
            0.1,
            128,
            1e-4,
            0.9,
        )


@pytest.mark.parametrize("number", NUMBERS)
def test_a_table_has_an_entry_with_three_seeds_for_every_number(number: int) -> None:
    table = expand(f"sketching_table{number:02d}", {}, [], COMPOSER)
    assert len(table.cells) == SIZES[number][0] and len(table.jobs) == 3 * SIZES[number][0]
    assert all([job.run.seed for job in cell.jobs] == [0, 1, 2] for cell in table.cells.values())


def test_synflow_has_100_iterations_in_float64_and_draws_in_each(
    tables: dict[int, Suite],
) -> None:
    for number in (1, 3):
        runs = [run_of(tables[number], key) for key in tables[number].cells]
        pruners = [run.stage("prune").component for run in runs if run.method == "synflow"]
        assert {(p.schedule(0.5)[-1], len(p.schedule(0.5)), p.when, p.score) for p in pruners} == {
            (0.5, 100, "each", SynFlow(1, "float64"))
        }


def test_random_masks_of_grasp_use_positive_scores_and_thresholds_all_scores(
    with_controls: dict[int, Suite],
) -> None:
    maps = {
        row.partition(" ")[2]: run_of(with_controls[2], (row, column))
        .stage("prune")
        .component.score.map
        for row, column in with_controls[2].cells
        if "GraSP" in row
    }
    assert maps.pop("GraSP + normal data + rand. mask") == "positive"
    assert len(maps) == 3 and set(maps.values()) == {"signed"}


# section 8 of the paper
REWINDING = {
    ("CIFAR-10", "VGG-19"): 1000,
    ("CIFAR-100", "VGG-19"): 1000,
    ("CIFAR-10", "ResNet-20"): 2000,
    ("CIFAR-100", "ResNet-20"): 6000,
}


def test_imp_rewinds_to_the_iterations_of_the_paper_at_every_level(
    tables: dict[int, Suite],
) -> None:
    seen = set()
    for (row, column), cell in tables[2].cells.items():
        if "IMP" in row:
            run, panel = run_of(tables[2], (row, column)), row.split()[0]
            seen.add((panel, cell.network))
            trainings = [stage for stage in run.stages if stage.kind == "train"][1:]
            # 50,000 images in batches of 128 are 391 iterations per epoch (the last is smaller)
            assert {s.start.stage for s in trainings} == {"dense"}
            assert [s.start.epoch for s in trainings] == pytest.approx(
                [REWINDING[panel, cell.network] / 391] * len(trainings), abs=1e-6
            )
            assert trainings[-1].data is None
            assert all(s.data == run.stages[0].data for s in trainings[:-1])
    assert seen == set(REWINDING)


def test_the_densities_of_imp_share_one_chain_of_levels(tables: dict[int, Suite]) -> None:
    for label in ("IMP (supervised)", "IMP + rand. data"):
        (tenth,), (fiftieth,) = (
            tables[2].cells[f"CIFAR-10 {label}", f"ResNet-20 {d} %"].jobs for d in (10, 2)
        )
        levels = [stage.density for stage in tenth.run.stages if stage.kind == "prune"]
        # 0.8**10 = 0.107, 0.8**11 = 0.086: cut to 0.1
        assert levels == pytest.approx([*(0.8**j for j in range(1, 11)), 0.1])
        shared = set(tenth.keys.values()) & set(fiftieth.keys.values())
        assert len(shared) == 1 + 10 * 2  # the dense net, ten levels of pruning and training


def test_a_rewinding_point_scales_with_the_training() -> None:
    table = expand_one_seed("sketching_table02@digits", models=["resnet20"])
    for density in DENSITIES:
        run = run_of(table, ("digits IMP (supervised)", f"ResNet-20 {density}"))
        assert run.scale == 0.1875 and run.stages[-1].recipe.epochs == 30
        assert run.stages[-1].start.epoch == pytest.approx(2000 / 391 * 0.1875)


# --- widths and controls


def models_of(table: Suite) -> dict[tuple[str, str], set[str]]:
    """Panel and method -> models of the entries of ResNet-20."""
    found: dict[tuple[str, str], set[str]] = {}
    for key, cell in table.cells.items():
        if cell.network == "ResNet-20":
            run = run_of(table, key)
            found.setdefault((key[0].split()[0], run.method), set()).add(run.model.name)
    return found


@pytest.mark.parametrize("number", [1, 2, 4])
def test_only_snip_and_grasp_on_cifar100_have_the_doubled_net(
    number: int, with_controls: dict[int, Suite]
) -> None:
    for (panel, method), models in models_of(with_controls[number]).items():
        assert models == (
            {"resnet20_w32"}
            if panel == "CIFAR-100" and method in ("snip", "grasp")
            else {"resnet20"}
        )
    assert {
        run_of(with_controls[number], key).model.name
        for key, cell in with_controls[number].cells.items()
        if cell.network == "VGG-19"
    } == {"vgg19"}


@pytest.mark.parametrize("number", [1, 2, 4])
@pytest.mark.parametrize(("width", "model"), [("16", "resnet20"), ("32", "resnet20_w32")])
def test_the_option_width_gives_the_other_widths_of_each_method(
    number: int, width: str, model: str, tmp_path: Path
) -> None:
    table = expand_one_seed(
        f"sketching_table{number:02d}", table__width=[width], models=["resnet20"]
    )
    for (panel, _), models in models_of(table).items():
        assert models == ({model} if panel == "CIFAR-100" else {"resnet20"})
    text = write_table(table, tmp_path)
    assert f"has {width} filters in its first stage everywhere (table.width={width})" in text
    assert text.count("filters in its first stage") == 1


def test_controls_are_shown_on_request_without_numbers_of_the_paper(
    tables: dict[int, Suite], with_controls: dict[int, Suite], tmp_path: Path
) -> None:
    labels = set()
    for number in NUMBERS:
        added = {
            key: cell
            for key, cell in with_controls[number].cells.items()
            if key not in tables[number].cells
        }
        assert added and all("(control)" in " ".join(key) for key in added)
        assert not any("control" in " ".join(key) for key in tables[number].cells)
        assert all(
            run_of(with_controls[number], key).stages[0].component.pick == Uniform()
            for key in added
        )
        assert {run_of(with_controls[number], key) for key in tables[number].cells} == {
            run_of(tables[number], key) for key in tables[number].cells
        }
        labels |= {
            re.sub(r"^.*?((SynFlow|SNIP|GraSP|Magnitude).*?\(control\)).*$", r"\1", " ".join(key))
            for key in added
        }
        text = write_table(with_controls[number], tmp_path)
        assert text.count("– [–]") == len(added) and "(control): not in the paper" in text
        assert "control" not in write_table(tables[number], tmp_path)
    assert labels == {
        *(
            "SynFlow + rearranged (control)",
            "SNIP + rearranged (control)",
            "SNIP + normal data + rearranged (control)",
        ),
        *("Magnitude + rearranged (control)", "GraSP + normal data + rearranged (control)"),
    }


# --- other data sets


@pytest.mark.parametrize(
    ("name", "title"),
    [
        (
            "sketching_table01@digits",
            "(here on digits; padded to 32x32 for VGG-19; every duration x 0.1875)",
        ),
        (
            "sketching_table02@fashion_mnist",
            (
                "(here on fashion_mnist; padded to 32x32 for VGG-19; every duration x 0.025; 10% of"
                " the training images)"
            ),
        ),
        ("sketching_table03@digits", "(here on digits; padded to 64x64; every duration x 0.1875)"),
        (
            "sketching_table04@digits",
            "(here on digits; padded to 32x32 for VGG-19; every duration x 0.1875)",
        ),
    ],
)
def test_a_table_on_another_data_set_states_it_and_the_data_set_of_the_paper(
    name: str, title: str, tmp_path: Path
) -> None:
    table = expand_one_seed(name)
    text = write_table(table, tmp_path)
    number, variant = int(name[15:17]), name.partition("@")[2]
    assert text.splitlines()[0].endswith(title)
    panel = "Tiny-ImageNet" if number == 3 else "CIFAR-10"
    assert f"The paper's numbers are those for {panel}." in text
    assert {run_of(table, key).dataset.name for key in table.cells} == {variant}
    expected = [number_of(line) for line in paper(number) if line["dataset"] == panel]
    assert [
        number_in(cell) for row in grid(table, tmp_path) for cell in row if cell.startswith("–")
    ] == expected


def test_images_are_padded_only_for_nets_that_require_larger_ones(tmp_path: Path) -> None:
    table = expand_one_seed("sketching_table01@digits", models=["resnet20"])
    assert {run_of(table, key).dataset.size for key in table.cells} == {None}
    assert "padded" not in write_table(table, tmp_path)


# --- our numbers, in every form


def test_mean_and_deviation_are_printed_as_in_the_paper_in_all_forms(tmp_path: Path) -> None:
    name = "sketching_table01@digits"
    table = expand(name, {"models": ["resnet20"]}, ["train.scale=0.0123"], COMPOSER)
    measured: list[PlannedRun] = list(table.cells["digits ResNet-20 5 %", "SynFlow + χ"].jobs)
    write(
        tmp_path,
        *(
            record(job, accuracy)
            for job, accuracy in zip(measured, (80.0, 82.0, 87.0), strict=True)
        ),
    )
    text = write_table(table, tmp_path)
    # deviations -3, -1, 4: sqrt(26 / 2); the paper has 83.28±0.31
    cell = "83.00±3.61 [83.28±0.31]"
    rows = grid(table, tmp_path)
    assert rows[2][3] == cell and rows[2][:2] == ["", "5 %"] and cell in text
    lines = list(csv.DictReader(io.StringIO((tmp_path / "tables" / f"{name}.csv").read_text())))
    assert len(lines) == 3 * 8 * 3
    done = [line for line in lines if line["accuracy"]]
    assert [
        (
            line["row"],
            line["column"],
            line["seed"],
            line["accuracy"],
            line["paper_accuracy"],
            line["paper_accuracy_std"],
        )
        for line in done
    ] == [
        ("digits ResNet-20 5 %", "SynFlow + χ", str(seed), accuracy, "83.28", "0.31")
        for seed, accuracy in enumerate(("80.0", "82.0", "87.0"))
    ]


@pytest.mark.parametrize("number", NUMBERS)
def test_all_five_forms_contain_the_same_cells(
    number: int, tables: dict[int, Suite], tmp_path: Path
) -> None:
    table = tables[number]
    rows = grid(table, tmp_path)
    body = rows[2 if number in (2, 4) else 1 :]
    files = {
        path.suffix[1:]: unmarked(path.read_text())
        for path in (tmp_path / "tables").glob(f"{table.name}.*")
        if "claims" not in path.name
    }
    assert set(files) == {"txt", "md", "tex", "csv", "html"}

    lines = files["txt"].split("\n\n")[1].splitlines()
    lines = [
        line
        for line in lines[1 + next(i for i, line in enumerate(lines) if line.startswith("---")) :]
        if not line.startswith("---")
    ]
    assert [re.split(r"\s{2,}", line.strip()) for line in lines] == [
        [cell for cell in row if cell] for row in body
    ]

    tex = files["tex"][
        files["tex"].index("\\midrule") : files["tex"].index("\\bottomrule")
    ].splitlines()
    plain = [
        re.sub(r"\\multicolumn\{\d+\}\{l\}\{(.*)\}", r"\1", line.removesuffix(" \\\\"))
        for line in tex
        if line != "\\midrule"
    ]
    plain = [line.replace("\\%", "%").replace("$\\pm$", "±").replace("--", "–") for line in plain]
    assert [line.split(" & ") for line in plain] == [
        row if any(row[1:]) else row[:1] for row in body
    ]
    assert files["tex"].count("\\midrule") == (1 if number == 3 else 2) and "χ" not in files["tex"]
    stubs = 2 if number in (1, 3) else 1
    assert f"\\begin{{tabular}}{{{'l' * stubs}{'r' * (len(rows[0]) - stubs)}}}" in files["tex"]

    entries = [
        html.unescape(re.sub("<[^>]*>", "", cell))
        for cell in re.findall(r"<td[^>]*>(.*?)</td>", files["html"])
    ]
    assert entries == [cell for row in body if any(row[1:]) for cell in row[stubs:]]
    long = list(csv.DictReader(io.StringIO(files["csv"])))
    assert [(line["row"], line["column"], line["seed"]) for line in long] == [
        (*key, "0") for key in table.cells
    ]
    numbers = [
        line["paper_accuracy"]
        + (f"±{line['paper_accuracy_std']}" if line["paper_accuracy_std"] else "")
        for line in long
    ]
    assert numbers == [number_in(cell) for row in body for cell in row if cell.startswith("–")]


def test_notes_list_the_choices_that_affect_the_numbers(
    tables: dict[int, Suite], tmp_path: Path
) -> None:
    one, two, three, four = (write_table(tables[n], tmp_path) for n in NUMBERS)
    assert all(
        "draws without replacement" in text and "runtime" not in text
        for text in (one, two, three, four)
    )
    assert "method.pruner.when=each" in one and "method.pruner.when=each" in three
    assert "method.score.map=positive" in two
    assert "the last level is cut to the exact density" in two
    assert all(
        "ResNet-20 on CIFAR-100" in text and "table.width=16" in text for text in (one, two, four)
    )
    assert "CIFAR" not in three


@pytest.mark.parametrize(
    ("name", "chosen", "message"),
    [
        (
            "sketching_table01",
            {"table.width": ["64"]},
            "table.width=64 is not a choice: paper, 16, 32",
        ),
        (
            "sketching_table01",
            {"table.controls": ["show"]},
            "table.controls=show is not a choice: hidden, shown; did you mean 'shown'",
        ),
        (
            "sketching_table01",
            {"table.select_on": ["test"]},
            (
                "table.select_on is not an option of this table: table.metric, table.controls,"
                " table.width"
            ),
        ),
        (
            "sketching_table03",
            {"table.width": ["32"]},
            "table.width is not an option of this table: table.metric, table.controls$",
        ),
        (
            "sketching_table03@fashion_mnist",
            {},
            (
                "TABLE=sketching_table03@=fashion_mnist is not a choice: digits|fashion_mnist is"
                " not a choice: digits"
            ),
        ),
        (
            "sketching_table05",
            {},
            "TABLE=sketching_table05 is not a choice: .*did you mean 'sketching_table0",
        ),
        (
            "sketching_table02",
            {"models": ["vgg16"]},
            "models=vgg16: this table has vgg19, resnet20; did you mean 'vgg19'",
        ),
    ],
)
def test_an_invalid_table_or_option_gives_an_error_with_the_choices(
    name: str, chosen: dict[str, list[str]], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        expand(name, chosen, [], COMPOSER)


def test_the_command_of_a_job_gives_its_run(with_controls: dict[int, Suite]) -> None:
    for number in NUMBERS:
        for key in (list(with_controls[number].cells)[3], list(with_controls[number].cells)[-1]):
            (job,) = with_controls[number].cells[key].jobs
            assert compose_run(*job.overrides) == job.run
