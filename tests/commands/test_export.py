"""Exported tickets: plain PyTorch loads them by their README, and they come back bit for bit."""

import io
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ROOT, SMALL
from record_support import valid_record
from safetensors.torch import save_file
from support import compose_run, machine, perform_run
from torch import Tensor

import runner
from pruners.base import apply_masks, full_masks
from runner.commands.export import _readme, main
from runner.commands.run import run_config
from runner.config.compose import compose_config
from runner.data.digits import Digits
from runner.engine.store import Store
from runner.engine.ticket_files import FORMATS, Ticket
from runner.errors import ConfigError

LENET = [*SMALL[:1], "model=lenet_300_100", *SMALL[2:]]
BACK = [name for name in FORMATS if name != "pt2"]  # the forms that are masks and weights
CODE = re.compile(r"```python\n(.*?)```", re.DOTALL)

# A program without Winnow: the network is written here, the lines are those of the README.
PROGRAM = """
import sys
class NoWinnow:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("runner", "models", "pruners"):
            raise ImportError(f"{name} is Winnow's")
sys.meta_path.insert(0, NoWinnow())
import os
import torch
from torch import nn
torch.set_num_threads(1)

class LeNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.fc2, self.fc3 = nn.Linear(64, 300), nn.Linear(300, 100), nn.Linear(100, 10)
    def forward(self, x):
        x = torch.relu(self.fc1(x.flatten(1)))
        return self.fc3(torch.relu(self.fc2(x)))

held_out = torch.load(sys.argv[1], weights_only=True)
images, labels = held_out["images"], held_out["labels"]

def loaded(folder, code):
    os.chdir(folder)
    known = {"model": LeNet(), "images": images[:3]}
    exec(code, known)
    return known["model"]

for folder in sys.argv[2:]:
    code = open(f"{folder}/README.md").read().split("```python")[1].split("```")[0]
    model = loaded(folder, code)
    with torch.no_grad():
        hits = int((model(images).argmax(1) == labels).sum())
    if "prune" in folder:  # torch's own masks keep the zeros in training
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)
        for _ in range(3):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(images), labels).backward()
            optimizer.step()
        kept = sum(int(m.weight.count_nonzero()) for m in model.children())
    else:
        kept = sum(int((p != 0).sum()) for p in model.parameters() if p.dim() == 2)
    print(hits, kept)
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A finished run on LeNet-300-100, and the folder of its results and cache."""
    folder = tmp_path_factory.mktemp("export")
    before = torch.backends.cudnn.deterministic
    dirs = [f"env.results_dir={folder / 'results'}", f"env.cache_dir={folder / 'cache'}"]
    assert run_config(compose_config(["method=magnitude", "density=0.25", *LENET, *dirs])) == 0
    (path,) = folder.glob("results/runs/*/result.json")
    yield path.parent.name, folder
    torch.backends.cudnn.deterministic = before


def dirs_of(folder: Path) -> list[str]:
    return [f"env.results_dir={folder / 'results'}", f"env.cache_dir={folder / 'cache'}"]


def exported(finished: tuple[str, Path], form: str, at: str, out: Path) -> Path:
    run_id, folder = finished
    words = [run_id, "--format", form, f"at={at}", "--out", str(out), *dirs_of(folder)]
    assert main(words) == 0
    return out / f"{run_id}-{at}-{form}" / FORMATS[form].file


def held_out() -> dict[str, Tensor]:
    """The normalised test images: levels 0 to 16 become [0, 1], with the training images' mean."""
    data = Digits().load(Path("data"), 1.0)
    pixels = data.train.images.double() / 16
    images = (data.test.images.double() / 16 - pixels.mean()) / pixels.std(correction=0)
    return {"images": images.float(), "labels": data.test.labels}


def test_plain_pytorch_loads_each_form_by_its_readme_with_the_accuracy_of_the_record(
    finished: tuple[str, Path], tmp_path: Path
) -> None:
    files = [exported(finished, form, "end", tmp_path) for form in FORMATS]
    torch.save(held_out(), tmp_path / "images")
    (tmp_path / "program.py").write_text(PROGRAM)
    words = [tmp_path / "program.py", tmp_path / "images", *(file.parent for file in files)]
    done = subprocess.run(
        [sys.executable, "-I", *map(str, words)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    run_id, folder = finished
    record = json.loads((folder / "results" / "runs" / run_id / "result.json").read_text())
    expected = (record["accuracy"] * 360 / 100, record["kept"])
    found = [tuple(map(int, line.split())) for line in done.stdout.splitlines()]
    assert len(found) == len(FORMATS)
    for hits, kept in found:
        assert hits == pytest.approx(expected[0], abs=1e-6)
        assert kept == expected[1] == 0.25 * (64 * 300 + 300 * 100 + 1000)


def test_torch_exports_a_residual_net_on_tiny_images_for_any_number_of_images() -> None:
    run = compose_run("method=dense", "model=resnet20", "model.depth=8", "model.width=4")
    model = run.model(1, 10, 8, torch.Generator().manual_seed(1)).eval()
    masks = {name: mask.random_(0, 2) for name, mask in full_masks(model).items()}
    apply_masks(model, masks)
    content = FORMATS["pt2"].write(Ticket(model, masks, (1, 8, 8), {}))
    again = torch.export.load(io.BytesIO(content)).module()  # type: ignore[arg-type]
    for images in (1, 5):
        x = torch.randn(images, 1, 8, 8)
        with torch.no_grad():
            torch.testing.assert_close(again(x), model(x))


def test_the_readme_of_a_network_that_was_not_tested_states_no_accuracy() -> None:
    ticket = Ticket(torch.nn.Identity(), {}, (1, 8, 8), {"at": "end"})
    text = _readme(ticket, valid_record(0, accuracy=None), "")
    assert "5 of 10 prunable weights are kept (density 0.5)." in text


def test_a_readme_has_five_lines_of_code(finished: tuple[str, Path], tmp_path: Path) -> None:
    for form in FORMATS:
        page = (exported(finished, form, "end", tmp_path).parent / "README.md").read_text()
        (code,) = CODE.findall(page)
        assert len(code.splitlines()) <= 5 and finished[0] in page and "density 0.25" in page


@pytest.mark.parametrize("form", BACK)
def test_an_exported_ticket_comes_back_with_equal_masks_and_trains_to_equal_bits(
    form: str, finished: tuple[str, Path], tmp_path: Path
) -> None:
    file = exported(finished, form, "init", tmp_path)
    run = compose_run("method=given", f"method.masks={file}", "start=ticket", *LENET)
    _, artefacts = perform_run(run, machine(tmp_path))
    run_id, folder = finished
    record = json.loads((folder / "results" / "runs" / run_id / "result.json").read_text())
    keys = {stage["name"]: stage["key"] for stage in record["stages"]}
    for stage in ("prune", "train"):
        original = Store(folder / "cache").load(keys[stage])
        for name, mask in original.masks.items():
            assert torch.equal(artefacts[stage].masks[name], mask)
        for name, weight in original.weights.items():
            assert torch.equal(artefacts[stage].weights[name], weight), (stage, name)


def test_the_masks_of_the_cache_are_a_file_of_masks(
    finished: tuple[str, Path], tmp_path: Path
) -> None:
    _, masks = runner.load_ticket(finished[0], finished[1] / "results", finished[1] / "cache")
    save_file(masks, tmp_path / "masks")
    run = compose_run("method=given", f"method.masks={tmp_path / 'masks'}", *LENET)
    _, artefacts = perform_run(run, machine(tmp_path))
    assert all(torch.equal(artefacts["train"].masks[name], mask) for name, mask in masks.items())


def test_what_cannot_be_exported_gives_one_message(
    finished: tuple[str, Path], tmp_path: Path
) -> None:
    run_id, folder = finished
    with pytest.raises(ConfigError, match="is not finished under"):
        main(["magnitude-x", *dirs_of(folder)])
    with pytest.raises(ConfigError, match="pass their cache_dir, or delete"):
        main([run_id, dirs_of(folder)[0], f"env.cache_dir={tmp_path}"])
    with pytest.raises(ConfigError, match="sparsity=1 is no option of export"):
        main([run_id, "sparsity=1"])
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot be written: "):
        main([run_id, "--out", str(tmp_path / "file"), *dirs_of(folder)])


def test_the_example_of_the_documentation_trains_a_ticket_and_keeps_its_zeros(
    finished: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id, folder = finished
    monkeypatch.chdir(folder)
    (folder / ".cache").symlink_to(folder / "cache")
    (example,) = CODE.findall((ROOT / "docs" / "tickets.md").read_text())
    assert 'run_id = "..."' in example
    data = held_out()
    known: dict[str, Any] = {"batches": 5 * [(data["images"], data["labels"])]}
    exec(example.replace('"..."', repr(run_id)), known)
    before, masks = runner.load_ticket(run_id, "results", ".cache", at="rewind")
    for name, mask in masks.items():
        weight = known["model"].get_parameter(name).detach()
        assert not weight[~mask].any() and torch.equal(known["masks"][name], mask)
        assert not torch.equal(weight, before.get_parameter(name).detach())
