"""A prefixed measurement: the same findings under other names."""

import pytest
import torch
from imc_cases import Constant, constant_task, quartic

from pruners.analysis.prefixed import Prefixed
from pruners.base import Foreseen, Masks, Measurement, Task, Work, full_masks
from pruners.curvature.lipschitz import Lipschitz

WSTAR = torch.tensor([1.0, -2.0, 0.5, 3.0], dtype=torch.float64)
W0 = torch.tensor([1.5, -2.0, 0.0, 2.0], dtype=torch.float64)  # max|W0 - W*| = 1


def measured(measure: Lipschitz | Prefixed) -> Measurement:
    model = Constant(WSTAR)
    return measure(
        model,
        full_masks(model),
        constant_task(
            quartic, measured={"init": Measurement(tensors={"layer.weight": W0[:, None]})}
        ),
    )


def test_findings_get_the_prefix_and_keep_their_values() -> None:
    plain = measured(Lipschitz(directions=2)).report
    prefixed = measured(Prefixed("other", Lipschitz(directions=2))).report
    assert prefixed == {f"other_{key}": value for key, value in plain.items()}
    assert "other_lipschitz" in prefixed


def test_the_estimate_without_root_is_the_square_of_the_estimate_for_p_2() -> None:
    # without its root, |q|_2 becomes the sum of q^2; K = 2 B N with B = 1
    estimate = measured(Lipschitz()).report
    artefact = measured(Prefixed("artefact", Lipschitz(estimator="eq23_no_root"))).report
    n = estimate["lipschitz_n"]
    assert isinstance(n, float)
    assert artefact["artefact_lipschitz"] == pytest.approx(2 * n**2, rel=1e-12)
    assert estimate["lipschitz"] == pytest.approx(2 * n)


def test_tensors_and_series_are_prefixed_and_the_work_is_that_of_the_measurement() -> None:
    class Everything:
        def __call__(self, model: torch.nn.Module, masks: Masks, task: Task) -> Measurement:
            return Measurement({"a": torch.ones(1)}, {"b": 2}, {"c": [3.0]})

        def work(self, prunable: int, parameters: int, images: int) -> Work:
            return Work(prunable, parameters, images)

    prefixed = Prefixed("x", Everything())
    found = prefixed(torch.nn.Linear(1, 1), {}, constant_task(quartic))
    assert (found.tensors, found.report, found.series) == (
        {"x_a": torch.ones(1)},
        {"x_b": 2},
        {"x_c": [3.0]},
    )
    assert isinstance(prefixed, Foreseen) and prefixed.work(1, 2, 3) == Work(1, 2, 3)


def test_a_prefix_that_is_no_identifier_is_rejected() -> None:
    with pytest.raises(ValueError, match="name='a b'"):
        Prefixed("a b", Lipschitz())
