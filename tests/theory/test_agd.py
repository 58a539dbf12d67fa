"""Teachers, students and accelerated gradient descent: gradients, fixed points, trials."""

import math

import pytest
import torch
from torch import Tensor

from pruners.theory.agd import Agd, narrowed
from pruners.theory.students import Regression, distances, gradients, losses, outputs
from pruners.theory.trials import Chunk, chunks, starts
from runner.data.teacher import GaussianTeacher, Problems

SMALL = GaussianTeacher(dimension=12, neurons=3, inputs=6, teacher_inputs=4, samples=200)


def regression(drawn: Problems) -> Regression:
    return Regression(drawn.inputs, drawn.targets, drawn.masks)


def near(drawn: Problems, distance: float, seeds: list[int]) -> Tensor:
    return starts(Chunk(seeds, regression(drawn), drawn.weights, drawn.energy), distance)


def slow_agd(x: Tensor, y: Tensor, mask: Tensor, start: Tensor, solver: Agd) -> tuple[Tensor, int]:
    """One trial by autograd, one neuron at a time: x (N, d), y (N,), mask and start (K, d)."""
    before, now = start, start
    for step in range(1, solver.steps + 1):
        w = now.clone().requires_grad_()
        loss = (sum((x @ w[j]).relu() for j in range(len(w))) / len(w) - y).square().sum() / (
            2 * len(y)
        )
        (grad,) = torch.autograd.grad(loss, w)
        after = now - solver.eta * grad * mask + solver.beta * (now - before)
        small = float((after - now).norm()) < solver.tolerance * float(now.norm())
        before, now = now, after
        if small:
            return now, step
    return now, solver.steps


# --- data


def test_teachers_use_r_star_of_the_r_inputs_and_uniform_weights() -> None:
    drawn = SMALL.draw(range(300))
    assert drawn.inputs.dtype == drawn.targets.dtype == drawn.weights.dtype == torch.float64
    assert (drawn.masks.sum(2) == 6).all()
    assert ((drawn.weights != 0).sum(2) == 4).all()
    assert (drawn.weights[~drawn.masks] == 0).all()
    # 3,600 weights of variance 1/12; the standard error of a variance of uniform numbers is
    # sqrt((1/80 - 1/144) / n)
    kept = drawn.weights[drawn.weights != 0]
    assert float(kept.abs().max()) <= 0.5
    assert abs(float(kept.square().mean()) - 1 / 12) < 4 * math.sqrt((1 / 80 - 1 / 144) / len(kept))
    shares = drawn.masks.double().mean((0, 1))  # half of the 900 neurons use each input
    assert float((shares - 0.5).abs().max()) < 4 * math.sqrt(0.25 / 900)


def test_targets_are_the_mean_of_the_neurons_with_the_requested_noise() -> None:
    loud = GaussianTeacher(dimension=12, neurons=3, inputs=6, samples=20_000, noise=0.1)
    drawn = loud.draw([7])
    by_hand = sum((drawn.inputs[0] @ drawn.weights[0, j]).clamp(min=0) for j in range(3)) / 3
    assert float(drawn.energy[0]) == pytest.approx(float(by_hand.square().mean().sqrt()), rel=1e-12)
    noise = drawn.targets[0] - by_hand
    assert float(noise.std() / drawn.energy[0]) == pytest.approx(
        0.1, abs=4 * 0.1 / math.sqrt(2 * 20_000)
    )
    quiet = GaussianTeacher(dimension=12, neurons=3, inputs=6, samples=20_000).draw([7])
    assert torch.equal(quiet.targets[0], by_hand) or torch.allclose(
        quiet.targets[0], by_hand, atol=1e-14
    )
    assert torch.equal(quiet.weights, drawn.weights)  # another noise level keeps the teacher


@pytest.mark.parametrize(("dimension", "inputs", "energy"), [(300, 20, 0.62), (500, 100, 1.37)])
def test_outputs_have_the_documented_energy(dimension: int, inputs: int, energy: float) -> None:
    # docs/methods/sample_complexity.md, K = 5. Sums of five half-normals: mean^2 + variance, with
    # ||w||^2 about r / 12.
    drawn = GaussianTeacher(dimension=dimension, inputs=inputs, samples=400).draw(range(20))
    assert float(drawn.energy.mean()) == pytest.approx(energy, rel=0.05)


def test_a_trial_does_not_depend_on_the_other_trials_of_its_batch() -> None:
    together, alone = SMALL.draw([5, 6, 7]), SMALL.draw([6])
    assert torch.equal(together.inputs[1], alone.inputs[0])
    assert torch.equal(together.weights[1], alone.weights[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"inputs": 101}, "from 1 to dataset.dimension=100"),
        ({"teacher_inputs": 30}, "from 1 to dataset.inputs=20"),
        ({"noise": -1.0}, "dataset.noise=-1"),
    ],
)
def test_invalid_teachers_are_rejected(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GaussianTeacher(**options)


# --- gradients


def test_gradients_equal_finite_differences() -> None:
    drawn = SMALL.draw([0, 1])
    problem, w = regression(drawn), near(drawn, 0.7, [0, 1])
    found, h = gradients(problem, w), 1e-6
    for index in [
        (0, 0, 1),
        (0, 2, 11),
        (1, 1, 4),
        *[tuple(map(int, i)) for i in drawn.masks.nonzero()[:20]],
    ]:
        step = torch.zeros_like(w)
        step[index] = h
        slope = (losses(problem, w + step) - losses(problem, w - step))[index[0]] / (2 * h)
        # The loss is quadratic between kinks; a kink within h of a point changes the difference by
        # less than |e x^2| h.
        expected = float(slope) if bool(drawn.masks[index]) else 0.0
        assert float(found[index]) == pytest.approx(expected, abs=1e-6)


def test_outputs_of_a_student_equal_an_example_worked_by_hand() -> None:
    x = torch.tensor([[[1.0, 2.0], [-1.0, 1.0]]], dtype=torch.float64)
    w = torch.tensor([[[1.0, 1.0], [2.0, 0.0]]], dtype=torch.float64)
    assert outputs(x, w).tolist() == [[2.5, 0.0]]  # (3 + 2) / 2; (0 + 0) / 2


def test_the_teacher_is_a_fixed_point() -> None:
    drawn = SMALL.draw(range(4))
    assert float(gradients(regression(drawn), drawn.weights).flatten(1).norm(dim=1).max()) < 1e-12
    found = Agd(steps=500)(regression(drawn), drawn.weights)
    assert found.settled.all()
    assert (found.steps == 1).all()
    assert torch.allclose(found.weights, drawn.weights, rtol=0, atol=1e-12)


# --- the solver


@pytest.mark.parametrize(
    "solver",
    [
        Agd(eta=2.0, beta=0.9, steps=130),
        Agd(eta=0.5, beta=0.0, steps=70),
        Agd(eta=2.0, beta=0.5, steps=4000),
    ],
)
def test_the_solver_equals_the_algorithm_written_for_one_neuron_at_a_time(solver: Agd) -> None:
    seeds = [3, 4, 5]
    drawn = SMALL.draw(seeds)
    start = near(drawn, 0.3, seeds)
    found = solver(regression(drawn), start)
    for i in range(3):
        weights, steps = slow_agd(
            drawn.inputs[i], drawn.targets[i], drawn.masks[i], start[i], solver
        )
        assert torch.allclose(found.weights[i], weights, rtol=0, atol=1e-9)
        assert int(found.steps[i]) == steps and bool(found.settled[i]) == (steps < solver.steps)
        assert (found.weights[i][~drawn.masks[i]] == 0).all()


def test_the_solver_without_momentum_is_gradient_descent() -> None:
    drawn = SMALL.draw([1])
    problem, w = regression(drawn), near(drawn, 0.5, [1])
    found = Agd(eta=0.7, beta=0.0, steps=25, tolerance=0.0)(problem, w)
    for _ in range(25):
        w = w - 0.7 * gradients(problem, w)
    assert torch.allclose(found.weights, w, rtol=0, atol=1e-12)
    assert int(found.steps[0]) == 25
    assert not found.settled[0]


def test_trials_in_a_batch_end_like_single_trials() -> None:
    seeds = list(range(10, 19))
    drawn = SMALL.draw(seeds)
    solver, start = Agd(steps=900), near(drawn, 0.3, seeds)
    together = solver(regression(drawn), start, drawn.weights, trace=30)
    assert len(set(together.steps.tolist())) > 3  # trials end at different steps
    for i in range(len(seeds)):
        one = Regression(drawn.inputs[i : i + 1], drawn.targets[i : i + 1], drawn.masks[i : i + 1])
        alone = solver(one, start[i : i + 1], drawn.weights[i : i + 1], trace=30)
        assert int(alone.steps[0]) == int(together.steps[i])
        assert torch.allclose(alone.weights[0], together.weights[i], rtol=0, atol=1e-10)
        records = alone.trace.shape[1]
        assert torch.allclose(alone.trace[0], together.trace[i, :records], rtol=1e-6, atol=1e-12)
        # the trace of a finished trial stays constant
        assert (together.trace[i, records:] == together.trace[i, records - 1]).all()


def test_a_trace_contains_the_distances_during_training() -> None:
    seeds = [2]
    drawn = SMALL.draw(seeds)
    start = near(drawn, 0.3, seeds)
    trace = Agd(steps=60, tolerance=0.0)(regression(drawn), start, drawn.weights, trace=20).trace
    stops = [
        0.3,
        *(
            float(
                distances(
                    Agd(steps=n, tolerance=0.0)(regression(drawn), start).weights, drawn.weights
                )
            )
            for n in (20, 40, 60)
        ),
    ]
    assert trace[0].tolist() == pytest.approx(stops, rel=1e-9)


def test_the_theorys_step_size_lowers_the_loss_at_every_step_near_the_teacher() -> None:
    drawn = SMALL.draw(range(5))
    problem, w = regression(drawn), near(drawn, 0.1, list(range(5)))
    before = losses(problem, w)
    for _ in range(200):
        w = w - 3 / 14 * gradients(problem, w)  # eta = K / 14
        after = losses(problem, w)
        assert (after <= before).all()
        before = after


def test_a_step_size_that_is_too_large_is_reported_as_divergence() -> None:
    drawn = SMALL.draw([0, 1])
    found = Agd(eta=500.0, steps=2000)(regression(drawn), near(drawn, 0.2, [0, 1]))
    assert found.diverged.all() and not found.settled.any() and found.weights.isfinite().all()


def test_inputs_that_no_neuron_uses_are_removed() -> None:
    teacher = GaussianTeacher(dimension=30, neurons=2, inputs=3, samples=50)
    drawn = teacher.draw(range(6))
    seen, columns = narrowed(regression(drawn))
    assert seen.inputs.shape[2] == int(drawn.masks.any(1).sum(1).max()) <= 6
    w = near(drawn, 0.2, list(range(6)))
    assert torch.allclose(
        outputs(seen.inputs, w.gather(2, columns)), outputs(drawn.inputs, w), atol=1e-13
    )


# --- starts and chunks


def test_starts_have_exactly_the_requested_distance_and_respect_the_masks() -> None:
    drawn = SMALL.draw(range(5))
    w = near(drawn, 0.35, list(range(5)))
    assert distances(w, drawn.weights).tolist() == pytest.approx([0.35] * 5, rel=1e-12)
    assert (w[~drawn.masks] == 0).all()
    assert not torch.equal(w[0] - drawn.weights[0], w[1] - drawn.weights[1])


def test_chunks_fit_the_stated_memory_and_contain_every_trial_once() -> None:
    each = 8 * 200 * 12 / 1e6  # megabytes of a trial's inputs
    parts = list(chunks(SMALL, list(range(10)), torch.device("cpu"), 3.5 * each))
    assert [len(part.seeds) for part in parts] == [3, 3, 3, 1]
    assert [s for part in parts for s in part.seeds] == list(range(10))
    assert torch.equal(torch.cat([part.truth for part in parts]), SMALL.draw(range(10)).weights)
    smallest = next(chunks(SMALL, [0, 1], torch.device("cpu"), each / 10))
    assert len(smallest.seeds) == 1  # at least one trial
