"""Elements of a page. They are trees, never strings: the serialiser escapes whatever text a file of a run puts in."""

import base64
from collections.abc import Iterable, Mapping, Sequence
from xml.etree.ElementTree import Element


def tag(name: str, /, *content: Element | str, **attributes: str) -> Element:
    """Makes an element that holds texts and elements; `class_` becomes the attribute class."""
    element = Element(name, {key.rstrip("_").replace("_", "-"): value for key, value in attributes.items()})
    for part in content:
        if not isinstance(part, str):
            element.append(part)
        # ElementTree keeps the text after a child in that child's tail.
        elif len(element):
            element[-1].tail = (element[-1].tail or "") + part
        else:
            element.text = (element.text or "") + part
    return element


def picture(content: bytes, kind: str, alt: str) -> Element:
    """Makes an image of the bytes of a PNG or WebP file (`kind`), with a text in its place."""
    return tag("img", src=f"data:image/{kind};base64,{base64.b64encode(content).decode()}", alt=alt)


def table(rows: Iterable[Sequence[Element | str]], header: tuple[str, ...] = ()) -> Element:
    """Makes a table that scrolls by itself where the screen is narrower."""
    made = tag("table")
    if header:
        made.append(tag("thead", tag("tr", *(tag("th", cell, scope="col") for cell in header))))
    body = tag("tbody")
    for first, *others in rows:
        body.append(tag("tr", tag("th", first, scope="row"), *(tag("td", cell) for cell in others)))
    made.append(body)
    return tag("div", made, class_="wide")


def details(summary: str, *content: Element) -> Element:
    """Makes a part of the page that opens on a click."""
    return tag("details", tag("summary", summary), *content)


def number(value: object) -> str:
    """Formats a metric, or what stands in its place."""
    if value is None:
        return "not finite"
    return f"{value:.4g}" if isinstance(value, int | float) else str(value)


def pairs(values: Mapping[str, object]) -> list[tuple[str, str]]:
    """Returns the rows of a table of names and values."""
    return [(name, str(value)) for name, value in values.items()]
