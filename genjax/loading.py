"""Loading of a trained run as a `Sampler` or a `Translator`."""

import time
from typing import Literal

from etils import epath
from jax.sharding import Mesh

from genjax import cyclegan, files, keys, parallel, vae
from genjax.cyclegan.config import CycleGanRun
from genjax.cyclegan.nets import MakeNetworks, make_networks
from genjax.cyclegan.translator import Translator, is_there
from genjax.task import C, S, Task
from genjax.train import config_file
from genjax.vae.config import VaeRun
from genjax.vae.model import MakeModel, from_config
from genjax.vae.sampler import Sampler

__all__ = ["Sampler", "Translator", "Which", "is_there", "load_sampler", "load_translator", "restore"]

Which = Literal["last", "best"] | int  # the last checkpoint, the best one on validation, or that of a step


REMOVAL_SECONDS = 1  # in which a training removes a checkpoint


def load_sampler(
    workdir: epath.PathLike, which: Which = "last", mesh: Mesh | None = None, make_model: MakeModel = from_config,
    config_class: type[VaeRun] = VaeRun,
) -> Sampler:  # fmt: skip
    """Loads the averaged weights of the VAE trained in `workdir`, to sample on `mesh` (default: all devices).

    `make_model` and `config_class` are those of the task that trained it. Raises ValueError or FileNotFoundError if
    there is no VAE run, or no checkpoint that is whole. Nothing in `workdir` is changed.
    """
    config, mesh = config_file.load(workdir, config_class), mesh or parallel.make_mesh()
    step, state = restore(vae.make_task(make_model), config, mesh, which)
    return Sampler(config, make_model(config), state.ema, step, mesh)


def load_translator(
    workdir: epath.PathLike, which: Which = "last", mesh: Mesh | None = None,
    make_networks: MakeNetworks = make_networks, config_class: type[CycleGanRun] = CycleGanRun,
) -> Translator:  # fmt: skip
    """Loads the averaged generators of the CycleGAN trained in `workdir`, to translate on `mesh`.

    `make_networks` and `config_class` are those of the task that trained it; the rest is as for `load_sampler`.
    """
    config, mesh = config_file.load(workdir, config_class), mesh or parallel.make_mesh()
    step, state = restore(cyclegan.make_task(make_networks), config, mesh, which)
    return Translator(config, state.ema, step, mesh, make_networks)


def restore(task: Task[C, S], config: C, mesh: Mesh, which: Which) -> tuple[int, S]:
    """Returns the step and the state of a checkpoint of the run in `config.workdir`, for any family.

    Raises ValueError or FileNotFoundError as `load_sampler` does.
    """
    from genjax.train import checkpoint  # here: Orbax is slow to import and loads google.cloud

    directory = files.resolve(config.workdir) / "checkpoints"
    # Shapes and types alone; any key gives the same ones.
    abstract = parallel.abstract(mesh, lambda: task.init(config, keys.root_key(0)))
    kept = checkpoint.steps(directory)
    if not kept:
        raise FileNotFoundError(f"{directory} holds no checkpoint yet")
    chosen = None if which == "last" else checkpoint.chosen_step(directory, which)
    try:
        if chosen is None:
            restored = checkpoint.restore_latest(directory, abstract)
        else:
            restored = checkpoint.restore(directory, chosen, abstract)
    except ValueError:
        time.sleep(REMOVAL_SECONDS)
        if checkpoint.steps(directory) == kept:
            raise
        restored = None
    if restored is None:  # a training removed it, to keep a newer one
        return restore(task, config, mesh, which)
    return restored.step, restored.state
