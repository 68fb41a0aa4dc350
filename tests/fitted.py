"""Trainings of tiny VAEs that share compiled functions."""

import dataclasses
import functools
from pathlib import Path

import jax

from genjax import parallel, vae
from genjax.data.config import DataConfig
from genjax.train import loop


def fit(config):
    """Trains a tiny VAE."""
    return loop.fit(vae.TASK, config, lambda *_: programs_of(config))


def programs_of(config):
    """Compiled functions, which runs that are alike share, as the seeds of a study do."""
    several = config.train.steps_per_dispatch
    lengths = dict.fromkeys(("num_steps", "log_every", "eval_every", "checkpoint_every"), several)
    records = {"track": (), "profile": "", "show_parameters": False, "max_nonfinite_steps": 1}
    reading = {name: getattr(DataConfig, name) for name in ("cache", "cache_dir", "prefetch", "decode_threads")}
    begun = {field.name: field.default for field in dataclasses.fields(config) if field.name.startswith("init_")}
    alike = dataclasses.replace(
        config, workdir="", seed=0, **begun, train=dataclasses.replace(config.train, **lengths, **records),
        data=dataclasses.replace(config.data, source="digits", **reading),
    )  # fmt: skip
    return _programs_for(alike, cheaply=jax.config.read("jax_disable_most_optimizations"))


@functools.cache
def _programs_for(config, cheaply):
    return loop.compile_programs(vae.TASK, config, parallel.make_mesh())


def outcome(config):
    """What two equal runs have in common: the digest of the state, and the bytes of the metrics."""
    return fit(config).digest, Path(config.workdir, "metrics.jsonl").read_bytes()
