"""Loading of a trained run, or of a file of its weights, as a `Sampler` or a `Translator`."""

import dataclasses
from typing import Literal

from etils import epath
from jax.sharding import Mesh

from genjax import files, keys, parallel, vae
from genjax.checks import require
from genjax.data.config import DataConfig
from genjax.families import PACKAGES, family_of
from genjax.gan.config import GanRun
from genjax.gan.networks import MakeNetworks
from genjax.gan.translator import Translator, is_there
from genjax.optim import Params
from genjax.task import C, S, Task
from genjax.train import config_file, weights_file
from genjax.vae.config import VaeRun
from genjax.vae.model import MakeModel, from_config
from genjax.vae.sampler import Sampler

__all__ = [
    "Sampler", "Translator", "Which", "is_there", "load", "load_sampler", "load_translator", "restore", "with_limit"
]  # fmt: skip

Which = Literal["last", "best"] | int  # the last checkpoint, the best one on validation, or that of a step


def load_sampler(
    workdir: epath.PathLike, which: Which = "last", mesh: Mesh | None = None, make_model: MakeModel = from_config,
    config_class: type[VaeRun] = VaeRun,
) -> Sampler:  # fmt: skip
    """Loads the averaged weights of the VAE trained in `workdir`, to sample on `mesh` (default: all devices).

    `workdir` may also be a file of weights (.safetensors) of the run. `make_model` and `config_class` are those of the
    task that trained it. Raises ValueError or FileNotFoundError if there is no VAE run, or no checkpoint that is whole.
    Nothing in `workdir` is changed or executed.
    """
    config, mesh = config_file.load(workdir, config_class), mesh or parallel.make_mesh()
    step, params = _averaged(vae.make_task(make_model), config, mesh, which)
    return Sampler(config, make_model(config), params, step, mesh)


def load_translator(
    workdir: epath.PathLike, which: Which = "last", mesh: Mesh | None = None,
    make_networks: MakeNetworks | None = None, config_class: type[GanRun] = GanRun,
) -> Translator:  # fmt: skip
    """Loads the averaged generators of the CycleGAN, CUT or UNIT trained in `workdir`, to translate on `mesh`.

    `make_networks` and `config_class` are those of the task that trained it, if it had its own; the rest is as for
    `load_sampler`.
    """
    config, mesh = config_file.load(workdir, config_class), mesh or parallel.make_mesh()
    package = PACKAGES[family_of(type(config))]
    networks = make_networks or package.nets.make_networks
    step, params = _averaged(package.make_task(networks), config, mesh, which)
    return Translator(config, params, step, mesh, networks, on_canvas=make_networks is None)


def load(workdir: epath.PathLike, which: Which = "last", mesh: Mesh | None = None) -> Sampler | Translator:
    """Loads what was trained in `workdir`, of any family; raises as `load_sampler` does."""
    if config_file.read(workdir)["family"] == vae.TASK.name:
        return load_sampler(workdir, which, mesh)
    return load_translator(workdir, which, mesh)


def with_limit(data: DataConfig, max_megapixels: int | None) -> DataConfig:
    """Returns a run's data with another limit for pictures that are read now; None keeps that of the training."""
    if max_megapixels is None:
        return data
    require(max_megapixels >= 1, f"--max-megapixels must be at least 1, got {max_megapixels}")
    return dataclasses.replace(data, max_megapixels=max_megapixels)


def restore(task: Task[C, S], config: C, mesh: Mesh, which: Which) -> tuple[int, S]:
    """Returns the step and the state of a checkpoint of the run in `config.workdir`, for any family.

    A file of weights gives the state before the first step with its averaged parameters. Raises ValueError or
    FileNotFoundError as `load_sampler` does.
    """
    from genjax.train import checkpoint  # here: Orbax is slow to import and loads google.cloud

    if weights_file.is_named(config.workdir):
        step, params = _averaged(task, config, mesh, which)
        return step, parallel.replicate(mesh, lambda: task.init(config, keys.root_key(0)))._replace(ema=params)
    directory = files.resolve(config.workdir) / "checkpoints"
    # Shapes and types alone; any key gives the same ones.
    abstract = parallel.abstract(mesh, lambda: task.init(config, keys.root_key(0)))
    restored = checkpoint.restore_chosen(directory, which, abstract)
    return restored.step, restored.state


def _averaged(task: Task[C, S], config: C, mesh: Mesh, which: Which) -> tuple[int, Params]:
    """Returns the step and the averaged parameters of a run or a file of weights, on every device."""
    if not weights_file.is_named(config.workdir):
        step, state = restore(task, config, mesh, which)
        return step, state.ema
    weights = weights_file.read(config.workdir)
    if which not in ("last", weights.step):
        raise ValueError(
            f"{config.workdir} holds the weights of step {weights.step} alone, not {which!r}: leave out --which, or "
            "export that checkpoint of the run with export.py --which"
        )
    expected = parallel.abstract(mesh, lambda: task.init(config, keys.root_key(0)).ema)
    return weights.step, parallel.replicate_arrays(mesh, weights_file.params(weights, expected, config.workdir))
