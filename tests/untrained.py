"""Run directories of states that no training made."""

from genjax import files
from genjax.train import checkpoint, run_directory


def write_records(config):
    """Writes the records of a run that has not trained yet, and returns its directory."""
    workdir = files.resolve(config.workdir)
    run_directory.write(run_directory.Run(config, workdir, None, {}, {}), unfinished=True)
    return workdir


def write_checkpoint(config, state, step):
    """Writes a run whose one checkpoint is `state`."""
    with checkpoint.Saver(write_records(config) / "checkpoints", config.train) as checkpoints:
        checkpoints.save(step, state, {}, None)
