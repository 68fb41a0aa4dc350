"""Writes an HTML page about one run, or about several side by side; it opens from the disk.

$ python experiments/report.py runs/vae
$ python experiments/report.py runs/a runs/b runs/c --out compared.html
"""

import dataclasses
from typing import Any

import tyro

from genjax import cli, files, flag_help, report
from genjax.train import config_file, weights_file


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
    """Options: the runs, and the page."""

    workdirs: tyro.conf.Positional[tuple[str, ...]]
    """Directories of runs, finished or not."""
    out: str = ""
    """Page to write; by default report.html in the directory of a single run."""


def main() -> dict[str, Any]:
    """Writes the page."""
    options = tyro.cli(Report, description=flag_help.description(__doc__))
    cli.check_different(workdirs=options.workdirs)
    several = len(options.workdirs) > 1
    if several and not options.out:
        raise ValueError(f"a page about {len(options.workdirs)} runs needs a file: give --out FILE.html")
    for workdir in options.workdirs:
        weights_file.check_directory(workdir, "a report")
        config_file.read(workdir)
    path = files.resolve(options.out) if options.out else files.resolve(options.workdirs[0]) / "report.html"
    if options.out and path.suffix != ".html":
        raise ValueError(f"--out {options.out} must end in .html, as what is written is a page")
    if options.out and path.exists():
        raise ValueError(f"{path} exists already: give another --out")
    if several:
        report.write_report(path, f"{len(options.workdirs)} runs", {workdir: workdir for workdir in options.workdirs})
    else:
        report.write_run(options.workdirs[0], path)
    return {"out": str(path), "runs": len(options.workdirs)}


if __name__ == "__main__":
    cli.run(main)
