"""serve.py: answers equal what the model gives, and requests that it cannot answer are refused with the reason."""

import contextlib
import dataclasses
import http.client
import io
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import uvicorn
from PIL import Image

import serve
from genjax.data import image_arrays
from genjax.loading import Sampler, Translator, load, load_sampler, load_translator
from tiny import changed

pytestmark = pytest.mark.slow


@contextlib.contextmanager
def serving(model, **options):
    """Yields a function (path, body) that asks a server of `model` on a port of its own: status and content."""
    app = serve.make_app(model, serve.Serve(workdir=model.config.workdir, warm_up=(), **options))
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    (port,) = {bound.getsockname()[1] for each in server.servers for bound in each.sockets}

    def ask(path, body=None):
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port)) as connection:
            connection.request("GET" if body is None else "POST", path, body)
            answer = connection.getresponse()
            return answer.status, answer.read()

    try:
        yield ask
    finally:  # else a test that fails would wait for the server's thread for ever
        server.should_exit = True
        thread.join()


def pixels(answer):
    status, content = answer
    assert status == 200, content
    return np.asarray(Image.open(io.BytesIO(content), formats=("PNG",)))


def encoded(image):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def test_samples_equal_those_of_the_sampler(trained):
    sampler = load_sampler(trained.workdir)
    with serving(sampler, seed=3) as ask, ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda i: ask(f"/samples/{i}"), range(12)))
        expected = image_arrays.to_uint8(sampler.prior(3, 12))[..., 0]
        np.testing.assert_array_equal([pixels(answer) for answer in answers], expected)
        assert json.loads(ask("/")[1]) == {"model": repr(sampler), "step": 12} and "VAE" in repr(sampler)
        for position in ("-1", str(2**31)):
            status, reason = ask(f"/samples/{position}")
            assert status == 422 and b"numbered from 0 to 2147483647" in reason


def test_the_service_describes_itself_without_a_network(trained, trained_identity):
    for workdir, paths in (
        (trained.workdir, {"/", "/samples/{position}"}),
        (trained_identity.workdir, {"/", "/{direction}"}),
    ):
        with serving(load(workdir)) as ask:
            status, schema = ask("/openapi.json")
            assert status == 200 and json.loads(schema)["paths"].keys() == paths
            for page in ("/docs", "/redoc"):  # which load scripts from elsewhere
                assert ask(page)[0] in (404, 405)


def test_translations_keep_size_and_refuse_others(trained_identity):
    translator = load_translator(trained_identity.workdir)
    image = np.random.default_rng(0).integers(0, 256, (20, 33, 3), np.uint8)
    with serving(translator, max_megabytes=1, max_megapixels=1) as ask:
        # This model's translations are their images: so every byte tells that sizes and channels are right.
        for direction in ("a2b", "b2a"):
            np.testing.assert_array_equal(pixels(ask(f"/{direction}", encoded(image))), image)
        clear = np.concatenate([image, np.full((20, 33, 1), 255, np.uint8)], -1)  # laid on the ground of the training
        np.testing.assert_array_equal(pixels(ask("/a2b", encoded(clear))), image)
        for path, body, status, reason in (
            ("/a2c", encoded(image), 422, b"a2b"),
            ("/a2b", b"", 422, b"cannot translate this picture"),
            ("/a2b", b"<script>", 422, b"cannot translate this picture"),
            ("/a2b", encoded(image)[:-30], 422, b"cannot translate this picture"),
            ("/a2b", encoded(np.zeros((1001, 1001), np.uint8)), 422, b"megapixel"),
            ("/a2b", bytes(1_000_001), 413, b"more than 1 megabytes"),
        ):
            refused = ask(path, body)
            assert refused[0] == status and reason in refused[1], (path, body[:20], refused)


def with_channels(translator, channels):
    changes = {"cyclegan": {"output": "tanh"}, "loss": {"identity_a": 0.0, "identity_b": 0.0}}
    return dataclasses.replace(
        translator, config=changed(translator.config, changes | {"data": {"channels": channels}})
    )


def test_each_direction_has_its_generator_and_channels(trained_identity, monkeypatch):
    """From colour to grey and back, by translations that are black or white."""

    def translate_group(translator, direction, images, group):
        source, target = (3, 1) if direction == "a2b" else (1, 3)
        assert [image.shape for image in images] == [(40, 50, source)]
        return [np.full((40, 50, target), float(direction == "b2a"), np.float32)]

    monkeypatch.setattr(Translator, "translate_group", translate_group)
    with serving(with_channels(load_translator(trained_identity.workdir), (3, 1))) as ask:
        for direction, shape, level in (("a2b", (40, 50), 0), ("b2a", (40, 50, 3), 255)):
            found = pixels(ask(f"/{direction}", encoded(np.full((40, 50), 99, np.uint8))))
            assert found.shape == shape and (found == level).all()


def test_programs_are_compiled_before_the_service_answers(trained, trained_identity, monkeypatch):
    drawn, translated = [], []
    monkeypatch.setattr(
        Sampler, "prior", lambda sampler, key, position: drawn.append(list(position)) or np.zeros((1, 8, 8, 1))
    )
    serve.make_app(load(trained.workdir), serve.Serve(workdir=""))
    assert drawn == [[0]]

    def translate_group(translator, direction, images, group):
        translated.append((direction, images[0].shape, group.rows, group.columns))
        return images

    monkeypatch.setattr(Translator, "translate_group", translate_group)
    serve.make_app(load(trained_identity.workdir), serve.Serve(workdir="", warm_up=(256, 20, 65)))
    sides = ((256, 256), (20, 64), (65, 128))  # canvases are powers of 2, and of 64 at least
    assert translated == [(way, (side, side, 3), canvas, canvas) for way in ("a2b", "b2a") for side, canvas in sides]


def test_what_no_png_holds_is_refused(trained_identity, monkeypatch):
    five = lambda translator, direction, images, group: [np.zeros((40, 50, 5), np.float32)]  # noqa: E731
    monkeypatch.setattr(Translator, "translate_group", five)
    with serving(with_channels(load_translator(trained_identity.workdir), (3, 5))) as ask:
        status, reason = ask("/a2b", encoded(np.zeros((40, 50, 3), np.uint8)))
        assert status == 422 and b"cannot write translation.png" in reason


def test_a_model_of_one_direction_refuses_the_other(trained_identity, monkeypatch):
    monkeypatch.setattr(Translator, "directions", ("a2b",))
    with serving(load_translator(trained_identity.workdir)) as ask:
        status, reason = ask("/b2a", encoded(np.zeros((40, 40), np.uint8)))
        assert status == 422 and b"this model has no generator b2a: it translates a2b" in reason


def test_pictures_are_translated_one_after_another(trained_identity, monkeypatch):
    """However many requests wait, the memory of one canvas is enough; a narrow picture would need many times more."""
    running, most = [0], [0]

    def translate_group(translator, direction, images, group):
        running[0] += 1
        most[0] = max(most[0], running[0])
        time.sleep(0.05)
        running[0] -= 1
        return images

    monkeypatch.setattr(Translator, "translate_group", translate_group)
    image = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    narrow = encoded(np.zeros((1, 10**6), np.uint8))
    with serving(load_translator(trained_identity.workdir), max_megapixels=1) as ask, ThreadPoolExecutor(6) as pool:
        for answer in pool.map(lambda _: ask("/a2b", encoded(image)), range(6)):
            np.testing.assert_array_equal(pixels(answer), image)
        status, reason = ask("/a2b", narrow)
    assert most == [1] and status == 422 and b"1x1000000 pixels are too long and narrow" in reason


def test_a_failing_model_is_no_fault_of_the_request(trained_identity, monkeypatch):
    def translate_group(translator, direction, images, group):
        raise RuntimeError("RESOURCE_EXHAUSTED: at /home/of/the/operator")

    monkeypatch.setattr(Translator, "translate_group", translate_group)
    with serving(load_translator(trained_identity.workdir)) as ask:
        assert ask("/a2b", encoded(np.zeros((40, 40), np.uint8))) == (500, b"Internal Server Error")
