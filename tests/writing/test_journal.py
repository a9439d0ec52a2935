"""The journal: what is written is there after a restart, whatever it holds; which state may follow which."""

from __future__ import annotations

import itertools
import json
import sqlite3
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from figfs.writing.journal import (
    SCHEMA_VERSION,
    TRANSITIONS,
    Deletion,
    State,
    Upload,
    open_journal,
    read_journal,
)

ids = st.one_of(st.integers(0, 2**62), st.text(min_size=1, max_size=20))
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
times = st.floats(0, 2e9)
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
    state=st.sampled_from(State),
    reason=texts,
    due=times,
    source=st.none() | ids,
    source_article=st.none() | ids,
    source_folder=texts,
    source_name=texts,
)
deletions = st.builds(
    Deletion,
    row=st.just(0),
    article_id=ids,
    file_id=ids,
    due=times,
    name=texts,
    folder=texts,
    state=st.sampled_from([State.WAITING, State.OWED, State.PARKED]),
    reason=texts,
)


def upload_called(name: str) -> Upload:
    return Upload(row=0, article_id=1, folder="", name=name, size=1, md5="x", spool_name="1")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
@given(st.lists(uploads | deletions, max_size=5))
def test_rows_survive_a_restart(tmp_path: Path, rows: list[Upload | Deletion]) -> None:
    """All fields, with the types of their ids, in the order they were added; also for a reader beside it."""
    path = tmp_path / "journal.db"
    with open_journal(path) as journal:
        for upload in journal.uploads():
            journal.remove(upload)
        for deletion in journal.deletions():
            journal.remove(deletion)
        for row in rows:
            if isinstance(row, Upload):
                assert journal.add(row) is row
            else:
                assert journal.add_deletion(row) is row
            assert row.made_at > 1.6e9
        assert len({row.row for row in rows}) == len(rows)
    owed = (
        [row for row in rows if isinstance(row, Upload)],
        [row for row in rows if isinstance(row, Deletion)],
    )
    with open_journal(path) as journal:
        assert (journal.uploads(), journal.deletions()) == owed
        assert read_journal(path) == owed
    assert read_journal(path) == owed


def test_update_and_remove(tmp_path: Path) -> None:
    """Another process that opens the file sees each change as soon as the method has returned."""
    path = tmp_path / "journal.db"
    first, second = upload_called("a"), upload_called("b")
    with open_journal(path) as journal, open_journal(path) as other:
        journal.add(first)
        journal.add(second)
        first.replaces = {3: 1}
        journal.update(first)
        assert other.uploads() == [first, second]
        journal.remove(second)
        assert other.uploads() == [first]
        journal.remove(second)  # again: no error


def test_row_numbers_are_not_used_again(tmp_path: Path) -> None:
    """A removed row's number never means another row, upload or deletion."""
    with open_journal(tmp_path / "journal.db") as journal:
        upload = upload_called("a")
        number = journal.add(upload).row
        journal.remove(upload)
        deletion = journal.add_deletion(Deletion(row=0, article_id=1, file_id=2))
        assert deletion.row > number
        assert journal.add(upload).row > deletion.row


# -- states ------------------------------------------------------------


@pytest.mark.parametrize(("before", "after"), list(itertools.product(State, State)))
def test_a_state_follows_another_as_the_table_says(tmp_path: Path, before: State, after: State) -> None:
    """Else ``ValueError``, and nothing has changed, in memory or on the disk."""
    path = tmp_path / "journal.db"
    with open_journal(path) as journal:
        upload = upload_called("a")
        upload.state, upload.reason = before, "because"
        journal.add(upload)
        if after in TRANSITIONS[before]:
            journal.advance(upload, after, file_id=7)
            assert (upload.state, upload.file_id) == (after, 7)
            assert upload.reason == ("because" if after is State.PARKED else "")
        else:
            with pytest.raises(ValueError, match="cannot become"):
                journal.advance(upload, after, file_id=7)
            assert (upload.state, upload.file_id) == (before, None)
        assert read_journal(path)[0] == [upload]


def test_every_state_can_be_reached_and_left() -> None:
    """A row that nobody can bring on would stay for ever."""
    reachable = {State.WAITING, State.OWED}
    for _ in State:
        reachable |= {after for before in reachable for after in TRANSITIONS[before]}
    assert reachable == set(State) == set(TRANSITIONS)
    assert all(TRANSITIONS[state] for state in State)


def test_a_change_that_the_disk_does_not_take_is_not_made(tmp_path: Path) -> None:
    """The row in memory says what the disk says."""
    path = tmp_path / "journal.db"
    with open_journal(path) as journal:
        upload = journal.add(upload_called("a"))
        with open_journal(path) as other, other.transaction():
            journal._database.execute("PRAGMA busy_timeout = 0")
            with pytest.raises(OSError, match="locked"):
                journal.advance(upload, State.ANNOUNCED, file_id=7)
        assert (upload.state, upload.file_id) == (State.OWED, None)
        journal.advance(upload, State.ANNOUNCED, file_id=7)


# -- transactions ------------------------------------------------------------


def test_a_transaction_is_seen_whole_or_not_at_all(tmp_path: Path) -> None:
    """Nested ones end with the outermost; an exception takes all of it back."""
    path = tmp_path / "journal.db"
    with open_journal(path) as journal:
        deletion = journal.add_deletion(Deletion(row=0, article_id=1, file_id=2))
        with journal.transaction():
            journal.add(upload_called("a"))
            with journal.transaction():
                journal.remove(deletion)
            assert read_journal(path) == ([], [deletion])
        assert [row.name for row in read_journal(path)[0]] == ["a"]
        assert read_journal(path)[1] == []

        def fail_halfway() -> None:
            with journal.transaction():
                journal.add(upload_called("b"))
                raise KeyError

        with pytest.raises(KeyError):
            fail_halfway()
        assert [row.name for row in read_journal(path)[0]] == ["a"]
        journal.add(upload_called("c"))
        assert [row.name for row in journal.uploads()] == ["a", "c"]


# -- versions ------------------------------------------------------------


def test_version_1_is_taken_over(tmp_path: Path) -> None:
    """All rows, each in the state it was in; also by a reader, who changes nothing."""
    path = tmp_path / "journal.db"
    common = {
        "article_id": 1,
        "folder": "",
        "size": 1,
        "md5": "x",
        "spool_name": "1",
        "mode": None,
        "mtime_ns": 5,
    }
    bodies = [
        {"name": "owed", "file_id": None, "replaces": [[3, 1]], "sent": False, "parked": "", **common},
        {"name": "announced", "file_id": 9, "replaces": [], "sent": False, "parked": "", **common},
        {"name": "sent", "file_id": 9, "replaces": [], "sent": True, "parked": "", **common},
        {"name": "parked", "file_id": None, "replaces": [], "sent": False, "parked": "quota", **common},
    ]
    database = sqlite3.connect(path)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute(
        "CREATE TABLE uploads"
        " (row INTEGER PRIMARY KEY AUTOINCREMENT, made_at REAL NOT NULL, body TEXT NOT NULL)"
    )
    for body in bodies:
        database.execute("INSERT INTO uploads (made_at, body) VALUES (1.5, ?)", (json.dumps(body),))
    database.execute("DELETE FROM uploads WHERE row = 4")
    database.execute("INSERT INTO uploads (made_at, body) VALUES (2.5, ?)", (json.dumps(bodies[3]),))
    database.execute("PRAGMA user_version = 1")
    database.commit()
    database.close()

    def check(found: list[Upload]) -> None:
        assert [(row.row, row.name, row.state) for row in found] == [
            (1, "owed", State.OWED),
            (2, "announced", State.ANNOUNCED),
            (3, "sent", State.SENT),
            (5, "parked", State.PARKED),
        ]
        assert found[0].replaces == {3: 1}
        assert (found[3].reason, found[3].parked, found[3].made_at) == ("quota", "quota", 2.5)
        assert all(row.mtime_ns == 5 and row.source is None for row in found)

    check(read_journal(path)[0])
    with open_journal(path) as journal:
        check(journal.uploads())
        assert journal.add(upload_called("new")).row == 6
    with open_journal(path) as journal:
        assert len(journal.uploads()) == 5


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
    with pytest.raises(ValueError, match="newer"):
        read_journal(path)


def test_no_journal_owes_nothing(tmp_path: Path) -> None:
    """And none is made by looking."""
    assert read_journal(tmp_path / "journal.db") == ([], [])
    assert list(tmp_path.iterdir()) == []
