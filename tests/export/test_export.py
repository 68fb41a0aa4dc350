"""Export in each format: what is written, and what is refused before anything is loaded."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from exportable import make_translator
from genjax import export
from genjax.export import page, web_runtime
from genjax.loading import load


@pytest.fixture
def runtime(tmp_path):
    """A folder in the place of the npm package, with nothing to run in it."""
    for name in web_runtime.PARTS.values():
        path = tmp_path / "onnxruntime-web" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"export {}")
    (tmp_path / "onnxruntime-web" / "package.json").write_text('{"version": "1.30.0"}')
    return tmp_path / "onnxruntime-web"


@pytest.mark.slow
def test_export_writes_programs_and_what_they_are(trained, tmp_path):
    model = load(trained.workdir)
    for to, names in (("stablehlo", ["prior", "reconstruct", "encode", "decode"]), ("onnx", ["encode", "decode"])):
        folder = export.export(model, to, tmp_path / to)
        about = json.loads((folder / "about.json").read_text())
        assert list(about["programs"]) == names and about["step"] == 12
        assert about["provenance"]["digest"] == json.loads(Path(trained.workdir, "result.json").read_text())["digest"]
        assert {path.name for path in folder.iterdir()} == {"about.json", *(f"{name}.{to}" for name in names)}


@pytest.mark.slow
def test_export_writes_a_page_without_addresses(trained, runtime, tmp_path):
    page = export.export(load(trained.workdir), "html", tmp_path / "vae.html", runtime).read_text()
    assert "VAE of digits" in page and "http" not in page.replace('http-equiv="', "") and "/tmp/" not in page
    settings = json.loads(page.split('id="settings">')[1].split("</script>")[0])
    assert settings["shape"] == [8, 8, 1] and 1 <= len(settings["used"]) <= settings["latent_dim"] == 4
    assert sorted(set(settings["used"])) == sorted(settings["used"])


def test_check_refuses_formats_names_and_existing_files(tmp_path, runtime):
    (tmp_path / "there").mkdir()
    (tmp_path / "there.html").touch()
    for to, out, said in (
        ("onyx", "x.onyx", "--to onyx is no format: give safetensors or stablehlo or onnx or html"),
        ("safetensors", "x.onnx", "must end in .safetensors"),
        ("onnx", "x.onnx", "must name a folder, without a suffix"),
        ("html", "x", "must end in .html"),
        ("stablehlo", tmp_path / "there", "exists already: give another --out"),
        ("html", tmp_path / "there.html", "exists already"),
    ):
        with pytest.raises(ValueError, match=said):
            export.check(to, out, runtime)


@pytest.mark.parametrize(("to", "module"), [("stablehlo", "flatbuffers"), ("onnx", "onnx"), ("html", "onnx")])
def test_check_names_the_missing_extra(to, module, monkeypatch, tmp_path, runtime):
    monkeypatch.setitem(sys.modules, module, None)
    out = tmp_path / f"out{export.FORMATS[to].suffix}"
    with pytest.raises(ValueError, match=rf"{to} needs {module} .*pip install 'genjax-images\[export\]'"):
        export.check(to, out, runtime)


def test_check_names_the_missing_runtime(tmp_path):
    with pytest.raises(ValueError, match="needs onnxruntime-web, .*none/package.json: npm install onnxruntime-web"):
        export.check("html", tmp_path / "x.html", tmp_path / "none")


@pytest.mark.slow
def test_content_refuses_pictures_that_a_browser_has_not(tmp_path, runtime):

    for data, said in (
        ({"channels": (4, 4)}, "1 or 3 channels, and this run has 4"),
        ({"levels": (0.0, 300.0)}, "all levels of a picture, and this run has --data.levels"),
    ):
        model = make_translator("residual", data=data)
        with pytest.raises(ValueError, match=said):
            page.content(model, {}, {"config": {"family": "cyclegan"}}, runtime)


def test_planes_move_every_fourth_byte_together():
    values = np.arange(10, dtype=np.uint8)
    assert page._planes(values.tobytes()) == bytes([0, 4, 1, 5, 2, 6, 3, 7, 8, 9])
