"""Figures as files."""

import io

from etils import epath
from matplotlib.figure import Figure

from genjax import files


def write_png(path: epath.Path, figure: Figure) -> None:
    """Writes a figure as PNG, whole or not at all."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    files.write_atomically(path, buffer.getvalue())
