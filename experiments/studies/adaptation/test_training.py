"""The whole study on two small domains: what is trained on what, and what is refused."""

from pathlib import Path

import numpy as np
import pytest

import domain_adaptation
from genjax import files
from genjax.evaluation import classifier
from studies.adaptation import methods, model_choice, training

pytestmark = pytest.mark.slow


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
