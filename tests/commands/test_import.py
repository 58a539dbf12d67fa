"""Records of other machines: nothing is overwritten, and what differs or is damaged is named."""

import json
import shutil
from pathlib import Path

import pytest
from conftest import SMALL

from runner.commands.import_ import main
from runner.commands.run import run_config
from runner.config.compose import compose_config
from runner.errors import ConfigError
from runner.files import write_json
from runner.paths import PUBLISHED
from runner.records.find import finished_runs, record_in, run_in
from runner.records.folders import record_path, write_record

PACKED = sorted((PUBLISHED / "records").glob("*.jsonl"), key=lambda path: path.stat().st_size)[0]


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of another machine, with one run."""
    folder = tmp_path_factory.mktemp("theirs")
    dirs = [f"env.results_dir={folder / 'results'}", f"env.cache_dir={folder / 'cache'}"]
    words = ["method=dense", *SMALL, "model.hidden=[4]", *dirs]
    assert run_config(compose_config(words)) == 0
    return folder / "results"


def content(results: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    files = (path for path in results.rglob("*") if path.is_file() and path.name[0] != ".")
    return {path.relative_to(results).as_posix(): path.read_bytes() for path in files}


def imported(place: Path, results: Path) -> int:
    return main([str(place), f"env.results_dir={results}"])


def test_a_run_is_taken_over_whole_and_only_once(
    theirs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run_id,) = finished_runs(theirs)
    for i, place in enumerate((theirs, theirs / "runs", theirs / "runs" / run_id)):
        results = tmp_path / str(i)
        assert imported(place, results) == 0
        for name, text in content(results).items():
            assert (theirs / name).read_bytes() == text
        assert run_in([results], run_id) == run_in([theirs], run_id)
        before = content(results)
        assert imported(place, results) == 0 and content(results) == before
    assert "1 new" in capsys.readouterr().out


def test_another_record_of_a_run_is_kept_apart_and_named(
    theirs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run_id,) = finished_runs(theirs)
    other = tmp_path / "other"
    shutil.copytree(theirs, other)
    record = json.loads(record_path(theirs, run_id).read_text())
    write_record(record_path(other, run_id), {**record, "accuracy": 1.5, "wall_s": 9.0})
    ours = tmp_path / "ours"
    assert imported(theirs, ours) == 0
    before = content(ours)
    capsys.readouterr()
    assert imported(other, ours) == 1
    assert f"different: {run_id} in accuracy; kept as {ours}" in capsys.readouterr().err
    after = content(ours)
    assert {name: after[name] for name in before} == before  # nothing was overwritten
    (kept,) = (name for name in after if name not in before and name.endswith("result.json"))
    assert json.loads(after[kept])["accuracy"] == 1.5 and kept.startswith(f"conflicts/{run_id}-")
    found = record_in([ours], run_id)
    assert found is not None and found["accuracy"] == record["accuracy"]
    # seconds and provenance may differ
    write_record(record_path(other, run_id), {**record, "wall_s": 9.0})
    assert imported(other, ours) == 0


def test_packed_records_are_taken_over_and_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert imported(PACKED, tmp_path) == 0
    runs = finished_runs(tmp_path)
    assert runs and all(
        record_in([tmp_path], run_id) == record_in([PUBLISHED], run_id) for run_id in runs
    )
    before = content(tmp_path)
    assert imported(PACKED, tmp_path) == 0 and content(tmp_path) == before
    assert f"{len(runs)} there already" in capsys.readouterr().out


def test_damaged_and_foreign_records_are_refused_by_name(
    theirs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run_id,) = finished_runs(theirs)
    record = json.loads(record_path(theirs, run_id).read_text())
    for name, damage in (
        (
            "changed",
            lambda path: path.write_text(path.read_text().replace('"seed": 0', '"seed": 7')),
        ),
        ("empty", lambda path: path.write_text("")),
        ("incomplete", lambda path: write_json(path, {"run_id": run_id})),
    ):
        other = tmp_path / name
        shutil.copytree(theirs, other)
        damage(record_path(other, run_id))
        assert imported(other, tmp_path / "ours") == 1
        assert "refused: " in capsys.readouterr().err
    # a name that is a path
    evil = tmp_path / "evil" / "runs" / "x"
    evil.mkdir(parents=True)
    for bad in ("../../x", ".."):
        write_record(evil / "result.json", {**record, "run_id": bad})
        assert imported(evil, tmp_path / "ours") == 1
    assert not content(tmp_path / "ours")
    with pytest.raises(ConfigError, match="nothing: there are no records"):
        main([str(tmp_path / "nothing"), f"env.results_dir={tmp_path / 'ours'}"])
