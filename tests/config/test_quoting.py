"""A path is a path: what Hydra reads as syntax reaches the run unchanged."""

import shlex
from pathlib import Path
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import example, given, settings
from hypothesis import strategies as st
from omegaconf import MISSING, OmegaConf
from support import compose_run, machine

from runner.config.compose import Composer, compose_config
from runner.config.environment import environment
from runner.config.quoting import SWEPT, literal_paths, override, quoted
from runner.errors import ConfigError
from runner.launch.sweep import make_job
from runner.paths import expand_user
from runner.spec.pretrained import digest

NASTY = "a=b,c(d[e]{f}'g\"h#i ~é\\j'k: $l"
CHARACTERS = st.one_of(
    st.sampled_from("\\'\"${}=,[]( )#~:\n\ta0."), st.characters(exclude_categories=["Cs"])
)
PRETRAINED = ("method=snip", "density=0.1", "start=dense", "retrain=finetune")
TEXTS = st.text(alphabet=CHARACTERS, max_size=12)


def read_back(word: str) -> Any:
    """The value that Hydra's parser and OmegaConf give for an override of `k`."""
    (parsed,) = OverridesParser.create().parse_overrides([word])
    cfg = OmegaConf.create({"k": None})
    OmegaConf.update(cfg, parsed.key_or_group, parsed.value(), merge=True)
    return cfg.k


@settings(max_examples=300, deadline=None)
@given(TEXTS.filter(lambda text: text != MISSING))
@example("1e3")
@example("yes")
@example("null")
@example("\\${a}'\\")
def test_an_override_of_any_text_is_read_back_as_this_text(text: str) -> None:
    assert read_back(override("k", text)) == text
    assert read_back(f"k={quoted(text)}") == text


@settings(max_examples=200, deadline=None)
@given(TEXTS.filter(lambda text: "${" not in text and text not in ("null", MISSING)))
@example("yes")
@example(NASTY)
def test_a_typed_path_is_taken_as_it_is_once_and_twice(text: str) -> None:
    (once,) = literal_paths([f"env.results_dir={text}"])
    if text[:1] not in ("'", '"'):  # quotes are Hydra's
        assert read_back(once.replace("env.results_dir", "k")) == expand_user(text)
    assert literal_paths([once]) == [once]


def test_a_path_that_means_no_value_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"env.results_dir=\?\?\?: OmegaConf reads"):
        literal_paths(["env.results_dir=???"])


@pytest.mark.parametrize("text", [NASTY, "1e3", "yes", "/tmp/2024"])
def test_a_run_uses_the_folders_that_the_command_line_names(text: str) -> None:
    overrides = [f"env.{key}_dir={text}/{key}" for key in ("results", "cache", "data")]
    env = environment(overrides)
    folders = (env.results_dir, env.cache_dir, env.data_dir)
    assert folders == tuple(Path(text, key) for key in ("results", "cache", "data"))
    assert Composer().plain([f"env.results_dir={text}"])["env"]["results_dir"] == text


def test_a_run_uses_the_folders_that_the_environment_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/of/one")
    monkeypatch.setenv("WINNOW_CACHE", f"/x/{NASTY}")
    monkeypatch.setenv("WINNOW_DATA", "~/data")
    env = environment(["env.results_dir=~/results"])
    assert env.cache_dir == Path(f"/x/{NASTY}")
    assert env.data_dir == Path("/home/of/one/data")
    assert env.results_dir == Path("/home/of/one/results")
    assert environment(["env.results_dir=./~"]).results_dir == Path("~")
    monkeypatch.setenv("WINNOW_CACHE", "x${seed}")
    with pytest.raises(ConfigError, match=r"env.cache_dir=x\$\{seed\}"):
        environment([])
    monkeypatch.setenv("WINNOW_CACHE", "caf\udce9")
    with pytest.raises(ConfigError, match=r"env.cache_dir='caf.udce9' is not UTF-8"):
        environment([])
    monkeypatch.setenv("WINNOW_CACHE", "")
    with pytest.raises(ConfigError, match=r"env.cache_dir= is empty"):
        environment([])


@pytest.mark.parametrize("text", ["out/${seed}", "'out/${seed}'", "out/${oc.env:HOME}"])
def test_an_interpolation_in_a_path_gives_an_error(text: str) -> None:
    for composed in (compose_config, Composer().plain):
        with pytest.raises(ConfigError, match="nothing in a path is replaced"):
            composed([f"env.results_dir={text}"])


@pytest.mark.parametrize("key", SWEPT)
def test_a_sweep_over_files_of_weights_or_masks_is_separated_by_commas(key: str) -> None:
    listed = f"{key}=a.pt,b.pt"
    assert literal_paths([listed], sweeps=True) == [listed]
    assert literal_paths([listed]) == [f'{key}="a.pt,b.pt"']
    assert literal_paths([f"{key}=null"]) == [f"{key}=null"]
    assert literal_paths(["env.data_dir=a,b"], sweeps=True) == ['env.data_dir="a,b"']


def test_a_weights_file_of_any_name_is_found(tmp_path: Path) -> None:
    path = tmp_path / NASTY
    path.write_bytes(b"weights")
    run = compose_run(*PRETRAINED, f"start.weights={path}")
    (loaded,) = [stage.weights for stage in run.stages if stage.weights]
    assert loaded.path == str(path)
    assert loaded.content == f"sha256:{digest(path)}"


def test_the_command_of_a_job_and_the_printed_one_name_the_same_folders(tmp_path: Path) -> None:
    folder = tmp_path / NASTY
    (folder).mkdir()
    (folder / "w.pt").write_bytes(b"weights")
    own = [*PRETRAINED, f"start.weights={folder / 'w.pt'}"]
    where = machine(folder)
    job = make_job(compose_run(*own), where, [*own, f"env.results_dir={where.results_dir}"])
    for words in (list(job.command[2:]), shlex.split(job.again)[2:]):
        cfg = compose_config(words)
        assert cfg.env.results_dir == str(where.results_dir)
        assert cfg.start.weights == str(folder / "w.pt")
    cfg = compose_config(list(job.command[2:]))
    assert (cfg.env.cache_dir, cfg.env.data_dir) == (str(where.cache_dir), str(where.data_dir))


def test_where_hydra_requires_quotes_the_message_has_the_line_to_type() -> None:
    with pytest.raises(ConfigError) as caught:
        compose_config(["method.label=a=b (c) it's"])
    line = str(caught.value).partition("type ")[2]
    (word,) = shlex.split(line)
    assert compose_config([word]).method.label == "a=b (c) it's"
