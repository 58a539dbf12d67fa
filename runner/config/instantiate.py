"""From configuration nodes to components: frozen dataclasses of our own packages, every option checked by name and type before anything runs.

Hydra's own `instantiate` would admit any importable callable and reports one problem at a time; this admits what declares a tag and reports all.
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
    """The component that a resolved node describes: `_target_` is the tag of a dataclass, the other keys are its fields; nested nodes likewise.

    Args:
        node: plain dicts, lists and scalars; anything without `_target_` is returned as it is, built inside.
        key: where the node stands in the configuration, for messages.

    Raises:
        ConfigError: every problem found: unknown class or option, missing option, value of the wrong type, value refused by the class.
    """
    if isinstance(node, list):
        return [construct(item, f"{key}.{i}", alias) for i, item in enumerate(node)]
    if not isinstance(node, dict):
        return node
    if "_target_" not in node:
        return {name: construct(value, alias(f"{key}.{name}"), alias) for name, value in node.items()}
    cls = locate(node["_target_"], key)
    return build(cls, {name: value for name, value in node.items() if name != "_target_"}, key, alias)


def build(cls: type, options: Mapping[str, Any], key: str, alias: Alias = same) -> Any:
    """A component of the class `cls`. Components and dataclasses of options within it are built likewise.

    Raises:
        ConfigError: every problem found.
    """
    component: Any = typed.build(cls, options, key, alias, construct)
    _require_tags(component, key)
    return component


def _require_tags(component: Any, key: str) -> None:
    """Refuse what could not be hashed later, when the run's identity is made.

    Raises:
        ConfigError: the class of the component, or of options within it, declares no tag of its own.
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
        ConfigError: none does, or it is no dataclass.
    """
    try:
        cls = find_class(tag)
    except UnknownTag:
        raise ConfigError(f"{key}._target_={tag} is no component's tag{nearest(tag, tags())}; a component declares its own: tag: ClassVar[str]") from None
    except ImportError as error:
        raise ConfigError(f"{key}._target_={tag} cannot be imported: {error}") from error
    if not is_dataclass(cls):
        raise ConfigError(f"{key}._target_={tag} is not a dataclass: options must be fields, so that they are checked and hashed")
    return cls
