"""What environment.json names: the processor, GPUs, flags and packages that bits depend on."""

import json
import os
import platform
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import pytest

from genjax import files
from genjax.train import environment

X86 = """processor\t: 0
vendor_id\t: GenuineIntel
cpu family\t: 6
model\t\t: 85
model name\t: Intel(R) Xeon(R) Processor @ 2.00GHz
stepping\t: 7
cpu MHz\t\t: 2000.000
flags\t\t: fpu vme sse sse2 ht ssse3 fma sse4_2 avx f16c smep avx2 avx512f md_clear
power management:

processor\t: 1
model name\t: another
"""
ARM = """processor\t: 0
BogoMIPS\t: 243.75
Features\t: fp asimd evtstrm aes asimdhp sve bf16
CPU implementer\t: 0x41
CPU architecture: 8
CPU part\t: 0xd40
"""


@pytest.mark.parametrize(
    ("text", "model", "features"),
    [
        (X86, "Intel(R) Xeon(R) Processor @ 2.00GHz, 6, 85", "avx avx2 avx512f f16c fma sse sse2 sse4_2 ssse3"),
        (ARM, "0x41, 0xd40", "asimd asimdhp bf16 sve"),
        (None, platform.processor(), ""),
    ],
    ids=["x86", "ARM", "no Linux"],
)
def test_environment_names_the_processor(make_run, monkeypatch, tmp_path, text, model, features):
    if text is not None:
        (tmp_path / "cpuinfo").write_text(text)
    monkeypatch.setattr(environment, "CPUINFO", tmp_path / "cpuinfo")
    assert environment.describe(make_run())["processor"] == {"model": model, "features": features}


@pytest.mark.parametrize(("name", "version"), [("nvidia_cudnn_cu13", "9.1"), ("jax-cuda13-plugin", "0.10.2")])
def test_environment_names_packages_and_driver_of_gpus(make_run, monkeypatch, tmp_path, name, version):
    (tmp_path / "version").write_text("580.159\n")
    monkeypatch.setattr(environment, "DRIVER", tmp_path / "version")
    monkeypatch.setattr(environment, "distributions", lambda: [SimpleNamespace(name=name, version=version)])
    on_cpu = environment.describe(make_run())
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert files.differences(on_cpu, environment.describe(make_run())) == [
        "driver:  -> 580.159",
        f"packages.{name.replace('_', '-')}: None -> {version}",
    ]


def test_environment_reads_files_of_flags(make_run, monkeypatch, tmp_path):
    (tmp_path / "flags").write_text("--xla_cpu_max_isa=AVX2\n")
    monkeypatch.setenv("XLA_FLAGS", str(tmp_path / "flags"))
    monkeypatch.chdir(tmp_path)
    Path("cpu").write_bytes(b"\xff")  # named as the value of JAX_PLATFORMS is
    flags = environment.describe(make_run())["flags"]
    assert (flags["XLA_FLAGS"], flags["JAX_PLATFORMS"]) == ("--xla_cpu_max_isa=AVX2", "cpu")


def test_environment_counts_threads(make_run, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 2, 5}, raising=False)
    assert environment.describe(make_run())["threads"] == 3


def test_environment_names_what_bits_depend_on(make_run, monkeypatch):
    before = environment.describe(make_run())
    assert json.loads(json.dumps(before)) == before
    assert before["devices"] == 8 and before["packages"]["jax"] == jax.__version__
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=true")
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "another:1234")  # names a machine, and changes no bits
    after = environment.describe(make_run(precision="bfloat16"))
    lines = [line.split(":")[0] for line in files.differences(before, after)]
    assert lines == ["flags.XLA_FLAGS", "precision"]


def test_environment_names_scripts_of_ones_own(make_run, monkeypatch, tmp_path):
    """By their SHA-256: a changed loss in such a script changes results. Commands of genjax are in its commit."""

    def script(path):
        monkeypatch.setitem(sys.modules, "__main__", SimpleNamespace(__file__=str(path)))
        return environment.describe(make_run()).get("script")

    mine = tmp_path / "my.py"
    mine.write_text("first")
    first = script(mine)
    mine.write_text("second")
    assert first and script(mine) != first
    own = Path(environment.__file__).parents[2] / "experiments" / "train_vae.py"
    for known in (own, Path(sys.executable).parent / "pytest", "<stdin>"):
        assert script(known) is None
