"""The journal: what is written is there after a restart, whatever it holds."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from figfs.writing.journal import SCHEMA_VERSION, Upload, open_journal

ids = st.one_of(st.integers(0, 2**62), st.text(min_size=1, max_size=20))
texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=30)
uploads = st.builds(
    Upload,
    row=st.just(0),
    article_id=ids,
    folder=texts,
    name=texts,
    size=st.integers(0, 2**60),
    md5=texts,
    spool_name=texts,
    mode=st.none() | st.integers(0, 0o7777),
    mtime_ns=st.none() | st.integers(-(2**62), 2**62),
    file_id=st.none() | ids,
    replaces=st.dictionaries(ids, ids, max_size=3),
    parked=texts,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
@given(st.lists(uploads, max_size=4))
def test_rows_survive_a_restart(tmp_path: Path, rows: list[Upload]) -> None:
    """All fields, with the types of their ids, in the order they were added."""
    path = tmp_path / "journal.db"
    with open_journal(path) as journal:
        for old in journal.rows():
            journal.remove(old)
        for upload in rows:
            journal.add(upload)
        assert len({upload.row for upload in rows}) == len(rows)
    with open_journal(path) as journal:
        assert journal.rows() == rows


def test_update_and_remove(tmp_path: Path) -> None:
    """Another process that opens the file sees each change as soon as the method has returned."""
    path = tmp_path / "journal.db"
    first = Upload(row=0, article_id=1, folder="", name="a", size=1, md5="x", spool_name="1")
    second = Upload(row=0, article_id=1, folder="", name="b", size=1, md5="x", spool_name="2")
    with open_journal(path) as journal, open_journal(path) as other:
        journal.add(first)
        journal.add(second)
        first.file_id, first.replaces = 7, {3: 1}
        journal.update(first)
        assert other.rows() == [first, second]
        journal.remove(second)
        assert other.rows() == [first]


def test_row_numbers_are_not_used_again(tmp_path: Path) -> None:
    """A removed row's number never means another upload."""
    with open_journal(tmp_path / "journal.db") as journal:
        upload = Upload(row=0, article_id=1, folder="", name="a", size=1, md5="x", spool_name="1")
        number = journal.add(upload).row
        journal.remove(upload)
        assert journal.add(upload).row > number


def test_a_newer_journal_is_refused(tmp_path: Path) -> None:
    """An older figfs does not touch what it cannot understand."""
    path = tmp_path / "journal.db"
    with open_journal(path):
        pass
    database = sqlite3.connect(path)
    database.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    database.close()
    with pytest.raises(ValueError, match="newer"), open_journal(path):
        pass
