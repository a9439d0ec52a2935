"""The commands about the cache: what is there, what goes, what is read through a mount, what is pinned."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from figfs.cli import main
from figfs.commandline import cachecli, warming
from figfs.commandline.warming import Failures, Warming, files_below
from figfs.reading.blockstore import BlockStore

MIB = 1 << 20


def filled(directory: Path, *keys: str) -> BlockStore:
    """A cache with two MiB of each key."""
    store = BlockStore(directory, limit=1 << 30, min_free=0)
    store.scan()
    for key in keys:
        store.write(key, 2 * MIB, 0, random.Random(key).randbytes(2 * MIB))
    return store


def has(directory: Path, key: str) -> bool:
    return not BlockStore(directory, limit=1 << 30, min_free=0).missing(key, 2 * MIB)


@pytest.fixture
def cache() -> Path:
    """The usual cache directory."""
    return Path(os.environ["XDG_CACHE_HOME"]) / "figfs"


# ---- figfs cache ----------------------------------------------------------------------------------------


def test_status_of_nothing(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Before the first mount there is nothing, and looking makes nothing."""
    assert main(["cache", "status", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["directory"] == str(cache)
    assert (found["used"], found["contents"], found["pins"]) == (0, 0, [])
    assert 0 < found["limit"] <= 10 << 30
    assert not cache.exists()


def test_status(cache: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """For a person and as JSON: the limit is that of the mount's configuration, pins have their paths."""
    monkeypatch.setenv("FIGFS_CACHE_SIZE", "20G")
    store = filled(cache, "a", "b")
    store.pin("a", "/mnt/[bold]data\x1b[31m.bin")
    store.mark_verified("b")
    assert main(["cache", "status", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["limit"] == 20 << 30
    assert (found["contents"], found["chunks"], found["verified_contents"]) == (2, 4, 1)
    assert found["used"] == 2 * found["pinned_bytes"] >= 4 * MIB
    assert found["pins"] == [
        {"key": "a", "path": "/mnt/[bold]data\x1b[31m.bin", "used": found["pinned_bytes"]}
    ]
    assert main(["cache", "status"]) == 0
    said = capsys.readouterr().out
    for part in ("4.0 MiB of 20.0 GiB", "2, in 4 chunks", "1 by their MD5", "/mnt/[bold]data?[31m.bin"):
        assert part in said
    assert "\x1b[31m" not in said


@pytest.mark.parametrize("way", ["flag", "environment", "file"])
def test_the_directory_is_that_of_the_mount(
    way: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is found in the same ways: flag, environment, config.toml."""
    filled(tmp_path / "other", "a")
    arguments = []
    if way == "flag":
        arguments = ["--cache-dir", str(tmp_path / "other")]
    elif way == "environment":
        monkeypatch.setenv("FIGFS_CACHE_DIR", str(tmp_path / "other"))
    else:
        (tmp_path / "figfs.toml").write_text(f'cache-dir = "{tmp_path}/other"')
        arguments = ["--config", str(tmp_path / "figfs.toml")]
    assert main(["cache", "status", "--json", *arguments]) == 0
    assert json.loads(capsys.readouterr().out)["contents"] == 1
    assert main(["cache", "prune", *arguments]) == 0
    assert not has(tmp_path / "other", "a")


def test_prune(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By recency down to a size; then everything but what is pinned; with --all that too, and its pin."""
    store = filled(cache, "a", "b", "c")
    store.pin("a")
    assert main(["cache", "prune", "--to", "4200K"]) == 0
    assert [has(cache, key) for key in "abc"] == [True, False, True]
    assert capsys.readouterr().out == "2.0 MiB freed, 4.0 MiB left\n"
    assert main(["cache", "prune"]) == 0
    assert [has(cache, key) for key in "abc"] == [True, False, False]
    assert main(["cache", "prune", "--all"]) == 0
    assert not has(cache, "a")
    assert store.pinned() == set()
    assert capsys.readouterr().out.endswith("2.0 MiB freed, 0 B left\n")


def test_verify(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 1 if something was damaged; it is gone, so the next time there is nothing."""
    filled(cache, "a", "b")
    assert main(["cache", "verify"]) == 0
    assert capsys.readouterr().out == "4 chunks checked, 0 damaged and removed\n"
    file = next(cache.glob("blocks/*/a.1"))
    with file.open("r+b") as opened:
        opened.seek(100_000)
        opened.write(b"damage")
    assert main(["cache", "verify"]) == 1
    captured = capsys.readouterr()
    assert captured.out == "4 chunks checked, 1 damaged and removed\n"
    assert str(file) in captured.err
    assert main(["cache", "verify"]) == 0
    assert capsys.readouterr().out == "3 chunks checked, 0 damaged and removed\n"


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["cache", "prune", "--to", "much"], 2, "--to: 'much' is not a size"),
        (
            ["cache", "status", "--cache-dir", "/dev/null"],
            1,
            "cannot use the cache directory /dev/null: Not a",
        ),
        (["cache", "status", "--config", "/nonexistent"], 2, "there is no configuration file"),
        (["cache", "purge"], 2, "No such command 'purge'"),
        (["warm"], 2, "Missing argument 'PATH…'"),
        (["warm", "/nonexistent"], 1, "/nonexistent: No such file or directory"),
        (["pin", "/nonexistent"], 1, "/nonexistent: No such file or directory"),
        (["pin", "/dev"], 1, "/dev is not on a figfs mount, or on one without a disk cache"),
        (["unpin", "/dev"], 1, "/dev is not on a figfs mount, or on one without a disk cache"),
    ],
)
def test_failures_are_one_line(
    arguments: list[str], code: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is wrong, and an exit code: 2 for what was typed."""
    assert main(arguments) == code
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert err.startswith("figfs: ")
    assert says in err


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (10 << 30, "10.0 GiB"), (5 << 50, "5120.0 TiB")],
)
def test_amounts(size: int, text: str) -> None:
    """As a person reads them: powers of 1024, one digit."""
    assert cachecli.amount(size) == text


# ---- figfs warm -----------------------------------------------------------------------------------------


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Something like a mount: directories, small files and a large one, links within and out."""
    root = tmp_path / "mnt"
    (root / "project" / "article").mkdir(parents=True)
    for number in range(5):
        (root / "project" / f"{number}.csv").write_bytes(bytes(1000 + number))
    (root / "project" / "article" / "large.bin").write_bytes(bytes(9 * MIB))
    (root / "project" / "empty").touch()
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(bytes(5000))
    (root / "out").symlink_to(outside)
    (root / "project" / "file-out").symlink_to(outside / "secret")
    os.mkfifo(root / "pipe")
    return root


def test_what_is_below_a_path(tree: Path) -> None:
    """Regular files, in the order of the directories; links are not followed, unless one is named itself."""
    failures: list[str] = []
    failed = Failures(failures.append)
    names = [Path(file.path).name for file in files_below([str(tree)], failed)]
    assert names == ["0.csv", "1.csv", "2.csv", "3.csv", "4.csv", "empty", "large.bin"]
    assert [file.size for file in files_below([str(tree / "project" / "3.csv")], failed)] == [1003]
    assert [file.size for file in files_below([str(tree / "out")], failed)] == [5000]
    assert list(files_below([str(tree / "pipe")], failed)) == []
    assert failures == []
    assert list(files_below([str(tree / "gone\n")], failed)) == []
    assert failures == [f"{tree}/gone?: No such file or directory"]


def test_warm_reads_all_of_every_file(
    tree: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each byte is read once, and the kernel need not keep it."""
    got: list[int] = []
    advised: list[int] = []
    readv = os.readv

    def counting(descriptor: int, buffers: list[memoryview]) -> int:
        got.append(readv(descriptor, buffers))
        return got[-1]

    monkeypatch.setattr(os, "readv", counting)
    monkeypatch.setattr(os, "posix_fadvise", lambda fd, start, length, advice: advised.append(advice))
    assert main(["warm", str(tree)]) == 0
    assert sum(got) == 9 * MIB + 5 * 1002
    assert advised == [os.POSIX_FADV_DONTNEED] * 7
    captured = capsys.readouterr()
    assert captured.out.startswith("7 files, 9.0 MiB in ")
    assert captured.err == ""


def test_warm_on_a_terminal(
    tree: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bar with bytes, rate and files; failures stand above it."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert main(["warm", str(tree), str(tree / "gone")]) == 1
    captured = capsys.readouterr()
    assert "Reading" in captured.err
    assert f"figfs: {tree}/gone: No such file or directory\n" in captured.err
    assert captured.out.startswith("7 files, ")


def test_a_file_that_cannot_be_read(
    tree: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line for it; all others are read; exit code 1."""
    bad = str(tree / "project" / "2.csv")
    open_file = os.open

    def failing(path: str, *arguments: int, **more: int) -> int:
        if path == bad:
            raise OSError(errno.EIO, os.strerror(errno.EIO), path)
        return open_file(path, *arguments, **more)

    monkeypatch.setattr(os, "open", failing)
    assert main(["warm", str(tree)]) == 1
    captured = capsys.readouterr()
    assert captured.err == f"figfs: {bad}: Input/output error\n"
    assert captured.out.startswith("6 files, ")


def test_a_directory_that_cannot_be_listed(
    tree: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same."""
    bad = str(tree / "project" / "article")
    scandir = os.scandir

    def failing(path: str) -> object:
        if path == bad:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", failing)
    assert main(["warm", str(tree)]) == 1
    captured = capsys.readouterr()
    assert captured.err == f"figfs: {bad}: Permission denied\n"
    assert captured.out.startswith("6 files, ")


def test_large_files_are_read_two_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More would share the same line; small files go on beside them."""
    monkeypatch.setattr(warming, "LARGE", 1000)
    for number in range(6):
        (tmp_path / f"a{number}").write_bytes(bytes(1000))
    for number in range(300):
        (tmp_path / f"b{number}").write_bytes(bytes(10))
    go_on = threading.Event()
    lock = threading.Lock()
    active = most = 0
    readv = os.readv

    def watched(descriptor: int, buffers: list[memoryview]) -> int:
        nonlocal active, most
        if os.fstat(descriptor).st_size < 1000:
            return readv(descriptor, buffers)
        with lock:
            active += 1
            most = max(most, active)
        go_on.wait()
        with lock:
            active -= 1
        return readv(descriptor, buffers)

    monkeypatch.setattr(os, "readv", watched)
    failed = Failures(pytest.fail)
    with Warming(files_below([str(tmp_path)], failed), failed) as reading:
        # Two readers have a large file each, four wait for their turn, two are left for the small ones.
        while reading.figures().files < 300:
            assert not reading.wait(0.01)
        go_on.set()
        while not reading.wait(1):
            pass
    assert most == 2
    figures = reading.figures()
    assert (figures.files, figures.total_files, figures.bytes) == (306, 306, 9000)
    assert figures.walked


def test_ctrl_c_ends_it(tmp_path: Path) -> None:
    """Exit code 130 at once, however large the file is; what has been said until then is lines."""
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(1 << 42)
    code = (
        "import sys; from figfs import cli; from figfs.commandline import cachecli\n"
        "cachecli.REPORT_INTERVAL = 0\n"
        f"sys.exit(cli.main(['warm', {str(tmp_path)!r}]))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        assert line.startswith("Reading: ")
        assert "of 4.0 TiB" in line
        process.send_signal(signal.SIGINT)
        _, rest = process.communicate(timeout=20)
        assert process.returncode == 130
        assert "Traceback" not in rest


# ---- figfs pin and unpin --------------------------------------------------------------------------------


@pytest.fixture
def mounted(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache of the mount that ``tree`` seems to be: its files have keys, all but 4.csv."""
    directory = tmp_path / "cache of the mount"

    def getxattr(path: str, name: str, *, follow_symlinks: bool = True) -> bytes:
        if not Path(path).resolve().is_relative_to(tree):
            raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP), path)
        if name == "user.figshare.cache":
            return os.fsencode(directory)
        assert name == "user.figshare.key"
        if Path(path).name == "4.csv":
            raise OSError(errno.ENODATA, os.strerror(errno.ENODATA), path)
        return b"key-of-" + os.fsencode(Path(path).name)

    monkeypatch.setattr(os, "getxattr", getxattr)
    return directory


def test_pin_and_unpin(tree: Path, mounted: Path, cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In the cache that the mount names, whatever the configuration says; and the files are read."""
    store = BlockStore(mounted, limit=1 << 30, min_free=0)
    assert main(["pin", str(tree / "project" / "article"), str(tree / "project" / "0.csv")]) == 0
    assert store.pinned() == {"key-of-large.bin", "key-of-0.csv"}
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "2 files pinned, 9.0 MiB"
    assert said[1].startswith("2 files, 9.0 MiB in ")
    assert [pin.label for pin in store.statistics().pins] == [
        str(tree / "project" / "0.csv"),
        str(tree / "project" / "article" / "large.bin"),
    ]
    assert not cache.exists()
    assert main(["unpin", str(tree / "project" / "article")]) == 0
    assert capsys.readouterr().out == "1 file unpinned\n"
    assert store.pinned() == {"key-of-0.csv"}


def test_pin_what_figshare_does_not_have_yet(
    tree: Path, mounted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line for it, exit code 1; the rest is pinned and read. An empty file has no content to pin."""
    assert main(["pin", "--no-fetch", str(tree)]) == 1
    captured = capsys.readouterr()
    assert captured.err == f"figfs: {tree}/project/4.csv: Figshare does not have it yet\n"
    assert captured.out == "5 files pinned, 9.0 MiB\n"
    assert len(BlockStore(mounted, limit=1 << 30, min_free=0).pinned()) == 5


def test_pin_nothing_unless_all_paths_are_on_a_mount(
    tree: Path, mounted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A mistake in the last path is told before the first one is pinned."""
    outside = tree.parent / "outside"
    assert main(["pin", str(tree / "project"), str(outside)]) == 1
    assert f"figfs: {outside} is not on a figfs mount" in capsys.readouterr().err
    assert not mounted.exists()


def test_a_key_that_is_none(
    tree: Path, mounted: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What another file system says under that name never becomes a path."""
    real = os.getxattr

    def odd(path: str, name: str, *, follow_symlinks: bool = True) -> bytes:
        return b"../../etc/passwd" if name.endswith("key") else real(path, name)

    monkeypatch.setattr(os, "getxattr", odd)
    assert main(["pin", str(tree / "project" / "0.csv")]) == 1
    assert "is no key" in capsys.readouterr().err


def test_a_cache_that_cannot_be_written(
    tree: Path, mounted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The reason, and nothing is read."""
    mounted.write_bytes(b"a file")
    assert main(["pin", str(tree / "project" / "0.csv")]) == 1
    captured = capsys.readouterr()
    assert f"cannot pin it in {mounted}/pins: " in captured.err
    assert captured.out == "0 files pinned, 0 B\n"
