"""evaluate.py: which sets it measures, what it writes, what it refuses."""

import json
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import evaluate
from genjax import files, keys
from genjax.data import pictures
from genjax.data.pictures import Picture
from genjax.evaluation import classifier, features
from genjax.evaluation.intervals import Interval
from genjax.evaluation.picture_sets import Measured
from genjax.loading import load_sampler
from studies.evaluation import records

pytestmark = pytest.mark.slow


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["evaluate.py", *map(str, arguments)])
    return evaluate.main()


@pytest.fixture
def copied(trained, tmp_path):
    shutil.copytree(trained.workdir, tmp_path / "run")
    return tmp_path / "run"


def test_main_measures_samples_beside_training_images(copied, monkeypatch, capsys):
    results = run(monkeypatch, "--workdir", copied, "--features", "pixels", "--num", 60)
    assert results["step"] == 12 and results["kid_train_samples"] < 0.1 * results["kid_samples"]
    assert results["coverage_samples"] < results["coverage_train_samples"]
    assert "| KID | " in capsys.readouterr().err
    (record,) = json.loads((copied / "evaluation-12.json").read_text())
    assert record["sets"]["samples"]["num_generated"] == 60 and record["split"] == "test"
    assert record["sets"]["samples"]["metrics"]["kid"]["value"] == results["kid_samples"]
    assert "samples: 60 generated" in (copied / "report.html").read_text()
    (drawn,) = copied.glob("samples/nearest samples*-00000012.png")
    with Image.open(drawn) as picture:
        assert picture.size == (4 * (4 * 8 + 2) + 2, 6 * (8 + 2) + 2)


def test_main_keeps_evaluations_with_other_settings(copied, monkeypatch):
    common = ("--workdir", copied, "--features", "pixels", "--num", 40, "--metrics", "frechet")
    first = run(monkeypatch, *common)
    other = run(monkeypatch, *common, "--seed", 1)
    again = run(monkeypatch, *common)
    smaller = run(monkeypatch, *common[:4], "--num", 20, "--metrics", "kid")
    run(monkeypatch, *common[:4], "--num", 20, "--metrics", "mind")
    records = json.loads((copied / "evaluation-12.json").read_text())
    assert [(one["seed"], one["sets"]["samples"]["num_generated"]) for one in records] == [(1, 40), (0, 40), (0, 20)]
    assert records[-1]["sets"]["samples"]["metrics"]["kid"]["value"] == smaller["kid_samples"]
    assert (
        records[-1]["sets"]["samples"]["metrics"].keys() == {"kid", "mind"}
        and again["frechet_samples"] == first["frechet_samples"]
    )
    assert other["frechet_samples"] != first["frechet_samples"]
    assert run(monkeypatch, *common, "--which", "best", "--split", "validation")["out"].startswith(str(copied))


def test_add_replaces_a_record_with_the_same_settings(tmp_path):
    """Also of a network with a size, which JSON turns into a list; and two evaluations at once lose nothing."""
    path = files.resolve(tmp_path) / "evaluation-3.json"

    def record(seed, value):
        of_set = {"num_generated": 9, "num_reference": 9, "metrics": {"kid": {"value": value}}}
        network = {"name": "alexnet", "sha256": "4", "size": (128, 128), "resize": "bicubic"}
        return {"step": 3, "split": "test", "features": network, "seed": seed, "sets": {"samples": of_set}}

    records.add(path, record(0, 1.0))
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda seed: records.add(path, record(seed, 2.0)), range(8)))
    found = {one["seed"]: one["sets"]["samples"]["metrics"]["kid"]["value"] for one in files.read_json(path)}
    assert found == dict.fromkeys(range(8), 2.0) and len(files.read_json(path)) == 8


@pytest.mark.parametrize("content", ["{", '{"a": 1}', "[3]"])
def test_main_prints_what_it_cannot_record(copied, monkeypatch, caplog, content):
    (copied / "evaluation-12.json").write_text(content)
    metrics = ("--metrics", "kid", "authenticity")
    results = run(monkeypatch, "--workdir", copied, "--features", "pixels", "--num", 20, *metrics)
    assert results["out"] == "" and np.isfinite(results["kid_samples"])
    assert f"the results are not all in {copied}" in caplog.text and "damaged" in caplog.text
    assert (copied / "evaluation-12.json").read_text() == content
    assert "copies are looked for among 20 of" in caplog.text


def test_main_refuses_metrics_that_no_set_has(copied, monkeypatch):
    with pytest.raises(ValueError, match="none of --metrics l1 lpips can be measured here with the features pixels"):
        run(monkeypatch, "--workdir", copied, "--features", "pixels", "--num", 20, "--metrics", "l1", "lpips")


def test_main_samples_are_those_of_the_sampler(copied, monkeypatch):
    seen = []
    monkeypatch.setattr(
        evaluate,
        "compile_measure",
        lambda *_: lambda sets: seen.append(sets) or Measured(1, 1, {"kid": Interval(0.0)}, None),
    )
    run(monkeypatch, "--workdir", copied, "--features", "pixels", "--num", 10, "--seed", 3)
    drawn = load_sampler(copied).prior(keys.root_key(3), np.arange(10))
    assert np.abs(seen[0].pictures / 255 - drawn).max() <= 0.5 / 255 + 1e-6
    assert len(seen[1].pictures) == 10
    run(monkeypatch, "--workdir", copied, "--features", "pixels", "--num", 10**6)
    assert len(seen[2].pictures) == len(seen[3].pictures) > 100  # no more than there are training images


def test_main_measures_fitted_priors_beside_normal(copied, monkeypatch, capsys):
    common = ("--workdir", copied, "--features", "pixels", "--num", 40, "--metrics", "kid", "coverage", "authenticity")
    run(monkeypatch, *common)
    fitted = (*common, "--priors", "gaussian-mixture", "vampprior-data", "--fit.pseudo-inputs", 20)
    results = run(monkeypatch, *fitted)
    assert results["rate_samples_gaussian_mixture"] < results["rate_samples"]  # the fit is on encodings alone
    assert results["kid_samples_vampprior_data"] != results["kid_samples"]
    assert results["authenticity_samples_gaussian_mixture"] <= 1 and "rate_train_samples" not in results
    assert "| rate | " in capsys.readouterr().err
    again = run(monkeypatch, *fitted)
    assert {**again, "seconds": 0} == {**results, "seconds": 0}
    normal, record = json.loads((copied / "evaluation-12.json").read_text())
    assert "priors" not in normal and normal["sets"].keys() == {"samples", "train_samples"}
    assert list(record["sets"]) == ["samples", "samples_gaussian_mixture", "samples_vampprior_data", "train_samples"]
    assert record["priors"]["pseudo_inputs"] == 20
    assert "samples from a Gaussian mixture: 40 generated" in (copied / "report.html").read_text()


def test_main_measures_both_directions(trained_identity, tmp_path, monkeypatch):
    """Of a translator that changes nothing: its inputs, translations and real images are all noise."""
    shutil.copytree(trained_identity.workdir, tmp_path / "run")
    options = ("--features", "pixels", "--metrics", "frechet", "mind")
    results = run(monkeypatch, "--workdir", tmp_path / "run", *options)
    assert {"frechet_a2b", "mind_b2a", "frechet_train_a2b"} <= results.keys()
    assert results["frechet_copy_a2b"] == pytest.approx(results["frechet_a2b"], rel=1e-3)
    assert "A to B: 3 inputs as they are, 4 real" in (tmp_path / "run" / "report.html").read_text()


def test_main_compares_folders(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    for folder, levels in (("drawn", 256), ("real", 128)):
        (tmp_path / folder).mkdir()
        for i in range(8):
            pictures.write(tmp_path / folder / f"{i}.png", Picture(rng.integers(0, levels, (9, 7, 3), np.uint8)))
    both = ("--images", tmp_path / "drawn", "--against", tmp_path / "real", "--features", "pixels")
    results = run(monkeypatch, *both)
    assert results["frechet_images"] > 1 and "step" not in results and results["out"] == ""
    pictures.write(tmp_path / "real" / "9.png", Picture(np.zeros((9, 8, 3), np.uint8)))
    with pytest.raises(ValueError, match="pixels needs pictures of one size, and .*real has several"):
        run(monkeypatch, *both)


def test_main_compares_grey_folders_by_a_grey_classifier(tmp_path, monkeypatch):
    params = classifier.init((8, 8, 1), 10, keys.root_key(0))
    classifier.save(tmp_path / "c.npz", classifier.Classifier((8, 8, 1), params))
    rng = np.random.default_rng(0)
    for i in range(6):
        for folder in ("drawn", "real"):
            (tmp_path / folder).mkdir(exist_ok=True)
            pictures.write(tmp_path / folder / f"{i}.png", Picture(rng.integers(0, 256, (8, 8, 1), np.uint8)))
    folders = ("--images", tmp_path / "drawn", "--against", tmp_path / "real")
    assert "kid_images" in run(monkeypatch, *folders, "--features", f"classifier:{tmp_path / 'c.npz'}")


@pytest.mark.parametrize(("arguments", "message"), [
    ((), "give --workdir RUN, or --images PICTURES with --against REAL"),
    (("--workdir", "a", "--images", "b"), "give --workdir RUN, or --images"),
    (("--images", "b"), "give --workdir RUN, or --images"),
    (("--workdir", "a", "--metrics", "fid"), "--metrics fid is no metric: give some of kid frechet"),
    (("--images", "a", "--against", "b", "--priors", "vampprior"), "--priors are fitted .*: give --workdir"),
    (("--workdir", "a", "--priors", "vampprior", "vampprior"), "--priors needs one or more different values"),
    (("--workdir", "a", "--fit.components", "3"), "--fit.components 3 has no effect here: it is a setting of"),
    (("--workdir", "a", "--num", "1"), "--num must be at least 2, got 1"),
    (("--workdir", "a", "--seed", "-1"), "seed"),
    (("--workdir", "a", "--features", "resnet"), "there are no features 'resnet'"),
], ids=str)  # fmt: skip
def test_main_refuses_what_cannot_be(monkeypatch, arguments, message):
    with pytest.raises(ValueError, match=message):
        run(monkeypatch, *arguments)


@pytest.mark.skipif(not features.installed(), reason="needs the extra features")
def test_main_refuses_to_judge_by_the_features_that_trained(copied, monkeypatch):
    config = files.read_json(copied / "config.json")
    config["loss"] = {"perceptual": 1.0, "perceptual_features": "alexnet"}
    files.write_json(copied / "config.json", config)
    with pytest.raises(ValueError, match=r"--features alexnet would judge .* learned from .*: give --features vgg16"):
        run(monkeypatch, "--workdir", copied)
    assert not (copied / "evaluation-12.json").exists()


def test_main_names_steps_that_there_are(copied, monkeypatch):
    with pytest.raises(ValueError, match="checkpoint 7 of .*: give last, or a step of"):
        run(monkeypatch, "--workdir", copied, "--features", "pixels", "--which", "7")
    assert not Path(copied, "evaluation-7.json").exists()
