"""Figures as files."""

import io

from etils import epath
from matplotlib import rc_context
from matplotlib.figure import Figure

from genjax import files


def write_png(path: epath.Path, figure: Figure) -> None:
    """Writes a figure as PNG, whole or not at all."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    files.write_atomically(path, buffer.getvalue())


def write_svg(path: epath.Path, figure: Figure) -> None:
    """Writes a figure as SVG, whole or not at all; equal figures give equal bytes."""
    buffer = io.BytesIO()
    with rc_context({"svg.hashsalt": "genjax", "svg.fonttype": "path"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    files.write_atomically(path, buffer.getvalue())
