"""The command of a paper's setting is that of a table's row, or none is printed."""

import shlex

import pytest
from support import COMPOSER

from runner.config.build import build_plain
from runner.config.interpolation import resolve
from runner.config.unread import unread
from runner.spec.identity import run_id
from runner.spec.planned import PlannedRun
from runner.spec.run import Run
from runner.suites.expand import expand
from runner.suites.paper_rows import paper_command
from runner.suites.spec import read_spec, table_names

NUMBERED = [name for name in table_names() if read_spec(name).number is not None]


def built(words: list[str]) -> Run:
    return build_plain(COMPOSER.plain(words))


def command_of(words: list[str]) -> str | None:
    plain = COMPOSER.plain(words)
    return paper_command(build_plain(plain), resolve(plain).values, words, COMPOSER)


def words_of(command: str | None) -> list[str]:
    assert command is not None
    program, script, *words = shlex.split(command)
    assert (program, script) == ("python", "run.py")
    assert unread(COMPOSER.plain(words), words) == {}  # nothing in it is refused
    return words


def is_its_own_row(job: PlannedRun) -> bool:
    """Whether the command printed for a run of a table gives that run."""
    words = [word for word in job.overrides if not word.startswith("seed=")]
    return run_id(built(words_of(command_of(words)))) == job.run_id


# one table of each layout and kind of rows of each paper; the slow test has all
ROWS = [f"imc_table{i:02d}" for i in (1, 5, 14)] + [f"sketching_table{i:02d}" for i in (2, 3)]
ROWS += [f"jackpots_table{i:02d}" for i in (1, 3, 5, 8)]


@pytest.mark.parametrize("name", ROWS)
def test_the_papers_setting_of_each_row_of_a_table_is_that_row(name: str) -> None:
    cells = expand(name, {"seeds": ["0"]}, [], COMPOSER).cells.values()
    rows = {cell.row: cell for cell in cells if cell.jobs}
    assert [row for row, cell in rows.items() if not is_its_own_row(cell.jobs[0])] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", NUMBERED)
def test_the_papers_setting_of_each_entry_of_a_table_is_that_entry(name: str) -> None:
    cells = expand(name, {"seeds": ["0"]}, [], COMPOSER).cells
    jobs = [(key, job) for key, cell in cells.items() for job in cell.jobs]
    assert [key for key, job in jobs if not is_its_own_row(job)] == []


@pytest.mark.parametrize("name", ["sketching_table02", "jackpots_table01"])
def test_the_papers_setting_of_a_small_version_composes_and_is_the_papers(name: str) -> None:
    commands = [
        command_of([word for word in job.overrides if not word.startswith("seed=")])
        for cell in expand(f"{name}@digits", {"seeds": ["0"]}, [], COMPOSER).cells.values()
        for job in cell.jobs
    ]
    assert len([command for command in commands if command]) > len(commands) / 2
    for words in {tuple(words_of(command)) for command in commands if command}:
        run = built(list(words))
        assert (run.dataset.name, run.scale, run.train_fraction) == ("cifar10", 1.0, 1.0)


CIFAR = "dataset=cifar10"


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("method=imc", f"model=resnet20_w32 {CIFAR} train=imc retrain=rewind density=0.53"),
        ("method=dense dataset=mnist", f"model=resnet20_w32 {CIFAR} train=imc"),
        (
            "method=imp density=0.53 retrain=finetune",
            f"model=resnet20_w32 {CIFAR} train=imc retrain=finetune method.keep=0.9"
            " method.last_level=nearest density=0.53",
        ),
        # the density is in no table of the first paper, and in one of the second
        ("method=snip density=0.1", f"model=resnet20 {CIFAR} train=sketching density=0.1"),
        # the net of the paper, and an option that only the small run needs is left out
        (
            "method=sr_popup density=0.1 model=resnet32 method.batch_size=64",
            f"model=resnet32_w32a {CIFAR} train=jackpots method.epochs=30 density=0.1",
        ),
        (
            "method=rigl density=0.1 model=resnet50 dataset=imagenet",
            "model=resnet50 dataset=imagenet train=jackpots train.weight_decay=1e-4"
            " train.batch_size=256 train.epochs=100 density=0.1",
        ),
    ],
)
def test_the_command_is_that_of_the_row(typed: str, expected: str) -> None:
    method = typed.partition(" ")[0]
    assert command_of(typed.split()) == f"python run.py {method} {expected}"


@pytest.mark.parametrize(
    "typed",
    [
        "method=rigl density=0.1 model=resnet32",  # on CIFAR, no table has it
        "method=rigl density=0.53 train=imc",  # the paper of this training does not have it
        "method=magnitude density=0.53 train=imc",
        "method=sr_popup density=0.1 model=resnet20",  # a net that the paper does not have
        "method=snip density=0.3",
        "method=snip density=0.1 start=dense",
        "method=sr_popup density=0.1 model=resnet32 method.epochs=12",
        "method=imc model=lenet5",
        "method=grasp density=0.53 dataset=cifar100",
    ],
)
def test_nothing_is_printed_for_a_run_that_no_table_of_the_paper_has(typed: str) -> None:
    assert command_of(typed.split()) is None
