"""Damages files at random and hands them to genjax by every way in: pictures, arrays, records, checkpoints.

$ python experiments/study.py fuzz --workdir runs/fuzz --number 10000

Each trial has to end well, or in one error that names the file, within 20 seconds and 2 GB, and with nothing else
changed. Any other outcome is a fault, and WORKDIR/faults/ keeps its file. Outcomes are in WORKDIR/trials.jsonl; trial i
depends only on the seed and i. Repeat the command to go on; it tries faults again first, as a machine that is busy with
other work may not answer in time.
"""

import contextlib
import dataclasses
import hashlib
import io
import json
import multiprocessing
import shutil
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from genjax import cli, files, flag_help
from studies import markdown
from studies.fuzz import mutations, ways_in

SECONDS, MEGABYTES = 20, 2000
"""Limits of one trial; the memory is that of the whole process, its start included."""

ENDS = ("well", "error")
"""Outcomes that are no faults."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fuzz:
    """Options: how many trials, and which."""

    workdir: str
    """Directory for the prepared files, trials.jsonl and faults."""
    number: int = 10_000
    """Number of trials."""
    seed: int = 0
    """Seed of all damage."""
    ways: tuple[str, ...] = tuple(ways_in.WAYS_IN)
    """Ways in to try."""


def main() -> dict[str, Any]:
    """Runs the trials in a second process, which is started anew after a hang, a crash or too much memory."""
    options = tyro.cli(Fuzz, description=flag_help.description(__doc__))
    if options.number < 1:
        raise ValueError(f"--number must be at least 1, got {options.number}")
    cli.check_different(ways=options.ways)
    if others := set(options.ways) - ways_in.WAYS_IN.keys():
        raise ValueError(f"--ways {min(others)!r} is none of {', '.join(ways_in.WAYS_IN)}")
    workdir = Path(files.resolve(options.workdir))
    if not (workdir / "prepared" / "done").exists():
        shutil.rmtree(workdir / "prepared", ignore_errors=True)
        ways_in.prepare(workdir / "prepared", options.ways)
        (workdir / "prepared" / "done").touch()
    record = workdir / "trials.jsonl"
    rows = [json.loads(line) for line in record.read_text().splitlines()] if record.exists() else []
    known = {row["trial"]: row for row in rows}  # the last row of a trial counts
    worker = Worker(options.seed, options.ways, workdir)
    with record.open("a") as lines:
        for i in range(options.number):
            if i in known and known[i]["outcome"] in ENDS:
                continue
            known[i] = worker.trial(i)
            lines.write(json.dumps(known[i]) + "\n")
            lines.flush()
            if known[i]["outcome"] not in ENDS:
                print(json.dumps(known[i]), flush=True)
    worker.end()
    return summary([known[i] for i in range(options.number)], workdir)


def summary(rows: list[dict], workdir: Path) -> dict[str, Any]:
    """Writes the table of outcomes by way in; returns the totals."""
    counts = {way: Counter(row["outcome"] for row in rows if row["way"] == way) for way in ways_in.WAYS_IN}
    faults = {way: sum(found.values()) - found["well"] - found["error"] for way, found in counts.items()}
    header = ("way in", "trials", "ended well", "one error", "faults")
    lines = [(way, sum(n.values()), n["well"], n["error"], faults[way]) for way, n in counts.items()]
    files.write_atomically(
        workdir / "table.md", markdown.table(header, [list(map(str, line)) for line in lines]).encode()
    )
    slowest, most = max(row["seconds"] for row in rows), max(row["megabytes"] for row in rows)
    return {"trials": len(rows), "faults": sum(faults.values()), "slowest_s": slowest, "most_megabytes": most}


class Worker:
    """A process that runs trials, replaced when a trial ends it."""

    def __init__(self, seed: int, ways: Sequence[str], workdir: Path):
        self._drawn, self._workdir = (seed, ways), workdir
        self._start()

    def _start(self) -> None:
        self._pipe, end = multiprocessing.Pipe()
        arguments = (end, *self._drawn, self._workdir)
        self._process = multiprocessing.get_context("spawn").Process(target=serve, args=arguments, daemon=True)
        self._process.start()
        end.close()
        self._pipe.recv()  # it is ready

    def trial(self, i: int) -> dict:
        """Runs trial `i` and returns its row."""
        way = draw(*self._drawn, i, self._workdir / "prepared")[0]
        self._pipe.send(i)
        try:
            row = self._pipe.recv() if self._pipe.poll(SECONDS) else {"outcome": "hang", "seconds": SECONDS}
        except EOFError:
            row = {"outcome": "crash of the process", "seconds": 0.0}
        row = {"trial": i, "way": way, "megabytes": 0} | row
        if row["outcome"] in ENDS and row["megabytes"] > MEGABYTES:
            row["outcome"] = "too much memory"
        if row["outcome"] not in ENDS:
            self.end()
            self._start()
        return row

    def end(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.join()


def draw(seed: int, ways: Sequence[str], i: int, prepared: Path) -> tuple[str, Path, bytes, str]:
    """Returns the way in of trial `i`, the prepared file, its damaged content, and the name to give to it."""
    rng = np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, i])))
    shares = np.array([ways_in.WAYS_IN[name].share for name in ways])
    way = ways[rng.choice(len(ways), p=shares / shares.sum())]
    seeds = ways_in.WAYS_IN[way].seeds(prepared)
    path = seeds[rng.integers(len(seeds))]
    others = [other.read_bytes() for other in seeds]
    content = mutations.mutate(rng, path.read_bytes(), others)
    return way, path, content, mutations.NAMES[rng.integers(len(mutations.NAMES))]


def serve(pipe: Connection, seed: int, ways: Sequence[str], workdir: Path) -> None:
    """Runs the trials whose numbers come through the pipe."""
    pipe.send("ready")
    while True:
        i, began = pipe.recv(), time.perf_counter()
        outcome = trial(seed, ways, i, workdir)
        pipe.send({**outcome, "seconds": round(time.perf_counter() - began, 2), "megabytes": peak_megabytes()})


def peak_megabytes() -> int:
    """Returns the most memory that this process has had at once, by Linux's record of it."""
    # Not getrusage, whose peak is at least that of the process that started this one.
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) // 1000


def trial(seed: int, ways: Sequence[str], i: int, workdir: Path) -> dict[str, str]:
    """Runs one trial in a folder of its own; returns its outcome, and for a fault what was said."""
    way, path, content, name = draw(seed, ways, i, workdir / "prepared")
    before, said = fingerprint(workdir / "prepared"), io.StringIO()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as place, contextlib.redirect_stderr(said):
        run = ways_in.WAYS_IN[way].run
        try:
            cli.run(lambda: run(workdir / "prepared", path, content, Path(place), name) or {})
            outcome = "well"
        except SystemExit as error:
            print(error.code, file=said)
            named = name in said.getvalue() or files.printable(name) in said.getvalue() or place in said.getvalue()
            outcome = "error" if str(error.code).startswith("error: ") and named else "error without a name"
        except BaseException:
            traceback.print_exc(file=said)
            outcome = "traceback"
    if files.CONTROL.search(said.getvalue()):
        outcome = "control characters in a message"
    if fingerprint(workdir / "prepared") != before:
        outcome = "something else was changed"
    if outcome in ENDS:
        return {"outcome": outcome}
    kept = workdir / "faults" / f"{i}{path.suffix}"
    kept.parent.mkdir(exist_ok=True)
    kept.write_bytes(content)
    return {"outcome": outcome, "file": path.name, "kept": str(kept), "said": said.getvalue()[-2000:]}


def fingerprint(folder: Path) -> str:
    """Returns a hash of names, sizes and times of all files below `folder`."""
    found = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in sorted(folder.rglob("*"))]
    return hashlib.sha256(json.dumps(found).encode()).hexdigest()
