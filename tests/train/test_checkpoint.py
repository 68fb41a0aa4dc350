import dataclasses
import json
import logging
import shutil
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fitted import fit
from genjax import keys, parallel, vae
from genjax.config import TrainConfig
from genjax.train import checkpoint, fingerprint

pytestmark = [
    pytest.mark.usefixtures("failing_loads"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),  # see failing_loads
]


@pytest.fixture
def copied(trained, tmp_path):
    """A finished run of 12 steps with checkpoints at 8 and 12, to be damaged."""
    shutil.copytree(trained.workdir, tmp_path / "copy")
    return dataclasses.replace(trained, workdir=str(tmp_path / "copy"))


def data_files(path):
    """The files that hold arrays; some hold a copy that is not read again, so damage is done to all of them."""
    return [file for file in (path / "state").rglob("d/*") if file.is_file()]


def truncate(path):
    for file in data_files(path):
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def zero(path):
    for file in data_files(path):
        file.write_bytes(bytes(file.stat().st_size))


def flip_a_bit(path):
    for file in data_files(path):
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        file.write_bytes(data)


def zero_the_metadata(path):
    file = path / "_CHECKPOINT_METADATA"
    file.write_bytes(bytes(file.stat().st_size))


def change_a_type(path):
    file = path / "_CHECKPOINT_METADATA"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"init_timestamp_nsecs": "now"}))


def remove_the_state(path):
    shutil.rmtree(path / "state")


DAMAGES = [truncate, zero, flip_a_bit, zero_the_metadata, change_a_type, remove_the_state]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_restore_latest_passes_over_damage_and_keeps_it(trained, copied, caplog, damage):
    checkpoints = Path(copied.workdir, "checkpoints")
    damage(checkpoints / "12")
    with caplog.at_level(logging.WARNING):
        resumed = fit(copied)
    assert resumed.resumed_from == 8
    assert resumed.digest == fit(trained).digest
    assert "checkpoints/12" in caplog.text and "going on from step 8" in caplog.text
    assert Path(copied.workdir, "damaged-12").is_dir()
    assert checkpoint.steps(checkpoints) == [8, 12]  # 12 has been saved anew


def test_restore_latest_refuses_another_steps_number(trained, copied, caplog):
    checkpoints = Path(copied.workdir, "checkpoints")
    shutil.copytree(checkpoints / "8", checkpoints / "16")
    assert fit(copied).resumed_from == 12
    assert "checkpoints/16 is a copy of that of step 8, under the number of another step" in caplog.text
    assert Path(copied.workdir, "damaged-16").is_dir()


def empty_every_file(path):
    for file in path.rglob("*"):
        if file.is_file():
            file.write_bytes(b"")


@pytest.mark.slow
@pytest.mark.parametrize("damage", [*DAMAGES, empty_every_file], ids=lambda damage: damage.__name__)
def test_saver_ignores_damage_to_older_checkpoints(copied, damage):
    damage(Path(copied.workdir, "checkpoints", "8"))
    assert fit(copied).resumed_from == 12
    longer = dataclasses.replace(copied, train=dataclasses.replace(copied.train, num_steps=16))
    assert fit(longer).resumed_from == 12


def test_the_best_is_remembered_in_the_next_session(tmp_path):
    config = TrainConfig(num_steps=100, eval_every=1, checkpoint_every=1)
    save_scores(tmp_path, config, {1: 3.0, 2: 5.0, 3: 6.0})
    save_scores(tmp_path, config, {4: 7.0, 5: 8.0})
    assert checkpoint.steps(tmp_path) == [1, 4, 5]


def test_restore_finds_flipped_bits(tmp_path):
    """Random numbers do not compress, so most of the file is the array itself, without a checksum of its own."""
    config = TrainConfig(num_steps=1, eval_every=1, checkpoint_every=1)
    mesh, make = parallel.make_mesh(), lambda: {"w": jax.random.normal(jax.random.key(0), (256, 256))}
    with checkpoint.Saver(tmp_path, config) as saver:
        saver.save(1, parallel.replicate(mesh, make), {}, None)
    (file,) = (file for file in data_files(tmp_path / "1") if file.stat().st_size > 4 * 256 * 256 // 2)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(ValueError, match="SHA-256"):
        checkpoint.restore(tmp_path, 1, parallel.abstract(mesh, make))


def test_restore_latest_fails_without_a_whole_checkpoint(copied):
    checkpoints = Path(copied.workdir, "checkpoints")
    for step in (8, 12):
        truncate(checkpoints / str(step))
    with pytest.raises(ValueError, match="none of the 2 checkpoints"):
        fit(copied)
    assert checkpoint.steps(checkpoints) == [8, 12]


@pytest.mark.slow
def test_set_aside_keeps_both_of_one_step(copied):
    for _ in range(2):
        truncate(Path(copied.workdir, "checkpoints", "12"))
        fit(copied)
    assert sorted(path.name for path in Path(copied.workdir).glob("damaged*")) == ["damaged-12", "damaged-12_"]


def test_saver_clears_away_unfinished_saves(copied):
    checkpoints = Path(copied.workdir, "checkpoints")
    unfinished = checkpoints / "16.orbax-checkpoint-tmp"
    shutil.copytree(checkpoints / "12", unfinished)
    assert checkpoint.steps(checkpoints) == [8, 12]
    assert fit(copied).resumed_from == 12
    assert not unfinished.exists()


def save_scores(directory, config, scores, keep=()):
    with checkpoint.Saver(directory, config, keep) as saver:
        for step, score in scores.items():
            saver.save(step, {"w": jnp.full(3, step)}, {}, score)


def test_saver_keeps_last_best_periodic_and_named(tmp_path):
    config = TrainConfig(num_steps=100, eval_every=1, checkpoint_every=1, keep_period=4)
    scores = {1: 9.0, 2: 3.0, 3: 7.0, 4: 8.0, 5: 5.0, 6: None, 7: 6.0, 8: 6.0, 9: 6.5}
    save_scores(tmp_path, config, scores, keep=[3, 10])
    assert checkpoint.steps(tmp_path) == [2, 3, 4, 8, 9]
    assert checkpoint.chosen_step(tmp_path, "best") == 2


def test_chosen_step_passes_over_scoreless_checkpoints(tmp_path):
    config = TrainConfig(num_steps=100, eval_every=1, checkpoint_every=1, keep_period=1)
    save_scores(tmp_path, config, {1: 4.0, 2: 3.0, 3: None, 4: float("nan"), 5: float("-inf")})
    zero_the_metadata(tmp_path / "2")
    assert checkpoint.chosen_step(tmp_path, "best") == 1
    with pytest.raises(ValueError, match="has a validation score"):
        checkpoint.chosen_step(tmp_path / "none", "best")


def test_restore_chosen_waits_for_a_removal(tmp_path, monkeypatch):
    """A checkpoint that a training is removing looks damaged, until it is gone and a newer one is there."""
    mesh, config = parallel.make_mesh(), TrainConfig(num_steps=100, eval_every=1, checkpoint_every=1, keep_period=1)
    directory, newer = tmp_path / "checkpoints", tmp_path / "newer"
    with checkpoint.Saver(directory, config) as saver:
        for step in (1, 2):
            saver.save(step, parallel.replicate(mesh, lambda step=step: {"w": jnp.full(3, step)}), {}, None)
    (directory / "2").rename(newer)
    truncate(directory / "1")

    def sleep(seconds):
        shutil.rmtree(directory / "1")
        newer.rename(directory / "2")

    monkeypatch.setattr(checkpoint, "time", SimpleNamespace(sleep=sleep))
    abstract = parallel.abstract(mesh, lambda: {"w": jnp.full(3, 0)})
    assert checkpoint.restore_chosen(directory, "last", abstract).state["w"].tolist() == [2, 2, 2]
    with pytest.raises(ValueError, match="a step of 2"):
        checkpoint.restore_chosen(directory, 1, abstract)


@pytest.mark.parametrize("which", [3, 2.0, True, "Best", "2", "", None])
def test_chosen_step_refuses_all_but_kept_steps(tmp_path, which):
    config = TrainConfig(num_steps=100, eval_every=1, checkpoint_every=1, keep_period=1)
    save_scores(tmp_path, config, {1: 4.0, 2: None})
    assert checkpoint.chosen_step(tmp_path, 2) == 2
    with pytest.raises(ValueError, match=r"a step of 1 \(validation score 4\), 2$"):
        checkpoint.chosen_step(tmp_path, which)


@pytest.mark.parametrize("num", [1, 2])
def test_saved_on_eight_devices_and_restored_on_fewer(trained, num):
    mesh = parallel.make_mesh(jax.devices()[:num])
    abstract = parallel.abstract(mesh, lambda: vae.TASK.init(trained, keys.root_key(0)))
    restored = checkpoint.restore(Path(trained.workdir, "checkpoints"), 12, abstract)
    assert restored.digest == fit(trained).digest
    assert {len(leaf.addressable_shards) for leaf in jax.tree.leaves(restored.state)} == {num}


@pytest.mark.parametrize("num", [1, 2, 8])
def test_devices_share_the_saving_of_large_arrays_alone(tmp_path, num):
    """Each writes its part; whatever devices there are then, the array is whole again."""
    rows = checkpoint.SHARED_BYTES // 4 // 16
    mesh, shapes = parallel.make_mesh(), {"large": (8 * rows, 16), "small": (8 * rows - 8, 16)}

    def make():
        return {name: jax.random.normal(jax.random.key(0), shape) for name, shape in shapes.items()}

    state = parallel.replicate(mesh, make)
    with checkpoint.Saver(tmp_path, TrainConfig(num_steps=1, eval_every=1, checkpoint_every=1)) as saver:
        saver.save(1, state, {}, None)
    restored = checkpoint.restore(tmp_path, 1, parallel.abstract(parallel.make_mesh(jax.devices()[:num]), make))
    assert restored.digest == fingerprint.tree_digest(state)
    (described,) = (json.loads(file.read_text()) for file in tmp_path.rglob("array_metadatas/*"))
    parts = {
        entry["array_metadata"]["param_name"]: entry["array_metadata"]["write_shape"]
        for entry in described["array_metadatas"]
    }
    assert parts == {"large": [rows, 16], "small": list(shapes["small"])}


def test_saver_saves_the_state_of_that_moment(tmp_path):
    """Saving goes on in the background while the state's buffers are donated to the next steps."""
    config = TrainConfig(num_steps=100, eval_every=1, checkpoint_every=1, keep_period=1)
    advance = jax.jit(lambda state: {"w": state["w"] + 1}, donate_argnums=0)
    state = {"w": jnp.zeros((512, 1024))}
    with checkpoint.Saver(tmp_path, config) as saver:
        for step in range(1, 4):
            state = advance(state)
            saver.save(step, state, {}, None)
            for _ in range(5):
                state = advance(state)
    abstract = parallel.abstract(parallel.make_mesh(jax.devices()[:1]), lambda: {"w": jnp.zeros((512, 1024))})
    restored = [checkpoint.restore(tmp_path, step, abstract).state["w"] for step in (1, 2, 3)]
    assert [float(np.unique(w)[0]) for w in restored] == [1.0, 7.0, 13.0]
