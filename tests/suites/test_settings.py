"""Our settings beside the papers': every difference is listed and explained; a new one is found."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support import COMPOSER

from runner.commands.settings import compared_tables, show_settings
from runner.config.typed import build
from runner.errors import ConfigError
from runner.spec.lr_schedule import Step
from runner.suites.papers import lines_of, papers_csv
from runner.suites.readings import text_of
from runner.suites.schema import TableSpec
from runner.suites.schema_settings import (
    PaperSettings,
    Statement,
    papers_with_settings,
    read_settings,
)
from runner.suites.settings import EXPLAINED, UNEXPLAINED, Compared, ComparedTable, compare_table
from runner.suites.spec import read_spec
from runner.tables.settings import summary_as_markdown, summary_as_text

TABLES = compared_tables()
DROP = ("share of", "connections", "weights")  # setting, ours, the paper's
# Options of tables that change settings; the others are at their default in `TABLES`.
OTHERS = {
    "imagenet": ["imagenet_subset"],
    "width": ["16", "32"],
    "controls": ["shown"],
    "weights": ["own"],
    "select_on": ["test"],
}


def compared(name: str, *overrides: str, **options: str) -> ComparedTable:
    chosen = {f"table.{key}": [value] for key, value in options.items()}
    return compare_table(name, chosen, list(overrides), COMPOSER)


def versions() -> Iterator[tuple[str, dict[str, str]]]:
    """Every table with every option, one at a time."""
    for name in TABLES:
        yield name, {}
        spec = read_spec(name)
        chooses = {"select_on": ("test",)} if getattr(spec, "best_of", None) else {}
        offered = {**spec.options, **chooses}
        yield from ((name, {key: v}) for key in OTHERS if key in offered for v in OTHERS[key])
    yield "jackpots_table01", {"metric": "accuracy_best"}


def unexplained(table: ComparedTable) -> set[tuple[str, str, str]]:
    """Setting, our value and the paper's of each unexplained difference."""
    return {
        (c.setting, c.ours, c.paper)
        for entry in table.entries
        for c in entry.settings
        if c.state == UNEXPLAINED
    }


def test_the_tables_of_three_papers_and_the_figures_of_the_fourth_are_compared() -> None:
    figures = [name for name in TABLES if read_spec(name).drawn]
    assert len(TABLES) == 29 + 6 and figures == [f"samples_figure{i:02d}" for i in range(2, 8)]
    assert {read_spec(name).paper for name in TABLES} == set(papers_with_settings())
    with pytest.raises(ConfigError, match="settings of the paper's tables, not of its figures"):
        compared("imc_figure02")


@pytest.mark.parametrize("name", TABLES)
def test_every_difference_of_a_table_is_listed_and_explained(name: str) -> None:
    assert unexplained(compared(name)) == set()


@pytest.mark.slow
def test_every_option_of_a_table_is_explained_and_every_statement_and_reason_is_needed() -> None:
    used: set[int] = set()
    needed: set[int] = set()  # statements whose reason explains a difference
    for name, options in versions():
        table = compared(name, **options)
        assert unexplained(table) == set(), (name, options)
        for entry in table.entries:
            for setting, statement in zip(entry.settings, entry.used, strict=True):
                used.add(id(statement))
                needed |= {id(statement)} if setting.state == EXPLAINED else set()
    idle = [
        (paper, setting.setting, statement)
        for paper in {read_spec(name).paper for name in TABLES}
        for setting in read_settings(paper).settings
        for statement in setting.stated
        # a reason that nothing needs would hide a difference of the future
        if id(statement) not in (needed if statement.because else used)
    ]
    assert idle == []


@pytest.mark.parametrize(
    ("name", "planted", "found"),
    [
        ("imc_table01", "train.lr=0.05", ("learning rate", "0.05", "0.1")),
        ("imc_table06", "method.keep=0.8", ("share kept by a level", "0.8", "0.9")),
        # an explanation holds for our value, not for any
        ("imc_table12", "method.spectrum.probes=4", ("start vectors", "4", "1")),
        ("imc_table08", "train_fraction=0.2", ("images, training/test", "10K/10K", "5K/10K")),
        ("sketching_table01", "train.weight_decay=5e-4", ("weight decay", "0.0005", "0.0001")),
        ("sketching_table04", "train.batch_size=100", ("batch size", "100", "128")),
        ("samples_figure03", "method.solver.eta=1", ("step size", "1", "0.5")),
        ("jackpots_table06", "method.search.init.eta=0.95", ("eta", "0.95", "0.99")),
        (
            "jackpots_table03",
            "method.rewire.drop_of=connections",
            ("share of", "connections", "weights"),
        ),
    ],
)
def test_a_planted_difference_is_found(
    name: str, planted: str, found: tuple[str, str, str]
) -> None:
    assert found in unexplained(compared(name, planted))


def test_an_option_that_no_row_has_is_refused() -> None:
    with pytest.raises(ConfigError, match="no method of jackpots_table08 has this option"):
        compared("jackpots_table08", "method.keep=0.5")


def test_networks_and_seeds_are_chosen_as_for_the_table() -> None:
    chosen = {"models": ["resnet20"], "seeds": ["0", "1"]}
    table = compare_table("sketching_table04", chosen, [], COMPOSER)
    assert {dict(entry.at)["network"] for entry in table.entries} == {"ResNet-20"}
    assert unexplained(table) == {("seeds", "2", "3")}


def test_a_small_version_explains_what_it_changes() -> None:
    table = compared("jackpots_table01@digits")
    assert unexplained(table) == set()
    batch = [
        c for e in table.entries for c in e.settings if c.setting == "batch size of the search"
    ]
    assert {(c.ours, c.paper, c.state, c.because) for c in batch} == {
        ("64", "256", EXPLAINED, "The small version @digits of the table changes it.")
    }


def test_the_stated_values_are_those_of_the_papers_own_table() -> None:
    spec = read_spec("imc_table16")
    assert isinstance(spec, TableSpec)
    printed = {line["parameter"]: line["value"] for line in lines_of(papers_csv(spec))}
    settings = {c.setting: c for c in compared("imc_table16").entries[0].settings}
    names = {
        "Parameter p in the estimation of Lipschitz constant": "p of the Lipschitz estimate",
        "Parameter ∆ in the estimation of Lipschitz constant": "∆ of the Lipschitz estimate",
        "Training data ratio on CIFAR-10/100": "images, training/test",
        "Training epochs of the original large neural networks": "epochs of W*",
        "Rewinding parameters to the training epochs of the original large neural networks": (
            "epoch of the rewinding"
        ),
        "Batch size for computing the approximate Hessian Matrix": "batch size for the Hessian",
        "Batch size for training the neural networks": "batch size",
        "Learning rate": "learning rate",
        "Number of training epochs": "epochs of the schedule",
    }
    assert names.keys() | {"Training data ratio on ImageNet"} == printed.keys()
    assert {p: settings[name].paper for p, name in names.items()} == {p: printed[p] for p in names}


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_the_stated_epochs_are_those_of_the_printed_column(number: int) -> None:
    spec = read_spec(f"jackpots_table{number:02d}")
    assert isinstance(spec, TableSpec)
    printed = {
        (line["method"], line["epochs"]) for line in lines_of(papers_csv(spec)) if line["epochs"]
    }
    stated = set()
    for entry in compared(f"jackpots_table{number:02d}").entries:
        method = entry.row.split(", ")
        for c in entry.settings:
            search = "Jackpot (Ours)" in method
            wanted = "epochs of the search" if search else "epochs of the training"
            if c.setting == wanted and c.paper != "not stated":
                stated.add((next(m for m in method if m in dict(printed)), c.paper))
    assert stated == printed


# --- values and files


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "none"),
        (False, "false"),
        (1e-4, "0.0001"),
        (0.1 * 0.1, "0.01"),
        ([0.25, 0.5], "0.25, 0.5"),
        ("10ep", "10ep"),
        (Step(), "step (drops 1/2, 3/4; factor 0.1)"),
    ],
)
def test_values_are_written_alike_for_the_papers_and_for_us(value: object, text: str) -> None:
    assert text_of(value) == text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"paper": 1, "because": "b"}, "give ours and because, or neither"),
        ({"paper": 1, "ours": 2}, "give ours and because, or neither"),
        ({"ours": 2, "because": "b"}, "nothing is stated that ours differs from"),
    ],
)
def test_an_explanation_names_both_values(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(Statement, {"source": "Sec. 1", **options}, "")


def test_an_unknown_key_of_a_statement_is_refused() -> None:
    plain = {"note": "", "settings": [{"setting": "s", "reads": "r", "stated": [{"papr": 1}]}]}
    with pytest.raises(ConfigError, match="papr"):
        build(PaperSettings, plain, "")


def test_a_statement_is_about_the_entries_that_its_conditions_name() -> None:
    first = Statement(source="a", methods=("m",))
    last = Statement(source="b", at={"method": "X"})
    assert first.matches(1, "m", {"method": "XY"}, {}) and last.matches(
        1, "n", {"method": "XY"}, {}
    )
    assert not first.matches(1, "n", {}, {}) and not last.matches(1, "m", {"method": "Y"}, {})


def test_pages_and_the_summary_are_printed_and_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert show_settings(["jackpots_table08", f"env.results_dir={tmp_path}"]) == 0
    page = capsys.readouterr().out
    assert (tmp_path / "settings" / "jackpots_table08.txt").read_text() in page
    assert "pairs that swap (Inverse)" in page and "2 differ, 0 of them unexplained" in page
    words = ["jackpots_table08", "train.scale=0.5", f"env.results_dir={tmp_path}"]
    assert show_settings(words) == 0
    assert "UNEXPLAINED" not in capsys.readouterr().out.replace("unexplained", "")
    markdown = (tmp_path / "settings" / "jackpots_table08.md").read_text()
    assert markdown.startswith("## jackpots_table08, Table 8") and "| eta" in markdown


def test_the_summary_has_a_line_for_each_table_and_each_difference_once() -> None:
    tables = [compared("imc_table14"), compared("imc_table15", "train.momentum=0.5")]
    text = summary_as_text(tables)
    counts = [line.split() for line in text.splitlines() if line.startswith("imc_table")]
    assert [(line[0], line[-2], line[-1]) for line in counts] == [
        ("imc_table14", "4", "0"),
        ("imc_table15", "4", "0"),
    ]
    assert "imc_table14, 15" in text and text.count("random directions") == 1
    assert "| random directions" in summary_as_markdown(tables)


def test_an_unknown_table_is_refused() -> None:
    with pytest.raises(ConfigError, match="imc_table99 is not a choice"):
        show_settings(["imc_table99"])


def test_every_line_has_a_value_and_a_source() -> None:
    for entry in compared("sketching_table02").entries:
        for c in entry.settings:
            assert isinstance(c, Compared) and c.ours and c.paper and c.source
