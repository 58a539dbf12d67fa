"""Other words for choices and keys (conf/synonyms.yaml), read or named by error messages."""

from functools import cache

from runner.config.plain import Plain, read_plain
from runner.paths import CONF

SHARES = ("sparsity", "prune_ratio", "pruning_ratio")  # of pruned weights, 1 - density


def other_key(word: str) -> str | None:
    """The key that `word` may mean; None if no synonym is known."""
    found: str | None = _read()["keys"].get(word.lower())
    return found


def as_read(word: str) -> str:
    """The word of a command line with its key as it is read: mask=FILE is method.masks=FILE."""
    key, sign, value = word.partition("=")
    return f"{_read()['read'].get(key, key)}{sign}{value}"


def other_choice(group: str, word: str) -> str | None:
    """The choice of a group that `word` may mean; None if no synonym is known."""
    names: dict[str, str] = _read()["choices"].get(group, {})
    return names.get(word.lower().replace("-", "_"))


def corrected(key: str, value: str) -> str:
    """The override that `key=value` may mean, in the words that are known here.

    Examples: sparsity=0.9 is density=0.1, lr=0.1 is train.lr=0.1, method=lth is method=imp.
    """
    values = value.split(",")
    if key.lower() in SHARES:
        return f"density={','.join(map(_kept, values))}"
    known = other_key(key) or key
    return f"{known}={','.join(other_choice(known, each) or each for each in values)}"


def _kept(share: str) -> str:
    """The density of a share of pruned weights; its formula where it is no number."""
    try:
        return f"{round(1 - float(share), 12):g}"
    except ValueError:
        return "1 - sparsity"


@cache
def _read() -> Plain:
    return read_plain(CONF / "synonyms.yaml", resolve=False)
