"""Commands, make targets and paths that the documents print are valid; README's table is true."""

import re
import shlex

import pytest
from conftest import ROOT

from runner.commands.arguments import launcher
from runner.config.build import build_run
from runner.config.compose import compose_config
from runner.suites.expand import expand, parse_arguments

GUIDES = ("command_line", "tables", "data_sets")
PAGES = {
    name: (ROOT / name).read_text()
    for name in (
        "README.md",
        "RESULTS.md",
        "CONTRIBUTING.md",
        *(f"docs/{guide}.md" for guide in GUIDES),
    )
}
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
INLINE = re.compile(r"`([^`]+)`")
# Not a command with values of its own: the syntax of commands, and requests for help.
GENERAL = re.compile(r"KEY|NAME|VALUE|TABLE=\.\.\.| --help| --cfg| --info")


def blocks(page: str) -> list[str]:
    """The lines of a page's shell blocks; a continued line is joined with the next."""
    shell = [text for language, text in FENCE.findall(page) if language in ("", "sh", "bash")]
    return "".join(shell).replace("\\\n", "").splitlines()


def spans(page: str) -> list[str]:
    """The inline code of a page."""
    return [" ".join(code.split()) for code in INLINE.findall(FENCE.sub("", page))]


# The prose of CONTRIBUTING.md names parts that a reader has yet to write.
LINES = [line for page in PAGES.values() for line in blocks(page)] + [
    span for name, page in PAGES.items() if name != "CONTRIBUTING.md" for span in spans(page)
]


def commands(program: str) -> list[list[str]]:
    """The words after `program` in every command of the pages, without comments."""
    chosen = {
        line.removeprefix(program)
        for line in LINES
        if line.startswith(program + " ") and not GENERAL.search(line)
    }
    return sorted(shlex.split(line, comments=True) for line in chosen)


def tables() -> list[list[str]]:
    """The words of every command for tables and figures. Table 16 of the IMC paper has no runs."""
    verbs = ("plan", "reproduce", "tables", "figures")
    words = [words for verb in verbs for words in commands(f"make {verb}")]
    return [list(w) for w in sorted({tuple(w) for w in words} - {("TABLE=imc_table16",)})]


def test_commands_are_found_in_blocks_continued_lines_and_prose() -> None:
    page = "a `make data`\n```python\nx\n```\n`b\nc`\n```sh\nrun a \\\n  b\n```\n```\nd\n```\n"
    assert blocks(page) == ["run a   b", "d"]
    assert spans(page) == ["make data", "b c"]
    assert len(commands("python run.py")) >= 20
    assert len(tables()) >= 20


@pytest.mark.parametrize("words", commands("python run.py"), ids=" ".join)
def test_every_printed_run_command_describes_a_run(words: list[str]) -> None:
    # of a sweep, its first job
    values = [
        word.split(",")[0]
        for word in words
        if word not in ("-m", "--help") and not word.startswith("-")
    ]
    run = build_run(compose_config(values))
    assert run.stages


@pytest.mark.parametrize("words", tables(), ids=" ".join)
def test_every_printed_table_command_names_a_table_with_runs(words: list[str]) -> None:
    given = dict(word.split("=", 1) for word in words)
    _, rest = launcher(given.get("ARGS", "").split())
    names, chosen, overrides = parse_arguments([given["TABLE"], *rest])
    assert all(expand(name, chosen, overrides).jobs for name in names)


def test_every_printed_make_target_exists() -> None:
    known = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {
        target
        for page in PAGES.values()
        for target in re.findall(r"(?:`|^)make ([a-z-]+)", page, re.MULTILINE)
    }
    assert named <= known
    assert {"setup", "demo", "test"} <= named


def test_every_path_of_the_tree_exists() -> None:
    (tree,) = re.findall(r"## The tree\n\n```\n(.*?)```", PAGES["CONTRIBUTING.md"], re.DOTALL)
    # other lines go on
    paths = [line.split()[0] for line in tree.splitlines() if line[:1].strip()] + re.findall(
        r"runner/\w+\.py", tree
    )
    for path in paths:
        group = re.fullmatch(r"(.*)\{(.*)\}(.*)", path)
        for name in (
            [f"{group[1]}{part}{group[3]}" for part in group[2].split(",")] if group else [path]
        ):
            assert (ROOT / name).exists(), name


@pytest.mark.parametrize("ending", ["md", "claims.md"])
def test_the_printed_table_is_the_published_one(ending: str) -> None:
    published = ROOT / "results" / "published" / "tables" / f"imc_table01@digits.{ending}"
    # README breaks the lines of the notes.
    assert " ".join(published.read_text().split()) in " ".join(PAGES["README.md"].split())
