"""Configurations of data refuse what cannot work, with the numbers and the remedy."""

import math

import pytest

from genjax.data.config import DataConfig
from good_configs import build
from refused import refusal


@pytest.mark.parametrize(
    "kind, changes, message",
    [
        (DataConfig, {"image_size": (0, 8)}, "--data.image-size needs a positive height and width, got (0, 8)"),
        (DataConfig, {"image_size": (8, -1)}, "--data.image-size needs a positive height and width, got (8, -1)"),
        (DataConfig, {"image_size": (8,)}, "--data.image-size needs a positive height and width, got (8,)"),
        (DataConfig, {"image_size": (8, 8, 1)}, "--data.image-size needs a positive height and width, got (8, 8, 1)"),
        (DataConfig, {"channels": ()}, "for each of one or two domains, got ()"),
        (DataConfig, {"channels": (1, 1, 1)}, "for each of one or two domains, got (1, 1, 1)"),
        (
            DataConfig,
            {"load_scale": (1.0, 1.0, 1.0)},
            "--data.load-scale needs one or two numbers of at least 1, or nothing, got",
        ),
        (DataConfig, {"load_scale": (1.1, 0.9)}, "--data.load-scale needs one or two numbers of at least 1"),
        (DataConfig, {"load_scale": (float("nan"),)}, "--data.load-scale needs one or two numbers of at least 1"),
        (
            DataConfig,
            {"load_scale": (1.5,), "resize": "none"},
            "--data.load-scale has no effect with --data.resize none",
        ),
        (
            DataConfig,
            {"load_scale": (1.5,), "binarize": "fixed"},
            "binarize fixed draws the pixels of whole images once",
        ),
        (DataConfig, {"resize": "width", "binarize": "fixed"}, "binarize fixed draws the pixels of whole images once"),
        (DataConfig, {"cache": "none", "binarize": "fixed"}, "binarize fixed draws the pixels of whole images once"),
        (
            DataConfig,
            {"cache": "none", "source": "digits"},
            "cache none is for folder:, pairs:, tfds: and faces, as digits is",
        ),
        (DataConfig, {"paired": True}, "--data.paired needs two domains"),
        (
            DataConfig,
            {"train_pairs": True, "channels": (1, 1)},
            "--data.train-pairs needs pairs in validation too: give",
        ),
        (
            DataConfig,
            {"paired": True, "channels": (1, 1), "skip_corrupt": True},
            "--data.skip-corrupt would break the pairs",
        ),
        (DataConfig, {"channels": (0,)}, "as 1 (grey) or 3 (colour), for each of one or two domains, got (0,)"),
        (
            DataConfig,
            {"levels": (5.0, 5.0)},
            "LOW HIGH with LOW below HIGH (or a pair for each domain), got (5.0, 5.0)",
        ),
        (DataConfig, {"levels": (0.0, 5.0, 1.0)}, "(or a pair for each domain), got (0.0, 5.0, 1.0)"),
        (DataConfig, {"levels": (0.0, 5.0, 1.0, 2.0)}, "(or a pair for each domain), got (0.0, 5.0, 1.0, 2.0)"),
        (DataConfig, {"levels": (0.0, math.inf)}, "LOW HIGH with LOW below HIGH"),
        (DataConfig, {"levels": "most"}, "--data.levels needs full, auto, or LOW HIGH"),
        (DataConfig, {"max_megapixels": 0}, "--data.max-megapixels must be at least 1, got 0"),
        (DataConfig, {"batch_size": 0}, "--data.batch-size must be at least 1, got 0"),
        (DataConfig, {"holdout": -0.1}, "--data.holdout must be 0, or lie between 0 and 0.5, got -0.1"),
        (DataConfig, {"holdout": float("nan")}, "--data.holdout must be 0, or lie between 0 and 0.5, got nan"),
        (DataConfig, {"holdout": 0.5}, "--data.holdout must be 0, or lie between 0 and 0.5, got 0.5"),
        (
            DataConfig,
            {"dequantize": True, "binarize": "fixed"},
            "--data.dequantize and --data.binarize exclude each other",
        ),
        (
            DataConfig,
            {"dequantize": True, "binarize": "stochastic"},
            "--data.dequantize and --data.binarize exclude each other",
        ),
        (DataConfig, {"decode_threads": 0}, "--data.decode-threads must be at least 1, got 0"),
        *(
            (
                DataConfig,
                {"cache_dir": path},
                f"--data.cache-dir {path} is not local, and images are memory-mapped from it",
            )
            for path in ("gs://bucket/cache", "gs:/bucket", "s3://bucket")
        ),
        (DataConfig, {"cache_gib": -1}, "--data.cache-gib must not be negative, got -1"),
        (DataConfig, {"prefetch": 0}, "--data.prefetch must be at least 1, got 0"),
    ],
)
def test_configs_refuse_values_out_of_range(kind, changes, message):
    assert message in refusal(ValueError, build, kind, **changes)


def test_data_config_shapes_follow_size_and_channels():
    two = build(DataConfig, image_size=(6, 9), channels=(1, 3), load_scale=(1.5,))
    assert two.load_size == (9, 14)
    assert two.image_shapes == ((6, 9, 1), (6, 9, 3))
    one = build(DataConfig, image_size=(6, 9), channels=(3,))
    assert one.image_shapes == ((6, 9, 3),)


@pytest.mark.parametrize(
    "changes, crops",
    [({}, False), ({"resize": "stretch"}, False), ({"load_scale": (1.0,)}, True), ({"resize": "width"}, True),
     ({"resize": "none"}, True)],
)  # fmt: skip
def test_data_config_crops_scaled_pictures(changes, crops):
    assert build(DataConfig, **changes).crops == crops
