"""Drawn faces with named factors: what is drawn, of which splits, and always the same."""

import random
import sys

import numpy as np
import pytest

from genjax.data import labels, sources
from genjax.data.config import DataConfig
from genjax.data.demo import faces

COUNT = 40


def config_of(source, cache, size=16, domains=1, **options):
    return DataConfig(
        source=source, image_size=(size, size), channels=(3,) * domains, batch_size=1, cache_dir=str(cache), **options
    )


def rows(splits):
    return {tuple(row) for source in splits for array in source for row in array.tolist()}


# Means over the quarters of three faces at 64x64, which another processor may round otherwise.
COLOURS = np.array([
    [178.6, 121.1, 84.0, 178.7, 121.3, 84.1, 202.1, 161.8, 135.6, 202.4, 161.8, 135.8],
    [202.8, 186.3, 174.6, 195.9, 178.8, 167.4, 243.5, 209.3, 195.1, 243.6, 209.0, 194.8],
    [240.7, 232.3, 223.0, 240.5, 232.1, 222.8, 245.4, 228.0, 208.3, 245.5, 227.8, 208.1],
])  # fmt: skip


def test_draw_gives_the_same_pixels_everywhere():
    drawn = np.stack([faces.render(face, 64) for face in faces._distinct(3, bare=False)]).astype(float)
    assert drawn.shape == (3, 64, 64, 3)
    quarters = drawn.reshape(3, 2, 32, 2, 32, 3).mean(axis=(2, 4)).reshape(3, 12)
    np.testing.assert_allclose(quarters, COLOURS, atol=0.5)


@pytest.mark.parametrize("name", faces.NAMES)
def test_draw_shows_every_value_of_a_factor(name):
    plain = np.zeros(len(faces.NAMES), int)
    plain[[faces.HAIR, faces.BEARD]] = 1  # so that their colour is seen
    drawn = set()
    for value in range(len(faces.FACTORS[name])):
        drawn.add(faces.render(faces._with(plain[None], faces.NAMES.index(name), value)[0], 32).tobytes())
    assert len(drawn) == len(faces.FACTORS[name])


def test_faces_are_distinct_and_keep_their_split(tmp_path):
    few, many = (labels.load(config_of(f"faces:{count}", tmp_path)) for count in (COUNT, 20 * COUNT))
    assert [array.shape for (array,) in many] == [(640, 10), (80, 10), (80, 10)]
    assert len(rows(many)) == 800
    for (first,), (all_of_them,) in zip(few, many, strict=True):
        np.testing.assert_array_equal(first, all_of_them[: len(first)])
    for column, values in enumerate(faces.FACTORS.values()):
        assert set(many.train[0][:, column]) == set(range(len(values)))


def test_faces_follow_their_labels(tmp_path):
    config = config_of(f"faces:{COUNT}", tmp_path)
    images, found = sources.load(config, 0), labels.load(config)
    labels.check(found, images)
    for (shown,), (factors,) in zip(images, found, strict=True):
        for image, face in zip(shown, factors, strict=True):
            np.testing.assert_array_equal(image, faces.render(face, 16))


def test_faces_are_drawn_once(tmp_path, monkeypatch):
    config = config_of(f"faces:{COUNT}", tmp_path)
    first = sources.load(config, 0)
    monkeypatch.setattr(faces, "render", None)
    for before, after in zip(first, sources.load(config, 1), strict=True):
        np.testing.assert_array_equal(before[0], after[0])


def test_faces_glasses_pairs_differ_in_glasses_alone(tmp_path):
    config = config_of(f"faces-glasses:{COUNT}", tmp_path, size=32, domains=2, paired=True)
    images, found = sources.load(config, 0), labels.load(config)
    labels.check(found, images)
    assert [[len(array) for array in source] for source in images] == [[16, 16], [4, 4], [4, 4]]
    for bare, worn in found[1:]:
        np.testing.assert_array_equal(faces._with(bare, faces.GLASSES, faces.ADDED), worn)
    for bare, worn in images[1:]:
        changed = (bare != worn).any(-1).mean((1, 2))
        assert changed.min() > 0.02 and changed.max() < 0.2  # the frame and its shadow
        assert (worn.astype(int) - bare).mean((1, 2, 3)).max() < 0  # dark frames


def test_faces_glasses_never_trains_on_a_face_twice(tmp_path):
    found = labels.load(config_of("faces-glasses:2000", tmp_path, domains=2))
    assert (found.train[0][:, faces.GLASSES] == 0).all() and (found.train[1][:, faces.GLASSES] == faces.ADDED).all()
    bare = [faces._with(array, faces.GLASSES, 0) for array in (*found.train, found.validation[0], found.test[0])]
    assert len(rows([bare])) == sum(len(array) for array in bare) == 2000


def test_faces_leave_global_random_numbers_alone(tmp_path):
    pytest.importorskip("python_avatars")  # whose import draws a number
    random.seed(0)
    before = random.getstate()
    sources.load(config_of(f"faces:{COUNT}", tmp_path), 0)
    assert random.getstate() == before


@pytest.mark.parametrize(("source", "domains"), [("faces", 2), ("faces-glasses", 1)])
def test_faces_refuse_channels_for_other_domains(tmp_path, source, domains):
    with pytest.raises(ValueError, match=f"{source} has {3 - domains} domain.* is for {domains}: give it a number"):
        sources.load(config_of(source, tmp_path, domains=domains), 0)


def test_faces_pairs_differ_by_their_glasses(tmp_path):
    few, other = (labels.load(config_of(source, tmp_path)) for source in ("faces-glasses-pairs:7", "faces-glasses"))
    bare, worn = few.train
    assert len(bare) == 7 and (bare[:, faces.GLASSES] == 0).all()
    np.testing.assert_array_equal(faces._with(bare, faces.GLASSES, faces.ADDED), worn)
    for one, whole in zip(few.test, other.test, strict=True):
        np.testing.assert_array_equal(one, whole)
    trained = {tuple(row) for row in np.concatenate([other.train[0], faces._with(other.train[1], faces.GLASSES, 0)])}
    assert {tuple(row) for row in bare} <= trained


@pytest.mark.parametrize("count", ["0", "19", "1000001", "-5", "1e3", "ten"])
def test_faces_refuses_other_counts(tmp_path, count):
    with pytest.raises(ValueError, match=f"faces:{count} needs a number from 20 to 1000000: give faces:5000"):
        sources.load(config_of(f"faces:{count}", tmp_path), 0)


def test_faces_refuses_small_sizes(tmp_path):
    with pytest.raises(ValueError, match="faces of 15 x 15 pixels .* 16 pixels or more"):
        sources.load(config_of("faces", tmp_path, size=15), 0)


@pytest.mark.parametrize("package", ["python_avatars", "resvg_py"])
def test_faces_names_a_missing_package(tmp_path, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ValueError, match=f"source faces needs {package} .*pip install 'genjax-images\\[demo\\]'"):
        sources.load(config_of("faces", tmp_path), 0)
