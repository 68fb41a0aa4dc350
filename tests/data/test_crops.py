"""Images that are crops of pictures: at the centre, or at places that words of Philox choose."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from genjax.data import batches, crops
from genjax.data.crops import Crops
from genjax.keys import Stream


def placed(height, width, number=0):
    """A picture whose pixels say where they are, and which picture it is."""
    rows, columns = np.indices((height, width))
    return np.stack([rows, columns, np.full_like(rows, number)], -1).astype(np.uint8)


SIZES = [(8, 9), (6, 4), (20, 5), (7, 30)]
PICTURES = [placed(*size, number) for number, size in enumerate(SIZES)]
CROPS = crops.of_list(PICTURES, (6, 4))


def words(*shares):
    return (np.array(shares, np.float64) * 2.0**64).astype(np.uint64)


def corners(images):
    """The place [b, 2] of each crop of a placed picture; checks that the rest follows."""
    rows, columns = np.indices(images.shape[1:3])
    np.testing.assert_array_equal(images[..., 0], images[:, :1, :1, 0] + rows)
    np.testing.assert_array_equal(images[..., 1], images[:, :1, :1, 1] + columns)
    return images[:, 0, 0, :2]


def test_at_takes_every_place_equally_often():
    drawn = batches.crop_words(0, Stream.CROP_FIRST, 0, 3600)
    for row, (height, width) in enumerate(SIZES):
        count = np.zeros((height - 6 + 1, width - 4 + 1), int)
        np.add.at(count, tuple(corners(CROPS.at([row] * 3600, drawn)).T), 1)  # raises for a place beyond the last
        expected = 3600 / count.size
        freedom = count.size - 1
        assert ((count - expected) ** 2 / expected).sum() <= freedom + 4 * np.sqrt(2 * freedom)


def test_at_reaches_the_edges_of_each_picture():
    ends = np.array([[0, 0], [2**64 - 1] * 2], np.uint64)
    for row, (height, width) in enumerate(SIZES):
        found = CROPS.at([row, row], ends)
        assert corners(found).tolist() == [[0, 0], [height - 6, width - 4]]
        assert (found[..., 2] == row).all()


def test_indexing_crops_the_centre_as_an_array():
    whole = CROPS[:]
    assert whole.shape == CROPS.shape == (4, 6, 4, 3) and whole.dtype == CROPS.dtype
    assert corners(whole).tolist() == [[(height - 6) // 2, (width - 4) // 2] for height, width in SIZES]
    for rows in (slice(1, 3), np.array([3, 0, 0]), [2], 1, np.array([], int), -1, np.array([[0, 1], [2, 3]])):
        np.testing.assert_array_equal(CROPS[rows], whole[rows])
    with pytest.raises(IndexError):
        CROPS[4]


def test_at_gives_the_same_with_threads():
    together = threading.Barrier(4)

    def slowly(i):
        together.wait(10)  # broken if one thread calls after another
        return PICTURES[i]

    with ThreadPoolExecutor(4) as threads:
        found = Crops(CROPS.shape, CROPS.dtype, slowly, threads)[:]
    np.testing.assert_array_equal(found, CROPS[:])


def test_describe_changes_with_pixels_and_sizes():
    described = CROPS.describe()
    changed = [picture.copy() for picture in PICTURES]
    changed[3][6, 29] ^= 1  # outside all centres
    turned = [PICTURES[0].reshape(9, 8, 3), *PICTURES[1:]]
    digests = {str(crops.of_list(pictures, (6, 4)).describe()) for pictures in (PICTURES, changed, turned)}
    assert len(digests) == 3 and str(described) in digests and set(described) == {"sha256"}


def test_describe_decodes_nothing_if_files_are_known():
    on_demand = Crops(CROPS.shape, CROPS.dtype, lambda i: 1 / 0, None, "abc")
    assert on_demand.describe() == {"files_sha256": "abc"}


# Words, and batches of crops.


def test_crop_words_golden():
    # Seeds name these places in published results: no change may alter them (NEP 19 freezes Philox's raw words).
    found = batches.crop_words(0, Stream.CROP_FIRST, 0, 3) >> np.uint64(32)
    assert [crops.place(word, 30) for word in found.ravel()] == [25, 27, 6, 13, 19, 7]


def test_crop_words_follow_seed_stream_step_and_position():
    whole = batches.crop_words(0, Stream.CROP_FIRST, 0, 64)
    np.testing.assert_array_equal(batches.crop_words(0, Stream.CROP_FIRST, 0, 7), whole[:7])  # of any batch size
    for other in ((1, Stream.CROP_FIRST, 0), (0, Stream.CROP_SECOND, 0), (0, Stream.CROP_FIRST, 1)):
        assert not np.isin(batches.crop_words(*other, 64), whole).any()
    assert len(np.unique(whole)) == whole.size


@pytest.mark.parametrize("parts", [2, 4])
def test_load_parts_make_up_the_batch_of_crops(parts):
    source = (CROPS, crops.of_list(PICTURES[::-1], (6, 4)))
    whole, size = batches.load(source, 5, 2, 8, slice(None)), 8 // parts
    split = [batches.load(source, 5, 2, 8, slice(i * size, (i + 1) * size)) for i in range(parts)]
    for domain in (0, 1):
        np.testing.assert_array_equal(np.concatenate([part.images[domain] for part in split]), whole.images[domain])
        assert whole.images[domain].shape == (8, 6, 4, 3)
    assert corners(whole.images[0]).tolist() != corners(whole.images[1]).tolist()


def test_load_refuses_pairs_of_different_sizes():
    source = (CROPS, crops.of_list([*PICTURES[:3], placed(8, 30)], (6, 4)))
    with pytest.raises(ValueError, match="--data.train-pairs .* are 7x30 and 8x30 .* give --data.resize stretch"):
        batches.load(source, 0, 0, 4, slice(None), pairs=True)
    batches.load((CROPS, CROPS), 0, 0, 4, slice(None), pairs=True)


def test_load_crops_anew_in_each_epoch():
    seen = {
        tuple(corner)
        for step in range(300)
        for corner in corners(batches.load((CROPS,), 0, step, 4, slice(None)).images[0])
    }
    assert {left for _, left in seen} == set(range(30 - 4 + 1))  # the outer parts of the wide picture too


def test_load_reads_its_own_rows_alone():
    read = []
    source = (Crops(CROPS.shape, CROPS.dtype, lambda i: read.append(int(i)) or PICTURES[i]),)
    batches.load(source, 3, 1, 4, slice(1, 3))
    assert read == batches.indices(3, Stream.SHUFFLE_FIRST, 1, 4, 4)[1:3].tolist()
    read.clear()
    (batch,) = batches.eval_batches(source, 4, slice(2, 4))
    assert read == [2, 3]
    np.testing.assert_array_equal(batch.images[0], CROPS[2:4])


def test_load_crops_pairs_alike():
    source = (CROPS, crops.of_list([255 - picture for picture in PICTURES], (6, 4)))
    first, second = batches.load(source, 5, 2, 8, slice(None), pairs=True).images
    np.testing.assert_array_equal(first, 255 - second)
