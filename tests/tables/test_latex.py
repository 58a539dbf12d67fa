"""LaTeX of every table is well formed, fits the page, and compiles with booktabs."""

import re
import subprocess
from pathlib import Path

import pytest
from support import COMPOSER
from table_support import bare, record, write

from runner import latex
from runner.suites.expand import expand
from runner.suites.spec import read_spec, table_names
from runner.suites.verdicts import HOLDS, Verdict, write_claims
from runner.tables.claims import compared
from runner.tables.entries import entries
from runner.tables.render import as_latex, sheet_of

PAPERS = [name for name in table_names() if read_spec(name).number is not None]


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("Flow&Prune 50 % of_10 #1 $", "Flow\\&Prune 50 \\% of\\_10 \\#1 \\$"),
        ("{a}\\b~c", "\\{a\\}\\textbackslash{}b\\textasciitilde{}c"),
        ("6.17 × 10^-12 | x < y", "6.17 $\\times$ 10$^{-12}$ $|$ x $<$ y"),
        ("^ alone", "\\textasciicircum{} alone"),
        ("94.5ᵃᵇ –", "94.5\\textsuperscript{a}\\textsuperscript{b} --"),
        ("90.0 ± 0.1 •", "90.0 $\\pm$ 0.1 $\\bullet$"),
    ],
)
def test_special_characters_are_escaped_once(text: str, escaped: str) -> None:
    assert latex.escape(text) == escaped


def test_a_line_that_begins_like_an_option_is_guarded() -> None:
    # behind \\, LaTeX reads [ and * as options
    assert latex.row(["[5]", "1"]) == "{}[5] & 1 \\\\"
    assert latex.row(["5", "[1]"]) == "5 & [1] \\\\"


def columns_of(line: str) -> int:
    """The columns that a line of LaTeX fills."""
    spans = [int(n) for n in re.findall(r"\\multicolumn\{(\d+)\}", line)]
    return len(re.findall(r"(?<!\\)&", line)) + 1 + sum(spans) - len(spans)


def check(tex: str) -> None:
    """Braces and environments are balanced, every line fills all columns, all of it is ASCII."""
    bare_tex = re.sub(r"\\[{}%&_#$\\]", "", tex)
    assert bare_tex.count("{") == bare_tex.count("}")
    depth = 0
    for sign in bare_tex:
        depth += {"{": 1, "}": -1}.get(sign, 0)
        assert depth >= 0
    assert bare_tex.count("$") % 2 == 0
    assert tex.isascii(), {sign for sign in tex if not sign.isascii()}
    begun = re.findall(r"\\begin\{(\w+)\}", tex)
    assert sorted(begun) == sorted(re.findall(r"\\end\{(\w+)\}", tex))
    assert not re.search(r"(?<!\\)[#_]|(?<!\\)%(?! )(?!$)", re.sub(r"\$[^$]*\$", "", tex), re.M)
    (spec,) = re.findall(r"\\begin\{tabular\}\{([lr]+)\}", tex)
    body = tex[tex.index("\\toprule") : tex.index("\\bottomrule")]
    for line in body.splitlines():
        if line.endswith("\\\\"):
            assert columns_of(line) == len(spec), line
    for start, end in re.findall(r"\\cmidrule\(lr\)\{(\d+)-(\d+)\}", body):
        assert 1 <= int(start) <= int(end) <= len(spec)


@pytest.mark.parametrize("name", table_names())
def test_a_table_is_well_formed_fits_the_page_and_has_one_number(name: str, tmp_path: Path) -> None:
    suite = bare(name)
    tex = as_latex(sheet_of(suite, entries(suite, tmp_path)))
    check(tex.partition("\n")[2] if tex.startswith("%") else tex)
    assert tex.count("\\caption{") == tex.count("\\label{tab:") == 1
    assert f"\\label{{tab:{name.replace('_', '-')}}}" in tex
    # the number of the caption is LaTeX's; the paper's is in a comment
    assert not re.search(r"\\caption\{Table", tex)
    assert tex.startswith(f"% {latex.escape(suite.spec.heading)}\n")
    assert "\\resizebox{\\ifdim\\width>\\linewidth\\linewidth\\else\\width\\fi}{!}{%" in tex


def test_verdicts_are_a_latex_table_too(tmp_path: Path) -> None:
    lines = [Verdict("a & b: 50 % of x_1", "1.0 [0.5, 2]", "–", holds=HOLDS)]
    write_claims(lines, tmp_path, "imc_table01@digits")
    tex = (tmp_path / "imc_table01@digits.claims.tex").read_text()
    assert "a \\& b: 50 \\% of x\\_1 & \\raggedright 1.0 [0.5, 2]" in tex
    assert "\\label{tab:imc-table01@digits.claims}" in tex and "\\toprule" in tex
    assert tex.count("\\tabularnewline") == 2 and tex.isascii()


@pytest.mark.latex
def test_every_table_of_the_papers_compiles_and_fits(tmp_path: Path) -> None:
    """All tables without runs, and one with records, verdicts, footnotes and signs."""
    suites = [bare(name) for name in table_names()]
    parts = [as_latex(sheet_of(suite, entries(suite, tmp_path))) for suite in suites]
    suite = expand("imc_table01@digits", {"models": ["resnet20"]}, [], COMPOSER)
    for i, cell in enumerate(suite.cells.values()):
        write(tmp_path, *(record(job, 80.0 + i + job.run.seed) for job in cell.jobs))
    found = entries(suite, tmp_path)
    write_claims(compared(suite, found), tmp_path, suite.name)
    parts += [as_latex(sheet_of(suite, found)), (tmp_path / f"{suite.name}.claims.tex").read_text()]
    assert len(PAPERS) == 29
    (tmp_path / "all.tex").write_text(latex.document(parts))
    for _ in range(2):  # the widths of long tables need a second pass
        done = subprocess.run(
            ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            errors="replace",
        )
        assert done.returncode == 0, done.stdout[-3000:]
    log = (tmp_path / "all.log").read_text(errors="replace")
    assert not re.findall(r"Overfull \\hbox.*|Float too large.*|LaTeX Warning: Ref.*", log)
