"""Figures of a page: small, in the page's colours, with text beside the drawing."""

from pathlib import Path

import pytest

from runner.errors import Damaged
from runner.report.pictures import Styles, picture

HEAD = (
    '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    ' viewBox="0 0 200 300"><script>alert(1)</script><metadata>none</metadata>'
)
TEXTS = (
    '<g id="title"><text y="12">The title</text></g>'
    '<g id="caption"><text transform="translate(5 250.5)">n=3 &lt;seeds&gt;.</text>'
    '<text transform="translate(5 260.5)">On a CPU.</text></g>'
)


def drawn(tmp_path: Path, body: str, styles: Styles | None = None) -> str:
    path = tmp_path / "figure.svg"
    path.write_text(f"{HEAD}{body}{TEXTS}</svg>")
    found = picture(path, styles or Styles())
    assert found.notes == "n=3 <seeds>. On a CPU."
    return found.svg


def test_title_and_caption_become_text_and_their_space_is_cut_off(tmp_path: Path) -> None:
    svg = drawn(tmp_path, "")
    assert 'viewBox="0 20 200 222.5"' in svg  # from 8 points below 12 to 8 points above 250.5
    for gone in ("title", "seeds", "script", "metadata", "none"):
        assert gone not in svg


def test_lines_have_steps_of_a_tenth_and_do_not_drift(tmp_path: Path) -> None:
    places = [(0.04 * i, 7 - 0.033 * i) for i in range(200)]
    path = "M " + " L ".join(f"{x:.6f} {y:.6f}" for x, y in places)
    svg = drawn(tmp_path, f'<path d="{path}"/>')
    text = svg.partition(' d="M')[2].partition('"')[0]
    found, at = [], (0.0, 0.0)
    for step in text.replace("l", "|l").replace("h", "|h").replace("v", "|v").split("|"):
        numbers = [float(number) for number in step.strip("lhv").split()]
        dx, dy = {"h": (numbers[0], 0), "v": (0, numbers[0])}.get(step[0], tuple(numbers[:2]))
        at = (at[0] + dx, at[1] + dy)
        found.append(at)
    assert len(found) == len(places)
    for (x, y), (theirs_x, theirs_y) in zip(found, places, strict=True):
        assert abs(x - theirs_x) <= 0.0501 and abs(y - theirs_y) <= 0.0501


def test_ink_follows_the_page_but_cells_keep_their_values(tmp_path: Path) -> None:
    styles = Styles()
    black, white = (
        f'<path d="M 0 0 L 1 0 z" style="fill: {colour}"/>' for colour in ("#000000", "#ffffff")
    )
    svg = drawn(tmp_path, f'{black}{white}<g id="QuadMesh_1">{black}{white}</g>', styles)
    named = {name: text for text, name in styles.names.items()}
    fills = [named[part.partition('"')[0]] for part in svg.split(' class="')[2:]]
    assert fills == ["fill:currentColor", "fill:none", "fill:#000000", "fill:#ffffff"]
    assert all(f".{name}{{{text}}}" in styles.sheet for name, text in named.items())


def test_ids_of_two_drawings_differ(tmp_path: Path) -> None:
    body = (
        '<defs><path id="tick" d="M 0 0 L 0 3.5"/><path id="idle" d="M 0 0 L 0 1"/></defs>'
        '<use xlink:href="#tick" x="1.25" y="2"/>'
    )
    styles = Styles()
    one, two = (drawn(tmp_path, body, styles) for _ in range(2))
    assert 'id="p1-tick"' in one and 'href="#p1-tick"' in one and "idle" not in one
    assert 'id="p2-tick"' in two and 'href="#p2-tick"' in two


def test_what_is_no_picture_is_named(tmp_path: Path) -> None:
    path = tmp_path / "figure.svg"
    for text in ("", "<svg", "<svg/>"):
        path.write_text(text)
        with pytest.raises(Damaged, match="figure.svg"):
            picture(path, Styles())
