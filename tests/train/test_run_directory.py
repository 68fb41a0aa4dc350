"""What a run directory says about itself, and which runs may go on in it."""

import dataclasses
import errno
import fcntl
import json
import os
import platform
import re
import stat
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from etils import epath

from genjax import files, parallel
from genjax.train import config_file, environment, run_directory
from genjax.vae.config import VaeRun

WRITTEN = {"config.json", "data.json", "environment.json", "commands.txt"}
"""Files of a run that has begun."""


def refusal(function, *args, error=ValueError):
    with pytest.raises(error) as caught:
        function(*args)
    return str(caught.value)


def claim(run, data=None):
    """What a training does before its first step, but for the images."""
    workdir = run_directory.check_workdir(run)
    data = {} if data is None else data
    run_directory.check_data(workdir, data)
    run_directory.write(run_directory.Run(run, workdir, None, data, {}), unfinished=True)
    return workdir


def contents(directory):
    return {
        str(path.relative_to(directory)): path.read_bytes() for path in Path(directory).rglob("*") if path.is_file()
    }


def edit(path, change):
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))


# config.json


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
    assert refusal(config_file.load, path.parent) == (
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
    said = refusal(config_file.load, path.parent, VaeRun)
    assert said.startswith(f"{path} is not a configuration of this version of genjax: ") and message in said
    assert refusal(claim, make_run()) == said


def test_load_config_names_the_version_needed(make_run):
    path = claim(make_run()) / "config.json"
    for change, version in ((lambda record: record.pop("genjax"), "0.1"), (lambda r: r.update(genjax="0.2"), "0.2")):
        edit(path, change)
        said = refusal(config_file.load, path.parent)
        assert said.startswith(f"{path.parent} was made by genjax {version} and needs that version")
        assert refusal(claim, make_run()) == said


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"null", b"3", b"\xff", b'{"family": []}'])
def test_load_config_refuses_other_json(make_run, text):
    path = claim(make_run()) / "config.json"
    path.write_bytes(text)
    assert re.match(f"{path} is (not a configuration|damaged)", refusal(config_file.load, path.parent, VaeRun))


def test_load_config_refuses_another_family(make_run):
    workdir = claim(make_run())
    edit(workdir / "config.json", lambda record: record.update(family="diffusion"))
    for function, argument in ((claim, [make_run()]), (config_file.load, [workdir, VaeRun])):
        assert (
            refusal(function, *argument)
            == f"{workdir} holds a diffusion run, and genjax has the families vae, cyclegan, cut, unit"
        )


def test_load_config_names_a_directory_without_run(tmp_path):
    assert str(tmp_path / "config.json") in refusal(config_file.load, tmp_path, VaeRun, error=FileNotFoundError)


# Resuming


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
    said = refusal(claim, changed(make_run, **{name: new}))
    assert said.splitlines() == [
        f"{workdir} holds a run with another configuration:",
        f"  {name}: {old} -> {new}",
        "Resume it with its own, or choose another --workdir",
    ]
    assert contents(workdir) == before


def test_check_workdir_names_all_differing_fields(make_run):
    claim(make_run())
    fields = {name: new for name, (_, new) in OTHER.items()} | {"train.log_every": 77}
    said = refusal(claim, changed(make_run, **fields))
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
        said = refusal(claim, run)
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
            assert "train.num_steps: 12 -> 16" in refusal(claim, runs[1])
        else:
            claim(runs[1])


# Paths and files


def test_resolve_refuses_an_empty_path(make_run):
    assert "a path is empty" in refusal(run_directory.check_workdir, make_run(""))


def test_write_atomically_spares_similar_names(tmp_path):
    (tmp_path / "x.png.partial").write_text("precious")
    long = "y" * 250 + ".json"
    for name in ("x.png", long):
        files.write_atomically(tmp_path / name, b"new")
    assert contents(tmp_path) == {"x.png.partial": b"precious", "x.png": b"new", long: b"new"}


def test_write_atomically_syncs_before_it_renames(tmp_path, monkeypatch):
    """So that a power cut leaves the old content or the new; then it syncs the directory, which holds the name."""
    path, sync, seen = tmp_path / "x.json", os.fsync, []

    def remember(file):
        seen.append((stat.S_ISDIR(os.fstat(file).st_mode), os.fstat(file).st_size, path.read_bytes()))
        sync(file)

    monkeypatch.setattr(os, "fsync", remember)
    path.write_bytes(b"old")
    files.write_atomically(path, b"newer")
    assert [(folder, content) for folder, _, content in seen] == [(False, b"old"), (True, b"newer")]
    assert seen[0][1] == len(b"newer")


# Directories that cannot be claimed


def test_check_workdir_refuses_directories_of_others(make_run, tmp_path):
    (tmp_path / "thesis" / "drafts").mkdir(parents=True)
    (tmp_path / "thesis" / "drafts" / "1.txt").write_text("precious")
    said = refusal(claim, make_run(str(tmp_path / "thesis")))
    assert said == f"{tmp_path / 'thesis'} is not empty and holds no run (no config.json): choose another --workdir"
    assert contents(tmp_path / "thesis") == {"drafts/1.txt": b"precious"}


def test_exclusive_lock_lets_in_without_locks(tmp_path, monkeypatch, caplog):
    """As some network file systems are; and a lock that another holds keeps out."""
    with run_directory.exclusive_lock(files.resolve(tmp_path)):
        with pytest.raises(ValueError, match="another training is under way"):
            with run_directory.exclusive_lock(files.resolve(tmp_path)):
                pass

    def flock(*args):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    with run_directory.exclusive_lock(files.resolve(tmp_path / "nfs")):
        assert "on a file system without locks" in caplog.text


def test_check_workdir_takes_empty_and_half_begun(make_run, tmp_path):
    for name, left in (("empty", []), ("killed", [files.partial(tmp_path / "config.json").name])):
        (tmp_path / name).mkdir()
        for file in left:
            (tmp_path / name / file).write_text('{"family":')
        workdir = claim(make_run(str(tmp_path / name)))
        assert set(contents(workdir)) == WRITTEN


@pytest.mark.parametrize("below", ["", "/run", "/deep/run"])
def test_check_workdir_refuses_files(make_run, tmp_path, below):
    (tmp_path / "file").write_text("precious")
    said = refusal(claim, make_run(f"{tmp_path}/file{below}"))
    assert f" workdir {tmp_path}/file{below} (" in said and "choose another --workdir" in said
    assert contents(tmp_path) == {"file": b"precious"}


@pytest.mark.parametrize(
    "workdir",
    ["s3://bucket/run", "file:///tmp/run", "http://host/run", "s3:/bucket", "gs:/bucket/run", "gs:run", "gs://"],
)
def test_resolve_refuses_other_schemes(make_run, workdir):
    said = f"{workdir}: only local paths and gs://BUCKET/... are supported"
    assert refusal(claim, make_run(workdir)) == said
    assert refusal(config_file.load, workdir, VaeRun) == said


def test_resolve_refuses_unknown_users():
    with pytest.raises(ValueError, match="~nouser/x: there is no user of that name"):
        files.resolve("~nouser/x")


def test_resolve_names_the_package_for_buckets(make_run, monkeypatch):
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    said = refusal(claim, make_run("gs://bucket/run"))
    assert said == "gs://bucket/run needs gcsfs: pip install 'genjax-images[gcs]'"


# data.json and environments

DATA = {"train": [{"shape": [9, 4, 4, 1], "sha256": "aa"}], "test": [{"shape": [2, 4, 4, 1], "sha256": "bb"}]}


def test_check_data_refuses_other_images(make_run):
    workdir = claim(make_run(), DATA)
    claim(make_run(), json.loads(json.dumps(DATA)))
    assert json.loads((workdir / "data.json").read_text()) == DATA
    one_more = DATA | {"train": [{"shape": [10, 4, 4, 1], "sha256": "aa"}]}
    said = refusal(claim, make_run(), one_more)
    assert str(workdir) in said and "train [[9, 4, 4, 1]] -> [[10, 4, 4, 1]]" in said
    assert "test" not in said.split("(")[1]
    said = refusal(claim, make_run(), DATA | {"test": [{"shape": [2, 4, 4, 1], "sha256": "cc"}]})
    assert "test [[2, 4, 4, 1]] -> [[2, 4, 4, 1]]; SHA-256 differs" in said
    assert json.loads((workdir / "data.json").read_text()) == DATA
    for text in ("", "[1]", '{"train": 3}', '{"train": [3]}'):
        (workdir / "data.json").write_text(text)
        assert f"{workdir}/data.json is damaged" in refusal(claim, make_run(), DATA)


def test_check_data_compares_what_both_caches_record(make_run, caplog):
    workdir = claim(make_run(), DATA)
    on_demand = {
        name: [{"shape": a["shape"], "files_sha256": "dd"} for a in of_split] for name, of_split in DATA.items()
    }
    fewer = on_demand | {"test": [{"shape": [1, 4, 4, 1], "files_sha256": "dd"}]}
    assert "test [[2, 4, 4, 1]] -> [[1, 4, 4, 1]]" in refusal(claim, make_run(), fewer)
    caplog.clear()
    claim(make_run(), on_demand)
    assert caplog.messages == [
        "with another --data.cache, only numbers and sizes of the images are compared with before"
    ]
    assert json.loads((workdir / "data.json").read_text()) == on_demand
    other = on_demand | {"test": [{"shape": [2, 4, 4, 1], "files_sha256": "ee"}]}
    assert "SHA-256 differs" in refusal(claim, make_run(), other)


def test_check_data_lets_other_files_change(make_run):
    workdir = claim(make_run(), DATA | {"left_out": {".txt": 1}})
    claim(make_run(), DATA | {"left_out": {".txt": 2}})
    assert json.loads((workdir / "data.json").read_text())["left_out"] == {".txt": 2}


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_opened_records_measured_levels(make_run, tmp_path):
    def save(high):
        images = np.arange(100 * 64).reshape(100, 8, 8).astype(np.uint16) % (high + 1)
        np.savez(tmp_path / "images.npz", x_train=images)

    run = make_run(data={"source": f"npz:{tmp_path}/images.npz", "levels": "auto"})
    save(4095)
    for _ in range(2):  # and resumes
        with run_directory.opened(run, parallel.make_mesh()) as found:
            assert found.config.data.levels == (0.0, 4095.0)
            run_directory.write(found, unfinished=True)
        assert config_file.load(run.workdir, VaeRun).data.levels == (0.0, 4095.0)
    save(1000)
    with pytest.raises(ValueError, match=r"data.levels: \(0.0, 4095.0\) -> \(0.0, 1000.0\)"):
        with run_directory.opened(run, parallel.make_mesh()):
            pass


def test_differences_lists_each_changed_new_and_lost_field():
    old = {"python": "3.11", "packages": {"jax": "0.10.2", "flax": "0.12.8"}, "devices": 8, "git": "abc"}
    new = {"python": "3.11", "packages": {"jax": "0.12.0", "flax": "0.12.8"}, "devices": 1, "xla_flags": "--x"}
    assert files.differences(old, new) == [
        "devices: 8 -> 1",
        "git: abc -> None",
        "packages.jax: 0.10.2 -> 0.12.0",
        "xla_flags: None -> --x",
    ]
    assert files.differences(old, dict(old)) == []


X86 = """processor\t: 0
vendor_id\t: GenuineIntel
cpu family\t: 6
model\t\t: 85
model name\t: Intel(R) Xeon(R) Processor @ 2.00GHz
stepping\t: 7
cpu MHz\t\t: 2000.000
flags\t\t: fpu vme sse sse2 ht ssse3 fma sse4_2 avx f16c smep avx2 avx512f md_clear
power management:

processor\t: 1
model name\t: another
"""

ARM = """processor\t: 0
BogoMIPS\t: 243.75
Features\t: fp asimd evtstrm aes asimdhp sve bf16
CPU implementer\t: 0x41
CPU architecture: 8
CPU part\t: 0xd40
"""


@pytest.mark.parametrize(
    ("text", "model", "features"),
    [
        (X86, "Intel(R) Xeon(R) Processor @ 2.00GHz, 6, 85", "avx avx2 avx512f f16c fma sse sse2 sse4_2 ssse3"),
        (ARM, "0x41, 0xd40", "asimd asimdhp bf16 sve"),
        (None, platform.processor(), ""),
    ],
    ids=["x86", "ARM", "no Linux"],
)
def test_environment_names_the_processor(make_run, monkeypatch, tmp_path, text, model, features):
    if text is not None:
        (tmp_path / "cpuinfo").write_text(text)
    monkeypatch.setattr(environment, "CPUINFO", tmp_path / "cpuinfo")
    assert environment.describe(make_run())["processor"] == {"model": model, "features": features}


@pytest.mark.parametrize(("name", "version"), [("nvidia_cudnn_cu13", "9.1"), ("jax-cuda13-plugin", "0.10.2")])
def test_environment_names_packages_and_driver_of_gpus(make_run, monkeypatch, tmp_path, name, version):
    (tmp_path / "version").write_text("580.159\n")
    monkeypatch.setattr(environment, "DRIVER", tmp_path / "version")
    monkeypatch.setattr(environment, "distributions", lambda: [SimpleNamespace(name=name, version=version)])
    on_cpu = environment.describe(make_run())
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert files.differences(on_cpu, environment.describe(make_run())) == [
        "driver:  -> 580.159",
        f"packages.{name.replace('_', '-')}: None -> {version}",
    ]


def test_environment_reads_files_of_flags(make_run, monkeypatch, tmp_path):
    (tmp_path / "flags").write_text("--xla_cpu_max_isa=AVX2\n")
    monkeypatch.setenv("XLA_FLAGS", str(tmp_path / "flags"))
    monkeypatch.chdir(tmp_path)
    Path("cpu").write_bytes(b"\xff")  # named as the value of JAX_PLATFORMS is
    flags = environment.describe(make_run())["flags"]
    assert (flags["XLA_FLAGS"], flags["JAX_PLATFORMS"]) == ("--xla_cpu_max_isa=AVX2", "cpu")


def test_environment_counts_threads(make_run, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 2, 5}, raising=False)
    assert environment.describe(make_run())["threads"] == 3


ENVIRONMENT = {"threads": 8, "git": "abc"}


@pytest.mark.parametrize(
    ("backend", "first", "said"),
    [
        ("cpu", {"config": {"seed": 1}}, "config.seed: 1 -> 0"),
        ("cpu", {"description": {"train": 1}}, "images.train: 1 -> 2"),
        ("cpu", {"environment": ENVIRONMENT | {"threads": 1}}, "environment.threads: 1 -> 8"),
        ("tpu", {"environment": ENVIRONMENT | {"git": "def"}}, "environment.git: def -> abc"),
        ("tpu", {"environment": ENVIRONMENT | {"threads": 1}}, None),
    ],
)
def test_check_processes_compares_each_part(make_run, monkeypatch, backend, first, said):
    """The number of threads changes no bits where TPUs compute."""
    run = run_directory.Run(make_run(), epath.Path("unused"), None, {"train": 2}, ENVIRONMENT)
    sent = []
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    monkeypatch.setattr(parallel, "broadcast", lambda record: sent.append(record) or sent[0])
    run_directory.check_processes(run._replace(**first | {"config": make_run(**first.get("config", {}))}))
    if said is None:
        run_directory.check_processes(run)
    else:
        expected = f"process 0 differs from process 0, and a run needs them alike:\n  {said}"
        assert refusal(run_directory.check_processes, run) == expected


def test_environment_names_what_bits_depend_on(make_run, monkeypatch):
    before = environment.describe(make_run())
    assert json.loads(json.dumps(before)) == before
    assert before["devices"] == 8 and before["packages"]["jax"] == jax.__version__
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=true")
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "another:1234")  # names a machine, and changes no bits
    after = environment.describe(make_run(precision="bfloat16"))
    lines = [line.split(":")[0] for line in files.differences(before, after)]
    assert lines == ["flags.XLA_FLAGS", "precision"]


def test_write_appends_each_command(make_run, monkeypatch):
    for argv in (["train.py", "digits", "--workdir", "my runs/a"], ["genjax train-vae", "again"]):
        monkeypatch.setattr("sys.argv", argv)
        workdir = claim(make_run())
    commands = (workdir / "commands.txt").read_text()
    assert commands == "python train.py digits --workdir 'my runs/a'\ngenjax train-vae again\n"
