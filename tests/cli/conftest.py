"""What the tests of the command line share."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

# A file system with an empty root directory, called as figfs's are.
EMPTY_FILE_SYSTEM = """
import os, stat, sys
import pyfuse3, trio

class Empty(pyfuse3.Operations):
    async def getattr(self, inode, ctx=None):
        entry = pyfuse3.EntryAttributes()
        entry.st_mode, entry.st_ino = stat.S_IFDIR | 0o755, inode
        entry.st_uid, entry.st_gid = os.getuid(), os.getgid()
        return entry
    async def opendir(self, inode, ctx):
        return inode
    async def readdir(self, handle, start, token):
        pass

pyfuse3.init(Empty(), sys.argv[1], {"fsname=figshare", "subtype=figfs"})
print("mounted", flush=True)
trio.run(pyfuse3.main)
pyfuse3.close()
"""


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The configuration of the person who runs the tests has no part in them."""
    for name in [name for name in os.environ if name.startswith("FIGFS_")]:
        if name not in {"FIGFS_REQUIRE_FUSE", "FIGFS_VENV"}:
            monkeypatch.delenv(name)
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(home / "state"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "cache"))


@pytest.fixture(autouse=True)
def own_logging() -> Iterator[None]:
    """What a command sets up for the log ends with the test."""
    root = logging.getLogger()
    names = ["httpx", "httpcore", "hpack", "hypercorn", "trio"]
    levels = {logger: logger.level for logger in [root, *map(logging.getLogger, names)]}
    handlers = list(root.handlers)
    yield
    for handler in root.handlers[:]:
        if handler not in handlers:
            root.removeHandler(handler)
            handler.close()
    for logger, level in levels.items():
        logger.setLevel(level)


@pytest.fixture
def mount_empty(tmp_path: Path) -> Iterator[Callable[[str], tuple[Path, subprocess.Popen[str]]]]:
    """A function that mounts an empty file system of figfs's type on a new directory of the given name."""
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        if os.environ.get("FIGFS_REQUIRE_FUSE"):
            pytest.fail("there is no /dev/fuse, and FIGFS_REQUIRE_FUSE is set")
        pytest.skip("there is no /dev/fuse")
    running: list[tuple[Path, subprocess.Popen[str]]] = []

    def mount(name: str) -> tuple[Path, subprocess.Popen[str]]:
        path = tmp_path / name
        path.mkdir(exist_ok=True)
        daemon = subprocess.Popen(
            [sys.executable, "-c", EMPTY_FILE_SYSTEM, str(path)], stdout=subprocess.PIPE, text=True
        )
        running.append((path, daemon))
        assert daemon.stdout is not None
        assert daemon.stdout.readline() == "mounted\n"
        return path, daemon

    yield mount
    for path, daemon in running:
        subprocess.run(["fusermount3", "-uzq", str(path)], check=False, stderr=subprocess.DEVNULL)
        daemon.send_signal(signal.SIGKILL)
        daemon.wait()
        assert daemon.stdout is not None
        daemon.stdout.close()
