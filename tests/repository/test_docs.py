"""Commands, make targets and paths that the documents print are valid; README's table is true."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
from conftest import ROOT, environment, last_of_each
from PIL import Image
from support import COMPOSER

from runner.command_list import LISTED
from runner.commands.arguments import launcher
from runner.config.build import build_run
from runner.config.compose import compose_config
from runner.planning.cards import card_of
from runner.suites.expand import expand, parse_arguments

PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text()
    for path in (
        *(ROOT / name for name in ("README.md", "RESULTS.md", "CONTRIBUTING.md")),
        *sorted((ROOT / "docs").rglob("*.md")),
    )
}
FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)
INDENTED = re.compile(r"(?<=\n\n)(?: {4}.*\n)+")
INLINE = re.compile(r"`([^`]+)`")
# Not a command with values of its own: the syntax of commands, and requests for help.
# tests/repository/test_recipes.py runs README's own method, `mine`.
GENERAL = re.compile(
    r"KEY|NAME|VALUE|FILE|RUN_ID|=mine|\.\.\.|masks=| --help| --cfg| --info| --version"
)


def blocks(page: str) -> list[str]:
    """The lines of a page's shell blocks; a continued line is joined with the next.

    A block between fences can be indented, in a list; a block without fences is.
    """
    shell = [text for language, text in FENCE.findall(page) if language in ("", "sh", "bash")]
    shell += INDENTED.findall(FENCE.sub("", page))
    return [line.strip() for line in "".join(shell).replace("\\\n", "").splitlines()]


def spans(page: str) -> list[str]:
    """The inline code of a page."""
    return [" ".join(code.split()) for code in INLINE.findall(FENCE.sub("", page))]


def lines(names: Iterable[str] = tuple(PAGES)) -> list[str]:
    """Everything that can be a command in these pages."""
    # The prose of CONTRIBUTING.md names parts that a reader has yet to write.
    prose = [name for name in names if name != "CONTRIBUTING.md"]
    inline = [span for name in prose for span in spans(PAGES[name])]
    return [line for name in names for line in blocks(PAGES[name])] + inline


LINES = lines()
WINNOW = re.compile(r"(WINNOW_PATH=\S+ )?winnow \w")


def commands(program: str, names: Iterable[str] = tuple(PAGES)) -> list[list[str]]:
    """The words after `program` in every command of the pages, without comments."""
    chosen = {
        line.removeprefix(program)
        for line in lines(names)
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
    assert blocks("a\n\n    run a \\\n      b\n\n- c\n\n  ```\n  d\n  ```\n") == [
        "d",
        "run a       b",
    ]
    assert spans(page) == ["make data", "b c"]
    assert len(commands("python run.py")) >= 20
    assert len(tables()) >= 20


@pytest.mark.parametrize("words", commands("python run.py"), ids=" ".join)
def test_every_printed_run_command_describes_a_run(words: list[str], tmp_path: Path) -> None:
    # of a sweep, its first job
    values = [
        word if "[" in word else word.split(",")[0]  # commas in a list are no choices
        for word in words
        if word not in ("-m", "--help") and not word.startswith("-")
    ]
    values = [value.replace("=DIR", f"={images(tmp_path)}") for value in values]
    run = build_run(compose_config(values))
    assert run.stages


TORCHRUN = [words for words in commands("torchrun") if "run.py" in words]


@pytest.mark.parametrize("words", TORCHRUN, ids=" ".join)
def test_every_printed_torchrun_command_describes_a_run(words: list[str]) -> None:
    assert any(word.startswith("--nproc-per-node=") for word in words)
    assert build_run(compose_config(words[words.index("run.py") + 1 :])).stages


# A command of these pages is also run, at a small scale: what replaces its data, net and length.
RUN_PAGES = ("README.md", "docs/sweeps.md", "docs/questions.md")
QUICK = ("dataset=digits", "model=mlp", "train.scale=0.0125", "env.device=cpu", "env.threads=1")


def small(words: list[str], folder: Path) -> list[str]:
    """The words of a run at a small scale in a folder of its own."""
    own = [f"env.{key}_dir={folder / key}" for key in ("results", "cache")]
    # Slurm is another machine; `make slurm-test` starts one
    rest = [word for word in words if word != "hydra/launcher=slurm"]
    return last_of_each(*rest, *QUICK, *own)


@pytest.mark.slow
@pytest.mark.parametrize("words", commands("python run.py", RUN_PAGES), ids=" ".join)
def test_every_run_command_of_the_first_pages_runs_at_a_small_scale(
    words: list[str], tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "run.py", *small(words, tmp_path)],
        cwd=tmp_path,
        env={**environment(), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    records = list(tmp_path.glob("results/runs/*/result.json"))
    assert bool(records) != ("env.plan=true" in words)


def test_every_printed_command_of_winnow_exists() -> None:
    verbs = {each.name for each in LISTED}
    printed = {
        re.sub(r"^(WINNOW_PATH=\S+ )?winnow ", "", line) for line in LINES if WINNOW.match(line)
    }
    named = {line.split()[0] for line in printed if line[0].islower()}
    assert len(named) >= 6
    assert {each for each in named if "=" not in each} <= verbs


def images(folder: Path) -> Path:
    """A folder of images in two classes."""
    for i in range(20):
        place = folder / "images" / f"class{i % 2}"
        place.mkdir(parents=True, exist_ok=True)
        Image.new("L", (32, 32), i).save(place / f"{i}.png")
    return folder / "images"


@pytest.mark.parametrize("words", tables(), ids=" ".join)
def test_every_printed_table_command_names_a_table_with_runs(words: list[str]) -> None:
    given = dict(word.split("=", 1) for word in words)
    _, rest = launcher(card_of(given.get("ARGS", "").split())[1])
    names, chosen, overrides = parse_arguments([given["TABLE"], *rest])
    assert all(expand(name, chosen, overrides, COMPOSER).jobs for name in names)


def test_every_printed_make_target_exists() -> None:
    known = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {
        target
        for page in PAGES.values()
        for target in re.findall(r"(?:`|^)make ([a-z-]+)", page, re.MULTILINE)
    }
    assert named <= known
    assert {"setup", "demo", "test"} <= named


def test_the_tests_of_a_file_share_a_worker_and_what_its_fixtures_make() -> None:
    # a group of pytest-xdist would be ignored: pytest 9.2 reads no `_nodeid`
    assert "-n auto --dist loadfile" in (ROOT / "Makefile").read_text()
    mark = "xdist" + "_group"
    assert [path for path in (ROOT / "tests").rglob("*.py") if mark in path.read_text()] == []


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


def cells(line: str) -> list[str]:
    """The cells of a line of a Markdown table."""
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def test_the_rows_of_the_readme_are_those_of_the_published_table() -> None:
    page = ROOT / "results" / "published" / "tables" / "imc_table01@digits.md"
    # the README has no marks of the best entries and of footnotes
    text = re.sub(r"\*\*([^|*]*?) [•◦]\*\*|[ᵃᵇᶜᵈᵉᶠᵍʰ]", r"\1", page.read_text())
    published = {cells(line)[0]: cells(line)[:4] for line in text.splitlines()}
    lines = PAGES["README.md"].splitlines()
    head = lines.index("| method | sparsity | accuracy, % | epochs |")
    shown = [cells(line) for line in lines[head + 2 : lines.index("", head)]]
    assert len(shown) > 4 and shown == [published[row[0]] for row in shown]


def test_the_readme_states_how_much_was_measured() -> None:
    index = (ROOT / "results" / "published" / "index.yaml").read_text()
    names = set(re.findall(r"^  - ((?:imc|jackpots|samples|sketching)_\w+)", index, re.MULTILINE))
    tables = sum("_table" in name for name in names)
    figures = sum(bool(re.search(r"_figure\d", name)) for name in names)
    text = " ".join(PAGES["README.md"].split())
    assert f"{tables} of the 29 tables and {figures} of the 23 figures" in text


def test_the_readme_fits_its_size() -> None:
    lines = PAGES["README.md"].splitlines()
    assert len(lines) <= 150 and max(map(len, lines)) <= 100
