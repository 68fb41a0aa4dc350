import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from genjax import cyclegan, keys, parallel
from genjax.cyclegan import losses, nets, steps
from genjax.data import batches
from genjax.train import fingerprint, loop
from genjax.train.writers import read_rows
from studies.reproducibility.stepping import mesh_of, replicas_agree, walk
from tiny import cheaply_compiled, write_noise

NETWORKS = ("g_a2b", "g_b2a", "d_a", "d_b")
SMALL = {"base_channels": 2, "num_blocks": 0, "discriminator_channels": 2, "pool_size": 12}


def noise(shape=(16, 16, 1), num=(20, 28)):
    """Two domains of unequal size, one dark and one light."""
    rng = np.random.default_rng(0)
    dark, light = (rng.integers(low, low + 128, (n, *shape), np.uint8) for low, n in zip((0, 128), num, strict=True))
    return dark, light


@pytest.fixture
def simple_losses(monkeypatch):
    """Losses in place of the real ones, of which a step compiles in a moment: means of the images times all weights."""

    def weigh(params, images):
        return jnp.mean(images, axis=(1, 2, 3)) * sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(params))

    def generator_terms(config, generators, discriminators, a, b, element, show):
        zeros = losses.GeneratorTerms(*[jnp.zeros(len(a))] * len(losses.GeneratorTerms._fields))
        total = weigh(generators["g_a2b"], a) + weigh(generators["g_b2a"], b)
        return zeros._replace(total=total), losses.Fakes(b, a)

    def discriminator_loss(config, params, real, fake, fraction):
        return weigh(params, real - fake / 2), losses.Logits(real, fake)

    monkeypatch.setattr(losses, "generator_terms", generator_terms)
    monkeypatch.setattr(losses, "discriminator_loss", discriminator_loss)


@pytest.fixture(scope="module")
def eight(tmp_path_factory):
    """Three steps of the tiny CycleGAN on eight devices, and how many programs were compiled in each."""
    from tiny import tiny_cyclegan

    config, compiled, walked = tiny_cyclegan("unused"), [], []
    count = lambda name, *_, **__: compiled.append(name) if name.endswith("backend_compile_duration") else None  # noqa: E731
    jax.monitoring.register_event_duration_secs_listener(count)
    for state, metrics in walk(steps, config, noise(), parallel.make_mesh(), 3):
        # Copied, for the next step is given the state's own buffers.
        walked.append((jax.tree.map(np.asarray, state), jax.device_get(metrics), replicas_agree(state), len(compiled)))
    jax.monitoring.unregister_event_duration_listener(count)
    return config, walked


def test_replicas_stay_bitwise_equal(eight):
    assert all(agree for _, _, agree, _ in eight[1])


def test_nothing_is_compiled_after_the_first_step(eight):
    first, second, third = (compiled for _, _, _, compiled in eight[1])
    assert 0 < first == second == third


@pytest.mark.parametrize("name", NETWORKS)
def test_a_networks_replicas_part_when_its_mean_over_devices_is_removed(
    make_cyclegan, simple_losses, monkeypatch, name
):
    original = parallel.mean_over_devices

    def forgetful(trees):
        metrics, grads = trees
        mean, means = original(trees)
        return mean, means | {name: grads[name]}

    monkeypatch.setattr(parallel, "mean_over_devices", forgetful)
    *_, (state, _) = walk(steps, make_cyclegan(cyclegan=SMALL | {"pool_size": 0}), noise(), mesh_of(2), 1)
    assert {net: replicas_agree(getattr(state, net)) for net in NETWORKS} == {net: net != name for net in NETWORKS}


def test_discriminators_judge_what_they_are_shown_and_move_on_their_own_time_scale(
    make_cyclegan, simple_losses, monkeypatch
):
    """Each is shown one level for real and one for translated images, in place of both."""
    levels = {"real_a": 1.0, "fake_a": 0.5, "real_b": 3.0, "fake_b": 1.0}
    monkeypatch.setattr(steps, "_shown", lambda *args: jnp.full_like(args[-1], levels[args[-2]]))
    config = make_cyclegan(cyclegan=SMALL | {"pool_size": 0, "discriminator_lr_scale": 4.0})
    with cheaply_compiled():
        before = jax.device_get(jax.jit(lambda: steps.init(config, keys.root_key(0)))())
        ((after, metrics),) = walk(steps, config, noise(), mesh_of(1), 1)
    for name, expected in (("d_a", 1 - 0.5 / 2), ("d_b", 3 - 1 / 2)):
        weight = sum(np.sum(leaf**2) for leaf in jax.tree.leaves(getattr(before, name).params))
        np.testing.assert_allclose(metrics[name], expected * weight, rtol=1e-5)
    # And health is that of what was shown, and of translations, here copies.
    measured = {"gap_d_a": 0.5, "gap_d_b": 2, "correlation_a2b": 1, "diversity_b2a": 1}
    assert {name: float(metrics[name]) for name in measured} == pytest.approx(measured, rel=1e-4)
    for net in NETWORKS:  # Adam's first step is the rate itself, up or down
        leaves = (jax.tree.leaves(getattr(state, net).params) for state in (after, before))
        moved = max(np.abs(new - old).max() for new, old in zip(*leaves, strict=True))
        np.testing.assert_allclose(moved, config.optim.learning_rate * (4 if net in ("d_a", "d_b") else 1), rtol=1e-3)


def test_networks_begin_apart_and_averages_at_the_generators(make_cyclegan):
    state = jax.jit(lambda: steps.init(make_cyclegan(), keys.root_key(0)))()
    assert len({fingerprint.tree_digest(getattr(state, name).params) for name in NETWORKS}) == 4
    assert fingerprint.tree_digest(state.ema) == fingerprint.tree_digest(
        {"a2b": state.g_a2b.params, "b2a": state.g_b2a.params}
    )


def test_the_state_is_in_float32_whatever_jax_computes_in(make_cyclegan):
    def init():
        return jax.jit(lambda: steps.init(make_cyclegan(cyclegan={"spectral_norm": True}), keys.root_key(0)))()

    with jax.enable_x64(True):
        wide = jax.device_get(init())
    assert {leaf.dtype for leaf in jax.tree.leaves(wide)} == {np.dtype("float32"), np.dtype("int32")}
    assert fingerprint.tree_digest(wide) == fingerprint.tree_digest(jax.device_get(init()))


def test_the_average_follows_the_generators_with_its_decay(eight):
    config, ((first, *_), (second, *_), _) = eight
    decay = min(config.optim.ema_decay, 2 / 11)  # (1 + t) / (10 + t) with t = 1 step before
    for direction, net in (("a2b", second.g_a2b), ("b2a", second.g_b2a)):
        for old, new, mean in zip(
            *map(jax.tree.leaves, (first.ema[direction], net.params, second.ema[direction])), strict=True
        ):
            np.testing.assert_allclose(mean, decay * old + (1 - decay) * new, rtol=1e-6, atol=1e-9)


def test_every_network_has_an_optimiser_of_its_own_that_moves(eight):
    _, ((first, *_), _, (third, *_)) = eight
    for name in NETWORKS:
        before, after = getattr(first, name), getattr(third, name)
        assert int(after.opt_state.count) == 3
        kernels = [
            np.abs(a - b).max() for a, b in zip(*map(jax.tree.leaves, (before.params, after.params)), strict=True)
        ]
        assert min(kernels) > 0


def test_pools_fill_with_translations(eight):
    config, walked = eight
    assert [int(state.pool_a.num) for state, *_ in walked] == [8, 12, 12]
    state = walked[0][0]
    assert np.abs(state.pool_a.images[:8]).max() <= 1 and len(np.unique(state.pool_a.images[:8])) > 1000
    assert not state.pool_a.images[8:].any()
    assert fingerprint.tree_digest(state.pool_a) != fingerprint.tree_digest(state.pool_b)


def test_what_enters_the_losses_has_the_same_bits_on_any_number_of_devices(make_cyclegan, simple_losses, monkeypatch):
    """Cropped and mirrored images, dihedral elements, what the full pools return, noise on what is judged, places of
    the gradient penalty.

    Seen inside the compiled step; the simple losses translate an image into an exact copy of one of the other domain.
    """
    config = make_cyclegan(
        data={"flip": True, "load_size": (19, 19)}, cyclegan=SMALL | {"pool_size": 8, "instance_noise": 0.5},
        loss=losses.MISSION,
    )  # fmt: skip

    def inputs(num):
        seen = {"generators": set(), "discriminators": set()}

        def seeing(network, original, first):
            def see(*rows):
                seen[network].update(tuple(bytes(part) for part in row) for row in zip(*rows, strict=True))

            def record(config, *args):
                jax.debug.callback(see, *args[first : first + 3])
                return original(config, *args)

            return record

        with monkeypatch.context() as patch:
            patch.setattr(losses, "generator_terms", seeing("generators", losses.generator_terms, 2))
            patch.setattr(losses, "discriminator_loss", seeing("discriminators", losses.discriminator_loss, 1))
            list(walk(steps, config, noise((19, 19, 1)), mesh_of(num), 3))
        jax.effects_barrier()
        return seen

    one, two, eight = map(inputs, (1, 2, 8))
    assert len(one["generators"]) == 3 * 8 and len({element for *_, element in one["generators"]}) > 2
    assert len(one["discriminators"]) == 3 * 2 * 8
    assert two == one
    assert eight == one


def moments(state):
    """The first moments of all four optimisers: after one step, the gradients times a constant."""
    return jax.tree.leaves([getattr(state, name).opt_state.mu for name in NETWORKS])


def test_one_and_eight_devices_agree_in_float64(make_cyclegan, x64):
    """With what needs second derivatives and all that changes what discriminators see."""
    loss = dataclasses.replace(losses.MISSION, r1=1.0, label_smoothing=0.1)
    options = {"diff_augment": 1.0, "instance_noise": 0.2, "discriminator_lr_scale": 4.0}
    config = make_cyclegan(loss=loss, cyclegan=SMALL | {"output": "residual"} | options)
    (one, on_one), (eight, on_eight) = (
        next(walk(steps, config, noise(), mesh_of(num), 1, jnp.float64)) for num in (1, 8)
    )
    for name in on_one:
        np.testing.assert_allclose(on_one[name], on_eight[name], rtol=1e-8, atol=1e-12)
    for a, b in zip(moments(one), moments(eight), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-12)


def test_one_and_eight_devices_agree_in_float32(eight):
    config, ((on_eight, metrics, *_), *_) = eight
    on_one, metrics_on_one = next(walk(steps, config, noise(), mesh_of(1), 1))
    for name in ("total", "d_a", "d_b", "accuracy_d_a", "gap_d_b", "diversity_a2b", "correlation_b2a"):
        np.testing.assert_allclose(metrics_on_one[name], metrics[name], rtol=1e-5, atol=1e-6)
    total = np.sqrt(sum(np.sum(np.square(leaf)) for leaf in moments(on_one)))
    for a, b in zip(moments(on_one), moments(on_eight), strict=True):
        assert np.linalg.norm(a - b) <= 1e-5 * np.linalg.norm(a) + 1e-7 * total


def test_a_step_that_is_not_finite_in_any_one_network_changes_nothing_but_the_counters(make_cyclegan, simple_losses):
    """With the simple losses, a network's NaN enters its own loss and gradients alone."""
    config = make_cyclegan(cyclegan=SMALL)
    mesh = mesh_of(2)
    state = jax.device_get(jax.jit(lambda: steps.init(config, keys.root_key(0)))())
    state = state._replace(step=np.int32(1))
    step_fn = parallel.pmap(
        lambda state, batch: steps.train_step(config, state, batch, keys.root_key(1)),
        mesh, (parallel.REPLICATED, parallel.SPLIT), parallel.REPLICATED,
    )  # fmt: skip
    batch = parallel.shard_batch(mesh, batches.load(noise(), 0, 1, 8, slice(None)))
    for name in NETWORKS:
        net = getattr(state, name)
        poisoned = state._replace(
            **{name: net._replace(params=jax.tree.map(lambda x: x * np.float32(np.nan), net.params))}
        )
        after, metrics = jax.block_until_ready(step_fn(poisoned, batch))
        assert (int(after.step), int(after.skipped), int(metrics["skipped"])) == (2, 1, 1)
        assert fingerprint.tree_digest(after._replace(step=0, skipped=0)) == fingerprint.tree_digest(
            poisoned._replace(step=0, skipped=0)
        )
    after, _ = step_fn(state, batch)
    assert (int(after.step), int(after.skipped)) == (2, 0)
    assert fingerprint.tree_digest(after.pool_b) != fingerprint.tree_digest(state.pool_b)


def test_residual_generators_begin_as_the_identity_with_no_cycle_loss(make_cyclegan):
    config = make_cyclegan(cyclegan=SMALL | {"output": "residual"}, loss=losses.MISSION)
    state = jax.jit(lambda: steps.init(config, keys.root_key(0)))()
    images = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (2, 16, 16, 1)), jnp.float32)
    for direction in nets.DOMAINS:
        translate = jax.jit(
            lambda params, images, direction=direction: nets.generate(config, direction, params, images)
        )
        np.testing.assert_allclose(translate(state.ema[direction], images), images, atol=1e-6)
    generators = {"g_a2b": state.ema["a2b"], "g_b2a": state.ema["b2a"]}
    critics = {"d_a": state.d_a.params, "d_b": state.d_b.params}
    terms, _ = jax.jit(lambda g, d, x: losses.generator_terms(config, g, d, x, x, jnp.array([3, 6])))(
        generators, critics, images
    )
    for term in (terms.cycle_a, terms.cycle_b, terms.affine_a2b, terms.affine_b2a):
        np.testing.assert_array_equal(term, 0)


def test_bfloat16_keeps_state_and_losses_in_float32_and_near(eight, make_cyclegan):
    _, ((_, in_float32, *_), *_) = eight
    config = make_cyclegan(precision="bfloat16")
    with cheaply_compiled():
        state, metrics = next(walk(steps, config, noise(), mesh_of(1), 1))
    assert {leaf.dtype for leaf in jax.tree.leaves(state)} == {jnp.dtype("float32"), jnp.dtype("int32")}
    for name in ("total", "cycle_a", "identity_b", "d_a"):
        assert metrics[name].dtype == jnp.float32
        np.testing.assert_allclose(metrics[name], in_float32[name], rtol=0.03)


def test_runs_with_no_pool_and_spectral_norm_are_saved_and_resumed(make_cyclegan, tmp_path):
    changes = {"pool_size": 0, "spectral_norm": True, "discriminator": "pixel"}
    for name, values in zip(("trainA", "trainB", "testA", "testB"), (6, 7, 2, 3), strict=True):
        write_noise(tmp_path / "images" / name, values)
    data = {"source": f"folder:{tmp_path / 'images'}", "cache_dir": str(tmp_path / "cache")}

    def run(num_steps):
        return make_cyclegan(
            data=data, cyclegan=SMALL | changes, loss={"adversarial": "hinge"},
            train={"num_steps": num_steps, "eval_every": 2, "checkpoint_every": 2},
        )  # fmt: skip

    with cheaply_compiled():
        assert loop.fit(cyclegan.TASK, run(2)).resumed_from == 0
        assert loop.fit(cyclegan.TASK, run(4)).resumed_from == 2
    rows = read_rows(tmp_path / "run" / "metrics.jsonl")
    assert len(rows) == 4 and all(row["flags"] == {} for row in rows)


def test_spectral_normalisation_turns_its_vectors_and_bounds_the_discriminators(make_cyclegan):
    config = make_cyclegan(cyclegan=SMALL | {"spectral_norm": True}, optim={"learning_rate": 1e-5})
    with cheaply_compiled():
        first, *_, (state, _) = (jax.device_get(pair) for pair in walk(steps, config, noise(), mesh_of(1), 12))
    assert fingerprint.tree_digest(first[0].spectral) != fingerprint.tree_digest(state.spectral)
    for name in ("d_a", "d_b"):
        normalised, _ = nets.spectral_normalise(getattr(state, name).params, state.spectral[name])
        for layer in normalised.values():
            largest = np.linalg.svd(np.reshape(layer["kernel"], (-1, layer["kernel"].shape[-1])), compute_uv=False)[0]
            assert largest == pytest.approx(1, abs=0.05)


# Scores and pictures.


@pytest.fixture(scope="module")
def identity():
    """A residual CycleGAN that has not moved yet: every translation is its input."""
    from tiny import tiny_cyclegan

    config = tiny_cyclegan("unused", cyclegan=SMALL | {"output": "residual"}, data={"paired": True})
    return config, jax.jit(lambda: steps.init(config, keys.root_key(0)))()


def scored(config, state, a, b):
    batch = batches.Batch((jnp.asarray(a), jnp.asarray(b)), jnp.arange(len(a)))
    return jax.jit(lambda state, batch: steps.eval_step(config, state, batch, keys.root_key(0)))(state, batch)


def test_scores_of_the_identity_are_those_of_copying(identity):
    config, state = identity
    a, b = noise(num=(4, 4))
    of_a, of_b = scored(config, state, a, b)
    difference = np.abs(a / 255 - b / 255).mean((1, 2, 3))
    for found in (of_a["l1_a2b"], of_a["l1_copy"], of_b["l1_b2a"]):
        np.testing.assert_allclose(found, difference, rtol=1e-5)
    for name in ("cycle_a2b", "change_a2b"):
        np.testing.assert_allclose(of_a[name], 0, atol=1e-6)
    np.testing.assert_allclose(of_b["correlation_b2a"], 1, rtol=1e-5)
    np.testing.assert_allclose(of_a["ink_both_copy"], ((a < 128) & (b < 128))[..., 0].mean((1, 2)), rtol=1e-6)
    np.testing.assert_allclose(of_a["ink_either_copy"], ((a < 128) | (b < 128))[..., 0].mean((1, 2)), rtol=1e-6)


def test_ink_is_compared_over_all_images_together():
    means = {"l1_a2b": 0.1, "ink_both_a2b": 0.2, "ink_either_a2b": 0.8, "ink_both_copy": 0.3, "ink_either_copy": 0.4}
    assert steps.figures(means) == pytest.approx({"l1_a2b": 0.1, "iou_a2b": 0.25, "iou_copy": 0.75})
    assert steps.figures({"ink_both_a2b": 0.0, "ink_either_a2b": 0.0}) == {"iou_a2b": 1.0}  # no ink in either


def test_scores_without_pairs_leave_the_truth_out(identity):
    config, state = identity
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, paired=False))
    unpaired = scored(config, state, *noise(num=(4, 4)))
    assert [set(scores) for scores in unpaired] == [
        {f"{name}_{direction}" for name in ("cycle", "probe", "correlation", "inverted", "change")}
        for direction in nets.DOMAINS
    ]
    assert all((scores[f"inverted_{of}"] == 0).all() for scores, of in zip(unpaired, nets.DOMAINS, strict=True))
    assert steps.score({"cycle_a2b": 0.1}) is None
    assert steps.score({"l1_a2b": 0.1, "l1_b2a": 0.3}) == pytest.approx(0.2)


@pytest.mark.parametrize(("size", "elements"), [((16, 16), {1, 2, 3, 4, 5, 6, 7}), ((16, 32), {2, 4, 6})])
def test_affine_consistency_is_about_every_transform_but_the_identity(make_cyclegan, size, elements):
    config = make_cyclegan(data={"image_size": size})
    drawn = steps._elements(config, keys.per_example(keys.root_key(0), jnp.arange(500)))
    assert set(np.asarray(drawn).tolist()) == elements


def test_generators_are_judged_by_what_discriminators_would_be_shown(make_cyclegan, monkeypatch):
    def terms(*arguments, original=losses.generator_terms):
        a, show = arguments[3], arguments[-1]
        altered.append(show("fooled_a", a) is not a)
        return original(*arguments)

    monkeypatch.setattr(losses, "generator_terms", terms)
    for strength in (0.0, 1.0):
        altered = []
        config = make_cyclegan(cyclegan=SMALL | {"diff_augment": strength})
        with cheaply_compiled():
            next(walk(steps, config, noise(), mesh_of(1), 1))
        assert altered and set(altered) == {strength > 0}


def test_pictures_show_input_translation_cycle_and_truth_side_by_side(identity):
    config, state = identity
    a, b = noise(num=(4, 4))
    batch = batches.Batch((jnp.asarray(a), jnp.asarray(b)), jnp.arange(4))
    pictures = jax.jit(lambda state, batch: steps.visualize(config, state, batch, keys.root_key(0)))(state, batch)
    for name, (images, truth) in {"a2b": (a, b), "b2a": (b, a)}.items():
        found = pictures[f"{name}_input_translation_cycle_truth"]
        np.testing.assert_allclose(found, np.concatenate([images] * 3 + [truth], axis=2) / 255, atol=1e-6)


def test_evaluation_uses_the_averaged_generators(identity):
    config, state = identity
    a, b = noise(num=(4, 4))
    broken = state._replace(**{name: jax.tree.map(lambda x: x * jnp.nan, getattr(state, name)) for name in NETWORKS})
    assert fingerprint.tree_digest(scored(config, broken, a, b)) == fingerprint.tree_digest(scored(config, state, a, b))
