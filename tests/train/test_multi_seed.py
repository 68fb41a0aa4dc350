"""Many seeds in one program: each comes to the bytes that it has alone, and the study says what it may of them."""

import dataclasses
import json
import os
import shutil
import signal
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import seed_study
from genjax import files, keys, parallel, vae
from genjax.config import SeedConfig
from genjax.data import batches, sources
from genjax.evaluation import classifier
from genjax.train import checkpoint, compiled, loop, run_directory
from genjax.train.multi_seed import fit_together
from studies.seeds import statistics
from tiny import tiny_run

SEEDS = range(4)
TASK = vae.TASK._replace(
    health=lambda config, splits: lambda rows: {"seen": f"{len(rows)} rows of {config.workdir[-1]}"}
)


def configs(root, seeds=SEEDS, **changes):
    return [tiny_run(str(root / f"seed-{seed}"), seed=seed, **changes) for seed in seeds]


def outcomes(results, runs):
    return [(r.digest, Path(c.workdir, "metrics.jsonl").read_bytes()) for r, c in zip(results, runs, strict=True)]


def study(root, **changes):
    """The outcome of each run of a study, from where it stands."""
    runs = configs(root, **changes)
    return outcomes(fit_together(TASK, runs), runs)


def alone(runs, num_devices):
    """The results of the runs one by one, on the first `num_devices`; without pictures, which enter nothing."""
    make = parallel.make_mesh
    some = lambda devices=None: make(jax.devices()[:num_devices] if devices is None else devices)  # noqa: E731
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parallel, "make_mesh", some)
        patch.setattr(compiled, "_artist", lambda *args: None)
        return [loop.fit(TASK, run) for run in runs]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The directory of an uninterrupted study of four seeds, and its outcomes."""
    root = tmp_path_factory.mktemp("study")
    return root, study(root)


@pytest.fixture(scope="module")
def singles(tmp_path_factory):
    """The directory of four runs by themselves on two devices each, and their outcomes."""
    root = tmp_path_factory.mktemp("singles")
    return root, outcomes(alone(configs(root), 2), configs(root))


def test_four_seeds_have_rows_of_two_devices_and_the_bytes_of_single_runs_on_two(whole, singles):
    assert whole[1] == singles[1] and len({sha for sha, _ in whole[1]}) == 4
    for seed in SEEDS:  # digest and test figures
        one, other = (root / f"seed-{seed}" / "result.json" for root, _ in (whole, singles))
        assert one.read_bytes() == other.read_bytes()
    environment = files.read_json(whole[0] / "seed-0" / "environment.json")
    assert environment["devices"] == 2  # what its numbers depend on


def test_three_seeds_share_all_eight_devices_and_have_the_bytes_of_single_runs_on_eight(tmp_path):
    short, chosen = {"train": {"num_steps": 4}}, [0, 2]  # the first and the last of a row
    runs = configs(tmp_path / "singles", chosen, **short)
    together = study(tmp_path / "study", seeds=range(3), **short)
    assert [together[seed] for seed in chosen] == outcomes(alone(runs, 8), runs)


def test_a_signal_saves_all_and_the_same_call_goes_on_to_the_same_bytes(tmp_path, monkeypatch, whole):
    load = batches.load

    def load_and_signal(source, seed, step, *args):
        if step == 6 and seed == 0:
            os.kill(os.getpid(), signal.SIGTERM)
        return load(source, seed, step, *args)

    with monkeypatch.context() as patch:
        patch.setattr(batches, "load", load_and_signal)
        stopped = fit_together(TASK, configs(tmp_path))
    assert {result.stopped_by for result in stopped} == {signal.SIGTERM}
    (step,) = {result.step for result in stopped}
    assert 0 < step < 12 and not any(result.test for result in stopped)
    resumed = fit_together(TASK, configs(tmp_path))
    assert {result.resumed_from for result in resumed} == {step}
    assert outcomes(resumed, configs(tmp_path)) == whole[1]


def test_a_crash_after_some_have_saved_more_than_others_goes_on_to_the_same_bytes(tmp_path, monkeypatch, whole):
    load = batches.load

    def load_or_crash(source, seed, step, *args):
        if step == 10:
            raise RuntimeError("power cut")
        return load(source, seed, step, *args)

    with monkeypatch.context() as patch:
        patch.setattr(batches, "load", load_or_crash)
        with pytest.raises(RuntimeError, match="power cut"):
            fit_together(TASK, configs(tmp_path))
    shutil.rmtree(tmp_path / "seed-2" / "checkpoints" / "8")
    resumed = fit_together(TASK, configs(tmp_path))
    assert {result.resumed_from for result in resumed} == {4}
    assert outcomes(resumed, configs(tmp_path)) == whole[1]


def test_a_kill_after_some_have_saved_for_the_first_time_goes_on_to_the_same_bytes(tmp_path, caplog, whole):
    short = {"num_steps": 4}
    fit_together(TASK, configs(tmp_path, train=short))
    for seed in SEEDS:
        (tmp_path / f"seed-{seed}" / "result.json").unlink()
    shutil.rmtree(tmp_path / "seed-2" / "checkpoints" / "4")
    resumed = fit_together(TASK, configs(tmp_path))
    assert {result.resumed_from for result in resumed} == {0} and "moved the unshared checkpoint" in caplog.text
    assert outcomes(resumed, configs(tmp_path)) == whole[1]
    assert [seed for seed in SEEDS if (tmp_path / f"seed-{seed}" / "unshared-4").exists()] == [0, 1, 3]


def test_runs_that_were_not_begun_together_are_refused_and_stay_as_they_are(tmp_path):
    short = {"train": {"num_steps": 4}}
    alone(configs(tmp_path, [0], **short), 2)
    (tmp_path / "seed-0" / "result.json").unlink()  # as if it had been killed
    with pytest.raises(ValueError, match="no whole checkpoint of the same step"):
        fit_together(TASK, configs(tmp_path, [0, 1], **short))
    assert checkpoint.steps(tmp_path / "seed-0" / "checkpoints") == [4]


def test_what_a_study_began_a_single_run_resumes_and_the_other_way_round(tmp_path, singles):
    half = {"train": {"num_steps": 8}}
    fit_together(TASK, configs(tmp_path / "study", **half))
    one = configs(tmp_path / "study", [1])
    (resumed,) = alone(one, 2)
    assert resumed.resumed_from == 8 and outcomes([resumed], one)[0] == singles[1][1]

    alone(configs(tmp_path / "alone", **half), 2)
    runs = configs(tmp_path / "alone")
    resumed = fit_together(TASK, runs)
    assert {result.resumed_from for result in resumed} == {8} and outcomes(resumed, runs) == singles[1]


def test_a_study_that_stops_leaves_no_result_of_a_shorter_one_and_no_lock(tmp_path, monkeypatch):
    fit_together(TASK, configs(tmp_path, train={"num_steps": 4}))
    runs = configs(tmp_path, train={"num_steps": 8})
    with monkeypatch.context() as patch:
        patch.setattr(batches, "load", lambda *args: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            fit_together(TASK, runs)
    assert not list(tmp_path.rglob("result.json"))
    with run_directory.exclusive_lock(files.resolve(tmp_path / "seed-1")):
        with pytest.raises(ValueError, match="another training is under way in .*seed-1"):
            fit_together(TASK, runs)
        with run_directory.exclusive_lock(files.resolve(tmp_path / "seed-0")):
            pass


def test_a_study_that_another_has_come_before_while_it_loaded_changes_nothing(tmp_path, monkeypatch):
    load = sources.load

    def load_while_another_trains(*args):
        monkeypatch.setattr(sources, "load", load)
        fit_together(TASK, configs(tmp_path, [0, 1], train={"num_steps": 4}))
        return load(*args)

    monkeypatch.setattr(sources, "load", load_while_another_trains)
    with pytest.raises(
        ValueError, match="seed-0 holds a run with another configuration:\n  optim.learning_rate: 0.002"
    ):
        fit_together(TASK, configs(tmp_path, [0, 1], optim={"learning_rate": 0.05}, train={"num_steps": 8}))
    for seed in (0, 1):
        assert files.read_json(tmp_path / f"seed-{seed}" / "config.json")["optim"]["learning_rate"] == 0.002
        assert checkpoint.steps(tmp_path / f"seed-{seed}" / "checkpoints") == [4]


def test_a_run_that_is_never_finite_is_named(tmp_path, monkeypatch):
    def step(config, state, batch, key):
        skipped = state.skipped + (batch.images[0].max() == 0)
        return state._replace(step=state.step + 1, skipped=skipped), {"skipped": skipped}

    def dark(source, seed, *args, load=batches.load):
        batch = load(source, seed, *args)
        return batch._replace(images=tuple(x * np.uint8(seed != 1) for x in batch.images))

    monkeypatch.setattr(batches, "load", dark)
    with pytest.raises(FloatingPointError, match="seed-1: the loss .* 3 steps in a row, up to step 3"):
        fit_together(vae.TASK._replace(train_step=step), configs(tmp_path, [0, 1], train={"max_nonfinite_steps": 3}))


def test_several_steps_at_a_time_are_refused_before_anything_is_written(tmp_path):
    runs = configs(tmp_path, [0, 1], train={"steps_per_dispatch": 2})
    with pytest.raises(ValueError, match="one step at a time: leave --train.steps-per-dispatch at 1"):
        fit_together(vae.TASK, runs)
    assert not any(Path(run.workdir).exists() for run in runs)


def test_runs_that_differ_in_more_than_seeds_are_refused(tmp_path):
    one, two = configs(tmp_path, [0, 1])
    for other, said in [
        (dataclasses.replace(two, data=dataclasses.replace(two.data, batch_size=32)), "in workdir and seeds alone"),
        (dataclasses.replace(two, precision="bfloat16"), "in workdir and seeds alone"),
        (dataclasses.replace(two, workdir=one.workdir), "a workdir of its own"),
    ]:
        with pytest.raises(ValueError, match=said):
            fit_together(TASK, [one, other])
    assert not list(tmp_path.iterdir())


def test_runs_without_a_step_in_common_are_refused(tmp_path):
    alone(configs(tmp_path, [0], train={"num_steps": 4}), 2)
    with pytest.raises(ValueError, match="no whole checkpoint of the same step"):
        fit_together(TASK, configs(tmp_path, train={"num_steps": 4}))


def observed(config, state, batch, key):
    """A training step that logs the parameters that it was given, and its key, as numbers that float32 holds."""
    parameters = sum(jnp.sum(jnp.abs(leaf)) for leaf in jax.tree.leaves(state.net.params))
    metrics = {"parameters": parameters, "key": _number(key), "skipped": state.skipped}
    return state._replace(step=state.step + 1), metrics


def scored(config, state, batch, key):
    """Scores that are the key."""
    return ({"key": jnp.full(len(batch.position), _number(key)), "negative_elbo": jnp.zeros(len(batch.position))},)


def _number(key):
    return (jax.random.key_data(jax.random.fold_in(key, 0))[0] >> 8).astype(jnp.float32)


OBSERVED = {"parameters": "init", "batch": "data", "key": "noise", "validation/key": "noise", "test": "noise"}
"""What is seen of a run, by the stream that it follows."""


@pytest.mark.parametrize("vary", ["init", "data", "noise", "init,data,noise"])
def test_only_the_streams_that_vary_differ_between_runs(tmp_path, vary):
    task = vae.TASK._replace(train_step=observed, eval_step=scored)
    short = {"num_steps": 2, "log_every": 1, "eval_every": 2, "checkpoint_every": 2}
    options = seed_study.Options(study="vae:digits", workdir=str(tmp_path), seeds=(0, 1), vary=vary)
    runs = seed_study._runs(options, tiny_run(str(tmp_path), train=short), vary.split(","))
    results = fit_together(task, list(runs.values()))
    seen = {name: [] for name in OBSERVED}
    for run, result in zip(runs.values(), results, strict=True):
        rows = [json.loads(line) for line in Path(run.workdir, "metrics.jsonl").read_text().splitlines()]
        first, second, validation = rows
        seen["parameters"].append((first["parameters"], second["parameters"]))
        seen["batch"].append((first["fingerprint"]["batch"], second["fingerprint"]["batch"]))
        seen["key"].append((first["key"], second["key"]))
        seen["validation/key"].append(validation["validation/key"])
        seen["test"].append(result.test["key"])
    differing = {name for name, (one, two) in seen.items() if one != two}
    assert differing == {name for name, stream in OBSERVED.items() if stream in vary.split(",")}
    for name in ("batch", "key"):
        assert all(first != second for first, second in seen[name])


def test_the_runs_of_a_design_have_the_seeds_that_their_names_say():
    def runs(**options):
        vary = options.setdefault("vary", "init,data,noise").split(",")
        given = seed_study.Options(study="vae:digits", workdir="dir", **options)
        return {
            config.workdir: (config.seed, config.seeds)
            for config in seed_study._runs(given, tiny_run("dir"), vary).values()
        }

    assert runs(seeds=(3, 5)) == {"dir/seed-3": (3, SeedConfig()), "dir/seed-5": (5, SeedConfig())}
    assert runs(seeds=(3, 5), vary="data,noise") == {
        "dir/seed-3": (3, SeedConfig(data=3, noise=3)),
        "dir/seed-5": (3, SeedConfig(data=5, noise=5)),
    }
    crossed = runs(seeds=(0, 1), vary="init,noise", design="crossed")
    assert list(crossed.items()) == [
        (f"dir/init-{i}-noise-{n}", (0, SeedConfig(init=i, noise=n))) for i in (0, 1) for n in (0, 1)
    ]
    assert len(runs(seeds=(0, 1, 2), design="crossed")) == 27


TINY = "--data.batch-size 16 --vae.hidden-sizes 16 --vae.latent-dim 4 --train.num-steps 12 --train.log-every 2"
TINY += " --train.eval-every 4 --train.checkpoint-every 4"


def call(monkeypatch, arguments):
    monkeypatch.setattr(sys, "argv", ["seed_study.py", *arguments.split()])
    return seed_study.main()


def test_the_script_prints_every_run_and_takes_more_seeds_later(tmp_path, monkeypatch, capsys, caplog):
    command = f"vae:digits --workdir {tmp_path} {TINY} --seeds 0 1"
    call(monkeypatch, command)
    before = (tmp_path / "seed-0" / "result.json").stat().st_mtime_ns
    capsys.readouterr()
    results = call(monkeypatch, f"{command} 2 3")
    assert (tmp_path / "seed-0" / "result.json").stat().st_mtime_ns == before  # not trained again

    tests = [files.read_json(tmp_path / f"seed-{seed}" / "result.json") for seed in range(4)]
    elbo = [result["test"]["elbo"] for result in tests]
    assert (results["seeds"], results["runs"]) == (4, 4)
    np.testing.assert_allclose(results["mean.elbo"], np.mean(elbo), rtol=1e-12)
    np.testing.assert_allclose(results["sd.elbo"], np.std(elbo, ddof=1), rtol=1e-12)
    assert all(isinstance(value, int | float | str) for value in results.values())

    table = [[cell.strip() for cell in line.split("|")[1:-1]] for line in capsys.readouterr().out.splitlines()[:9]]
    assert table[0][:3] == ["run", "digest", "elbo"] and {len(row) for row in table} == {len(table[0])}
    for row, result in zip(table[2:6], tests, strict=True):
        assert row[1] == f"`{result['digest'][:8]}`" and row[2] == f"{result['test']['elbo']:.5g}"
    assert [row[0] for row in table[6:]] == ["mean", "standard deviation", "95% interval of the mean"]
    assert table[8][2] == f"{results['low.elbo']:.5g} to {results['high.elbo']:.5g}"

    record = files.read_json(tmp_path / "study.json")
    assert list(record["runs"]) == [f"seed-{seed}" for seed in range(4)] and record["mean.elbo"] == results["mean.elbo"]
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match=r"seed-0 holds a run with another configuration:\n  seeds.data: None -> 0"):
        call(monkeypatch, f"{command} --vary data")

    environment = files.read_json(tmp_path / "seed-1" / "environment.json")
    files.write_json(tmp_path / "seed-1" / "environment.json", environment | {"python": "2.7"})
    call(monkeypatch, command)
    assert any("a finished run was trained in another environment: python: 2.7 ->" in line for line in caplog.messages)
    data = files.read_json(tmp_path / "seed-1" / "data.json")
    files.write_json(tmp_path / "seed-1" / "data.json", data | {"train": data["test"]})
    with pytest.raises(ValueError, match="the images have changed since the run in .*seed-1 began"):
        call(monkeypatch, command)


def test_a_study_of_cyclegans_trains_with_the_classifiers_that_are_named(tmp_path, monkeypatch):
    image = (32, 32, 1)
    sha256 = {
        domain: classifier.save(
            tmp_path / f"{domain}.npz", classifier.Classifier(image, classifier.init(image, 3, keys.root_key(seed)))
        )
        for seed, domain in enumerate("ab")
    }
    trained = []
    monkeypatch.setattr(seed_study, "_train", lambda task, configs: trained.append((task, configs)) or 1 / 0)
    flags = "--loss.semantic-a2b 1 --loss.semantic-b2a 1 --classifier-a {0}/a.npz --classifier-b {0}/b.npz"
    with pytest.raises(ZeroDivisionError):
        call(monkeypatch, f"cyclegan:quickstart --workdir {tmp_path}/study {flags.format(tmp_path)}")
    ((task, configs),) = trained
    assert task.train_step.keywords["classifiers"].keys() == {"a", "b"} and len(configs) == 4
    for config in configs.values():
        assert {"a": config.classifier_a_sha256, "b": config.classifier_b_sha256} == sha256


def test_a_crossed_design_is_taken_apart(tmp_path, monkeypatch, capsys):
    command = f"vae:digits --workdir {tmp_path} {TINY} --seeds 0 1 --design crossed --vary init,data"
    results, printed = call(monkeypatch, command), capsys.readouterr().out
    elbo = [
        [files.read_json(tmp_path / f"init-{i}-data-{d}" / "result.json")["test"]["elbo"] for d in (0, 1)]
        for i in (0, 1)
    ]
    expected = statistics.decompose(np.array(elbo), ["init", "data"])
    for stream, part in expected.items():
        assert results[f"share.elbo.{stream}"] == part.share and results[f"component_sd.elbo.{stream}"] == part.sd
    assert "low.elbo" not in results and "95% interval of the mean" not in printed
    assert "share of 0.333 on average" in printed and "1 degree of freedom" in printed


@pytest.mark.parametrize("name", ["study.json", "curves.png"])
def test_files_that_are_no_studys_are_not_overwritten(tmp_path, monkeypatch, name):
    (tmp_path / name).write_text('{"mine": 1}')
    with pytest.raises(ValueError, match="is no study's: move them, or choose another --workdir"):
        call(monkeypatch, f"vae:digits --workdir {tmp_path} {TINY} --seeds 0 1")
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("gan:digits", "gan:digits names no family: give vae:CONFIG or cyclegan:CONFIG"),
        ("vae:digit", "vae:digit names no configuration: give vae: and quickstart, mnist5k, digits"),
        ("vae:digits --seeds 3", "two or more different --seeds, got 3"),
        ("vae:digits --seeds 1 2 1", "two or more different --seeds, got 1 2 1"),
        ("vae:digits --seeds 0 -1", r"seed must lie in \[0, 2\*\*31\), got -1"),
        ("vae:digits --vary init,order", "--vary init,order is not one or more of init,data,noise"),
        ("vae:digits --vary data,data", "--vary data,data is not one or more of"),
        ("vae:digits --design crossed --vary init", "--design crossed needs two or more streams"),
        ("vae:digits --seed 3", "given as --seeds and --vary"),
        ("vae:digits --seeds.init 3", "given as --seeds and --vary"),
    ],
)
def test_a_study_that_cannot_be_is_refused_with_the_remedy(tmp_path, monkeypatch, arguments, said):
    with pytest.raises(ValueError, match=said) as error:
        call(monkeypatch, f"{arguments} --workdir {tmp_path / 'study'}")
    assert "\n" not in str(error.value) and not (tmp_path / "study").exists()


def test_the_interval_is_students():
    for values in ([1.0, 2.0], [3.0, 1.0, 4.0, 1.0, 5.0]):
        found, n = statistics.summarize(values), len(values)
        sd = np.std(values, ddof=1)
        expected = stats.t.interval(0.95, n - 1, loc=np.mean(values), scale=sd / np.sqrt(n))
        np.testing.assert_allclose(found, (np.mean(values), sd, *expected), rtol=1e-12)
    np.testing.assert_allclose(
        statistics.summarize([1.0, 2.0]).high, 1.5 + 12.7062047 / 2, rtol=1e-7
    )  # from the tables


def test_additive_effects_are_found_exactly_and_leave_no_rest():
    a, b, c = np.array([0.0, 2.0, 7.0]), np.array([1.0, 0.0, 0.0]), np.array([4.0, -4.0, 0.0])
    found = statistics.decompose(5 + a[:, None, None] + b[:, None] + c, ["a", "b", "c"])
    assert [part.df for part in found.values()] == [2, 2, 2, 20]
    for name, effect in zip("abc", (a, b, c), strict=True):
        np.testing.assert_allclose(found[name].sd, np.std(effect, ddof=1), rtol=1e-12)
        np.testing.assert_allclose(found[name].share, np.var(effect) / sum(map(np.var, (a, b, c))), rtol=1e-12)
    assert found["rest"].share < 1e-30 and found["rest"].sd < 1e-14


def test_the_table_by_hand():
    """Grand mean 5; rows 3 and 7, columns 4 and 6, an interaction of 1 in each cell: sums of squares 16, 4, 4."""
    found = statistics.decompose(np.array([[3.0, 3.0], [5.0, 9.0]]), ["row", "column"])
    np.testing.assert_allclose([part.share for part in found.values()], [16 / 24, 4 / 24, 4 / 24], rtol=1e-12)
    np.testing.assert_allclose([part.sd**2 for part in found.values()], [(16 - 4) / 2, 0, 4], rtol=1e-12)
    negative = statistics.decompose(np.array([[0.0, 1.0], [1.0, 0.0]]), ["row", "column"])
    assert [part.sd for part in negative.values()] == [0, 0, 1]  # all is interaction


def test_without_effects_shares_are_as_is_said_of_them():
    rng = np.random.default_rng(0)
    for levels, streams in ((2, "abc"), (3, "ab")):
        shape = (levels,) * len(streams)
        found = [statistics.decompose(rng.normal(size=shape), streams) for _ in range(4000)]
        np.testing.assert_allclose(np.mean([parts["rest"].sd ** 2 for parts in found]), 1, rtol=0.06)
        mean, seldom = statistics.share_without_effect(levels - 1, levels ** len(streams) - 1)
        shares = np.array([parts["a"].share for parts in found])
        np.testing.assert_allclose(shares.mean(), mean, rtol=0.05)
        np.testing.assert_allclose((shares > seldom).mean(), 0.05, atol=0.012)


def test_a_standard_deviation_lies_where_it_is_said_to():
    rng = np.random.default_rng(0)
    for n in (2, 3, 8):
        low, high = statistics.sd_factors(n - 1)
        found = rng.normal(size=(4000, n)).std(1, ddof=1)
        np.testing.assert_allclose(((low * found < 1) & (1 < high * found)).mean(), 0.95, atol=0.012)


def test_equal_runs_and_figures_that_are_not_finite_make_no_error():
    equal = statistics.decompose(np.ones((2, 2)), ["a", "b"])
    assert [part.sd for part in equal.values()] == [0, 0, 0] and all(np.isnan(p.share) for p in equal.values())
    assert all(np.isnan(statistics.summarize([1.0, float("nan")])))
    assert np.isnan(statistics.decompose(np.array([[1.0, np.nan], [1.0, 2.0]]), ["a", "b"])["a"].share)


def test_a_decomposition_needs_two_streams():
    with pytest.raises(ValueError, match="two or more streams"):
        statistics.decompose(np.arange(3.0), ["a"])
