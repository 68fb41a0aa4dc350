"""Pages in a headless browser, opened from the disk: clicks, and pictures beside genjax's own."""

import base64
import io
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from exportable import make_sampler, make_translator
from genjax.export import page, programs, web_runtime

RUNTIME = os.environ.get("ONNXRUNTIME_WEB", web_runtime.FOLDER)

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(shutil.which("chromium") is None, reason="needs the browser chromium"),
    pytest.mark.skipif(not os.path.isdir(RUNTIME), reason="needs npm install onnxruntime-web"),
]
playwright = pytest.importorskip("playwright.sync_api")


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        yield driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])


def opened(browser, model, path):
    """Opens the page of a model as a phone would; any message of the console is an error."""
    found = {name: each for name, each in programs.of_model(model).items() if not each.is_random}
    family = "vae" if "encode" in found else "cyclegan"
    about = {"config": {"family": family, "genjax": "0.4"}, "provenance": {}}
    path.write_bytes(page.content(model, found, about, RUNTIME))
    tab = browser.new_page(viewport={"width": 400, "height": 800})
    tab.messages = []
    for event in ("console", "pageerror", "request"):
        tab.on(event, lambda said: tab.messages.append(str(getattr(said, "url", said))))
    tab.goto(path.as_uri())
    return tab


def settled(tab):
    tab.wait_for_selector('#main[aria-busy="false"]', timeout=60_000)
    assert tab.inner_text("#state") == "" and tab.evaluate("document.documentElement.scrollWidth") <= 400
    assert [said for said in tab.messages if not said.startswith(("file:", "blob:"))] == []


def shown(tab, canvas):
    """The picture on a canvas, uint8 [h, w, 3]."""
    address = tab.evaluate(f"document.getElementById('{canvas}').toDataURL()")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(address.split(",")[1]))).convert("RGB"))


def png(path, pixels):
    Image.fromarray(pixels).save(path)
    return path


def close(picture, floats):
    """Within 2 of 255 levels of genjax's own."""
    return np.abs(picture.astype(float) - 255 * np.clip(floats, 0, 1)).max() <= 2


def test_page_translates_as_genjax_does(browser, tmp_path):
    model, rng = make_translator("resnet"), np.random.default_rng(0)
    tab = opened(browser, model, tmp_path / "cyclegan.html")
    pixels = rng.integers(0, 256, (21, 34, 1), np.uint8).repeat(3, axis=-1)  # a size that is padded
    tab.set_input_files("#file", png(tmp_path / "given.png", pixels))
    settled(tab)
    assert (shown(tab, "given") == pixels).all()
    for direction, channels in (("a2b", 3), ("b2a", 1)):
        assert close(shown(tab, direction), model.translate(direction, pixels[None, ..., :channels])[0])
    (tmp_path / "none.png").write_text("no picture")
    tab.set_input_files("#file", tmp_path / "none.png")
    tab.wait_for_selector("#state:has-text('none.png is no picture')")


def test_page_explores_latents_as_genjax_does(browser, tmp_path):
    model, rng = make_sampler("conv"), np.random.default_rng(0)
    tab = opened(browser, model, tmp_path / "vae.html")
    settled(tab)
    e = np.zeros((1, 4), np.float32)
    assert close(shown(tab, "explored"), model.decode(e)[0])
    slider = tab.locator("input[id^=e-]").first
    slider.focus()
    for _ in range(10):
        tab.keyboard.press("ArrowRight")  # 0.05 each
    settled(tab)
    e[0, int(slider.get_attribute("id")[2:])] = 0.5
    assert close(shown(tab, "explored"), model.decode(e)[0])

    pictures = rng.integers(0, 256, (2, 8, 8, 1), np.uint8)
    for id, pixels in zip(("first", "second"), pictures, strict=True):
        tab.set_input_files(f"#{id}-file", png(tmp_path / f"{id}.png", pixels[..., 0]))
        settled(tab)
    assert close(shown(tab, "between"), model.interpolate(*pictures, 3)[1])

    tab.set_input_files("#hole-file", tmp_path / "first.png")
    settled(tab)
    side = tab.locator("#hole").bounding_box()["width"]
    tab.locator("#hole").click(position={"x": 0.45 * side, "y": 0.45 * side})
    tab.click("#complete")
    settled(tab)
    x = pictures[:1] / np.float32(255)
    hole = (shown(tab, "hole")[..., :1] == 128) & (np.abs(pictures[0] - 128.0) > 0)
    assert 1 <= hole.sum() < 16
    found = programs.of_model(model)
    x = np.where(hole, np.float32(0.5), x)
    for _ in range(page.ROUNDS):
        mean, _ = found["encode"].fn(x)
        x = np.where(hole, np.clip(found["decode"].fn(mean), 0, 1), x)
    assert close(shown(tab, "completed"), x[0])
