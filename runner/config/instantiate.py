"""Build components, which are frozen dataclasses of our own packages, from configuration nodes.

Every option is checked by name and type before anything runs. Hydra's own `instantiate` accepts any
importable callable and reports one problem at a time. Here, only classes that declare a tag are
accepted, and all problems are reported.
"""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from runner.config import typed
from runner.config.typed import Alias, same
from runner.errors import ConfigError, nearest
from runner.registry import UnknownTag, find_class, tags
from runner.spec.identity import tag_of


def construct(node: Any, key: str, alias: Alias = same) -> Any:
    """The component that a resolved node describes.

    `_target_` is the tag of a dataclass, and the other keys are its fields. Nested nodes are built
    likewise.

    Args:
        node: plain dicts, lists and scalars. Dicts and lists without `_target_` remain dicts and
            lists, with the nodes inside them built.
        key: where the node is in the configuration, for messages.

    Raises:
        ConfigError: every problem found: unknown class or option, missing option, value of the
            wrong type, value refused by the class.
    """
    if isinstance(node, list):
        return [construct(item, f"{key}.{i}", alias) for i, item in enumerate(node)]
    if not isinstance(node, dict):
        return node
    if "_target_" not in node:
        return {
            name: construct(value, alias(f"{key}.{name}"), alias) for name, value in node.items()
        }
    cls = locate(node["_target_"], key)
    return build(
        cls, {name: value for name, value in node.items() if name != "_target_"}, key, alias
    )


def build(cls: type, options: Mapping[str, Any], key: str, alias: Alias = same) -> Any:
    """A component of the class `cls`, with the components and dataclasses among its options.

    Raises:
        ConfigError: every problem found.
    """
    component: Any = typed.build(cls, options, key, alias, _part)
    _require_tags(component, key)
    return component


def _part(node: Any, key: str, alias: Alias) -> Any:
    """The component of an option whose annotation is an interface.

    Raises:
        ConfigError: the value describes no component. A class refuses None itself, with a hint.
    """
    if node is not None and not (isinstance(node, dict) and "_target_" in node):
        raise ConfigError(
            f"{key}={typed.excerpt(node)} is not a component: leave {key}=... out, or name a"
            " choice of an option group"
        )
    return construct(node, key, alias)


def _require_tags(component: Any, key: str) -> None:
    """Refuse a component that the run's identity could not hash.

    Raises:
        ConfigError: the class of the component, or of options in it, declares no tag of its own.
    """
    try:
        tag_of(type(component))
    except TypeError as error:
        raise ConfigError(f"{key}: {error}") from error
    for f in fields(component):
        if is_dataclass(getattr(component, f.name)):
            _require_tags(getattr(component, f.name), f"{key}.{f.name}")


def locate(tag: str, key: str) -> type:
    """The component class that declares `tag`.

    Raises:
        ConfigError: no class declares it, the class cannot be imported, or it is not a dataclass.
    """
    try:
        cls = find_class(str(tag))
    except UnknownTag:
        raise ConfigError(
            f"{key}._target_={tag} is not the tag of a component{nearest(str(tag), tags())}; a"
            " class declares its tag with tag: ClassVar[str], and WINNOW_PATH or --config-dir names"
            " the folder of one of your own"
        ) from None
    except ImportError as error:
        raise ConfigError(f"{key}._target_={tag} cannot be imported: {error}") from error
    if not is_dataclass(cls):
        raise ConfigError(
            f"{key}._target_={tag} is not a dataclass: options must be fields, so that they are"
            " checked and hashed"
        )
    return cls
