"""Which directories and images a run may begin or go on with, and what processes need alike."""

import errno
import fcntl
import json
import sys

import jax
import numpy as np
import pytest
from etils import epath

from claims import WRITTEN, claim, contents
from genjax import files, parallel, vae
from genjax.train import config_file, run_directory
from genjax.vae.config import VaeRun
from refused import refusal


def test_resolve_refuses_an_empty_path(make_run):
    assert "a path is empty" in refusal(ValueError, run_directory.check_workdir, make_run(""))


def test_check_workdir_refuses_directories_of_others(make_run, tmp_path):
    (tmp_path / "thesis" / "drafts").mkdir(parents=True)
    (tmp_path / "thesis" / "drafts" / "1.txt").write_text("precious")
    said = refusal(ValueError, claim, make_run(str(tmp_path / "thesis")))
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
    said = refusal(ValueError, claim, make_run(f"{tmp_path}/file{below}"))
    assert f" workdir {tmp_path}/file{below} (" in said and "choose another --workdir" in said
    assert contents(tmp_path) == {"file": b"precious"}


@pytest.mark.parametrize(
    "workdir",
    ["s3://bucket/run", "file:///tmp/run", "http://host/run", "s3:/bucket", "gs:/bucket/run", "gs:run", "gs://"],
)
def test_resolve_refuses_other_schemes(make_run, workdir):
    said = f"{workdir}: only local paths and gs://BUCKET/... are supported"
    assert refusal(ValueError, claim, make_run(workdir)) == said
    assert refusal(ValueError, config_file.load, workdir, VaeRun) == said


def test_resolve_names_the_package_for_buckets(make_run, monkeypatch):
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    said = refusal(ValueError, claim, make_run("gs://bucket/run"))
    assert said == "gs://bucket/run needs gcsfs: pip install 'genjax-images[gcs]'"


DATA = {"train": [{"shape": [9, 4, 4, 1], "sha256": "aa"}], "test": [{"shape": [2, 4, 4, 1], "sha256": "bb"}]}


def test_check_data_refuses_other_images(make_run):
    workdir = claim(make_run(), DATA)
    claim(make_run(), json.loads(json.dumps(DATA)))
    assert json.loads((workdir / "data.json").read_text()) == DATA
    one_more = DATA | {"train": [{"shape": [10, 4, 4, 1], "sha256": "aa"}]}
    said = refusal(ValueError, claim, make_run(), one_more)
    assert str(workdir) in said and "train [[9, 4, 4, 1]] -> [[10, 4, 4, 1]]" in said
    assert "test" not in said.split("(")[1]
    said = refusal(ValueError, claim, make_run(), DATA | {"test": [{"shape": [2, 4, 4, 1], "sha256": "cc"}]})
    assert "test [[2, 4, 4, 1]] -> [[2, 4, 4, 1]]; SHA-256 differs" in said
    assert json.loads((workdir / "data.json").read_text()) == DATA
    for text in ("", "[1]", '{"train": 3}', '{"train": [3]}'):
        (workdir / "data.json").write_text(text)
        assert f"{workdir}/data.json is damaged" in refusal(ValueError, claim, make_run(), DATA)


def test_check_data_compares_what_both_caches_record(make_run, caplog):
    workdir = claim(make_run(), DATA)
    on_demand = {
        name: [{"shape": a["shape"], "files_sha256": "dd"} for a in of_split] for name, of_split in DATA.items()
    }
    fewer = on_demand | {"test": [{"shape": [1, 4, 4, 1], "files_sha256": "dd"}]}
    assert "test [[2, 4, 4, 1]] -> [[1, 4, 4, 1]]" in refusal(ValueError, claim, make_run(), fewer)
    caplog.clear()
    claim(make_run(), on_demand)
    assert caplog.messages == [
        "with another --data.cache, only the numbers and sizes of the images are compared, not their SHA-256"
    ]
    assert json.loads((workdir / "data.json").read_text()) == on_demand
    other = on_demand | {"test": [{"shape": [2, 4, 4, 1], "files_sha256": "ee"}]}
    assert "SHA-256 differs" in refusal(ValueError, claim, make_run(), other)


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
        with run_directory.opened(vae.TASK, run, parallel.make_mesh()) as found:
            assert found.config.data.levels == (0.0, 4095.0)
            run_directory.write(found, unfinished=True)
        assert config_file.load(run.workdir, VaeRun).data.levels == (0.0, 4095.0)
    save(1000)
    with pytest.raises(ValueError, match=r"data.levels: \(0.0, 4095.0\) -> \(0.0, 1000.0\)"):
        with run_directory.opened(vae.TASK, run, parallel.make_mesh()):
            pass


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
        assert refusal(ValueError, run_directory.check_processes, run) == expected


def test_write_appends_each_command(make_run, monkeypatch):
    for argv in (["train.py", "digits", "--workdir", "my runs/a"], ["genjax train-vae", "again"]):
        monkeypatch.setattr("sys.argv", argv)
        workdir = claim(make_run())
    commands = (workdir / "commands.txt").read_text()
    assert commands == "python train.py digits --workdir 'my runs/a'\ngenjax train-vae again\n"
