"""Reading through a mount: the cache, what is fetched, what is verified (semantics.md, Reading; issue 3)."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from processes import MakeMount, Mount, content, errno_of, md5, run, shell, wait_until

MIB = 1 << 20

pytestmark = pytest.mark.fuse


def seeded(mount: Mount, sizes: list[int], title: str = "Data") -> list[Path]:
    """The paths of new stored files of these sizes, in one article."""
    mount.sandbox.seed(count=1, title=title, files=sizes)
    [directory] = [each for each in mount.articles.iterdir() if each.name.startswith(title)]
    return sorted(each for each in directory.iterdir())


def fetched(mount: Mount) -> int:
    """Bytes of files that the sandbox has sent since the last ``clear_requests``."""
    return sum(entry["bytes"] for entry in mount.sandbox.requests("storage", "GET"))


def on_disk(mount: Mount) -> int:
    total = 0
    for each in (mount.base / "cache" / "blocks").rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # evicted meanwhile
            total += each.stat().st_blocks * 512
    return total


def xattr(path: Path, name: str) -> str:
    return os.getxattr(path, f"user.figshare.{name}").decode()


def forget_pages(path: Path) -> None:
    """The kernel drops what it has of the file."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def test_read_again_after_a_remount_and_offline(make_mount: MakeMount) -> None:
    """Seen by 4: no request for bytes after a remount; with Figshare away it is still read, and listed."""
    mount = make_mount()
    [path] = seeded(mount, [9 * MIB + 17])
    data = path.read_bytes()
    assert md5(data) == xattr(path, "md5")
    wait_until(lambda: xattr(path, "verified") == "yes")
    mount.remount()
    assert [each.name for each in path.parent.iterdir()] == [path.name]
    mount.sandbox.clear_requests()
    assert path.read_bytes() == data
    assert mount.sandbox.requests("storage") == mount.sandbox.requests("download") == []
    assert xattr(path, "verified") == "yes"
    forget_pages(path)
    mount.claim("cannot list", "quota and use")
    mount.sandbox.stop()
    assert path.read_bytes() == data
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_what_is_not_cached_fails_at_once_offline(make_mount: MakeMount) -> None:
    """EHOSTUNREACH: the first takes a few seconds, the next ones none."""
    mount = make_mount("--no-lookahead")
    paths = seeded(mount, [100_000] * 3)
    mount.claim("read of inode", "cannot list")
    mount.sandbox.stop()
    assert errno_of(paths[0].read_bytes) == errno.EHOSTUNREACH
    began = time.monotonic()
    assert errno_of(paths[1].read_bytes) == errno.EHOSTUNREACH
    assert errno_of(paths[2].read_bytes) == errno.EHOSTUNREACH
    assert time.monotonic() - began < 6  # one of them may be the probe


@pytest.mark.parametrize(
    "script", ["head -c 16k", "tail -c 4k", "gio info", "file"], ids=lambda script: script.split()[0]
)
def test_a_look_costs_little(make_mount: MakeMount, needs: Callable[..., None], script: str) -> None:
    """Seen by 5: less than 2 MiB of a large file."""
    needs(script.split()[0])
    mount = make_mount()
    [path] = seeded(mount, [64 * MIB])
    mount.sandbox.clear_requests()
    shell(f'{script} "$1" > /dev/null', path)
    # file(1) of 2022 and later reads 7 MiB of either end by itself, whatever it finds there; what is fetched
    # ahead of a run is at most what was read of it.
    assert fetched(mount) <= (2 * MIB if script != "file" else 2 * 14 * MIB)


@pytest.mark.parametrize("sniff", [4096, 16384, 32768])
def test_a_folder_that_is_sniffed(make_mount: MakeMount, sniff: int) -> None:
    """Seen by 5: a file manager looks at the start of each file: less than 64 KiB of it are fetched."""
    mount = make_mount()
    paths = seeded(mount, [500_000] * 40)
    mount.sandbox.clear_requests()
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOATIME)
        assert len(os.read(descriptor, sniff)) == sniff
        os.close(descriptor)
    limit = 64 if sniff < 32768 else 128  # the kernel itself makes 64 KiB of the largest
    assert fetched(mount) < len(paths) * limit * 1024 or sniff == 32768
    assert fetched(mount) <= len(paths) * limit * 1024


def test_the_cache_is_bounded(make_mount: MakeMount) -> None:
    """Seen by 3, smaller: never more than its size and one window, also while a larger file is read."""
    mount = make_mount("--cache-size", "32M", "--memory", "32M")
    [path] = seeded(mount, [200 * MIB])
    most = 0
    with path.open("rb") as file:
        while file.read(4 * MIB):
            most = max(most, on_disk(mount))
    assert 16 * MIB < most <= 32 * MIB + 8 * MIB
    wait_until(lambda: xattr(path, "verified") == "yes")


@pytest.mark.parametrize("damage", ["flip", "cut", "swap", "delete", "all"])
def test_damage_to_the_cache_is_not_seen(make_mount: MakeMount, damage: str) -> None:
    """Seen by 2: whatever becomes of the files on disk while mounted, readers get the bytes."""
    mount = make_mount("--memory", "16M")
    paths = seeded(mount, [20 * MIB, 30 * MIB])
    data = [path.read_bytes() for path in paths]
    wait_until(lambda: all(xattr(path, "verified") == "yes" for path in paths))
    blocks = (mount.base / "cache" / "blocks").rglob("*.[0-9]*")
    chunks = sorted(each for each in blocks if not each.name.startswith("."))  # not those being written
    assert len(chunks) > 45
    for index, chunk in enumerate(chunks[:-1]):
        if damage == "flip":
            with chunk.open("r+b") as file:
                file.seek(index * 20_011 % chunk.stat().st_size)
                byte = file.read(1)
                file.seek(-1, os.SEEK_CUR)
                file.write(bytes([byte[0] ^ 0x10]))
        elif damage == "cut":
            os.truncate(chunk, index * 20_011 % chunk.stat().st_size)
        elif damage == "swap":
            shutil.copyfile(chunks[index + 1], chunk)
        elif damage == "delete":
            chunk.unlink()
    if damage == "all":
        shutil.rmtree(mount.base / "cache")
    mount.claim("removed, to be fetched again", "cache")
    for path, expected in zip(paths, data, strict=True):
        forget_pages(path)
        assert path.read_bytes() == expected
    assert fetched(mount) > sum(map(len, data))


def test_wrong_bytes_are_an_error_and_then_right(make_mount: MakeMount) -> None:
    """A mismatch of the MD5: who has had bytes gets EIO, and the next one what Figshare really holds."""
    mount = make_mount()
    [path] = seeded(mount, [30 * MIB])
    mount.sandbox.set_faults([{"role": "storage", "action": "corrupt", "skip": 1, "times": 1}])
    mount.claim("the MD5 of what Figshare sent", "read of inode")
    assert errno_of(path.read_bytes) == errno.EIO
    assert xattr(path, "verified") == "not yet"
    data = path.read_bytes()
    assert md5(data) == xattr(path, "md5")
    assert xattr(path, "verified") == "yes"


def test_a_small_file_is_fetched_again_by_itself(make_mount: MakeMount) -> None:
    """Nobody has had a byte when the mismatch is found: the second fetch is handed out."""
    mount = make_mount()
    [path] = seeded(mount, [100_000])
    mount.sandbox.set_faults([{"role": "storage", "action": "corrupt", "times": 1}])
    mount.claim("the MD5 of what Figshare sent")
    assert md5(path.read_bytes()) == xattr(path, "md5")
    assert mount.sandbox.fault_hits() == [1]


def test_what_stays_wrong_stays_an_error(make_mount: MakeMount) -> None:
    """Twice another MD5: EIO, and not asked for again and again."""
    mount = make_mount()
    [path] = seeded(mount, [100_000])
    mount.sandbox.set_faults([{"role": "storage", "action": "corrupt"}])
    mount.claim("the MD5 of what Figshare sent", "read of inode")
    assert errno_of(path.read_bytes) == errno.EIO
    assert xattr(path, "verified") == "mismatch"
    hits = mount.sandbox.fault_hits()
    assert errno_of(path.read_bytes) == errno.EIO
    assert mount.sandbox.fault_hits() == hits


def test_verify_open_hands_out_nothing_unverified(make_mount: MakeMount) -> None:
    """``--verify open``: the first byte comes when all is fetched and compared; wrong once: never seen."""
    mount = make_mount("--verify", "open")
    [path] = seeded(mount, [20 * MIB])
    mount.sandbox.set_faults([{"role": "storage", "action": "corrupt", "skip": 1, "times": 1}])
    mount.claim("the MD5 of what Figshare sent")
    with path.open("rb") as file:
        start = file.read(100)
    assert xattr(path, "verified") == "yes"
    data = path.read_bytes()
    assert data[:100] == start
    assert md5(data) == xattr(path, "md5")


def test_what_was_uploaded_is_read_without_a_download(make_mount: MakeMount) -> None:
    """Also after a remount, when the spool has gone."""
    mount = make_mount()
    directory = mount.articles / "Uploaded here"
    directory.mkdir()
    data = content("uploaded", 3 * MIB + 5)
    (directory / "f").write_bytes(data)
    wait_until(lambda: xattr(directory / "f", "verified") == "yes")
    mount.remount()
    mount.sandbox.clear_requests()
    assert (directory / "f").read_bytes() == data
    assert fetched(mount) == 0


def test_a_directory_of_small_files_is_fetched_ahead(make_mount: MakeMount, tmp_path: Path) -> None:
    """cp -r with 100 ms of latency: far less than one after the other, and each file is fetched once."""
    mount = make_mount()
    paths = seeded(mount, [10_000] * 60)
    mount.sandbox.set_faults([{"role": "storage", "action": "latency", "seconds": 0.1}])
    mount.sandbox.clear_requests()
    began = time.monotonic()
    run("cp", "-r", paths[0].parent, tmp_path / "copy")
    took = time.monotonic() - began
    assert took < 60 * 0.1 / 2
    assert len(mount.sandbox.requests("storage", "GET")) == 60
    assert {each.name: md5(each.read_bytes()) for each in (tmp_path / "copy").iterdir()} == {
        each.name: xattr(each, "md5") for each in paths
    }


def test_attributes(make_mount: MakeMount) -> None:
    """What is known of a file: it cannot be changed. What Figshare has is listed. Unknown ones: ENODATA."""
    mount = make_mount()
    [path] = seeded(mount, [5000])
    assert all(xattr(path, name) for name in ("id", "key", "md5", "verified", "cache"))
    listed = {f"user.figshare.{name}" for name in ("id", "url", "md5", "status")}
    assert set(os.listxattr(path)) == listed
    assert xattr(path, "verified") == "not yet"
    path.read_bytes()
    assert xattr(path, "verified") == "yes"
    assert errno_of(lambda: os.getxattr(path, "user.figshare.nothing")) == errno.ENODATA
    assert errno_of(lambda: os.setxattr(path, "user.figshare.md5", b"x")) == errno.EPERM
    assert errno_of(lambda: os.removexattr(path, "user.figshare.key")) == errno.EPERM


@pytest.mark.long
def test_a_file_of_ten_gigabytes_and_a_cache_of_one(make_mount: MakeMount) -> None:
    """Seen by 3."""
    mount = make_mount("--cache-size", "1G")
    [path] = seeded(mount, [10_000 * MIB])
    most = 0
    with path.open("rb") as file:
        while file.read(64 * MIB):
            most = max(most, on_disk(mount))
    assert most <= (1 << 30) + 8 * MIB


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may write to /sys; others have the udev rule")
def test_the_kernel_reads_further_ahead(make_mount: MakeMount) -> None:
    """Told after the answer to INIT, which sets it back."""
    mount = make_mount()
    device = os.stat(mount.path).st_dev
    setting = Path(f"/sys/class/bdi/{os.major(device)}:{os.minor(device)}/read_ahead_kb")
    wait_until(lambda: setting.read_text() == "496\n", 5, "read_ahead_kb")
