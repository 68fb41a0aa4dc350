import dataclasses

import jax
import pytest

import configs
from benchmarks import scaling
from benchmarks.scaling import Paper, Step, communicate, efficiency
from genjax import cyclegan, keys, parallel, vae

pytestmark = pytest.mark.slow

INSTANT = Paper(link=1e9, hop=0.0, network=1e8, network_hop=0.0)


def step(reduced=0.0, gathered=0.0, reductions=1, gathers=0, fixed_flops=0.0, image_flops=1e12):
    return Step(reduced, gathered, reductions, gathers, fixed_flops, image_flops)


@pytest.mark.parametrize("chips", [2, 8, 32, 256])
def test_communicate_sends_bytes_around_rings(chips):
    share = (chips - 1) / chips
    assert communicate(INSTANT, step(reduced=9e9), chips, 1) == pytest.approx(2 * share * 9)
    assert communicate(INSTANT, step(gathered=9e6), chips, 1000) == pytest.approx(share * 9)
    assert communicate(INSTANT, step(reduced=2e6), chips, 1) == 2 * communicate(INSTANT, step(reduced=1e6), chips, 1)


@pytest.mark.parametrize("chips, hops", [(1, 0), (2, 1), (8, 4), (16, 6), (128, 22), (256, 30)])
def test_communicate_counts_hops_along_both_axes(chips, hops):
    assert communicate(Paper(hop=1.0), step(), chips, 1) == 2 * hops
    assert communicate(Paper(hop=1.0), step(reductions=1, gathers=3), chips, 1) == 5 * hops


def test_communicate_exchanges_shares_between_slices():
    one, two = (communicate(INSTANT, step(reduced=256e6), chips, 1) for chips in (256, 512))
    assert two - one == pytest.approx(2 * 0.5 * 1e6 / 1e8)


def test_efficiency_of_one_chip_is_one():
    chip = Paper(peak=1e12, utilisation=1.0, link=1e9, hop=0.0)
    heavy = step(reduced=1e9, fixed_flops=1e12)
    assert efficiency(chip, heavy, 1, 5) == (1.0, 1.0)
    # Two chips: 1 s whatever the batch and 1 s for the image, then 1 s for the ring; alone, both images take 3 s.
    assert efficiency(chip, heavy, 2, 2) == pytest.approx((2 / 3, 3 / 2 / 3))


def params(state):
    """Numbers in all networks that train."""
    nets = [value.params for value in state._asdict().values() if hasattr(value, "params")]
    return sum(leaf.size for leaf in jax.tree.leaves(nets))


def test_read_finds_the_vaes_all_reduce(make_run):
    run = make_run()
    found = scaling.read(run, parallel.make_mesh())
    scalars = found.reduced / 4 - params(jax.eval_shape(lambda: vae.TASK.init(run, keys.root_key(0))))
    assert 0 < scalars <= 16
    assert (found.gathered, found.gathers) == (0, 0)
    assert found.image_flops > 6 * 16 * (64 + 8 + 4 + 64)  # forward and backward through all of its matrices


def test_collectives_of_cyclegan_include_the_pools_gather(make_cyclegan):
    # The least that has all collectives, as it takes long to compile.
    run = make_cyclegan(
        cyclegan={"num_blocks": 0, "discriminator": "pixel"}, loss={"identity_a": 0.0, "identity_b": 0.0}
    )
    found = scaling.collectives(scaling.traced(run, parallel.make_mesh()).lower().compile().as_text())
    scalars = found["all-reduce"][1] / 4 - params(jax.eval_shape(lambda: cyclegan.TASK.init(run, keys.root_key(0))))
    assert 0 < scalars <= 32
    images = 8 * 2 * 16 * 16 * 4
    assert images <= found["all-gather"][1] <= images + 8 * 2 * 4  # and their positions


def test_time_steps_times_the_named_configuration(monkeypatch, make_run):
    timed = []

    def compiled(config, mesh):
        timed.append(config)
        return traced(config, mesh)

    traced = scaling.traced
    monkeypatch.setattr(scaling, "traced", compiled)
    monkeypatch.setitem(configs.CONFIGS["vae"], "tiny", make_run)
    assert scaling.time_steps("vae:tiny", 24, steps=1) > 0
    assert [(config.vae.hidden_sizes, config.data.batch_size) for config in timed] == [((16,), 24)]


def test_with_batch_enlarges_a_small_pool(make_cyclegan):
    run = make_cyclegan()
    assert scaling.with_batch(run, 8).cyclegan.pool_size == 12
    assert scaling.with_batch(run, 64).cyclegan.pool_size == 64
    without = dataclasses.replace(run, cyclegan=dataclasses.replace(run.cyclegan, pool_size=0))
    assert scaling.with_batch(without, 64).cyclegan.pool_size == 0


def test_collectives_read_tuples_and_single_results():
    program = """
    %all-reduce.1 = (f32[2,3]{1,0}, /*index=1*/f32[]) all-reduce(%a, %b), channel_id=1, to_apply=%sum
    ROOT %all_gather.2 = s32[8]{0} all-gather(%c), channel_id=1, dimensions={0}
    %all-gather.3 = bf16[4,2]{1,0} all-gather-start(%d), channel_id=2
    %fusion = f32[9]{0} fusion(%all-reduce.1)
    """
    assert scaling.collectives(program) == {"all-reduce": (1, 28), "all-gather": (2, 48)}
