"""`make figures`: draw figures from the available records."""

from runner.commands.arguments import load
from runner.commands.write import write, written
from runner.records.index import indexed
from runner.suites.spec import figure_names


def draw_figures(words: list[str]) -> int:
    """Draw the named figures, or all figures if none is named, from the available records."""
    named = any("=" not in word for word in words)
    figures, place = load(words if named else [*figure_names(), *words])
    with indexed(place.results_dir):
        for figure in figures:
            print(write(figure, place.results_dir))
            print(f"written to {written(figure, place.results_dir)}\n")
    return 0
