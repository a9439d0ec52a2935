"""What the model has found, as short lists of operations."""

from __future__ import annotations

from elsewhere import Retitle
from onemount import run
from operations import (
    Append,
    Check,
    Close,
    Crash,
    Create,
    Flush,
    Kill,
    Mkdir,
    NetworkDown,
    OpenFile,
    Rename,
    Save,
    SetAttributes,
    Sleep,
    Unlink,
    Unmount,
    Write,
)

FOREVER = 1e3


def test_a_file_renamed_and_emptied_is_not_owed_for_ever() -> None:
    """An emptied file stays here; that it was renamed before must not be owed until the end of days."""
    run([Save("aaa/a", 100, FOREVER), Rename("aaa/a", "aaa/b.csv"), OpenFile("aaa/b.csv", 1, True, True)])


def test_an_empty_file_renamed_to_a_temporary_name_leaves_its_name() -> None:
    """The old name of an empty file does not come back with the next listing."""
    run([Create("aaa/a", 1), Check(), Rename("aaa/a", "aaa/.a.Xy12Zq")])


def test_a_crash_between_close_and_rename_makes_no_second_file_of_the_name() -> None:
    """rsync's temporary file, closed and not renamed yet, does not become `a [id]` beside `a`."""
    run([Save("aaa/a", 100, FOREVER), Save("aaa/.a.Xy12Zq", 200, FOREVER), Crash(False)])


def test_a_mount_ends_while_a_row_is_taken_over() -> None:
    """The end of the mount ends the settling of what an earlier mount has left; it turned round for ever."""
    run([Save("bbb/a", 1, 0.01), Crash(True), Crash(True)])


def test_a_close_does_not_wait_until_an_older_upload_is_taken_back() -> None:
    """Without a network, a close returns once its bytes are in the journal, whatever has to be taken back."""
    run(
        [
            NetworkDown(),
            Create("aaa/b.csv.part", 2),
            Save("aaa/b.csv.part", 2500, 0.0),
            Sleep(2.0),
            Rename("aaa/b.csv.part", "aaa/tmpab3d_x9z", 1),
            Write(0, 1000, 999),
            Flush(0),
        ]
    )


def test_an_empty_file_outlives_a_crash_at_its_close() -> None:
    """What a close has accepted is there after a crash, empty files too."""
    run([Unmount(60.0), Create("aaa/a", 1), Save("aaa/b.csv", 1, FOREVER), Close(0, FOREVER), Crash(False)])


def test_the_spool_file_of_a_temporary_name_goes_when_it_is_stored_after_a_restart() -> None:
    """What is stored under its final name, and still called otherwise, has no bytes here any more."""
    run([NetworkDown(), Save("aaa/.a.Xy12Zq", 1, FOREVER), Crash(False)])


def test_times_set_after_the_close_outlive_a_crash_before_the_upload() -> None:
    """``rsync -t`` sets times when the file is closed; it may take hours then until Figshare has it."""
    run([NetworkDown(), Save("aaa/a", 1, 0.01), SetAttributes(0, 0o600, 1), Crash(False)])


def test_an_article_takes_its_new_title_though_it_holds_an_empty_file() -> None:
    """What only this machine has in an article does not keep the article's name as it was, for ever."""
    run([Create("aaa/a", 1), Close(0, FOREVER), Retitle("aaa", True)])


def test_an_emptied_file_is_empty_after_a_crash_and_wherever_it_was_moved() -> None:
    """Figshare keeps what it has until there is content; here the file is what its close said."""
    emptied = [Save("aaa/a", 100, FOREVER), Check(), OpenFile("aaa/a", 1, True, True), Close(0, FOREVER)]
    run([*emptied, Crash(False), Check(), OpenFile("aaa/a", 1, True, False), Append(0, 5), Close(0, FOREVER)])
    run([*emptied, Rename("aaa/a", "aaa/b.csv"), Crash(False)])
    run([Mkdir("aaa/dir"), *emptied, Rename("aaa/a", "aaa/dir/a"), Unmount(60.0), Unlink("aaa/dir/a")])
    run([*emptied, Unmount(60.0), OpenFile("aaa/a", 1, True, False), Write(0, 2, 3), Kill(1), Crash(False)])
