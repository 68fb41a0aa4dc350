"""config.json: what it says of a run, and which changes of it the run survives."""

import dataclasses
import json
import re

import pytest

from claims import WRITTEN, claim, contents
from genjax.train import config_file
from genjax.vae.config import VaeRun
from refused import refusal


def edit(path, change):
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))


def test_load_config_returns_what_was_written(make_run):
    run = make_run(
        seed=2**31 - 1,
        precision="bfloat16",
        optim={"learning_rate": 1 / 3, "eps": 1e-300},
        vae={"hidden_sizes": (7, 5, 3), "sigma": 0.1, "likelihood": "gaussian"},
        data={"binarize": "none", "dequantize": True, "image_size": (9, 7), "channels": (3,)},
    )
    workdir = claim(run)
    assert str(workdir) == run.workdir and set(contents(workdir)) == WRITTEN
    loaded = config_file.load(run.workdir, VaeRun)
    assert loaded == run
    assert type(loaded.vae.hidden_sizes) is tuple and type(loaded.data.image_size) is tuple


def test_load_config_follows_a_moved_run(make_run, tmp_path):
    run = make_run()
    claim(run).rename(tmp_path / "moved")
    assert config_file.load(tmp_path / "moved", VaeRun) == dataclasses.replace(run, workdir=str(tmp_path / "moved"))
    assert run.workdir not in (tmp_path / "moved" / "config.json").read_text()


def test_load_config_knows_the_family(make_run, make_cyclegan, tmp_path):
    for run in (make_run(), make_cyclegan(str(tmp_path / "other"))):
        assert config_file.load(claim(run)) == run
    path = claim(make_run()) / "config.json"
    edit(path, lambda record: record.update(family="gan"))
    assert refusal(ValueError, config_file.load, path.parent) == (
        f"{path.parent} holds a gan run, and genjax has the families vae, cyclegan, cut, unit"
    )


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda record: record.update(colour=1), "extra fields found (colour)"),
        (lambda record: record["data"].update(colour=1), "extra fields found (colour) @ $.data"),
        (lambda record: record.pop("vae"), "required field missing @ $.vae"),
        (lambda record: record["train"].update(num_steps="many"), "'many' @ $.train.num_steps"),
        (lambda record: record.update(precision="float8"), "float8 not in literal"),
        (lambda record: record["data"].update(batch_size=0), "$.data"),
        (lambda record: record.pop("family"), "family"),
    ],
)
def test_load_config_names_the_wrong_field(make_run, change, message):
    path = claim(make_run()) / "config.json"
    edit(path, change)
    said = refusal(ValueError, config_file.load, path.parent, VaeRun)
    assert said.startswith(f"{path} is not a configuration of this version of genjax: ") and message in said
    assert refusal(ValueError, claim, make_run()) == said


def test_load_config_names_the_version_needed(make_run):
    path = claim(make_run()) / "config.json"
    for change, version in ((lambda record: record.pop("genjax"), "0.1"), (lambda r: r.update(genjax="0.2"), "0.2")):
        edit(path, change)
        said = refusal(ValueError, config_file.load, path.parent)
        assert said.startswith(f"{path.parent} was made by genjax {version} and needs that version")
        assert refusal(ValueError, claim, make_run()) == said


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"null", b"3", b"\xff", b'{"family": []}'])
def test_load_config_refuses_other_json(make_run, text):
    path = claim(make_run()) / "config.json"
    path.write_bytes(text)
    assert re.match(
        f"{path} is (not a configuration|damaged)", refusal(ValueError, config_file.load, path.parent, VaeRun)
    )


def test_load_config_refuses_another_family(make_run):
    workdir = claim(make_run())
    edit(workdir / "config.json", lambda record: record.update(family="diffusion"))
    for function, argument in ((claim, [make_run()]), (config_file.load, [workdir, VaeRun])):
        assert (
            refusal(ValueError, function, *argument)
            == f"{workdir} holds a diffusion run, and genjax has the families vae, cyclegan, cut, unit"
        )


def test_load_config_names_a_directory_without_run(tmp_path):
    assert str(tmp_path / "config.json") in refusal(FileNotFoundError, config_file.load, tmp_path, VaeRun)


OTHER = {
    "seed": (0, 1),
    "precision": ("float32", "bfloat16"),
    "data.batch_size": (16, 8),
    "data.binarize": ("stochastic", "fixed"),
    "data.holdout": (0.1, 0.2),
    "data.skip_corrupt": (False, True),
    "optim.learning_rate": (0.002, 0.001),
    "optim.schedule": ("constant", "cosine"),
    "vae.hidden_sizes": ((16,), (16, 16)),
    "vae.beta_warmup": (0.0, 0.25),
    "vae.test_draws": (2, 16),
}


def changed(make_run, **fields):
    """The test's run with fields of dotted names set anew: `**{"data.batch_size": 8}`."""
    changes = {}
    for name, value in fields.items():
        part, _, field = name.rpartition(".")
        changes |= {part: changes.get(part, {}) | {field: value}} if part else {field: value}
    return make_run(**changes)


@pytest.mark.parametrize("name", OTHER)
def test_check_workdir_refuses_changed_numbers(make_run, name):
    workdir = claim(make_run())
    before, (old, new) = contents(workdir), OTHER[name]
    said = refusal(ValueError, claim, changed(make_run, **{name: new}))
    assert said.splitlines() == [
        f"{workdir} holds a run with another configuration:",
        f"  {name}: {old} -> {new}",
        "Resume it with its own, or choose another --workdir",
    ]
    assert contents(workdir) == before


def test_check_workdir_names_all_differing_fields(make_run):
    claim(make_run())
    fields = {name: new for name, (_, new) in OTHER.items()} | {"train.log_every": 77}
    said = refusal(ValueError, claim, changed(make_run, **fields))
    assert [line.strip() for line in said.splitlines()[1:-1]] == sorted(
        f"{n}: {o} -> {v}" for n, (o, v) in OTHER.items()
    )


MAY_CHANGE = {
    "data.cache_dir": "/elsewhere",
    "data.cache_gib": 0,
    "data.decode_threads": 3,
    "data.max_megapixels": 300,
    "data.prefetch": 9,
    "train.epochs": 2.5,
    "train.log_every": 7,
    "train.eval_every": 2,
    "train.checkpoint_every": 8,
    "train.num_sample_images": 3,
    "train.keep_period": 8,
    "train.max_nonfinite_steps": 3,
    "train.track": ("wandb", "mlflow"),
    "train.profile": "3:5",
    "train.show_parameters": True,
}


@pytest.mark.parametrize("name", MAY_CHANGE)
def test_check_workdir_allows_what_leaves_numbers_alone(make_run, name):
    claim(make_run())
    run = changed(make_run, **{name: MAY_CHANGE[name]})
    assert config_file.load(claim(run), VaeRun) == run != make_run()


def test_check_workdir_allows_another_cache(make_run):
    source = {"source": "folder:x"}
    claim(make_run(data=source))
    run = make_run(data=source | {"cache": "none"})
    assert config_file.load(claim(run), VaeRun) == run


def test_may_change_is_complete():
    files = {"classifier_a", "classifier_b", "keep_mask", "init_from"}  # whose SHA-256 may not
    assert config_file.MAY_CHANGE == MAY_CHANGE.keys() | files | {"workdir", "data.cache"}


@pytest.mark.parametrize(
    "schedule, steps, allowed",
    [("constant", 13, True), ("constant", 11, False), ("cosine", 13, False), ("cosine", 11, False)],
)
def test_check_workdir_lets_num_steps_rise_only(make_run, schedule, steps, allowed):
    workdir = claim(make_run(optim={"schedule": schedule}))
    run = make_run(optim={"schedule": schedule}, train={"num_steps": steps})
    if allowed:
        assert config_file.load(claim(run), VaeRun).train.num_steps == steps
    else:
        said = refusal(ValueError, claim, run)
        assert f"train.num_steps: 12 -> {steps}" in said and "num_steps may only rise" in said
        assert config_file.load(workdir, VaeRun).train.num_steps == 12


def test_check_workdir_fixes_num_steps_with_instance_noise(make_cyclegan, tmp_path):
    for noise, workdir in ((0.0, "without"), (0.1, "with")):
        runs = [
            make_cyclegan(str(tmp_path / workdir), cyclegan={"instance_noise": noise}, train={"num_steps": num})
            for num in (12, 16)
        ]
        claim(runs[0])
        if noise:
            assert "train.num_steps: 12 -> 16" in refusal(ValueError, claim, runs[1])
        else:
            claim(runs[1])
