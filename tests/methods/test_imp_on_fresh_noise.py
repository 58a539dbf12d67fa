"""Iterative magnitude pruning on noise that is drawn anew in every step: source.fresh=true.

The sketching paper does not say whether its noise is one fixed set (docs/methods/imp.md).
"""

import math
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
from support import compose_run, machine, perform_run
from test_imp_on_noise import NOISE, SEARCH, Loud, context, equal, on

from pruners.base import Batch
from pruners.selection.source import Normal, SparseNormal
from runner.data.base import Data
from runner.data.digits import Digits
from runner.engine.stages import run_stage
from runner.errors import ConfigError, Stopped
from runner.spec.identity import run_id

FRESH = [*NOISE, "source.fresh=true"]


def batches(
    folder: Path, *overrides: str, stage: str = "dense", epoch: int = 0, first: int = 0
) -> list[Batch]:
    """The batches of one epoch of a training, from a step on."""
    run = compose_run(*overrides)
    return list(context(run, folder).batches(run.stage(stage)).epoch(epoch, first))


def test_every_batch_of_every_epoch_and_level_is_new_and_repeatable(tmp_path: Path) -> None:
    found = {
        (stage, epoch): batches(tmp_path, *FRESH, stage=stage, epoch=epoch)
        for stage in ("dense", "train1")
        for epoch in (0, 1)
    }
    rows = [row for pass_ in found.values() for x, _ in pass_ for row in x.flatten(1)]
    assert len(torch.stack(rows).unique(dim=0)) == len(rows) == 4 * 1437  # no image twice
    again = batches(tmp_path / "again", *FRESH)
    for (x, y), (x2, y2) in zip(found["dense", 0], again, strict=True):
        assert torch.equal(x, x2) and torch.equal(y, y2)
    other = batches(tmp_path, *FRESH, "seed=1")
    assert not torch.equal(other[0][0], again[0][0])


def test_batches_have_the_sizes_of_those_of_the_training_set(tmp_path: Path) -> None:
    fixed, fresh = (batches(tmp_path, *words) for words in (NOISE, FRESH))
    assert [len(y) for _, y in fresh] == [len(y) for _, y in fixed]
    assert all(x.shape[1:] == (1, 8, 8) and x.dtype == torch.float32 for x, _ in fresh)
    last = batches(tmp_path, *FRESH, "train.batch_size=1436")
    assert [len(y) for _, y in last] == [1436, 1]  # also one image, from a source of two


def test_an_epoch_resumes_at_any_step_with_the_same_batches(tmp_path: Path) -> None:
    whole, rest = batches(tmp_path, *FRESH), batches(tmp_path, *FRESH, first=9)
    for (x, y), (x2, y2) in zip(whole[9:], rest, strict=True):
        assert torch.equal(x, x2) and torch.equal(y, y2)
    run = compose_run(*FRESH)
    with pytest.raises(ValueError, match="first_step=16 must be from 0 to 15"):
        context(run, tmp_path).batches(run.stage("dense")).epoch(0, 16)


def test_noise_is_standard_normal_with_uniform_labels(tmp_path: Path) -> None:
    found = [batch for epoch in range(3) for batch in batches(tmp_path, *FRESH, epoch=epoch)]
    x = torch.cat([x for x, _ in found]).double().flatten()
    labels = torch.cat([y for _, y in found])
    assert abs(float(x.mean())) < 4 / math.sqrt(len(x))
    assert abs(float(x.var()) - 1) < 4 * math.sqrt(2 / len(x))
    counts, expected = torch.bincount(labels, minlength=10).double(), len(labels) / 10
    # chi-squared, 9 degrees of freedom
    assert float(((counts - expected) ** 2 / expected).sum()) < 9 + 4 * math.sqrt(18)


def test_sparse_noise_has_each_place_in_one_image_of_each_batch(tmp_path: Path) -> None:
    sparse = [*SEARCH, "source=sparse_normal", "source.fresh=true"]
    for x, y in batches(tmp_path, *sparse)[:-1]:  # the last batch is smaller
        assert (torch.count_nonzero(x, dim=0) == 1).all() and len(x) == len(y)


def test_a_search_on_fresh_noise_sees_no_image_and_its_last_training_no_noise(
    tmp_path: Path,
) -> None:
    found, loud = (on(FRESH, tmp_path / str(i), data) for i, data in enumerate((Digits(), Loud())))
    assert {name: equal(loud[name], found[name]) for name in found} == {
        name: name != "train3" for name in found
    }
    fixed = on(NOISE, tmp_path / "fixed", Digits())
    assert not equal(found["dense"], fixed["dense"])
    run = compose_run(*FRESH)
    data: Data = context(run, tmp_path).data
    real = torch.cat([y for _, y in batches(tmp_path, *FRESH, stage="train3")])
    assert torch.equal(torch.bincount(real), torch.bincount(data.train.labels))


def test_an_interrupted_training_on_fresh_noise_ends_with_equal_bits(
    tmp_path: Path,
) -> None:
    run = compose_run(*FRESH)
    expected = perform_run(run, machine(tmp_path / "whole"))[1]
    steps = count()
    where = context(run, tmp_path / "parts")
    where.stop = lambda: next(steps) == 20  # in the second epoch of the dense net
    with pytest.raises(Stopped):
        run_stage(where, run.stage("dense"))
    resumed = perform_run(run, machine(tmp_path / "parts"))[1]
    assert all(equal(resumed[name], artefact) for name, artefact in expected.items())


def test_the_option_is_typed_and_its_default_changes_nothing() -> None:
    assert compose_run(*NOISE).stages[0].data == Normal()
    assert compose_run(*FRESH).stages[0].data == Normal(fresh=True)
    sparse = compose_run(*SEARCH, "source=sparse_normal", "source.fresh=yes")
    assert sparse.stages[0].data == SparseNormal(fresh=True)
    ids = [run_id(compose_run(*NOISE, *words)) for words in ([], ["source.fresh=false"])]
    assert ids[0] == ids[1] != run_id(compose_run(*FRESH))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([*NOISE, "source.fresh=often"], "source.fresh='often' must be true or false"),
        (
            ["method=snip", "density=0.1", "model=mlp", "source=normal", "source.fresh=true"],
            "source.fresh=true: it is for trainings on noise",
        ),
    ],
)
def test_values_without_effect_are_refused(words: list[Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        compose_run(*words)
