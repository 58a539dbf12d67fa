"""A process composes a choice of groups once while its files stay, and gives what Hydra gives."""

from pathlib import Path
from typing import Any

import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from test_composer import LINES

from runner.config import bases
from runner.config.bases import MOST, Bases
from runner.config.compose import compose_config, compose_in_full
from runner.config.schema import register
from runner.errors import ConfigError
from runner.paths import CONF


def described(node: Any) -> Any:
    """A configuration with the types and flags of its nodes; references are unresolved."""
    about = type(node), OmegaConf.get_type(node) if OmegaConf.is_config(node) else node._value()
    if not OmegaConf.is_config(node) or node._is_none() or node._is_interpolation():
        return about
    keys = node.keys() if isinstance(node, DictConfig) else range(len(node))
    flags = OmegaConf.is_struct(node), OmegaConf.is_readonly(node)
    return about, flags, {key: described(node._get_node(key)) for key in keys}


@pytest.fixture
def composed(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The overrides of each composition for a base."""
    found: list[list[str]] = []
    compose = bases.compose
    monkeypatch.setattr(
        bases,
        "compose",
        lambda name, overrides: (found.append(overrides), compose(name, overrides=overrides))[1],
    )
    return found


def test_a_configuration_from_a_base_equals_that_of_hydra() -> None:
    for line in [*LINES, ["method.label='a=b'", "seed=2"], ["seed=0", "seed=1"], []]:
        expected = described(compose_in_full(line))
        assert described(compose_config(line)) == described(compose_config(line)) == expected


def test_groups_are_composed_once_for_all_values(composed: list[list[str]]) -> None:
    groups = ["method=snip", "train=quick", "model=lenet5"]
    for seed in range(3):
        assert compose_config([*groups, f"seed={seed}"]).seed == seed
    assert composed in ([], [groups])  # another test may have composed them


def test_state_of_hydra_is_left_as_it_was() -> None:
    compose_config(["method=snip"])
    assert not GlobalHydra.instance().is_initialized()
    assert not HydraConfig.initialized()


def test_a_choice_by_a_variable_of_the_environment_follows_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "conf" / "method" / "mine.yaml"
    path.parent.mkdir(parents=True)
    path.write_text("defaults: [snip, {/allocate@other: '${oc.env:TEST_CHOICE}'}]\n")
    monkeypatch.setenv("WINNOW_PATH", str(tmp_path))
    for name in ("layer", "erk", "layer"):
        monkeypatch.setenv("TEST_CHOICE", name)
        assert compose_config(["method=mine"]).method.other["_target_"] == name


def test_a_link_may_lead_to_another_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "conf" / "method" / "mine.yaml"
    path.parent.mkdir(parents=True)
    monkeypatch.setenv("WINNOW_PATH", str(tmp_path))
    for label in ("one", "two", "one"):
        target = tmp_path / f"{label}.yaml"
        target.write_text(f"defaults: [snip]\nlabel: {label}\n")
        path.unlink(missing_ok=True)
        path.symlink_to(target)
        assert compose_config(["method=mine"]).method.label == label


def test_folders_of_the_user_come_and_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder, label in (("one", "of one"), ("two", "of two"), ("one", "of one")):
        path = tmp_path / folder / "conf" / "method" / "mine.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"defaults: [snip]\nlabel: {label}\n")
        monkeypatch.setenv("WINNOW_PATH", str(tmp_path / folder))
        assert compose_config(["method=mine"]).method.label == label
    monkeypatch.delenv("WINNOW_PATH")
    with pytest.raises(ConfigError, match="method=mine is not a choice"):
        compose_config(["method=mine"])


def test_a_group_of_the_users_with_the_name_of_a_value_is_hydras(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "conf" / "seed" / "7.yaml"
    path.parent.mkdir(parents=True)
    path.write_text("# @package _global_\ntrain_fraction: 0.5\n")
    monkeypatch.setenv("WINNOW_PATH", str(tmp_path))
    messages = []
    for compose in (compose_in_full, compose_config):
        with pytest.raises(ConfigError) as error:
            compose(["method=snip", "seed=7"])
        messages.append(error.value.messages)
    assert messages[0] == messages[1]


def test_a_broken_part_of_the_users_gives_the_message_of_hydra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "conf" / "lr_schedule" / "mine.yaml"
    path.parent.mkdir(parents=True)
    path.write_text("[unclosed\n")
    monkeypatch.setenv("WINNOW_PATH", str(tmp_path))
    messages = []
    for compose in (compose_in_full, compose_config):
        with pytest.raises(ConfigError) as error:
            compose(["method=snip"])
        messages.append(error.value.messages)
    assert messages[0] == messages[1]


def test_the_earliest_of_many_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    register()
    monkeypatch.setattr(bases, "MOST", 2)
    few = Bases()
    for name in ("snip", "grasp", "dense", "grasp"):
        found = few.get(str(CONF), [f"method={name}"])
        assert found and found.method.name == name
    assert [key[-1] for key in few.kept] == ["method=grasp", "method=dense"] and MOST > 2
