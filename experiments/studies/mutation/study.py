"""Puts small faults into the library, one at a time, and counts those that the tests find.

$ python experiments/study.py mutation --workdir runs/mutation --number 200

It draws mutants of the modules that hold losses, steps, keys, batches, checkpoints and inference. Each is tried in a
copy of genjax/, experiments/ and tests/, by the tests of its module but for those marked `process`. Outcomes are in
WORKDIR/mutants.jsonl: caught, survived, not ended (an endless loop, a kill) or not imported (which any test finds, so
that it does not count). Repeat the command to go on, or with a larger --number; with --workdir
experiments/results/mutation it goes on from the published record.
"""

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import tyro

from genjax import files, flag_help
from studies.mutation.mutants import Mutant, mutants

TREE = Path(__file__).parents[3]

# The tests of each module, quick ones first: the first failure ends a trial.
TESTS = {
    "keys.py": ("test_keys.py", "test_compiled.py", "vae/test_steps.py"),
    "parallel.py": ("test_parallel.py", "test_compiled.py", "vae/test_steps.py"),
    "compiled.py": ("test_compiled.py", "vae/test_steps.py", "train/test_loop.py", "train/test_loop_records.py"),
    "optim.py": ("test_optim.py", "vae/test_steps.py"),
    "data/batches.py": ("data/test_batches.py",),
    "data/augment.py": ("data/test_augment.py",),
    "vae/losses.py": ("vae/test_losses.py", "vae/test_steps.py"),
    "vae/objectives.py": ("vae/test_objectives.py", "vae/test_objectives_hierarchies.py", "vae/test_steps.py"),
    "vae/distributions.py": ("vae/test_distributions.py", "vae/test_losses.py", "vae/test_model.py"),
    "vae/likelihood.py": ("vae/test_likelihood.py",),
    "vae/sandwich.py": ("vae/test_sandwich.py",),
    "vae/annealing.py": ("vae/test_sandwich.py", "vae/test_mcmc.py"),
    "vae/mixture.py": ("vae/test_mixture.py",),
    "vae/model.py": ("vae/test_model.py", "vae/test_losses.py", "vae/test_sampling.py", "vae/test_steps.py"),
    "vae/steps.py": ("vae/test_steps.py",),
    "vae/sampling.py": ("vae/test_sampling.py", "vae/test_steps.py", "vae/test_aggregated.py"),
    "vae/operators.py": (
        "vae/test_operators.py",
        "vae/test_restoration.py",
        "experiments/test_restore.py",
        "experiments/test_inpaint.py",
    ),
    "vae/inference.py": ("vae/test_inference.py", "vae/test_restoration.py", "vae/test_wavelet.py"),
    "vae/mcmc.py": ("vae/test_mcmc.py", "vae/test_restoration.py"),
    "gan/adversarial.py": ("gan/test_adversarial.py",),
    "gan/image_pool.py": ("gan/test_image_pool.py",),
    "gan/discriminators.py": (
        "gan/test_network_shapes.py",
        "gan/test_networks.py",
        "gan/test_spectral_norm.py",
        "cyclegan/test_steps.py",
        "cyclegan/test_steps_simple.py",
    ),
    "gan/diff_augment.py": ("gan/test_diff_augment.py", "gan/test_seen.py", "cyclegan/test_steps_simple.py"),
    "gan/terms.py": ("cut/test_losses.py", "unit/test_losses.py", "cyclegan/test_losses.py", "cut/test_steps.py"),
    "gan/params.py": ("train/test_accumulate.py", "cyclegan/test_steps_simple.py"),
    "gan/judging.py": ("gan/test_spectral_norm.py", "cyclegan/test_steps_simple.py", "train/test_accumulate.py"),
    "gan/seen.py": ("gan/test_seen.py", "cut/test_steps.py", "cyclegan/test_pairs.py"),
    "gan/step_metrics.py": ("gan/test_step_metrics.py",),
    "cyclegan/losses.py": ("cyclegan/test_losses.py", "cyclegan/test_semantic.py"),
    "cyclegan/steps.py": (
        "cyclegan/test_steps.py",
        "cyclegan/test_steps_simple.py",
        "gan/test_seen.py",
        "cyclegan/test_semantic.py",
    ),
    "cut/losses.py": ("cut/test_losses.py", "cut/test_steps.py"),
    "cut/nets.py": ("cut/test_losses.py", "cut/test_steps.py", "cut/test_parity.py"),
    "cut/steps.py": ("cut/test_steps.py", "cut/test_parity.py", "train/test_accumulate.py"),
    "unit/losses.py": ("unit/test_losses.py", "unit/test_parity.py"),
    "unit/nets.py": ("unit/test_losses.py", "unit/test_steps.py", "unit/test_parity.py"),
    "unit/steps.py": (
        "unit/test_steps.py",
        "unit/test_perceptual.py",
        "unit/test_parity.py",
        "train/test_accumulate.py",
    ),  # fmt: skip
    "evaluation/set_distances.py": ("evaluation/test_set_distances.py", "evaluation/test_whole_sets.py"),
    "evaluation/coverage.py": ("evaluation/test_coverage.py",),
    "train/checkpoint.py": (
        "train/test_checkpoint.py",
        "train/test_loop.py",
        "train/test_loop_records.py",
        "train/test_loop_finished.py",
        "train/test_starts.py",
    ),
    "train/run_directory.py": (
        "train/test_run_directory.py",
        "train/test_config_file.py",
        "train/test_loop_finished.py",
        "train/test_loop.py",
        "train/test_loop_records.py",
    ),
    "train/fingerprint.py": ("train/test_fingerprint.py", "train/test_checkpoint.py"),
}
SECONDS = 120  # CPU time of a test, whatever else the machine does; the slowest takes a quarter of it
WAITING_SECONDS = 1200  # a test may wait for a process or a lock


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Options: how many mutants, and which."""

    workdir: str
    """Directory for mutants.jsonl; repeat the command to go on."""
    number: int = 200
    """Number of mutants. Those of a smaller number are among those of a larger one."""
    seed: int = 0
    """Seed of the choice, in which all mutants of all modules are equally likely."""
    again: bool = False
    """Try again what survived or did not end in earlier starts, once there are further tests."""


def main() -> dict[str, Any]:
    """Prints each outcome; returns the number of mutants, of those caught, and the share."""
    options = tyro.cli(Options, description=flag_help.description(__doc__))
    if options.number < 1:
        raise ValueError(f"--number must be at least 1, got {options.number}")
    record = files.resolve(options.workdir) / "mutants.jsonl"
    rows = [json.loads(line) for line in record.read_text().splitlines()] if record.exists() else []
    if options.again:
        rows = [row for row in rows if row["outcome"] in ("caught", "not imported")]
    known = {(row["module"], row["name"]): row for row in rows}
    chosen = choose(options.seed, options.number)
    with tempfile.TemporaryDirectory() as folder:
        copy = _copy_of_tree(Path(folder))
        for module, mutant in chosen:
            if (module, mutant.name) in known:
                continue
            path = copy / "genjax" / module
            original = path.read_text()
            path.write_text(mutant.source)
            outcome, test, seconds = run_tests(copy, TESTS[module])
            path.write_text(original)
            # Each test that catches something has to pass without a fault.
            new = test is not None and test not in {row["test"] for row in known.values()}
            if test and new and run_tests(copy, [test])[0] != "survived":
                raise ValueError(f"tests/{test} fails without a fault: mend it first")
            row = {"module": module, "outcome": outcome, "test": test, "seconds": round(seconds, 1)}
            row |= {field: value for field, value in mutant._asdict().items() if field != "source"}
            known[module, mutant.name] = row
            files.write_atomically(record, "".join(json.dumps(row) + "\n" for row in known.values()))
            print(json.dumps(row), flush=True)
    outcomes = [known[module, mutant.name]["outcome"] for module, mutant in chosen]
    counted = len(outcomes) - outcomes.count("not imported")
    numbers = {outcome.replace(" ", "_"): outcomes.count(outcome) for outcome in ("caught", "survived", "not ended")}
    return {"mutants": counted, **numbers, "share": round(numbers["caught"] / max(counted, 1), 4)}


def choose(seed: int, number: int) -> list[tuple[str, Mutant]]:
    """Draws mutants by hash, so that a change of one line leaves the choice among all others."""
    found = [(module, mutant) for module in TESTS for mutant in mutants(_source(module))]
    ranks = {pair: sha256(f"{seed} {pair[0]} {pair[1].name}".encode()).digest() for pair in found}
    return sorted(found, key=ranks.__getitem__)[:number]


def _source(module: str) -> str:
    return (TREE / "genjax" / module).read_text()


def _copy_of_tree(folder: Path) -> Path:
    for name in ("genjax", "experiments", "tests"):
        shutil.copytree(TREE / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(TREE / name, folder)
    return folder


def run_tests(copy: Path, tests: Sequence[str]) -> tuple[str, str | None, float]:
    """Runs `tests` in a copy of the tree until one fails; returns the outcome, that test and the seconds."""
    began = time.perf_counter()
    command = [sys.executable, "-B", "-m", "pytest", "-q", "-x", "-rfE", "-p", "no:cacheprovider", "-m", "not process"]
    command += ["-p", "studies.mutation.cpu_limit"]
    command += ["-o", f"faulthandler_timeout={WAITING_SECONDS}", "-o", "faulthandler_exit_on_timeout=true"]
    settings = {"PYTHONPATH": f"{copy}:{Path(__file__).parents[2]}", "TEST_CPU_SECONDS": str(SECONDS)}
    settings["JAX_COMPILATION_CACHE_DIR"] = os.environ.get("JAX_COMPILATION_CACHE_DIR", str(copy / "compiled"))
    done = subprocess.run(
        [*command, *(f"tests/{name}" for name in tests)], cwd=copy, env=os.environ | settings,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    test = re.search(r"^(?:FAILED|ERROR) tests/([^[\s]+::[^[\s]+)", done.stdout, re.MULTILINE)
    # pytest: 0 if all tests passed, 2 and 4 if it could not import them, and 1 if it stopped at the first that it could
    # not import. If it was ended, it names no test.
    unimported = re.search(r"^ERROR tests/[^[\s:]+ - ", done.stdout, re.MULTILINE)
    outcome = {0: "survived", 2: "not imported", 4: "not imported"}.get(
        done.returncode, "caught" if test else "not imported" if unimported else "not ended"
    )
    return outcome, test[1] if test else None, time.perf_counter() - began
