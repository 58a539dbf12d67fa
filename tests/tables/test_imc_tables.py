"""Tables 3, 4 and 6 to 13 of the IMC paper run the printed settings and hand-counted epochs."""

from pathlib import Path

import pytest
from support import COMPOSER
from table_support import expanded, paper, plan_of

from runner.errors import ConfigError
from runner.planning.costs import measure_net
from runner.suites.expand import expand
from runner.suites.schema_tables import NetworksTable
from runner.suites.spec import read_spec
from runner.tables.render import write_table

# table -> data set, training fraction
DATA = {
    3: ("tiny_imagenet", 1.0),
    6: ("cifar100", 1.0),
    8: ("cifar10", 0.1),
    10: ("tiny_imagenet", 0.1),
    12: ("cifar100", 0.1),
}
# table of highest accuracies -> table of the same data with found sparsities
BEST = {4: 3, 7: 6, 9: 8, 11: 10, 13: 12}
IMAGES = {"tiny_imagenet": 100_000, "cifar100": 50_000, "cifar10": 50_000}
OURS = "Magnitude at IMC's density and rewinding point (ours)"


def test_our_row_of_magnitude_can_be_left_out() -> None:
    shown, hidden = (
        expand("imc_table01@digits", {"table.ours": [value]}, [], COMPOSER)
        for value in ("shown", "hidden")
    )
    assert {row for row, _ in shown.cells} - {row for row, _ in hidden.cells} == {OURS}
    assert len(shown.jobs) - len(hidden.jobs) == 2 * 3  # networks x seeds
    assert [line.labels[0] for line in hidden.page.lines if line.labels[0] == OURS] == []


def test_our_row_of_magnitude_differs_from_rewinding_in_its_mask_alone() -> None:
    for number in (1, 2, 8, 12):
        table = expanded(number, seeds=["0"])
        for network in table.networks:
            (ours,), (theirs,) = (table.cells[row, network].jobs for row in (OURS, "IMC-Rewinding"))
            assert set(ours.overrides) ^ set(theirs.overrides) == {"method.mask.rule=magnitude"}
            assert ours.run.density == theirs.run.density
            assert ours.run.stages[0] == theirs.run.stages[0]  # W*
            mine, other = ours.run.stage("train"), theirs.run.stage("train")
            assert (mine.start, mine.recipe) == (other.start, other.recipe)


@pytest.mark.parametrize("number", DATA)
def test_a_table_runs_at_the_sparsities_of_the_paper_on_its_data(number: int) -> None:
    table, lines = expanded(number), paper(number)
    # both nets, thirteen rows in the order of the paper, and a row of ours
    printed = [(line["method"], line["architecture"]) for line in lines]
    assert list(table.cells) == [*printed, *((OURS, network) for network in table.networks)]
    assert {(job.run.dataset.name, job.run.train_fraction) for job in table.jobs} == {DATA[number]}
    for line in lines:
        (jobs,) = table.cells[line["method"], line["architecture"]].candidates
        assert [job.run.seed for job in jobs] == [0, 1, 2]
        assert {job.run.scale for job in jobs} == {1.0}
        requested = {job.run.density for job in jobs}
        assert requested == (
            {None} if line["sparsity"] == "0" else {round(1 - float(line["sparsity"]), 10)}
        )
        counted = [job.run.stage(name).recipe for job in jobs[:1] for name in job.run.epoch_column]
        # the level of an LTH row is that of the paper
        assert sum(recipe.epochs for recipe in counted if recipe) == int(line["epochs"])


@pytest.mark.parametrize(
    ("number", "levels"), [(3, (4, 3)), (6, (2, 3)), (8, (5, 7)), (10, (4, 6)), (12, (1, 2))]
)
def test_planned_epochs_of_a_table_agree_with_a_hand_count(
    number: int, levels: tuple[int, int], tmp_path: Path
) -> None:
    # Six rows have one training. The LTH rows share the net of the baseline and have a training per
    # level. Continuous Sparsification has a search and a retraining. IMC has ten epochs to W*, two
    # retrainings of 160 epochs and a fine-tuning of the remaining 150; our row of magnitude
    # has another retraining.
    for model, level in zip(("resnet20", "resnet32"), levels, strict=True):
        needed = 6 * 160 + 3 * 160 * level + 2 * 160 + 10 + 160 + 160 + 150 + 160
        requested = 6 * 160 + 3 * 160 * (level + 1) + 2 * 160 + 170 + 170 + 160 + 170
        text = plan_of(expanded(number, models=[model], seeds=["0"]), tmp_path)
        dataset, share = DATA[number]
        assert "runs: 14;" in text and f"epochs: asked {requested}, needed {needed}\n" in text
        assert f"images: {round(needed * share * IMAGES[dataset]):,} to train on" in text


@pytest.mark.parametrize(("best", "found"), BEST.items())
def test_tables_of_highest_accuracies_have_the_candidates_of_table_2(
    best: int, found: int, tmp_path: Path
) -> None:
    table = expanded(best, models=["resnet20"], seeds=["0"])
    fixed = expanded(found, models=["resnet20"], seeds=["0"])
    second = expanded(2, models=["resnet20"], seeds=["0"])
    assert {
        (job.run.dataset.name, job.run.train_fraction, job.run.dataset.validation)
        for job in table.jobs
    } == {(*DATA[found], 0.1)}
    for key, cell in table.cells.items():
        tried = [jobs[0].run.density for jobs in cell.candidates]
        if key[0].startswith("IMC-") or key[0] == OURS:  # these rows keep the found sparsity
            assert tried == [jobs[0].run.density for jobs in fixed.cells[key].candidates]
        else:
            assert tried == [jobs[0].run.density for jobs in second.cells[key].candidates]
    # 1 + 6 x 10 + 3 x 7 + 3 + 1 runs; the epochs are those of Table 2 (tests/commands/test_plan.py)
    text = plan_of(table, tmp_path)
    assert "runs: 86;" in text and "epochs: asked 28830, needed 13911\n" in text
    assert len(expanded(best).jobs) == 2 * 3 * 86  # nets x seeds x runs


@pytest.mark.parametrize("number", [*DATA, *BEST])
@pytest.mark.parametrize("variant", ["digits", "fashion_mnist"])
def test_small_variants_keep_rows_densities_and_training_fraction(
    number: int, variant: str, tmp_path: Path
) -> None:
    small, whole = expanded(number, f"@{variant}", seeds=["0"]), expanded(number, seeds=["0"])
    share = DATA[BEST.get(number, number)][1]
    assert {(job.run.dataset.name, job.run.train_fraction) for job in small.jobs} == {
        (variant, share)
    }
    assert {job.run.model.name for job in small.jobs} == {"resnet20", "resnet32"}
    assert small.cells.keys() == whole.cells.keys()
    for key, cell in small.cells.items():
        assert [[job.run.density for job in jobs] for jobs in cell.candidates] == [
            [j.run.density for j in jobs] for jobs in whole.cells[key].candidates
        ]
    scales = {job.run.scale for job in small.jobs}
    assert scales == ({30 / 160} if share == 1 else {1.0} if variant == "digits" else {0.1})
    title = write_table(small, tmp_path).splitlines()[0]
    assert f"here on {variant}; width-16 nets" in title
    assert "Tiny" not in title
    assert "of the training images" not in title
    assert title.count("reduced training samples") == (share < 1)


def test_titles_are_those_of_the_paper_with_the_reading_of_imagenet(tmp_path: Path) -> None:
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
        "imagenet": ("tiny_imagenet", "imagenet_subset"),
        "ours": ("shown", "hidden"),
    }
    with pytest.raises(
        ConfigError, match="table.imagenet=imagenet is not a choice: tiny_imagenet, imagenet_subset"
    ):
        expanded(number, table__imagenet=["imagenet"])


@pytest.mark.parametrize("model", ["resnet20_w32", "resnet32_w32"])
def test_the_nets_accept_images_of_64_pixels(model: str) -> None:
    (job,) = [j for j in expanded(3, models=[model], seeds=["0"]).jobs if j.run.density is None]
    net = measure_net(job.run.dataset, job.run.model)
    small = measure_net(expanded(6, models=[model]).jobs[0].run.dataset, job.run.model)
    # The final pooling is global, so that only 100 outputs of 128 weights are added. Each
    # convolution is computed at four times as many positions.
    assert net.prunable - small.prunable == 100 * 128
    assert net.forward - 200 * 128 == 4 * (small.forward - 100 * 128)


def test_inherited_tables_merge_keys_and_densities_by_row() -> None:
    def spec(number: int) -> NetworksTable:
        found = read_spec(f"imc_table{number:02d}")
        assert isinstance(found, NetworksTable)
        return found

    def rows(number: int) -> dict[str, tuple[float, ...]]:
        return {row.label: row.density for row in spec(number).rows}

    assert rows(11) == rows(10) != rows(8) != rows(1)
    assert rows(10)["Baseline"] == ()
    assert rows(10)["SNIP"] == (0.65, 0.55)
    assert rows(10)["LTH+FineTuning"] == (0.66, 0.53)
    assert rows(1)["SNIP"] == (0.53, 0.55)  # the densities of other tables have no effect here
    assert not spec(10).best_of
    assert spec(11).best_of == spec(2).best_of
    assert spec(11).overrides == (
        "train=imc",
        "train_fraction=0.1",
    )


def test_notes_contain_the_anomalies_of_their_own_table_only(tmp_path: Path) -> None:
    third, fourth = (write_table(expanded(number, seeds=["0"]), tmp_path) for number in (3, 4))
    assert "printed as 6hrs and 8hrs" in third and "SNIP has the same four" not in third
    assert "SNIP has the same four numbers on both nets" in fourth
    assert "our reading of the method at the paper's sparsity" in fourth  # a shared note
