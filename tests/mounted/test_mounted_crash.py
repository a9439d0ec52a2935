"""The crash matrix: ``kill -9`` at every transaction of the journal, and in the middle of a part.

After the next mount has settled, the sandbox holds exactly what was promised: what the program was told is
done is done, what it was not told is as before, or whole. Nothing twice, nothing half, and no part that was
complete is sent again. ``crashing.py`` is the daemon that kills itself; the product has no hook for it.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from processes import Article, Mount, Sandbox, content, stored, title_of, wait_until

PART = 10_000
SIZE = 4 * PART - 7
OLD, NEW, OTHER = content("old", SIZE), content("new", SIZE - 1000), content("other", SIZE - 2000)
PATCH = b"in the middle"
GRACE = 0.3

pytestmark = pytest.mark.fuse


class CrashingMount(Mount):
    def command(self) -> list[str]:
        usual = super().command()
        daemon = Path(__file__).with_name("crashing.py")
        return [sys.executable, "-P", str(daemon), *usual[usual.index("mount") :]]

    def environment(self) -> dict[str, str]:
        return super().environment() | {"FIGFS_TEST_CRASH": str(self.place)}

    @property
    def place(self) -> Path:
        return self.base / "crash"

    def crash_at(self, where: str) -> None:
        """From now on: ``before upload stored``, say."""
        waiting = self.place.with_suffix(".new")
        waiting.write_text(where)
        waiting.rename(self.place)

    def has_crashed(self) -> None:
        self.wait(15)
        assert not self.place.exists(), "it ended, but not where it was to"

    def owed(self) -> list[tuple[str, str, str]]:
        database = sqlite3.connect(f"file:{self.state / 'journal.db'}?mode=ro", uri=True)
        with contextlib.closing(database):
            return database.execute("SELECT kind, state, body FROM owed").fetchall()


@pytest.fixture(scope="module")
def crashing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CrashingMount]:
    sandbox = Sandbox(tmp_path_factory.mktemp("sandbox"), seed="empty")
    sandbox.change_settings(part_size=PART)
    mount = CrashingMount(sandbox, tmp_path_factory.mktemp("crash"), ["--grace", str(GRACE)])
    mount.claim("earlier mount", "never closed before the crash")
    mount.start()
    yield mount
    mount.end()
    sandbox.stop()


@pytest.fixture
def article(crashing: CrashingMount, request: pytest.FixtureRequest) -> Iterator[Article]:
    """An article of this test's own, in a mount that lives, and owes nothing."""
    if crashing.process is None or crashing.process.poll() is not None:
        crashing.process = None
        crashing.start()
    title = title_of(request)
    path = crashing.articles / title
    path.mkdir()
    crashing.sandbox.clear_requests()
    yield Article(crashing, title, path)
    crashing.place.unlink(missing_ok=True)
    crashing.sandbox.set_faults([])


# -- what programs do ------------------------------------------------------------


def new_file(path: Path) -> None:
    (path / "f").write_bytes(NEW)


def overwrite(path: Path) -> None:
    (path / "f").write_bytes(NEW)


def edit(path: Path) -> None:
    with (path / "f").open("r+b") as file:
        file.seek(PART + 5)
        file.write(PATCH)


def rename_over(path: Path) -> None:
    """An editor: a temporary name that tells nothing, then the real one."""
    (path / "f.crdownload").write_bytes(NEW)
    (path / "f.crdownload").rename(path / "f")


def move(path: Path) -> None:
    (path / "f").rename(path / "g")


def move_over(path: Path) -> None:
    (path / "f").rename(path / "g")


def delete(path: Path) -> None:
    (path / "f").unlink()


def replace(path: Path) -> None:
    (path / "f").unlink()
    (path / "f").write_bytes(NEW)


EDITED = OLD[: PART + 5] + PATCH + OLD[PART + 5 + len(PATCH) :]
UPLOADED = ["announced", "sent", "stored", "removed"]

Files = Mapping[str, bytes]

#: What is there first, what is done, what is there after it, and the transactions it passes. The first of
#: them decides: a crash before it has undone all, a crash after it nothing.
CASES: dict[str, tuple[Files, Callable[[Path], None], Files, list[str]]] = {
    "new": ({}, new_file, {"f": NEW}, ["upload owed", *(f"upload {state}" for state in UPLOADED)]),
    "overwrite": (
        {"f": OLD}, overwrite, {"f": NEW}, ["upload owed", *(f"upload {state}" for state in UPLOADED)]
    ),
    "edit": ({"f": OLD}, edit, {"f": EDITED}, ["upload owed", *(f"upload {state}" for state in UPLOADED)]),
    "rename over": (
        {"f": OLD}, rename_over, {"f": NEW}, ["upload owed", *(f"upload {state}" for state in UPLOADED)]
    ),
    "move": (
        {"f": OLD}, move, {"g": OLD},
        ["upload waiting", "upload owed", *(f"upload {state}" for state in UPLOADED)],
    ),
    "move over": (
        {"f": OLD, "g": OTHER}, move_over, {"g": OLD},
        ["upload waiting", "upload owed", *(f"upload {state}" for state in UPLOADED)],
    ),
    "delete": ({"f": OLD}, delete, {}, ["deletion waiting", "deletion owed", "deletion removed"]),
    "replace": (
        {"f": OLD}, replace, {"f": NEW}, ["upload owed", *(f"upload {state}" for state in UPLOADED)]
    ),
}  # fmt: skip


def is_of_the_normal_run(case: str, number: int, when: str) -> bool:
    """Before a transaction is mostly after the one before it; and how parts are sent is the same for all."""
    in_the_middle = number and CASES[case][3][number] in ("upload announced", "upload sent")
    return not (when == "before" and number) and not (
        in_the_middle and case in ("edit", "replace", "move over")
    )


MATRIX = [
    pytest.param(
        case,
        f"{when} {transaction}",
        marks=[] if is_of_the_normal_run(case, number, when) else [pytest.mark.long],
    )
    for case, (_, _, _, transactions) in CASES.items()
    for number, transaction in enumerate(transactions)
    for when in ("before", "after")
]


def check(article: Article, expected: Files, *held: str) -> None:
    """The next mount, left alone, makes Figshare hold ``expected``, and owes nothing after that.

    ``held``: names that are shown, and stay here.
    """
    mount = article.mount
    assert isinstance(mount, CrashingMount)
    mount.start()
    shown = {name for name in os.listdir(article.path) if name not in held}
    assert shown == set(expected)
    for name, data in expected.items():
        assert (article.path / name).read_bytes() == data
    wait_until(lambda: article.remote() == stored(expected), 15, f"{article.remote()}, {mount.log()[-3000:]}")
    wait_until(lambda: len(mount.owed()) == len(held), 15, "nothing is owed")
    assert article.remote() == stored(expected)
    assert set(os.listdir(article.path)) == {*expected, *held}
    complete = [entry["path"] for entry in mount.sandbox.requests("upload", "PUT") if entry["status"] == 200]
    assert len(complete) == len(set(complete)), f"sent again: {complete}"


@pytest.mark.parametrize(("case", "where"), MATRIX)
def test_killed_at(crashing: CrashingMount, article: Article, case: str, where: str) -> None:
    """Before its first transaction nothing has happened; after it all of it happens, once."""
    before, act, after, transactions = CASES[case]
    article.put(before)
    wait_until(lambda: not crashing.owed(), what=str(crashing.owed()))
    crashing.sandbox.clear_requests()
    crashing.crash_at(where)
    with contextlib.suppress(OSError):  # whom the end of the daemon meets in a call
        act(article.path)
    crashing.has_crashed()
    undone = where == f"before {transactions[0]}"
    held: list[str] = []
    if undone and case == "rename over":
        held = ["f.crdownload"]  # its close was answered
    if undone and case == "replace":
        before = {}  # unlink was answered; the new file was not closed
    check(article, before if undone else after, *held)
    for name in held:
        assert (article / name).read_bytes() == NEW
        (article / name).unlink()
    wait_until(lambda: not crashing.owed(), what=str(crashing.owed()))


def test_attributes_that_were_set_before_the_upload(make_mount: Callable[..., Mount]) -> None:
    """README: mode, time and extended attributes outlive a crash, set before the close or after it, on a new
    file, an overwritten and a moved one; also when Figshare has the file before anybody has looked.
    """
    mount = make_mount("--close-timeout", "0", "--grace", "0.3")
    mount.claim("earlier mount", "again in", "503")
    article = mount.articles / "Data set"
    article.mkdir()
    for name in ("over", "moves"):
        (article / name).write_bytes(OLD)
    title = "Data set"
    wait_until(
        lambda: mount.sandbox.remote_files(title) == stored({"over": OLD, "moves": OLD}), what="stored"
    )
    mount.sandbox.set_faults([{"role": "upload", "method": "PUT", "action": "status", "status": 503}])
    with (article / "new").open("wb") as file:
        file.write(NEW)
        os.setxattr(file.fileno(), "user.when", b"before the close")
        os.setxattr(file.fileno(), "user.gone", b"x")
    (article / "over").write_bytes(NEW)
    (article / "moves").rename(article / "moved")
    os.removexattr(article / "new", "user.gone")
    for name in ("new", "over", "moved"):
        os.setxattr(article / name, "user.note", name.encode())
        os.utime(article / name, (1e9, 1e9))
        (article / name).chmod(0o600)

    def check_attributes() -> None:
        for name in ("new", "over", "moved"):
            assert os.getxattr(article / name, "user.note") == name.encode()
            found = (article / name).stat()
            assert (found.st_mtime, found.st_mode & 0o777) == (1e9, 0o600)
        assert os.getxattr(article / "new", "user.when") == b"before the close"
        assert "user.gone" not in os.listxattr(article / "new")

    mount.kill()
    mount.start()
    check_attributes()
    mount.kill()
    mount.sandbox.set_faults([])
    mount.start()  # nobody looks into it
    expected = stored({"new": NEW, "over": NEW, "moved": OLD})
    wait_until(lambda: mount.sandbox.remote_files(title) == expected, what="uploaded")
    check_attributes()
    mount.remount()
    check_attributes()


@pytest.mark.parametrize("case", ["new", "overwrite", "edit", "move"])
def test_killed_in_the_middle_of_a_part(crashing: CrashingMount, article: Article, case: str) -> None:
    """Two parts are there, two are on the way: only those are sent by the next mount."""
    before, act, after, _ = CASES[case]
    article.put(before)
    wait_until(lambda: not crashing.owed(), what=str(crashing.owed()))
    sandbox = crashing.sandbox
    sandbox.clear_requests()
    sandbox.set_faults(
        [
            {
                "role": "upload",
                "method": "PUT",
                "path": "/[34]$",
                "action": "bandwidth",
                "bytes_per_second": 500,
            }
        ]
    )

    def complete() -> list[str]:
        return [entry["path"] for entry in sandbox.requests("upload", "PUT") if entry["status"] == 200]

    killer_pid = os.fork()
    if killer_pid == 0:  # the program: it hangs in close()
        with contextlib.suppress(OSError):
            act(article.path)
        os._exit(0)
    wait_until(lambda: len(complete()) == 2, what="two parts are there")
    crashing.kill()
    os.waitpid(killer_pid, 0)
    sandbox.set_faults([])
    check(article, after)
    parts = sorted(path.rpartition("/")[2] for path in complete())
    assert parts == ["1", "2", "3", "4"]
