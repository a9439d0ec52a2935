"""What is checked before a mount, and how a mount is taken away."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from figfs.commandline.mountpoint import (
    FILESYSTEM_TYPE,
    Machine,
    is_dead,
    mounted_type,
    prepare,
    unmount,
    wait_for_daemon,
)
from figfs.errors import ConfigurationError

Mount = Callable[[str], tuple[Path, subprocess.Popen[str]]]


@pytest.fixture
def parts(tmp_path: Path) -> dict[str, object]:
    """A machine on which everything is as it should be, for a normal user."""
    device = tmp_path / "fuse"
    device.touch()
    fuse_conf = tmp_path / "fuse.conf"
    fuse_conf.write_text("# comment\n user_allow_other \n")
    mountinfo = tmp_path / "mountinfo"
    mountinfo.write_text("")
    return {
        "device": device,
        "fuse_conf": fuse_conf,
        "mountinfo": mountinfo,
        "user": 1000,
        "access": lambda path, mode: True,
        "which": lambda name: f"/usr/bin/{name}",
    }


@pytest.fixture
def place(tmp_path: Path) -> Path:
    path = tmp_path / "place"
    path.mkdir()
    return path


def refusal(path: Path, parts: dict[str, object], *, allow_other: bool = False, **other: object) -> str:
    with pytest.raises(ConfigurationError) as caught:
        prepare(path, allow_other=allow_other, machine=Machine(**{**parts, **other}))  # type: ignore[arg-type]
    assert caught.value.exit_code == 1
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_an_empty_directory_is_fine(place: Path, parts: dict[str, object]) -> None:
    """It comes back without symbolic links, since the mount table has it so."""
    link = place.parent / "link"
    link.symlink_to(place)
    assert prepare(link, allow_other=True, machine=Machine(**parts)) == place.resolve()  # type: ignore[arg-type]


def test_what_is_no_empty_directory(place: Path, parts: dict[str, object]) -> None:
    """Missing, a file, not empty, not allowed: a line each that says what to do."""
    assert f"mkdir -p {place / 'none'}" in refusal(place / "none", parts)
    (place / "file").touch()
    assert "is not a directory" in refusal(place / "file", parts)
    assert "cannot use" in refusal(place / "file" / "below", parts)
    assert "is not empty" in refusal(place, parts)
    (place / "file").unlink()
    parts["access"] = lambda path, mode: path != place.resolve()
    assert "may not write" in refusal(place, parts)
    prepare(place, machine=Machine(**{**parts, "user": 0}))  # type: ignore[arg-type]


def test_what_is_mounted_already(place: Path, parts: dict[str, object]) -> None:
    """A second mount on top would hide the first: the message names the type, and the cure for our own."""
    mountinfo = parts["mountinfo"]
    assert isinstance(mountinfo, Path)
    line = "36 35 0:50 / {} rw,relatime shared:1 - {} figshare rw,user_id=0\n"
    mountinfo.write_text(line.format(place.resolve(), FILESYSTEM_TYPE))
    assert f"figfs umount {place.resolve()}" in refusal(place, parts)
    mountinfo.write_text(line.format(place.resolve(), "ext4"))
    assert "(ext4): choose another directory" in refusal(place, parts)
    mountinfo.write_text(line.format(f"{place.resolve()}/below", "ext4"))
    prepare(place, machine=Machine(**parts))  # type: ignore[arg-type]


def test_a_machine_without_fuse(place: Path, parts: dict[str, object]) -> None:
    """No device, a device that may not be opened, no fusermount3 for a normal user."""
    assert "modprobe fuse" in refusal(place, parts, device=place / "none")
    assert "chmod 666" in refusal(place, parts, access=lambda path, mode: False)
    assert "apt install fuse3" in refusal(place, parts, which=lambda name: None)
    prepare(place, machine=Machine(**{**parts, "which": lambda name: None, "user": 0}))  # type: ignore[arg-type]


def test_allow_other_needs_a_line_in_fuse_conf(place: Path, parts: dict[str, object]) -> None:
    """For a normal user; root needs nobody's leave."""
    fuse_conf = parts["fuse_conf"]
    assert isinstance(fuse_conf, Path)
    prepare(place, allow_other=True, machine=Machine(**parts))  # type: ignore[arg-type]
    fuse_conf.write_text("#user_allow_other\nmount_max = 1000\n")
    assert "user_allow_other" in refusal(place, parts, allow_other=True)
    prepare(place, machine=Machine(**parts))  # type: ignore[arg-type]
    prepare(place, allow_other=True, machine=Machine(**{**parts, "user": 0}))  # type: ignore[arg-type]
    fuse_conf.unlink()
    assert "user_allow_other" in refusal(place, parts, allow_other=True)


@pytest.mark.fuse
def test_a_dead_mount_point_is_cleaned_and_used(mount_empty: Mount) -> None:
    """A daemon was killed: the next mount does not stumble over what it left behind."""
    path, daemon = mount_empty("with a space")
    assert mounted_type(path) == FILESYSTEM_TYPE
    assert not is_dead(path)
    daemon.send_signal(signal.SIGKILL)
    daemon.wait()
    assert is_dead(path)
    assert prepare(path) == path
    assert mounted_type(path) is None
    assert list(path.iterdir()) == []


@pytest.mark.fuse
def test_a_live_mount_is_not_touched(mount_empty: Mount) -> None:
    """Neither by a second mount, nor by umount --dead, which the systemd unit calls after every stop."""
    path, daemon = mount_empty("live")
    with pytest.raises(ConfigurationError, match="mount point already"):
        prepare(path)
    unmount(path, only_dead=True)
    assert mounted_type(path) == FILESYSTEM_TYPE
    unmount(path)
    assert mounted_type(path) is None
    assert daemon.wait(timeout=10) == 0


@pytest.mark.fuse
def test_umount_of_a_dead_mount(mount_empty: Mount) -> None:
    """Both umount and umount --dead clean it."""
    for name, only_dead in (("first", False), ("second", True)):
        path, daemon = mount_empty(name)
        daemon.send_signal(signal.SIGKILL)
        daemon.wait()
        unmount(path, only_dead=only_dead)
        assert mounted_type(path) is None


@pytest.mark.fuse
def test_umount_of_a_mount_in_use(mount_empty: Mount) -> None:
    """Busy is an error that names both ways out; --lazy takes it away all the same."""
    path, _ = mount_empty("busy")
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with pytest.raises(ConfigurationError, match=r"is in use: .*--lazy"):
            unmount(path)
        assert mounted_type(path) == FILESYSTEM_TYPE
        unmount(path, lazy=True)
        assert mounted_type(path) is None
    finally:
        os.close(descriptor)


def test_umount_of_what_is_no_mount_of_figfs(place: Path) -> None:
    """Nothing there, or something else: it says so, and leaves it alone."""
    with pytest.raises(ConfigurationError, match="nothing is mounted"):
        unmount(place)
    with pytest.raises(ConfigurationError, match=r"not a mount of figfs \(proc\)"):
        unmount(Path("/proc"))


def test_umount_says_what_the_helper_said(place: Path, parts: dict[str, object]) -> None:
    """fusermount3's own words, in one line; without it, umount is called; without both, that is told."""
    mountinfo = parts["mountinfo"]
    assert isinstance(mountinfo, Path)
    mountinfo.write_text(f"36 35 0:50 / {place.resolve()} rw - {FILESYSTEM_TYPE} figshare rw\n")
    called: list[Sequence[str]] = []

    def run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        called.append(command)
        if command[0] == "umount":
            raise FileNotFoundError(2, "No such file or directory")
        return subprocess.CompletedProcess(command, 1, "", "fusermount3: entry not found\n in /etc/mtab\n")

    with pytest.raises(
        ConfigurationError, match=r"cannot unmount .*: fusermount3: entry not found in /etc/mtab"
    ):
        unmount(place, machine=Machine(**{**parts, "run": run}))  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="cannot run umount: No such file"):
        unmount(place, lazy=True, machine=Machine(**{**parts, "run": run, "which": lambda name: None}))  # type: ignore[arg-type]
    path = str(place.resolve())
    assert called == [["fusermount3", "-u", path], ["umount", "-l", path]]


def test_umount_waits_for_the_daemon_of_that_mount(tmp_path: Path) -> None:
    """Until it lets go of its state directory: then the uploads are done, and the account can be mounted
    again.
    """
    place = tmp_path / "place"
    ours, other, odd = (tmp_path / name for name in ("ours", "other", "odd"))
    for directory, text in ((other, '{"pid": 1, "mountpoint": "/other"}'), (odd, "[]")):
        directory.mkdir()
        (directory / "lock").write_text(text)
    ours.mkdir()
    (ours / "lock").write_text(json.dumps({"pid": 1, "mountpoint": str(place.resolve())}))
    waited: list[str] = []
    with (ours / "lock").open() as lock, (other / "lock").open() as never:
        fcntl.flock(lock, fcntl.LOCK_EX)
        fcntl.flock(never, fcntl.LOCK_EX)

        def let_go() -> None:
            waited.append("told")
            fcntl.flock(lock, fcntl.LOCK_UN)

        state_dirs = [tmp_path / "none", odd, other, ours]
        wait_for_daemon(place, state_dirs=state_dirs, on_wait=let_go)
        wait_for_daemon(place, state_dirs=state_dirs, on_wait=let_go)
    assert waited == ["told"]
