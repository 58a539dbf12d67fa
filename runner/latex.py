"""LaTeX tables: escaped text, headers and bodies with booktabs, and documents that compile alone.

A table fits the width of the page: `table` is scaled down if it is wider, and the columns of
`long_table` are paragraphs. They need \\usepackage{booktabs,graphicx,longtable}.
"""

import re
from collections.abc import Sequence
from itertools import accumulate

Heads = Sequence[Sequence[tuple[str, int]]]  # header lines: texts and the columns they span

PACKAGES = "booktabs,graphicx,longtable"
RAISED = "ᵃᵇᶜᵈᵉᶠᵍʰⁱʲᵏˡᵐⁿᵒᵖʳˢᵗᵘᵛʷˣʸᶻ"  # letters of footnotes; there is no raised q
PLAIN = "abcdefghijklmnoprstuvwxyz"
ESCAPES = {
    "\\": "\\textbackslash{}",
    **{sign: f"\\{sign}" for sign in "&%_#${}"},
    "~": "\\textasciitilde{}",
    "^": "\\textasciicircum{}",
    '"': "''",
    "±": "$\\pm$",
    "×": "$\\times$",
    "†": "$\\dagger$",
    "‡": "$\\ddagger$",
    "•": "$\\bullet$",
    "◦": "$\\circ$",
    "–": "--",
    "≠": "$\\neq$",
    "≤": "$\\leq$",
    "≥": "$\\geq$",
    "<": "$<$",
    ">": "$>$",
    "|": "$|$",
    "√": "$\\surd$",
    "∞": "$\\infty$",
    "→": "$\\to$",
    "²": "$^{2}$",
    "³": "$^{3}$",
    "χ": "$\\chi$",
    "∆": "$\\Delta$",
    "Δ": "$\\Delta$",
    "η": "$\\eta$",
    "ε": "$\\varepsilon$",
    "σ": "$\\sigma$",
    "γ": "$\\gamma$",
    "β": "$\\beta$",
    "μ": "$\\mu$",
    "λ": "$\\lambda$",
    **{
        raised: f"\\textsuperscript{{{letter}}}"
        for raised, letter in zip(RAISED, PLAIN, strict=True)
    },
}
POWER = r"\^-?[0-9A-Za-z]+"  # 10^-12
TOKENS = re.compile("|".join([POWER, *map(re.escape, ESCAPES)]))


def escape(text: str) -> str:
    """The text in LaTeX: special characters escaped, signs as commands, powers raised."""
    return TOKENS.sub(lambda found: _escaped(found[0]), text)


def _escaped(token: str) -> str:
    return ESCAPES[token] if token in ESCAPES else f"$^{{{token[1:]}}}$"


def row(cells: Sequence[str]) -> str:
    """A line of cells that are LaTeX already; behind the end of a line, [ and * are options."""
    guard = "{}" if cells[0].startswith(("[", "*")) else ""
    return guard + " & ".join(cells) + " \\\\"


def spanning(text: str, columns: int, side: str = "l") -> str:
    """A cell of LaTeX over several columns."""
    return f"\\multicolumn{{{columns}}}{{{side}}}{{{text}}}"


def table(
    title: str, label: str, columns: str, heads: Heads, body: Sequence[str], notes: Sequence[str]
) -> str:
    """A float with a caption, a label, the table and notes below it.

    Args:
        title, label, notes: plain text.
        columns: the specification of the columns.
        body: lines of LaTeX between header and end.
    """
    lines = [
        "\\begin{table}[!htbp]",
        "\\centering",
        f"\\caption{{{escape(title)}}}",
        f"\\label{{{key_of(label)}}}",
        "\\resizebox{\\ifdim\\width>\\linewidth\\linewidth\\else\\width\\fi}{!}{%",
        f"\\begin{{tabular}}{{{columns}}}",
        "\\toprule",
        *(line for head in heads for line in _head(head)),
        "\\midrule",
        *body,
        "\\bottomrule",
        "\\end{tabular}}",
        *(_notes(notes) if notes else ()),
        "\\end{table}",
    ]
    return "\n".join(lines) + "\n"


def long_table(
    title: str,
    label: str,
    widths: Sequence[float],
    heads: Sequence[str],
    rows: Sequence[Sequence[str]],
    notes: Sequence[str],
) -> str:
    """A table of paragraphs that may fill several pages; all arguments are plain text.

    Args:
        widths: of the columns, as shares of the page's width.
    """
    columns = "".join(f"p{{{width:g}\\linewidth}}" for width in widths)
    head = row([f"\\raggedright {escape(text)}" for text in heads]).replace(
        " \\\\", " \\tabularnewline"
    )
    lines = [
        "\\begingroup\\footnotesize\\setlength{\\tabcolsep}{2pt}",
        f"\\begin{{longtable}}{{{columns}}}",
        f"\\caption{{{escape(title)}}}\\label{{{key_of(label)}}}\\\\",
        "\\toprule",
        head,
        "\\midrule",
        "\\endhead",
        "\\bottomrule",
        "\\endfoot",
        *(
            " & ".join(f"\\raggedright {escape(cell)}" for cell in cells) + " \\tabularnewline"
            for cells in rows
        ),
        "\\end{longtable}",
        *(f"\\noindent {escape(note)}\\par" for note in notes),
        "\\endgroup",
    ]
    return "\n".join(lines) + "\n"


def key_of(label: str) -> str:
    """A label for \\ref, from the name of a file."""
    return f"tab:{re.sub('[^A-Za-z0-9@.=+-]', '-', label)}"


def document(parts: Sequence[str]) -> str:
    """A document with the given tables."""
    return "\n".join(
        [
            "\\documentclass{article}",
            "\\usepackage[margin=2cm]{geometry}",
            f"\\usepackage{{{PACKAGES}}}",
            "\\begin{document}",
            *(f"{part}\\clearpage" for part in parts),
            "\\end{document}\n",
        ]
    )


def _notes(notes: Sequence[str]) -> list[str]:
    """Small print below a table."""
    return [
        "\\par\\smallskip",
        "\\begin{minipage}{\\linewidth}\\scriptsize\\raggedright",
        *(f"{escape(note)}\\par" for note in notes),
        "\\end{minipage}",
    ]


def _head(head: Sequence[tuple[str, int]]) -> list[str]:
    """A header line, with rules under the texts that span several columns."""
    cells = [
        escape(text) if span == 1 else spanning(escape(text), span, "c") for text, span in head
    ]
    ends = list(accumulate(span for _, span in head))
    rules = "".join(
        f"\\cmidrule(lr){{{end - span + 1}-{end}}}"
        for (_, span), end in zip(head, ends, strict=True)
        if span > 1
    )
    return [row(cells), *([rules] if rules else [])]
