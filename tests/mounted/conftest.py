"""Tests through a real mount: the sandbox in one process, figfs in another, programs in a third.

One mount serves all tests that do not disturb each other; each of them has an article of its own. Tests with
faults, restarts or settings have mounts of their own (``make_mount``).
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from processes import Article, MakeMount, Mount, Sandbox, new_article, title_of

#: Seconds until a test that hangs in the mount is freed by ending the daemon.
PATIENCE = 150.0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents and {"shared_mount", "make_mount", "trouble"} & set(_fixtures(item)):
            item.add_marker(pytest.mark.fuse)


def _fixtures(item: pytest.Item) -> list[str]:
    """Names of the fixtures that a test uses, by way of others as well."""
    return item.fixturenames if isinstance(item, pytest.Function) else []


def _missing() -> str:
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "there is no /dev/fuse"
    if shutil.which("fusermount3") is None:
        return "there is no fusermount3"
    return ""


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("fuse") is None or not (missing := _missing()):
        return
    if os.environ.get("FIGFS_REQUIRE_FUSE"):
        pytest.fail(f"{missing}, and FIGFS_REQUIRE_FUSE is set")
    pytest.skip(missing)


@pytest.fixture
def needs() -> Callable[..., None]:
    """Skips the test if a program is not installed; fails it where FUSE tests are required."""

    def check(*programs: str) -> None:
        missing = [program for program in programs if shutil.which(program) is None]
        if missing and os.environ.get("FIGFS_REQUIRE_FUSE"):
            pytest.fail(f"not installed: {missing}, and FIGFS_REQUIRE_FUSE is set")
        if missing:
            pytest.skip(f"not installed: {missing}")

    return check


@pytest.fixture(scope="session")
def shared_sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    sandbox = Sandbox(tmp_path_factory.mktemp("sandbox"))
    yield sandbox
    sandbox.stop()


@pytest.fixture(scope="session")
def shared_mount(shared_sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mount]:
    """Mounted once for all tests that leave it as it is.

    A short grace, to wait for deferred effects; listings that stay fresh, so that a test which counts
    requests sees those of its own doing only.
    """
    mount = Mount(shared_sandbox, tmp_path_factory.mktemp("shared"), ["--grace", "1", "--dir-timeout", "2h"])
    mount.start()
    yield mount
    mount.end()


@pytest.fixture
def mount(shared_mount: Mount) -> Iterator[Mount]:
    """The shared mount; alive after the test, with nothing in its log that the test did not claim."""
    shared_mount.check_log()  # of what came late from the test before
    with _freed_after(PATIENCE, shared_mount):
        yield shared_mount
    shared_mount.alive()
    shared_mount.check_log()
    shared_mount.claimed.clear()


@pytest.fixture
def article(mount: Mount, request: pytest.FixtureRequest) -> Article:
    """An article of this test's own, made by mkdir; nothing is in the request log."""
    return new_article(mount, title_of(request))


@pytest.fixture
def make_sandbox(tmp_path: Path) -> Iterator[Callable[..., Sandbox]]:
    """A function that starts a sandbox for this test alone. Arguments as for ``Sandbox``."""
    running: list[Sandbox] = []

    def make(seed: str = "empty", **more: Path) -> Sandbox:
        sandbox = Sandbox(tmp_path / f"sandbox{len(running)}", seed=seed, **more)
        running.append(sandbox)
        return sandbox

    yield make
    for sandbox in running:
        sandbox.stop()


@pytest.fixture
def make_mount(make_sandbox: Callable[..., Sandbox], tmp_path: Path) -> Iterator[MakeMount]:
    """A function that mounts a sandbox (its own, empty one unless given) for this test alone; further
    arguments are those of ``figfs mount``. In the end the daemon must end with 0 and its log be clean.
    """
    mounts: list[Mount] = []
    own: list[Sandbox] = []

    def make(*options: str, sandbox: Sandbox | None = None, start: bool = True, api: str = "") -> Mount:
        if sandbox is None:
            if not own:
                own.append(make_sandbox())
            sandbox = own[0]
        mount = Mount(sandbox, tmp_path / f"mount{len(mounts)}", options, api=api)
        mounts.append(mount)
        return mount.start() if start else mount

    with _freed_after(PATIENCE, mounts):
        yield make
    failures: list[BaseException] = []
    for mount in mounts:
        try:
            mount.end()
        except Exception as exc:  # noqa: BLE001 - the next one has to be taken down, too
            failures.append(exc)
    if failures:
        raise failures[0]


class _freed_after:
    """Ends the daemons of tests that hang in them: programs that wait for FUSE cannot be ended themselves."""

    def __init__(self, seconds: float, mounts: Mount | list[Mount]) -> None:
        self._mounts = mounts
        self._timer = threading.Timer(seconds, self._free)
        self._timer.daemon = True

    def _free(self) -> None:
        for mount in self._mounts if isinstance(self._mounts, list) else [self._mounts]:
            if mount.process is not None:
                mount.process.kill()

    def __enter__(self) -> None:
        self._timer.start()

    def __exit__(self, *exc: object) -> None:
        self._timer.cancel()
