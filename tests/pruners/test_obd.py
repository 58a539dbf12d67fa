"""OBD (docs/methods/obd.md): diagonals, saliencies, invariances, and whole runs."""

import itertools
import math
from pathlib import Path

import pytest
import torch
from small_nets import (
    images,
    linear,
    masks_of,
    mlp,
    resnet,
    same_masks,
    seeded,
    state_check,
    task,
)
from support import compose_run, machine, perform_run
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from pruners.base import Batch, LossFn, Masks, count_kept, count_prunable, full_masks
from pruners.scores.obd import Obd, add_squares, along, factor_product, first
from runner.errors import ConfigError
from runner.spec.run import Start

SMALL = [
    "method=obd",
    "method.pruner.classifier=pruned",
    "dataset=digits",
    "model=mlp",
    "model.hidden=[16]",
    "train.scale=0.0125",
    "density=0.2",
]  # two epochs of 15 steps, twice
Diagonal = dict[str, Tensor]


def tiny(dtype: torch.dtype = torch.float64) -> nn.Module:
    """4-5-3 with tanh: 35 weights in two layers, a Hessian of both signs."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).to(dtype)


def points(count: int = 24) -> Batch:
    rng = seeded(1)
    return torch.randn(count, 4, generator=rng).double(), torch.randint(
        0, 3, (count,), generator=rng
    )


def cut(data: Batch, size: int) -> list[Batch]:
    return list(zip(data[0].split(size), data[1].split(size), strict=True))


def diagonal(
    estimator: str,
    model: nn.Module,
    data: list[Batch],
    loss: LossFn = F.cross_entropy,
    seed: int = 0,
    **options: int,
) -> Diagonal:
    return Obd(estimator=estimator, **options).diagonal(
        model, full_masks(model), data, loss, seeded(seed)
    )


def flat(tensors: Diagonal) -> Tensor:
    return torch.cat([t.flatten() for t in tensors.values()])


def explicit(model: nn.Module, data: Batch, loss: LossFn) -> tuple[Tensor, Tensor]:
    """Jacobian of the outputs (N, C, d) and Hessian of the mean loss (d, d) in the prunable
    weights, by autograd of a function of one vector."""
    names, (x, y) = list(full_masks(model)), data
    sizes = [model.get_parameter(n).numel() for n in names]

    def outputs(v: Tensor) -> Tensor:
        weights = {
            n: piece.view_as(model.get_parameter(n))
            for n, piece in zip(names, v.split(sizes), strict=True)
        }
        return functional_call(model, weights, (x,))

    point = flat({n: model.get_parameter(n).detach() for n in names})
    jacobian = torch.autograd.functional.jacobian(outputs, point)
    hessian = torch.autograd.functional.hessian(lambda v: loss(outputs(v), y), point)
    return jacobian, hessian


def gauss_newton(model: nn.Module, data: Batch) -> Tensor:
    """The full matrix J^T (diag p - p p^T) J of cross-entropy, mean over the images (d, d)."""
    jacobian, _ = explicit(model, data, F.cross_entropy)
    p = model(data[0]).detach().softmax(1)
    outer = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]  # (N, C, C)
    return torch.einsum("nci,nce,nej->ij", jacobian, outer, jacobian) / len(p)


# --- the diagonal


@pytest.mark.parametrize("size", [24, 7])
def test_gauss_newton_is_the_diagonal_of_the_full_matrix(size: int) -> None:
    model, data = tiny(), points()
    found = flat(diagonal("ggn", model, cut(data, size)))
    torch.testing.assert_close(found, gauss_newton(model, data).diagonal(), rtol=1e-10, atol=1e-14)
    assert (found >= 0).all()


def test_gauss_newton_of_a_linear_net_is_the_hessian() -> None:
    torch.manual_seed(0)
    model, data = nn.Linear(4, 3).double(), points()
    _, hessian = explicit(model, data, F.cross_entropy)
    torch.testing.assert_close(
        flat(diagonal("ggn", model, cut(data, 24))), hessian.diagonal(), rtol=1e-10, atol=1e-14
    )


def test_monte_carlo_fisher_is_within_four_standard_errors_of_its_expectation() -> None:
    model, data, draws = tiny(), points(), 500
    found = flat(diagonal("mc_fisher", model, cut(data, 24), draws=draws))
    expected = gauss_newton(model, data).diagonal().detach()
    # Variance of one draw for one image: sum_c p_c g_c^4 - (sum_c p_c g_c^2)^2, from gradients of
    # single images and classes.
    p, moments = model(data[0]).detach().softmax(1), torch.zeros(2, 24, 35, dtype=torch.float64)
    for i in range(24):
        for c in range(3):
            loss = F.cross_entropy(model(data[0][i : i + 1]), torch.tensor([c]))
            g = torch.cat(
                [
                    g.flatten()
                    for g in torch.autograd.grad(
                        loss, [model.get_parameter(n) for n in full_masks(model)]
                    )
                ]
            )
            moments[0, i] += p[i, c] * g.detach() ** 2
            moments[1, i] += p[i, c] * g.detach() ** 4
    torch.testing.assert_close(moments[0].mean(0), expected)
    error = ((moments[1] - moments[0] ** 2).detach().sum(0) / draws).sqrt() / 24
    assert float(((found - expected).abs() / error).max()) < 4
    assert not torch.equal(
        found, flat(diagonal("mc_fisher", model, cut(data, 24), draws=draws, seed=1))
    )


def test_random_signs_through_the_factor_are_unbiased_over_all_sign_vectors() -> None:
    # The mean over all 2^3 sign vectors is the exact diagonal, to rounding.
    model, (x, _) = tiny(), points()
    total = {n: torch.zeros_like(model.get_parameter(n)) for n in full_masks(model)}
    p = model(x).detach().softmax(1)
    for u in itertools.product((-1.0, 1.0), repeat=3):
        directions = factor_product(p, torch.tensor(u, dtype=p.dtype).expand_as(p))
        add_squares(total, model, x, directions, p.new_full((24,), 1 / (8 * 24)), along, 24)
    torch.testing.assert_close(
        flat(total), gauss_newton(model, points()).diagonal(), rtol=1e-10, atol=1e-14
    )


def test_the_factor_times_its_transpose_is_the_hessian_of_cross_entropy() -> None:
    logits = torch.randn(5, 4, generator=seeded(0), dtype=torch.float64)
    p, units = logits.softmax(1), torch.eye(4, dtype=torch.float64)
    columns = [factor_product(p, unit.expand_as(p)) for unit in units]  # of F: 4 times (5, 4)
    f = torch.stack(columns, 2)
    for i in range(5):
        hessian = torch.autograd.functional.hessian(
            lambda z: F.cross_entropy(z[None], torch.tensor([0])), logits[i]
        )
        torch.testing.assert_close(f[i] @ f[i].T, hessian, rtol=1e-10, atol=1e-14)


def test_random_signs_are_within_four_standard_errors_of_their_expectation() -> None:
    model, data, draws = tiny(), points(), 500
    found = flat(diagonal("ggn_rademacher", model, cut(data, 7), draws=draws))
    jacobian, _ = explicit(model, data, F.cross_entropy)  # (N, C, d)
    p = model(data[0]).detach().softmax(1)
    # Variance of one draw for one image, over all sign vectors.
    squares = torch.stack(
        [
            torch.einsum("nci,nc->ni", jacobian, factor_product(p, u.expand_as(p))) ** 2
            for u in torch.cartesian_prod(*[torch.tensor([-1.0, 1.0]).double()] * 3)
        ]
    )
    error = (squares.var(0, correction=0).sum(0) / draws).sqrt() / 24
    assert float(((found - squares.mean((0, 1))).abs() / error).max()) < 4
    other = diagonal("ggn_rademacher", model, cut(data, 7), draws=draws, seed=1)
    assert not torch.equal(found, flat(other))


def test_random_signs_do_not_degrade_where_the_net_is_sure() -> None:
    """One class has nearly all probability: a drawn label is nearly always that one, whose gradient
    vanishes; random signs keep the order of magnitude of the exact diagonal in every draw."""
    model, data = tiny(), points(200)
    with torch.no_grad():
        model[2].bias[0] = 12.0
    exact = flat(diagonal("ggn", model, [data]))
    share = [
        [
            float(flat(diagonal(estimator, model, [data], seed=seed)).sum() / exact.sum())
            for seed in range(10)
        ]
        for estimator in ("ggn_rademacher", "mc_fisher")
    ]
    assert 0.5 < min(share[0]) < max(share[0]) < 2.0
    assert min(share[1]) < 0.1


def test_labels_are_drawn_from_the_net_and_true_labels_are_not_used() -> None:
    model, (x, y) = tiny(), points()
    one, other = (
        flat(diagonal("mc_fisher", model, cut((x, labels), 24))) for labels in (y, (y + 1) % 3)
    )
    assert torch.equal(one, other)


def test_hutchinson_is_the_diagonal_of_the_hessian_where_that_is_positive() -> None:
    model, data, probes = tiny(torch.float32), points(), 500
    _, hessian = explicit(model.double(), data, F.cross_entropy)
    model.float()
    single = (data[0].float(), data[1])
    found = flat(diagonal("hutchinson", model, cut(single, 10), probes=probes)).double()
    off = hessian - torch.diag(hessian.diagonal())
    error = off.square().sum(1).sqrt() / math.sqrt(probes)  # of z_i sum_j h_ij z_j
    assert (hessian.diagonal() < -4 * error).any()  # otherwise the clamp is not tested
    assert float(((found - hessian.diagonal().clamp(min=0)).abs() / error).max()) < 4


def test_the_option_images_limits_the_pass_and_cuts_the_last_batch() -> None:
    model, (x, y) = tiny(), points()
    assert [len(labels) for _, labels in first(cut((x, y), 10), 13)] == [10, 3]
    assert [len(labels) for _, labels in first(cut((x, y), 10), 24)] == [10, 10, 4]
    assert [len(labels) for _, labels in first(cut((x, y), 10), 20)] == [10, 10]
    found = flat(diagonal("ggn", model, cut((x, y), 10), images=13))
    torch.testing.assert_close(
        found, gauss_newton(model, (x[:13], y[:13])).diagonal(), rtol=1e-10, atol=1e-14
    )


def test_convolutions_and_batchnorm_match_a_loop_over_single_images() -> None:
    # Slow reference: a backward pass for each image and class, in float64 and eval mode.
    model, (x, y) = resnet().double(), images(6)
    model(x.double())  # moves the running statistics
    scores = Obd("ggn")(
        model, full_masks(model), cut((x.double(), y), 4), F.cross_entropy, seeded(0)
    )
    model.eval()
    names = list(full_masks(model))
    total = {n: torch.zeros_like(model.get_parameter(n)) for n in names}
    for image in x.double():
        p = model(image[None])[0].softmax(0).detach()
        for c in range(10):
            loss = F.cross_entropy(model(image[None]), torch.tensor([c]))
            for n, g in zip(
                names,
                torch.autograd.grad(loss, [model.get_parameter(n) for n in names]),
                strict=True,
            ):
                total[n] += p[c] * g**2 / 6
    for n in names:
        torch.testing.assert_close(
            scores[n], total[n] * model.get_parameter(n).detach() ** 2 / 2, rtol=1e-9, atol=1e-18
        )


# --- the saliency


def test_removing_one_weight_raises_a_quadratic_loss_by_exactly_its_score() -> None:
    # Loss mean (w.x - y)^2 with orthogonal inputs: the Hessian is diagonal, so Hutchinson's
    # products are exact. The optimum is w = (3, 1, 2).
    x = torch.diag(torch.tensor([1.0, 4.0, 2.0]))
    w = torch.tensor([3.0, 1.0, 2.0])
    model, y = linear([w.tolist()]), x @ w
    mse: LossFn = lambda out, labels: (out.flatten() - labels).square().mean()  # noqa: E731
    found = Obd("hutchinson", probes=1)(model, full_masks(model), [(x, y)], mse, seeded(0))
    rises = [float(mse(x @ torch.where(torch.arange(3) == k, 0.0, w), y)) for k in range(3)]
    # x_k^2 w_k^2 / 3; magnitude would remove the second weight first
    assert rises == pytest.approx([3.0, 16 / 3, 16 / 3])
    assert found["weight"][0].tolist() == pytest.approx(rises)


def test_the_largest_saliencies_of_all_layers_are_kept() -> None:
    model = mlp((20,))
    scores = Obd("ggn")(model, full_masks(model), [images()], F.cross_entropy, seeded(0))
    values = flat(scores).tolist()
    wanted = set(
        sorted(range(len(values)), key=lambda i: (-values[i], i))[: round(0.3 * len(values))]
    )
    masks = masks_of(Obd("ggn"), model, 0.3)
    assert set(flat(masks).nonzero().flatten().tolist()) == wanted


def test_equal_curvature_gives_the_magnitude_ranking() -> None:
    # One logit against zero with inputs of +-1 gives every weight the same h.
    model = nn.Linear(6, 2, bias=False)
    x = torch.randint(0, 2, (16, 6), generator=seeded(0)).float() * 2 - 1
    h = diagonal("ggn", model, [(x, torch.zeros(16, dtype=torch.long))])["weight"]
    torch.testing.assert_close(h, h[:1, :1].expand(2, 6))
    scores = Obd("ggn")(
        model,
        full_masks(model),
        [(x, torch.zeros(16, dtype=torch.long))],
        F.cross_entropy,
        seeded(0),
    )["weight"]
    assert (
        scores.flatten().argsort().tolist()
        == model.weight.detach().abs().flatten().argsort().tolist()
    )


def test_scores_of_zero_weights_and_dead_units_are_zero() -> None:
    model = mlp((20,))
    with torch.no_grad():
        model.get_parameter("fc1.weight")[3].fill_(-1.0)
        model.get_parameter("fc1.bias")[3] = -1e4  # never active
        model.get_parameter("fc1.weight")[4, :7] = 0.0
    scores = Obd()(model, full_masks(model), [images()], F.cross_entropy, seeded(0))
    assert not scores["fc1.weight"][3].any()
    assert not scores["fc2.weight"][:, 3].any()
    assert not scores["fc1.weight"][4, :7].any()
    assert all((s >= 0).all() and s.any() for s in scores.values())


def test_the_scale_of_a_filter_before_batchnorm_does_not_change_its_scores() -> None:
    # In eval mode the running statistics scale with the filter, mean by c and variance by c^2; eps
    # is negligible.
    one, other = resnet().double().train(), resnet().double().train()
    with torch.no_grad():
        other.get_parameter("conv1.weight")[2] *= 3.0
    for model in (one, other):
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eps, module.momentum = 1e-15, 1.0
        model(images(64)[0].double())
    a, b = (
        Obd("ggn")(
            m, full_masks(m), [(images()[0].double(), images()[1])], F.cross_entropy, seeded(0)
        )
        for m in (one, other)
    )
    torch.testing.assert_close(a["conv1.weight"], b["conv1.weight"], rtol=1e-9, atol=1e-18)
    assert a["conv1.weight"][2].any()


@pytest.mark.parametrize("estimator", ["mc_fisher", "ggn", "ggn_rademacher", "hutchinson"])
def test_scoring_leaves_the_model_unchanged_and_repeats_under_its_seed(estimator: str) -> None:
    model = resnet()
    unchanged = state_check(model)
    score = Obd(estimator=estimator, probes=2)
    first_, second = (
        score(model, full_masks(model), cut(images(), 10), F.cross_entropy, seeded(3))
        for _ in range(2)
    )
    assert unchanged() and not any(s.requires_grad for s in first_.values())
    assert all(torch.equal(s, second[n]) for n, s in first_.items())
    assert list(first_) == list(full_masks(model))


def test_another_seed_draws_other_labels() -> None:
    assert not same_masks(masks_of(Obd(), mlp(), 0.1, seed=0), masks_of(Obd(), mlp(), 0.1, seed=1))
    assert same_masks(
        masks_of(Obd("ggn"), mlp(), 0.1, seed=0), masks_of(Obd("ggn"), mlp(), 0.1, seed=1)
    )


def test_an_empty_pass_is_rejected() -> None:
    with pytest.raises(ValueError, match="a curvature needs at least one image"):
        Obd()(mlp(), full_masks(mlp()), [], task(0.1).loss, seeded(0))


def test_a_diverged_net_is_rejected() -> None:
    model = mlp()
    with torch.no_grad():
        model.get_parameter("fc1.weight").fill_(math.inf)
    with pytest.raises(
        FloatingPointError, match="its training has diverged; take a smaller train.lr"
    ):
        Obd()(model, full_masks(model), [images()], F.cross_entropy, seeded(0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"images": 0}, "method.score.images=0 must be at least 1"),
        (
            {"draws": 0, "probes": 0},
            "method.score.draws=0 must be at least 1\nmethod.score.probes=0",
        ),
        (
            {"estimator": "fisher"},
            "method.score.estimator='fisher' must be one of mc_fisher, ggn, ggn_rademacher,"
            " hutchinson",
        ),
    ],
)
def test_invalid_options_are_rejected(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Obd(**options)


# --- whole runs


def test_a_run_prunes_once_and_fine_tunes_for_160_epochs_at_the_papers_rate() -> None:
    run = compose_run("method=obd", "dataset=cifar10", "model=resnet20", "train=imc", "density=0.1")
    assert [s.name for s in run.essential] == ["dense", "prune", "train"]
    assert run.stage("prune").component.score == Obd("ggn_rademacher")
    train = run.stage("train")
    assert train.start == Start("dense") and train.masks == "prune" and train.recipe is not None
    assert (train.recipe.epochs, train.recipe.lr, run.epoch_column) == (160, 0.1, ("train",))
    gentle = (
        compose_run(
            "method=obd",
            "dataset=cifar10",
            "model=resnet20",
            "train=imc",
            "density=0.1",
            "retrain.lr_factor=0.1",
        )
        .stage("train")
        .recipe
    )
    assert gentle is not None and gentle.lr == pytest.approx(0.01)


def test_an_untrained_net_is_rejected() -> None:
    with pytest.raises(
        ConfigError,
        match=(
            "start=init: method=obd takes the net to be at a minimum of its loss, so it prunes a"
            " trained one"
        ),
    ):
        compose_run(*SMALL, "start=init")


def test_a_run_prunes_the_trained_weights_and_keeps_the_masks(tmp_path: Path) -> None:
    record, artefacts = perform_run(compose_run(*SMALL), machine(tmp_path))
    masks: Masks = artefacts["prune"].masks
    assert record["kept"] == count_kept(masks) == round(0.2 * count_prunable(masks))
    assert record["label"] == "OBD"
    assert (record["epochs"], record["epochs_total"]) == (2, 4)
    for n, mask in masks.items():
        assert torch.equal(artefacts["prune"].weights[n], artefacts["dense"].weights[n] * mask)
        assert torch.equal(artefacts["train"].masks[n], mask)
        assert not artefacts["train"].weights[n][~mask].any()
