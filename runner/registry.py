"""The registry of components: finds the class that declares a tag in the sources of our packages.

A component is a dataclass with `tag: ClassVar[str] = "..."`. Configurations refer to it by
`_target_: TAG`, so a class can be renamed or moved without a change in any configuration. Only the
module of the requested class is imported. Modules in the user's own folders (runner/own.py) are
searched after ours.
"""

import ast
import hashlib
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from runner.errors import ConfigError
from runner.own import OwnFolder, own_folders

# packages and modules that contain components
PACKAGES = (
    "pruners",
    "models",
    "runner.data",
    "runner.display.loggers",
    "runner.spec.lr_schedule",
    "runner.spec.optimizer",
    "runner.launch",
)
VERSION = "version"  # attribute of a class of the user's own: a number or text, raised by hand
DIGITS = 12  # of the hash of a module's source


class UnknownTag(LookupError):
    """No class of our packages declares the tag."""


@dataclass(frozen=True)
class Part:
    """A class that declares a tag, and where it is from.

    Args:
        folder: the user's own folder that has it; None = it is Winnow's.
    """

    module: str
    name: str
    path: Path
    folder: OwnFolder | None = None

    @property
    def source(self) -> str:
        """The package and module, or the file, that it is from."""
        return self.module if self.folder is None or self.folder.package else str(self.path)

    def __str__(self) -> str:
        return f"{self.name} in {self.source}"


def find_class(tag: str) -> type:
    """The class that declares `tag`.

    Raises:
        UnknownTag: no class does.
        ConfigError: its module is the user's own and cannot be imported.
    """
    return _imported(find_part(tag))


def find_part(tag: str) -> Part:
    """Where the class that declares `tag` is.

    Raises:
        UnknownTag: no class does.
    """
    try:
        return _parts()[tag]
    except KeyError:
        raise UnknownTag(tag) from None


def tags(package: str = "") -> list[str]:
    """All tags that components declare, sorted; with `package`, only those of its modules."""
    return sorted(
        tag
        for tag, part in _parts().items()
        if not package or f"{part.module}.".startswith(f"{package}.")
    )


def own_tags() -> list[str]:
    """The tags of the user's own parts, sorted."""
    return sorted(tag for tag, part in _parts().items() if part.folder)


@cache
def own_version(cls: type) -> str:
    """The version of the code of a class of the user's own; empty for one of Winnow's.

    It is what the class declares as `version: ClassVar[str]`, else the first digits of the SHA-256
    of its module's source and of the modules beside it that this one imports.
    """
    part = _parts().get(str(vars(cls).get("tag")))
    if part is None or part.folder is None or part.module != cls.__module__:
        return ""
    declared_version = vars(cls).get(VERSION)
    if declared_version is not None:
        return str(declared_version)
    digest = hashlib.sha256()
    for path in source_files(part.path):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:DIGITS]


def source_files(path: Path) -> list[Path]:
    """A module's file, and those of the modules in its folder that it imports, at any remove."""
    found, waiting = dict[Path, None](), [path]
    while waiting:
        file = waiting.pop()
        if file in found:
            continue
        found[file] = None
        for name in _imported_names(ast.parse(file.read_bytes())):
            beside = path.parent / f"{name}.py"
            waiting += [beside] if beside.is_file() else []
    return [path, *sorted(each for each in found if each != path)]


def _imported_names(tree: ast.Module) -> Iterator[str]:
    """The first part of the name of each module that a source imports; `.name` counts as `name`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (each.name.partition(".")[0] for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.module:
                yield from node.module.split(".")
            else:
                yield from (each.name for each in node.names)


def _parts() -> dict[str, Part]:
    """Tag -> its class, ours and those of the user.

    Raises:
        ValueError: two of our classes declare the same tag.
        ConfigError: a class of the user's declares a tag that another class has.
    """
    return _with_own(own_folders())


@cache
def _with_own(folders: tuple[OwnFolder, ...]) -> dict[str, Part]:
    found = dict(_shipped())
    for folder in folders:
        for module, path in folder.modules():
            for name, tag in _read(path):
                part = Part(module, name, path, folder)
                if tag in found:
                    raise ConfigError(
                        f"{path}: the tag {tag!r} of {name} is that of {found[tag]} already; every"
                        " component needs its own"
                    )
                found[tag] = part
    return found


@cache
def _shipped() -> dict[str, Part]:
    """Tag -> its class, of Winnow's own."""
    found: dict[str, Part] = {}
    for module, path in _modules():
        for name, tag in declared(path.read_text(encoding="utf-8")):
            if tag in found:
                raise ValueError(
                    f"tag {tag!r} is declared twice: by {found[tag].module}.{found[tag].name} and"
                    f" by {module}.{name}; every component needs its own"
                )
            found[tag] = Part(module, name, path)
    return found


def _read(path: Path) -> list[tuple[str, str]]:
    """As `declared`, of a file of the user's own.

    Raises:
        ConfigError: it is no Python.
    """
    try:
        return list(declared(path.read_text(encoding="utf-8")))
    except (SyntaxError, ValueError) as error:
        raise ConfigError(f"{path} is no Python: {' '.join(str(error).split())}") from error


@cache
def _imported(part: Part) -> type:
    """The class of a part."""
    module = _own_module(part) if part.folder else importlib.import_module(part.module)
    found: type = getattr(module, part.name)
    own_version(found)  # of the source that was imported, whatever becomes of the file
    return found


def _own_module(part: Part) -> object:
    """Import a module of the user's own.

    Its folder is the last of sys.path, so that it imports its neighbours, and processes that import
    by name find it.

    Raises:
        ConfigError: the import fails, or another module has this name.
    """
    assert part.folder is not None
    folder = str(part.folder.code)
    if not part.folder.package and folder not in sys.path:
        sys.path.append(folder)
    try:
        module = importlib.import_module(part.module)
    except Exception as error:  # of the user's own code
        lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if _is(f, part.path)]
        line = f" line {lines[-1]}:" if lines else ""
        raise ConfigError(
            f"{part.path} cannot be imported:{line} {type(error).__name__}: {error}"
        ) from error
    for path in [part.path] if part.folder.package else source_files(part.path):
        name = part.module if path == part.path else path.stem
        found = getattr(sys.modules.get(name), "__file__", None)
        if found is not None and Path(found).resolve() != path.resolve():
            raise ConfigError(f"{path}: the module {name} is {found} already; rename the file")
    return module


def _is(frame: traceback.FrameSummary, path: Path) -> bool:
    return Path(frame.filename).resolve() == path.resolve()


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
