"""Rules without a network, metrics of translations, and the studies that compare them."""

import dataclasses
import math
import types

import numpy as np
import pytest
from PIL import Image

from configs import cyclegan as cyclegan_configs
from genjax import cli, files
from genjax.data import image_arrays
from genjax.data.splits import Splits
from studies.generalisation import study as generalisation_study
from studies.translation import image_grid, rules, tables
from studies.translation import study as translation_study

pytestmark = pytest.mark.slow

DIRECTIONS = ("a2b", "b2a")


def noise(seed, shape=(6, 16, 16, 1), low=0, high=256):
    return np.random.default_rng(seed).integers(low, high, shape, np.uint8)


def test_match_histograms_keeps_order_and_gives_target_levels():
    rng = np.random.default_rng(0)
    images, target = (rng.integers(low, low + 100, (50, 8, 8, 2), np.uint8) for low in (100, 20))
    np.testing.assert_array_equal(rules.match_histograms(images, images), images)
    matched = rules.match_histograms(images, target)
    for channel in range(2):
        order = np.argsort(images[..., channel], axis=None, kind="stable")
        assert (np.diff(matched[..., channel].ravel()[order].astype(int)) >= 0).all()
        counts = [np.bincount(x[..., channel].ravel(), minlength=256) / x[..., channel].size for x in (matched, target)]
        assert np.abs(np.cumsum(counts[0]) - np.cumsum(counts[1])).max() < 0.02


def test_predict_gives_copy_median_mean_and_matched():
    images, target = noise(0, (2, 4, 4, 3)), np.zeros((5, 4, 4, 3), np.uint8)
    target[..., 0], target[..., 1] = np.array([10, 20, 30, 40, 250])[:, None, None], 7
    target[:, 0, 0, 2] = [0, 0, 0, 0, 200]
    found = {name: prediction * 255 for name, prediction in rules.predict(images, target).items()}
    assert {prediction.shape for prediction in found.values()} == {images.shape}
    np.testing.assert_allclose(found["copy"], images)
    np.testing.assert_allclose(found["constant"], np.broadcast_to([30.0, 7.0, 0.0], images.shape))
    expected = np.broadcast_to([70.0, 7.0, 0.0], images.shape).copy()
    expected[:, 0, 0, 2] = 40
    np.testing.assert_allclose(found["mean_image"], expected)
    np.testing.assert_allclose(found["histogram_matching"][..., 1], 7)


def test_metrics_of_shifted_truths_are_known():
    given, truth = noise(0), noise(1, low=30, high=200)
    shifted = rules.metrics(given, truth / 255 + 0.1, truth)
    assert shifted["l1"] == pytest.approx(0.1) and shifted["psnr"] == pytest.approx(20)
    exact = rules.metrics(given, truth / 255, truth)
    assert exact["l1"] == 0 and exact["psnr"] == math.inf
    assert exact["ssim"] == exact["iou"] == exact["diversity"] == pytest.approx(1)
    # Of the errors of all images together, as the mean of decibels would be infinite where one image is exact.
    half = truth / 255 + 0.1 * (np.arange(6) < 3).reshape(-1, 1, 1, 1)
    assert rules.metrics(given, half, truth)["psnr"] == pytest.approx(20 + 10 * math.log10(2))


def test_metrics_count_dark_pixels_of_all_grey_images():
    truth = np.full((2, 16, 16, 1), 255, np.uint8)
    truth[0, :4], truth[1, :1] = 0, 0  # 64 and 16 pixels
    translated = np.ones(truth.shape)
    translated[0, :2], translated[1, :2] = 0, 0  # 32 of the 64; all of the 16, and 16 more
    assert rules.metrics(truth, translated, truth)["iou"] == pytest.approx((32 + 16) / (64 + 32))
    assert rules.metrics(truth, np.ones(truth.shape), truth)["iou"] == 0
    coloured = truth.repeat(3, axis=-1)
    assert "iou" not in rules.metrics(coloured, coloured / 255, coloured)


def test_metrics_compare_change_and_correlation_with_inputs():
    given, truth = noise(0), noise(1)
    negative = rules.metrics(given, 1 - given / 255, truth)
    assert negative["correlation"] == pytest.approx(-1, abs=1e-5) and negative["inverted"] == 1
    assert negative["change"] == pytest.approx(np.abs(1 - 2.0 * given / 255).mean())
    same = rules.metrics(given, given / 255, truth)
    assert same["change"] == 0 and same["correlation"] == pytest.approx(1, abs=1e-5) and same["inverted"] == 0


def test_warnings_name_each_kind_of_failure():
    given, truth = noise(0), noise(1)
    copy = rules.metrics(given, given / 255, truth)

    def warnings(translated, cycle=0.0):
        return rules.warnings(rules.metrics(given, translated, truth) | {"cycle": cycle}, copy)

    assert warnings(0.5 * truth / 255 + 0.5 * given / 255) == []
    assert warnings(given / 255) == ["idle"]
    assert warnings(1 - given / 255) == ["inverted"]
    assert warnings(np.full(truth.shape, 0.5)) == ["low diversity"]
    assert warnings(0.25 * (truth / 255 + given / 255) + 0.25) == ["low diversity"]  # 0.35: not collapsed in training
    assert warnings(0.5 * truth / 255 + 0.5 * given / 255, cycle=1.01 * copy["l1"]) == ["forgetful"]


def test_table_has_means_ranges_and_no_empty_column():
    rows = {
        "rule": [{"a2b": {"l1": 0.5}}],
        "net": [{"a2b": {"l1": 0.1, "cycle": 0.2}}, {"a2b": {"l1": 0.3, "cycle": 0.4}}],
    }
    columns = [("a2b", "l1"), ("a2b", "iou"), ("a2b", "cycle")]  # no run has an IoU
    lines = tables.table("way", rows, columns, {"warnings": ["idle", ""]}).splitlines()
    assert lines[0] == "| way | L1 A to B | cycle A to B | warnings |" and lines[1].count("---") == 4
    assert lines[2] == "| rule | 0.5000 |  | idle |"
    assert lines[3] == "| net | 0.2000 (0.1000 to 0.3000) | 0.3000 (0.2000 to 0.4000) |  |"
    assert tables.mean(rows["net"]) == pytest.approx({"l1_a2b": 0.2, "cycle_a2b": 0.3})


def test_page_shows_every_image_whole(tmp_path):
    rows = {"input": noise(0, (5, 8, 8, 1), high=200), "a long label": noise(1, (5, 8, 8, 3), high=200)}
    image_grid.page(tmp_path / "page.png", "title", rows)
    with Image.open(tmp_path / "page.png") as file:
        page = np.asarray(file.convert("RGB"))
    ink = np.argwhere((page < 255).any(-1))
    assert ink.min() > 2 and (np.array(page.shape[:2]) - 1 - ink.max(0)).min() > 2  # nothing reaches the edge
    windows = np.lib.stride_tricks.sliding_window_view(page, (16, 16, 3))[:, :, 0]
    for images in rows.values():
        for image in images:
            picture = np.broadcast_to(image, (8, 8, 3)).repeat(2, axis=0).repeat(2, axis=1)
            assert (windows == picture).all((2, 3, 4)).sum() == 1


def changed(run, base):
    run, base = (files.flatten(dataclasses.asdict(config)) for config in (run, base))
    return {name for name in run if run[name] != base[name]} - {"workdir"}


def test_run_of_changes_form_and_weights_alone():
    icons, colour = cyclegan_configs.quickstart(), cyclegan_configs.gray_colour()
    assert not changed(translation_study.run_of("runs", "icons", "classic", 0), icons)
    assert not changed(translation_study.run_of("runs", "gray-colour", "mission-identity-layer", 0), colour)
    assert changed(translation_study.run_of("runs", "gray-colour-west", "mission-identity", 1), colour) == {
        "data.source", "seed", "cyclegan.generator_norm"
    }  # fmt: skip
    identity, affine = {"loss.identity_a", "loss.identity_b"}, {"loss.affine_a2b", "loss.affine_b2a"}
    runs = {name: translation_study.run_of("runs", "icons", name, 0) for name in translation_study.SETTINGS}
    assert changed(runs["classic-no-identity"], runs["classic"]) == identity
    assert changed(runs["mission-no-affine"], runs["mission"]) == affine
    assert changed(runs["mission-identity"], runs["mission"]) == identity
    assert changed(runs["residual-identity"], runs["classic"]) == {"cyclegan.output"}
    weights = {"loss.adversarial_a2b", "loss.adversarial_b2a", "loss.cycle_a", "loss.cycle_b"}
    assert changed(runs["mission"], runs["classic"]) == {"cyclegan.output"} | identity | affine | weights
    short = translation_study.run_of("runs", "icons", "classic", 0, 100)
    assert short.train.num_steps == 100 and short.optim == runs["classic"].optim
    with pytest.raises(ValueError, match="--train.num-steps must be at least 1, got 0"):
        translation_study.run_of("runs", "icons", "classic", 0, 0)
    for seeds, said in (((), "none"), ((1, 0, 1), "1 0 1")):
        with pytest.raises(ValueError, match=f"--seeds needs one or more different values, got {said}"):
            cli.check_different(seeds=seeds, settings=("mission",))


def test_run_metrics_of_identity_are_those_of_copy(trained_identity):
    test = noise(0, (4, 16, 16, 3)), noise(1, (4, 16, 16, 3))
    splits = Splits(test, test, test)
    found = translation_study.run_metrics(trained_identity.workdir, test)
    copied = translation_study.rule_metrics(splits)["copy"]
    for direction in DIRECTIONS:
        assert found[direction].pop("cycle") < 1e-3
        assert found[direction] == pytest.approx(copied[direction], abs=1e-3)
    rows = translation_study.pictures({"mission": trained_identity.workdir}, splits)
    assert list(rows) == ["input", "histogram matching", "mission", "truth"]
    np.testing.assert_array_equal(rows["mission"], image_arrays.to_uint8(rows["input"] / 255))


def test_generalisation_run_metrics_measure_each_part(monkeypatch):
    west, east = ((noise(seed), noise(seed + 1)) for seed in (0, 2))
    splits = {"west": Splits(west, west, west), "east": Splits(east, east, east)}
    halving = types.SimpleNamespace(a2b=lambda images: images / 510)
    monkeypatch.setattr(generalisation_study, "load_translator", {"run": halving}.__getitem__)
    found = generalisation_study.run_metrics("run", splits)
    for (a, b), metrics in ((west, found["west"]), (east, found["east"])):
        assert metrics["l1"] == pytest.approx(np.abs(a / 510 - b / 255).mean())
    matched = generalisation_study.rule_metrics("histogram_matching", splits, "west")["east"]
    expected = rules.match_histograms(east[0], west[1]) / 255  # brought to what the west looks like
    assert matched["l1"] == pytest.approx(np.abs(expected - east[1] / 255).mean())
