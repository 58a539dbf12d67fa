"""`make figures`: draw figures from the available records."""

from runner.commands.available import show
from runner.suites.spec import figure_names


def draw_figures(words: list[str]) -> int:
    """Write and print the named figures, or those that have records; the exit code."""
    return show(figure_names(), words, "make figures")
