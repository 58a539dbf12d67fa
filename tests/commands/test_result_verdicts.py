"""Verdicts of published pages beside former ones."""

from pathlib import Path

from runner.commands.result_verdicts import Change, changes, verdicts_text

FORMER_ROWS = [
    {"page": "tables/a", "claim": "x", "verdict": "holds"},
    {"page": "tables/a", "claim": "y", "verdict": "does not hold"},
    {"page": "tables/b", "claim": "z", "verdict": "open"},
    {"page": "figures/c", "claim": "u", "verdict": "holds"},
    {"page": "figures/c", "claim": "v", "verdict": "open"},
]


def made(folder: Path) -> Path:
    """A folder with the verdicts of one table and two figures."""
    for name, rows in (
        ("tables/a", ["x,open", "y,does not hold"]),
        ("figures/c", ["u,does not hold", "v,holds"]),
        ("figures/d", ["w,holds"]),
    ):
        path = folder / f"{name}.claims.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(["claim,holds", *rows, ""]))
    return folder


def test_verdicts_are_joined_by_page_and_claim(tmp_path: Path) -> None:
    assert changes(FORMER_ROWS, made(tmp_path)) == [
        Change("figures/c", "u", "holds", "does not hold"),
        Change("figures/c", "v", "open", "holds"),
        Change("figures/d", "w", "–", "holds"),
        Change("tables/a", "x", "holds", "open"),
        Change("tables/a", "y", "does not hold", "does not hold"),
        Change("tables/b", "z", "open", "withdrawn"),
    ]


def test_the_counts_are_those_of_the_pages(tmp_path: Path) -> None:
    former = tmp_path / "former.csv"
    lines = [",".join(row.values()) for row in FORMER_ROWS]
    former.write_text("\n".join(["page,claim,verdict", *lines, ""]))
    text = verdicts_text(made(tmp_path), former)
    # decided before, open now, reversed, as before, withdrawn, new
    assert "| tables | 2 | 1 | 0 | 1 | 1 | 0 |" in text
    assert "| figures | 1 | 0 | 1 | 0 | 0 | 2 |" in text
    assert "| tables/b | before | now |\n|---|---|---|\n| z | open | withdrawn |" in text
