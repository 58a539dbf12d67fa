"""The import contracts hold, the runner names no method, and heavy packages are imported late."""

import ast
import builtins
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT, environment

from runner.config.compose import method_names

RUNNER = sorted(ROOT.glob("runner/**/*.py"))
# These names are also common words: they count as names of methods only where they are compared
# with something. The names of the other methods must not appear in the code of the runner.
EVERYDAY = {"dense", "force", "given", "random", "set"}
ALLOWED = {  # file -> names that have another meaning there
    "runner/config/build_stages.py": {"given"},  # a former name of the key `if`
    # normalisation constants are named after the code that published them
    "runner/data/cifar.py": {"synflow", "grasp", "flow_prune", "continuous_sparsification"},
    "runner/data/mnist.py": {"grasp"},
    "runner/data/tiny_imagenet.py": {"synflow", "grasp"},
    # a figure of `make bench` is the cost of one method beside its authors' code
    "runner/bench/busy.py": {"synflow"},
    "runner/bench/parts.py": {"synflow"},
    "runner/bench/synflow.py": {"synflow"},
    "runner/bench/teams.py": {"grasp"},
}


def test_the_import_contracts_hold() -> None:
    lint = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [lint, "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=environment(),
        timeout=120,
    )
    assert done.returncode == 0, done.stdout


def test_no_type_checking_import_bypasses_the_contracts() -> None:
    # only of torch, which commands that compute nothing do not import, and of the same room
    for path in [*RUNNER, *ROOT.glob("pruners/**/*.py")]:
        room = ".".join(path.relative_to(ROOT).parent.parts)
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
                for each in node.body:
                    assert isinstance(each, (ast.Import, ast.ImportFrom)), path
                    module = each.module if isinstance(each, ast.ImportFrom) else each.names[0].name
                    assert module == "torch" or str(module).rpartition(".")[0] == room, path


SOURCES = sorted(
    [
        ROOT / "run.py",
        *RUNNER,
        *ROOT.glob("pruners/**/*.py"),
        *ROOT.glob("models/*.py"),
        *ROOT.glob("hydra_plugins/**/*.py"),
    ]
)
# maximum numbers of lines; a longer function states its reason in its docstring, `Long because ...`
MODULE, FUNCTION = 300, 40


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_modules_and_functions_are_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MODULE
    functions = [
        node
        for node in ast.walk(parsed(path))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    ]
    long = [
        f
        for f in functions
        if (f.end_lineno or 0) - f.lineno >= FUNCTION
        and "Long because" not in (ast.get_docstring(f) or "")
    ]
    assert not [f"{f.name}: {(f.end_lineno or 0) - f.lineno + 1} lines" for f in long]


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def docstrings(tree: ast.Module) -> set[int]:
    owners = [
        node
        for node in ast.walk(tree)
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef))
    ]
    return {
        id(node.body[0].value)
        for node in owners
        if node.body and isinstance(node.body[0], ast.Expr)
    }


def strings(tree: ast.AST, exempt: set[int]) -> Iterator[str]:
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and id(node) not in exempt
        ):
            yield node.value


def identifiers(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        for name in ("id", "attr", "name", "arg", "asname", "module"):
            if isinstance(value := getattr(node, name, None), str):
                yield from value.split(".")


def compared(tree: ast.AST) -> Iterator[str]:
    """Strings in comparisons and match statements."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            yield from strings(
                ast.Module([ast.Expr(c) for c in (node.left, *node.comparators)], []), set()
            )
        elif isinstance(node, ast.MatchValue):
            yield from strings(node, set())


def methods_named(tree: ast.Module, names: set[str]) -> set[str]:
    """The names of methods in the code of a file."""
    words = {
        word for text in strings(tree, docstrings(tree)) for word in re.findall(r"\w+", text)
    } | set(identifiers(tree))
    settings = {
        name
        for text in strings(tree, docstrings(tree))
        for name in re.findall(r"method=(\w+)", text)
    }
    return (names - EVERYDAY) & words | names & (set(compared(tree)) | settings)


@pytest.mark.parametrize("path", RUNNER, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_runner_names_no_method(path: Path) -> None:
    file = path.relative_to(ROOT).as_posix()
    assert methods_named(parsed(path), set(method_names())) - ALLOWED.get(file, set()) == set()


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ('if name == "imc": pass', {"imc"}),
        ('if name in ("dense", "x"): pass', {"dense"}),
        ('match name:\n    case "random":\n        pass', {"random"}),
        ('words = ["method=dense"]', {"dense"}),
        ('message = f"prune with snip at {density}"', {"snip"}),
        ("from pruners.curvature.imc import Imc", {"imc"}),
        ("def snip(): pass", {"snip"}),
        ("imc.run(magnitude=1)", {"imc", "magnitude"}),
        ('"""SNIP and imc, in a docstring."""', set[str]()),
        ('counts = {"dense": 1}; snippet = "imcs"; random = 3', set[str]()),
    ],
)
def test_method_names_in_code_are_found(code: str, found: set[str]) -> None:
    assert methods_named(ast.parse(code), {"imc", "snip", "magnitude", "dense", "random"}) == found


def test_the_exceptions_are_names_of_python_and_existing_files() -> None:
    assert {
        word for word in EVERYDAY if word in dir(builtins) or word in sys.stdlib_module_names
    } == {"random", "set"}
    assert set(ALLOWED) <= {path.relative_to(ROOT).as_posix() for path in RUNNER}


LAZY = [
    "torch",
    "torchvision",
    "pandas",
    "sklearn",
    "pyhessian",
    "matplotlib",
    "safetensors",
    "numpy",
]


@pytest.mark.parametrize(
    "module",
    [
        "run",
        "runner",
        "runner.config.compose",
        "runner.config.hydra_errors",
        "runner.config.schema",
    ],
)
def test_the_command_line_does_not_import_heavy_packages_at_startup(module: str) -> None:
    code = f"import sys, {module}\nprint(*sorted(set({LAZY}) & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=environment(),
        timeout=60,
    )
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stdout + done.stderr
