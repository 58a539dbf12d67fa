"""Random command lines: real groups, keys and choices, with mutations."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from random import Random
from typing import Any

from runner.config.compose import Composer, method_names
from runner.paths import CONF

NUMBERS = (
    *("nan", "inf", "-inf", "-1", "0", "1", "2", "0.5", "1e999", "-1e999", "1e-320", "1e308"),
    *("99999999999999999999", "-0.0", "1_000", "0x10", "1e5", "٣", "½", "1,2", "0.1,0.1", "3ep"),
    *("100it", "-5ep", "0it", "1e9it", "nanep", "1.5.2", "+1", "00", "1e", "--1", "infep"),
)
TEXTS = (
    *("", "null", "none", "true", "false", "True", "yes", "no", "off", "~", "None", "''", '""'),
    *(
        "'",
        '"',
        "'a",
        "[",
        "]",
        "[]",
        "[1",
        "[[]]",
        "[1,2]",
        "{",
        "}",
        "{}",
        "{a:1}",
        "{a: {b: 1}}",
    ),
    *("${seed}", "${nothing}", "${", "${${seed}}", "${oc.env:HOME}", "${oc.env:NOPE}", "$x", "???"),
    *("${method}", "${density}", "../x", "../../../../etc/passwd", "/", "/dev/null", "~/x", "."),
    *(
        "a=b",
        "=",
        "==",
        "a,b",
        "(a)",
        "(",
        "a b",
        "\t",
        "\n",
        "é",
        "日本",
        "🐍",
        "\u202e",
        "\x1b[31m",
    ),
    *(
        "\\",
        "\\'",
        "%s",
        "%d%n",
        "{0}",
        "#",
        "!",
        "`ls`",
        "$(ls)",
        ";",
        "|",
        "&",
        "*",
        "?",
        "x" * 999,
    ),
    *("_target_", "choice(1,2)", "range(1,3)", "glob(*)", "sort(1)", "shuffle(1)", "int(x)", "@a"),
)
NULL = "\0"  # the system refuses it among the words of a program
GARBAGE = (
    *(
        "",
        "=",
        "==",
        "density",
        "density:0.1",
        "=0.1",
        ".=1",
        "a.b.c",
        "..",
        "seed=",
        "0",
        "method",
    ),
    *("@method=x", "method@a=b", "method@=b", "+", "~", "++", "~method", "+a=1", "++seed=1"),
    *("~seed", "~seed=0", "hydra=1", "hydra.run.dir=x", "hydra.mode=MULTIRUN", "hydra/launcher=x"),
    *("hydra.launcher.x=1", "hydra.job.chdir=true", "seed==1", "seed=1=2", "é=1", "method.=1"),
    *(".method=1", "method..name=1", "method.stages=1", "method.stages[0]=1", "method[0]=1"),
    *("table=imc_table01", "figure=x", "env=none", "logger=x", "papers=x", "lr_schedule=step"),
)
WILD = 0.2  # share of lines that may have words of any kind: Hydra takes long to refuse them
QUOTED = 0.5  # share of values in quotes, which Hydra's grammar takes as they are


@dataclass
class Grammar:
    """Makes command lines.

    Args:
        methods: of which one is chosen; each composes anew, so a few are faster.
        wild: share of lines that may have words of any kind.
        quoted: share of values in quotes; the others may be refused by Hydra, which takes long.
        chosen: groups of which options are chosen; None = all.
        numbers: whether only keys with numbers and true or false are set.
        prefixes: beginnings of the keys that are set.
    """

    composer: Composer = field(default_factory=Composer)
    methods: Sequence[str] = field(default_factory=method_names)
    wild: float = WILD
    quoted: float = QUOTED
    chosen: Sequence[str] | None = None
    numbers: bool = False
    prefixes: tuple[str, ...] = ("",)
    keys: dict[str, list[tuple[str, Any]]] = field(default_factory=dict)

    @cached_property
    def groups(self) -> dict[str, list[str]]:
        """Groups of options, with their choices."""
        return {
            str(folder.relative_to(CONF)): sorted(path.stem for path in folder.glob("*.yaml"))
            for folder in sorted(CONF.rglob("*"))
            if folder.is_dir() and folder.parts[len(CONF.parts)] not in ("table", "figure")
        }

    def keys_of(self, method: str) -> list[tuple[str, Any]]:
        """Every key of a method's configuration, with its value."""
        if method not in self.keys:
            leaves = _leaves(self.composer.plain([f"method={method}"]))
            self.keys[method] = [
                (key, value)
                for key, value in leaves
                if key.startswith(self.prefixes)
                and (not self.numbers or isinstance(value, (bool, int, float)))
            ]
        return self.keys[method]

    def line(self, rng: Random) -> list[str]:
        """The words of a random command line."""
        method = rng.choice(self.methods)
        words = [f"method={method}"] if rng.random() < 0.95 else []
        if rng.random() < 0.7:
            words.append(f"density={rng.choice(['0.1', '0.5', '1', '0.01'])}")
        wild = rng.random() < self.wild
        makers = self._wild if wild else self._tame
        words += [rng.choice(makers)(rng, method) for _ in range(rng.randint(1, 4))]
        if rng.random() < 0.1:
            words.append(rng.choice(words))  # a key given twice
        return words

    @property
    def _tame(self) -> Sequence[Callable[[Random, str], str]]:
        return (self._choice, self._value, self._value)

    @property
    def _wild(self) -> Sequence[Callable[[Random, str], str]]:
        return (*self._tame, self._choiceless, self._misspelt, self._garbage)

    def _choice(self, rng: Random, method: str) -> str:
        groups = self.chosen or [group for group, names in self.groups.items() if names]
        group = rng.choice(groups)
        return f"{group}={rng.choice(self.groups[group])}"

    def _choiceless(self, rng: Random, method: str) -> str:
        group, _, name = self._choice(rng, method).partition("=")
        return f"{group}={mutated(name, rng)}"

    def _value(self, rng: Random, method: str) -> str:
        key, value = rng.choice(self.keys_of(method))
        if rng.random() < 0.3:
            return f"{key}={_near(value, rng)}"
        new = rng.choice(NUMBERS + TEXTS)
        if rng.random() < self.quoted:
            new = "'" + new.replace("\\", "\\\\").replace("'", "\\'") + "'"
        return f"{key}={new}"

    def _misspelt(self, rng: Random, method: str) -> str:
        key, value = rng.choice(self.keys_of(method))
        return f"{rng.choice(['', '', '+', '~', '++'])}{mutated(key, rng)}={value}"

    def _garbage(self, rng: Random, method: str) -> str:
        return rng.choice(GARBAGE)


def _leaves(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in node.items():
        yield f"{prefix}{name}", value
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{name}.")


def mutated(text: str, rng: Random) -> str:
    """Text with a letter removed, doubled, replaced or put in."""
    place = rng.randrange(max(1, len(text)))
    letter = rng.choice("aZ0_.-/é '\"[{$=," + NULL)
    return rng.choice(
        [
            text[:place] + text[place + 1 :],
            text[:place] + text[place : place + 1] + text[place:],
            text[:place] + letter + text[place + 1 :],
            text[:place] + letter + text[place:],
            text.upper(),
        ]
    )


def _near(value: Any, rng: Random) -> str:
    """A value like the one that stands there."""
    if isinstance(value, bool):
        return str(not value)
    if isinstance(value, (int, float)):
        return str(rng.choice([-value, value + 1, value * 1000, value / 3, 0, float(value)]))
    return mutated(str(value), rng)
