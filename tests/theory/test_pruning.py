"""Magnitude pruning of students: recovered masks, levels worked by hand, exact nested masks."""

from typing import Any

import pytest
import torch
from torch import Generator

from models.student import Student
from pruners.base import Task
from pruners.theory import pruning
from pruners.theory.agd import Agd
from pruners.theory.pruning import Pruning, counts, largest_weights
from pruners.theory.students import Regression
from pruners.theory.trials import chunks, starts, trial_seeds
from runner.data.teacher import GaussianTeacher

DENSE = GaussianTeacher(dimension=12, neurons=3, inputs=12, teacher_inputs=3, samples=400)


def measured(teacher: GaussianTeacher, **options: Any) -> dict[str, Any]:
    task = Task(lambda a, b: a.sum(), lambda n: [], None, steps=0, rng=Generator().manual_seed(0))
    found = Pruning(teacher, **options)(
        Student("s", 3)(teacher.dimension, 1, 1, Generator()), {}, task
    )
    return {**found.report, **found.series}


def test_one_pruning_to_the_teachers_share_recovers_the_teachers_mask() -> None:
    found = measured(DENSE, keep=0.25, levels=1, trials=8, fresh=500)  # Sec. 4.1: r*/d = 3/12
    assert found["remaining"] == [100, 25] and found["proper"][1] == found["support_kept"][1] == 1
    assert max(found["test_error"]) < 1e-4


def test_pruning_below_the_teachers_share_fails_and_is_reported() -> None:
    found = measured(DENSE, keep=0.5, levels=4, trials=6, fresh=500)  # 18, 9, 4 (4.5), 2 of 36
    assert found["remaining"] == pytest.approx([100, 50, 25, 100 * 4 / 36, 100 * 2 / 36])
    assert found["test_error"][2] < 1e-4 < 0.05 < found["test_error"][3] < found["test_error"][4]
    assert found["support_kept"][3] == pytest.approx(4 / 9)
    assert found["proper_last"] == 0
    assert found["remaining_best"] >= 25


def test_levels_equal_one_trial_written_by_hand() -> None:
    measure = Pruning(
        DENSE, solver=Agd(steps=40, tolerance=0.0), keep=0.5, levels=2, trials=2, fresh=300
    )
    task = Task(lambda a, b: a.sum(), lambda n: [], None, steps=0, rng=Generator().manual_seed(5))
    found = measure(Student("s", 3)(12, 1, 1, Generator()), {}, task)
    rng = Generator().manual_seed(5)
    seeds = trial_seeds(2, rng)
    fresh = torch.randn(
        (300, 12), generator=Generator().manual_seed(trial_seeds(1, rng)[0]), dtype=torch.float64
    )
    errors = []
    for chunk in chunks(DENSE, seeds, torch.device("cpu"), 1e-6):
        start, mask = starts(chunk, 0.2)[0], torch.ones(3, 12, dtype=torch.bool)
        rows, w = [], torch.empty(0)
        for kept in (36, 18, 9):
            if len(w):
                flat = sorted(
                    (-abs(float(w[i, j])), i, j) for i in range(3) for j in range(12) if mask[i, j]
                )[:kept]
                mask = torch.zeros_like(mask)
                for _, i, j in flat:
                    mask[i, j] = True
            problem = Regression(chunk.problem.inputs, chunk.problem.targets, mask[None])
            w = Agd(steps=40, tolerance=0.0)(problem, (start * mask)[None]).weights[0]
            ours, theirs = ((fresh @ v.T).relu().mean(1) for v in (w, chunk.truth[0]))
            rows.append(
                float((ours - theirs).square().mean().sqrt() / theirs.square().mean().sqrt())
            )
        errors.append(rows)
    assert found.series["test_error"] == pytest.approx(
        torch.tensor(errors).mean(0).tolist(), rel=1e-5
    )


def test_masks_are_nested_and_exact_and_break_ties_by_index() -> None:
    w = torch.tensor([[[3.0, -1.0], [1.0, 5.0]], [[1.0, 1.0], [1.0, 1.0]]])
    masks = torch.tensor([[[True, True], [True, False]], [[True, True], [True, True]]])
    kept = largest_weights(w, masks, 2)
    assert kept.tolist() == [[[True, True], [False, False]], [[True, True], [False, False]]]
    assert counts(500, 0.8, 4) == [500, 400, 320, 256, 205]  # round(204.8)


def test_the_error_is_relative_to_the_teachers_output() -> None:
    truth, fresh = torch.tensor([[[1.0]], [[1.0]]]), torch.tensor([[2.0], [-1.0]])
    assert pruning.test_error(
        torch.tensor([[[1.5]], [[-1.0]]]), truth, fresh
    ).tolist() == pytest.approx([0.5, (4 + 1) ** 0.5 / 2])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"keep": 1.0}, "method.keep"),
        ({"levels": 0}, "method.levels"),
        ({"levels": 40}, "leave a weight"),
        ({"trials": 0}, "method.trials"),
    ],
)
def test_invalid_options_are_rejected(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Pruning(DENSE, **options)
    with pytest.raises(ValueError, match="pruning starts from a dense student"):
        Pruning(GaussianTeacher())
