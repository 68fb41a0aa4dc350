import json
import sys
from pathlib import Path

import numpy as np
import pytest

from studies.fuzz import mutations, study, ways_in


@pytest.mark.parametrize("kind", [*mutations.BYTES, mutations.json_value])
def test_mutations_change_some_bytes(kind):
    content = b'{"a": [1, {"b": 2}], "c": "d"}\n{"a": 3}\n'
    made = {kind(np.random.default_rng(i), content, [content[::-1]]) for i in range(30)}
    assert len(made - {content}) > 5


def test_draw_depends_on_seed_and_number_alone(tmp_path, monkeypatch):
    (tmp_path / "x.png").write_bytes(bytes(100))
    way = ways_in.WayIn(1, lambda root: [root / "x.png"], lambda *_: None)
    monkeypatch.setattr(ways_in, "WAYS_IN", {"one": way, "two": way})
    drawn, again, others = ([study.draw(seed, ("one", "two"), i, tmp_path) for i in range(20)] for seed in (0, 0, 1))
    assert drawn == again != others
    assert {way for way, *_ in drawn} == {"one", "two"}


def ends(error):
    def run(root, seed, content, place, name):
        if error is not None:
            raise error(f"{place / name} cannot be read")

    return run


def touches(root, seed, content, place, name):
    (root / "new").touch()


def hides_the_name(root, seed, content, place, name):
    raise ValueError("it cannot be read")


@pytest.mark.parametrize(
    ("run", "outcome"),
    [
        (ends(None), "well"),
        (ends(ValueError), "error"),
        (ends(MemoryError), "error"),
        (ends(KeyError), "traceback"),
        (hides_the_name, "error without a name"),
        (touches, "something else was changed"),
    ],
)
def test_trial_tells_faults_from_errors(tmp_path, monkeypatch, run, outcome):
    (tmp_path / "prepared").mkdir()
    (tmp_path / "prepared" / "x.png").write_bytes(b"x")
    way = ways_in.WayIn(1, lambda root: [root / "x.png"], run)
    monkeypatch.setattr(ways_in, "WAYS_IN", {"one": way})
    monkeypatch.setattr(mutations, "NAMES", ("esc\x1b[31m",))
    row = study.trial(0, ("one",), 0, tmp_path)
    assert row["outcome"] == outcome
    assert (row["outcome"] in study.ENDS) or Path(row["kept"]).exists()


@pytest.mark.process
def test_main_finds_no_fault_and_continues(tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "1")  # for the process that runs the trials
    ways = ("train on a folder", "train on npz", "load a VAE's records", "report on a VAE")
    monkeypatch.setattr(sys, "argv", ["study.py", "--workdir", str(tmp_path), "--number", "40", "--ways", *ways])
    first = study.main()
    assert (first["trials"], first["faults"]) == (40, 0)
    rows = [json.loads(line) for line in (tmp_path / "trials.jsonl").read_text().splitlines()]
    assert {row["outcome"] for row in rows} == {"well", "error"} and {row["way"] for row in rows} == set(ways)
    (tmp_path / "trials.jsonl").write_text("".join(json.dumps(row | {"outcome": "hang"}) + "\n" for row in rows[:2]))
    again = study.main()
    assert (again["trials"], again["faults"]) == (40, 0)  # a trial that did not answer in time is tried again
