"""Trackers, with their own packages where these are installed."""

import struct
from types import SimpleNamespace

import numpy as np
import pytest

from genjax import files
from genjax.train import trackers
from genjax.train.trackers import Start

HYPERPARAMETERS = {"vae.latent_dim": 4, "data.channels": (1,), "seeds.init": None}


def track(name, workdir, step):
    """Two steps after `step`, with a grid of grey after the second."""
    (tracker,) = trackers.make([name], Start(files.resolve(workdir), step, HYPERPARAMETERS))
    tracker.scalars(step + 1, {"loss": 0.5})
    tracker.scalars(step + 2, {"loss": 0.25, "validation/kid_samples": float("nan")})
    tracker.pictures(step + 2, {"samples": np.full((8, 9, 1), 7, np.uint8)})
    tracker.close()


@pytest.mark.parametrize("name", trackers.TRACKERS)
def test_check_names_what_to_install(name, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ValueError, match=rf"--train.track {name} needs \w+: pip install 'genjax-images\[{name}\]'"):
        trackers.check([name])


def test_make_names_what_cannot_start(tmp_path, monkeypatch):
    monkeypatch.setitem(trackers.TRACKERS, "wandb", ("wandb", lambda _: {}["login"]))
    with pytest.raises(ValueError, match="--train.track wandb cannot start .*login.*: repair the cause, or leave it"):
        trackers.make(["wandb"], Start(files.resolve(tmp_path), 0, {}))


def test_make_closes_those_that_started(tmp_path, monkeypatch):
    closed = []
    for name, close in (("mlflow", lambda: closed.append("mlflow")), ("tensorboard", lambda: 1 / 0)):
        monkeypatch.setitem(trackers.TRACKERS, name, (name, lambda _, close=close: SimpleNamespace(close=close)))
    monkeypatch.setitem(trackers.TRACKERS, "wandb", ("wandb", lambda _: {}["login"]))
    with pytest.raises(ValueError, match="--train.track wandb cannot start"):
        trackers.make(["tensorboard", "mlflow", "wandb"], Start(files.resolve(tmp_path), 0, {}))
    assert closed == ["mlflow"]


def events(directory):
    """The events in the files of a directory, in order."""
    from tensorboardX.proto.event_pb2 import Event

    for path in sorted(directory.iterdir(), key=lambda path: path.stat().st_mtime_ns):
        content = path.read_bytes()
        while content:  # a length of 8 bytes, its checksum of 4, the event, and its checksum
            (length,) = struct.unpack("<Q", content[:8])
            yield Event.FromString(content[12 : 12 + length])
            content = content[16 + length :]


def test_tensorboard_gets_numbers_pictures_and_hyperparameters(tmp_path):
    pytest.importorskip("tensorboardX")
    track("tensorboard", tmp_path, 0)
    found = [(event.step, value) for event in events(tmp_path / "tensorboard") for value in event.summary.value]
    scalars = [(step, value.tag, value.simple_value) for step, value in found if value.HasField("simple_value")]
    assert scalars[:2] == [(1, "loss", 0.5), (2, "loss", 0.25)] and scalars[2][1] == "validation/kid_samples"
    ((step, grid),) = [(step, value.image) for step, value in found if value.HasField("image")]
    assert (step, grid.height, grid.width) == (2, 8, 9)
    assert any(b"vae.latent_dim" in value.metadata.plugin_data.content for _, value in found)


def test_tensorboard_forgets_rows_after_the_checkpoint(tmp_path):
    pytest.importorskip("tensorboardX")
    track("tensorboard", tmp_path, 6)
    starts = [event.step for event in events(tmp_path / "tensorboard") if event.session_log.status == 1]
    assert starts == [7]  # TensorBoard drops earlier events from there on


@pytest.mark.slow
@pytest.mark.process
def test_wandb_goes_on_under_the_same_name(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    for step in (0, 2):
        track("wandb", tmp_path, step)
    identity = files.read_json(tmp_path / trackers.IDS)["wandb"]
    assert len(list(tmp_path.glob(f"wandb/offline-run-*/run-{identity}.wandb"))) == 2
    assert len(list(tmp_path.glob("wandb/offline-run-*/files/media/images/samples_*.png"))) == 2


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of MLflow's own queries
def test_mlflow_goes_on_under_the_same_name(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for step in (0, 2):
        track("mlflow", tmp_path, step)
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    identity = files.read_json(tmp_path / trackers.IDS)["mlflow"]
    history = client.get_metric_history(identity, "loss")
    assert [(row.step, row.value) for row in history] == [(1, 0.5), (2, 0.25), (3, 0.5), (4, 0.25)]
    assert client.get_run(identity).data.params == {name: str(value) for name, value in HYPERPARAMETERS.items()}
    assert len(list(tmp_path.glob("mlflow/*/artifacts/images/*.png"))) == 2
