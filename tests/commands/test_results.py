"""Documents print the numbers of published pages: statistics of a made page, worked by hand."""

import re
from pathlib import Path

import pytest
from conftest import ROOT
from support import compose_run
from table_support import record

from runner.blocks import blocks, renewed
from runner.commands.result_queries import STATISTICS, parse_query
from runner.commands.result_verdicts import NAME as VERDICTS
from runner.commands.results import COMMAND, TEMPLATES, read_template, renewed_documents
from runner.errors import ConfigError
from runner.records.packed import as_line, write_lines
from runner.records.stored import StoredRun
from runner.spec.planned import plan_runs

INDEX = """\
tables:
  - imc_table01@digits models=resnet20 seeds=0,1
  - imc_table01@digits models=resnet32
  - jackpots_table01@digits
figures:
  - imc_figure01@digits
"""
TABLE = """\
row,column,network,density_asked,printed,seed,accuracy,paper_accuracy
Ours,N,N,0.1,True,0,99.0,94.5
Ours,N,N,0.1,True,1,98.0,94.5
Ours,N,N,0.2,False,0,11.0,94.5
SNIP,N,N,0.1,True,0,97.0,
SNIP,N,N,0.1,True,1,,
GraSP,N,N,0.1,True,0,,1120
GraSP,N,N,0.1,True,1,,1120
"""
HEAD = (
    "claim,what was measured,95 % confidence interval,adjusted p,smallest difference told,"
    "the paper's difference: seeds needed,holds\n"
)
CLAIMS = (
    HEAD
    + """\
better: Ours - SNIP,"-0.46 points, 3 seeds","[-1.26, +0.33]",1.00,3.32 points,+2.90: 4,open
better: Ours - GraSP,"+1.50 points, 2 seeds","[+0.10, +2.90]",0.041,12.1 points,"+0.22: more than \
10,000",holds
worse: Ours - SNIP,–,–,–,–,–,not run
"""
)
POINTS = """\
panel,series,x,y,y_std
p,a,0.1,98.5,0.125
p,a,1.0,93.25,
p,b,0.1,,
"""
SLOPES = (
    HEAD
    + """\
linear,"slope -0.52, 6 columns; p of fits: line 1, x^0.5 3.5e-05","[-0.679, -0.401]",0.71,–,–,open
greatest,"greatest, 94.2, at 8.59",–,–,–,–,open
"""
)


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """A folder as results/published, with one table and one figure."""
    folder = tmp_path / "results" / "published"
    for name, text in (
        ("index.yaml", INDEX),
        ("tables/imc_table01@digits.csv", TABLE),
        ("tables/imc_table01@digits.claims.csv", CLAIMS),
        ("tables/imc_table01@digits.md", "a table"),
        ("figures/imc_figure01@digits.csv", POINTS),
        ("figures/imc_figure01@digits.claims.csv", SLOPES),
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def filled(text: str, published: Path, head: str = "") -> str:
    path = published / "template.md"
    pages = head or "t: imc_table01@digits models=resnet20\nf: imc_figure01@digits\n"
    names = [line.partition(":")[0] for line in pages.splitlines()]
    used = "".join(f' {{{{{name}.link(to="")}}}}' for name in names)
    path.write_text(f"---\n{pages}---\n{text}\n\n<{used}\n")
    return read_template(path, published).filled().partition("\n\n<")[0]


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ('t.value(row="Ours")', "98.50 ± 0.71"),  # 1 / sqrt(2); the run that is not printed: not
        ('t.value(row="Ours", digits=0, spread=False)', "98"),
        ('t.value(row="SNIP")', "97.00 (n=1 of 2)"),
        ('t.value(row="GraSP")', "–"),  # not run
        ("t.range()", "97.00 to 98.50"),
        ('t.range(row="Ours", digits=1)', "98.5"),
        ('t.paper(row="Ours")', "94.5"),
        ('t.paper(row="GraSP")', "1,120"),
        ('t.paper(row="SNIP")', "–"),
        ('t.tally(claim="better*SNIP")', "open"),
        ('t.tally(claim="better*")', "1 holds, 1 open"),
        ("t.tally()", "1 holds, 1 open, 1 not run"),
        ('t.measured(claim="better*")', "-0.46 to +1.50"),
        ('t.measured(claim="worse*")', "–"),
        ('t.interval(claim="*GraSP")', "[+0.10, +2.90]"),
        ('t.interval(claim="better*", end="high")', "+0.33 to +2.90"),
        ('t.p(claim="better*")', "0.041 to 1.00"),
        ('t.told(claim="better*")', "3.32 to 12.1"),
        ('t.papers(claim="better*")', "+0.22 to +2.90"),
        ('t.needed(claim="better*")', "4 to more than 10,000"),
        ('t.needed(claim="worse*")', "–"),
        ('t.link(to="here")', "[here](results/published/tables/imc_table01@digits.md)"),
        ('f.points(series="a")', "93.25 to 98.50"),
        ('f.points(series="a", x=0.1, digits=1)', "98.5"),
        ('f.points(series="b")', "–"),
        ('f.points(series="a", x=0.1, spread=True)', "98.50 ± 0.12"),
        ('f.points(series="a", x=1.0, spread=True)', "93.25"),  # of one seed
        ('f.measured(claim="linear", after="slope")', "-0.52"),
        ('f.measured(claim="linear", after="line")', "1"),
        ('f.measured(claim="linear", after="x^0.5")', "3.5e-05"),
        ('f.measured(claim="greatest", after="at")', "8.59"),
        ('f.covered(kind="table")', "2 of the 29"),
        ('f.covered(kind="figure")', "1 of the 23"),
    ],
)
def test_a_placeholder_prints_the_number_of_its_page(
    query: str, text: str, published: Path
) -> None:
    assert filled(f"a {{{{{query}}}}} b", published) == f"a {text} b"


def test_records_are_averaged_by_method(published: Path) -> None:
    runs = [("snip", 0, 90.0, 1.5), ("snip", 1, 92.0, 20.25), ("random", 0, None, 3.0)]
    lines = {}
    for method, seed, value, gap in runs:
        words = [f"method={method}", "density=0.1", "model=mlp", f"seed={seed}"]
        (job,) = plan_runs([compose_run(*words)], [tuple(words)])
        stored = StoredRun(record(job, value, report={"gap": gap}))
        lines[job.run_id] = as_line(stored, {"train": {"lr": 0.1 if seed == 0 else 0.3}})
    write_lines(published / "records" / "imc_table01@digits.jsonl", lines)
    for query, text in (
        ('t.records(method="snip", digits=1)', "91.0 ± 1.4"),  # 2 / sqrt(2)
        ('t.records(method="random")', "–"),
        ('t.records(field="gap", spans=True)', "1.50 to 20.25"),
        ('t.records(setting="seed=1", digits=1)', "92.0"),
        ('t.records(setting="train.lr=0.1", method="snip", digits=1)', "90.0"),
    ):
        assert filled(f"{{{{{query}}}}}", published) == text
    for query, message in (
        ('t.records(method="snap")', "did you mean 'snip'"),
        ('t.records(field="gaps")', "field=gaps is not a choice"),
        ('t.records(setting="train.ir=0.1")', "did you mean 'train.lr'"),
        ('t.records(setting="train.lr=0.5")', "train.lr=0.5 is not a choice"),
    ):
        with pytest.raises(ConfigError, match=message):
            filled(f"{{{{{query}}}}}", published)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("t.value(row='Our')", "row=Our is not a choice.*did you mean 'Ours'"),
        ("t.value()", "3 entries fit: Ours, N; SNIP, N; GraSP, N; choose one"),
        ("t.value(row='Ours', metric='acc')", "column=acc is not a choice.*accuracy"),
        ("t.value(rows='Ours')", "value.rows is not an option.*did you mean 'row'"),
        ("t.value(row='Ours', digits='two')", "value.digits='two'"),
        ("t.mean()", "statistic=mean is not a choice: value"),
        ("u.value()", "page=u is not a choice: t, f"),
        ("t.tally(claim='best*')", "claim=best. is not a choice"),
        ("t.interval()", "end= is not a choice: low, high"),
        ("f.points(series='a', x=2.0)", "x=2.0 is not a choice: 0.1, 1.0"),
        ("f.points(series='a', spread=True)", "2 points fit"),
        ("f.covered(kind='tables')", "kind=tables is not a choice"),
        ("t.value", "is no query"),
        ("t.value(1)", "is no query"),
        ("t.value(row=name)", "is no query"),
        ("t.value(", "is no query"),
    ],
)
def test_a_query_that_fits_nothing_is_refused_with_its_place(
    query: str, message: str, published: Path
) -> None:
    with pytest.raises(ConfigError, match=rf"results/templates/template\.md: .*{message}"):
        filled(f"{{{{{query}}}}}", published)


@pytest.mark.parametrize(
    ("head", "message"),
    [
        ("t: imc_table01@digits", "2 lines of the index have these words"),
        ("t: imc_table02@digits", "page=imc_table02@digits is not a choice.*imc_table01@digits"),
        ("t: jackpots_table01@digits", "jackpots_table01@digits.csv does not exist"),
    ],
)
def test_a_page_that_is_not_published_is_refused(head: str, message: str, published: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        filled("{{t.range()}}", published, f"{head}\n")


def test_a_template_names_its_pages_and_uses_them(published: Path) -> None:
    path = published / "bare.md"
    path.write_text("text")
    with pytest.raises(ConfigError, match="must begin with a list of pages"):
        read_template(path, published)
    path.write_text("---\nt: imc_figure01@digits\n---\ntext")
    with pytest.raises(ConfigError, match="does not use t"):
        read_template(path, published).filled()


def test_paragraphs_are_broken_into_lines_and_tables_are_not(published: Path) -> None:
    words = " ".join(["word"] * 40)
    text = filled(f"{words}\n\n- {words}\n- short\n\n| {words} |", published)
    paragraph, items, table = text.split("\n\n")
    assert max(map(len, paragraph.splitlines())) == 99 and paragraph.split() == words.split()
    assert [line[:2] for line in items.splitlines()] == ["- ", "  ", "  ", "- "]
    assert table == f"| {words} |"


def test_blocks_get_their_text_and_the_rest_of_the_page_stays() -> None:
    page = "a\n<!-- make x: one -->\nold\n<!-- make x: end -->\nb\n<!-- make y: z -->\n"
    page += "<!-- make y: end -->\n<!-- make x: two -->\n<!-- make x: end -->\n"
    new = renewed(page, "x", {"one": "1\n", "two": "2"})
    assert new == page.replace("old", "1").replace("two -->\n", "two -->\n2\n")
    assert renewed(new, "x", {"one": "1", "two": "2"}) == new
    assert (blocks(page, "x"), blocks(page, "y"), blocks("a", "x")) == (["one", "two"], ["z"], [])


@pytest.mark.parametrize(
    ("page", "message"),
    [
        ("no markers", "lacks <!-- make x: NAME -->"),
        ("<!-- make x: one -->\n", "lacks <!-- make x: end --> after <!-- make x: one -->"),
        ("<!-- make x: one -->\n<!-- make y: z -->\n<!-- make x: end -->\n", "lacks"),
        ("<!-- make x: two -->\n<!-- make x: end -->\n", "two --> has no text: one"),
    ],
)
def test_a_page_without_sound_blocks_is_refused(page: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        renewed(page, "x", {"one": "1"})


# --- the documents of this repository


def test_the_documents_have_the_numbers_of_the_published_pages() -> None:
    documents = renewed_documents()
    assert {path.name for path in documents} >= {"README.md", "RESULTS.md"}
    stale = [path.name for path, text in documents.items() if text != path.read_text("utf-8")]
    assert not stale, "make results"


def test_every_template_is_printed_somewhere() -> None:
    pages = [ROOT / "README.md", ROOT / "RESULTS.md", *(ROOT / "docs").rglob("*.md")]
    named = {name for page in pages for name in blocks(page.read_text("utf-8"), COMMAND)}
    assert named == {VERDICTS, *(path.stem for path in TEMPLATES.glob("*.md"))}


# Numbers that templates and documents may type: of tables, figures and seeds, of steps, epochs,
# layers and images, settings, the papers' statements, and levels. None was measured here.
TYPED = {
    "benchmark": "1 2 5 10 20 50 6,000 60,000 100 300",
    "benchmark_rate": "0.02 0.03 0.1 0.3",
    "imc_reading": "1 2 5 6 10 11 20 25 50 100 128 400 512",
    "imc": "0.001 0.05 0.1 0.2 1 14 160 2 20 23 3 30 32 360 4 5 6 8",
    "jackpots": "0 0.1 0.5 1 1,437 11 138 2 23 3 30 300 32 4 46 5 5,880 6 64 690 7 8 9 94",
    "limits": "",
    "readme": "",
    "samples": "0.25 1 1.5 100 150 2 20 200 250 6 7 8 9",
    "side_by_side": "1 10 3 30",
    "sketching": "1 10 160 188 2 20 3 32 4 4.1 4.2 4.3 4.4 4.5 5 7.2",
    "summary": "1 138 160 2 32 4 4.1 4.2 4.3 4.4 4.5 8",
    "RESULTS": "0.53 1.7 20 8.1 95",  # outside of the blocks; 1.7 to 8.1 explains the form
}
NUMBER = re.compile(r"(?<![\w.])[-+]?\d+(?:,\d{3})*(?:\.\d+)?(?:e-?\d+)?")
BLOCK = re.compile(r"<!-- make (\w+): (?!end).*?<!-- make \1: end -->", re.DOTALL)  # generated
NO_PROSE = re.compile(r"\{\{.*?\}\}|```.*?```|`.*?`|\]\([^)]*\)|<[^>]*>", re.DOTALL)


def typed_numbers(text: str) -> set[str]:
    """The numbers in the prose of a text: not those of queries, code and addresses."""
    return set(NUMBER.findall(NO_PROSE.sub(" ", text)))


def prose_of(path: Path) -> str:
    """A template without its pages, or a document without its blocks."""
    text = path.read_text("utf-8")
    return text.split("---\n", 2)[2] if path.parent == TEMPLATES else BLOCK.sub("", text)


@pytest.mark.parametrize(
    "path", [*sorted(TEMPLATES.glob("*.md")), ROOT / "RESULTS.md"], ids=lambda path: path.stem
)
def test_no_measured_number_is_typed(path: Path) -> None:
    # a number that was measured comes from a query; one of another kind is listed above
    assert typed_numbers(prose_of(path)) <= set(TYPED[path.stem].split())
    prose = NO_PROSE.sub("", prose_of(path))
    assert not re.findall(r"\d ?± ?\d|\[[-+]?\d[^\]]*,|[+-]\d+\.\d", prose)


def test_typed_numbers_are_found_outside_of_queries_code_and_addresses() -> None:
    text = "up to 2.3 points, {{t.value(digits=4)}} of `a=5`, [6](7.md), p = 8e-9, 1,680; v0.2, x10"
    assert typed_numbers(text) == {"2.3", "6", "8e-9", "1,680"}


def test_records_that_were_measured_again_are_compared_with_the_former_ones(
    published: Path,
) -> None:
    lines: list[dict[str, bytes]] = [{}, {}]
    for seed, accuracies in enumerate([(90.0, 91.0), (92.0, 90.0), (80.0, 80.5)]):
        words = ["method=snip", "density=0.1", "model=mlp", f"seed={seed}"]
        (job,) = plan_runs([compose_run(*words)], [tuple(words)])
        for place, accuracy in zip(lines, accuracies, strict=True):
            place[job.run_id] = as_line(StoredRun(record(job, accuracy)), {})
    name = "imc_table01@digits.jsonl"
    write_lines(published / "records" / name, lines[1])
    (published.parent / "withdrawn").mkdir()
    write_lines(published.parent / "withdrawn" / name, lines[0])
    # differences 1, -2 and 0.5, with the mean -1/6 and the variance (49 + 121 + 16) / 36 / 2
    for what, number in (("runs", "3"), ("largest", "2.0"), ("deviation", "1.6")):
        assert filled(f'{{{{t.repeated(what="{what}")}}}}', published) == number
    for query, message in (
        ('t.repeated(what="mean")', "what=mean is not a choice"),
        ('t.repeated(what="runs", field="acuracy")', "field=acuracy is not a choice"),
        ('f.repeated(what="runs")', "imc_figure01@digits: 0 runs were measured twice"),
    ):
        with pytest.raises(ConfigError, match=message):
            filled(f"{{{{{query}}}}}", published)


def test_every_statistic_is_used_or_worked_by_hand() -> None:
    sources = [path.read_text("utf-8") for path in TEMPLATES.glob("*.md")]
    queries = [source for text in sources for source in re.findall(r"\{\{(.+?)\}\}", text)]
    assert {type(parse_query(query).statistic) for query in queries} == set(STATISTICS.values())
