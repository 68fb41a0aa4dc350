"""Run directories as they are before the first step of a training."""

from pathlib import Path

from genjax.train import run_directory

WRITTEN = {"config.json", "data.json", "environment.json", "commands.txt"}
"""Files of a run that has begun."""


def claim(run, data=None):
    """What a training does before its first step, but for the images."""
    workdir = run_directory.check_workdir(run)
    data = {} if data is None else data
    run_directory.check_data(workdir, data)
    run_directory.write(run_directory.Run(run, workdir, None, data, {}), unfinished=True)
    return workdir


def contents(directory):
    """The bytes of each file below a directory, by its path in it."""
    return {
        str(path.relative_to(directory)): path.read_bytes() for path in Path(directory).rglob("*") if path.is_file()
    }
