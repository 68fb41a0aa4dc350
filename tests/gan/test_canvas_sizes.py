import numpy as np
import pytest

from genjax.gan import canvas_sizes


def photographs(num, seed=0, low=200, high=801):
    return np.random.default_rng(seed).integers(low, high, (num, 2)) // 4 * 4


def check(sizes, groups):
    """Each picture is in one batch of pictures of equal size, on a canvas that holds it."""
    batches = [batch for group in groups for batch in group.batches]
    assert sorted(np.concatenate(batches)) == list(range(len(sizes)))
    for group in groups:
        for batch in group.batches:
            assert 0 < len(batch) <= group.batch and (sizes[batch] == sizes[batch[0]]).all()
            assert (sizes[batch] <= (group.rows, group.columns)).all()


@pytest.mark.parametrize("num", [1, 2, 30, 200, 1000])
def test_choose_makes_few_canvases_with_little_waste(num):
    sizes = photographs(num)
    groups = canvas_sizes.choose(sizes)
    check(sizes, groups)
    assert len(groups) <= 8
    computed = sum(group.columns * sizes[np.concatenate(group.batches), 0].sum() for group in groups)
    programs = canvas_sizes.PROGRAM_PIXELS * len(groups)
    assert computed + programs < 1.2 * sizes.prod(axis=1).sum() + 8 * canvas_sizes.PROGRAM_PIXELS


def test_choose_gives_one_size_its_exact_canvas():
    (group,) = canvas_sizes.choose(np.full((50, 2), 64))
    check(np.full((50, 2), 64), [group])
    assert (group.rows, group.columns) == (64, 64) and group.batch > 1
    (group,) = canvas_sizes.choose(np.full((3, 2), 4000))
    assert group.batch == 1


def test_choose_keeps_a_giant_apart():
    sizes = np.concatenate([photographs(100), [[20000, 400]]])
    groups = canvas_sizes.choose(sizes)
    check(sizes, groups)
    (giant,) = (group for group in groups if group.rows == 20000)
    assert len(giant.batches) == 1


def test_choose_compiles_one_program_for_small_pictures():
    sizes = photographs(60, low=16, high=64)
    groups = canvas_sizes.choose(sizes)
    check(sizes, groups)
    assert len(groups) == 1


def test_choose_takes_no_pictures():
    assert canvas_sizes.choose(np.empty((0, 2), int)) == []


def test_one_for_each_size_groups_equal_sizes():
    sizes = np.array([[8, 4], [4, 8], [8, 4]])
    groups = canvas_sizes.one_for_each_size(sizes)
    check(sizes, groups)
    assert [(group.rows, group.columns, len(group.batches)) for group in groups] == [(4, 8, 1), (8, 4, 2)]
