"""The registry of components: finds the class that declares a tag in the sources of our packages.

A component is a dataclass with `tag: ClassVar[str] = "..."`. Configurations refer to it by
`_target_: TAG`, so a class can be renamed or moved without a change in any configuration. Only the
module of the requested class is imported.
"""

import ast
import importlib
import importlib.util
from collections.abc import Iterator
from functools import cache
from pathlib import Path

# packages and modules that contain components
PACKAGES = (
    "pruners",
    "models",
    "runner.data",
    "runner.display.loggers",
    "runner.spec.lr_schedule",
    "runner.launch",
)


class UnknownTag(LookupError):
    """No class of our packages declares the tag."""


@cache
def find_class(tag: str) -> type:
    """The class that declares `tag`.

    Raises:
        UnknownTag: no class does.
    """
    try:
        module, name = _sources()[tag]
    except KeyError:
        raise UnknownTag(tag) from None
    found: type = getattr(importlib.import_module(module), name)
    return found


def tags(package: str = "") -> list[str]:
    """All tags that components declare, sorted; with `package`, only those of its modules."""
    return sorted(
        tag
        for tag, (module, _) in _sources().items()
        if not package or f"{module}.".startswith(f"{package}.")
    )


@cache
def _sources() -> dict[str, tuple[str, str]]:
    """Tag -> module and name of its class.

    Raises:
        ValueError: two classes declare the same tag.
    """
    found: dict[str, tuple[str, str]] = {}
    for module, path in _modules():
        for name, tag in declared(path.read_text(encoding="utf-8")):
            if tag in found:
                raise ValueError(
                    f"tag {tag!r} is declared twice: by {'.'.join(found[tag])} and by"
                    f" {module}.{name}; every component needs its own"
                )
            found[tag] = module, name
    return found


def declared(source: str) -> Iterator[tuple[str, str]]:
    """Name and tag of each class that declares a tag in a module's source text."""
    if "tag: ClassVar" not in source:  # most modules: parsing is not necessary
        return
    for node in ast.parse(source).body:
        for item in node.body if isinstance(node, ast.ClassDef) else ():
            match node, item:
                case (
                    ast.ClassDef(name=name),
                    ast.AnnAssign(target=ast.Name(id="tag"), value=ast.Constant(value=str(tag))),
                ):
                    yield name, tag


def _modules() -> Iterator[tuple[str, Path]]:
    """Name and file of every module in PACKAGES. Only the packages themselves are imported."""
    for package in PACKAGES:
        spec = importlib.util.find_spec(package)
        if spec is None:
            continue
        for folder in map(Path, spec.submodule_search_locations or ()):
            for path in sorted(folder.rglob("*.py")):
                parts = path.relative_to(folder).with_suffix("").parts
                yield ".".join((package, *(part for part in parts if part != "__init__"))), path
        if not spec.submodule_search_locations and spec.origin:
            yield package, Path(spec.origin)
