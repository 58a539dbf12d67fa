"""`make figures`: draw figures from the records that are there."""

from runner.commands.arguments import load
from runner.commands.write import write, written
from runner.suites.spec import figure_names


def draw_figures(words: list[str]) -> int:
    """Draw the figures from the records that are there; every figure that we have when none is named."""
    named = any("=" not in word for word in words)
    figures, machine, _ = load(words if named else [*figure_names(), *words])
    for figure in figures:
        print(write(figure, machine.results_dir))
        print(f"written to {written(figure, machine.results_dir)}\n")
    return 0
