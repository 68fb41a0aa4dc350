"""Translations of groups, by few programs, against those of each size's own program."""

import dataclasses
import gc
import weakref

import jax
import numpy as np
import pytest

from genjax import keys, parallel
from genjax.cyclegan import nets, steps
from genjax.gan import translator
from genjax.gan.networks import DOMAINS
from genjax.gan.translator import Translator

pytestmark = pytest.mark.slow

NETWORKS = {
    "resnet": {"num_blocks": 1, "base_channels": 2},
    "residual": {"num_blocks": 1, "base_channels": 2, "output": "residual"},
    "unet": {"generator": "unet", "num_downs": 3, "base_channels": 2},
}
SIZES = [(1, 1), (8, 40), (33, 19)]  # padded to 8x8, 8x40, and 36x20 or 40x24, on one canvas


@pytest.fixture
def make(make_cyclegan):
    """A translator with random parameters with which every layer matters, on one device."""

    def make(channels=(3, 3), precision="float32", on_canvas=True, **cyclegan):
        loss = {"identity_a": 0.0, "identity_b": 0.0}
        config = make_cyclegan(data={"channels": channels}, cyclegan=cyclegan, loss=loss, precision=precision)
        rng = np.random.default_rng(0)
        shapes = jax.eval_shape(lambda: steps.init(config, keys.root_key(0)).ema)
        dtype = jax.dtypes.canonicalize_dtype(float)  # float64 in tests that ask for it
        params = jax.tree.map(lambda leaf: rng.normal(0, 0.3, leaf.shape).astype(dtype), shapes)
        return Translator(config, params, 0, parallel.make_mesh(jax.devices()[:1]), nets.make_networks, on_canvas)

    return make


def photographs(sizes, channels=3):
    rng = np.random.default_rng(1)
    return [rng.uniform(size=(*size, channels)).astype(np.float32) for size in sizes]


def by_groups(translator, direction, images):
    sizes = np.array([image.shape[:2] for image in images])
    found = [None] * len(images)
    for group in translator.groups(sizes):
        for batch in group.batches:
            outputs = translator.translate_group(direction, [images[i] for i in batch], group)
            for i, output in zip(batch, outputs, strict=True):
                found[i] = output
    return found


def largest_distance(translator, direction, images):
    found = by_groups(translator, direction, images)
    expected = [translator.translate(direction, image[None])[0] for image in images]
    return max(np.abs(a - b).max() for a, b in zip(found, expected, strict=True))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("direction", DOMAINS)
@pytest.mark.parametrize("network", NETWORKS)
def test_translate_group_equals_the_exact_size(make, network, direction):
    channels = (3, 3) if network == "residual" else (3, 1)
    images = photographs(SIZES, channels[direction == "b2a"])
    assert largest_distance(make(channels, **NETWORKS[network]), direction, images) < 1e-6


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-5), ("bfloat16", 0.1)])
def test_translate_group_agrees_up_to_rounding(make, precision, tolerance):
    """Not for a picture of one colour: the norm divides by a deviation of 0, and magnifies rounding in any program."""
    assert largest_distance(make(precision=precision, **NETWORKS["resnet"]), "a2b", photographs(SIZES[1:])) < tolerance


def test_translate_group_takes_batches_of_one_size(make):
    images = photographs([(12, 10)] * 3 + [(11, 9)] * 2)  # all padded to 12x12
    used = make(**NETWORKS["resnet"])
    (group,) = used.groups(np.array([image.shape[:2] for image in images]))
    assert len(group.batches) == 1
    found = used.translate_group("a2b", images, group)
    alone = [used.translate_group("a2b", [image], group)[0] for image in images]
    for image, together, one in zip(images, found, alone, strict=True):
        assert together.shape == image.shape
        np.testing.assert_array_equal(together, one)
    assert used.translate_group("a2b", [], group) == []


def in_strips(used, monkeypatch):
    """The same translator, with strips of 10 rows for pictures of more than 300 pixels."""
    monkeypatch.setattr(translator, "STRIP_ROWS", 10)
    monkeypatch.setattr(translator, "STRIP_PIXELS", 0)
    return dataclasses.replace(used, streamed_beyond=300)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("network", NETWORKS)
def test_translate_in_strips_equals_the_whole_picture(make, monkeypatch, network):
    used = make(**NETWORKS[network])
    (image,) = photographs([(33, 19)])
    found = in_strips(used, monkeypatch).a2b(np.stack([image, image[::-1]]))
    expected = used.a2b(np.stack([image, image[::-1]]))
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-4), ("bfloat16", 0.1)])
def test_translate_in_strips_agrees_up_to_rounding(make, monkeypatch, precision, tolerance):
    used = make(precision=precision, **NETWORKS["resnet"])
    (image,) = photographs([(33, 20)])
    found = in_strips(used, monkeypatch).a2b(image[None])
    assert found.dtype == np.float32 and found.shape == image[None].shape
    assert np.abs(found - used.a2b(image[None])).max() < tolerance


def test_translate_takes_strips_beyond_a_size(make, monkeypatch, programs):
    """Alone and in groups, in the order of the pictures; but not with networks from outside."""

    def flipped(generator, params, net, image, strip, after_strip):
        after_strip(1, 1)
        return image[::-1]

    monkeypatch.setattr(translator.translation, "translate_in_strips", flipped)
    sizes = [(20, 15), (20, 16), (8, 8), (30, 40), (12, 8)]
    images = photographs(sizes)
    for on_canvas in (True, False):
        used = in_strips(make(on_canvas=on_canvas, **NETWORKS["resnet"]), monkeypatch)
        alone = [used.a2b(image[None])[0] for image in images]
        for each in (alone, by_groups(used, "a2b", images)):
            for size, image, found in zip(sizes, images, each, strict=True):
                streamed = on_canvas and size[0] * size[1] > 300
                np.testing.assert_array_equal(found, image[::-1] if streamed else image)


def test_translate_in_strips_needs_a_generator(make, monkeypatch):
    used = make(**NETWORKS["resnet"])
    missing = {**used.params, "a2b": jax.tree.map(lambda leaf: leaf + np.nan, used.params["a2b"])}
    used = in_strips(dataclasses.replace(used, params=missing), monkeypatch)
    with pytest.raises(FileNotFoundError, match="has no generator a2b"):
        used.a2b(photographs([(33, 19)])[0][None])


class Program:
    """Gives back its images instead of translating them, and knows the shapes it would be compiled for."""

    def __init__(self):
        self.shapes = set()

    def __call__(self, shared, rows):
        self.shapes.add(rows[0].shape[1:])
        return rows[0]


@pytest.fixture
def programs(monkeypatch):
    """References to all programs, in the order in which they are made."""
    made = []

    def compile_rows(*args, **kwargs):
        program = Program()
        made.append(weakref.ref(program))
        return program

    monkeypatch.setattr(translator, "compile_rows", compile_rows)
    return made


def alive(programs):
    gc.collect()
    return [program() for program in programs if program() is not None]


def test_groups_of_many_sizes_share_programs(make, programs):
    sizes = np.random.default_rng(0).integers(200, 800, (60, 2))
    used = make(channels=(1, 1), **NETWORKS["resnet"])
    images = photographs(sizes, 1)
    for image, found in zip(images, by_groups(used, "a2b", images), strict=True):
        np.testing.assert_array_equal(found, image)
    assert len(programs) <= 8 and all(len(program.shapes) == 1 for program in alive(programs))


def test_translate_keeps_the_last_programs_alone(make, programs):
    used = make(**NETWORKS["resnet"])
    for width in [*range(1, 41, 4), 33]:
        used.a2b(photographs([(8, width)])[0][None])
    assert len(programs) == 10
    assert [program.shapes for program in alive(programs)] == [{(8, width, 3)} for width in range(9, 41, 4)]


def test_groups_without_canvas_give_each_size_a_program(make, programs, caplog):
    caplog.set_level("INFO")
    outside = make(on_canvas=False, **NETWORKS["resnet"])
    images = photographs([(8, width) for width in range(1, 41, 4)])
    for image, found in zip(images, by_groups(outside, "a2b", images), strict=True):
        np.testing.assert_array_equal(found, image)
    assert "one program for each" in caplog.text and len(alive(programs)) == 8
