"""The parts of the study of random measurements that no other test sees."""

import numpy as np
import scipy.fft

from studies.measurements import study

RNG = np.random.default_rng(0)


def test_cosines_inverts_the_transform_of_each_channel():
    image = RNG.normal(size=(4, 6, 2))
    coefficients = scipy.fft.dctn(image, axes=(0, 1), norm="ortho")
    np.testing.assert_allclose(study.cosines(image.shape) @ coefficients.ravel(), image.ravel(), atol=1e-12)


def test_lasso_finds_few_coefficients_from_fewer_measurements():
    matrix, to_pixels = RNG.normal(size=(24, 64)) / 24**0.5, study.cosines((8, 8, 1))
    sparse = np.zeros((3, 64))
    sparse[np.arange(3)[:, None], RNG.integers(0, 64, (3, 4))] = RNG.uniform(0.5, 1, (3, 4))
    found = study.lasso(matrix, sparse @ matrix.T, 1e-5, None)
    np.testing.assert_allclose(found, sparse, atol=0.01)
    waves = 0.5 + 0.25 * sparse @ to_pixels.T
    found = study.lasso(matrix, waves @ matrix.T, 1e-4, to_pixels)
    np.testing.assert_allclose(found, waves, atol=0.01)
