"""Configurations that are accepted, to be built with changes."""

from genjax.config import OptimConfig, TrainConfig
from genjax.cyclegan.config import CycleGanConfig, CycleGanRun, LossConfig
from genjax.data.config import DataConfig
from genjax.vae.config import VaeConfig, VaeRun
from genjax.vae.inference import InferenceConfig

GOOD = {
    DataConfig: {"source": "digits", "image_size": (8, 8), "channels": (1,), "batch_size": 4},
    OptimConfig: {"learning_rate": 1e-3},
    TrainConfig: {"num_steps": 100},
    VaeConfig: {},
    InferenceConfig: {},
    CycleGanConfig: {},
    LossConfig: {"adversarial_a2b": 1.0, "adversarial_b2a": 1.0, "cycle_a": 10.0, "cycle_b": 10.0},
}
TWO_DOMAINS = {"source": "icons", "image_size": (32, 32), "channels": (1, 1)}


def build(kind, **changes):
    """One part of a configuration."""
    return kind(**GOOD[kind] | changes)


def run(*, seed=0, **parts):
    """A run of a VAE, with changes of its parts: `run(vae={"beta": 2.0})`."""
    names = {DataConfig: "data", OptimConfig: "optim", TrainConfig: "train", VaeConfig: "vae"}
    return VaeRun(
        workdir="unused", seed=seed, **{name: build(kind, **parts.get(name, {})) for kind, name in names.items()}
    )


def cyclegan_run(*, seed=0, **parts):
    """A run of a CycleGAN, with changes as for `run`."""
    parts["data"] = TWO_DOMAINS | parts.get("data", {})
    names = {DataConfig: "data", OptimConfig: "optim", TrainConfig: "train"}
    names |= {CycleGanConfig: "cyclegan", LossConfig: "loss"}
    built = {name: build(kind, **parts.get(name, {})) for kind, name in names.items()}
    names = ("classifier_a", "classifier_b", "classifier_b_sha256", "keep_mask", "keep_mask_sha256")
    files = {name: parts.get(name, "") for name in names}
    return CycleGanRun(workdir="unused", seed=seed, **files, **built)


def linear(decay=0.5, **options):
    """Changes of an `OptimConfig` for a learning rate that falls linearly."""
    return {"schedule": "linear", "decay": decay, **options}


def accepted(config, changes):
    """Asserts that the configuration holds the changes."""
    for part, fields in changes.items():
        for name, value in fields.items() if isinstance(fields, dict) else ():
            assert getattr(getattr(config, part), name) == value
