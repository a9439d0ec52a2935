"""What is told to the kernel through /sys: for the right mount, and never an error."""

from __future__ import annotations

from pathlib import Path

import pytest

from figfs import kernel

MOUNTINFO = """\
22 1 0:20 / /sys rw - sysfs sysfs rw
31 1 0:41 / /home/a/Fig\\040share rw - fuse.figfs figshare rw
32 1 0:42 / /home/a/Figshare rw - fuse.figfs figshare rw
33 1 0:43 / /home/a/Figshare rw - fuse.figfs figshare rw
"""


@pytest.fixture
def sys(tmp_path: Path) -> Path:
    for device in ("0:41", "0:42", "0:43"):
        bdi = tmp_path / "class" / "bdi" / device
        bdi.mkdir(parents=True)
        (bdi / "read_ahead_kb").write_text("128\n")
    return tmp_path


@pytest.fixture
def mountinfo(tmp_path: Path) -> Path:
    (tmp_path / "mountinfo").write_text(MOUNTINFO)
    return tmp_path / "mountinfo"


def read_ahead(sys: Path) -> list[str]:
    return [
        (sys / "class" / "bdi" / device / "read_ahead_kb").read_text().strip()
        for device in ("0:41", "0:42", "0:43")
    ]


def test_the_mount_on_top_is_told(sys: Path, mountinfo: Path) -> None:
    """Of two mounts on one directory, the last; no other is touched."""
    assert kernel.tune(Path("/home/a/Figshare"), sys=sys, mountinfo=mountinfo)
    assert read_ahead(sys) == ["128", "128", str(kernel.READ_AHEAD_KB)]


def test_a_name_with_a_space(sys: Path, mountinfo: Path) -> None:
    """proc(5) writes it as \\040."""
    assert kernel.tune(Path("/home/a/Fig share"), sys=sys, mountinfo=mountinfo)
    assert read_ahead(sys) == [str(kernel.READ_AHEAD_KB), "128", "128"]


def test_the_number_of_requests_where_there_is_fusectl(sys: Path, mountinfo: Path) -> None:
    connection = sys / "fs" / "fuse" / "connections" / "41"
    connection.mkdir(parents=True)
    assert kernel.tune(Path("/home/a/Fig share"), sys=sys, mountinfo=mountinfo)
    assert (connection / "max_background").read_text() == f"{kernel.MAX_BACKGROUND}\n"


def test_nothing_to_write_to_is_no_error(tmp_path: Path, mountinfo: Path) -> None:
    """A user's mount, a container without /sys, a mount that is not in the table."""
    assert not kernel.tune(Path("/home/a/Figshare"), sys=tmp_path / "none", mountinfo=mountinfo)
    assert not kernel.tune(Path("/elsewhere"), sys=tmp_path, mountinfo=mountinfo)
    assert not kernel.tune(Path("/elsewhere"), sys=tmp_path, mountinfo=tmp_path / "none")


def test_the_read_ahead_leaves_sniffs_small() -> None:
    """The kernel multiplies a small first read by 4 while it is at most 1/32 of the read-ahead, else by 2."""
    assert kernel.READ_AHEAD_KB // 32 < 16
