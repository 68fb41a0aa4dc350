"""Runs in a bucket, against a stand-in for Google Cloud Storage: what is promised of a directory holds there too."""

import json
import os
import signal
import subprocess
import sys
import threading
from importlib.util import find_spec
from pathlib import Path

import fsspec
import pytest

import gcs
import sample
from fitted import fit
from genjax import files, report
from genjax.train import checkpoint, run_directory
from tiny import tiny_run

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(find_spec("gcsfs") is None, reason="needs the extra gcs"),  # not imported here: it reads flags
    pytest.mark.skipif(find_spec("tensorflow") is not None, reason="epath prefers its client, which knows no stand-in"),
    pytest.mark.usefixtures("failing_loads"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),  # see failing_loads
]


@pytest.fixture(scope="module")
def server():
    """The stand-in, which every client in this process and its children takes for the real one."""
    with gcs.Server() as server, pytest.MonkeyPatch.context() as patch:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        patch.setenv("STORAGE_EMULATOR_HOST", server.url)  # of gcsfs and google-cloud-storage
        patch.setenv("TENSORSTORE_GCS_HTTP_URL", server.url)
        patch.setenv("GOOGLE_AUTH_TOKEN_FOR_TESTING", "anyone")  # of TensorStore
        patch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")  # which asks over gRPC for the kind of bucket
        patch.setenv("FSSPEC_GCS_TOKEN", "anon")  # of gcsfs in children, and here, where it may have been read already:
        patch.setitem(fsspec.config.conf, "gcs", {"token": "anon"})
        yield server
        server.shutdown()


@pytest.fixture
def bucket(server):
    """The stand-in, as it was for the next test."""
    yield server
    server.allowed, server.before_put = True, lambda name: None


@pytest.fixture(scope="module")
def in_bucket(server):
    """The same run as `trained`, in a bucket, in two sessions."""
    fit(tiny_run("gs://bucket/run", train={"num_steps": 8}))
    run = tiny_run("gs://bucket/run")
    return run, fit(run)


def below(objects, folder):
    return {name.removeprefix(folder): content for name, content in objects.items() if name.startswith(folder)}


def outcome(bucket, folder):
    return json.loads(bucket.objects[f"{folder}/result.json"]), bucket.objects[f"{folder}/metrics.jsonl"]


@pytest.fixture(scope="module")
def whole(trained):
    """The outcome of the run on a disk."""
    return files.read_json(f"{trained.workdir}/result.json"), Path(trained.workdir, "metrics.jsonl").read_bytes()


def test_fit_writes_the_same_in_a_bucket(trained, bucket, in_bucket, whole):
    config, result = in_bucket
    assert result.resumed_from == 8 and checkpoint.steps(f"{config.workdir}/checkpoints") == [8, 12]
    assert outcome(bucket, "run") == whole
    written = {name for name in below(bucket.objects, "run/") if not name.startswith("checkpoints/")}
    local = [path for path in Path(trained.workdir).rglob("*") if path.is_file()]
    names = {str(path.relative_to(trained.workdir)) for path in local}
    assert written | {".lock"} == {name for name in names if not name.startswith("checkpoints/")} | {"result-8.json"}
    assert not Path("gs:").exists()


def test_it_is_sampled_from_and_reported_on_there(trained, bucket, in_bucket, tmp_path):
    here = sample.prior(trained.workdir, tmp_path / "out.png", num=3, which="best")
    there = sample.prior(in_bucket[0].workdir, "gs://bucket/out.png", num=3, which="best")
    assert there["digest"] == here["digest"] and bucket.objects["out.png"] == (tmp_path / "out.png").read_bytes()
    report.write_report("gs://bucket/report.html", "A run", {"run": in_bucket[0].workdir})
    page = bucket.objects["report.html"].decode()
    assert "new images from the prior, step 12" in page and "On the test images" in page


def test_fit_resumes_after_a_kill_in_a_bucket(bucket, whole, tmp_path, caplog):
    """Killed just before Orbax writes its last file, when the checkpoint's folder has its final name."""
    script = (
        "import jax; from tiny import tiny_run; from genjax import vae; from genjax.train.loop import fit; "
        f"jax.config.update('jax_compilation_cache_dir', {os.environ['JAX_COMPILATION_CACHE_DIR']!r}); "
        "fit(vae.TASK, tiny_run('gs://bucket/killed'))"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", script], cwd=Path(__file__).parents[1], env={**os.environ, "TMPDIR": str(tmp_path)},
        stderr=subprocess.DEVNULL,
    )  # fmt: skip

    def kill(name):
        if name == "killed/checkpoints/8/commit_success.txt":
            bucket.before_put = lambda name: None
            child.kill()
            raise ConnectionAbortedError

    bucket.before_put = kill
    assert child.wait(300) == -signal.SIGKILL
    assert "killed/checkpoints/8/_CHECKPOINT_METADATA" in bucket.objects
    assert checkpoint.steps("gs://bucket/killed/checkpoints") == [4]

    assert fit(tiny_run("gs://bucket/killed")).resumed_from == 4
    assert outcome(bucket, "killed") == whole
    assert checkpoint.steps("gs://bucket/killed/checkpoints") == [8, 12]
    assert "cannot be read" not in caplog.text and not below(bucket.objects, "killed/damaged")


def test_restore_latest_passes_over_damage_and_keeps_it(bucket, in_bucket, whole, caplog):
    for name, content in below(bucket.objects, "run/").items():
        bucket.put(f"copy/{name}", content)
    saved = below(bucket.objects, "copy/checkpoints/12/")
    damaged = {name: bytes(len(content)) if "/d/" in name else content for name, content in saved.items()}
    for name, content in damaged.items():
        bucket.put(f"copy/checkpoints/12/{name}", content)
    assert fit(tiny_run("gs://bucket/copy")).resumed_from == 8
    assert outcome(bucket, "copy") == whole
    assert below(bucket.objects, "copy/damaged-12/") == damaged
    assert "moved the damaged checkpoint of step 12 to gs://bucket/copy/damaged-12" in caplog.text


def test_write_atomically_uploads_once(bucket):
    for name in ("plain.txt", "a [1]?*.txt"):
        for content in ("long before", "short"):
            files.write_atomically(f"gs://bucket/deep/down/{name}", content)
            assert bucket.objects[f"deep/down/{name}"] == content.encode()
    assert len(below(bucket.objects, "deep/")) == 2


def test_what_cannot_be_is_said_before_any_work(bucket, in_bucket):
    with pytest.raises(ValueError, match=r"train.num_steps: 12 -> 8"):
        run_directory.check_workdir(tiny_run("gs://bucket/run", train={"num_steps": 8}))
    bucket.put("thesis/1.txt", b"precious")
    with pytest.raises(ValueError, match="gs://bucket/thesis is not empty and holds no run"):
        run_directory.check_workdir(tiny_run("gs://bucket/thesis"))
    bucket.allowed = False
    with pytest.raises(ValueError, match=r"cannot use workdir gs://bucket/other \(Anonymous caller has no access"):
        run_directory.check_workdir(tiny_run("gs://bucket/other"))
