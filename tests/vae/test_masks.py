import numpy as np
import pytest

from genjax import keys
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
        with pytest.raises(ValueError, match=f"no mask is called '{name}': give half-left"):
            named(name)
    with pytest.raises(ValueError, match="hides 672 of 672 pixels"):
        named("random-1.0")
    with pytest.raises(ValueError, match="hides 0 of 672"):
        named("random-0")
