"""Hessian-vector products against matrices, finite differences, curvlinops and PyHessian."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from curvlinops import HessianLinearOperator
from imc_cases import (
    Constant,
    constant_task,
    conv_bn,
    digits,
    make_task,
    mlp,
    quadratic,
    snapshot,
    symmetric,
    train,
    unchanged,
)
from small_nets import resnet, seeded
from torch import Generator, Tensor, nn
from torch.func import functional_call, grad, jvp

from pruners.base import full_masks
from pruners.curvature.hessian import HessianOperator, HessianOptions, fold_batchnorm
from pruners.curvature.lanczos import as_matrix
from pruners.curvature.pyhessian_check import pyhessian_check
from pruners.curvature.samples import fixed_batches

DOUBLE = HessianOptions(dtype="float64")


def operator(model: nn.Module, options: HessianOptions = DOUBLE, **more: int) -> HessianOperator:
    task = make_task(*digits())
    return HessianOperator(
        model, full_masks(model), fixed_batches(task, options), task.loss, options, **more
    )


def vector(d: int, seed: int = 0) -> Tensor:
    return torch.randn(d, generator=Generator().manual_seed(seed), dtype=torch.float64)


def test_the_hessian_of_a_quadratic_is_its_matrix() -> None:
    a = symmetric(torch.linspace(-1, 5, 7))
    model = Constant(vector(7))
    task = constant_task(quadratic(a))
    h = HessianOperator(model, full_masks(model), fixed_batches(task, DOUBLE), task.loss, DOUBLE)
    torch.testing.assert_close(as_matrix(h.matvec, h.point), a)


def test_product_equals_the_central_difference_of_gradients() -> None:
    h = operator(train(mlp()))
    v, eps = vector(h.dimension), 1e-5
    plus, minus = h.gradient(h.point + eps * v), h.gradient(h.point - eps * v)
    torch.testing.assert_close(h.matvec(v), (plus - minus) / (2 * eps), rtol=1e-6, atol=1e-8)


def test_product_equals_the_forward_derivative_of_the_gradient() -> None:
    model = conv_bn()
    h = operator(model)
    fixed = {
        name: t.double()
        for name, t in model.state_dict().items()
        if name not in h.names and t.is_floating_point()
    }
    x, y = digits()

    def loss(weights: dict[str, Tensor]) -> Tensor:
        return F.cross_entropy(
            functional_call(h.unfolded.eval(), {**fixed, **weights}, (x.double(),)), y
        )

    v = vector(h.dimension)
    _, expected = jvp(grad(loss), (h.split(h.point),), (h.split(v),))
    torch.testing.assert_close(h.matvec(v), h.flatten(expected))


@pytest.mark.parametrize("params", ["prunable", "all"])
def test_product_equals_curvlinops(params: str) -> None:
    model = train(mlp()).double()
    h = operator(model, HessianOptions(params=params, dtype="float64"))
    x, y = digits()
    theirs = HessianLinearOperator(
        model,
        nn.CrossEntropyLoss(),
        [model.get_parameter(name) for name in h.names],
        [(x.double(), y)],
    )
    v = vector(h.dimension)
    torch.testing.assert_close(h.matvec(v), torch.as_tensor(theirs @ v).double())


def test_the_product_is_symmetric() -> None:
    h = operator(conv_bn())
    u, v = vector(h.dimension, 1), vector(h.dimension, 2)
    torch.testing.assert_close(u @ h.matvec(v), v @ h.matvec(u))


@pytest.mark.parametrize("batch_size", [1, 7, 150, 400, 512])
@pytest.mark.parametrize("cache_bytes", [0, 2**31])
def test_mini_batches_of_any_size_give_the_same_hessian(batch_size: int, cache_bytes: int) -> None:
    v = vector(196)
    expected = operator(conv_bn()).matvec(v)
    assert expected.abs().max() > 0.1
    cut = operator(
        conv_bn(), HessianOptions(dtype="float64", batch_size=batch_size), cache_bytes=cache_bytes
    )
    torch.testing.assert_close(cut.matvec(v), expected)


def test_cached_graphs_change_no_bit() -> None:
    v = vector(196).float()
    options = HessianOptions(batch_size=150)
    kept, rebuilt = operator(conv_bn(), options), operator(conv_bn(), options, cache_bytes=0)
    # room for the graph of the first mini-batch
    some = operator(conv_bn(), options, cache_bytes=int(kept._need.of(150)) + 1)
    for _ in range(2):
        assert torch.equal(kept.matvec(v), rebuilt.matvec(v))
        assert torch.equal(some.matvec(v), rebuilt.matvec(v))
    assert [len(h._graphs or {}) for h in (kept, some, rebuilt)] == [3, 1, 0]


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_the_callers_model_is_unchanged_bit_for_bit(mode: str) -> None:
    model = conv_bn().to(memory_format=torch.channels_last).train()
    model[0].eval()  # a mixture of modes
    model[5].bias.requires_grad_(False)
    x, y = digits()
    F.cross_entropy(model(x), y).backward()  # the model has gradients
    before = snapshot(model)
    h = operator(model, HessianOptions(mode=mode))
    h.matvec(torch.ones(h.dimension))
    h.gradient(h.point + 1)
    pyhessian_check(operator(model), Generator().manual_seed(0))
    assert unchanged(before, model)


def test_the_memory_format_of_the_model_does_not_matter() -> None:
    v = vector(196)
    torch.testing.assert_close(
        operator(conv_bn().to(memory_format=torch.channels_last)).matvec(v),
        operator(conv_bn()).matvec(v),
    )


def test_batch_statistics_give_another_hessian() -> None:
    v = vector(196)
    assert not torch.allclose(
        operator(conv_bn(), HessianOptions(mode="train", dtype="float64")).matvec(v),
        operator(conv_bn()).matvec(v),
        rtol=1e-3,
    )


def test_gradients_of_unselected_parameters_do_not_affect_the_hessian() -> None:
    h = operator(mlp())
    v = vector(h.dimension)
    before = h.matvec(v)
    h.gradient(h.point + 0.3)
    assert torch.equal(h.matvec(v), before)
    assert not torch.allclose(h.at(h.point + 0.3).matvec(v), before)
    torch.testing.assert_close(h.at(h.point).matvec(v), before)


def test_params_selects_conv_and_linear_weights_or_all_parameters() -> None:
    assert operator(conv_bn()).names == ["0.weight", "5.weight"]
    model = conv_bn()
    everything = operator(model, HessianOptions(params="all", dtype="float64"))
    assert everything.names == [name for name, _ in model.named_parameters()]
    assert everything.dimension == sum(p.numel() for p in model.parameters())


def test_flatten_and_split_are_inverse() -> None:
    h = operator(conv_bn())
    v = vector(h.dimension)
    assert torch.equal(h.flatten(h.split(v)), v)
    assert {name: t.shape for name, t in h.split(v).items()} == {
        "0.weight": (4, 1, 3, 3),
        "5.weight": (10, 16),
    }


def test_a_loss_linear_in_the_weights_has_hessian_zero() -> None:
    model = Constant(torch.ones(3))
    task = constant_task(lambda logits, _: logits.sum(1).mean())
    h = HessianOperator(
        model, full_masks(model), fixed_batches(task, HessianOptions()), task.loss, HessianOptions()
    )
    assert h.matvec(torch.ones(3)).tolist() == [0, 0, 0]


def test_the_fixed_samples_are_the_first_of_the_pass() -> None:
    x, y = digits()
    batches = fixed_batches(make_task(x, y), HessianOptions(n_samples=10, batch_size=4))
    assert [len(labels) for _, labels in batches] == [4, 4, 2]
    assert torch.equal(torch.cat([images for images, _ in batches]), x[:10])
    # the pass has no more
    assert (
        sum(
            len(labels)
            for _, labels in fixed_batches(make_task(x, y), HessianOptions(n_samples=10_000))
        )
        == 400
    )


def test_pyhessian_agrees_on_top_eigenvalue_and_trace() -> None:
    h = operator(train(mlp()))
    state = torch.get_rng_state()
    found = pyhessian_check(h, Generator().manual_seed(0))
    exact = torch.linalg.eigvalsh(as_matrix(h.matvec, h.point))
    assert found["pyhessian_lambda_max"] == pytest.approx(float(exact[-1]), rel=0.01)
    # PyHessian's default tolerance, at most 100 probes
    assert found["pyhessian_trace"] == pytest.approx(float(exact.sum()), rel=0.15)
    assert torch.equal(torch.get_rng_state(), state)


def test_pyhessian_density_still_fails_on_this_torch() -> None:
    # Once this test fails, PyHessian's density works again and can serve as an oracle for
    # `smoothed_sign`.
    from pyhessian import hessian

    x, y = digits()
    with pytest.raises(RuntimeError, match="torch.linalg.eig"), np.errstate(all="ignore"):
        hessian(mlp(), nn.CrossEntropyLoss(), data=(x[:50], y[:50]), cuda=False).density(
            iter=5, n_v=1
        )


def test_invalid_options_are_reported_at_once_with_their_full_key() -> None:
    with pytest.raises(ValueError) as error:
        HessianOptions(params="weights", n_samples=0, mode="off", dtype="bf16")
    assert str(error.value).splitlines() == [
        "method.hessian.params='weights' must be one of prunable, all",
        "method.hessian.mode='off' must be one of eval, train",
        "method.hessian.dtype='bf16' must be one of float32, float64",
        "method.hessian.n_samples=0 must be at least 1",
    ]


def test_folded_batchnorm_gives_the_same_products_and_gradients(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Oracle: the same operator on the net with its BatchNorm layers. Statistics and affine
    # parameters differ from their initial values, and one gamma is 0.
    model = train(resnet())
    with torch.no_grad():
        for bn in (m for m in model.modules() if isinstance(m, nn.BatchNorm2d)):
            bn.weight.copy_(torch.linspace(0, 2, len(bn.weight)))
            bn.bias.uniform_(-1, 1, generator=seeded(1))
    folded = operator(model)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.model.modules())
    monkeypatch.setattr("pruners.curvature.hessian.fold_batchnorm", lambda _: {})
    whole = operator(model)
    assert any(isinstance(m, nn.BatchNorm2d) for m in whole.model.modules())
    v, elsewhere = vector(whole.dimension), whole.point + 0.01 * vector(whole.dimension, 1)
    torch.testing.assert_close(folded.matvec(v), whole.matvec(v), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(
        folded.gradient(elsewhere), whole.gradient(elsewhere), rtol=1e-9, atol=1e-9
    )
    torch.testing.assert_close(
        folded.at(elsewhere).matvec(v), whole.at(elsewhere).matvec(v), rtol=1e-9, atol=1e-9
    )


class SharedConv(nn.Module):
    """A convolution that is called twice, each time followed by a BatchNorm: neither may be
    folded."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 3, padding=1, bias=False)
        self.one = nn.BatchNorm2d(1)
        self.two = nn.BatchNorm2d(1)

    def forward(self, x: Tensor) -> Tensor:
        return self.two(self.conv(self.one(self.conv(x)))).flatten(1)


def test_a_convolution_called_twice_keeps_its_batchnorm() -> None:
    model = SharedConv().eval()
    assert fold_batchnorm(model) == {}
    assert isinstance(model.one, nn.BatchNorm2d)
