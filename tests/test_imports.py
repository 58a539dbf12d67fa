"""Who may know whom, read from the sources: components never the runner, the runner no method by its name; and what is loaded when."""

import ast
import builtins
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT, environment

from runner.compose import method_names

COMPONENTS = sorted([*ROOT.glob("models/*.py"), *ROOT.glob("pruners/**/*.py")])
RUNNER = sorted(ROOT.glob("runner/**/*.py"))
CONFIGURATION = {"hydra", "omegaconf"}
# Words of every day: a method's name only where something is compared with it. The others stand nowhere in the runner's code.
EVERYDAY = {"dense", "random", "set"}
ALLOWED = {  # file -> names in it that mean something else
    "runner/panel.py": {"imc"},  # train=imc, the training settings
    "runner/data/prepare.py": {"synflow", "grasp", "flow_prune", "continuous_sparsification"},  # constants are named after the code that published them
}


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def imported(tree: ast.AST) -> Iterator[str]:
    """Modules that a file imports, wherever it does."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or "")


def top(modules: Iterator[str]) -> set[str]:
    return {module.partition(".")[0] for module in modules}


def docstrings(tree: ast.Module) -> set[int]:
    owners = [node for node in ast.walk(tree) if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef))]
    return {id(node.body[0].value) for node in owners if node.body and isinstance(node.body[0], ast.Expr)}


def strings(tree: ast.AST, exempt: set[int]) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in exempt:
            yield node.value


def identifiers(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        for name in ("id", "attr", "name", "arg", "asname", "module"):
            if isinstance(value := getattr(node, name, None), str):
                yield from value.split(".")


def compared(tree: ast.AST) -> Iterator[str]:
    """Strings that something is compared with, looked up by or matched against."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            yield from strings(ast.Module([ast.Expr(c) for c in (node.left, *node.comparators)], []), set())
        elif isinstance(node, ast.MatchValue):
            yield from strings(node, set())


def methods_named(tree: ast.Module, names: set[str]) -> set[str]:
    """The method names that the code of a file says."""
    words = {word for text in strings(tree, docstrings(tree)) for word in re.findall(r"\w+", text)} | set(identifiers(tree))
    settings = {name for text in strings(tree, docstrings(tree)) for name in re.findall(r"method=(\w+)", text)}
    return (names - EVERYDAY) & words | names & (set(compared(tree)) | settings)


@pytest.mark.parametrize("path", COMPONENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_models_and_pruners_know_neither_runner_nor_configuration(path: Path) -> None:
    modules = list(imported(parsed(path)))
    assert not any(module.startswith(".") for module in modules)  # a relative import could reach anywhere
    known = top(iter(modules))
    assert not known & ({"runner", "run", "scripts", "tests"} | CONFIGURATION)
    own = {"models"} if path.parent.name == "models" else {"pruners", "models"}
    assert not known & {"models", "pruners"} - own
    nets = {"torchvision"} if path.parent.name == "models" else set()  # published weights fit its modules name by name
    assert known - own <= {"torch", "numpy", "pyhessian"} | nets | set(sys.stdlib_module_names)


@pytest.mark.parametrize("path", sorted(ROOT.glob("runner/data/*.py")), ids=lambda path: path.stem)
def test_data_sets_know_no_network_and_no_method(path: Path) -> None:
    assert not top(imported(parsed(path))) & ({"models", "pruners"} | CONFIGURATION)


def test_the_loop_and_what_it_calls_know_no_configuration() -> None:
    for name in ("train", "optim", "evaluate", "stages", "store", "spec", "identity", "records", "rng", "components"):
        assert not top(imported(parsed(ROOT / "runner" / f"{name}.py"))) & CONFIGURATION, name


@pytest.mark.parametrize("path", RUNNER, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_runner_names_no_method(path: Path) -> None:
    place = path.relative_to(ROOT).as_posix()
    assert methods_named(parsed(path), set(method_names())) - ALLOWED.get(place, set()) == set()


@pytest.mark.parametrize("path", RUNNER, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_runner_knows_of_methods_only_what_one_is(path: Path) -> None:
    if path.name not in ("bench_hessian.py", "bench_scores.py", "bench_spectrum.py", "bench_stages.py", "bench_trials.py"):  # they time parts of them
        assert {module for module in imported(parsed(path)) if module.partition(".")[0] == "pruners"} <= {"pruners.base"}


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ('if name == "imc": pass', {"imc"}),
        ('if name in ("dense", "x"): pass', {"dense"}),
        ('match name:\n    case "random":\n        pass', {"random"}),
        ('words = ["method=dense"]', {"dense"}),
        ('message = f"prune with snip at {density}"', {"snip"}),
        ("from pruners.imc import Imc", {"imc"}),
        ("def snip(): pass", {"snip"}),
        ("imc.run(magnitude=1)", {"imc", "magnitude"}),
        ('"""SNIP and imc, in a docstring."""', set[str]()),
        ('counts = {"dense": 1}; snippet = "imcs"; random = 3', set[str]()),
    ],
)
def test_a_method_named_in_code_would_be_found(code: str, found: set[str]) -> None:
    assert methods_named(ast.parse(code), {"imc", "snip", "magnitude", "dense", "random"}) == found


def test_the_everyday_words_are_words_of_python_or_of_this_field() -> None:
    assert {word for word in EVERYDAY if word in dir(builtins) or word in sys.stdlib_module_names} == {"random", "set"}
    assert set(ALLOWED) <= {path.relative_to(ROOT).as_posix() for path in RUNNER}


LAZY = ["torch", "torchvision", "pandas", "sklearn", "pyhessian", "matplotlib", "safetensors", "numpy"]


@pytest.mark.parametrize("module", ["run", "runner", "runner.compose", "runner.messages", "runner.schema"])
def test_the_command_line_loads_nothing_heavy_before_it_runs(module: str) -> None:
    code = f"import sys, {module}\nprint(*sorted(set({LAZY}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, env=environment(), timeout=60)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stdout + done.stderr
