"""Page of translations: a labelled row for each rule or run, a column for each image."""

from collections.abc import Mapping

import numpy as np
from etils import epath
from PIL import Image, ImageDraw, ImageFont

from genjax.data import image_arrays

SCALE = 2
GAP, MARGIN = 4, 8
"""Gap between images, and margin around the page and its labels, in pixels."""


def page(path: epath.Path, title: str, rows: Mapping[str, np.ndarray]) -> epath.Path:
    """Writes a PNG of `rows` at twice their size, and returns its path. Rows are uint8 [k, h, w, 1 or 3] by label."""
    font = ImageFont.load_default(15)
    pictures = [images.repeat(SCALE, axis=1).repeat(SCALE, axis=2) for images in rows.values()]
    num, height, width, _ = pictures[0].shape
    label_width = round(max(font.getlength(label) for label in rows)) + 2 * MARGIN
    top = 24 + MARGIN
    size = (label_width + num * (width + GAP) + MARGIN, top + len(rows) * (height + GAP) + MARGIN)
    canvas = Image.new("RGB", (max(size[0], round(font.getlength(title)) + 2 * MARGIN), size[1]), "white")
    pen = ImageDraw.Draw(canvas)
    pen.text((MARGIN, MARGIN), title, fill="black", font=font)
    for row, (label, images) in enumerate(zip(rows, pictures, strict=True)):
        y = top + row * (height + GAP)
        pen.text((MARGIN, y + height / 2), label, fill="black", font=font, anchor="lm")
        for column, image in enumerate(images):
            whole = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
            canvas.paste(whole, (label_width + column * (width + GAP), y))
    image_arrays.write_png(path, np.asarray(canvas))
    return path
