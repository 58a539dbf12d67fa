"""Records and caches that were made before components had tags get their new identities, and
nothing else in them changes."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from conftest import ROOT
from omegaconf import OmegaConf
from rich.console import Console
from safetensors.torch import save_file
from support import compose_run

from runner.commands.rekey import (
    FORMER_NAMES,
    former_identity,
    rekey,
    rekey_cache,
    rekey_results,
    renewed_config,
)
from runner.config.build import build_run
from runner.engine.checkpoint import load_checkpoint
from runner.engine.store import Store
from runner.errors import ConfigError
from runner.records.folders import read_record
from runner.registry import find_class
from runner.spec.identity import identify

FORMER = ROOT / "tests" / "commands" / "former"  # two records as version 0.1.0 has published them
MLP = ["dataset=digits", "model=mlp", "train=imc", "train.scale=0.0125"]
# Run ids and stage keys that version 0.1.0 gave, pinned by its own tests.
# the defaults of version 0.1.0
FORMER_IMC = (
    "method.gap.rule=smoothed_sign",
    "method.hessian.n_samples=512",
    "method.spectrum.steps=50",
    "method.spectrum.probes=10",
    "method.spectrum.deflated_steps=null",
    "method.lipschitz.directions=8",
    "method.mask.shrinkage=none",
)
PINNED = {
    ("method=dense",): (
        "dense-mlp-digits-d1-s0-dd5254f0dc28",
        {"dense": "e69d9c751c8c30e36b1ec7e92f986f40"},
    ),
    ("method=imc", "density=0.3", "retrain=rewind", *FORMER_IMC): (
        "imc-mlp-digits-d0.3-s0-18bc8176318b",
        {
            "wstar": "4bac903224a7d6eafe72cb76de99a2ca",
            "lipschitz": "a3ed690a19eaf5537e14ab0d1358d07b",
            "spectrum": "66e3cee694cc43c1e8173bd3773b1e2b",
            "prune": "2ce1f8d4d1b3ca6f27ff7f85c81915de",
            "train": "123c8edce137f2a732ef377745bd2bd9",
        },
    ),
}


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A copy of the former records, with a table that prints one of their run ids."""
    shutil.copytree(FORMER, tmp_path / "results" / "runs")
    (tmp_path / "results" / "tables").mkdir()
    lines = "".join(f"imc_table01,SNIP,{name}\n" for name in names(tmp_path / "results"))
    (tmp_path / "results" / "tables" / "imc_table01.csv").write_text(lines)
    return tmp_path / "results"


def names(results: Path) -> list[str]:
    return sorted(path.name for path in (results / "runs").iterdir())


def record(results: Path, name: str) -> dict[str, object]:
    found: dict[str, object] = json.loads((results / "runs" / name / "result.json").read_text())
    return found


def without_identities(content: dict[str, object]) -> dict[str, object]:
    stages = [
        {key: value for key, value in stage.items() if key != "key"} for stage in content["stages"]
    ]
    provenance = {k: v for k, v in content["provenance"].items() if k != "checksum"}
    return {**content, "run_id": "", "stages": stages, "provenance": provenance}


@pytest.mark.parametrize("words", PINNED, ids=lambda words: words[0])
def test_the_former_identities_are_those_that_version_0_1_0_gave(words: tuple[str, ...]) -> None:
    former = former_identity(compose_run(*words, *MLP))
    assert (former.run_id, former.keys) == PINNED[words]


def test_every_former_name_belongs_to_a_component_that_is_there() -> None:
    # built by name, never by `_target_`
    spec = {"run", "stage", "start", "recipe", "pretrained_weights"}
    for tag in FORMER_NAMES.keys() - spec:
        assert find_class(tag).tag == tag
    assert len(set(FORMER_NAMES.values())) == len(FORMER_NAMES)


def test_records_are_found_under_their_new_identities_and_nothing_else_in_them_changes(
    results: Path,
) -> None:
    before = {name: record(results, name) for name in names(results)}
    others = {
        name: {
            p.name: p.read_bytes()
            for p in (results / "runs" / name).glob("*")
            if p.name not in ("config.yaml", "result.json")
        }
        for name in before
    }
    done = rekey_results(results)
    assert (
        set(done.runs) == set(before)
        and sorted(done.runs.values()) == names(results)
        and not done.kept
    )
    for former, new in done.runs.items():
        run = build_run(OmegaConf.load(results / "runs" / new / "config.yaml"), finished=True)
        after = record(results, new)
        assert read_record(results / "runs" / new) == after and after["provenance"]["checksum"]
        assert after["run_id"] == new == identify(run).run_id
        assert [stage["key"] for stage in after["stages"]] == [
            identify(run).keys[stage["name"]] for stage in after["stages"]
        ]
        assert without_identities(after) == without_identities(before[former])
        assert others[former] == {
            p.name: p.read_bytes()
            for p in (results / "runs" / new).glob("*")
            if p.name not in ("config.yaml", "result.json")
        }
    printed = (results / "tables" / "imc_table01.csv").read_text().splitlines()
    assert [line.rpartition(",")[2] for line in printed] == [done.runs[name] for name in before]


def test_a_damaged_record_moves_with_its_folder_as_it_is(results: Path) -> None:
    damaged = results / "runs" / names(results)[0] / "result.json"
    damaged.write_text("{")
    done = rekey_results(results)
    assert (results / "runs" / done.runs[damaged.parent.name] / "result.json").read_text() == "{"


def test_a_configuration_changes_in_the_names_of_its_components_alone(results: Path) -> None:
    tags = {former: tag for tag, former in FORMER_NAMES.items()}
    for name in names(results):
        text = (results / "runs" / name / "config.yaml").read_text()
        for one, other in zip(text.splitlines(), renewed_config(text).splitlines(), strict=True):
            key, _, value = one.partition("_target_: ")
            assert other == (f"{key}_target_: {tags[value]}" if value else one)


def test_a_second_call_changes_nothing_and_one_after_a_crash_does_the_rest(results: Path) -> None:
    first, *_ = before = names(results)
    done = rekey_results(results)
    assert rekey_results(results).runs == {} and names(results) == sorted(done.runs.values())
    # the process was killed before it had removed the former folder
    shutil.copytree(FORMER / first, results / "runs" / first)
    assert rekey_results(results).runs == {first: done.runs[first]}
    assert names(results) == sorted(done.runs.values()) and len(before) == len(done.runs)


@pytest.mark.parametrize(
    "change",
    [("lr: 0.1", "lr: 0.2"), ('"name": "prune1",\n   "key": "', '"name": "prune1",\n   "key": "0')],
)
def test_a_record_that_its_configuration_does_not_give_is_left_as_it_is(
    change: tuple[str, str], results: Path
) -> None:
    name = next(name for name in names(results) if name.startswith("imp"))
    (file,) = [
        p
        for p in (results / "runs" / name).iterdir()
        if p.name in ("config.yaml", "result.json") and change[0] in p.read_text()
    ]
    file.write_text(file.read_text().replace(*change))
    done = rekey_results(results)
    assert done.kept == [name] and name in names(results)
    assert change[1] in file.read_text()


def test_stages_and_checkpoints_of_the_cache_are_renamed(results: Path, tmp_path: Path) -> None:
    keys = rekey_results(results).keys
    first, second, third, *_ = keys
    store, weights = Store(tmp_path / "cache"), {"fc.weight": torch.arange(6.0)}
    for key in (first, third):  # as version 0.1.0 wrote them: without checksums
        store.path(key).mkdir(parents=True)
        save_file(weights, store.path(key) / "weights.safetensors")
        (store.path(key) / "stage.json").write_text('{"kind": "train", "report": {}}')
    (store.path(third) / "weights.safetensors").write_bytes(b"half")
    store.checkpoint_path(second).parent.mkdir()
    torch.save({"step": 3}, store.checkpoint_path(second))
    assert rekey_cache(store.root, keys) == 2
    loaded = store.load(keys[first])
    assert torch.equal(loaded.weights["fc.weight"], weights["fc.weight"])
    assert loaded.meta == {"kind": "train", "report": {}}
    assert load_checkpoint(store.checkpoint_path(keys[second])) == {"step": 3}
    assert not store.has(keys[third]) and store.path(third).is_dir()  # unreadable: not sealed
    assert rekey_cache(store.root, keys) == 0


def test_the_cache_is_converted_even_if_the_command_was_killed_after_the_results(
    results: Path,
) -> None:
    keys = rekey_results(results).keys
    assert keys and rekey_results(results).keys == keys


def test_the_command_says_what_it_did_and_refuses_other_words(
    results: Path, tmp_path: Path
) -> None:
    console = Console(record=True, width=200)
    assert (
        rekey([f"env.results_dir={results}", f"env.cache_dir={tmp_path / 'cache'}"], console) == 0
    )
    assert f"2 runs in {results} and 0 stages" in console.export_text()
    with pytest.raises(ConfigError, match="rekey takes"):
        rekey(["imc_table01"], console)
