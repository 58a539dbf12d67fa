"""A YAML text is parsed once in a process; compositions give what Hydra's own sources give."""

import os
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from runner.config.compose import Composer, compose_config
from runner.config.parsed_files import hydra_on
from runner.config.schema import register
from runner.errors import ConfigError
from runner.paths import CONF


def text_of(sources: str, words: list[str]) -> str:
    """The whole configuration, Hydra's own part with the folders and choices included."""
    GlobalHydra.instance().clear()
    register()
    folder = str(CONF)
    with (
        hydra_on(folder) if sources == "ours" else initialize_config_dir(folder, version_base="1.3")
    ):
        cfg = compose("config", overrides=words, return_hydra_config=True)
        flags = [OmegaConf.is_struct(cfg), OmegaConf.is_readonly(cfg.hydra.launcher)]
        return f"{OmegaConf.to_yaml(cfg)}{flags}{OmegaConf.get_type(cfg.train)}"


def own(folder: Path, text: str) -> Path:
    """A method of the user's own, `method=mine`."""
    path = folder / "conf" / "method" / "mine.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    return path


def search(path: Path) -> str:
    return f"hydra.searchpath=[file://{path.parent.parent}]"


def test_a_configuration_is_that_of_hydras_own_sources(tmp_path: Path) -> None:
    for line in (
        ["method=imc", "dataset=cifar10", "model=resnet20", "density=0.3"],
        ["hydra/launcher=slurm", "train=imc", "start=dense", "retrain=finetune"],
        [search(own(tmp_path, "defaults: [snip]\nlabel: mine\n")), "method=mine"],
        ["hydra.searchpath=[pkg://hydra.conf]", "method=theory/recovery"],
    ):
        expected = text_of("Hydra's", line)
        assert text_of("ours", line) == text_of("ours", line) == expected


def test_a_text_is_parsed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    first, parsed = compose_config(["method=snip"]), []
    load = OmegaConf.load
    monkeypatch.setattr(OmegaConf, "load", lambda file: (parsed.append(file), load(file))[1])
    assert compose_config(["method=snip"]) == first
    assert parsed == []


@pytest.mark.parametrize("named_by", ["--config-dir", "WINNOW_PATH"])
def test_an_edit_is_seen_whatever_the_size_and_time_of_the_file(
    named_by: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = own(tmp_path, "defaults: [snip]\nlabel: mine\n")
    words = ["method=mine", *([search(path)] if named_by == "--config-dir" else [])]
    if named_by == "WINNOW_PATH":
        monkeypatch.setenv("WINNOW_PATH", str(tmp_path))
    before = path.stat()
    for label in ("mine", "ours", "mine"):
        path.write_text(f"defaults: [snip]\nlabel: {label}\n")
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert path.stat().st_size == before.st_size
        assert compose_config(words).method.label == label
        assert Composer().plain(words)["method"]["label"] == label
    path.write_text("# @package train\ndefaults: []\nlr: 7.0\n")
    assert compose_config(words).train.lr == 7.0
    path.write_text("label: [unclosed\n")
    with pytest.raises(ConfigError, match=str(path)):
        compose_config(words)
    path.unlink()
    with pytest.raises(ConfigError, match="method=mine is not a choice"):
        compose_config(words)
    path.write_text("defaults: [snip]\nlabel: back\n")
    assert compose_config(words).method.label == "back"


def test_what_a_caller_changes_stays_its_own() -> None:
    one = compose_config(["method=imc"])
    one.method.label = "changed"
    del one.method.stages[0]
    OmegaConf.update(one, "method.new", 1, force_add=True)
    two = compose_config(["method=imc"])
    assert two.method.label != "changed" and len(two.method.stages) == len(one.method.stages) + 1
    assert "new" not in two.method
