"""Figures within a page: small inline SVG, whose lines and letters have the page's colours.

matplotlib's drawing is kept; the title and the caption become text of the page, where a phone shows
them in a readable size.
"""

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from runner.errors import Damaged
from runner.figures.draw import CAPTION, TITLE

HREF = "{http://www.w3.org/1999/xlink}href"
KEPT = {"svg", "g", "path", "use", "defs", "clipPath", "rect", "text", "tspan", "image", "line"}
ATTRIBUTES = ("x", "y", "width", "height", "transform", "preserveAspectRatio")
# Black and grey of axes and text, which would vanish on a dark page.
INK = dict.fromkeys(("#000000", "#262626", "#444444"), "currentColor")
NUMBER = re.compile(r"-?\d+\.\d+(?![\de])")
STEP = re.compile(r"([MLz])([^MLz]*)")  # of a path
LINES = re.compile(r"[MLz\d.\s-]*")  # a path of straight lines alone
STILL = re.compile(r"rotate\(-?0(\.0*)? [^)]*\)")  # turns nothing
MARGIN = 8.0  # points between the drawing and what was cut off
PANEL = 0.85  # smallest CSS pixels per point, so that text stays readable; wider pictures scroll


@dataclass
class Styles:
    """The styles of the elements of a page's pictures: declarations -> name of a class."""

    names: dict[str, str] = field(default_factory=dict)
    drawings: int = 0

    def prefix(self) -> str:
        """The beginning of the ids of another drawing."""
        self.drawings += 1
        return f"p{self.drawings}-"

    def name(self, declarations: str) -> str:
        """The class of these declarations."""
        return self.names.setdefault(declarations, f"s{len(self.names)}")

    @property
    def sheet(self) -> str:
        """The rules of all classes."""
        return "\n".join(f".{name}{{{text}}}" for text, name in self.names.items())


@dataclass(frozen=True)
class Picture:
    """A figure for a page.

    Args:
        svg: an element for HTML.
        notes: the text of its caption.
    """

    svg: str
    notes: str


@dataclass(frozen=True)
class Drawing:
    """What the elements of one drawing share.

    Args:
        prefix: begins the ids in the element, which are unique on a page.
        used: the ids that elements refer to.
    """

    prefix: str
    styles: Styles
    used: frozenset[str]


def picture(path: Path, styles: Styles) -> Picture:
    """The picture in an SVG file.

    Args:
        styles: those of its elements are added.

    Raises:
        Damaged: the file is no SVG.
    """
    try:
        root = ET.parse(path).getroot()
        x, y, width, height = map(float, root.get("viewBox", "").split())
    except (ET.ParseError, ValueError) as error:
        raise Damaged(path, f"it is no picture ({error})") from None
    title, caption = (_texts(root, name) for name in (TITLE, CAPTION))
    top = max((at for at, _ in title), default=y - MARGIN) + MARGIN
    bottom = min((at for at, _ in caption), default=y + height) - MARGIN
    drawing = Drawing(styles.prefix(), styles, frozenset(name[1:] for name in _references(root)))
    body = "".join(_element(child, drawing, False) for child in root)
    svg = (
        f'<svg class="plot" role="img" viewBox="{_short(f"{x} {top} {width} {bottom - top}")}"'
        f' style="min-width:{PANEL * width:.0f}px;max-width:{1.3 * width:.0f}px">{body}</svg>'
    )
    return Picture(svg, " ".join(text for _, text in caption))


def _texts(root: ET.Element, group: str) -> list[tuple[float, str]]:
    """Pairs (height, text) of the lines of a group."""
    return [
        (_height(element), "".join(element.itertext()).strip())
        for found in root.iter()
        if found.get("id") == group
        for element in found.iter()
        if _tag(element) == "text"
    ]


def _height(element: ET.Element) -> float:
    """The y of the base line of a text."""
    moved = re.search(r"translate\([-\d.]+[ ,]+([-\d.]+)", element.get("transform", ""))
    return float(element.get("y", 0)) + (float(moved[1]) if moved else 0.0)


def _tag(element: ET.Element) -> str:
    """The name of an element; empty for a comment."""
    return element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""


def _references(root: ET.Element) -> Iterator[str]:
    """The ids that elements refer to, after a hash sign."""
    for element in root.iter():
        if (target := element.get(HREF, "")).startswith("#"):
            yield target
        yield from re.findall(r"url\((#[^)]+)\)", element.get("clip-path", ""))


def _element(element: ET.Element, drawing: Drawing, coloured: bool) -> str:
    """An element and what is in it; unknown ones, title and caption are left out.

    Args:
        coloured: whether black and white are values, as in the cells of a phase diagram.
    """
    tag, name = _tag(element), element.get("id", "")
    if tag not in KEPT or name in (TITLE, CAPTION):
        return ""
    coloured = coloured or name.startswith("QuadMesh")
    content = _text(element.text) if tag in ("text", "tspan") else ""
    for child in element:
        content += _element(child, drawing, coloured)
        content += _text(child.tail) if tag in ("text", "tspan") else ""
    attributes = "".join(
        f' {key}="{_text(value)}"' for key, value in _attributes(element, drawing, coloured)
    )
    if tag == "g" and not attributes or tag in ("g", "defs") and not content:
        return content
    return f"<{tag}{attributes}>{content}</{tag}>" if content else f"<{tag}{attributes}/>"


def _attributes(element: ET.Element, drawing: Drawing, coloured: bool) -> Iterator[tuple[str, str]]:
    """The attributes that decide what is seen."""
    prefix = drawing.prefix
    if (name := element.get("id", "")) in drawing.used:
        yield "id", prefix + name
    if path := element.get("d"):
        yield "d", _path(path)
    target = element.get(HREF, "")
    if target.startswith("#"):
        yield "href", f"#{prefix}{target[1:]}"
    elif target.startswith("data:image/png"):
        yield "href", "".join(target.split())
    if clip := element.get("clip-path"):
        yield "clip-path", clip.replace("url(#", f"url(#{prefix}")
    for key in ATTRIBUTES:
        value = STILL.sub("", element.get(key, "")).strip()
        if value:
            yield key, _short(value)
    if style := ";".join(_style(element.get("style", ""), coloured)):
        yield "class", drawing.styles.name(style)


def _path(text: str) -> str:
    """A path; one of straight lines alone has relative steps in tenths of a point."""
    if not LINES.fullmatch(text):
        return re.sub(r" ?([A-Za-z]) ?", r"\1", _short(" ".join(text.split())))
    found, at, start = "", (0, 0), (0, 0)
    for command, numbers in STEP.findall(text):
        if command == "z":
            found, at = f"{found}z", start
            continue
        x, y = (round(10 * float(number)) for number in numbers.split())
        if command == "M":
            found, start = f"{found}M{x / 10:g} {y / 10:g}", (x, y)
        else:
            found += _line(x - at[0], y - at[1])
        at = x, y
    return found


def _line(dx: int, dy: int) -> str:
    """A step by tenths of a point."""
    if dy == 0:
        return f"h{dx / 10:g}"
    return f"v{dy / 10:g}" if dx == 0 else f"l{dx / 10:g} {dy / 10:g}"


def _style(text: str, coloured: bool) -> Iterator[str]:
    """The declarations of a style, with the page's font and, outside cells, its colours."""
    for declaration in text.split(";"):
        key, _, value = (part.strip() for part in declaration.partition(":"))
        if not key or key == "font-family":
            continue
        if not coloured:
            value = "none" if (key, value) == ("fill", "#ffffff") else INK.get(value, value)
        yield f"{key}:{_short(value)}"


def _short(text: str) -> str:
    """The text with numbers rounded to hundredths of a point."""
    return NUMBER.sub(lambda match: f"{float(match[0]):.2f}".rstrip("0").rstrip("."), text)


def _text(text: str | None) -> str:
    """Escaped text without line breaks."""
    plain = " ".join((text or "").split("\n")).replace("&", "&amp;").replace("<", "&lt;")
    return plain.replace('"', "&quot;")
