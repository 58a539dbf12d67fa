"""Weights loaded by `start.weights` replace a training: identity, file formats, errors, results."""

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file, save_file
from support import compose_run, machine, perform_run
from torch import Generator, Tensor, nn

import runner
from models.init import fresh
from runner.commands.run import run_config
from runner.config.compose import compose_config
from runner.config.instantiate import locate
from runner.display.progress import Watcher, display
from runner.engine.context import RunContext
from runner.engine.pretrained import downloaded, fitting
from runner.engine.stages import run_stage
from runner.engine.store import Store
from runner.errors import ConfigError, Stopped
from runner.paths import CONF
from runner.planning.costs import measure_net, stage_cost
from runner.spec.identity import canonical, run_id, stage_keys
from runner.spec.inputs import Weights
from runner.spec.pretrained import weights_of
from runner.spec.run import Run

NET = ["dataset=digits", "model=resnet20", "model.depth=8", "model.width=4", "train_fraction=0.3"]
# ten epochs of training, two of search
SEARCH = ["method=sr_popup", "density=0.2", "method.batch_size=64", "train.scale=0.0625", *NET]


def expected() -> dict[str, Tensor]:
    """A state dict of the net of NET, which the files contain."""
    model = compose_run(*SEARCH).model(1, 10, 8, Generator().manual_seed(5))
    with torch.no_grad():
        for tensor in model.buffers():
            tensor += 1
    return model.state_dict()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "net.safetensors"
    save_file(expected(), path)
    return path


def with_weights(path: object, *more: str) -> list[str]:
    return [*SEARCH, f"start.weights={path}", *more]


# --- identity


def test_start_weights_null_does_not_change_the_identity_of_a_run() -> None:
    for start in ("pretrained", "dense"):
        method = (
            ["method=sr_popup"]
            if start == "pretrained"
            else ["method=magnitude", "retrain=finetune"]
        )
        run, parts = (
            compose_run(*method, "density=0.2", f"start={start}", *NET, *more)
            for more in ([], ["start.weights=null"])
        )
        assert stage_keys(run) == stage_keys(parts) and run_id(run) == run_id(parts)
        assert "weights" not in canonical(run.stage("dense")) and run.stage("dense").kind == "train"
        assert stage_keys(run)["dense"] == stage_keys(compose_run("method=dense", *NET))["dense"]


def test_a_file_is_identified_by_its_content_and_not_by_its_path(
    file: Path, tmp_path: Path
) -> None:
    copy, other = tmp_path / "elsewhere" / "copy.safetensors", tmp_path / "other.safetensors"
    copy.parent.mkdir()
    shutil.copy(file, copy)
    save_file({name: tensor + 1 for name, tensor in expected().items()}, other)
    one, same, else_ = (compose_run(*with_weights(path)) for path in (file, copy, other))
    assert (run_id(one), stage_keys(one), one) == (run_id(same), stage_keys(same), same)
    assert all(stage_keys(one)[name] != stage_keys(else_)[name] for name in ("dense", "search"))
    content = f"sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}"
    assert one.stage("dense").weights == Weights(content)
    assert canonical(one.stage("dense").weights) == {
        "class": "pretrained_weights",
        "content": content,
    }
    assert (one.stage("dense").kind, one.stage("dense").recipe) == ("load", None)
    shutil.copy(other, file)
    assert stage_keys(compose_run(*with_weights(file))) == stage_keys(else_)


def test_torchvision_weights_are_identified_by_their_published_name() -> None:
    nets = {}
    for path in sorted((CONF / "model").glob("*.yaml")):
        entry = getattr(locate(OmegaConf.load(path)["_target_"], "model"), "torchvision", None)
        nets |= {path.stem: entry} if entry else {}
    assert nets == {
        "efficientnet_b4": "EfficientNet_B4_Weights.IMAGENET1K_V1",
        "resnet50": "ResNet50_Weights.IMAGENET1K_V1",
    }
    overrides = ["method=sr_popup", "density=0.2", "dataset=imagenet", "start.weights=torchvision"]
    for name, entry in nets.items():
        assert compose_run(*overrides, f"model={name}").stage("dense").weights == Weights(
            f"torchvision:{entry}"
        )
    with pytest.raises(
        ConfigError,
        match=(
            "publishes no weights for model=mobilenet_v1, only for resnet50 and efficientnet_b4;"
            " name a file"
        ),
    ):
        compose_run(*overrides, "model=mobilenet_v1")


# --- file formats


def written(
    change: Callable[[dict[str, Tensor]], Any],
) -> Callable[[dict[str, Tensor], Path], None]:
    return lambda state, path: torch.save(change(state), path)


FORMS = {
    "plain.pt": written(lambda state: state),
    "plain.safetensors": save_file,
    "old.pth": lambda state, path: torch.save(state, path, _use_new_zipfile_serialization=False),
    "checkpoint.pth.tar": written(lambda state: {"epoch": 90, "arch": "net", "state_dict": state}),
    "parallel.pt": written(
        lambda state: {
            "model": {f"module.{name}": tensor for name, tensor in state.items()},
            "optimizer": {"lr": 0.1},
        }
    ),
    "double.pt": written(
        lambda state: {
            name: tensor.double() if tensor.is_floating_point() else tensor
            for name, tensor in state.items()
        }
    ),
    "uncounted.pt": written(
        lambda state: {
            name: tensor
            for name, tensor in state.items()
            if not name.endswith("num_batches_tracked")
        }
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_common_file_format_of_a_state_dict_is_read_to_the_bit(
    form: str, tmp_path: Path
) -> None:
    state, path = expected(), tmp_path / form
    FORMS[form](state, path)
    run = compose_run(*with_weights(path))
    net = run.model(1, 10, 8, Generator().manual_seed(0)).state_dict()
    found = fitting(run.stage("dense").weights, net, run).state
    assert list(found) == list(net)
    for name, tensor in found.items():
        reference = (
            net[name]
            if form == "uncounted.pt" and name.endswith("num_batches_tracked")
            else state[name]
        )
        assert tensor.dtype == net[name].dtype and torch.equal(tensor, reference), name


# --- errors before any stage


def less(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in state.items() if "stage2" not in name} | {
        "head.weight": torch.zeros(2)
    }


class Unsafe:
    """An object that is neither a tensor nor a plain value."""


MISFITS: list[tuple[Callable[[Path], object], list[str]]] = [
    (
        lambda path: None,
        ["there is no such file", "start.weights=null", "start.weights=torchvision"],
    ),
    (
        lambda path: torch.save(less(expected()), path),
        [
            "does not fit model=resnet20",
            "missing: stage2.0.bn1.bias, stage2.0.bn2.bias, ",
            "more",
            "not in the network: head.weight",
        ],
    ),
    (
        lambda path: torch.save(
            expected() | {"fc.weight": torch.zeros(1000, 16), "fc.bias": torch.zeros(1000)}, path
        ),
        [
            "dataset=digits (10 classes)",
            (
                "with another shape: fc.bias (1000,) instead of (10,), fc.weight (1000, 16)"
                " instead of (10, 16)"
            ),
        ],
    ),
    (
        lambda path: torch.save({"state_dict": Unsafe()}, path),
        ["contains more than tensors and plain values", "torch.save(model.state_dict(), PATH)"],
    ),
    (
        lambda path: torch.save([torch.zeros(3)], path),
        ["contains no state dict", "network or weights"],
    ),
    (
        lambda path: torch.save(
            expected() | {"fc.bias": torch.tensor([0.0] * 9 + [torch.nan])}, path
        ),
        ["1 of 10 numbers in fc.bias are not finite", "take other weights"],
    ),
    (
        lambda path: torch.save(
            expected() | {"fc.bias": torch.full((10,), 1e300, dtype=torch.float64)}, path
        ),
        ["10 of 10 numbers in fc.bias are not finite"],
    ),
    (
        lambda path: torch.save(expected() | {"fc.bias": torch.ones(10, dtype=torch.int8)}, path),
        ["of another type: fc.bias torch.int8 instead of torch.float32"],
    ),
    (
        lambda path: torch.save({"state_dict": expected(), "mask": {"fc": torch.eye(4)}}, path),
        ["1 mask (density 0.25), which would not be applied: mask.fc; apply each"],
    ),
    (lambda path: path.write_bytes(b"PK\x03\x04 nothing"), ["cannot be read"]),
    (lambda path: path.write_bytes(b""), ["cannot be read"]),
]


@pytest.mark.parametrize(("make", "parts"), MISFITS, ids=[parts[0] for _, parts in MISFITS])
def test_unsuitable_weights_give_one_error_before_any_stage(
    make: Callable[[Path], object],
    parts: list[str],
    tmp_path: Path,
    dirs: list[str],
    capfd: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "given.pt"
    make(path)
    assert run_config(compose_config([*with_weights(path), *dirs, "env.device=cpu"])) == 2
    message = capfd.readouterr().err
    assert message.startswith(f"error: start.weights={path}") and message.count("error:") == 1
    assert all(part in message for part in parts), message
    assert not list(tmp_path.glob("cache/stages/*")) and not list(tmp_path.glob("results/runs/*"))


def test_a_misspelt_torchvision_gives_an_error_with_a_suggestion() -> None:
    with pytest.raises(
        ConfigError,
        match="start.weights=torchvison: there is no such file; did you mean 'torchvision'?",
    ):
        compose_run(*with_weights("torchvison"))
    with pytest.raises(ConfigError, match="start.weights=7: there is no such file"):
        compose_run(*with_weights(7))


def test_a_path_that_cannot_be_a_file_gives_an_error(tmp_path: Path) -> None:
    for path, message in (
        (tmp_path, "it is a folder"),
        ("x" * 5000, "cannot be read: File name too long"),
        ("~nobody-has-this-name/net.pt", "there is no such file"),
    ):
        with pytest.raises(ConfigError, match=message):
            weights_of("start.weights", str(path), None)


def test_rewinding_with_loaded_weights_gives_an_error(file: Path) -> None:
    with pytest.raises(
        ConfigError,
        match=(
            "start.rewind=10ep: start.weights loads the end of a training into stage 'dense', .*"
            " take retrain=finetune or"
        ),
    ):
        compose_run(*with_weights(file, "retrain=rewind"))


def test_a_wrong_number_of_classes_and_a_failed_download_give_errors_before_any_stage(
    tmp_path: Path,
    dirs: list[str],
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    overrides = [
        "method=sr_popup",
        "density=0.2",
        "model=resnet50",
        "start.weights=torchvision",
        *dirs,
        "env.device=cpu",
    ]
    assert run_config(compose_config([*overrides, "dataset=digits", "dataset.size=32"])) == 2
    assert (
        "torchvision's weights of resnet50 are for 1000 classes, dataset=digits has 10; use"
        " dataset=imagenet" in capfd.readouterr().err
    )
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # no server at this port
    run = compose_run(*overrides, "dataset=imagenet")
    with pytest.raises(ConfigError) as caught:
        fitting(run.stage("dense").weights, {}, run)
    place = tmp_path / "torch" / "hub" / "checkpoints" / "resnet50-0676ba61.pth"
    (message,) = caught.value.messages
    assert message.startswith(
        "start.weights=torchvision: https://download.pytorch.org/models/resnet50-0676ba61.pth could"
        " not be downloaded ("
    )
    assert f"put it at {place} and repeat the command; or use start.weights=PATH" in message


def test_a_published_file_is_downloaded_once_and_its_checksum_is_verified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    torch.save({"a": torch.ones(3)}, tmp_path / "net.pth")
    content = (tmp_path / "net.pth").read_bytes()
    right, wrong = (
        tmp_path / f"net-{prefix}.pth"
        for prefix in (hashlib.sha256(content).hexdigest()[:8], "00000000")
    )
    for path in (right, wrong):
        path.write_bytes(content)
    found = downloaded(right.as_uri())
    assert found == tmp_path / "torch" / "hub" / "checkpoints" / right.name
    assert found.read_bytes() == content
    right.unlink()
    assert downloaded(right.as_uri()) == found  # the downloaded file is used
    with pytest.raises(ConfigError, match=r"could not be downloaded \(invalid hash value"):
        downloaded(wrong.as_uri())
    found.write_bytes(content[:-1])
    with pytest.raises(
        ConfigError,
        match=(
            f"is damaged or another file: its SHA-256 should begin with {right.stem[4:]}; delete it"
        ),
    ):
        downloaded(right.as_uri())


# --- runs


@pytest.fixture(scope="module")
def trained(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, dict[str, Any], dict[str, Any]]:
    """Path of the trained net of a search in the cache, record and artefacts of its run."""
    folder, run = tmp_path_factory.mktemp("trained"), compose_run(*SEARCH)
    record, artefacts = perform_run(run, machine(folder))
    return (
        folder / "cache" / "stages" / stage_keys(run)["dense"] / "weights.safetensors",
        record,
        artefacts,
    )


def test_a_search_from_saved_weights_equals_the_search_after_training(
    trained: Any, tmp_path: Path
) -> None:
    path, before, artefacts = trained
    record, found = perform_run(compose_run(*with_weights(path)), machine(tmp_path))
    assert all(
        torch.equal(tensor, artefacts["dense"].weights[name])
        for name, tensor in found["dense"].weights.items()
    )
    for part in ("weights", "masks"):
        one, other = getattr(found["search"], part), getattr(artefacts["search"], part)
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one)
    for key in (
        "accuracy",
        "accuracy_top5",
        "test_loss",
        "density",
        "kept",
        "prunable",
        "epochs",
        "flops",
    ):
        assert record[key] == before[key], key
    last = artefacts["dense"].meta["history"][-1]
    report = record["report"]
    assert (
        report["pretrained_accuracy"],
        report["pretrained_accuracy_top5"],
        report["pretrained_test_loss"],
    ) == tuple(last[key] for key in ("accuracy", "accuracy_top5", "test_loss"))
    assert report["pretrained"] == f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
    assert [(stage["name"], stage["epochs"]) for stage in record["stages"]] == [
        ("dense", 0),
        ("search", 2),
    ]
    assert record["epochs_total"] == 2
    assert record["provenance"]["numerics"] == {"load": 1, "search": 1}


def test_a_second_run_reads_the_loaded_net_from_the_cache_without_its_file(
    file: Path, tmp_path: Path, dirs: list[str]
) -> None:
    overrides = [*with_weights(file), *dirs, "env.device=cpu", "env.progress=none"]
    assert run_config(compose_config(overrides)) == 0
    torch.manual_seed(9)
    (first,) = (tmp_path / "results" / "runs").iterdir()
    assert run_config(compose_config([*overrides, "density=0.1"])) == 0
    (second,) = (path for path in (tmp_path / "results" / "runs").iterdir() if path != first)
    assert [
        stage["cached"] for stage in json.loads((second / "result.json").read_text())["stages"]
    ] == [True, False]
    file.unlink()
    model, masks = runner.load_ticket(
        first.name, results_dir=tmp_path / "results", cache_dir=tmp_path / "cache"
    )
    for name, tensor in expected().items():
        if name in masks:
            assert torch.equal(model.state_dict()[name], tensor * masks[name])


@pytest.mark.parametrize(
    "method",
    [
        ["method=obd", "method.score.images=50"],
        ["method=magnitude", "start=dense", "retrain=finetune"],
    ],
)
def test_methods_that_prune_a_trained_net_accept_loaded_weights(
    method: list[str], file: Path, tmp_path: Path
) -> None:
    run = compose_run(*method, "density=0.2", "train.scale=0.0125", *NET, f"start.weights={file}")
    record, found = perform_run(run, machine(tmp_path))
    essential = {stage.name for stage in run.essential}
    assert [(s["name"], s["epochs"]) for s in record["stages"] if s["name"] in essential] == [
        ("dense", 0),
        ("prune", 0),
        ("train", 2),
    ]
    for name, mask in found["prune"].masks.items():
        assert torch.equal(found["prune"].weights[name], expected()[name].masked_fill(~mask, 0.0))


@pytest.mark.parametrize(
    "method", ["edge_popup", "zhou", "obd", "snip", "grasp", "synflow", "random", "sanity_check"]
)
def test_every_method_that_prunes_a_trained_net_can_load_its_weights(
    method: str, file: Path
) -> None:
    overrides = (
        [] if method in ("edge_popup", "zhou", "obd") else ["start=dense", "retrain=finetune"]
    )
    dense, *rest = compose_run(
        f"method={method}", "density=0.2", *overrides, *NET, f"start.weights={file}"
    ).stages
    assert (dense.kind, dense.name, dense.recipe) == ("load", "dense", None)
    assert any(stage.start.stage == "dense" for stage in rest)


def test_plans_count_no_images_for_loading(file: Path) -> None:
    run = compose_run(*with_weights(file))
    net = measure_net(run.dataset, run.model)
    cost = stage_cost(run, run.stage("dense"), net, 0)
    assert (cost.images, cost.passes, cost.macs, cost.bytes) == (
        0,
        0,
        0,
        net.weight_bytes + net.prunable,
    )


def test_a_file_that_changes_during_a_run_gives_an_error(file: Path, tmp_path: Path) -> None:
    run = compose_run(*with_weights(file))
    save_file({name: tensor + 1 for name, tensor in load_file(file).items()}, file)
    with pytest.raises(ConfigError, match="has changed since the run started"):
        perform_run(run, machine(tmp_path))


# --- nets with dropout


@dataclass(frozen=True)
class Dropping:
    """A perceptron with dropout."""

    tag: ClassVar[str] = "dropping"
    name: str = "dropping"

    def __call__(self, channels: int, classes: int, size: int, rng: Generator) -> nn.Module:
        return fresh(
            lambda: nn.Sequential(
                nn.Flatten(),
                nn.Linear(channels * size**2, 20),
                nn.ReLU(),
                nn.Dropout(0.5),
                nn.Linear(20, classes),
            ),
            "fan_in",
            rng,
        )


def make_context(run: Run, folder: Path) -> RunContext:
    where = machine(folder)
    return RunContext(
        run, where, Store(where.cache_dir), Watcher(folder / "run", display("none", None), {})
    )


def test_dropout_does_not_depend_on_earlier_draws_or_on_interruptions(
    tmp_path: Path,
) -> None:
    run = replace(
        compose_run("method=dense", "dataset=digits", "train_fraction=0.2", "train.scale=0.0125"),
        model=Dropping(),
    )
    found = []
    for i in range(2):
        torch.manual_seed(i)
        where, calls = make_context(run, tmp_path / str(i)), iter(range(1, 1000))
        where.stop = lambda i=i, calls=calls: bool(i) and next(calls) % 2 == 0
        while True:
            try:
                run_stage(where, run.stages[0])
                break
            except Stopped:
                torch.rand(i + 3)
        found.append(where.store.load(where.keys["dense"]).weights)
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])
    quiet = replace(run, model=replace(Dropping(), name="other"))
    assert stage_keys(quiet) != stage_keys(run)


def test_a_rewinding_point_computed_later_equals_that_of_the_original_training(
    tmp_path: Path,
) -> None:
    run = compose_run(
        "method=magnitude",
        "density=0.5",
        "start=dense",
        "retrain.rewind=50ep",
        "dataset=digits",
        "train_fraction=0.2",
        "train.scale=0.02",
    )
    run = replace(run, model=Dropping())
    together = make_context(run, tmp_path / "together")
    apart = make_context(run, tmp_path / "apart")
    run_stage(together, run.stage("dense"))
    run_stage(
        make_context(replace(run, stages=run.stages[:1]), tmp_path / "apart"), run.stage("dense")
    )
    key = apart.keys["dense"]
    assert apart.store.has(key) and not apart.store.has_snapshot(key, 1)
    run_stage(apart, run.stage("dense"))
    one, other = together.store.snapshot(key, 1), apart.store.snapshot(key, 1)
    assert all(torch.equal(one[name], other[name]) for name in one)
