"""Who has a file open for writing, read from a ``/proc`` made for the test."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from figfs.openers import still_open_for_writing

PID, INODE = 4711, 0x4800_0000_0000_0007


@pytest.fixture
def descriptors(tmp_path: Path) -> Path:
    """The fdinfo directory of process PID."""
    directory = tmp_path / str(PID) / "fdinfo"
    directory.mkdir(parents=True)
    return directory


def fdinfo(flags: int, inode: int) -> str:
    return f"pos:\t0\nflags:\t0{flags | os.O_CLOEXEC:o}\nmnt_id:\t71\nino:\t{inode}\n"


@pytest.mark.parametrize(
    ("flags", "inode", "expected"),
    [
        (os.O_WRONLY, INODE, True),
        (os.O_RDWR | os.O_APPEND, INODE, True),
        (os.O_RDONLY, INODE, False),
        (os.O_WRONLY, INODE + 1, False),
    ],
)
def test_only_descriptors_that_can_write_to_the_inode_count(
    tmp_path: Path, descriptors: Path, flags: int, inode: int, expected: bool
) -> None:
    """A reader, or a writer of another file, does not keep a close from being the last one."""
    (descriptors / "0").write_text(fdinfo(os.O_RDONLY, 99))
    (descriptors / "7").write_text(fdinfo(flags, inode))
    assert still_open_for_writing(PID, INODE, proc=tmp_path) is expected


def test_no_such_process(tmp_path: Path) -> None:
    """Ended, or in another pid namespace: the close counts as the last one."""
    assert still_open_for_writing(PID, INODE, proc=tmp_path) is False


def test_descriptors_that_cannot_be_read_are_passed_over(tmp_path: Path, descriptors: Path) -> None:
    """One closed since it was listed, one that is no text, one without the fields; the next one counts."""
    (descriptors / "1").symlink_to(tmp_path / "gone")
    (descriptors / "2").write_bytes(b"\xff\xfe")
    (descriptors / "3").write_text("pos:\t0\nflags:\t02\n")  # kernels before 5.14 have no ino
    assert still_open_for_writing(PID, INODE, proc=tmp_path) is False
    (descriptors / "4").write_text(fdinfo(os.O_WRONLY, INODE))
    assert still_open_for_writing(PID, INODE, proc=tmp_path) is True


def test_this_process(tmp_path: Path) -> None:
    """The kernel's own format: a file open for writing is seen, and not any more once it is closed."""
    path = tmp_path / "f"
    with path.open("w"):
        inode = path.stat().st_ino
        assert still_open_for_writing(os.getpid(), inode) is True
    assert still_open_for_writing(os.getpid(), inode) is False
