"""Pictures of a run: grids that a slider steps through training, animations, and nearest training pictures."""

import re
from collections.abc import Iterator
from xml.etree.ElementTree import Element

from etils import epath

from genjax import glossary
from genjax.report.elements import picture, tag

TITLES = {
    "samples": "samples: new images from the prior",
    "reconstructions": "reconstructions: validation images, each with its reconstruction to the right",
    "interpolations": "interpolations: from one test image to another, and back",
    "paths-in-a": "paths: from an image of A (left) to one of B, shown as images of A",
    "paths-in-b": "paths: from an image of A (left) to one of B, shown as images of B",
}
"""Titles of kinds whose name does not say what the columns are."""

MOST_PICTURES = 12
"""Grids of a kind that the page holds; of more, evenly spaced ones."""


def pictures(directory: epath.Path) -> Iterator[Element]:
    """Yields a figure for each kind of picture, from files named KIND-STEP.png or .webp; samples come first."""
    kinds: dict[str, dict[int, epath.Path]] = {}
    for path in sorted(directory.iterdir() if directory.exists() else [], key=lambda path: path.name):
        if (found := re.fullmatch(r"(.+)-(\d+)", path.stem)) and path.suffix in (".png", ".webp"):
            kinds.setdefault(found[1], {})[int(found[2])] = path
    if kinds:
        yield tag("h3", "Pictures")
        ordered = sorted(kinds.items(), key=lambda item: (item[0] != "samples", -len(item[1]), item[0]))
        yield tag("div", *(_figure(kind, by_step) for kind, by_step in ordered), class_="pictures")


def _figure(kind: str, by_step: dict[int, epath.Path]) -> Element:
    """Makes the figure of a kind named NAME_COLUMN_COLUMN; without scripts, the last step is shown."""
    name, *columns = kind.split("_")
    name = re.sub(r"\b(a2b|b2a)\b", lambda direction: glossary.PLACES[f"_{direction[0]}"], name)
    title = f"{name}: {', '.join(columns)}" if columns else TITLES.get(name, name)
    steps = sorted(by_step)
    if len(steps) > MOST_PICTURES:
        steps = [steps[i * (len(steps) - 1) // (MOST_PICTURES - 1)] for i in range(MOST_PICTURES)]
    images = [
        picture(by_step[step].read_bytes(), by_step[step].suffix[1:], f"{title}, step {step:,}") for step in steps
    ]
    for image in images[:-1]:  # the slider shows them
        image.set("hidden", "hidden")
    caption = tag("figcaption", f"{title}, step {steps[-1]:,}")
    return tag("figure", *images, caption, class_="steps" if len(steps) > 1 else "one")
