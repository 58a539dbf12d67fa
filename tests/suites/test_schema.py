"""All YAML files of tables and figures load; invalid keys, types and references give errors."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from support import COMPOSER

from runner.entry import guarded
from runner.errors import EXIT_CONFIG, ConfigError
from runner.paths import CONF
from runner.suites.expand import expand, expand_spec
from runner.suites.metrics import METRICS, find_metric
from runner.suites.notes import notes_of
from runner.suites.options import choose_options
from runner.suites.schema import Note, TableSpec
from runner.suites.schema_blocks import BlocksTable, MatrixTable
from runner.suites.schema_figures import FigureSpec
from runner.suites.schema_series import CurveSpec, MarkSpec, Points, TraceSpec
from runner.suites.schema_tables import GridTable, NetworksTable
from runner.suites.spec import (
    figure_names,
    merged,
    parse,
    plain_of,
    read_spec,
    table_names,
    variants_of,
)

NAMES = [*table_names(), *figure_names()]
NodePath = tuple[str | int, ...]  # keys and positions that lead to a node
# the keys directly below these are names that the author chooses; points are overrides, which Hydra
# checks
FREE = ("networks", "points", "variants")


def errors_of(plain: dict[str, Any], file: str = "conf/table/x.yaml") -> list[str]:
    """The error messages of a table, without the file at their beginning."""
    with pytest.raises(ConfigError) as caught:
        parse(plain, file)
    assert all(message.startswith(f"{file}: ") for message in caught.value.messages)
    return [message.removeprefix(f"{file}: ") for message in caught.value.messages]


def with_node(name: str, path: NodePath, value: Any) -> dict[str, Any]:
    """A table or figure with one node changed, or removed by None."""
    plain = merged(CONF, name)
    return replaced(plain, path, value)


def replaced(node: Any, path: NodePath, value: Any) -> Any:
    """A copy of a node with another node below it changed."""
    if not path:
        return value
    key, rest = path[0], path[1:]
    copy = list(node) if isinstance(node, list) else dict(node)
    if not rest and value is None:
        del copy[key]
    elif not rest and key not in copy and isinstance(copy, dict):
        copy[key] = value
    else:
        copy[key] = replaced(copy[key], rest, value)
    return copy


def with_key_renamed(node: dict[Any, Any], key: str, wrong: str) -> dict[Any, Any]:
    """A copy of the mapping with one key renamed, in the same order."""
    return {wrong if name == key else name: value for name, value in node.items()}


def all_keys(node: Any, path: NodePath = ()) -> Iterator[tuple[NodePath, dict[Any, Any], str]]:
    """Path, mapping and key for each key of the mappings below a node."""
    if isinstance(node, dict):
        free = bool(path) and path[-1] in FREE
        for key, value in node.items():
            if not free:
                yield path, node, str(key)
            if not (free and path[-1] == "points"):
                yield from all_keys(value, (*path, key))
    elif isinstance(node, list):
        for i, value in enumerate(node):
            yield from all_keys(value, (*path, i))


# --- the files of the repository


@pytest.mark.parametrize("name", NAMES)
def test_every_file_loads_with_all_its_variants(name: str) -> None:
    spec = read_spec(name)
    assert isinstance(spec, FigureSpec if name in figure_names() else TableSpec)
    assert variants_of(name) == list(
        plain_of(CONF, name).get("variants", merged(CONF, name).get("variants", {}))
    )


@pytest.mark.parametrize("name", NAMES)
def test_every_misspelt_key_gives_an_error_with_its_file(name: str) -> None:
    own = plain_of(CONF, name)
    for i, (path, node, key) in enumerate(all_keys(own)):
        # one letter is doubled or removed
        wrong = (
            key + key[-1]
            if i % 2 or len(key) == 1
            else key[: len(key) // 2] + key[len(key) // 2 + 1 :]
        )
        with pytest.raises(ConfigError) as caught:
            parse(replaced(own, path, with_key_renamed(node, key, wrong)), name)
        assert all(message.startswith(f"{name}: ") for message in caught.value.messages), (
            path,
            wrong,
        )


# --- one error of each kind


@pytest.mark.parametrize(
    ("name", "path", "value", "message"),
    [
        (
            "imc_table03",
            ("wher",),
            [],
            r"^wher is not an option; this file takes paper, .*; did you mean 'where'\?$",
        ),
        (
            "imc_table01",
            ("rows", 1, "overides"),
            [],
            (
                r"^rows.1.overides is not an option; rows.1 takes label, .*; did you mean"
                r" 'overrides'\?$"
            ),
        ),
        ("imc_table01", ("metrics", 0), None, None),  # fewer columns are valid
        (
            "imc_table03",
            ("where", 0, "titel"),
            "x",
            r"^where.0.titel is not an option; .*; did you mean 'title'\?$",
        ),
        (
            "imc_table01",
            ("claims", 0, "abov"),
            "x",
            r"^claims.0.abov is not an option; .*; did you mean 'above'\?$",
        ),
        (
            "imc_table01",
            ("findings", 0, "lable"),
            "x",
            r"^findings.0.lable is not an option; .*; did you mean 'label'\?$",
        ),
        (
            "imc_table01",
            ("variants", "digits", "network"),
            {},
            r"^variants.digits.network is not an option; .*; did you mean 'networks'\?$",
        ),
        ("imc_table01", ("panels",), [], r"^panels is not an option; "),  # a key of another layout
        (
            "sketching_table01",
            ("panels", 0, "papper"),
            "x",
            r"^panels.0.papper is not an option; .*; did you mean 'paper'\?$",
        ),
        (
            "sketching_table01",
            ("notes", 3, "txt"),
            "x",
            r"^notes.3.txt is not an option; .*; did you mean 'text'\?$",
        ),
        (
            "jackpots_table01",
            ("blocks", 0, "netwrk"),
            "x",
            r"^blocks.0.netwrk is not an option; .*; did you mean 'network'\?$",
        ),
        (
            "imc_table14",
            ("parts", 0, "befor"),
            "x",
            r"^parts.0.befor is not an option; .*; did you mean 'before'\?$",
        ),
        (
            "imc_table16",
            ("groups", 0, 1, "read"),
            "x",
            r"^groups.0.1.read is not an option; .*; did you mean 'reads'\?$",
        ),
        (
            "imc_figure01",
            ("panels", 0, "serie"),
            [],
            r"^panels.0.serie is not an option; .*; did you mean 'series'\?$",
        ),
        (
            "imc_figure01",
            ("panels", 0, "x", "marks"),
            {},
            r"^panels.0.x.marks is not an option; .*; did you mean 'mark'\?$",
        ),
        # a key of the other axis
        ("imc_figure01", ("panels", 0, "y", "mark"), {}, r"^panels.0.y.mark is not an option; "),
        (
            "imc_figure01",
            ("panels", 0, "series", 3, "time"),
            1,
            r"^panels.0.series.3.time is not an option; .*; did you mean 'times'\?$",
        ),
        # a key of another kind of series
        (
            "imc_figure01",
            ("panels", 0, "series", 0, "times"),
            1,
            r"^panels.0.series.0.times is not an option; ",
        ),
        (
            "samples_figure06",
            ("claims", 0, "lowst"),
            [1, 2],
            r"^claims.0.lowst is not an option; .*; did you mean 'lowest'\?$",
        ),
        (
            "samples_figure02",
            ("claims", 0, "slope", "belo"),
            1,
            r"^claims.0.slope.belo is not an option; .*; did you mean 'below'\?$",
        ),
    ],
)
def test_an_unknown_key_gives_an_error_with_the_nearest_key(
    name: str, path: NodePath, value: Any, message: str | None
) -> None:
    if message is None:
        parse(with_node(name, path, value), "x")
    else:
        with pytest.raises(ConfigError, match=message.replace("^", "^conf/table/x.yaml: ")):
            parse(with_node(name, path, value), "conf/table/x.yaml")


@pytest.mark.parametrize(
    ("name", "path", "value", "message"),
    [
        (
            "imc_table01",
            ("layout",),
            "network",
            (
                "layout=network is not a choice: networks, grid, matrix, blocks, settings, figure;"
                " did you mean 'networks'?"
            ),
        ),
        ("imc_table01", ("title",), None, "title is missing: give it a value"),
        ("imc_table01", ("rows", 2, "label"), None, "rows.2.label is missing: give it a value"),
        ("imc_table01", ("seeds",), ["a"], "seeds.0='a' must be a whole number"),
        ("imc_table01", ("networks",), ["resnet20"], "networks=['resnet20'] must be a mapping"),
        ("imc_table01", ("rows",), "SNIP", "rows='SNIP' must be a list"),
        ("imc_table01", ("rows", 1), "SNIP", "rows.1='SNIP' must be a mapping"),
        ("imc_table01", ("rows", 1, "density"), 0.5, "rows.1.density=0.5 must be a list"),
        ("imc_table01", ("claims", 0, "above"), 3, "claims.0.above=3 must be a list"),
        ("imc_table01", ("notes", 0), 3, "notes.0=3 must be a word"),
        (
            "sketching_table01",
            ("rows",),
            ["net", "density"],
            "rows.0='net' must be one of network, density, method",
        ),
        (
            "sketching_table01",
            ("methods", 0, "paper"),
            ["SNIP"],
            "methods.0.paper=['SNIP'] must be a list of 2 or null",
        ),
        (
            "imc_figure01",
            ("panels", 0, "x", "scale"),
            "logs",
            "panels.0.x.scale='logs' must be one of linear, log, symlog",
        ),
        (
            "imc_figure01",
            ("panels", 0, "y", "range"),
            [1],
            "panels.0.y.range=[1] must be a list of 2 or null",
        ),
        (
            "imc_figure01",
            ("panels", 0, "series", 0, "item"),
            "first",
            "panels.0.series.0.item='first' must be a whole number or null",
        ),
        (
            "imc_figure01",
            ("panels", 0, "series", 3, "draw"),
            "marks",
            (
                "panels.0.series.3.draw=marks is not a choice: curve, bars, level, trace,"
                " histogram, mark, heat, boundary; did you mean 'mark'?"
            ),
        ),
        (
            "imc_figure01",
            ("panels", 0, "points"),
            [1],
            (
                "panels.0.points=[1] must be a mapping: {KEY: [VALUE, ...]} or {NAME: {VALUE:"
                " [overrides]}}"
            ),
        ),
        (
            "imc_figure04",
            ("panels", 0, "points"),
            {"density": 0.5},
            "panels.0.points.density=0.5 must be a list of values",
        ),
        (
            "samples_figure06",
            ("claims", 0, "lowest"),
            None,
            "claims.0 must have one of slope, below, lowest, highest, within, apart, falls, reads",
        ),
        (
            "samples_figure06",
            ("claims", 0, "below"),
            "N = 150",
            "claims.0 must have one of slope, below, lowest, highest, within, apart, falls, reads",
        ),
    ],
)
def test_a_wrong_type_and_a_missing_key_give_an_error(
    name: str, path: NodePath, value: Any, message: str
) -> None:
    assert errors_of(with_node(name, path, value)) == [message]


@pytest.mark.parametrize(
    ("name", "path", "value", "message"),
    [
        # claims, findings, densities
        (
            "imc_table01",
            ("claims", 0, "entry"),
            "IMC-Rewind",
            (
                "claims.0.entry=IMC-Rewind is not a choice: Baseline, {}; did you mean"
                " 'IMC-Rewinding'?"
            ),
        ),
        (
            "imc_table01",
            ("claims", 0, "above", 1),
            "SNIPS",
            "claims.0.above=SNIPS is not a choice: Baseline, {}; did you mean 'SNIP'?",
        ),
        (
            "jackpots_table07",
            ("claims", 0, "entry"),
            "SRR",
            "claims.0.entry=SRR is not a choice: Top-1 acc., {}; did you mean 'SR'?",
        ),
        (
            "imc_table01",
            ("findings", 0, "row"),
            "IMC-Rewindin",
            (
                "findings.0.row=IMC-Rewindin is not a choice: Baseline, {}; did you mean"
                " 'IMC-Rewinding'?"
            ),
        ),
        (
            "imc_table02",
            ("best_of", "GraSPP"),
            [0.5],
            "best_of=GraSPP is not a choice: Baseline, {}; did you mean 'GraSP'?",
        ),
        (
            "imc_table03",
            ("row_densities",),
            {"others": [0.5, 0.5], "GraSPP": [1.0]},
            "row_densities=GraSPP is not a choice: others, {}; did you mean 'GraSP'?",
        ),
        (
            "imc_table03",
            ("row_densities",),
            {"GraSP": [0.5, 0.5]},
            "row_densities.others is missing: give it a value for the rows that are not named",
        ),
        (
            "imc_table01",
            ("rows", 1, "density"),
            [0.5],
            "rows.1.density=[0.5] must have a value for each of 2 networks",
        ),
        (
            "imc_table02",
            ("like",),
            "imc_table1",
            "like=imc_table1 is not a choice: {}; did you mean 'imc_table01'?",
        ),
        # panels, networks and methods of rules and notes
        (
            "sketching_table01",
            ("where", 0, "panel"),
            "CIFAR",
            "where.0.panel=CIFAR is not a choice: CIFAR-10, {}; did you mean 'CIFAR-10'?",
        ),
        (
            "sketching_table01",
            ("where", 0, "network"),
            "ResNet20",
            (
                "where.0.network=ResNet20 is not a choice: VGG-19, ResNet-20; did you mean"
                " 'ResNet-20'?"
            ),
        ),
        (
            "sketching_table01",
            ("where", 0, "method"),
            "SNIB",
            (
                "where.0.method=SNIB is not the beginning of a method's id: SynFlow, {}; did you"
                " mean 'SNIP'?"
            ),
        ),
        (
            "jackpots_table01",
            ("variants", "digits", "where", 0, "network"),
            "Small VGG",
            (
                "variants.digits.where.0.network=Small VGG is not a choice: Small VGG-11,"
                " ResNet-32; did you mean 'Small VGG-11'?"
            ),
        ),
        (
            "jackpots_table01",
            ("variants", "digits", "stands_for", "Small VGG-11"),
            "VGGNet",
            (
                "variants.digits.stands_for.Small VGG-11=VGGNet is not a choice: VGGNet-19,"
                " ResNet-32; did you mean 'VGGNet-19'?"
            ),
        ),
        (
            "jackpots_table01",
            ("variants", "digits", "blocks", 0, "network"),
            "ResNet-32",
            "variants.digits.blocks: none has the network Small VGG-11",
        ),
        (
            "sketching_table01",
            ("notes", 3, "panel"),
            "CIFAR",
            "notes.3.panel=CIFAR is not a choice: CIFAR-10, {}; did you mean 'CIFAR-10'?",
        ),
        (
            "sketching_table03",
            ("notes", 2, "network"),
            "WideResnet",
            "notes.2.network=WideResnet is not a choice: {}; did you mean 'WideResNet'?",
        ),
        (
            "jackpots_table01",
            ("blocks", 0, "network"),
            "VGGNet",
            (
                "blocks.0.network=VGGNet is not a choice: VGGNet-19, ResNet-32; did you mean"
                " 'VGGNet-19'?"
            ),
        ),
        # options
        (
            "sketching_table01",
            ("where", 0, "when"),
            {"widht": "16"},
            "where.0.when=widht is not a choice: {}; did you mean 'width'?",
        ),
        (
            "sketching_table01",
            ("where", 0, "when"),
            {"width": "64"},
            "where.0.when.width=64 is not a choice: paper, 16, 32{}",
        ),
        (
            "imc_table03",
            ("options",),
            {"imagnet": ["a"]},
            (
                "where.1.when=imagenet is not a choice: select_on, metric, imagnet; did you mean"
                " 'imagnet'?"
            ),
        ),
        (
            "imc_table01",
            ("options",),
            {"metrc": ["accuracy"]},
            "options.metrc has no effect: {}; did you mean 'metric'?",
        ),
        (
            "imc_table01",
            ("options",),
            {"metric": ["acuracy"]},
            "options.metric=acuracy is not a choice: {}; did you mean 'accuracy'?",
        ),
        (
            "jackpots_table03",
            ("variants", "digits", "options"),
            {"weights": "owns"},
            "variants.digits.options.weights=owns is not a choice: {}; did you mean 'own'?",
        ),
        (
            "imc_table16",
            ("where",),
            [{"overrides": ["train.lr=1"]}],
            "where: its overrides have no effect, since nothing is run for this table{}",
        ),
        (
            "imc_table01",
            ("variants", "digits", "claims"),
            [{"claim": "c", "entry": "SNIPS", "above": "GraSP"}],
            "variants.digits.claims.0.entry=SNIPS is not a choice: {}; did you mean 'SNIP'?",
        ),
        # the paper's CSV and metrics
        ("imc_table01", ("number",), 99, "number=99: results/paper/imc_table99.csv does not exist"),
        (
            "imc_table05",
            ("paper_line",),
            ["dataset", "methd"],
            "paper_line=methd is not a choice: {}; did you mean 'method'?",
        ),
        (
            "imc_table05",
            ("methods", 0, "paper"),
            {},
            (
                "paper_line=method is missing in `paper` of CIFAR-10, IMC-Reinitialization, 5,"
                " which has {}"
            ),
        ),
        (
            "imc_table14",
            ("panels", 0, "paper", "rwo"),
            "1",
            "panels.0.paper=rwo is not a choice: {}; did you mean 'row'?",
        ),
        (
            "imc_table14",
            ("paper_number",),
            "lipschitz",
            "paper_number=lipschitz is not a choice: {}; did you mean 'lipschitz_constant'?",
        ),
        (
            "imc_table05",
            ("row",),
            "{methd}",
            "row=methd is not a choice: method, dataset; did you mean 'method'?",
        ),
        (
            "imc_table01",
            ("metrics", 1),
            "acuracy",
            "metrics.1=acuracy is not a choice: sparsity, accuracy, {}; did you mean 'accuracy'?",
        ),
        (
            "jackpots_table03",
            ("columns", 1, "metric"),
            "top-5",
            "columns.1.metric=top-5 is not a choice: {}; did you mean 'top5'?",
        ),
        (
            "imc_table01",
            ("networks",),
            {"ResNet20": "resnet20"},
            (
                "networks=ResNet20 is not in column architecture of results/paper/imc_table01.csv:"
                " {}; did you mean 'ResNet-20'?"
            ),
        ),
        # figures
        (
            "samples_figure06",
            ("claims", 0, "panel"),
            "test error",
            "claims.0.panel=test error is not a choice: {}; did you mean '(a) test error'?",
        ),
        (
            "samples_figure06",
            ("claims", 0, "series"),
            "N = 10",
            "claims.0.series=N = 10 is not a choice: {}; did you mean 'N = 100'?",
        ),
        (
            "samples_figure06",
            ("claims", 6, "below"),
            "N = 10",
            "claims.6.below=N = 10 is not a choice: {}; did you mean 'N = 100'?",
        ),
        (
            "jackpots_figure02",
            ("panels", 0, "networks"),
            ["ResNet32"],
            "panels.0.networks=ResNet32 is not a choice: {}; did you mean 'ResNet-32'?",
        ),
        (
            "imc_figure01",
            ("panels", 0, "series", 1, "label"),
            "IMC-Reinitialization",
            "panels.0.series: IMC-Reinitialization appears twice; give each its own id",
        ),
    ],
)
def test_an_unknown_reference_gives_an_error_with_the_nearest_choice(
    name: str, path: NodePath, value: Any, message: str
) -> None:
    begin, _, end = message.partition("{}")
    messages = errors_of(with_node(name, path, value))
    assert any(text.startswith(begin) and text.endswith(end) for text in messages), messages


def test_all_errors_of_a_file_are_reported_at_once_with_exit_code_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    conf = tmp_path / "conf"
    (conf / "table").mkdir(parents=True)
    for path in CONF.iterdir():
        if path.name != "table":
            (conf / path.name).symlink_to(path)
    (conf / "table" / "imc_table01.yaml").write_text(
        (CONF / "table" / "imc_table01.yaml")
        .read_text()
        .replace("claims:", "claim:")
        .replace("seeds:", "seed:")
    )
    (conf / "table" / "imc_table02.yaml").write_text(
        (CONF / "table" / "imc_table02.yaml").read_text()
    )
    monkeypatch.setattr("runner.suites.spec.CONF", conf)
    # the second table inherits from the first, whose errors are reported with its own file
    assert guarded(lambda: len(expand("imc_table02", {}, [], COMPOSER).jobs)) == EXIT_CONFIG
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(" is ")[0] for line in lines] == [
        f"error: conf/table/imc_table01.yaml: {key}" for key in ("seed", "claim", "seeds")
    ]


# --- contents of the dataclasses


def test_notes_claims_and_points_have_short_forms() -> None:
    assert (
        Note.from_plain("as it is", "notes.0")
        == Note(text="as it is")
        == Note.from_plain({"text": "as it is"}, "notes.0")
    )
    spec = read_spec("imc_table01")
    assert isinstance(spec, NetworksTable)
    assert [len(claim.above.ids) for claim in spec.claims] == [
        9,
        1,
    ]
    grid = Points.from_plain({"a": [1, 2], "b": ["x"]}, "points")
    assert grid.overrides == {"a=1 b=x": ("a=1", "b=x"), "a=2 b=x": ("a=2", "b=x")}
    assert Points.from_plain({"share": {0.5: ["density=0.5"], 1: []}}, "points").overrides == {
        "share=0.5": ("density=0.5",),
        "share=1": (),
    }


def test_the_class_of_a_series_depends_on_its_kind() -> None:
    spec = read_spec("imc_figure01")
    assert isinstance(spec, FigureSpec)
    assert [type(series) for series in spec.panels[0].series] == [
        CurveSpec,
        CurveSpec,
        CurveSpec,
        MarkSpec,
    ]
    five = read_spec("imc_figure05")
    assert isinstance(five, FigureSpec)
    assert {type(series) for panel in five.panels for series in panel.series} == {TraceSpec}


def test_the_rules_of_a_variant_extend_or_replace_those_of_the_table() -> None:
    grid = expand("sketching_table01@digits", {"seeds": ["0"]}, [], COMPOSER)
    networks = expand("imc_table03@digits", {"seeds": ["0"]}, [], COMPOSER)
    assert isinstance(grid.original, GridTable)
    assert len(grid.spec.where) == len(grid.original.where) + 1
    assert len(networks.original.where) == 4 and networks.spec.where == ()


def test_options_of_the_command_line_override_those_of_the_variant_and_the_defaults() -> None:
    spec = read_spec("jackpots_table03")
    assert choose_options(spec, None, {})["weights"] == "torchvision"
    assert choose_options(spec, "digits", {})["weights"] == "own"
    assert (
        choose_options(spec, "digits", {"table.weights": ["torchvision"]})["weights"]
        == "torchvision"
    )
    assert isinstance(spec, BlocksTable) and isinstance(read_spec("imc_table05"), MatrixTable)


def test_claims_and_rules_refer_to_ids_and_labels_are_only_printed() -> None:
    plain = merged(CONF, "sketching_table04")
    # without the notes about methods, which name them by id
    plain = {**plain, "notes": [note for note in plain["notes"] if "of" not in note]}
    methods = [{**method, "id": f"m{i}"} for i, method in enumerate(plain["methods"])]
    claims = [{**plain["claims"][0], "entry": "m1", "above": "m0"}]
    named = parse({**plain, "methods": methods, "claims": claims, "where": []}, "x")
    suites = [
        expand_spec(
            spec,
            "sketching_table04@digits",
            {"models": ["resnet20"], "seeds": ["0"]},
            [],
            COMPOSER,
        )
        for spec in (named, replace(read_spec("sketching_table04"), where=()))
    ]
    assert suites[0].page == suites[1].page
    assert [job.run_id for job in suites[0].jobs] == [job.run_id for job in suites[1].jobs]
    assert {cell.ids["method"] for cell in suites[0].cells.values()} == {"m0", "m1"}
    assert {cell.labels["method"] for cell in suites[0].cells.values()} == {
        "SNIP (supervised)",
        "SNIP + sparse data + rand. mask",
    }
    with pytest.raises(ConfigError, match="claims.0.entry=SNIP"):
        parse({**plain, "methods": methods, "where": []}, "x")


def test_a_note_counts_one_thing_in_the_singular() -> None:
    note = Note(text="{last/epochs} epoch(s) of {train.lr} images, each is {n} direction(s)")
    assert note.reads == ("last/epochs", "train.lr", "n")
    filled = note.filled({"last/epochs": "1", "train.lr": "1", "n": "12"})
    assert filled == "1 epoch of 1 images, each is 12 directions"


@pytest.mark.parametrize("number", range(1, 7))
def test_notes_of_figures_state_what_their_runs_do(number: int) -> None:
    expand_with = partial(expand, f"imc_figure0{number}@digits", {"seeds": ["0"]})
    first, changed = (
        next(notes_of(expand_with(overrides, COMPOSER)))
        for overrides in ([], ["method.mask.rule=magnitude"])
    )
    assert "(mask.rule=leverage_x_w2)" in first
    assert changed == first.replace("leverage_x_w2", "magnitude")


def test_a_note_about_unknown_methods_is_refused() -> None:
    plain = merged(CONF, "imc_table01")
    notes = [{"of": "LTZ", "text": "keeps {method.keep}"}]
    with pytest.raises(ConfigError, match="notes.0.of=LTZ is not the beginning of a method's id"):
        parse({**plain, "notes": notes}, "x")


# --- metrics


def test_metrics_have_unique_names_and_columns() -> None:
    for names in (
        [m.name for m in METRICS],
        [m.csv for m in METRICS if m.csv],
        [m.paper_csv for m in METRICS if m.paper_csv],
    ):
        assert len(set(names)) == len(names)
    record = {
        "accuracy_top5": 90.5,
        "epochs": 30,
        "epochs_total": 190,
        "report": {"overlap_magnitude": 0.75},
    }
    values = {
        name: find_metric(name).value(record) for name in ("top5", "overlap", "before", "cost")
    }
    assert values == {"top5": 90.5, "overlap": 75.0, "before": 160, "cost": 30}


def test_every_metric_can_be_a_column(tmp_path: Path) -> None:
    plain = merged(CONF, "imc_table01")
    spec = parse(
        {
            **plain,
            "metrics": [metric.name for metric in METRICS],
            "rows": plain["rows"][:1],
            "where": [],
            "options": {},
            "claims": [],
            "findings": [],
            "notes": [],
        },
        "x",
    )
    suite = expand_spec(
        spec, "imc_table01@digits", {"models": ["resnet20"], "seeds": ["0"]}, [], COMPOSER
    )
    assert [text for text, _ in suite.page.heads[1]] == [
        "Metric",
        *(metric.heading for metric in METRICS),
    ]


def test_the_former_key_of_variants_is_answered_with_the_new_one() -> None:
    plain = with_key_renamed(plain_of(CONF, "imc_table01"), "variants", "elsewhere")
    assert errors_of(plain) == ["elsewhere is now called variants: rename the key"]
