import io

import numpy as np
import pytest
from PIL import Image, ImageDraw

from genjax import keys
from genjax.data import scaling
from genjax.data.config import DataConfig
from genjax.data.pictures import Picture
from genjax.vae import masks

KEY, SIZE = keys.root_key(0), (28, 24)


def named(name, num=200, size=SIZE):
    return masks.named(name, KEY, np.arange(num), size)


@pytest.mark.parametrize("one, other", [("half-left", "half-right"), ("half-top", "half-bottom")])
@pytest.mark.parametrize("size", [(28, 24), (7, 9)])
def test_named_halves_part_the_image(one, other, size):
    first, second = named(one, 2, size), named(other, 2, size)
    assert first.shape == (2, *size)
    assert not (first & second).any()
    axis = 2 if one == "half-left" else 1
    np.testing.assert_array_equal(np.flip(first, axis), second)
    assert first.any() and (~(first | second)).sum() == 2 * (size[axis - 1] % 2) * size[2 - axis]


def test_named_square_is_in_the_middle():
    square = named("square", 1)[0]
    assert square.sum() == 14 * 12
    np.testing.assert_array_equal(square, square[::-1, ::-1])


@pytest.mark.parametrize("share", ["0.5", "0.07", ".9"])
def test_named_random_hides_exactly_that_share(share):
    drawn = named(f"random-{share}", 400)
    np.testing.assert_array_equal(drawn.sum(axis=(1, 2)), round(float(share) * 28 * 24))
    assert np.abs(drawn.mean(axis=0) - float(share)).max() < 5 * np.sqrt(0.25 / 400)
    assert len(np.unique(drawn.reshape(400, -1), axis=0)) == 400


@pytest.mark.parametrize("size", [(28, 24), (8, 8), (3, 5)])
def test_named_rectangles_hide_a_part(size):
    drawn = named("rectangles", 300, size)
    assert drawn.any(axis=(1, 2)).all() and not drawn.all(axis=(1, 2)).any()
    assert drawn.any(axis=0).all()  # every pixel is hidden at times


@pytest.mark.parametrize("name", ["random-0.3", "rectangles"])
def test_named_depends_on_key_and_position_alone(name):
    np.testing.assert_array_equal(masks.named(name, KEY, np.array([7, 3]), SIZE), named(name)[[7, 3]])
    assert (masks.named(name, keys.root_key(1), np.arange(2), SIZE) != named(name, 2)).any()


def test_named_refuses_other_names():
    for name in ("half", "random", "random-x", "Square"):
        with pytest.raises(ValueError, match=f"no mask or file is called '{name}': give half-left"):
            named(name)
    with pytest.raises(ValueError, match="hides 672 of 672 pixels"):
        named("random-1.0")
    with pytest.raises(ValueError, match="hides 0 of 672"):
        named("random-0")


# Masks from an editor.

HOLE = np.zeros((8, 6), bool)
HOLE[2:5, 1:4] = True


def layer(colour, shown):
    """One colour where `shown`, on a transparent layer whose colours are black."""
    return Picture(np.where(shown[..., None], np.array(colour, np.uint8), np.uint8(0)), shown * np.uint8(255))


PHOTO = np.random.default_rng(0).integers(0, 256, (8, 6, 3), np.uint8)


@pytest.mark.parametrize(
    ("picture", "kind"),
    [
        (Picture(HOLE[..., None] * np.uint8(255)), "white"),
        (Picture(HOLE[..., None] * np.uint16(65535)), "white"),
        (Picture((HOLE[..., None] * np.uint8(255)).repeat(3, -1), np.full((8, 6), 255, np.uint8)), "white"),
        (Picture(PHOTO, ~HOLE * np.uint8(255)), "transparent"),
        (Picture(PHOTO.astype(np.uint16) * 257, ~HOLE * np.uint16(65535)), "transparent"),
        (layer((0, 0, 0), ~HOLE), "transparent"),  # a black sheet with a hole
        (layer((255, 0, 0), HOLE), "painted"),
        (layer((60, 60, 140), HOLE), "painted"),
        (layer((255, 255, 255), HOLE), "painted"),
    ],
)
def test_painted_finds_the_hole(picture, kind):
    found, said = masks.painted(picture)
    np.testing.assert_array_equal(found, HOLE)
    assert said == kind


def test_painted_refuses_floats():
    with pytest.raises(ValueError, match="samples are floating point, signed or of 32 bits: give a picture of 8 or 16"):
        masks.painted(Picture(np.zeros((8, 6, 1), np.float32)))


def drawn(paint, ground, quality=None, size=(64, 48)):
    """A mask as an editor saves it: smooth edges, and perhaps the noise of JPEG."""
    disk = Image.new("L", (4 * size[1], 4 * size[0]))
    ImageDraw.Draw(disk).ellipse((40, 60, 130, 170), fill=255)
    image = Image.composite(
        Image.new("RGB", size[::-1], paint), Image.new("RGB", size[::-1], ground), disk.resize(size[::-1])
    )
    if quality is not None:
        image.save(encoded := io.BytesIO(), "JPEG", quality=quality)
        image = Image.open(encoded)
    return Picture(np.asarray(image))


@pytest.mark.parametrize("quality", [None, 95, 50, 10])
@pytest.mark.parametrize(("paint", "ground"), [("white", "black"), ("yellow", "navy"), ("silver", "maroon")])
def test_painted_takes_masks_with_smooth_edges_and_noise(paint, ground, quality):
    found, _ = masks.painted(drawn(paint, ground, quality))
    assert (found != (drawn("white", "black").pixels[..., 0] > 127)).mean() < 0.02


def test_painted_refuses_photographs():
    rows, columns = np.mgrid[:48, :64] / 64
    photo = np.stack([rows, columns, 1 - rows * columns], -1)
    photo += np.random.default_rng(0).normal(0, 0.05, photo.shape)
    photo = (photo.clip(0, 1) * 255).astype(np.uint8)
    for alpha in (None, np.full(photo.shape[:2], 255, np.uint8)):
        with pytest.raises(
            ValueError, match=r"in colour, not a mask: \d\d% of its pixels .* white where a pixel is mi"
        ):
            masks.painted(Picture(photo, alpha))
    grey = (photo @ [0.299, 0.587, 0.114]).astype(np.uint8)[..., None]  # smooth masks have all levels too
    assert 0.2 < masks.painted(Picture(grey))[0].mean() < 0.8


def test_erased_is_the_transparent_part():
    soft = np.where(HOLE, 100, 200).astype(np.uint8)
    np.testing.assert_array_equal(masks.erased(Picture(PHOTO, soft)), HOLE)
    assert masks.erased(Picture(PHOTO)) is None


def sized(height, width, resize="cover", load_scale=()):
    return DataConfig(
        source="unused", image_size=(height, width), channels=(1,), batch_size=1, resize=resize, load_scale=load_scale
    )


def scaled(missing, data):
    """The mask of a picture of its own size."""
    return masks.scaled(missing, missing.shape, data)


@pytest.mark.parametrize("factor", [1, 3])
def test_scaled_keeps_whole_pixels(factor):
    large = HOLE.repeat(factor, 0).repeat(factor, 1)
    np.testing.assert_array_equal(scaled(large, sized(8, 6)), HOLE)
    np.testing.assert_array_equal(scaled(HOLE, sized(*large.shape, "stretch")), large)


def test_scaled_keeps_thin_strokes():
    stroke = np.zeros((80, 60), bool)
    stroke[:, 25] = True
    assert scaled(stroke, sized(8, 6)).tolist() == [[False, False, True, False, False, False]] * 8


def test_scaled_crops_as_images_are():
    wide = np.zeros((8, 24), bool)
    wide[:, :8] = True
    assert scaled(wide, sized(8, 8, "stretch"))[:, :3].any()
    assert not scaled(wide, sized(8, 8)).any()  # the centre alone


@pytest.mark.parametrize("resize, load_scale", [
    ("cover", ()), ("cover", (1.375, 1.5)), ("stretch", (1.375, 1.5)), ("width", (1.2,)), ("none", ())
])  # fmt: skip
@pytest.mark.parametrize("size", [(40, 60), (33, 31), (29, 17)])
def test_scaled_hides_what_images_show_there(resize, load_scale, size):
    data = sized(8, 8, resize, load_scale)
    for begin in range(6, 16):  # each of them between other pixels of the model
        blot = np.zeros(size, bool)
        blot[begin : begin + 13, begin // 2 : begin // 2 + 9] = True
        shown = scaling.evaluated(blot[..., None] * np.uint8(255), data)[..., 0]
        hidden = scaled(blot, data)
        assert hidden[shown > 48].all()
        assert hidden.sum() <= 1.4 * (shown > 0).sum()


@pytest.mark.parametrize("resize", ["cover", "stretch", "width", "none"])
def test_scaled_lays_masks_over_pictures(resize):
    data, large = sized(8, 8, resize), np.zeros((48, 64), bool)
    large[16:24, 20:32] = True
    assert scaled(large, data).any()
    np.testing.assert_array_equal(masks.scaled(large[::2, ::2], large.shape, data), scaled(large, data))
    half = np.zeros((16, 16), bool)
    half[:8] = True
    assert masks.scaled(half, (8, 8), data).tolist() == [[True] * 8] * 4 + [[False] * 8] * 4  # seen whole


@pytest.mark.parametrize("resize", ["cover", "stretch", "width", "none"])
@pytest.mark.parametrize("size", [(33, 31), (29, 47), (12, 9)])
def test_over_keeps_masks_where_pictures_are_seen(resize, size):
    data, blot = sized(8, 8, resize), np.random.default_rng(0).random(size) < 0.3
    laid, part = masks.over(blot, size, data), masks.seen_pixels(size, data)
    np.testing.assert_array_equal(laid[part], blot[part])
    assert laid.sum() == blot[part].sum()
    finer = blot.repeat(3, 0).repeat(3, 1)
    np.testing.assert_array_equal(masks.over(finer, size, data), laid)


@pytest.mark.parametrize("size", [(16, 16), (20, 36), (8, 8), (1, 100)])
def test_over_stretches_masks_of_the_models_size(size):
    data, half = sized(8, 8), np.arange(8)[:, None] < np.full(8, 4)
    laid, part = masks.over(half, size, data), masks.seen_pixels(size, data)
    middle = -(-size[0] // 2)
    assert laid[part][:middle].all() and laid.sum() == laid[part][:middle].sum()
