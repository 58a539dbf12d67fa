"""What README.md, RESULTS.md and CONTRIBUTING.md promise works as it stands there."""

import re
import shlex

import pytest
from conftest import ROOT

from runner.commands.arguments import launcher
from runner.commands.published import published_line, read_index
from runner.config.build import build_run
from runner.config.compose import compose_config
from runner.paths import PUBLISHED
from runner.suites.expand import expand, parse_arguments
from runner.suites.verdicts import as_table
from runner.tables.claims import compared
from runner.tables.entries import entries
from runner.tables.render import as_text

PAGES = {name: (ROOT / name).read_text() for name in ("README.md", "RESULTS.md", "CONTRIBUTING.md")}


def commands(program: str) -> list[list[str]]:
    """The words after `program` in every fenced block of the pages; comments cut, `[optional]`
    parts left out."""
    fenced = "\n".join(
        block
        for page in PAGES.values()
        for block in re.findall(r"```(?:sh|bash)?\n(.*?)```", page, re.DOTALL)
    )
    lines = [line for line in fenced.splitlines() if line.startswith(program + " ")]
    return [shlex.split(line.removeprefix(program), comments=True) for line in lines]


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


@pytest.mark.parametrize(
    "words",
    [w for verb in ("plan", "reproduce", "tables") for w in commands(f"make {verb}")],
    ids=" ".join,
)
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


def test_the_printed_table_is_the_published_one() -> None:
    listed = read_index(PUBLISHED)["tables"]
    page = published_line(listed[0], listed).page
    assert page and page.name == "imc_table01@digits"
    found = entries(page, PUBLISHED)
    assert as_text(page, found).strip() in PAGES["README.md"]
    assert as_table(compared(page, found)) in PAGES["README.md"]
