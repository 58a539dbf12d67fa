"""FORCE and iterative SNIP (docs/methods/force.md): an independent implementation, whole runs."""

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small_nets import images, linear, mlp, pruner, resnet, same_masks, state_check, task
from support import compose_run, machine, perform_run
from torch import Tensor, nn
from torch.nn import functional as F

from pruners.base import Batch, Masks, count_kept, count_prunable, full_masks
from pruners.scores.force import Force
from pruners.scores.snip import Snip
from pruners.selection.allocate import Layer
from pruners.selection.pick import Proportional
from pruners.selection.schedule import Exponential, Once

ROUNDS, DENSITY = 7, 0.06
# a net of 1,184 weights, two epochs
SMALL = ["dataset=digits", "model=mlp", "model.hidden=[16]", "train.scale=0.0125", "density=0.1"]


def data() -> Batch:
    """Three batches of 32 images."""
    parts = [images(32, seed=seed) for seed in (1, 2, 3)]
    return torch.cat([x for x, _ in parts]), torch.cat([y for _, y in parts])


def reference(model: nn.Module, revive: bool, rounds: int = ROUNDS) -> list[Masks]:
    """The masks of every round: all scores in one vector, sorted; a batch of 32 for each round."""
    net = copy.deepcopy(model).train()
    weights = {
        f"{name}.weight": module.weight
        for name, module in net.named_modules()
        if isinstance(module, (nn.Conv2d, nn.Linear))
    }
    dense = {name: weight.detach().clone() for name, weight in weights.items()}
    sizes = [weight.numel() for weight in weights.values()]
    kept = torch.ones(sum(sizes), dtype=torch.bool)
    x, y = data()
    made = []
    for number in range(rounds):
        with torch.no_grad():
            for (name, weight), part in zip(weights.items(), kept.split(sizes), strict=True):
                weight.copy_(torch.where(part.view(weight.shape), dense[name], 0.0))
        net.zero_grad()
        at = slice(32 * (number % 3), 32 * (number % 3) + 32)
        F.cross_entropy(net(x[at]), y[at]).backward()
        grads = [weight.grad for weight in weights.values()]
        parts = zip(dense.values(), grads, strict=True)
        score = torch.cat([(w * g).abs().flatten() for w, g in parts if g is not None])
        if not revive:
            score[~kept] = -1.0
        order = torch.sort(score, descending=True, stable=True).indices
        total = round(DENSITY ** ((number + 1) / rounds) * sum(sizes))
        kept = torch.zeros(sum(sizes), dtype=torch.bool)
        kept[order[:total]] = True
        split = zip(weights.items(), kept.split(sizes), strict=True)
        made.append({name: part.view(weight.shape) for (name, weight), part in split})
    return made


def ours(model: nn.Module, score: Any, rounds: int = ROUNDS, **options: Any) -> Masks:
    chosen = {"schedule": Exponential(rounds), "batch_size": 32, **options}
    method = pruner(score, **chosen)
    net = copy.deepcopy(model)
    return method(net, full_masks(net), task(DENSITY, data())).masks


@pytest.mark.parametrize("net", [mlp, resnet])
@pytest.mark.parametrize("revive", [True, False])
def test_masks_equal_an_independent_implementation(
    net: Callable[[], nn.Module], revive: bool
) -> None:
    model = net()
    expected = reference(model, revive)
    found = ours(model, Force(revive))
    assert same_masks(found, expected[-1])
    assert count_kept(found) == round(DENSITY * count_prunable(found))
    # The rounds matter: with FORCE weights return, with iterative SNIP they never do.
    back = sum(
        int((late[n] & ~early[n]).sum())
        for early, late in zip(expected, expected[1:], strict=False)
        for n in early
    )
    assert back > 0 if revive else back == 0


def test_weights_return_and_the_scores_of_pruned_ones_equal_an_example_by_hand() -> None:
    # loss = |w1 x1 + w2 x2 + w3 x3 - 1| with x = (1, 1, 1) and w = (4, -3, 2): all have the
    # gradient +1 or -1, so scores are |w|, for the pruned ones, too. After (4, -3), a score of the
    # present net would be zero for the third.
    model = linear([[4.0, -3.0, 2.0]])
    masks = {"weight": torch.tensor([[True, True, False]])}
    x, y = torch.ones(2, 3), torch.ones(2)

    def loss(outputs: Tensor, labels: Tensor) -> Tensor:
        return (outputs[:, 0] - labels).abs().mean()

    found = Force(bn="eval").for_rounds(model, full_masks(model))(
        model, masks, [(x, y)] * 2, loss, torch.Generator()
    )
    # 4 - 3 = 1 gives |0|: no gradient, whatever the third weight, which is not in the masked net
    assert found["weight"].tolist() == [[0.0, 0.0, 0.0]]
    found = Force(bn="eval")(model, masks, [(x, 0 * y)], loss, torch.Generator())
    assert found["weight"].tolist() == [[4.0, 3.0, 2.0]]


@pytest.mark.parametrize("revive", [True, False])
def test_one_round_is_snip(revive: bool) -> None:
    model = resnet()
    assert same_masks(
        ours(model, Force(revive), schedule=Once()), ours(model, Snip(), schedule=Once())
    )


def test_iterative_snip_is_snip_in_rounds_on_one_batch() -> None:
    # With a pass of one batch every round reads the same images, as SNIP's rounds do.
    model = resnet()
    found = ours(model, Force(False), batch_size=96)
    assert same_masks(found, ours(model, Snip(), batch_size=96))
    assert not same_masks(found, ours(model, Force(), batch_size=96))


def test_rounds_read_one_batch_after_the_other_and_begin_again() -> None:
    model, seen = mlp(), list[float]()

    def batches(size: int) -> Iterator[Batch]:
        x, y = data()
        for part in zip(x.split(size), y.split(size), strict=True):
            seen.append(float(part[0][0, 0, 0, 0]))
            yield part

    method = pruner(Force(batches=2), batch_size=32, schedule=Exponential(4))
    method(model, full_masks(model), replace(task(DENSITY), batches=batches))
    first = [float(images(32, seed=seed)[0][0, 0, 0, 0]) for seed in (1, 2, 3)]
    assert seen == [*first, *first, *first[:2]]


@pytest.mark.parametrize("options", [{"allocate": Layer()}, {"pick": Proportional()}, {}])
@pytest.mark.parametrize("revive", [True, False])
def test_counts_are_exact_with_every_option(options: dict[str, Any], revive: bool) -> None:
    found = ours(mlp(), Force(revive), **options)
    assert count_kept(found) == round(DENSITY * count_prunable(found))


def test_weights_that_were_pruned_before_the_first_round_never_return() -> None:
    model = mlp()
    start = {
        name: torch.arange(mask.numel()).view(mask.shape) % 20 > 0
        for name, mask in full_masks(model).items()
    }
    with torch.no_grad():
        for name, mask in start.items():
            model.get_parameter(name).mul_(mask)
    method = pruner(Force(), schedule=Exponential(ROUNDS), batch_size=32)
    found = method(model, start, task(0.3, data())).masks
    assert not any((found[name] & ~start[name]).any() for name in start)
    assert count_kept(found) == round(0.3 * 2720)


def test_scoring_leaves_the_model_unchanged_and_pruning_only_clears_weights() -> None:
    model = resnet()
    unchanged = state_check(model)
    Force()(model, full_masks(model), [images()], F.cross_entropy, torch.Generator())
    assert unchanged()
    before = {name: t.clone() for name, t in model.state_dict().items()}
    method = pruner(Force(), schedule=Exponential(ROUNDS), batch_size=32)
    masks = method(model, full_masks(model), task(DENSITY, data())).masks
    for name, tensor in model.state_dict().items():
        kept = before[name] * masks[name] if name in masks else before[name]
        assert torch.equal(tensor, kept), name


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batches": 0}, "method.score.batches=0 must be at least 1"),
        ({"bn": "test"}, "method.score.bn='test' must be one of train, eval"),
        ({"chunk": 1}, "method.score.chunk=1 must be at least 2"),
    ],
)
def test_invalid_options_are_rejected(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Force(**options)


def test_a_last_batch_of_one_image_is_refused_if_a_round_reads_it() -> None:
    counts = torch.full((10,), 6) + (torch.arange(10) < 5)  # 65 images: 32, 32 and 1

    def check(rounds: int) -> None:
        pruner(Force(), schedule=Exponential(rounds), batch_size=32).check_images(
            counts, lambda: False
        )

    check(2)
    with pytest.raises(ValueError, match="one image, which BatchNorm cannot normalise"):
        check(3)


# --- whole runs


def test_a_run_has_ten_rounds_and_its_density(tmp_path: Path) -> None:
    run = compose_run("method=force", *SMALL)
    stage = run.stage("prune")
    assert (stage.component.score, stage.component.schedule) == (Force(), Exponential(10))
    record, artefacts = perform_run(run, machine(tmp_path))
    assert record["kept"] == count_kept(artefacts["train"].masks) == 118
    assert record["label"] == "FORCE"


def test_the_options_of_rounds_and_of_other_starts_are_those_of_all_scores() -> None:
    words = ["schedule.iterations=60", "method.score.revive=false", "start=dense"]
    run = compose_run("method=force", *SMALL, *words, "retrain=finetune")
    assert run.stage("prune").component.schedule.iterations == 60
    assert [stage.name for stage in run.essential] == ["dense", "prune", "train"]
