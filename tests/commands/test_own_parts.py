"""Parts of the user's own, in a folder outside the repository and in an installed package."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from own_study import SECTIONS, SMALL, clean_environment, records, winnow, write_study
from recipes import own_files

from runner.config.overrides import with_standing_folders
from runner.errors import ConfigError
from runner.own import own_folders, standing_folders
from runner.registry import find_class, own_version, source_files
from runner.spec.identity import canonical, name_of, own_parts
from runner.spec.lr_schedule import Step


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty folder with the folder `my`."""
    folder = tmp_path_factory.mktemp("study")
    write_study(folder)
    return folder


def test_each_part_of_the_recipes_has_at_most_two_files() -> None:
    for heading in SECTIONS:
        assert 1 <= len(own_files(heading)) <= 2, heading


def test_a_strangers_parts_go_through_the_queue_and_into_tables(study: Path) -> None:
    sweep = ["run", "-m", "method=gradient", "model=linear", "dataset=stripes", "density=0.5,0.1"]
    queue = ["hydra/launcher=gpu_queue", "hydra.launcher.slots=1"]
    printed = winnow(study, *sweep, "seed=0,1", *queue, *SMALL)
    assert "4 runs, 0 done, 4 to do" in printed
    found = records(study)
    assert len(found) == 4
    for record in found:
        own = record["provenance"]["own"]
        assert set(own) == {"gradient", "linear", "stripes"}
        assert own["gradient"]["from"] == str(study / "my" / "gradient.py")
        assert all(re.fullmatch("[0-9a-f]{12}", part["version"]) for part in own.values())
        assert record["kept"] == round(record["density_target"] * 128)  # 64 pixels, 2 classes
    # the table of the sweep, of `winnow table`, and from its YAML
    assert re.search(r"^gradient +\d+\.\d\d ± \d+\.\d+ \(2\) +\d", printed, re.MULTILINE), printed
    assert "(2)" in winnow(study, "table")
    table = winnow(study, "reproduce", "mine", *queue[1:2], "env.device=cpu", "env.threads=1")
    assert "Gradients against random masks" in table and "Random" in table
    assert "runs: 4; done 4" in winnow(study, "plan", "mine")


def test_a_config_dir_does_the_same_without_the_variable(study: Path) -> None:
    own = ["--config-dir", "my/conf"]
    words = ["method=gradient", "density=0.25", "model=linear", "dataset=stripes", *SMALL]
    winnow(study, "run", *own, *words, path="")
    (record,) = (r for r in records(study) if r["density_target"] == 0.25)
    assert record["provenance"]["own"]["linear"]["from"] == str(study / "my" / "linear.py")
    assert "runs: 4" in winnow(study, "plan", "mine", *own, path="")
    again = winnow(study, "run", "--again", record["run_id"], *own, path="")
    assert record["run_id"] in again


@pytest.mark.slow
def test_the_contract_holds_for_the_recipes(study: Path) -> None:
    printed = winnow(study, "check", "method=gradient", "model=linear", "dataset=stripes")
    assert "7 of 7 checks hold" in printed and "FAILED" not in printed, printed


def test_the_contract_names_what_a_faulty_part_does(tmp_path: Path) -> None:
    # the score changes the net and draws from the global generator; the net does, too
    (tmp_path / "conf" / "method").mkdir(parents=True)
    (tmp_path / "conf" / "model").mkdir()
    code, yaml = own_files(SECTIONS[0])["gradient.py"], own_files(SECTIONS[0])
    spoilt = code.replace('"gradient"', '"spoilt"').replace(
        "        grads =",
        "        model.eval()\n        import torch\n        noise = torch.Generator()\n"
        "        noise.seed()\n        grads =",
    )
    noise = "torch.rand(grad.shape, generator=noise)"
    spoilt = spoilt.replace("grad.abs()", f"grad.abs() + {noise}")
    (tmp_path / "spoilt.py").write_text(spoilt)
    (tmp_path / "conf" / "method" / "spoilt.yaml").write_text(
        re.sub(r"    batches: 1\n", "", yaml["conf/method/gradient.yaml"]).replace(
            "gradient", "spoilt"
        )
    )
    linear = own_files("A new model")
    (tmp_path / "careless.py").write_text(
        linear["linear.py"]
        .replace('"linear"', '"careless"')
        .replace("            rng,", "            Generator(),")
    )
    (tmp_path / "conf" / "model" / "careless.yaml").write_text(
        linear["conf/model/linear.yaml"].replace("linear", "careless")
    )
    printed = winnow(tmp_path, "check", "method=spoilt", "model=careless", path=".", code=1)
    for problem in (
        "method.score.batches is not in the YAML",
        "changes the training mode",
        "differ between two runs with one seed",
        "generators of two seeds give the same initial weights",
    ):
        assert problem in printed, printed


def test_the_version_of_code_is_in_the_identity(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class_of = "from dataclasses import dataclass\nfrom typing import ClassVar\nimport {beside}\n\n"
    body = '@dataclass(frozen=True)\nclass A:\n    tag: ClassVar[str] = "{tag}"\n    n: int = 1\n'
    monkeypatch.setenv("WINNOW_PATH", "")

    def forget() -> None:
        sys.modules.pop("beside_it", None)
        sys.path[:] = [each for each in sys.path if not each.startswith(str(tmp_path))]

    def name(number: int, more: str = "", beside: str = "FACTOR = 1\n") -> str:
        """The name of a class in identities; each is in a folder and a module of its own."""
        forget()
        folder, module = tmp_path / str(number), f"part_of_a_user_{number}"
        folder.mkdir()
        (folder / "beside_it.py").write_text(beside)
        (folder / "unused.py").write_text(f"# {number}\n")
        code = class_of.format(beside="beside_it") + body.format(tag="mine") + more
        (folder / f"{module}.py").write_text(code)
        monkeypatch.setenv("WINNOW_PATH", str(folder))
        return name_of(find_class("mine"))

    try:
        first = name(1)
        assert re.fullmatch("mine@[0-9a-f]{12}", first)
        assert name(2) == first  # neither the file's name nor modules that it does not import
        assert name(3, "# a comment\n") != first
        assert name(4, beside="FACTOR = 2\n") != first
        assert name(5, '    version: ClassVar[str] = "1"\n') == "mine@1"
        component = find_class("mine")(n=2)
        assert canonical(component) == {"class": "mine@1", "n": 2}
        assert own_parts([component, {"a": component}]) == {"mine": type(component)}
    finally:
        forget()
    monkeypatch.setenv("WINNOW_PATH", "")
    assert own_version(Step) == "" and canonical(Step()) == {"class": "step"}


def test_a_module_and_its_neighbours_are_the_source_of_a_part(tmp_path: Path) -> None:
    for name, code in {
        "a": "import os, b\nfrom torch import nn\n",
        "b": "def f():\n    from c import g\n",
        "c": "import a\n",
        "d": "",
    }.items():
        (tmp_path / f"{name}.py").write_text(code)
    assert [path.stem for path in source_files(tmp_path / "a.py")] == ["a", "b", "c"]
    assert [path.stem for path in source_files(tmp_path / "d.py")] == ["d"]


@pytest.mark.parametrize(
    ("path", "text", "message"),
    [
        ("conf/method/snip.yaml", "method: {}\n", r"method=snip is that of .*rename the file"),
        ("conf/table/imc_table01.yaml", "a: 1\n", "table=imc_table01 is that of"),
        (
            "mine.py",
            'class A:\n    tag: ClassVar[str] = "snip"\n',
            "tag 'snip' of A is that of Snip",
        ),
        ("mine.py", "tag: ClassVar\nclass A(:\n", "mine.py is no Python"),
    ],
)
def test_a_name_that_winnow_has_and_a_broken_file_are_refused(
    path: str, text: str, message: str, tmp_path: Path
) -> None:
    (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / path).write_text(text)
    printed = winnow(tmp_path, "run", "method=dense", *SMALL, path=".", code=2)
    assert printed.startswith("error: ") and re.search(message, printed), printed
    assert printed.count("error: ") == 1 and "Traceback" not in printed


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("mine.py", "1 / 0\n", "mine.py cannot be imported: line 5: ZeroDivisionError"),
        ("models.py", "", r"models.py: the module models is .*rename the file"),
        ("mine.py", "import run\n", r"run.py: the module run is .*rename the file"),
    ],
)
def test_a_module_that_cannot_be_used_gives_one_message(
    name: str, text: str, message: str, tmp_path: Path
) -> None:
    code = 'from typing import ClassVar\nclass Mine:\n    tag: ClassVar[str] = "mine"\n\n'
    (tmp_path / name).write_text(code + text)
    (tmp_path / "run.py").write_text("")
    (tmp_path / "conf" / "model").mkdir(parents=True)
    (tmp_path / "conf" / "model" / "mine.yaml").write_text("_target_: mine\nname: mine\n")
    printed = winnow(tmp_path, "run", "method=dense", "model=mine", *SMALL, path=".", code=2)
    assert re.search(message, printed) and "Traceback" not in printed, printed


def test_folders_of_the_variable_are_joined_and_a_missing_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        (tmp_path / name / "conf" / "train").mkdir(parents=True)
        (tmp_path / name / "conf" / "train" / "same.yaml").write_text("name: same\n")
    monkeypatch.setenv("WINNOW_PATH", str(tmp_path / "a"))
    (folder,) = (each for each in standing_folders() if not each.package)
    assert (folder.code, folder.conf) == (tmp_path / "a", tmp_path / "a" / "conf")
    assert with_standing_folders(["seed=1"])[1] == f"hydra.searchpath=['file://{folder.conf}']"
    monkeypatch.setenv("WINNOW_PATH", os.pathsep.join([str(tmp_path / "a"), str(tmp_path / "b")]))
    with pytest.raises(ConfigError, match="b/conf/train/same.yaml: train=same is that of .*/a/"):
        standing_folders()
    monkeypatch.setenv("WINNOW_PATH", str(tmp_path / "none"))
    with pytest.raises(ConfigError, match="WINNOW_PATH=.*there is no folder"):
        own_folders()


def test_an_installed_package_brings_its_parts(study: Path, tmp_path: Path) -> None:
    package = tmp_path / "site" / "lab_pruning"
    for path, code in own_files("A new model").items():
        (package / path).parent.mkdir(parents=True, exist_ok=True)
        (package / path).write_text(code)
    (package / "__init__.py").write_text("")
    info = tmp_path / "site" / "lab_pruning-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: lab-pruning\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[winnow.plugins]\nlab = lab_pruning\n")
    done = subprocess.run(
        [sys.executable, str(ROOT / "run.py"), "method=dense", "model=linear", *SMALL],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        env={**clean_environment(), "PYTHONPATH": str(tmp_path / "site")},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (record,) = records(tmp_path)
    assert record["provenance"]["own"]["linear"]["from"] == "lab_pruning.linear"
