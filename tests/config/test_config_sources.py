"""`--cfg job` prints the configuration that Hydra prints, with the source of each value."""

import subprocess
import sys
from collections.abc import Callable

import pytest
import yaml
from conftest import ROOT, environment
from omegaconf import OmegaConf

from runner.config.compose import compose_config
from runner.config.sources import Request, asked, comments, config_text, sources
from runner.errors import ConfigError

Command = Callable[..., subprocess.CompletedProcess[str]]
WORDS = [
    ["method=imc"],
    ["method=snip", "density=0.1", "train.lr=0.3", "source=normal"],
    [
        "method=sr_popup",
        "density=0.05",
        "train=jackpots",
        "model=vgg19_jackpots",
        "dataset=cifar10",
    ],
    ["method=theory/recovery", "dataset=gaussian_teacher", "model=student"],
    ["method=imp", "density=0.1", "env.results_dir=a b"],
]

PAGE = """\
# of the file, not of its first key
a: 1 # beside
# above
# in two lines
b: 2
c: # of a block
  d: "x # no comment" # of d
  # above e
  e: {f: 1, g: 2}
  h: [1, 2] # of h
  i:
    # under i, above j
    j: null

k: http://x#y
"""


def test_comments_are_those_beside_a_key_or_directly_above_it() -> None:
    assert dict(comments(PAGE)) == {
        ("a",): "beside",
        ("b",): "above in two lines",
        ("c",): "of a block",
        ("c", "d"): "of d",
        ("c", "e"): "above e",  # of the whole mapping on the line, not of f
        ("c", "h"): "of h",
        ("c", "i"): "",
        ("c", "i", "j"): "under i, above j",
        ("k",): "",
    }


@pytest.mark.parametrize("words", WORDS, ids=" ".join)
@pytest.mark.parametrize("resolve", [False, True])
def test_comments_change_no_value(words: list[str], resolve: bool) -> None:
    cfg = compose_config(words)
    found = yaml.safe_load(config_text(Request(tuple(words), resolve)))
    assert found == yaml.safe_load(OmegaConf.to_yaml(cfg, resolve=resolve))


def test_the_source_is_the_file_that_sets_a_value_last_or_the_command_line() -> None:
    found = sources(["method=snip", "density=0.1", "train.lr=0.3"])
    assert found["train", "epochs"].place == "conf/train/imc.yaml"  # a default of quick.yaml
    assert found["train", "epochs"].comment.startswith("Table 16")
    assert found["train", "scale"].place == "conf/train/quick.yaml"
    assert found["train", "lr"].place == found["density",].place == "command line"
    assert found["method", "name"].place == "conf/method/snip.yaml"
    text = config_text(Request(("method=snip", "density=0.1", "train.lr=0.3")))
    assert "  lr: 0.3 # [command line]\n" in text
    assert "batch_size: 100 # Table 16 [conf/train/imc.yaml]\n" in text
    assert "train: # [conf/train/quick.yaml]\n  name: quick\n" in text


def test_a_part_is_printed_by_its_package() -> None:
    (request,) = filter(None, [asked(["method=imc", "--cfg", "job", "-p", "method.gap"])])
    assert request == Request(("method=imc",), package=("method", "gap"))
    whole = compose_config(["method=imc"])
    assert yaml.safe_load(config_text(request)) == OmegaConf.to_container(whole.method.gap)
    with pytest.raises(ConfigError, match="--package method.gpa: no part of the configuration"):
        config_text(Request(("method=imc",), package=("method", "gpa")))


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--help"],
        ["--cfg", "hydra"],
        ["--cfg", "job", "-m"],
        ["--cfg", "job", "hydra.verbose=1"],
    ],
    ids=" ".join,
)
def test_other_requests_are_for_hydra(words: list[str]) -> None:
    assert asked(["method=imc", *words]) is None


def test_the_command_line_prints_the_sources_of_all_values_of_a_method() -> None:
    words = [sys.executable, str(ROOT / "run.py"), "method=imc", "--cfg", "job"]
    done = subprocess.run(words, cwd=ROOT, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == config_text(Request(("method=imc",))) + "\n"
    assert max(map(len, done.stdout.splitlines())) <= 100
    for file in ("dataset/digits", "model/resnet20", "train/imc", "method/imc", "start/wstar"):
        assert f"[conf/{file}.yaml]" in done.stdout, file
