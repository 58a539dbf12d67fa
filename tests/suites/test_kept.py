"""Kept cells equal those that are made anew, and never answer for another table."""

from pathlib import Path

import pytest
from support import COMPOSER

from runner.config.build import build_plain
from runner.config.compose import Composer
from runner.spec.planned import outline_of, plan_run
from runner.suites import kept as kept_module
from runner.suites.cells import Cell
from runner.suites.expand import Suite, expand
from runner.suites.kept import FOLDER, KeptCells, write_cells

CHOSEN = {"models": ["resnet20"], "seeds": ["0", "3"]}
NAME = "imc_table01@digits"


@pytest.fixture(scope="module")
def made() -> Suite:
    return expand(NAME, CHOSEN, ["train=quick"], COMPOSER)


class Refusing(Composer):
    """A composer of a command that must compose nothing."""

    def plain(self, overrides: list[str]) -> dict[str, object]:
        raise AssertionError(f"composed {overrides}")


def files(cache: Path) -> list[Path]:
    return sorted((cache / FOLDER).glob("*"))


def test_kept_cells_are_those_that_were_made(made: Suite, tmp_path: Path) -> None:
    kept = KeptCells(tmp_path)
    first = expand(NAME, CHOSEN, ["train=quick"], COMPOSER, kept)
    again = expand(NAME, CHOSEN, ["train=quick"], Refusing(), kept)
    assert len(files(tmp_path)) == 1
    assert first == again == made  # PlannedRun compares all but the way to build the run
    assert [job.run_id for job in again.jobs] == [job.run_id for job in made.jobs]


@pytest.mark.parametrize(
    ("name", "chosen"),
    [
        ("imc_table16", {}),  # values of the configuration
        ("imc_table08", {"seeds": ["0"]}),
        ("jackpots_table03", {"seeds": ["0"]}),
        ("sketching_figure02", {"seeds": ["0"]}),
    ],
)
def test_each_layout_keeps_its_cells(
    name: str, chosen: dict[str, list[str]], tmp_path: Path
) -> None:
    kept = KeptCells(tmp_path)
    wanted = expand(name, chosen, [], COMPOSER)
    assert expand(name, chosen, [], COMPOSER, kept) == wanted
    assert expand(name, chosen, [], Refusing(), kept) == wanted


def test_a_run_of_a_kept_cell_is_built_when_it_is_asked_for(made: Suite, tmp_path: Path) -> None:
    kept = KeptCells(tmp_path)
    expand(NAME, CHOSEN, ["train=quick"], COMPOSER, kept)
    again = expand(NAME, CHOSEN, ["train=quick"], COMPOSER, kept)
    for job, own in list(zip(again.jobs, made.jobs, strict=True))[::9]:
        assert job.run == own.run and outline_of(job.run) == job.outline


@pytest.mark.parametrize(
    ("chosen", "overrides"),
    [
        ({**CHOSEN, "seeds": ["0"]}, ["train=quick"]),
        (CHOSEN, ["train=quick", "train.lr=0.05"]),
        ({**CHOSEN, "table.metric": ["accuracy_best"]}, ["train=quick"]),
    ],
)
def test_another_table_has_cells_of_its_own(
    chosen: dict[str, list[str]], overrides: list[str], tmp_path: Path
) -> None:
    kept = KeptCells(tmp_path)
    one = expand(NAME, CHOSEN, ["train=quick"], COMPOSER, kept)
    other = expand(NAME, chosen, overrides, COMPOSER, kept)
    assert other == expand(NAME, chosen, overrides, COMPOSER)
    differ = [job.run_id for job in one.jobs] != [job.run_id for job in other.jobs]
    assert len(files(tmp_path)) == (2 if differ or one.cells != other.cells else 1)


def test_cells_of_other_code_are_not_read(
    made: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = KeptCells(tmp_path)
    expand(NAME, CHOSEN, ["train=quick"], COMPOSER, kept)
    monkeypatch.setattr(kept_module, "code_digest", lambda: "of other code")
    with pytest.raises(AssertionError, match="composed"):
        expand(NAME, CHOSEN, ["train=quick"], Refusing(), kept)


@pytest.mark.parametrize("damage", ["empty", "half", "flip", "folder"])
def test_a_damaged_file_is_made_again(damage: str, made: Suite, tmp_path: Path) -> None:
    kept = KeptCells(tmp_path)
    expand(NAME, CHOSEN, ["train=quick"], COMPOSER, kept)
    (path,) = files(tmp_path)
    intact = path.read_bytes()
    if damage == "folder":
        path.unlink()
        path.mkdir()
    else:
        contents = {"half": intact[: len(intact) // 2], "flip": intact.replace(b"s3", b"s4")}
        path.write_bytes(contents.get(damage, b""))
    assert expand(NAME, CHOSEN, ["train=quick"], COMPOSER, kept) == made
    assert path.read_bytes() == intact


def test_what_depends_on_further_files_is_not_kept(made: Suite, tmp_path: Path) -> None:
    kept = KeptCells(tmp_path / "cache")
    (tmp_path / "conf").mkdir()
    own = f"hydra.searchpath=[file://{tmp_path / 'conf'}]"
    path = kept.path(made.spec, (), (0,), [])
    assert path is not None and kept.path(made.spec, (), (0,), [own]) is None
    weights = tmp_path / "w.safetensors"
    weights.write_bytes(b"any")
    words = ["method=magnitude", "density=0.5", "start=dense", "retrain=finetune", "dataset=digits"]
    for chosen, there in (("torchvision", True), (str(weights), False)):
        overrides = [*words, "model=resnet50", f"start.weights={chosen}"]
        run = plan_run(build_plain(COMPOSER.plain(overrides)), tuple(overrides))
        write_cells(path, [Cell("row", "network", ((run,),))])
        assert path.is_file() == there
        path.unlink(missing_ok=True)


def test_a_cache_that_cannot_be_written_keeps_nothing(made: Suite, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    kept = KeptCells(tmp_path / "file")  # a file in the place of a folder refuses everyone
    assert expand(NAME, CHOSEN, ["train=quick"], COMPOSER, kept) == made
