"""SR-popup and edge-popup: the search against lists in float64, its gradient, its constraints.

Sources: docs/methods/sr_popup.md, docs/methods/edge_popup.md.
"""

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from math import ceil
from typing import Any

import pytest
import torch
from small_nets import images, linear, mlp, resnet, seeded, task
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F

from pruners.base import Masks, Task, count_kept, full_masks
from pruners.scores.grasp import Grasp
from pruners.scores.snip import Snip
from pruners.search.init import Init
from pruners.search.popup import EdgePopup, PopupMasking, SrPopup
from pruners.selection.allocate import Global, Layer
from pruners.selection.source import Balanced, Train
from runner.engine.optim import make_optimizer
from runner.spec.recipe import Recipe

EPOCHS, PER_EPOCH = 2, 4
STEPS = EPOCHS * PER_EPOCH
RECIPE = Recipe(epochs=EPOCHS, lr=0.1, batch_size=32, momentum=0.9, weight_decay=5e-4)


def about(density: float = 0.3, seed: int = 0, steps: int = STEPS, epochs: int = EPOCHS) -> Task:
    return replace(
        task(density, (images(160)[0], torch.arange(160) % 10), seed=seed),
        steps=steps,
        epochs=epochs,
        classes=10,
    )


def begin(
    model: nn.Module, search: Any = None, density: float = 0.3, seed: int = 0
) -> PopupMasking:
    return (search or SrPopup(Global()))(model, full_masks(model), about(density, seed))


def trained(model: nn.Module, masking: PopupMasking, lr: float = 0.1) -> Iterator[int]:
    """Train as the runner's loop does and yield after each step; batches differ from step to
    step."""
    opt = make_optimizer(model, masking, replace(RECIPE, lr=lr))
    for step in range(STEPS):
        x, y = images(32, seed=step)
        x = x.to(next(model.parameters()).dtype)
        F.cross_entropy(functional_call(model, masking.weights(model, step), (x,)), y).backward()
        masking.before_step(model, opt, step)
        opt.step()
        masking.after_step(model, step)
        model.zero_grad()
        opt.zero_grad()
        yield step


def on(masks: Masks) -> dict[str, set[int]]:
    return {name: set(mask.flatten().nonzero().flatten().tolist()) for name, mask in masks.items()}


# --- the start


def test_the_search_starts_from_the_magnitude_mask_of_all_layers_but_the_classifier() -> None:
    model = resnet()
    masking = begin(model, density=0.2)
    names = [name for name in full_masks(model) if name != "fc.weight"]
    assert list(masking.masks) == list(masking.trainable) == names
    sizes = torch.cat([model.get_parameter(name).detach().abs().flatten() for name in names])
    kept = set(
        sorted(range(len(sizes)), key=lambda i: (-float(sizes[i]), i))[: round(0.2 * len(sizes))]
    )
    assert (
        set(
            torch.cat([masking.masks[name].flatten() for name in names])
            .nonzero()
            .flatten()
            .tolist()
        )
        == kept
    )
    for name, m in masking.trainable.items():
        assert set(m.unique().tolist()) == {1.0, float(torch.tensor(0.99))}
        assert torch.equal(m == 1, masking.masks[name])
        assert torch.equal(
            masking.weights(model, 0)[name], model.get_parameter(name) * masking.masks[name]
        )


@pytest.mark.parametrize("criterion", ["snip", "grasp", "random", "uniform"])
def test_another_criterion_has_the_same_budgets_and_its_own_ranking(criterion: Any) -> None:
    model = resnet()
    by_size = begin(model)
    masking = begin(model, SrPopup(Global(), init=Init(criterion)))
    assert (
        masking.keep
        == by_size.keep
        == {name: int(mask.sum()) for name, mask in masking.masks.items()}
    )
    assert on(masking.largest) == on(by_size.masks) != on(masking.masks)
    own = about()
    layers = {name: mask for name, mask in full_masks(model).items() if name != "fc.weight"}
    if criterion == "uniform":
        order = {name: m.detach() for name, m in masking.trainable.items()}
        every = torch.cat([m.flatten() for m in order.values()])
        assert float(every.min()) >= 0 and float(every.max()) < 1
        assert abs(float(every.mean()) - 0.5) < 4 * (1 / 12 / len(every)) ** 0.5
    elif criterion == "random":
        overlap = sum(int((masking.masks[n] & by_size.masks[n]).sum()) for n in layers)
        expected = [k * k / layers[n].numel() for n, k in masking.keep.items()]
        variance = sum(
            e * (1 - k / layers[n].numel()) ** 2
            for e, (n, k) in zip(expected, masking.keep.items(), strict=True)
        )
        assert abs(overlap - sum(expected)) < 4 * max(variance, 1) ** 0.5
        return
    else:
        score, source = (Snip(), Train()) if criterion == "snip" else (Grasp(), Balanced())
        order = score(model, layers, source(own), own.loss, own.rng)
    for name, values in order.items():
        ranks = sorted(range(values.numel()), key=lambda i: (-float(values.flatten()[i]), i))
        assert on(masking.masks)[name] == set(ranks[: masking.keep[name]])


@pytest.mark.parametrize("criterion", ["snip", "grasp"])
def test_the_scores_of_a_first_mask_keep_to_the_bound_on_memory(criterion: Any) -> None:
    model = mlp()
    with pytest.raises(ValueError, match=r"env\.memory_gb=\S+ is not enough"):
        SrPopup(Global(), init=Init(criterion))(
            model, full_masks(model), replace(about(), memory=1.0)
        )


def test_budgets_can_follow_the_criterion_or_be_equal_in_every_layer() -> None:
    model = resnet()
    own = begin(model, SrPopup(Global(), init=Init("snip", budgets="criterion")))
    layers = {name: mask for name, mask in full_masks(model).items() if name != "fc.weight"}
    scores = Snip()(model, layers, Train()(about()), F.cross_entropy, seeded())
    assert own.keep == Global()(scores, layers, 0.3) != begin(model).keep
    equal = begin(model, SrPopup(Layer()))
    assert all(abs(k - 0.3 * layers[name].numel()) <= 1 for name, k in equal.keep.items())


@pytest.mark.parametrize(
    ("init", "score", "source"),
    [
        (Init("snip", bn="eval", batches=2, batch_size=20), Snip(2, "eval"), Train(20)),
        (
            Init("grasp", temperature=0.5, bn="eval", batches=3, per_class=2),
            Grasp(3, 0.5, "eval"),
            Balanced(2),
        ),
    ],
)
def test_the_first_mask_takes_the_options_of_its_criterion(
    init: Init, score: Any, source: Any
) -> None:
    model, own = resnet(), about()
    masking = begin(model, SrPopup(Global(), init=init))
    layers = {name: mask for name, mask in full_masks(model).items() if name != "fc.weight"}
    scores = score(model, layers, source(own), own.loss, own.rng)
    for name, values in scores.items():
        ranks = sorted(range(values.numel()), key=lambda i: (-float(values.flatten()[i]), i))
        assert on(masking.masks)[name] == set(ranks[: masking.keep[name]])
    for key in ("bn", "batches", "batch_size", "per_class", "temperature"):
        other = replace(init, **{key: getattr(Init, key)})  # each option matters
        if other != init:
            assert on(begin(model, SrPopup(Global(), init=other)).masks) != on(masking.masks), key


def test_a_searched_classifier_counts_like_other_layers() -> None:
    masking = begin(mlp(), SrPopup(Global(), classifier="searched"), density=0.5)
    assert "fc3.weight" in masking.masks and count_kept(masking.masks) == round(0.5 * 2720)
    assert count_kept(begin(mlp(), density=0.5).masks) == round(0.5 * 2520)


# --- the gradient


def test_the_gradient_of_a_score_is_weight_times_its_gradient_even_if_pruned() -> None:
    # Manual back-propagation through 64 - 12 - 10 in float64: dL/dm = dL/dW_eff * W, W_eff = W *
    # mask.
    model, (x, y) = mlp((12,)).double(), images()
    masking = begin(model, density=0.4)
    F.cross_entropy(functional_call(model, masking.weights(model, 0), (x.double(),)), y).backward()
    w1, b1, w2, b2 = (
        model.get_parameter(name).detach()
        for name in ("fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias")
    )
    mask, inputs = masking.masks["fc1.weight"], x.double().flatten(1)  # (32, 64)
    hidden = inputs @ (w1 * mask).T + b1  # (32, 12)
    logits = hidden.clamp(min=0) @ w2.T + b2  # (32, 10)
    errors = (
        logits.exp() / logits.exp().sum(1, keepdim=True) - torch.eye(10, dtype=torch.float64)[y]
    ) / len(y)
    expected = ((errors @ w2) * (hidden > 0)).T @ inputs * w1
    found = masking.trainable["fc1.weight"].grad
    assert found is not None
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-16)
    assert (found[~mask] != 0).all() and model.get_parameter("fc1.weight").grad is None


# --- the search


def test_two_steps_equal_an_example_worked_by_hand() -> None:
    # Weights 6..1, three kept, m = 1 or 0.99. Inputs x with x w = d give dL/dm = d (the output is
    # above the label), so a step of SGD at 0.1 gives m - 0.1 d. Step 0: m = .97 1 1 1.02 .99 .99:
    # the fourth could enter, the first leave; ceil(1 * 1) = 1 pair. Step 1: m = .97 .95 .98 1.02
    # 1.03 1.00: the top three are the last three; fifth and sixth could enter, second and third
    # leave; ceil(2 * (1/2)^4) = 1 pair.
    model = linear([[6.0, 5.0, 4.0, 3.0, 2.0, 1.0]])
    masking = SrPopup(Global(), classifier="searched")(
        model, full_masks(model), about(0.5, steps=2, epochs=1)
    )
    opt = torch.optim.SGD(masking.trainable.values(), lr=0.1)
    for step, (d, kept) in enumerate(
        [
            ([0.3, 0.0, 0.0, -0.3, 0.0, 0.0], [False, True, True, True, False, False]),
            ([0.0, 0.5, 0.2, 0.0, -0.4, -0.1], [False, False, True, True, True, False]),
        ]
    ):
        x = torch.tensor([d]) / model.weight.detach()
        (functional_call(model, masking.weights(model, step), (x,)) + 10).abs().sum().backward()
        opt.step()
        opt.zero_grad()
        masking.after_step(model, step)
        assert masking.masks["weight"].tolist() == [kept]
        assert masking.weights(model, step + 1)["weight"].tolist() == [
            [w if on else 0.0 for w, on in zip([6.0, 5.0, 4.0, 3.0, 2.0, 1.0], kept, strict=True)]
        ]
    # magnitude keeps the first three
    assert masking.series == {
        "swaps": [1.0, 1.0],
        "candidates": [1.0, 2.0],
        "overlap_magnitude": [1 - 4 / 6],
    }
    assert masking.report == {"overlap_magnitude": 1 - 4 / 6, "swaps": 2}


def by_lists(
    model: nn.Module, start: PopupMasking, share: Any, lr: float
) -> Iterator[dict[str, set[int]]]:
    """Alg. 1 with lists: gradients, SGD with momentum and decay written out, Eqs. 28 to 30 with
    sorted."""
    phi, keep = on(start.masks), start.keep
    m = {name: s.detach().clone() for name, s in start.trainable.items()}
    speed = {name: torch.zeros_like(s) for name, s in m.items()}
    for t in range(STEPS):
        x, y = images(32, seed=t)
        effective = {}
        for name in m:
            mask = torch.zeros(m[name].numel(), dtype=m[name].dtype)
            mask[list(phi[name])] = 1
            effective[name] = (
                model.get_parameter(name).detach() * mask.view(m[name].shape)
            ).requires_grad_()
        grads = torch.autograd.grad(
            F.cross_entropy(functional_call(model, effective, (x.to(mask.dtype),)), y),
            list(effective.values()),
        )
        for name, grad in zip(m, grads, strict=True):
            step = grad * model.get_parameter(name).detach() + 5e-4 * m[name]
            speed[name] = 0.9 * speed[name] + step if t else step
            m[name] = m[name] - lr * speed[name]
            values = m[name].flatten().tolist()
            falling = sorted(range(len(values)), key=lambda i: (-values[i], i))
            top = set(falling[: keep[name]])
            enter = [i for i in falling if i in top - phi[name]]
            leave = [i for i in falling if i in phi[name] - top]
            q = ceil(len(enter) * share(t))
            phi[name] = phi[name] - set(leave[len(leave) - q :]) | set(enter[:q])
        yield {name: set(kept) for name, kept in phi.items()}


@pytest.mark.parametrize(
    "search",
    [
        SrPopup(Global()),
        SrPopup(Global(), quota="all"),
        EdgePopup(Global()),
        SrPopup(Global(), quota="rising", exponent=2),
    ],
)
def test_every_step_matches_the_algorithm_written_with_lists(search: Any) -> None:
    model = mlp().double()  # no BatchNorm, so the reference can use the same net
    shares = {
        "falling": lambda t: Fraction(STEPS - t, STEPS) ** 4,
        "rising": lambda t: Fraction(t, STEPS) ** 2,
        "all": lambda t: Fraction(1),
    }
    masking = begin(model, search)
    # scores of edge-popup lie between 0 and 1, further apart
    lr = 2.0 if isinstance(search, EdgePopup) else 0.1
    reference = by_lists(model, begin(model, search), shares[getattr(search, "quota", "all")], lr)
    for _ in trained(model, masking, lr):
        assert on(masking.masks) == next(reference)
    # in each step some pairs could swap; otherwise the test shows little
    assert masking.counts[:, 1].min() > 0


def test_edge_popup_keeps_the_largest_scores_of_each_layer_after_every_step() -> None:
    model = resnet().to(memory_format=torch.channels_last)
    masking = begin(model, EdgePopup(Global()))
    first = on(masking.masks)
    for step in trained(model, masking):
        for name, m in masking.trainable.items():
            values = m.flatten().tolist()
            assert on(masking.masks)[name] == set(
                sorted(range(len(values)), key=lambda i: (-values[i], i))[: masking.keep[name]]
            )
        assert masking.counts[step, 0] == masking.counts[step, 1]
    assert on(masking.masks) != first


def test_a_quota_of_none_never_changes_the_mask_though_scores_move() -> None:
    model = resnet()
    masking = begin(model, SrPopup(Global(), quota="none"))
    first = on(masking.masks)
    scores = {name: m.detach().clone() for name, m in masking.trainable.items()}
    for _ in trained(model, masking):
        assert on(masking.masks) == first
    assert all(not torch.equal(m, scores[name]) for name, m in masking.trainable.items())
    assert masking.counts[:, 0].sum() == 0 < masking.counts[:, 1].sum()


@pytest.mark.parametrize(
    "search",
    [
        SrPopup(Global()),
        SrPopup(Global(), pairs="random"),
        SrPopup(Global(), pairs="smallest"),
        SrPopup(Global(), quota="one"),
    ],
)
def test_each_layer_keeps_its_count_and_swaps_at_most_its_quota(search: SrPopup) -> None:
    model = resnet().to(memory_format=torch.channels_last)
    masking = begin(model, search)
    before, restricted = on(masking.masks), 0
    for step in trained(model, masking, lr=0.5):
        now, total = on(masking.masks), 0
        for name, k in masking.keep.items():
            values = masking.trainable[name].flatten().tolist()
            top = set(sorted(range(len(values)), key=lambda i: (-values[i], i))[:k])
            candidates = len(top - before[name])
            q = (
                min(1, candidates)
                if search.quota == "one"
                else ceil(candidates * Fraction(STEPS - step, STEPS) ** 4)
            )
            assert len(now[name]) == k
            assert len(now[name] - before[name]) == len(before[name] - now[name]) == q
            # only candidates are swapped
            assert now[name] - before[name] <= top and not (before[name] - now[name]) & top
            total, restricted = total + q, restricted + (q < candidates)
        assert int(masking.counts[step, 0]) == total
        assert all(
            torch.equal(w, model.get_parameter(n) * masking.masks[n])
            for n, w in masking.weights(model, step).items()
        )
        before = now
    assert restricted > 0


def test_only_scores_are_trained_and_running_statistics_move() -> None:
    model = resnet()
    before = {name: t.clone() for name, t in model.state_dict().items()}
    masking = begin(model)
    opt = make_optimizer(model, masking, RECIPE)
    assert [id(p) for group in opt.param_groups for p in group["params"]] == [
        id(m) for m in masking.trainable.values()
    ]
    assert opt.param_groups[0]["weight_decay"] == 5e-4  # of the scores
    list(trained(model, masking))
    moved = {name for name, t in model.state_dict().items() if not torch.equal(t, before[name])}
    assert moved == {
        name
        for name in before
        if name.split(".")[-1] in ("running_mean", "running_var", "num_batches_tracked")
    }


def test_the_overlap_is_equation_7_with_the_magnitude_mask() -> None:
    model = mlp()
    masking = begin(model, EdgePopup(Global()))
    list(trained(model, masking))
    same = sum(int((masking.masks[n] == begin(model).masks[n]).sum()) for n in masking.masks)
    assert (
        masking.series["overlap_magnitude"][-1]
        == masking.report["overlap_magnitude"]
        == pytest.approx(same / 2520, abs=1e-12)
    )
    assert len(masking.series["overlap_magnitude"]) == EPOCHS
    assert len(masking.series["swaps"]) == STEPS
    assert masking.report["swaps"] == sum(masking.series["swaps"])


def test_a_density_of_one_keeps_every_weight_without_a_search() -> None:
    model = mlp()
    masking = begin(model, density=1.0)
    list(trained(model, masking))
    assert count_kept(masking.masks) == 2520
    assert masking.report == {"overlap_magnitude": 1.0, "swaps": 0}
    assert all(torch.equal(w, model.get_parameter(n)) for n, w in masking.weights(model, 0).items())


# --- invalid options


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: SrPopup(None),
            "allocate=none: a mask search fixes how many weights each layer keeps",
        ),
        (
            lambda: SrPopup(Global(), init=Init("norm")),
            (
                "method.search.init.criterion='norm' must be one of magnitude, snip, grasp, random,"
                " uniform"
            ),
        ),
        (
            lambda: SrPopup(Global(), init=Init("snip", temperature=1.0)),
            "method.search.init.temperature=1.0: criterion=snip does not read it; leave it out, or"
            " take criterion=grasp",
        ),
        (
            lambda: SrPopup(Global(), init=Init(bn="eval")),
            "method.search.init.bn=eval: criterion=magnitude does not read it; leave it out, or"
            " take criterion=snip or grasp",
        ),
        (
            lambda: SrPopup(Global(), init=Init("snip", batch_size=1)),
            "method.search.init.batch_size=1 must be at least 2",
        ),
        (
            lambda: SrPopup(Global(), init=Init(eta=1.0)),
            r"method.search.init.eta=1 must be in \[0, 1\)",
        ),
        (
            lambda: EdgePopup(Global(), init=Init("uniform", eta=0.5)),
            "eta=0.5: criterion=uniform draws all relaxed masks",
        ),
        (
            lambda: EdgePopup(Global(), classifier="pruned"),
            "method.search.classifier='pruned' must be one of dense, searched",
        ),
        (lambda: begin(linear([[1.0, 2.0]])), "classifier=dense leaves no layer to search"),
        (
            lambda: SrPopup(Global())(mlp(), full_masks(mlp()), replace(about(), density=None)),
            "density is missing",
        ),
        (
            lambda: SrPopup(Global())(
                mlp(), {n: torch.zeros_like(m) for n, m in full_masks(mlp()).items()}, about()
            ),
            "some are pruned already",
        ),
    ],
)
def test_invalid_searches_are_rejected(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_two_problems_are_reported_at_once() -> None:
    with pytest.raises(ValueError, match="quota='x'(.|\n)*eta=2 must|eta=2 must(.|\n)*quota='x'"):
        SrPopup(Global(), init=Init(eta=2.0), quota="x")


def test_ties_are_broken_by_tensor_index_in_channels_last_layout() -> None:
    model = nn.Sequential(nn.Conv2d(3, 2, 2, bias=False), nn.Flatten(), nn.Linear(2, 2)).to(
        memory_format=torch.channels_last
    )
    masking = SrPopup(Global(), quota="all")(
        model, full_masks(model), about(0.5, steps=2, epochs=1)
    )
    with torch.no_grad():
        masking.trainable["0.weight"].fill_(1.0)  # all equal: the first twelve of 24 are kept
    masking.after_step(model, 0)
    assert on(masking.masks)["0.weight"] == set(range(12))
