"""portrait=curvature: overlap of masks by sampled Gauss-Newton diagonals with the exact one."""

from pathlib import Path

import pytest
from small_nets import images, mlp, seeded, state_check, task
from support import compose_run, machine, perform_run
from torch import Generator, nn
from torch.nn import functional as F

from pruners.analysis.curvature_overlap import CurvatureOverlap
from pruners.base import full_masks
from pruners.scores.obd import Estimator, Obd


def best(model: nn.Module, estimator: Estimator, kept: int, rng: Generator) -> set[int]:
    """Positions of the largest OBD scores, by sorting."""
    scores = Obd(estimator)(model, full_masks(model), [images()], F.cross_entropy, rng)
    values = [float(v) for s in scores.values() for v in s.flatten()]
    return set(sorted(range(len(values)), key=lambda i: -values[i])[:kept])


def test_overlaps_are_shares_of_the_exact_mask_by_density() -> None:
    model = mlp((20,))  # 1,480 weights
    unchanged = state_check(model)
    measure = CurvatureOverlap(densities=(0.5, 0.1), draws=1)
    found = measure(model, full_masks(model), task(None))
    assert unchanged()
    assert found.series["overlap_density"] == [0.5, 0.1]
    for place, kept in enumerate((740, 148)):
        rng = seeded(0)
        exact = best(model, "ggn", kept, rng)
        for estimator in ("mc_fisher", "ggn_rademacher"):
            share = len(exact & best(model, estimator, kept, rng)) / kept
            assert found.series[f"overlap_{estimator}_1"][place] == pytest.approx(share)


def test_more_draws_have_a_standard_error_and_a_mean() -> None:
    model = mlp((20,))
    found = CurvatureOverlap(draws=3)(model, full_masks(model), task(None)).report
    for estimator in ("mc_fisher", "ggn_rademacher"):
        name = f"overlap_{estimator}"
        assert 0 < found[f"{name}_1_se_0.1"] < 0.1
        assert found[f"{name}_3_0.1"] > found[f"{name}_1_0.1"]


def test_values_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError) as error:
        CurvatureOverlap(densities=(0.0,), draws=0)
    assert str(error.value).splitlines() == [
        "portrait.draws=0 must be at least 1",
        "portrait.densities=[0.0] must be in (0, 1]",
    ]


def test_the_portrait_is_measured_on_the_trained_net(tmp_path: Path) -> None:
    run = compose_run(
        "method=dense",
        "dataset=digits",
        "model=mlp",
        "model.hidden=[16]",
        "train.scale=0.0125",
        "portrait=curvature",
        "portrait.images=64",
        "portrait.draws=1",
    )
    record, _ = perform_run(run, machine(tmp_path))
    assert 0.3 < record["report"]["overlap_ggn_rademacher_1_0.1"] <= 1
    assert 0 < record["report"]["overlap_magnitude_0.05"] < 1


@pytest.mark.slow
@pytest.mark.parametrize("scale", ["0.025", "0.125"], ids=["4 epochs", "20 epochs"])
def test_one_pass_an_image_finds_most_of_the_exact_mask_on_a_trained_net(
    scale: str, tmp_path: Path
) -> None:
    run = compose_run(
        "method=dense",
        "dataset=digits",
        "model=resnet20",
        f"train.scale={scale}",
        "portrait=curvature",
        "portrait.densities=[0.1]",
        "portrait.draws=3",
    )
    record, _ = perform_run(run, machine(tmp_path))
    name, found = "overlap_ggn_rademacher_1", record["report"]
    # three standard errors of the mean over the draws: no lucky draws
    assert found[f"{name}_0.1"] - 3 * found[f"{name}_se_0.1"] > 0.94
    assert found["overlap_mc_fisher_1_0.1"] < found[f"{name}_0.1"]
