"""Measures of a translation, against closed forms."""

import numpy as np
import pytest

from studies.keep import study


def test_metrics_part_the_glasses_from_the_rest():
    images = np.full((2, 4, 4, 3), 100, np.uint8)
    truth = images.copy()
    truth[:, 1, 1:3, 0] = 20  # two pixels of each, in one channel
    translated = truth.astype(float)
    translated[:, 0, 0] += 7  # outside: one of 14 pixels
    translated[:, 1, 1] += 3  # at the glasses: one of 2
    found = study.metrics(images, translated, truth)
    assert found == pytest.approx(
        {"outside": 7 / 14, "outside_most": 7, "glasses": 3 / 2, "copy": 80 / 3, "l1": (7 + 3) / 16}
    )
    assert study.metrics(images, images.astype(float), truth)["glasses"] == pytest.approx(80 / 3)


def test_run_of_keeps_all_but_the_loss():
    options = study.Options(workdir="runs/keep", num_steps=10)
    without, everywhere, mapped = (study.run_of(options, setting, 1) for setting in options.settings)
    assert [run.loss.keep for run in (without, everywhere, mapped)] == [0, 2, 10]
    assert [run.keep_mask for run in (without, everywhere, mapped)] == ["", "", "runs/keep/map.png"]
    assert without.data == everywhere.data == mapped.data and without.train == mapped.train
