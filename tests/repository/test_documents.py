"""Documents stand alone: links resolve, options exist, counts are the code's, lines are short."""

import re
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ROOT
from packaging.requirements import Requirement
from support import COMPOSER, compose_run

from models.count import multiply_accumulates
from pruners.base import prunable_names
from runner.config.compose import method_names

LINE = 100
DOCS = sorted((ROOT / "docs").rglob("*.md"))
PAGES = [ROOT / name for name in ("README.md", "RESULTS.md", "CONTRIBUTING.md", "CHANGELOG.md")]
# A document that a line cites by name, without a link.
CITATION = re.compile(r"(?<![\w/(.-])(?:docs/)?[\w/]+\.md\b")
# Pages of the project's planning, which do not ship.
UNSHIPPED = {f"{name}.md" for name in ("ecosystem", "architecture", "style", "design")}


def tracked(*patterns: str) -> list[Path]:
    """The tracked files that match, without published data and fixtures."""
    names = subprocess.run(
        ["git", "ls-files", *patterns], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    skipped = ("results/", "tests/commands/former/")
    return [ROOT / name for name in names if not name.startswith(skipped)]


def anchors(page: Path) -> set[str]:
    """The targets of links into a page: its headings, as GitHub names them, and its anchors."""
    text = page.read_text()
    heads = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    named = {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}
    return named | set(re.findall(r'<a id="([^"]+)"', text))


@pytest.mark.parametrize("page", [*DOCS, *PAGES], ids=lambda p: str(p.relative_to(ROOT)))
def test_every_link_of_a_document_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        path, _, anchor = target.partition("#")
        file = page.parent / path if path else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target


def test_every_cited_document_and_decision_is_in_the_repository() -> None:
    decisions = anchors(ROOT / "docs" / "decisions.md")
    missing = []
    for file in tracked("*.py", "*.yaml", "*.md", "Makefile"):
        text = re.sub(r"\s*\n\s*#?\s*", " ", file.read_text())  # citations may break over lines
        missing += [
            f"{file.relative_to(ROOT)}: {name}"
            for name in CITATION.findall(text)
            if name in UNSHIPPED
            or (name.startswith("docs/") and not (ROOT / name).exists())
            or name.startswith("methods/")
        ]
        missing += [
            f"{file.relative_to(ROOT)}: decision {number}"
            for number in re.findall(r"docs/decisions\.md (\d+)", text)
            if number not in decisions
        ]
    assert not missing


METHODS = method_names()


@pytest.mark.parametrize("method", [*METHODS, "mask_randomization", "sample_complexity"])
def test_every_method_has_a_page(method: str) -> None:
    text = (ROOT / "docs" / "methods" / f"{method}.md").read_text()
    for part in ("Paper", "Equation", "Options", "Cost", "Deviations", "Verification"):
        assert part in text, part


def keys(tree: dict[str, Any], prefix: str = "") -> set[str]:
    """All dotted keys of a configuration."""
    found = set()
    for key, value in tree.items():
        found.add(prefix + key)
        if isinstance(value, dict):
            found |= keys(value, f"{prefix}{key}.")
    return found


@pytest.mark.parametrize("method", METHODS)
def test_every_option_that_a_method_page_names_exists(method: str) -> None:
    page = ROOT / "docs" / "methods" / f"{method}.md"
    known = keys(COMPOSER.plain([f"method={method}"]))
    named = set(re.findall(r"`(method\.[a-z_.]+[a-z_])(?:=[^`]*)?`", page.read_text()))
    assert not {key for key in named if key not in known}


ROW = re.compile(r"^\| `(\w+)` \| `(\w+)` \| ([\d,]+) \| ([\d,]+) \| ([\d,.]+) \|$", re.MULTILINE)
COUNTS = ROW.findall((ROOT / "docs" / "networks.md").read_text())


def test_the_table_of_networks_is_found() -> None:
    assert len(COUNTS) >= 20


@pytest.mark.parametrize(("model", "dataset", "total", "prunable", "cost"), COUNTS)
def test_the_printed_counts_are_those_of_the_network(
    model: str, dataset: str, total: str, prunable: str, cost: str
) -> None:
    run = compose_run("method=dense", f"model={model}", f"dataset={dataset}")
    info = run.dataset.info()
    with torch.device("meta"):
        net = run.model(info.channels, info.classes, info.size, torch.Generator())
    sizes = {name: parameter.numel() for name, parameter in net.named_parameters()}
    assert f"{sum(sizes.values()):,}" == total
    assert f"{sum(sizes[name] for name in prunable_names(net)):,}" == prunable
    dense, _ = multiply_accumulates(net, (info.channels, info.size, info.size))
    assert f"{dense / 1e6:,.1f}" == cost


def test_no_line_is_longer_than_a_hundred_columns() -> None:
    long = []
    for file in tracked("*.py", "*.yaml", "*.md", "*.toml", "*.cff", "Makefile", ".ci/*"):
        for number, line in enumerate(file.read_text().splitlines(), 1):
            # A row of a Markdown table cannot be broken; a link cannot, either.
            table = file.suffix == ".md" and line.startswith(("|", "  |"))
            if len(line) > LINE and not table and "](http" not in line:
                long.append(f"{file.relative_to(ROOT)}:{number}: {len(line)}")
    assert not long


def test_the_lock_file_pins_a_version_for_every_dependency_that_fits() -> None:
    wanted = metadata.requires("winnow-pruning") or []
    assert len(wanted) > 20
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    for requirement in map(Requirement, wanted):
        name = requirement.name.lower().replace("_", "-")
        found = [pin for pin in pins if pin.name.lower().replace("_", "-") == name]
        assert found, f"{name} is not pinned: make lock"
        for pin in found:
            (version,) = pin.specifier
            assert version.operator == "=="
            assert requirement.specifier.contains(version.version), f"{pin}: make lock"
