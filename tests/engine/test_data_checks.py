"""Data that a run cannot use gives one message and exit code 2 before any stage."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from support import compose_run, machine
from torch import Tensor

from runner.commands.run import run_config
from runner.config.compose import compose_config
from runner.data.base import DataError, Info, Official, Split
from runner.data.image_set import ImageSet
from runner.engine.data_checks import checked_data
from runner.errors import ConfigError


def split(count: int, labels: Tensor | None = None, images: Tensor | None = None) -> Split:
    draws = torch.Generator().manual_seed(count)
    return Split(
        torch.randint(0, 256, (count, 1, 8, 8), generator=draws, dtype=torch.uint8)
        if images is None
        else images,
        torch.arange(count) % 4 if labels is None else labels,
    )


TRAIN, TEST = split(40), split(8)


@dataclass(frozen=True)
class Given(ImageSet):
    """A data set whose splits are class variables."""

    tag: ClassVar[str] = "given"
    name: str = "given"
    native: ClassVar[Info] = Info(channels=1, size=8, classes=4, train=40, test=8)
    train: ClassVar[Split] = TRAIN
    test: ClassVar[Split] = TEST

    def verify(self, data_dir: Path) -> None:
        """Nothing to verify."""

    def read(self, data_dir: Path) -> Official:
        return Official(self.train, self.test)


EMPTY = split(0, torch.zeros(0, dtype=torch.int64))
BAD: dict[str, tuple[Split, Split, str]] = {
    "empty test split": (TRAIN, EMPTY, "the test split has no images"),
    "empty training split": (EMPTY, TEST, "the training split has no images"),
    "label too large": (TRAIN, split(8, torch.full((8,), 4)), "test split has the label 4, exp"),
    "negative label": (split(40, torch.full((40,), -1)), TEST, "has the label -1, expected 0 to 3"),
    "labels of floats": (split(40, torch.zeros(40)), TEST, "training labels are torch.float32"),
    "fewer labels": (
        TRAIN,
        split(8, torch.zeros(7, dtype=torch.int64)),
        "one for each of 7 labels",
    ),
    "another size": (
        TRAIN,
        split(8, images=torch.zeros(8, 1, 9, 9, dtype=torch.uint8)),
        "test images are torch.uint8 (8, 1, 9, 9), expected torch.uint8 (8, 1, 8, 8)",
    ),
    "a constant channel": (
        split(40, images=torch.full((40, 1, 8, 8), 7, dtype=torch.uint8)),
        TEST,
        "a channel of the training images is constant",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_splits_that_do_not_fit_are_refused_with_the_data_sets_name(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    train, test, message = BAD[name]
    monkeypatch.setattr(Given, "train", train)
    monkeypatch.setattr(Given, "test", test)
    monkeypatch.setattr("runner.data.image_set.ready", lambda data_dir: [])  # takes seconds
    with pytest.raises(DataError) as caught:
        Given().load(tmp_path, 1.0)
    assert message in caught.value.problem
    assert str(caught.value).startswith("dataset=given cannot be used: ")
    run = replace(compose_run("method=dense", "dataset=digits"), dataset=Given())
    with pytest.raises(ConfigError, match="dataset=given cannot be used"):
        checked_data(run, machine(tmp_path), {"dense"})
    assert checked_data(run, machine(tmp_path), set()) is None


def command(tmp_path: Path, *overrides: str) -> int:
    folders = [f"env.results_dir={tmp_path / 'results'}", f"env.cache_dir={tmp_path / 'cache'}"]
    quiet = ["env.device=cpu", "env.progress=none"]
    return run_config(compose_config(["dataset=digits", *overrides, *folders, *quiet]))


def test_a_training_subset_that_is_too_small_is_refused_before_any_stage(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert command(tmp_path, "method=dense", "train_fraction=0.0001") == 2
    message = capfd.readouterr().err
    assert message.startswith("error: train_fraction=0.0001 keeps 0 of 1,437 training images")
    assert message.count("error:") == 1 and not list(tmp_path.glob("results/runs/*"))


@pytest.mark.parametrize(
    ("batch", "accepted"), [(359, False), (4, False), (360, True), (1437, True)]
)
def test_a_last_batch_of_one_image_is_refused_where_batchnorm_sees_one_pixel(
    batch: int, accepted: bool, tmp_path: Path
) -> None:
    # 1,437 = 4 x 359 + 1; three poolings reduce 8x8 pixels to one
    options = ["method=dense", "dataset=digits", "model=vgg11_small"]
    run = compose_run(*options, f"train.batch_size={batch}")
    if accepted:
        assert checked_data(run, machine(tmp_path), {"dense"}) is not None
        return
    with pytest.raises(ConfigError) as caught:
        checked_data(run, machine(tmp_path), {"dense"})
    (message,) = caught.value.messages
    assert f"batches of {batch}: the last batch of 1,437 training images has one image" in message
    working = [int(size) for size in message.split("own): ")[1].split(";")[0].split(", ")]
    assert len(working) == 3 and all(1437 % size != 1 and size > 1 for size in working)


def test_a_last_batch_of_one_image_is_accepted_where_maps_have_more_pixels(tmp_path: Path) -> None:
    run = compose_run("method=dense", "dataset=digits", "model=resnet20", "train.batch_size=359")
    assert checked_data(run, machine(tmp_path), {"dense"}) is not None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["source=balanced", "source.per_class=100", "train_fraction=0.1"],
            "source.per_class=100: class ",
        ),
        (
            ["model=vgg11_small", "source.batch_size=359", "method.score.batches=5"],
            "method.score.batches=5 with source.batch_size=359: the last of these batches",
        ),
        (["model=vgg11_small", "train.batch_size=359"], "stage train with batches of 359"),
        (["method=sr_popup", "train_fraction=0.05", "method.search.init.criterion=grasp"], "reads"),
    ],
)
def test_batches_that_cannot_be_made_are_refused_by_run_and_plan_before_any_work(
    options: list[str], message: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    method = [] if any(each.startswith("method=") for each in options) else ["method=snip"]
    for plan in ("false", "true"):
        assert command(tmp_path, *method, "density=0.3", *options, f"env.plan={plan}") == 2
        error = capfd.readouterr().err
        assert error.count("error:") == 1 and message in error, error
    assert not list(tmp_path.glob("results/runs/*"))


@pytest.mark.parametrize("options", [["method.score.batches=4"], ["method.score.bn=eval"]])
def test_a_score_that_stops_before_a_batch_of_one_image_is_accepted(
    options: list[str], tmp_path: Path
) -> None:
    several = [] if "batches" in options[0] else ["method.score.batches=5"]
    run = compose_run(
        "method=snip",
        "density=0.3",
        "model=vgg11_small",
        "source.batch_size=359",
        *several,
        *options,
    )
    assert checked_data(run, machine(tmp_path), {"prune"}) is not None
