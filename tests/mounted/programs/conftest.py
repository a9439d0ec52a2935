"""Every test of a program ends with a second look: by a mount that knows nothing of what was done here."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from processes import Article, Mount, Sandbox, children, wait_until, write_tree
from samples import NEW, TREE, Leftovers


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree of files, with times of the past and modes that are not the default."""
    source = write_tree(tmp_path / "tree", TREE)
    for n, path in enumerate(sorted(source.rglob("*"), reverse=True)):
        if path.is_file():
            path.chmod(0o640 if n % 2 else 0o755)
        os.utime(path, ns=(1_500_000_000_000_000_000 + n, 1_500_000_000_123_456_789 + n * 10**9))
    return source


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file.bin"
    path.write_bytes(NEW)
    return path


@pytest.fixture
def leftovers() -> Leftovers:
    return Leftovers()


@pytest.fixture(scope="session")
def elsewhere(shared_sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mount]:
    """A mount of the same account with a state of its own, as on another machine. It looks anew each time."""
    mount = Mount(shared_sandbox, tmp_path_factory.mktemp("elsewhere"), ["--dir-timeout", "0"])
    mount.start()
    yield mount
    mount.end()


@pytest.fixture(autouse=True)
def second_look(request: pytest.FixtureRequest, leftovers: Leftovers) -> Iterator[None]:
    """When a test of a program has passed: Figshare has what the mount shows, no more, each name once and
    available; another machine sees the same; and no bytes are left behind on this one.
    """
    if "article" not in request.fixturenames:
        yield
        return
    article: Article = request.getfixturevalue("article")
    other: Mount = request.getfixturevalue("elsewhere")
    before = _spooled(article.mount)
    yield
    if not request.node.stash.get(PASSED, False) or not article.path.exists():
        return
    shown = children(article.path)
    kept_here = leftovers.local | {name for name, data in shown.items() if not data}
    assert leftovers.local <= shown.keys()
    files = {name: data for name, data in shown.items() if name not in kept_here}
    article.will_hold(files)
    assert children(other.articles / article.title) == files
    wait_until(
        lambda: len(_spooled(article.mount) - before) <= len(kept_here),
        what="nothing in the spool but what is to stay there",
    )


PASSED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report = yield
    if report.when == "call":
        item.stash[PASSED] = report.passed and not hasattr(report, "wasxfail")
    return report


def _spooled(mount: Mount) -> set[Path]:
    return set((mount.state / "spool").iterdir())
