"""Trackers beside the run's own files: TensorBoard, Weights & Biases, MLflow; each imported only when asked for."""

import contextlib
import importlib.util
import logging
import os
import secrets
import time
from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple, Protocol

import numpy as np
from etils import epath

from genjax import files
from genjax.data.image_arrays import shown
from genjax.files import Json

logger = logging.getLogger(__name__)

IDS = "trackers.json"
"""File of a run directory: the run's names on trackers, so that a resumed training goes on under the same."""


class Start(NamedTuple):
    """Description of a training that starts or resumes, for trackers."""

    workdir: epath.Path
    step: int  # after which rows are written; 0 for a fresh start
    hyperparameters: Json  # by name, without nesting


class Tracker(Protocol):
    """Receiver of a run's rows and pictures."""

    def scalars(self, step: int, metrics: Mapping[str, float]) -> None: ...
    def pictures(self, step: int, pictures: Mapping[str, np.ndarray]) -> None: ...  # uint8 [h, w, c] by name
    def close(self) -> None: ...


class TensorBoard:
    """Event files in WORKDIR/tensorboard, written without TensorFlow."""

    def __init__(self, start: Start):
        from tensorboardX import SummaryWriter, summary

        # Rows after the step of the checkpoint are written again: TensorBoard is to forget the earlier ones.
        self._writer = SummaryWriter(str(start.workdir / "tensorboard"), purge_step=start.step + 1)
        plain = {name: _plain(value) for name, value in start.hyperparameters.items()}
        for part in summary.hparams(plain, {}):
            self._writer.file_writer.add_summary(part)
        logger.info("to watch: tensorboard --logdir %s", start.workdir / "tensorboard")

    def scalars(self, step: int, metrics: Mapping[str, float]) -> None:
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)

    def pictures(self, step: int, pictures: Mapping[str, np.ndarray]) -> None:
        for name, picture in pictures.items():
            self._writer.add_image(name, shown(picture), step, dataformats="HWC")

    def close(self) -> None:
        self._writer.close()


class WeightsAndBiases:
    """A run of Weights & Biases; its variables WANDB_MODE=offline, WANDB_PROJECT and others apply."""

    def __init__(self, start: Start):
        import wandb

        self._wandb, known = wandb, _read_ids(start)
        identity = known.get("wandb") or secrets.token_hex(8)
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "genjax"),
            id=identity,
            resume="allow",
            name=start.workdir.name,
            dir=str(start.workdir),
            config=start.hyperparameters,
            settings=wandb.Settings(console="off"),  # which would copy the line of progress thousands of times
        )
        files.write_json(start.workdir / IDS, known | {"wandb": identity})

    def scalars(self, step: int, metrics: Mapping[str, float]) -> None:
        self._run.log(dict(metrics), step=step)

    def pictures(self, step: int, pictures: Mapping[str, np.ndarray]) -> None:
        self._run.log({name: self._wandb.Image(_as_shown(picture)) for name, picture in pictures.items()}, step=step)

    def close(self) -> None:
        self._run.finish()


class MLflow:
    """A run of MLflow, at MLFLOW_TRACKING_URI, or else in WORKDIR: mlflow.db, and pictures in mlflow."""

    def __init__(self, start: Start):
        from mlflow import MlflowClient
        from mlflow.entities import Metric, Param

        self._metric, known = Metric, _read_ids(start)
        server, own = os.environ.get("MLFLOW_TRACKING_URI"), f"sqlite:///{start.workdir / 'mlflow.db'}"
        self._client, self._id = MlflowClient(server or own), str(known.get("mlflow", ""))
        if not self._id:
            name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "genjax")
            experiment = self._client.get_experiment_by_name(name)
            pictures = None if server else (start.workdir / "mlflow").as_uri()
            found = experiment.experiment_id if experiment else self._client.create_experiment(name, pictures)
            self._id = self._client.create_run(found, run_name=start.workdir.name).info.run_id
            parameters = [Param(key, str(value)) for key, value in start.hyperparameters.items()]
            for first in range(0, len(parameters), 100):  # MLflow takes no more at a time
                self._client.log_batch(self._id, params=parameters[first : first + 100])
            files.write_json(start.workdir / IDS, known | {"mlflow": self._id})
        if not server:
            logger.info("to watch: mlflow ui --backend-store-uri %s", own)

    def scalars(self, step: int, metrics: Mapping[str, float]) -> None:
        now = time.time_ns() // 10**6  # milliseconds, as MLflow takes them
        self._client.log_batch(self._id, [self._metric(name, value, now, step) for name, value in metrics.items()])

    def pictures(self, step: int, pictures: Mapping[str, np.ndarray]) -> None:
        for name, picture in pictures.items():
            self._client.log_image(self._id, _as_shown(picture), key=name, step=step)

    def close(self) -> None:
        self._client.set_terminated(self._id)


TRACKERS: dict[str, tuple[str, Callable[[Start], Tracker]]] = {
    "tensorboard": ("tensorboardX", TensorBoard),
    "wandb": ("wandb", WeightsAndBiases),
    "mlflow": ("mlflow", MLflow),
}
"""Package and maker of each tracker, by its name in --train.track, which is that of the extra too."""


def check(names: Collection[str]) -> None:
    """Raises ValueError if the package of a tracker is missing."""
    for name in names:
        package, _ = TRACKERS[name]
        if importlib.util.find_spec(package) is None:
            raise ValueError(f"--train.track {name} needs {package}: pip install 'genjax-images[{name}]'")


def make(names: Collection[str], start: Start) -> list[Tracker]:
    """Starts the trackers of the given names; raises ValueError if one cannot start, as without a login."""
    started: list[Tracker] = []
    for name in names:
        _, make_tracker = TRACKERS[name]
        try:
            started.append(make_tracker(start))
        except Exception as error:  # nearly any, from the libraries and the network
            for tracker in started:
                with contextlib.suppress(Exception):
                    tracker.close()  # or its run would look as if it were under way
            raise ValueError(
                f"--train.track {name} cannot start ({error}): repair the cause, or leave it out of --train.track"
            ) from error
    return started


def _read_ids(start: Start) -> Json:
    path = start.workdir / IDS
    return files.read_json(path) if start.step and path.exists() else {}


def _plain(value: object) -> object:
    return value if isinstance(value, bool | int | float | str) else str(value)


def _as_shown(picture: np.ndarray) -> np.ndarray:
    """Returns what a picture [h, w, c] shows, as [h, w] if it is grey."""
    return shown(picture)[..., 0] if picture.shape[-1] < 3 else shown(picture)
