"""`make figures`: draw figures from the available records."""

from runner.commands.arguments import load
from runner.commands.write import write, written
from runner.suites.spec import figure_names


def draw_figures(words: list[str]) -> int:
    """Draw the named figures, or all figures if none is named, from the available records."""
    named = any("=" not in word for word in words)
    figures, machine, _ = load(words if named else [*figure_names(), *words])
    for figure in figures:
        print(write(figure, machine.results_dir))
        print(f"written to {written(figure, machine.results_dir)}\n")
    return 0
