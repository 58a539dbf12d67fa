"""The text of `python run.py --help`.

Hydra's own help copies its whole repository of configurations for each of its groups, which takes
longer than everything else that the command does.
"""

import string
from collections import defaultdict
from collections.abc import Sequence

from runner.config.compose import compose_config
from runner.config.overrides import conf_folders
from runner.config.plain import read_plain
from runner.paths import CONF

FLAGS = ("-h", "--help")


def asks_only_for_help(words: Sequence[str]) -> bool:
    """Whether the command line asks for help on Winnow's own configuration and for nothing else."""
    flags = [word for word in words if word.startswith("-")]
    return bool(flags) and all(f in FLAGS for f in flags) and not _sets_hydra(words)


def _sets_hydra(words: Sequence[str]) -> bool:
    return any(word.startswith("hydra") for word in words if not word.startswith("hydra.search"))


def help_text(words: Sequence[str]) -> str:
    """The help, with the choices of every group, also those in the user's folders among `words`.

    Raises:
        ConfigError: an override is invalid.
    """
    overrides = [word for word in words if word not in FLAGS]
    compose_config(overrides)
    template = read_plain(CONF / "config.yaml", resolve=False)["hydra"]["help"]["template"]
    lines = [f"{group}: {', '.join(each)}\n" for group, each in choices(overrides).items()]
    return string.Template(template).substitute(APP_CONFIG_GROUPS="".join(lines))


def choices(overrides: Sequence[str]) -> dict[str, list[str]]:
    """Group -> its choices, both sorted; without Hydra's own groups."""
    found = defaultdict[str, set[str]](set)
    for folder in conf_folders(overrides):
        for path in folder.glob("*/**/*.yaml"):
            group = path.parent.relative_to(folder)
            if group.parts[0] != "hydra":
                found[group.as_posix()].add(path.stem)
    return {group: sorted(found[group]) for group in sorted(found)}
