from pathlib import Path

import numpy as np
import pytest

import domain_adaptation
from domain_adaptation import Options
from genjax import files
from genjax.evaluation import classifier
from studies.adaptation import bounding_box, methods, model_choice, training

pytestmark = pytest.mark.slow


def drawings(num, seed, shade):
    """Two classes: a bar that stands (0) or lies (1), of ink of about `shade`, as an .npz has it."""
    rng = np.random.default_rng(seed)
    labels = np.arange(num) % 2
    images = np.zeros((num, 28, 28), np.uint8)
    for image, label in zip(images, labels, strict=True):
        length, width = rng.integers(14, 20), rng.integers(4, 8)
        height, width = (length, width) if label == 0 else (width, length)
        image[4 : 4 + height, 4 : 4 + width] = rng.integers(shade - 20, shade + 20, (height, width))
    return images, labels


@pytest.fixture
def domains(tmp_path):
    """Options for two such domains, of dark and of light ink, as the files that they are read from.

    Training labels of `relabel` are exchanged; `without` has no training image of the last class.
    """

    def options(workdir="run", relabel=None, without=None, **changes):
        arguments = {}
        for name, shade, seed in (("first", 100, 0), ("second", 220, 1)):
            images, labels = drawings(60, seed, shade)
            splits = {"train": slice(0, 40), "validation": slice(40, 48), "test": slice(48, 60)}
            arrays = {f"{kind}_{split}": array[rows].copy() for split, rows in splits.items()
                      for kind, array in (("x", images), ("y", labels))}  # fmt: skip
            if relabel == name:
                arrays["y_train"] = 1 - arrays["y_train"]
            if without == name:
                arrays |= {"x_train": arrays["x_train"][0::2], "y_train": arrays["y_train"][0::2]}
            np.savez(tmp_path / f"{name}.npz", **arrays)
            arguments[name] = f"npz:{tmp_path / name}.npz"
        settings = {"seeds": (0,), "seeds_without_semantics": (), "classifier_steps": 12, **arguments, **changes}
        return Options(workdir=str(tmp_path / workdir), **settings)

    return options


@pytest.fixture
def no_cyclegan(monkeypatch):
    """Translations that turn every drawing by a right angle, so that labels flip; nothing is trained for them."""
    trained = []
    monkeypatch.setattr(training, "ROUNDS", 1)
    monkeypatch.setattr(training, "fit_cyclegan", lambda case, method: trained.append((case.name, case.seed, method)))
    monkeypatch.setattr(training, "translate", lambda run, direction, x: np.rot90(x, axes=(1, 2)).copy())
    monkeypatch.setattr(training, "reverse_accuracy", lambda case, method, forward: 0.5)  # it would train
    return trained


def test_adapt_tests_every_method_on_the_target(domains, no_cyclegan, tmp_path, capsys):
    options = domains(seeds=(0, 1), seeds_without_semantics=(1,))
    found = domain_adaptation.adapt(options)
    rows = files.read_json(tmp_path / "run" / "results.json")
    assert [(row["direction"], row["seed"]) for row in rows] == [
        (direction, seed) for seed in (0, 1) for direction in ("first-to-second", "second-to-first")
    ]
    for row in rows:
        assert row["oracle"] > 0.9 and row["flips_translated"] > 0.9 and row["translated"] < 0.1
        assert row["source_test"] == row["target_test"] == 12 and row["oracle_error"] == 1 - row["oracle"]
        assert ("no_semantics" in row) == (row["seed"] == 1)
        assert set(row["scores"]) == set(methods.METHODS) & set(row) - {"oracle"}
        source = {method: found["source"] for method, found in row["scores"].items()}
        assert source["source_only"] > source["translated"]  # whose labels are wrong
        for scores in row["scores"].values():
            assert set(scores) == set(model_choice.SCORES) and np.isfinite(list(scores.values())).all()
    there, back = ("first-to-second", "second-to-first")
    assert no_cyclegan == [(there, 0, "translated"), (back, 0, "translated")] + [
        (direction, 1, method) for direction in (there, back) for method in ("translated", "no_semantics")
    ]
    direction = rows[0]["direction"]
    means = np.mean([[row["oracle"], row["moments"]] for row in rows if row["direction"] == direction], axis=0)
    np.testing.assert_allclose([found[f"{direction}.oracle"], found[f"{direction}.moments"]], means, atol=1e-4)
    table, choices = (text.splitlines() for text in capsys.readouterr().out.rstrip().split("\n\n"))
    for lines, num in ((table, 2 + 2 * 3), (choices, 2 + 2 * len(model_choice.SCORES))):
        assert len(lines) == num and len({line.count("|") for line in lines}) == 1
    assert "| 13 |" in choices[2]  # six methods with seed 0 and seven with seed 1


def test_reverse_accuracy_tells_right_from_exchanged_predictions(domains):
    options = domains(classifier_steps=80)
    case = training.Case(
        files.resolve(options.workdir), "a2b", 0, *map(methods.load, (options.first, options.second)), 2, 80, 1.0
    )
    (x,), (y,) = case.source.images.train, case.source.labels.train
    right, exchanged = (training.fit(case, name, x, of) for name, of in (("right", y), ("exchanged", 1 - y)))
    assert training.reverse_accuracy(case, "right", right) > 0.9
    assert training.reverse_accuracy(case, "exchanged", exchanged) < 0.1


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


def test_cyclegan_gets_classifiers_only_with_semantic_losses(domains, tmp_path, monkeypatch):
    """The source's domain gets the source's own classifier, the target's one that saw predicted labels alone."""
    runs, learned = [], {}
    fit = training.fit

    def recorded(case, what, images, labels):
        learned[f"{what}-seed-{case.seed}"] = images, len(labels)
        return fit(case, what, images, labels)

    monkeypatch.setattr(training, "ROUNDS", 1)
    monkeypatch.setattr(training, "fit", recorded)
    monkeypatch.setattr(training.cli, "train", runs.append)
    monkeypatch.setattr(training, "translate", lambda run, direction, x: x)
    monkeypatch.setattr(training, "reverse_accuracy", lambda case, method, forward: 0.5)
    domain_adaptation.adapt(domains(seeds_without_semantics=(0,)))
    files = [tuple(Path(path).stem for path in (run.classifier_a, run.classifier_b) if path) for run in runs]
    assert files == [
        ("first-seed-0", "first-to-second-guessed-seed-0"), (), ("second-to-first-guessed-seed-0", "second-seed-0"), ()
    ]  # fmt: skip
    assert [run.loss.semantic_a2b > 0 and run.loss.semantic_b2a > 0 for run in runs] == [True, False, True, False]
    assert [run.loss.semantic_noise > 0 for run in runs] == [True, False, True, False]
    there, back = (f"npz:{tmp_path / 'run' / name}.npz" for name in ("first-to-second", "second-to-first"))
    assert [run.data.source for run in runs] == [there, there, back, back]
    for name, target in (("first-to-second-guessed-seed-0", "second"), ("second-to-first-guessed-seed-0", "first")):
        images, num = learned[name]
        known = {image.tobytes() for image in methods.load(f"npz:{tmp_path / target}.npz").images.train[0]}
        assert 0 < num == len(images) and all(image.tobytes() in known for image in images)


def test_adapt_uses_target_labels_for_the_oracle_alone(domains, no_cyclegan, tmp_path):
    """Training labels of the second domain exchanged: where it is the target, only the oracle's results change."""
    plain, changed = (
        files.read_json(tmp_path / workdir / "results.json")[0]
        for workdir, relabel in (("plain", None), ("changed", "second"))
        if domain_adaptation.adapt(domains(workdir, relabel))
    )
    assert plain["direction"] == "first-to-second"
    assert {name for name in plain if not name.startswith("gap_") and plain[name] != changed[name]} == {
        "oracle", "oracle_error", "flips_translated"
    }  # fmt: skip
    assert changed["oracle"] < 0.1


def test_num_classes_counts_classes_without_training_images(domains, monkeypatch):
    options = domains(without="first")
    first, second = methods.load(options.first), methods.load(options.second)
    there = training.Case(Path(), "a2b", 0, first, second, 2, 12, 1.0)
    assert there.num_classes == there._replace(source=second, target=first).num_classes == 2
    monkeypatch.setattr(classifier, "probabilities", lambda _, images: np.tile([0.6, 0.4], (len(images), 1)))
    images, labels = training.guessed(there, None)
    assert len(images) == 40 and not labels.any()  # the source has nothing but class 0


def test_guessed_refuses_a_target_without_sure_images(domains, monkeypatch):
    options = domains()
    case = training.Case(Path(), "a2b", 3, *map(methods.load, (options.first, options.second)), 2, 12, 1.0)
    monkeypatch.setattr(classifier, "probabilities", lambda _, images: np.full((len(images), 2), 0.5))
    with pytest.raises(ValueError, match="first-to-second, seed 3: the classifier is not sure of any of the 40 target"):
        training.guessed(case, None)


def test_adapt_resumes_and_refuses_other_settings(domains, no_cyclegan, tmp_path, monkeypatch):
    first = domain_adaptation.adapt(domains())

    def fit(*_, **__):
        raise AssertionError("trained again")

    monkeypatch.setattr(classifier, "fit", fit)
    assert domain_adaptation.adapt(domains()) == first
    for changes, message in (
        (dict(classifier_steps=13), "classifier_steps 12 -> 13"),
        (dict(relabel="first"), "labels "),
    ):
        with pytest.raises(ValueError, match=f"{tmp_path / 'run'} was begun otherwise: {message}"):
            domain_adaptation.adapt(domains(**changes))


def test_adapt_refuses_wrong_options(domains, tmp_path):
    options = domains()
    same = domains(second=options.first)
    other_classes = domains(second="digits")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine").touch()
    for wrong, message in (
        (same, "are both called first"), (other_classes, r"has the classes \[0, 1\], and digits has \[0, 1, 2"),
        (domains(semantic=0.0), "--semantic must be positive, got 0.0"),
        (domains(seeds=()), "--seeds needs one or more different values, got none"),
        (domains(num_steps=1), "--num-steps must be at least 2, got 1"), (options, "is not empty and holds no adapt"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            domain_adaptation.adapt(wrong)


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
