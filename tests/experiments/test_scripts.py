"""The commands that a person types: what they print, write and refuse."""

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import genjax
import sample
from configs import cut as cut_configs
from configs import cyclegan as cyclegan_configs
from configs import unit as unit_configs
from configs import vae as vae_configs
from genjax.cyclegan.config import LossConfig
from genjax.data import sources
from in_turn import run_in_turn
from tiny import write_noise

pytestmark = pytest.mark.process

SCRIPTS = Path(sample.__file__).parent


def run(script, *arguments):
    return subprocess.run([sys.executable, SCRIPTS / script, *map(str, arguments)], capture_output=True, text=True)


CONFIGS = [("train_vae.py", *item) for item in vae_configs.CONFIGS.items()]
CONFIGS += [("train_cyclegan.py", *item) for item in cyclegan_configs.CONFIGS.items()]
CONFIGS += [("train_cut.py", *item) for item in cut_configs.CONFIGS.items()]
CONFIGS += [("train_unit.py", *item) for item in unit_configs.CONFIGS.items()]


@pytest.mark.parametrize(("script", "name", "make"), CONFIGS)
def test_configs_are_valid_and_describe_their_results(script, name, make):
    description = make.__doc__
    make()
    for part in (f"$ python experiments/{script} {name} --workdir runs/", "Hardware: ", "Time: ", "Result: "):
        assert part in description
    assert "TODO" not in description


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """Commands that end at once, by name, one after the other in one process: imports take most of their time."""
    path = tmp_path_factory.mktemp("ended")
    commands = {
        "a wrong flag": ["train_vae.py", "digits", "--data.batchsize", "8"],
        "a wrong name": ["train_vae.py", "digit"],
        "a wrong value": ["train_vae.py", "digits", "--data.batch-size", "0"],
        "a wrong folder": ["train_vae.py", "digits", "--data.source", f"folder:{path}/none"],
    }
    for name, command in commands.items():
        command += ["--workdir", f"{path}/{name}"]
    for script, name in (("study.py", "translation"), ("benchmark.py", "seeds")):
        commands |= {f"{script} --help": [script, name, "--help"], f"{script} nothing": [script, "nothing"]}
    return path, run_in_turn(commands)


def test_train_suggests_the_right_flag(ended):
    path, done = ended[0], ended[1]["a wrong flag"]
    assert done.returncode == 2 and "--data.batch-size" in done.stderr and "Traceback" not in done.stderr
    assert not (path / "a wrong flag").exists()


def test_train_lists_the_configurations_it_knows(ended):
    done = ended[1]["a wrong name"]
    assert done.returncode == 2
    assert "no configuration is called 'digit': give quickstart, mnist5k, digits" in done.stderr


def test_train_refuses_a_value_with_its_number(ended):
    done = ended[1]["a wrong value"]
    unboxed = " ".join(done.stderr.replace("│", " ").split())
    assert done.returncode == 2 and "--data.batch-size must be at least 1, got 0" in unboxed
    assert "Traceback" not in unboxed


def test_train_prints_an_error_as_one_line(ended):
    path, done = ended[0], ended[1]["a wrong folder"]
    title, error = done.stderr.splitlines()
    assert (done.returncode, done.stdout, error) == (1, "", f"error: no such folder: {path}/none")
    assert f"VAE on folder:{path}/none, in " in title


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_train_saves_on_a_signal(tmp_path, number, code):
    flags = ["--workdir", tmp_path / "run", "--train.num-steps", 10**6, "--train.log-every", 10]
    flags += ["--train.eval-every", 100, "--train.checkpoint-every", 10**6]
    arguments = [sys.executable, SCRIPTS / "train_vae.py", "digits", *map(str, flags)]
    pipe = subprocess.PIPE
    process = subprocess.Popen(arguments, stdout=pipe, stderr=pipe, text=True, env=os.environ)
    while not list(tmp_path.glob("run/samples/*.png")):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(number)
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, output) == (code, "")
    (step,) = (int(name) for name in os.listdir(tmp_path / "run" / "checkpoints"))
    assert f"stopped and saved at step {step}" in errors and 100 <= step < 10**6


def test_horse2zebra_has_the_settings_of_its_implementations():
    run = cyclegan_configs.horse2zebra()
    assert (run.optim.learning_rate, run.optim.b1, run.optim.schedule, run.optim.linear_decay) == (
        2e-4,
        0.5,
        "linear",
        "epoch_end",
    )
    assert run.optim.steps_per_epoch == 1334 and run.train.num_steps == 200 * 1334 == 266_800 and run.optim.decay == 0.5
    assert run.data.batch_size == 1 and run.data.flip
    assert (run.data.image_size, run.data.load_size) == ((256, 256), (286, 286))
    assert (run.cyclegan.num_blocks, run.cyclegan.base_channels, run.cyclegan.pool_size) == (9, 64, 50)
    assert (
        run.loss == LossConfig(adversarial_a2b=1, adversarial_b2a=1, cycle_a=10, cycle_b=10, identity_a=5, identity_b=5)
        and run.loss.adversarial == "lsgan"
    )


def write_photographs(path, size):
    for folder in ("trainA", "trainB", "testA", "testB"):
        write_noise(path / folder, 3 if "train" in folder else 1, size, ".jpg")


@pytest.mark.parametrize(("name", "size"), [
    ("horse2zebra", (64, 64)), ("mission", (150, 150))
])  # fmt: skip
def test_train_cyclegan_runs_configs_on_folders(tmp_path, name, size):
    write_photographs(tmp_path / "images", size)
    flags = {
        "workdir": tmp_path / "run",
        "data.source": f"folder:{tmp_path / 'images'}", "data.cache-dir": tmp_path / "cache",
        "data.batch-size": 1, "cyclegan.base-channels": 2, "cyclegan.num-blocks": 0,
        "cyclegan.discriminator-channels": 2, "cyclegan.discriminator-layers": 1,
        "train.num-sample-images": 1, "train.log-every": 1, "train.best-by": "none",
    }  # fmt: skip
    short = {"train.num-steps": 2, "train.eval-every": 2, "train.checkpoint-every": 2}
    arguments = [part for flag, value in (flags | short).items() for part in (f"--{flag}", value)]
    arguments += ["--data.image-size", 64, 64, "--data.load-scale", 1.125]
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "1"}
    command = [sys.executable, SCRIPTS / "train_cyclegan.py", name, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    results, rows = json.loads(done.stdout), (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert results["step"] == 2 and results["cycle_a2b"] > 0
    assert [json.loads(row)["skipped"] for row in rows[:2]] == [0, 0]
    if name == "mission":
        assert results["change_a2b"] < 0.01  # x + T(G(x)) begins at x


def test_cats_dogs_reads_folders_of_photographs(tmp_path):
    write_photographs(tmp_path / "images", (137, 180))
    data = {"source": f"folder:{tmp_path / 'images'}", "cache_dir": str(tmp_path / "cache")}
    splits = sources.load(dataclasses.replace(cyclegan_configs.cats_dogs().data, **data), 0)
    assert [images.picture(0).shape for images in splits.train] == [(143, 188, 3)] * 2  # scaled to cover 143x143
    assert [images.shape for images in splits.test] == [(1, 128, 128, 3)] * 2


def test_sample_prints_a_missing_platform_as_one_line(tmp_path):
    command = [sys.executable, SCRIPTS / "sample.py", "prior", "--workdir", tmp_path, "--out", tmp_path / "x.png"]
    done = subprocess.run(command, env=os.environ | {"JAX_PLATFORMS": "abacus"}, capture_output=True, text=True)
    assert done.returncode == 1 and "error: JAX finds no device with JAX_PLATFORMS='abacus': unset it" in done.stderr
    assert "Traceback" not in done.stderr


def test_sample_prints_one_json_line(trained, tmp_path):
    done = run("sample.py", "prior", "--workdir", trained.workdir, "--num", 4, "--out", tmp_path / "x.png")
    assert json.loads(done.stdout)["images"] == 4 and (tmp_path / "x.png").exists()


def test_genjax_imports_no_trackers_unasked():
    modules = "genjax.loading, genjax.report, genjax.train.loop, genjax.vae"
    trackers = {"tensorflow", "tensorboard", "tensorboardX", "wandb", "mlflow"}
    code = f"import sys, {modules}; assert not {trackers!r} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_genjax_changes_no_global_settings():
    library = Path(genjax.__file__).parent
    for path in set(library.rglob("*.py")) - {library / "cli.py"}:  # which starts commands: it may set and print
        text = path.read_text()
        for forbidden in ("jax.config.update", "os.environ[", "jax._src", "optax._src", "np.random.seed"):
            assert forbidden not in text, f"{path}: {forbidden}"
        assert not re.search(r"\bprint\(", text), path


def test_pages_have_no_placeholders():
    for page in (SCRIPTS.parent / "README.md", *SCRIPTS.glob("*.md"), *SCRIPTS.glob("results/*.md")):
        assert not re.findall(r"TODO|\bGAP:", page.read_text(), re.MULTILINE)


def test_no_file_changes_the_import_path():
    """But that which stands for Python's own start of a script, in the wheel."""
    for path in {*SCRIPTS.rglob("*.py"), *Path(genjax.__file__).parent.rglob("*.py")} - {SCRIPTS / "__main__.py"}:
        assert not re.search(r"sys\.path\b", path.read_text()), path


@pytest.mark.parametrize(("script", "name"), [("study.py", "translation"), ("benchmark.py", "seeds")])
def test_study_and_benchmark_run_by_name(ended, script, name):
    done, unknown = (ended[1][f"{script} {argument}"] for argument in ("--help", "nothing"))
    assert done.returncode == 0 and f"usage: {script} {name}" in done.stdout
    assert unknown.returncode == 2 and name in unknown.stderr and "Traceback" not in unknown.stderr
