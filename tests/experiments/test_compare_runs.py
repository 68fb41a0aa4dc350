"""compare_runs.py on pairs of runs of which it is known where they differ, and in what."""

import dataclasses
import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

import compare_runs
from genjax import vae
from genjax.evaluation.per_image import per_image_means
from genjax.train import config_file, loop
from genjax.train.multi_seed import compile_once
from in_turn import run_in_turn
from tiny import tiny_run
from untrained import write_records

pytestmark = [
    pytest.mark.usefixtures("failing_loads"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),  # see failing_loads
]


def brightness(config, state, batch, key):
    return ({"brightness": jnp.mean(batch.images[0], axis=(1, 2, 3))},)


# Compiling takes most of a tiny training: these draw no pictures, and evaluate the brightness of the images.
TASK = vae.TASK._replace(
    evaluators=(per_image_means(brightness),),
    visualize=lambda *arguments: {},
    scores={"elbo": ("brightness",)},
)


shared_programs = compile_once()


def fit(config, task=TASK):
    """Trains a run; those of `TASK`, which differ in seeds and lengths alone, share their programs."""
    loop.fit(task, config, shared_programs if task is TASK else loop.compile_programs)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run with rows at 2, 4, ... 12, evaluations at 4, 8 and 12, and checkpoints at 8 and 12."""
    config = tiny_run(str(tmp_path_factory.mktemp("compared") / "run"))
    fit(config)
    return config


@pytest.fixture
def copied(run, tmp_path):
    """A copy to be changed."""
    shutil.copytree(run.workdir, tmp_path / "copy")
    return dataclasses.replace(run, workdir=str(tmp_path / "copy"))


def edit(run, name, change):
    """Replaces the value in a .json file of a run, or each row of a .jsonl file, by what `change` makes of it."""
    path = Path(run.workdir, name)
    values = [json.loads(text) for text in (path.open() if path.suffix == ".jsonl" else [path.read_text()])]
    path.write_text("".join(json.dumps(change(value)) + "\n" for value in values))


def compare(old, new):
    return compare_runs.compare(old.workdir, new.workdir)


def test_compare_finds_equal_runs_of_different_lengths(run, make_run, capsys):
    shorter = make_run(train={"num_steps": 8, "log_every": 4})
    fit(shorter)
    assert compare(run, shorter) == {
        "equal": True, "first_difference": None, "last_equal": 8, "first_row": None, "groups": [], "metrics": [],
        "first_checkpoint": None, "leaves": [], "steps_compared": 2, "checkpoints_compared": 2,
        "config_differences": ["train.log_every", "train.num_steps"], "data_differences": [],
        "environment_differences": [],
    }  # fmt: skip
    shown = capsys.readouterr().err.splitlines()
    assert "  train.num_steps: 12 -> 8" in shown
    assert "metrics.jsonl: steps logged in both: 2 (of 6 and 2; with fingerprints: 2)" in shown
    assert shown[-1] == "the runs are equal at all steps that both have, up to step 8"


def test_compare_ignores_steps_of_one_run(run, make_run):
    other = make_run(train={"log_every": 3})
    fit(other)
    found = compare(run, other)
    assert found["equal"] and found["steps_compared"] == 4  # 6 and 12 in training, 4, 8 and 12 in evaluation


@pytest.mark.parametrize(("change", "field", "batch"), [
    ({"seed": 1}, "seed", ["batch"]), ({"seeds": {"noise": 1}}, "seeds.noise", []),
], ids=str)  # fmt: skip
def test_compare_tells_batches_from_noise(run, make_run, capsys, change, field, batch):
    other = make_run(**change)
    fit(other)
    found = compare(run, other)
    assert not found["equal"] and (found["first_difference"], found["last_equal"]) == (2, None)
    assert found["groups"] == [*batch, "ema.decoder", "ema.encoder", "net.opt_state", "net.params"]
    assert "elbo" in found["metrics"] and found["config_differences"] == [field]
    assert found["first_checkpoint"] == 4 and "ema.decoder.Dense_0.bias" in found["leaves"]
    assert "skipped" not in found["leaves"] and "net.opt_state.count" not in found["leaves"]
    said = "another batch (other images, or another order)" if batch else "the same batch"
    assert f"step 2: {said}, and the state differs in ema.decoder, ema.encoder" in capsys.readouterr().err


@pytest.fixture(scope="module")
def nudged(tmp_path_factory):
    """The same run, but for one bias that is moved by a half at the end of step 8."""

    def train_step(config, state, batch, key):
        state, metrics = vae.TASK.train_step(config, state, batch, key)
        params = state.net.params
        bias = params["encoder"]["Dense_0"]["bias"]
        layer = params["encoder"]["Dense_0"] | {"bias": jnp.where(state.step == 8, bias.at[3].add(0.5), bias)}
        params = params | {"encoder": params["encoder"] | {"Dense_0": layer}}
        return state._replace(net=state.net._replace(params=params)), metrics

    config = tiny_run(str(tmp_path_factory.mktemp("nudged") / "run"))
    fit(config, TASK._replace(train_step=train_step))
    return config


def test_compare_finds_one_changed_element(run, nudged, capsys):
    found = compare(run, nudged)
    assert (found["first_difference"], found["last_equal"], found["first_row"]) == (8, 6, 8)
    assert (found["groups"], found["metrics"]) == (["net.params"], [])
    assert (found["first_checkpoint"], found["leaves"]) == (8, ["net.params.encoder.Dense_0.bias"])
    shown = capsys.readouterr().err
    assert "step 8: the same batch, and the state differs in net.params\n" in shown
    assert "step 8: 1 of 35 leaves differ\n  net.params.encoder.Dense_0.bias: 1 of 16 elements, by up to 0.5\n" in shown
    assert "the runs differ first at step 8; they are equal up to step 6\n" in shown


def test_compare_uses_checkpoints_between_rows(run, copied, nudged):
    rows = Path(copied.workdir, "metrics.jsonl")
    rows.write_text("".join(line for line in rows.open() if json.loads(line)["step"] in (4, 12)))
    found = compare(copied, nudged)
    assert (found["first_difference"], found["last_equal"]) == (8, 4)
    assert (found["first_row"], found["first_checkpoint"]) == (12, 8)
    rows.unlink()
    found = compare(copied, run)
    assert (found["equal"], found["last_equal"], found["steps_compared"]) == (True, 12, 0)


def test_compare_finds_metrics_of_equal_states(run, copied, capsys):
    name = "validation/brightness"
    edit(copied, "metrics.jsonl", lambda row: row | {name: 0.5} if row["step"] == 8 and name in row else row)
    edit(copied, "metrics.jsonl", lambda row: row | {"elbo": None} if row["step"] > 8 and "elbo" in row else row)
    found = compare(run, copied)
    assert (found["first_difference"], found["last_equal"], found["first_checkpoint"]) == (8, 6, None)
    assert (found["groups"], found["metrics"]) == ([], [name])
    assert f"step 8: the same batch, and the same state\n  {name}: " in capsys.readouterr().err


def test_compare_takes_rows_without_fingerprints(run, copied, capsys):
    edit(copied, "metrics.jsonl", lambda row: {name: row[name] for name in row if name != "fingerprint"})
    assert compare(run, copied)["equal"]
    assert "steps logged in both: 6 (of 6 and 6; with fingerprints: 0)" in capsys.readouterr().err
    edit(copied, "metrics.jsonl", lambda row: row | {"rate": 9.0} if "rate" in row else row)
    found = compare(run, copied)
    assert (found["first_difference"], found["groups"], found["metrics"]) == (2, [], ["rate"])
    assert "step 2: no fingerprints to compare\n  rate: " in capsys.readouterr().err


def test_compare_reports_environments_and_images(run, copied, capsys):
    edit(copied, "environment.json", lambda found: found | {"packages": found["packages"] | {"jax": "0.1"}})
    edit(copied, "data.json", lambda found: found | {"test": [found["test"][0] | {"sha256": "0" * 64}]})
    found = compare(run, copied)
    assert found["equal"]
    assert (found["environment_differences"], found["data_differences"]) == (["packages.jax"], ["test.0.sha256"])
    assert f"environment.json: differs\n  packages.jax: {jax.__version__} -> 0.1\n" in capsys.readouterr().err


def test_compare_needs_a_common_step(run, copied, make_cyclegan, capsys):
    other = make_cyclegan()
    write_records(other)
    Path(copied.workdir, "metrics.jsonl").unlink()
    shutil.rmtree(Path(copied.workdir, "checkpoints"))
    for pair in ((run, other), (run, copied), (copied, copied)):
        found = compare(*pair)
        assert not found["equal"] and found["first_difference"] is None and found["last_equal"] is None
        assert found["steps_compared"] == found["checkpoints_compared"] == 0
        assert capsys.readouterr().err.endswith("the runs have no step in common\n")
    assert "family" in compare(run, other)["config_differences"]
    assert "the states of a vae run and of a cyclegan run have nothing in common" in capsys.readouterr().err


def test_compare_names_damaged_files(run, copied, tmp_path):
    with pytest.raises(FileNotFoundError, match=f"{tmp_path} holds no run"):
        compare_runs.compare(run.workdir, str(tmp_path))
    saved = Path(copied.workdir, "checkpoints", "8")
    for damage in (lambda: (saved / "_CHECKPOINT_METADATA").write_text(""), lambda: shutil.rmtree(saved / "state")):
        damage()
        with pytest.raises(ValueError, match="copy/checkpoints/8 cannot be read"):
            compare(run, copied)
    Path(copied.workdir, "metrics.jsonl").write_text('{"step": 2\n')
    with pytest.raises(ValueError, match="metrics.jsonl is damaged"):
        compare(copied, run)
    Path(copied.workdir, "config.json").write_text(json.dumps({"genjax": config_file.FORMAT, "family": "gan"}))
    with pytest.raises(ValueError, match="holds a gan run, and genjax has the families vae, cyclegan"):
        compare(copied, run)


def test_compare_refuses_a_damaged_checkpoint(run, nudged, tmp_path):
    """Its arrays are another step's, which Orbax loads in silence."""
    saved = Path(shutil.copytree(nudged.workdir, tmp_path / "copy"), "checkpoints")
    shutil.copytree(saved / "12" / "state", saved / "8" / "state", dirs_exist_ok=True)
    with pytest.raises(ValueError, match="copy/checkpoints/8 is damaged: its SHA-256 is"):
        compare_runs.compare(run.workdir, str(tmp_path / "copy"))


def test_compare_changes_no_file(run, nudged):
    listing = lambda: {path: path.stat().st_mtime_ns for path in Path(run.workdir).rglob("*")}  # noqa: E731
    before = listing()
    compare(run, nudged)
    assert listing() == before


@pytest.mark.slow
def test_exit_code_tells_equal_different_and_error(run, nudged, tmp_path):
    """On one device, where the runs had eight."""
    others = {0: run.workdir, 3: nudged.workdir, 1: str(tmp_path)}
    commands = {str(code): ["compare_runs.py", run.workdir, other] for code, other in others.items()}
    ended = run_in_turn(commands, JAX_NUM_CPU_DEVICES="1")
    assert {name: done.returncode for name, done in ended.items()} == {"0": 0, "3": 3, "1": 1}
    assert [json.loads(ended[name].stdout)["equal"] for name in "03"] == [True, False]
    error = ended["1"]
    assert (error.stdout, error.stderr.count("\n")) == ("", 1) and error.stderr.startswith(f"error: {tmp_path}")
