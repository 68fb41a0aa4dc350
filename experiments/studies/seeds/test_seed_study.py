"""seed_study.py: which runs it trains, what differs between them, and what it prints."""

import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seed_study
from genjax import cyclegan, files, keys, vae
from genjax.config import SeedConfig
from genjax.evaluation import classifier
from genjax.evaluation.per_image import per_image_means
from genjax.train.multi_seed import fit_seeds
from studies.seeds import statistics
from tiny import tiny_run

pytestmark = pytest.mark.slow

TINY = "--data.batch-size 16 --vae.hidden-sizes 16 --vae.latent-dim 4 --train.num-steps 12 --train.log-every 2"
TINY += " --train.eval-every 4 --train.checkpoint-every 4 --train.num-sample-images 8 --vae.test-draws 2"


def call(monkeypatch, arguments):
    monkeypatch.setattr(sys, "argv", ["seed_study.py", *arguments.split()])
    return seed_study.main()


def options(workdir="dir", **changes):
    return seed_study.Options(study="vae:digits", workdir=str(workdir), **changes)


def logged_step(config, state, batch, key):
    """A training step that logs the parameters that it was given, and its key, as numbers that float32 holds."""
    parameters = sum(jnp.sum(jnp.abs(leaf)) for leaf in jax.tree.leaves(state.net.params))
    metrics = {"parameters": parameters, "key": as_number(key), "skipped": state.skipped}
    return state._replace(step=state.step + 1), metrics


def logged_eval(config, state, batch, key):
    """Metrics that are the key."""
    return ({"key": jnp.full(len(batch.position), as_number(key)), "negative_elbo": jnp.zeros(len(batch.position))},)


def as_number(key):
    return (jax.random.key_data(jax.random.fold_in(key, 0))[0] >> 8).astype(jnp.float32)


STREAM_OF = {"parameters": "init", "batch": "data", "key": "noise", "validation/key": None, "test": None}
"""The stream that each observation of a run follows; all runs are scored with the same noise."""


@pytest.mark.parametrize("vary", ["init", "data", "noise", "init,data,noise"])
def test_run_configs_vary_the_named_streams_alone(tmp_path, vary):
    task = vae.TASK._replace(
        train_step=logged_step, evaluators=(per_image_means(logged_eval),), visualize=lambda *arguments: {}
    )
    short = {"num_steps": 2, "log_every": 1, "eval_every": 2, "checkpoint_every": 2}
    base = tiny_run(str(tmp_path), train=short)
    runs = seed_study.run_configs(options(tmp_path, seeds=(0, 1), vary=vary), base, vary.split(","))
    results = fit_seeds(task, list(runs.values()))
    seen = {name: [] for name in STREAM_OF}
    for run, result in zip(runs.values(), results, strict=True):
        rows = [json.loads(line) for line in Path(run.workdir, "metrics.jsonl").read_text().splitlines()]
        first, second, validation = rows
        seen["parameters"].append((first["parameters"], second["parameters"]))
        seen["batch"].append((first["fingerprint"]["batch"], second["fingerprint"]["batch"]))
        seen["key"].append((first["key"], second["key"]))
        seen["validation/key"].append(validation["validation/key"])
        seen["test"].append(result.test["key"])
    differing = {name for name, (one, two) in seen.items() if one != two}
    assert differing == {name for name, stream in STREAM_OF.items() if stream in vary.split(",")}
    for name in ("batch", "key"):
        assert all(first != second for first, second in seen[name])


def test_run_configs_have_seeds_as_named():
    def seeds(vary, **changes):
        runs = seed_study.run_configs(options(vary=vary, **changes), tiny_run("dir"), vary.split(","))
        return {config.workdir: (config.seed, config.seeds) for config in runs.values()}

    every = "init,data,noise"
    assert seeds(every, seeds=(3, 5)) == {"dir/seed-3": (3, SeedConfig()), "dir/seed-5": (5, SeedConfig())}
    assert seeds("data,noise", seeds=(3, 5)) == {
        "dir/seed-3": (3, SeedConfig(data=3, noise=3)),
        "dir/seed-5": (3, SeedConfig(data=5, noise=5)),
    }
    crossed = seeds("init,noise", seeds=(0, 1), design="crossed")
    assert list(crossed.items()) == [
        (f"dir/init-{i}-noise-{n}", (0, SeedConfig(init=i, noise=n))) for i in (0, 1) for n in (0, 1)
    ]
    assert len(seeds(every, seeds=(0, 1, 2), design="crossed")) == 27


def test_main_prints_runs_and_takes_more_seeds(tmp_path, monkeypatch, capsys, caplog):
    command = f"vae:digits --workdir {tmp_path} {TINY} --seeds 0 1"
    call(monkeypatch, command)
    before = (tmp_path / "seed-0" / "result.json").stat().st_mtime_ns
    capsys.readouterr()
    results = call(monkeypatch, f"{command} 2")
    assert (tmp_path / "seed-0" / "result.json").stat().st_mtime_ns == before  # not trained again

    tests = [files.read_json(tmp_path / f"seed-{seed}" / "result.json") for seed in range(3)]
    elbo = [result["test"]["elbo"] for result in tests]
    assert (results["seeds"], results["runs"]) == (3, 3)
    np.testing.assert_allclose(results["mean.elbo"], np.mean(elbo), rtol=1e-12)
    np.testing.assert_allclose(results["sd.elbo"], np.std(elbo, ddof=1), rtol=1e-12)
    assert all(isinstance(value, int | float | str) for value in results.values())

    table = [[cell.strip() for cell in line.split("|")[1:-1]] for line in capsys.readouterr().out.splitlines()[:10]]
    assert table[0][:3] == ["run", "digest", "elbo"] and {len(row) for row in table} == {len(table[0])}
    for row, result in zip(table[2:5], tests, strict=True):
        assert row[1] == f"`{result['digest'][:8]}`" and row[2] == f"{result['test']['elbo']:.5g}"
    errors = [f"standard error over test {over}s" for over in ("draw", "image")]
    assert [row[0] for row in table[5:]] == ["mean", "standard deviation", *errors, "95% interval of the mean"]
    for row, over in zip(table[7:9], ("draw", "image"), strict=True):
        assert row[2] == f"{np.mean([result['test'][f'elbo_{over}_se'] for result in tests]):.2g}"
        assert over == "image" or not any(row[3:])  # draws are told apart for the bound alone
    assert table[9][2] == f"{results['low.elbo']:.5g} to {results['high.elbo']:.5g}"

    record = files.read_json(tmp_path / "study.json")
    assert list(record["runs"]) == [f"seed-{seed}" for seed in range(3)] and record["mean.elbo"] == results["mean.elbo"]
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match=r"seed-0 holds a run with another configuration:\n  seeds.data: None -> 0"):
        call(monkeypatch, f"{command} 2 --vary data")

    path = tmp_path / "seed-1" / "result.json"
    older = {name: value for name, value in tests[1].items() if name != "scoring_seed"}
    files.write_json(path, older | {"test": {"elbo": 0.0}})  # scored with noise of its own seed
    call(monkeypatch, f"{command} 2")
    assert files.read_json(path) == tests[1]

    environment = files.read_json(tmp_path / "seed-1" / "environment.json")
    files.write_json(tmp_path / "seed-1" / "environment.json", environment | {"python": "2.7"})
    call(monkeypatch, f"{command} 2")
    assert any("seed-1 was trained in another environment: python: 2.7 ->" in line for line in caplog.messages)
    data = files.read_json(tmp_path / "seed-1" / "data.json")
    files.write_json(tmp_path / "seed-1" / "data.json", data | {"train": data["test"]})
    with pytest.raises(ValueError, match="the images have changed since the run in .*seed-1 began"):
        call(monkeypatch, f"{command} 2")


def test_main_resumes_epochs_and_measured_levels(tmp_path, monkeypatch):
    command = f"vae:digits --workdir {tmp_path} {TINY} --seeds 0 1 --train.epochs 0.05 --data.levels auto"
    results = call(monkeypatch, command)
    before = (tmp_path / "seed-0" / "result.json").stat().st_mtime_ns
    again = call(monkeypatch, command)
    assert (tmp_path / "seed-0" / "result.json").stat().st_mtime_ns == before  # not trained again
    assert again["mean.elbo"] == results["mean.elbo"]


def test_main_decomposes_a_crossed_design(tmp_path, monkeypatch, capsys):
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


def test_train_fills_in_the_classifiers_sha256(tmp_path, monkeypatch):
    """A run directory records them, so that a finished run is recognised."""
    image, sha256 = (32, 32, 1), {}
    init = jax.jit(lambda seed: classifier.init(image, 3, keys.root_key(seed)))
    for seed, domain in enumerate("ab"):
        params = jax.device_get(init(seed))
        sha256[domain] = classifier.save(tmp_path / f"{domain}.npz", classifier.Classifier(image, params))
    trained = []
    monkeypatch.setattr(seed_study, "fit_seeds", lambda task, configs: trained.append((task, configs)) or 1 / 0)
    flags = "--loss.semantic-a2b 1 --loss.semantic-b2a 1 --classifier-a {0}/a.npz --classifier-b {0}/b.npz"
    with pytest.raises(ZeroDivisionError):
        call(monkeypatch, f"cyclegan:quickstart --workdir {tmp_path}/study {flags.format(tmp_path)}")
    ((task, configs),) = trained
    assert task is cyclegan.TASK and len(configs) == 4
    for config in configs:
        assert {"a": config.classifier_a_sha256, "b": config.classifier_b_sha256} == sha256


def test_train_tells_how_to_go_on_without_a_run(tmp_path, monkeypatch):
    def diverge(task, configs):
        raise FloatingPointError(f"{configs[1].workdir}: not finite")

    monkeypatch.setattr(seed_study, "fit_seeds", diverge)
    with pytest.raises(FloatingPointError, match="seed-1: not finite\nThe other runs are finished: --seeds without"):
        call(monkeypatch, f"vae:digits --workdir {tmp_path} {TINY} --seeds 0 1")


@pytest.mark.parametrize("name", ["study.json", "curves.png"])
def test_choose_refuses_to_overwrite_other_files(tmp_path, monkeypatch, name):
    (tmp_path / name).write_text('{"mine": 1}')
    with pytest.raises(ValueError, match="is not a study's: move them, or choose another --workdir"):
        call(monkeypatch, f"vae:digits --workdir {tmp_path} {TINY} --seeds 0 1")
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("flags", ["--seeds 0 3", "--seeds 0 1 2 --design crossed"])
def test_main_never_drops_runs_from_a_table(tmp_path, monkeypatch, flags):
    saved = {"study": "vae:digits", "runs": {f"seed-{seed}": {} for seed in (0, 1, 2)}}
    files.write_json(tmp_path / "study.json", saved)
    with pytest.raises(ValueError, match="holds .*seed-1, seed-2, which .* would lack: add their seeds to --seeds"):
        call(monkeypatch, f"vae:digits --workdir {tmp_path} {TINY} {flags}")
    assert [path.name for path in tmp_path.iterdir()] == ["study.json"]
    assert files.read_json(tmp_path / "study.json") == saved


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            "gan:digits",
            "gan:digits names no family of models: give vae:CONFIG or cyclegan:CONFIG or cut:CONFIG or unit:CONFIG",
        ),
        ("vae:digit", "vae:digit names no configuration: give vae: followed by one of quickstart, mnist5k, digits"),
        ("vae:digits --seeds 3", "two or more different --seeds, got 3"),
        ("vae:digits --seeds 1 2 1", "two or more different --seeds, got 1 2 1"),
        ("vae:digits --seeds 0 -1", r"seed must .* \[0, 2\*\*31\), got -1"),
        ("vae:digits --vary init,order", "--vary takes one or more of init,data,noise, .* got init,order"),
        ("vae:digits --vary data,data", "--vary takes one or more of init,data,noise"),
        ("vae:digits --design crossed --vary init", "--design crossed needs two or more streams"),
        ("vae:digits --seed 3", "takes its seeds from --seeds and --vary"),
        ("vae:digits --seeds.init 3", "takes its seeds from --seeds and --vary"),
    ],
)
def test_choose_refuses_wrong_options_with_a_remedy(tmp_path, monkeypatch, arguments, message):
    with pytest.raises(ValueError, match=message) as error:
        call(monkeypatch, f"{arguments} --workdir {tmp_path / 'study'}")
    assert "\n" not in str(error.value) and not (tmp_path / "study").exists()
