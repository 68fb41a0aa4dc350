"""Paths, files that are written whole or not at all, and differences between records."""

import os
import stat

import pytest

from claims import contents
from genjax import files


def test_write_atomically_spares_similar_names(tmp_path):
    (tmp_path / "x.png.partial").write_text("precious")
    long = "y" * 250 + ".json"
    for name in ("x.png", long):
        files.write_atomically(tmp_path / name, b"new")
    assert contents(tmp_path) == {"x.png.partial": b"precious", "x.png": b"new", long: b"new"}


def test_write_atomically_syncs_before_it_renames(tmp_path, monkeypatch):
    """So that a power cut leaves the old content or the new; then it syncs the directory, which holds the name."""
    path, sync, seen = tmp_path / "x.json", os.fsync, []

    def remember(file):
        seen.append((stat.S_ISDIR(os.fstat(file).st_mode), os.fstat(file).st_size, path.read_bytes()))
        sync(file)

    monkeypatch.setattr(os, "fsync", remember)
    path.write_bytes(b"old")
    files.write_atomically(path, b"newer")
    assert [(folder, content) for folder, _, content in seen] == [(False, b"old"), (True, b"newer")]
    assert seen[0][1] == len(b"newer")


def test_resolve_refuses_unknown_users():
    with pytest.raises(ValueError, match="~nouser/x: there is no user of that name"):
        files.resolve("~nouser/x")


def test_differences_lists_each_changed_new_and_lost_field():
    old = {"python": "3.11", "packages": {"jax": "0.10.2", "flax": "0.12.8"}, "devices": 8, "git": "abc"}
    new = {"python": "3.11", "packages": {"jax": "0.12.0", "flax": "0.12.8"}, "devices": 1, "xla_flags": "--x"}
    assert files.differences(old, new) == [
        "devices: 8 -> 1",
        "git: abc -> None",
        "packages.jax: 0.10.2 -> 0.12.0",
        "xla_flags: None -> --x",
    ]
    assert files.differences(old, dict(old)) == []
