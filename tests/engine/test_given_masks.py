"""Masks of a file: every form gives the masks that were saved, and what does not fit is named.

The networks are written here in plain PyTorch, and masks are drawn or written by hand.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import SMALL
from safetensors.torch import save_file
from support import compose_run, machine, perform_run
from test_others_weights import Net
from torch import Generator, Tensor, nn
from torch.nn.utils import prune

from pruners.base import Measurement, Task
from pruners.selection.given import Given
from runner.commands.run import run_config
from runner.config.build import build_run
from runner.config.compose import compose_config
from runner.data.digits import Digits
from runner.engine.given_masks import fitting_masks
from runner.engine.weights_file import masks_of
from runner.errors import ConfigError
from runner.spec.identity import run_id, stage_keys

Masks = dict[str, Tensor]
MLP = ["method=given", *SMALL, "model.hidden=[16]"]


class Plain(nn.Module):
    """The fully connected net of these tests: 64 pixels, 16 hidden units, 10 classes."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(64, 16), nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(torch.relu(self.fc1(x.flatten(1))))  # type: ignore[no-any-return]


LAYERS = ("fc1.weight", "fc2.weight")


def drawn(seed: int = 0, density: float = 0.3) -> tuple[Plain, Masks]:
    """A net and masks at random."""
    rng = Generator().manual_seed(seed)
    net = Plain()
    for parameter in net.parameters():
        parameter.data = torch.randn(parameter.shape, generator=rng) / 8
    shapes = {name: net.get_parameter(name).shape for name in LAYERS}
    return net, {n: torch.rand(s, generator=rng) < density for n, s in shapes.items()}


def split(net: Plain, masks: Masks) -> dict[str, Tensor]:
    """The state dict after torch.nn.utils.prune has put the masks on the layers."""
    for name, mask in masks.items():
        layer = net.get_submodule(name.removesuffix(".weight"))
        prune.custom_from_mask(layer, "weight", mask)  # type: ignore[no-untyped-call]
    return net.state_dict()


def buffers(net: Plain, masks: Masks) -> dict[str, Tensor]:
    """The state dict of layers that keep their mask in a buffer called `mask`."""
    for name, mask in masks.items():
        net.get_submodule(name.removesuffix(".weight")).register_buffer("mask", mask.float())
    return net.state_dict()


def prefixed(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {f"{prefix}{name}": tensor for name, tensor in tensors.items()}


Form = Callable[[Plain, Masks], Any]
SAFE: dict[str, Form] = {
    "masks alone": lambda net, masks: masks,
    "weights and masks": lambda net, masks: {
        **net.state_dict(),
        **{f"{name}_mask": mask for name, mask in masks.items()},
    },
    "groups": lambda net, masks: {
        **prefixed(net.state_dict(), "weights/"),
        **prefixed(masks, "masks/"),
    },
}
TORCH: dict[str, Form] = {
    "masks alone": lambda net, masks: {name: mask.to(torch.uint8) for name, mask in masks.items()},
    "beside the state dict": lambda net, masks: {"state_dict": net.state_dict(), "mask": masks},
    "by layer, with other numbers": lambda net, masks: {
        "model": prefixed(net.state_dict(), "module."),
        "masks": {name.removesuffix(".weight"): mask.float() for name, mask in masks.items()},
        "epoch": 3,
    },
    "torch.nn.utils.prune": split,
    "the same, wrapped and parallel": lambda net, masks: {
        "net": prefixed(split(net, masks), "module.")
    },
    "buffers": buffers,
    "of a bias that keeps everything": lambda net, masks: {
        **split(net, masks),
        "fc1.bias_orig": net.fc1.bias.detach(),
        "fc1.bias_mask": torch.ones(16),
    },
}
FORMS = [*((True, name) for name in SAFE), *((False, name) for name in TORCH)]


def saved(safe: bool, name: str, net: Plain, masks: Masks, path: Path) -> Path:
    content = (SAFE if safe else TORCH)[name](net, masks)
    if safe:
        save_file(content, path)
    else:
        torch.save(content, path)
    return path


def fitted(path: Path, *more: str) -> Any:
    run = compose_run(*MLP, f"method.masks={path}", *more)
    model = run.model(1, 10, 8, Generator())
    return fitting_masks(run.stage("masks").mask_file, model, run)


@pytest.mark.parametrize(("safe", "name"), FORMS)
def test_every_form_of_a_file_gives_the_masks_that_were_saved(
    safe: bool, name: str, tmp_path: Path
) -> None:
    net, masks = drawn()
    found = fitted(saved(safe, name, net, masks, tmp_path / "given"))
    assert list(found.masks) == list(LAYERS) and not found.missing
    for layer, mask in masks.items():
        assert found.masks[layer].dtype == torch.bool
        assert torch.equal(found.masks[layer], mask)


def test_masks_under_others_names_are_renamed_as_weights_are(tmp_path: Path) -> None:
    net, rng = Net("B", "downsample", "linear"), Generator().manual_seed(2)
    layers = {n: m for n, m in net.named_modules() if isinstance(m, (nn.Conv2d, nn.Linear))}
    masks = {n: torch.rand(m.weight.shape, generator=rng) < 0.5 for n, m in layers.items()}
    for name, mask in masks.items():
        prune.custom_from_mask(layers[name], "weight", mask)  # type: ignore[no-untyped-call]
    torch.save({"state_dict": net.state_dict()}, tmp_path / "given")
    run = compose_run("method=given", "model=resnet20", f"method.masks={tmp_path / 'given'}")
    model = run.model(1, 10, 8, Generator())
    found = fitting_masks(run.stage("masks").mask_file, model, run)
    # by hand, for a convolution, a shortcut and the classifier
    for theirs, ours in (
        ("layer2.0.conv1", "stage2.0.conv1"),
        ("layer2.0.downsample.0", "stage2.0.shortcut.conv"),
        ("linear", "fc"),
    ):
        assert torch.equal(found.masks[f"{ours}.weight"], masks[theirs])
    assert found.renamed is not None and "tensors found by name" in found.renamed
    kept = sum(int(mask.sum()) for mask in masks.values())
    assert sum(int(mask.sum()) for mask in found.masks.values()) == kept


def test_a_list_of_masks_is_paired_by_shape_if_asked(tmp_path: Path) -> None:
    net, masks = drawn()
    path = tmp_path / "given"
    torch.save({"model": net.state_dict(), "masks": list(masks.values())}, path)
    with pytest.raises(ConfigError, match="shapes agree: method.match=shape takes 0.weight"):
        fitted(path)
    found = fitted(path, "method.match=shape")
    assert all(torch.equal(found.masks[layer], mask) for layer, mask in masks.items())


def test_a_layer_without_a_mask_stays_dense_if_asked(tmp_path: Path) -> None:
    _, masks = drawn()
    path = tmp_path / "given"
    torch.save({"fc1.weight_mask": masks["fc1.weight"]}, path)
    with pytest.raises(ConfigError) as caught:
        fitted(path)
    assert "missing: fc2.weight" in str(caught.value)
    assert "method.missing=dense keeps" in str(caught.value)
    found = fitted(path, "method.missing=dense")
    assert found.missing == ("fc2.weight",) and found.masks["fc2.weight"].all()
    assert torch.equal(found.masks["fc1.weight"], masks["fc1.weight"])


def changed(**masks: Tensor | None) -> dict[str, Any]:
    """Masks of which some are replaced, or left out."""
    new = {f"{name}.weight": mask for name, mask in masks.items()}
    return {"mask": {n: m for n, m in {**drawn()[1], **new}.items() if m is not None}}


WRONG: dict[str, tuple[Any, str]] = {
    "missing": (changed(fc2=None), "missing: fc2.weight"),
    "another shape": (
        changed(fc1=torch.ones(16, 63)),
        "with another shape: fc1.weight (16, 63) instead of (16, 64)",
    ),
    "not binary": (
        changed(fc2=torch.full((10, 16), 0.5)),
        "a tensor has values other than 0 and 1: fc2.weight has 0.5",
    ),
    "NaN": (changed(fc2=torch.full((10, 16), torch.nan)), "fc2.weight has nan"),
    "of no layer": (changed(fc3=torch.ones(3)), "not in the network: fc3.weight"),
    "a pruned bias": (
        {**changed(), "fc1.bias_mask": torch.zeros(16)},
        "pruned, but only weights of layers can be: fc1.bias",
    ),
    "nothing kept": (
        changed(fc1=torch.zeros(16, 64), fc2=torch.zeros(10, 16)),
        "keeps no weight",
    ),
    "weights": (drawn()[0].state_dict(), "contains no masks: no name has a part mask"),
    "two of one layer": (
        {"fc1.weight_mask": torch.ones(16, 64), "fc1.mask": torch.ones(16, 64)},
        "several masks for a parameter",
    ),
    "sparse": (changed(fc1=torch.ones(16, 64).to_sparse()), "contains a sparse"),
    "no file": (None, "there is no such file"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_mask_that_does_not_fit_is_refused_by_name_before_any_work(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content, message = WRONG[name]
    path = tmp_path / "given"
    if content is not None:
        torch.save(content, path)
    dirs = [f"env.{key}_dir={tmp_path / key}" for key in ("results", "cache")]
    assert run_config(compose_config([*MLP, f"method.masks={path}", *dirs])) == 2
    error = capsys.readouterr().err
    assert f"method.masks={path}" in error and message in error and "Traceback" not in error
    assert not (tmp_path / "results" / "runs").exists() and not list(
        tmp_path.glob("cache/stages/*")
    )


def test_without_a_file_the_key_is_named() -> None:
    with pytest.raises(ConfigError, match=r"^method.masks is missing: name the file of masks"):
        compose_run(*MLP)
    with pytest.raises(ConfigError, match="the density is that of the file's masks"):
        compose_run(*MLP, "method.masks=x", "density=0.1")


def test_a_mask_for_another_method_or_under_another_key_is_answered_with_the_way_out() -> None:
    for words, message in (
        (["method=given", "mask=x"], r"did you mean 'method.masks'\? \(write method.masks=x\)"),
        (["method=snip", "density=0.1", "method.masks=x"], "it is one of method=given$"),
        (["method=snip", "density=0.1", "start=ticket"], "choices that have them: method=given$"),
    ):
        with pytest.raises(ConfigError, match=message):
            build_run(compose_config(words))


def test_the_content_of_the_file_and_not_its_path_identifies_the_run(tmp_path: Path) -> None:
    _, masks = drawn()
    runs = []
    for name, content in (("a", masks), ("b", masks), ("c", drawn(seed=1)[1])):
        save_file(content, tmp_path / name)
        runs.append(compose_run(*MLP, f"method.masks={tmp_path / name}"))
    a, b, c = runs
    assert run_id(a) == run_id(b) != run_id(c)
    assert stage_keys(a) == stage_keys(b)
    assert {name for name in stage_keys(a) if stage_keys(a)[name] != stage_keys(c)[name]} == {
        "masks",
        "prune",
        "train",
    }


def test_the_pruner_keeps_what_both_the_file_and_the_earlier_masks_keep() -> None:
    model = nn.Sequential(nn.Linear(2, 2, bias=False))
    model[0].weight.data = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    given = {"0.weight": torch.tensor([[True, False], [True, True]])}
    before = {"0.weight": torch.tensor([[True, True], [False, True]])}
    task: Any = Task(nn.CrossEntropyLoss(), lambda size: [], None, 0, Generator())
    task = Task(**{**vars(task), "measured": {"masks": Measurement(tensors=given)}})
    masking = Given()(model, before, task)
    assert masking.masks["0.weight"].tolist() == [[True, False], [False, True]]
    assert model[0].weight.tolist() == [[1.0, 0.0], [0.0, 4.0]]


def accuracy(net: nn.Module) -> float:
    """In percent on the test images of the digits, whose levels 0 to 16 become [0, 1]."""
    data = Digits().load(Path("data"), 1.0)
    pixels = data.train.images.double() / 16
    x = (data.test.images.double() / 16 - pixels.mean()) / pixels.std(correction=0)
    with torch.no_grad():
        hits = int((net.eval()(x.float()).argmax(1) == data.test.labels).sum())
    return 100 * hits / len(data.test.labels)


def test_a_ticket_of_one_file_starts_from_its_masked_weights(tmp_path: Path) -> None:
    net, masks = drawn(density=0.5)
    torch.save(split(net, masks), tmp_path / "ticket")
    run = compose_run(
        *MLP, f"method.masks={tmp_path / 'ticket'}", "start=ticket", "train.epochs=80"
    )
    record, artefacts = perform_run(run, machine(tmp_path))
    kept = sum(int(mask.sum()) for mask in masks.values())
    assert record["kept"] == kept and record["density"] == kept / (64 * 16 + 160)
    # torch's pruned layer computes with weight_orig * weight_mask
    for layer, mask in masks.items():
        expected = net.get_submodule(layer.removesuffix(".weight")).weight_orig.detach() * mask
        assert torch.equal(artefacts["dense"].weights[layer], expected)
        assert torch.equal(artefacts["prune"].weights[layer], expected)
        assert torch.equal(artefacts["train"].masks[layer], mask)
        assert not artefacts["train"].weights[layer][~mask].any()
        assert not torch.equal(artefacts["train"].weights[layer], expected)
    assert record["report"]["pretrained_accuracy"] == pytest.approx(accuracy(net), abs=1e-9)
    full = compose_run(*MLP, f"method.masks={tmp_path / 'ticket'}", "train.epochs=80")
    assert run.stage("train").recipe == full.stage("train").recipe  # the full learning rate


def test_masks_that_nothing_applies_are_refused_with_the_way_to_apply_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    net, masks = drawn()
    one, other = tmp_path / "one", tmp_path / "other"
    torch.save(split(net, masks), one)
    save_file(masks, other)
    dirs = [f"env.{key}_dir={tmp_path / key}" for key in ("results", "cache")]
    weights = [f"start.weights={one}", "start=dense", "retrain=finetune", *dirs]
    for words in (
        ["method=magnitude", "density=0.5", *MLP[1:]],
        [*MLP, f"method.masks={other}"],  # the masks of another file
    ):
        assert run_config(compose_config([*words, *weights])) == 2
        error = capsys.readouterr().err
        assert error.count("error:") == 1 and "which would not be applied" in error
        assert "method.masks=FILE start=ticket" in error
    # of the same file they are applied
    assert run_config(compose_config([*MLP, f"method.masks={one}", *weights])) == 0


def test_the_options_of_retraining_are_those_of_other_methods(tmp_path: Path) -> None:
    save_file(drawn()[1], tmp_path / "given")
    words = ["start=dense", "retrain=rewind", "retrain.rewind=20ep", "train.lr_schedule=cosine"]
    words += [*SMALL, "model.hidden=[16]", "train.epochs=80", "train.scale=0.05"]
    given = compose_run("method=given", f"method.masks={tmp_path / 'given'}", *words)
    other = compose_run("method=magnitude", "density=0.3", *words)
    assert given.stage("train") == other.stage("train")
    assert given.stage("train").start.epoch == 1 and given.stage("dense") == other.stage("dense")
    with pytest.raises(ConfigError, match="take retrain=finetune or retrain=reinit"):
        compose_run(*MLP, f"method.masks={tmp_path / 'given'}", "start=ticket", "retrain=rewind")


def test_names_of_masks_lead_to_their_parameters(tmp_path: Path) -> None:
    one = torch.ones(1)
    names = (
        "a.weight_mask",
        "mask.b.weight",
        "c.mask",
        "d.weight.mask",
        "masks/e.weight",
        "f_mask",
    )
    torch.save(dict.fromkeys(names, one), tmp_path / "given")
    found = masks_of(tmp_path / "given", frozenset()).state
    assert list(found) == [f"{layer}.weight" for layer in "abcdef"]
