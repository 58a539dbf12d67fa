"""docs/licences.md lists every locked package, with the licence that its metadata state."""

from importlib import metadata

import pytest
from conftest import ROOT
from licences import PAGE, licence, locked, renewed, rows


def test_the_page_has_a_licence_for_each_locked_package() -> None:
    found = rows(PAGE.read_text())
    assert list(found) == locked() and len(found) > 100
    assert "not installed here" not in found.values()


def test_the_page_is_what_the_script_writes() -> None:
    # `make setup` installs the locked versions; others may state their licence in other words
    pins = dict(
        line.partition(" ;")[0].split("==")
        for line in (ROOT / "requirements.lock").read_text().splitlines()
        if "==" in line and not line.startswith("#") and "python_full_version" not in line
    )
    for name, version in pins.items():
        try:
            installed = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
        if installed == version:
            assert rows(PAGE.read_text())[name] == licence(name), name
    assert rows(renewed(PAGE.read_text())).keys() == rows(PAGE.read_text()).keys()


@pytest.mark.parametrize(
    ("package", "expected"),
    # an expression, a name, a text in place of a name
    [("pytest", "MIT"), ("hydra-core", "MIT"), ("scipy", "BSD License")],
)
def test_licences_are_read_from_metadata(package: str, expected: str) -> None:
    assert licence(package) == expected


def test_a_package_that_is_not_installed_keeps_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("licences.locked", lambda: ["no-such-package", "pytest"])
    head = "text\n\n| package | licence |\n|---|---|\n"
    page = renewed(f"{head}| no-such-package | X |\n| gone | Y |\n")
    assert page == f"{head}| no-such-package | X |\n| pytest | MIT |\n"
