"""`make tables` without TABLE: what has records, and what can be asked for."""

from pathlib import Path

import pytest
from support import COMPOSER
from table_support import record, write

from runner.commands.available import available, data_of, guide, show, variants
from runner.errors import ConfigError
from runner.suites.expand import expand
from runner.suites.file_names import LONGEST, file_name
from runner.suites.options import options_of
from runner.suites.spec import read_spec, table_names

TWO = ["imc_table14", "imc_table15"]


@pytest.fixture(autouse=True)
def _nothing_is_published(monkeypatch: pytest.MonkeyPatch) -> None:
    for place in ("runner.records.find", "runner.commands.available"):
        monkeypatch.setattr(f"{place}.results_roots", lambda folder: [folder])


def test_tables_with_records_are_written_and_all_are_listed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train.scale=0.0123", "seeds=0"]
    suite = expand("imc_table14@digits", {"seeds": ["0"]}, words[:1], COMPOSER)
    write(tmp_path, record(suite.jobs[0], None, report={"lipschitz": 2.0}))
    found = available(TWO, words, tmp_path)
    assert suite.name in [each.name for each in found]
    assert all(suite.jobs[0].run_id in [job.run_id for job in each.jobs] for each in found)
    assert available(TWO[:1], ["seeds=0"], tmp_path) == []  # other settings
    assert show(TWO, [*words, f"env.results_dir={tmp_path}"], "make tables") == 0
    stem = file_name((suite.name, *suite.settings))
    assert {path.name for path in (tmp_path / "tables").iterdir()} >= {f"{stem}.md", f"{stem}.json"}
    text = capsys.readouterr().out
    assert suite.spec.heading.rstrip(".") in text and str(tmp_path / "tables" / stem) in text
    assert all(f"  {name}: " in text for name in TWO)


def test_the_guide_names_every_variant_and_option() -> None:
    lines = {line.split(":")[0].strip(): line for line in guide(table_names(), "make tables")[1:-1]}
    assert list(lines) == table_names()
    for name, line in lines.items():
        spec = read_spec(name)
        assert all(f"@{variant}" in line for variant in spec.variants)
        assert all(f"table.{key}=" in line for key in options_of(spec))
        assert all(model in line for model in spec.networks.values())
        assert variants(name) == [name, *(f"{name}@{variant}" for variant in spec.variants)]


def test_the_data_of_a_table_include_those_of_its_runs() -> None:
    for name in ("imc_table14", "imc_table14@digits", "sketching_table04@fashion_mnist"):
        runs = expand(name, {"seeds": ["0"]}, [], COMPOSER).jobs
        assert data_of(*name.split("@")) >= {job.run.dataset.name for job in runs}


def test_words_that_no_table_accepts_are_refused(tmp_path: Path) -> None:
    suite = expand("imc_table14@digits", {"seeds": ["0"]}, [], COMPOSER)
    write(tmp_path, record(suite.jobs[0], None))
    with pytest.raises(ConfigError, match="models=nothing"):
        available(TWO, ["models=nothing"], tmp_path)


def test_names_of_files_are_distinct_short_and_safe() -> None:
    words = [("t", "a=1"), ("t", "a=1", "b=2"), ("t", f"a={'x' * 200}"), ("t", f"a={'x' * 201}")]
    words += [("t", "a=/b"), ("t", "a=:b"), ("t", "a=_b"), ("t", "a=ä")]
    names = [file_name(each) for each in words]
    assert len(set(names)) == len(names) and max(map(len, names)) <= LONGEST
    assert not any("/" in name or not name.isascii() for name in names)
