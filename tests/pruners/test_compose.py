"""ScorePruner: exact counts, rounds, masks that only shrink, and rejected options."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from small_nets import (
    linear,
    masks_of,
    mlp,
    pruner,
    resnet,
    same_masks,
    seeded,
    state_check,
    task,
)
from torch import Generator, nn

from pruners.base import Batch, LossFn, Masks, Scores, count_kept, count_prunable, full_masks
from pruners.scores.magnitude import Magnitude, Random
from pruners.scores.snip import Snip
from pruners.selection.allocate import Global, Layer
from pruners.selection.pick import Proportional, Sketch, Top, Uniform
from pruners.selection.source import Chi, Normal
from pruners.team import Team


@dataclass(frozen=True)
class Given:
    """A score with fixed values."""

    scores: tuple[float, ...]
    needs_data: ClassVar[bool] = False

    def __call__(
        self,
        model: nn.Module,
        masks: Masks,
        batches: Iterable[Batch],
        loss: LossFn,
        rng: Generator,
        memory: float,
        team: Team,
    ) -> Scores:
        assert not list(batches)  # without a source there are no batches
        return {name: torch.tensor(self.scores).view(mask.shape) for name, mask in masks.items()}


def rounds(*densities: float) -> Any:
    return lambda density: [*densities, density]


SCORES = [Random(), Magnitude(), Snip(bn="train"), Snip(bn="eval")]


@pytest.mark.parametrize("allocate", [Global(), Layer()])
@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("density", [1.0, 0.37, 0.01])
def test_every_score_reaches_its_density_exactly_and_zeroes_pruned_weights(
    score: Any, allocate: Any, density: float
) -> None:
    model, untouched = resnet(), resnet()
    masking = pruner(score, allocate=allocate)(model, full_masks(model), task(density))
    assert count_kept(masking.masks) == round(density * count_prunable(masking.masks))
    for name, parameter in model.named_parameters():
        before = untouched.get_parameter(name)
        assert torch.equal(
            parameter, before * masking.masks[name] if name in masking.masks else before
        )
    assert list(masking.masks) == list(full_masks(model))
    assert masking.train_weights
    assert not masking.trainable


@pytest.mark.parametrize("score", SCORES)
def test_pruning_changes_only_pruned_weights(score: Any) -> None:
    model = resnet()
    unchanged = state_check(model)
    pruner(score)(model, full_masks(model), task(1.0))  # density 1: no weight may change
    assert unchanged()


@pytest.mark.parametrize("score", SCORES)
def test_equal_seeds_give_equal_masks(score: Any) -> None:
    one, other = (
        pruner(score)(model, full_masks(model), task(0.3, seed=5)).masks
        for model in (resnet(), resnet())
    )
    assert same_masks(one, other)


@pytest.mark.parametrize("score", SCORES)
def test_masks_shrink_from_round_to_round_and_each_round_reports_progress(score: Any) -> None:
    reports: list[tuple[int, int, str]] = []
    found: list[Masks] = []

    @dataclass(frozen=True)
    class Watched:
        needs_data: ClassVar[bool] = score.needs_data

        def __call__(self, model: nn.Module, masks: Masks, *rest: Any) -> Scores:
            # each round scores weights that the previous round has set to zero
            assert all(not model.get_parameter(name)[~mask].any() for name, mask in masks.items())
            found.append(masks)
            return score(model, masks, *rest)

    model = resnet()
    report = lambda *args: reports.append(args)  # noqa: E731
    found.append(
        pruner(Watched(), schedule=rounds(0.6, 0.3))(
            model, full_masks(model), task(0.1, progress=report)
        ).masks
    )
    n = count_prunable(found[0])
    assert [count_kept(masks) for masks in found] == [round(d * n) for d in (1, 0.6, 0.3, 0.1)]
    assert all(
        not (later[name] & ~earlier[name]).any()
        for earlier, later in zip(found, found[1:], strict=False)
        for name in later
    )
    assert reports == [(1, 3, "pruning rounds"), (2, 3, "pruning rounds"), (3, 3, "pruning rounds")]


def test_one_shot_reports_no_rounds() -> None:
    reports: list[Any] = []
    model = mlp()
    pruner(Magnitude())(
        model, full_masks(model), task(0.5, progress=lambda *args: reports.append(args))
    )
    assert not reports


def test_magnitude_in_rounds_equals_magnitude_in_one_shot() -> None:
    one, many = mlp(), mlp()
    assert same_masks(
        pruner(Magnitude())(one, full_masks(one), task(0.1)).masks,
        pruner(Magnitude(), schedule=rounds(0.7, 0.2))(many, full_masks(many), task(0.1)).masks,
    )


def test_a_pruned_weight_stays_pruned_despite_a_high_score() -> None:
    # Scores 9, 8, 7, 6; the first two are pruned already, so half of four are the last two.
    model = linear([[1.0, 1.0, 1.0, 1.0]])
    given = {"weight": torch.tensor([[False, False, True, True]])}
    masking = pruner(Given((9.0, 8.0, 7.0, 6.0)))(model, given, task(0.5))
    assert masking.masks["weight"].tolist() == [[False, False, True, True]]
    assert given["weight"].tolist() == [[False, False, True, True]]
    assert masking.masks["weight"] is not given["weight"]


def test_negative_scores_rank_below_zero_and_the_count_is_exact() -> None:
    model = linear([[1.0, 1.0, 1.0, 1.0]])
    masking = pruner(Given((-3.0, 0.0, -1.0, -2.0)))(model, full_masks(model), task(0.75))
    assert masking.masks["weight"].tolist() == [[False, True, True, True]]


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_scores_that_are_not_finite_raise_and_nothing_is_pruned(bad: float) -> None:
    model = linear([[1.0, 1.0, 1.0]])
    with pytest.raises(FloatingPointError, match="1 of 3 scores of weight are NaN or infinite"):
        pruner(Given((1.0, bad, 2.0)))(model, full_masks(model), task(0.5))
    assert model.weight.tolist() == [[1.0, 1.0, 1.0]]


def test_magnitude_rejects_a_diverged_network() -> None:
    model = mlp()
    with torch.no_grad():
        model.fc2.weight[0, 0] = torch.nan
    with pytest.raises(FloatingPointError, match=r"scores of fc2.weight"):
        pruner(Magnitude())(model, full_masks(model), task(0.5))


@pytest.mark.parametrize(
    ("score", "options", "message"),
    [
        (Snip(), {"source": None}, "source=none: Snip is computed from data.* source=train"),
        (Magnitude(), {"allocate": None}, "allocate=none: .* allocate=global"),
        (
            Magnitude(),
            {"classifier": "kept"},
            "method.pruner.classifier='kept' must be one of pruned, dense",
        ),
        (Magnitude(), {"pick": None}, "pick=none: .* pick=top"),
        (Magnitude(), {"schedule": None}, "schedule=none: .* schedule=once"),
        (
            Magnitude(),
            {"when": "final", "pick": Proportional()},
            "method.pruner.when=final: the schedule has one round",
        ),
        (
            Magnitude(),
            {"when": "oneshot", "pick": Proportional()},
            "method.pruner.when=oneshot: the schedule has one round",
        ),
        (
            Magnitude(),
            {"when": "final", "schedule": lambda d: [0.9, d]},
            "method.pruner.when=final: pick=top draws nothing",
        ),
        (
            Magnitude(),
            {"when": "never"},
            "method.pruner.when='never' must be one of each, final, oneshot",
        ),
    ],
)
def test_missing_options_raise_before_anything_runs(
    score: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        pruner(score, **options)


def test_one_message_lists_all_missing_options() -> None:
    with pytest.raises(ValueError) as caught:
        pruner(Snip(), source=None, allocate=None, pick=None, schedule=None)
    assert [line.partition("=")[0] for line in str(caught.value).splitlines()] == [
        "allocate",
        "pick",
        "schedule",
        "source",
    ]


def test_a_missing_density_is_rejected() -> None:
    with pytest.raises(ValueError, match="density is missing"):
        pruner(Magnitude())(mlp(), full_masks(mlp()), task(None))


def test_the_random_score_draws_from_the_stream_of_its_task() -> None:
    model, rng = mlp(), seeded(11)
    expected = torch.rand((30, 64), generator=rng, dtype=torch.float64)
    scores = Random()(
        model, full_masks(model), (), nn.functional.cross_entropy, task(0.5, seed=11).rng
    )
    assert torch.equal(scores["fc1.weight"], expected)


@dataclass(frozen=True)
class Signed:
    """A score of both signs; its option `map` makes it non-negative."""

    map: str = "signed"
    needs_data: ClassVar[bool] = False

    def __call__(self, model: nn.Module, masks: Masks, *rest: Any) -> Scores:
        return {name: model.get_parameter(name).detach().abs() for name in masks}


@pytest.mark.parametrize("pick", [Proportional(), Sketch()])
def test_a_random_pick_requires_a_map_for_scores_of_both_signs(pick: Any) -> None:
    with pytest.raises(
        ValueError,
        match=(
            r"pick=(proportional|sketch) uses scores as probabilities, but Signed's have both"
            r" signs: add method.score.map=positive"
        ),
    ):
        pruner(Signed(), pick=pick)
    for score, allowed in ((Signed("positive"), pick), (Signed(), Top()), (Signed(), Uniform())):
        assert pruner(score, pick=allowed).score == score


def rounds_of(pick: Any, when: str, *densities: float, seed: int = 2) -> list[Masks]:
    """The masks that each round of scoring receives, and the final ones."""
    seen: list[Masks] = []

    @dataclass(frozen=True)
    class Watched:
        needs_data: ClassVar[bool] = False

        def __call__(self, model: nn.Module, masks: Masks, *rest: Any) -> Scores:
            seen.append(masks)
            return Magnitude()(model, masks, *rest)

    model = resnet()
    schedule = rounds(*densities) if densities else lambda density: [density]
    last = pruner(Watched(), pick=pick, when=when, schedule=schedule)(
        model, full_masks(model), task(0.1, seed=seed)
    ).masks
    return [*seen, last]


@pytest.mark.parametrize("pick", [Proportional(), Uniform()])
def test_a_random_pick_of_each_round_draws_inside_the_masks_of_the_previous_round(
    pick: Any,
) -> None:
    hard, drawn = (rounds_of(p, "each", 0.6, 0.3) for p in (Top(), pick))
    n = count_prunable(hard[0])
    assert [count_kept(masks) for masks in drawn] == [round(d * n) for d in (1, 0.6, 0.3, 0.1)]
    assert all(
        not (later[name] & ~earlier[name]).any()
        for earlier, later in zip(drawn, drawn[1:], strict=False)
        for name in later
    )
    assert not same_masks(drawn[1], hard[1])


@pytest.mark.parametrize("pick", [Proportional(), Uniform()])
def test_when_final_draws_only_in_the_last_round_inside_the_top_picks_masks(pick: Any) -> None:
    hard, drawn = (rounds_of(p, when, 0.6, 0.3) for p, when in ((Top(), "each"), (pick, "final")))
    assert all(same_masks(one, other) for one, other in zip(hard[:-1], drawn[:-1], strict=True))
    assert not same_masks(hard[-1], drawn[-1])
    assert not any((drawn[-1][name] & ~drawn[-2][name]).any() for name in drawn[-1])
    # scores do not change between rounds
    assert [int(m.sum()) for m in drawn[-1].values()] == [int(m.sum()) for m in hard[-1].values()]


@pytest.mark.parametrize("pick", [Proportional(), Uniform(), Sketch()])
def test_when_oneshot_ignores_the_schedule_and_prunes_in_one_round(pick: Any) -> None:
    short, long = rounds_of(pick, "each"), rounds_of(pick, "oneshot", 0.6, 0.3)
    assert len(short) == len(long) == 2 and same_masks(short[-1], long[-1])


def test_algorithm_1_runs_many_rounds_and_multiplies_their_factors() -> None:
    # The rounds are one per cent apart: the random count of one is often below that of the next.
    densities = [0.9 * 0.99**i for i in range(12)]
    for seed in range(5):
        model = mlp((5,))
        masking = pruner(Magnitude(), pick=Sketch(scaling="init"), schedule=lambda d: densities)(
            model, full_masks(model), task(0.8, seed=seed)
        )
        assert 0 < count_kept(masking.masks) < count_prunable(masking.masks)
        assert all(
            torch.equal(factor != 0, masking.masks[name])
            for name, factor in masking.factors.items()
        )
        assert len(masking.factors) == 2
        assert set(masking.report) == {"expected_kept", "draws"}


def test_noise_is_redrawn_in_each_round() -> None:
    inputs: list[torch.Tensor] = []

    @dataclass(frozen=True)
    class Watched:
        needs_data: ClassVar[bool] = True
        needs_labels: ClassVar[bool] = False

        def __call__(
            self, model: nn.Module, masks: Masks, batches: Iterable[Batch], *rest: Any
        ) -> Scores:
            inputs.append(next(iter(batches))[0])
            return Magnitude()(model, masks, (), *rest)

    for source in (Chi(), Normal(batch_size=4)):
        inputs.clear()
        model = mlp()
        pruner(Watched(), source=source, schedule=rounds(0.6, 0.3))(
            model, full_masks(model), task(0.1, image=(1, 8, 8))
        )
        assert len(inputs) == 3
        assert not torch.equal(inputs[0], inputs[1])
        assert not torch.equal(inputs[1], inputs[2])
        assert torch.equal(inputs[0], next(iter(source(task(0.1, image=(1, 8, 8)))))[0])


def test_only_picks_with_exact_counts_are_marked_exact() -> None:
    assert pruner(Magnitude()).exact
    assert pruner(Magnitude(), pick=Proportional()).exact
    assert not pruner(Magnitude(), pick=Sketch()).exact


# --- layers that a paper does not prune


def test_a_dense_classifier_is_neither_pruned_nor_counted() -> None:
    model = mlp()  # 1,920 + 600 + 200 weights
    found = pruner(Magnitude(), classifier="dense")(model, full_masks(model), task(0.1))
    # a tenth of 2,520
    assert list(found.masks) == ["fc1.weight", "fc2.weight"] and count_kept(found.masks) == 252
    assert model.get_parameter("fc3.weight").all()
    other = mlp()
    whole = pruner(Magnitude(), classifier="pruned")(other, full_masks(other), task(0.1))
    assert same_masks(whole.masks, masks_of(Magnitude(), mlp(), 0.1))
    assert count_kept(whole.masks) == 272


def test_the_dense_classifier_is_the_models_last_linear_layer_in_later_rounds_too() -> None:
    # The masks that a stage passes to the next one lack the classifier; the last linear layer among
    # them must not be taken for it.
    model = mlp()
    once = pruner(Magnitude(), classifier="dense")(model, full_masks(model), task(0.5))
    twice = pruner(Magnitude(), classifier="dense")(model, once.masks, task(0.1))
    assert list(twice.masks) == ["fc1.weight", "fc2.weight"] and count_kept(twice.masks) == 252


def test_a_net_of_one_linear_layer_is_rejected_with_a_solution() -> None:
    model = mlp(())
    with pytest.raises(
        ValueError,
        match=(
            "method.pruner.classifier=dense leaves no layer to prune: .* take"
            " method.pruner.classifier=pruned"
        ),
    ):
        pruner(Magnitude(), classifier="dense")(model, full_masks(model), task(0.5))
