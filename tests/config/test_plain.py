"""Keys of plain dicts are those that OmegaConf selects."""

import pytest
from omegaconf import OmegaConf

from runner.config.plain import has_key

TREE = {
    "a": {"b": {"c": None, "d": "???", "e": "${list}"}, "ref": "${a.b}"},
    "list": [1, {"x": 2}],
    "text": "word",
}


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("a", True),
        ("a.b.c", True),  # null is a value
        ("a.b.d", False),
        ("a.b.f", False),
        ("a.x.y", False),
        ("a.ref.c", True),
        ("a.ref.f", False),
        ("a.b.e.1.x", True),
        ("list.1.x", True),
        ("list.0", True),
        ("nothing", False),
    ],
)
def test_a_key_is_found_where_omegaconf_selects_a_value(key: str, expected: bool) -> None:
    absent = object()
    selected = OmegaConf.select(OmegaConf.create(TREE), key, default=absent)
    assert has_key(TREE, key) == (selected is not absent) == expected
