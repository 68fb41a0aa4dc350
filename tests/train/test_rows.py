import logging
import os

import pytest

from genjax import files
from genjax.train.rows import Extent, RowFile, read_covered, read_rows


@pytest.fixture
def path(tmp_path):
    return files.resolve(tmp_path / "rows.jsonl")


def append(path, steps, covered=None):
    """Appends rows to those that are covered; returns the extent of all."""
    file = RowFile(path, read_covered(path, covered or Extent()), active=True)
    for step in steps:
        file.append({"step": step, "x": step / 3})
    file.flush()
    return file.extent


def test_row_file_cuts_off_uncovered_rows(path):
    whole = append(path, range(5))
    expected = path.read_bytes()
    covered = append(path, range(3))
    append(path, [7, 8], covered)
    assert [row["step"] for row in read_rows(path)] == [0, 1, 2, 7, 8]
    for torn in (b'{"step": 9', b'{"step": 9, "x": 3.0}\nno row'):  # after the checkpoint anything may be
        path.write_bytes(b"".join(expected.splitlines(keepends=True)[:3]) + torn)
        assert append(path, [3, 4], covered) == whole and path.read_bytes() == expected


def test_row_file_leaves_covered_rows_until_a_flush(path):
    covered = append(path, range(3))
    append(path, [3], covered)
    before = path.read_bytes()
    RowFile(path, read_covered(path, covered), active=True).append({"step": 9})
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda lines: lines[:2], "it holds 2 of the 4 rows"),
        (lambda lines: [*lines[:3], lines[3][:-9]], "it holds 3 of the 4 rows"),
        (lambda lines: lines[1:], "it holds 3 of the 4 rows"),
        (lambda lines: [], "it holds 0 of the 4 rows"),
        (lambda lines: [lines[0].replace(b"0.0", b"0.1"), *lines[1:]], "it differs .by its SHA-256. from the 4 rows"),
        (lambda lines: [*lines[1:], b'{"step": 4}\n'], "it differs .by its SHA-256. from the 4 rows"),
    ],
)
def test_read_covered_names_missing_rows(path, damage, said):
    covered = append(path, range(4))
    lines = path.read_bytes().splitlines(keepends=True)
    assert read_covered(path, covered) == lines
    path.write_bytes(b"".join(damage(lines)))
    with pytest.raises(ValueError, match=f"{path} is damaged, {said} up to the checkpoint: restore it from a backup"):
        read_covered(path, covered)


def test_read_covered_warns_of_a_removed_file(path, caplog):
    covered = append(path, range(4))
    path.unlink()
    with caplog.at_level(logging.WARNING):
        assert read_covered(path, covered) == []
    assert caplog.messages == [f"{path} is gone, so rows 1 to 4, up to the checkpoint, are lost"]
    append(path, [], covered)
    assert not path.exists()  # an empty file would be refused next time
    caplog.clear()
    assert read_covered(path, Extent()) == [] and not caplog.messages


def test_row_file_appends_and_never_rewrites(path):
    """A long run must not write quadratically."""
    file = RowFile(path, [], active=True)
    file.append({"step": 1})
    file.flush()
    inode = os.stat(path).st_ino
    path.write_bytes(b"")  # were the file written again, the row would come back
    file.append({"step": 2})
    file.flush()
    assert path.read_text() == '{"step": 2}\n' and os.stat(path).st_ino == inode


def test_row_file_syncs_earlier_rows_too(path, monkeypatch):
    """Rows written without `sync` have to be on the disk before a checkpoint that covers them."""
    synced = []
    monkeypatch.setattr("genjax.train.rows.os.fsync", lambda _: synced.append(path.read_text()))
    file = RowFile(path, [], active=True)
    file.append({"step": 1})
    file.flush(sync=False)
    assert path.read_text() == '{"step": 1}\n' and not synced
    file.flush()
    assert synced == ['{"step": 1}\n']


def test_row_file_mends_a_flush_that_failed(path, monkeypatch):
    """A full disk takes a part of what is written."""
    covered = append(path, [1])
    file = RowFile(path, read_covered(path, covered), active=True)
    file.append({"step": 2, "x": 2.0})
    with monkeypatch.context() as patch:
        patch.setattr("genjax.train.rows.os.fsync", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            file.flush()
    with open(path, "ab") as torn:
        torn.truncate(torn.tell() - 9)
    file.append({"step": 3})
    file.flush()
    assert [row["step"] for row in read_rows(path)] == [1, 2, 3]
    assert len(read_covered(path, file.extent)) == 3


def test_read_rows_leaves_out_torn_lines(path):
    whole = b'{"step": 1, "x": 1.0}\n{"step": 2, "x": 2.0}\n'
    for cut in range(1, len(whole)):
        path.write_bytes(whole[:cut])
        assert [row["step"] for row in read_rows(path)] == [1, 2][: whole[:cut].count(b"\n")]


@pytest.mark.parametrize("line", ["3", "[]", "{}", "{"])
def test_read_rows_names_damaged_files(path, line):
    path.write_text(f'{{"step": 1}}\n{line}\n')
    with pytest.raises(ValueError, match=f"{path} is damaged, its line .* (has no step|is no JSON)"):
        list(read_rows(path))
