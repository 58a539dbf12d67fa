"""Tables 3, 4 and 6 to 13 of the IMC paper: their runs against the paper's printed numbers, and
epochs counted by hand."""

from pathlib import Path

import pytest
from table_support import expanded, paper, plan_of

from runner.config.compose import Composer
from runner.errors import ConfigError
from runner.planning.costs import measure_net
from runner.suites.schema_tables import NetworksTable
from runner.suites.spec import read_spec
from runner.tables.render import write_table

# table -> images, share
DATA = {
    3: ("tiny_imagenet", 1.0),
    6: ("cifar100", 1.0),
    8: ("cifar10", 0.1),
    10: ("tiny_imagenet", 0.1),
    12: ("cifar100", 0.1),
}
# table of highest accuracies -> table of the same data at the found sparsity
BEST = {4: 3, 7: 6, 9: 8, 11: 10, 13: 12}
IMAGES = {"tiny_imagenet": 100_000, "cifar100": 50_000, "cifar10": 50_000}
COMPOSER = Composer()


@pytest.mark.parametrize("number", DATA)
def test_a_table_runs_at_the_sparsities_that_the_paper_prints_on_its_data(number: int) -> None:
    table, lines = expanded(number), paper(number)
    # both nets, thirteen rows in the paper's order
    assert list(table.cells) == [(line["method"], line["architecture"]) for line in lines]
    assert {(job.run.dataset.name, job.run.train_fraction) for job in table.jobs} == {DATA[number]}
    for line in lines:
        (jobs,) = table.cells[line["method"], line["architecture"]].candidates
        assert [job.run.seed for job in jobs] == [0, 1, 2] and {job.run.scale for job in jobs} == {
            1.0
        }
        asked = {job.run.density for job in jobs}
        assert asked == (
            {None} if line["sparsity"] == "0" else {round(1 - float(line["sparsity"]), 10)}
        )
        counted = [job.run.stage(name).recipe for job in jobs[:1] for name in job.run.epoch_column]
        # the level of an LTH row is the one that the paper trained to
        assert sum(recipe.epochs for recipe in counted if recipe) == int(line["epochs"])


@pytest.mark.parametrize(
    ("number", "levels"), [(3, (4, 3)), (6, (2, 3)), (8, (5, 7)), (10, (4, 6)), (12, (1, 2))]
)
def test_epochs_of_a_table_are_those_counted_by_hand(
    number: int, levels: tuple[int, int], tmp_path: Path
) -> None:
    # Six rows of one training; the LTH rows share the baseline's net and have a training for each
    # level; search and retraining of Continuous Sparsification; W*, two retrainings of 160 epochs
    # and, of fine-tuning, the 150 that are left.
    for model, level in zip(("resnet20", "resnet32"), levels, strict=True):
        needed = 6 * 160 + 3 * 160 * level + 2 * 160 + 10 + 160 + 160 + 150
        asked = 6 * 160 + 3 * 160 * (level + 1) + 2 * 160 + 170 + 170 + 160
        text = plan_of(expanded(number, models=[model], seeds=["0"]), tmp_path)
        dataset, share = DATA[number]
        assert "runs: 13;" in text and f"epochs: requested {asked}, needed {needed}\n" in text
        assert f"images: {round(needed * share * IMAGES[dataset]):,} to train on" in text


@pytest.mark.parametrize(("best", "found"), BEST.items())
def test_a_table_of_highest_accuracies_tries_what_table_2_tries_on_the_other_ones_data(
    best: int, found: int, tmp_path: Path
) -> None:
    table, fixed = (
        expanded(best, models=["resnet20"], seeds=["0"]),
        expanded(found, models=["resnet20"], seeds=["0"]),
    )
    second = expanded(2, models=["resnet20"], seeds=["0"])
    assert {
        (job.run.dataset.name, job.run.train_fraction, job.run.dataset.validation)
        for job in table.jobs
    } == {(*DATA[found], 0.1)}
    for place, cell in table.cells.items():
        tried = [jobs[0].run.density for jobs in cell.candidates]
        if place[0].startswith("IMC-"):  # they keep the sparsity found
            assert tried == [jobs[0].run.density for jobs in fixed.cells[place].candidates]
        else:
            assert tried == [jobs[0].run.density for jobs in second.cells[place].candidates]
    # 1 + 6 x 10 + 3 x 7 + 3; as in Table 2: tests/commands/test_plan.py counts its epochs by hand
    text = plan_of(table, tmp_path)
    assert "runs: 85;" in text and "epochs: requested 28660, needed 13751\n" in text
    assert len(expanded(best).jobs) == 2 * 3 * 85  # nets, seeds


@pytest.mark.parametrize("number", [*DATA, *BEST])
@pytest.mark.parametrize("variant", ["digits", "fashion_mnist"])
def test_a_table_in_small_keeps_rows_densities_and_share_of_the_images(
    number: int, variant: str, tmp_path: Path
) -> None:
    small, whole = expanded(number, f"@{variant}", seeds=["0"]), expanded(number, seeds=["0"])
    share = DATA[BEST.get(number, number)][1]
    assert {(job.run.dataset.name, job.run.train_fraction) for job in small.jobs} == {
        (variant, share)
    }
    assert {job.run.model.name for job in small.jobs} == {"resnet20", "resnet32"}
    assert small.cells.keys() == whole.cells.keys()
    for place, cell in small.cells.items():
        assert [[job.run.density for job in jobs] for jobs in cell.candidates] == [
            [j.run.density for j in jobs] for jobs in whole.cells[place].candidates
        ]
    scales = {job.run.scale for job in small.jobs}
    assert scales == ({30 / 160} if share == 1 else {1.0} if variant == "digits" else {0.1})
    title = write_table(small, tmp_path).splitlines()[0]
    assert (
        f"here on {variant}; width-16 nets" in title
        and "Tiny" not in title
        and "of the training images" not in title
    )
    assert title.count("reduced training samples") == (share < 1)


def test_titles_are_the_papers_and_say_how_imagenet_is_read(tmp_path: Path) -> None:
    titles = {
        number: write_table(expanded(number, seeds=["0"]), tmp_path).splitlines()[0]
        for number in (*DATA, *BEST)
    }
    reading = " (ImageNet taken to be Tiny-ImageNet)"
    for found, data in (
        (3, "ImageNet"),
        (6, "CIFAR-100"),
        (8, "CIFAR-10"),
        (10, "ImageNet"),
        (12, "CIFAR-100"),
    ):
        best, reduced = found + 1, " (reduced training samples)" if found > 7 else ""
        ending = reduced + (reading if data == "ImageNet" else "")
        assert (
            titles[found]
            == f"Table {found}: Accuracy with found sparsity by our IMC method on {data}{ending}"
        )
        assert titles[best] == f"Table {best}: Sparsity with highest accuracy on {data}{ending}"


@pytest.mark.parametrize("number", [3, 4, 10, 11])
def test_imagenet_has_two_readings(number: int) -> None:
    assert read_spec(f"imc_table{number:02d}").options == {
        "imagenet": ("tiny_imagenet", "imagenet_subset")
    }
    with pytest.raises(
        ConfigError, match="table.imagenet=imagenet is not a choice: tiny_imagenet, imagenet_subset"
    ):
        expanded(number, table__imagenet=["imagenet"])


@pytest.mark.parametrize("model", ["resnet20_w32", "resnet32_w32"])
def test_the_nets_take_images_of_64_pixels(model: str) -> None:
    (job,) = [j for j in expanded(3, models=[model], seeds=["0"]).jobs if j.run.density is None]
    net, small = (
        measure_net(job.run.dataset, job.run.model),
        measure_net(expanded(6, models=[model]).jobs[0].run.dataset, job.run.model),
    )
    # the pooling at the end is global: the same net but for 100 more outputs of 128 weights; every
    # convolution sees four times as many places
    assert net.prunable - small.prunable == 100 * 128
    assert net.forward - 200 * 128 == 4 * (small.forward - 100 * 128)


def test_what_several_tables_give_the_last_one_has_and_densities_go_to_rows_that_have_some() -> (
    None
):
    def spec(number: int) -> NetworksTable:
        found = read_spec(f"imc_table{number:02d}")
        assert isinstance(found, NetworksTable)
        return found

    def rows(number: int) -> dict[str, tuple[float, ...]]:
        return {row.label: row.density for row in spec(number).rows}

    assert rows(11) == rows(10) != rows(8) != rows(1)
    assert (
        rows(10)["Baseline"] == ()
        and rows(10)["SNIP"] == (0.65, 0.55)
        and rows(10)["LTH+FineTuning"] == (0.66, 0.53)
    )
    assert rows(1)["SNIP"] == (0.53, 0.55)  # another table's densities change nothing here
    assert not spec(10).best_of
    assert spec(11).best_of == spec(2).best_of and spec(11).overrides == (
        "train=imc",
        "train_fraction=0.1",
    )


def test_a_table_names_the_papers_anomalies_and_only_its_own(tmp_path: Path) -> None:
    third, fourth = (write_table(expanded(number, seeds=["0"]), tmp_path) for number in (3, 4))
    assert "printed as 6hrs and 8hrs" in third and "6hrs" not in fourth
    assert "SNIP has the same four numbers on both nets" in fourth
    assert "our reading of the method at the paper's sparsity" in fourth  # notes are shared
