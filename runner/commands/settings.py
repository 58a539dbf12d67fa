"""`make settings`: our settings beside those of the papers, for each row of a table."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from runner.config.compose import Composer
from runner.config.environment import environment
from runner.errors import ConfigError, one_of
from runner.files import atomically
from runner.suites.expand import parse_arguments
from runner.suites.schema_settings import papers_with_settings, read_settings
from runner.suites.settings import compare_table
from runner.suites.spec import figure_names, read_spec, table_names
from runner.tables.settings import FORMATS, SUMMARIES

SUMMARY = "summary"


def show_settings(words: list[str]) -> int:
    """Print and write the settings of the named tables; without a name, a summary of all."""
    named = any("=" not in word for word in words)
    names, chosen, overrides = parse_arguments(words if named else [*compared_tables(), *words])
    for stem in (name.partition("@")[0] for name in names):
        if stem not in (known := [*table_names(), *figure_names()]):
            raise ConfigError(one_of("TABLE", stem, known))
    folder = environment(overrides).results_dir / "settings"
    composer = Composer()
    tables = [compare_table(name, chosen, overrides, composer) for name in names]
    for table in tables:
        texts = {ending: page(table) for ending, page in FORMATS.items()}
        _write(folder, table.name, texts)
        if named:
            print(texts["txt"])
    if not named:
        texts = {ending: page(tables) for ending, page in SUMMARIES.items()}
        _write(folder, SUMMARY, texts)
        print(texts["txt"])
    print(
        f"written to {folder / (names[0] if len(names) == 1 else SUMMARY if not named else '*')}"
        f".{{{','.join(FORMATS)}}}"
    )
    return 0


def compared_tables() -> list[str]:
    """The tables whose settings are compared: those with a number; of one paper, its figures."""
    return [
        name
        for name in [*table_names(), *figure_names()]
        if (spec := read_spec(name)).paper in papers_with_settings()
        and isinstance(spec.number, int)
        and spec.drawn == read_settings(spec.paper).figures
    ]


def _write(folder: Path, name: str, texts: Mapping[str, str]) -> None:
    for ending, text in texts.items():
        atomically(folder / f"{name}.{ending}", partial(_text, text=text))


def _text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
