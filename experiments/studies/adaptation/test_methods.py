"""Methods on drawings and on numbers of which the right result is known."""

import numpy as np
import pytest

from studies.adaptation import bounding_box, methods

pytestmark = pytest.mark.slow


def test_write_images_distorts_only_the_source_for_training(domains, tmp_path):
    options = domains()
    known = methods.load(options.first), methods.load(options.second)
    methods.write_images(tmp_path / "run", {}, known)
    for name, source in (("first-to-second", known[0]), ("second-to-first", known[1])):
        with np.load(tmp_path / "run" / f"{name}.npz") as file:
            written = dict(file)
        for letter, domain in zip("AB", known, strict=True):
            expected = {split: images for split, (images,) in domain.images._asdict().items()}
            if domain is source:
                expected["train"] = methods.distort(expected["train"], methods.COPIES)
            for split, images in expected.items():
                np.testing.assert_array_equal(written[f"x_{split}{letter}"], images)


def test_load_puts_drawings_in_one_place(domains):
    domain = methods.load(domains().first)
    assert domain.images.train[0].shape == (40, 16, 16, 1) and domain.labels.test[0].tolist() == [0, 1] * 6
    boxes = np.array([bounding_box.box(image) for image in domain.images.test[0]])
    assert (boxes[0::2, [1, 3]] == [1, 15]).all() and (boxes[1::2, [0, 2]] == [1, 15]).all()


def test_distort_varies_copies_and_keeps_their_class(domains):
    images = methods.load(domains().first).images.test[0]
    copies = methods.distort(images, 3).reshape(3, *images.shape)
    np.testing.assert_array_equal(copies, methods.distort(images, 3).reshape(copies.shape))
    assert len({copy.tobytes() for copy in copies.reshape(-1, 16 * 16)}) > 2.8 * len(images)
    shown, found = images.reshape(len(images), -1), copies.reshape(3, len(images), -1)
    similar = [np.corrcoef(np.concatenate([shown, copy]))[: len(images), len(images) :] for copy in found]
    for matrix in similar:  # each is most like the image that it is a copy of, or one of its class
        assert (matrix.argmax(axis=0) % 2 == np.arange(len(images)) % 2).all() and np.diag(matrix).min() > 0.5


def test_distort_stays_within_its_limits():
    spot = np.zeros((200, 16, 16, 1), np.uint8)
    spot[:, 7:9, 12:14] = 255  # 5 pixels right of the middle
    moved = methods.distort(spot, 1)[..., 0].astype(float)
    y, x = (np.tensordot(moved, grid, 2) / moved.sum(axis=(1, 2)) for grid in np.mgrid[-7.5:8.5, -7.5:8.5])
    assert 3 < x.min() < 4.4 and 5.6 < x.max() < 7.2
    assert -2.8 < y.min() < -1.2 and 1.2 < y.max() < 2.8
    assert abs(x.mean() - 5) < 0.3 and abs(y.mean()) < 0.3


def test_match_moments_gives_the_targets_moments():
    rng = np.random.default_rng(0)
    mixing, other = (scale * np.eye(9) + 0.1 * rng.normal(size=(9, 9)) for scale in (1, 1.5))
    source, target = (
        np.rint(mean + 12 * rng.normal(size=(4000, 9)) @ matrix).clip(0, 255).astype(np.uint8).reshape(-1, 3, 3, 1)
        for mean, matrix in ((100, mixing), (140, other))
    )
    matched = methods.match_moments(source, source, target).reshape(-1, 9).astype(float)
    goal = target.reshape(-1, 9).astype(float)
    np.testing.assert_allclose(matched.mean(axis=0), goal.mean(axis=0), atol=0.1)
    np.testing.assert_allclose(np.cov(matched.T), np.cov(goal.T), atol=3)
    assert np.abs(np.cov(source.reshape(-1, 9).T) - np.cov(goal.T)).max() > 30


def test_pseudo_labels_selects_sure_rows():
    rows, labels = methods.pseudo_labels(np.array([[0.05, 0.95], [0.5, 0.5], [0.95, 0.05]]), np.array([0.5, 0.5]))
    assert (rows.tolist(), labels.tolist()) == ([0, 2], [1, 0])


def test_in_proportion_scales_rows_and_columns():
    rng = np.random.default_rng(0)
    guesses, proportions = rng.dirichlet(np.ones(4), 50), np.array([0.1, 0.2, 0.3, 0.4])
    found = methods.in_proportion(guesses, proportions)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-12)
    np.testing.assert_allclose(found.mean(axis=0), proportions, rtol=1e-9)
    factors = np.log(found / guesses)  # of an image plus of a class: what is left without both means is 0
    left = factors - factors.mean(axis=0) - factors.mean(axis=1, keepdims=True) + factors.mean()
    np.testing.assert_allclose(left, 0, atol=1e-9)
    np.testing.assert_allclose(methods.in_proportion(found, proportions), found, rtol=1e-9)


def test_in_proportion_corrects_a_confused_class():
    """Ten images, five of each class; two of class 0 look a little more like class 1."""
    guesses = np.array([[0.99, 0.01, 0.0]] * 3 + [[0.3, 0.7, 0.0]] * 2 + [[0.01, 0.99, 0.0]] * 5)
    assert (guesses.argmax(axis=1) == 0).sum() == 3
    balanced = methods.in_proportion(guesses, np.array([0.5, 0.5, 0.0]))
    assert balanced.argmax(axis=1).tolist() == [0] * 5 + [1] * 5
    assert not methods.in_proportion(np.eye(3)[[2]], np.array([0.5, 0.5, 0.0])).any()  # sure of nothing


def test_gap_closed_is_a_share_of_the_gap():
    assert methods.gap_closed(0.5, 0.8, 0.9) == pytest.approx(0.75)
    assert methods.gap_closed(0.9, 0.9, 0.9) is None
    assert methods.standard_error(0.9, 100) == pytest.approx(0.03)
