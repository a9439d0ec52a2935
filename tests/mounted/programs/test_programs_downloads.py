"""Programs that bring files from elsewhere: curl, wget, aria2, git (programs.md §2)."""

from __future__ import annotations

import email.utils
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from processes import (
    Article,
    Mount,
    children,
    content,
    run,
    write_tree,
)
from samples import OLD, Needs

DATA = content("from the web", 2_500_000)
MODIFIED = 1_400_000_000  # Tue, 13 May 2014 16:53:20 GMT


class _Handler(http.server.BaseHTTPRequestHandler):
    """Sends DATA as ``/f.bin``, with ranges and a date."""

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def _answer(self, *, body: bool) -> None:
        asked = self.headers.get("Range", "").removeprefix("bytes=").split("-")
        since = self.headers.get("If-Modified-Since")
        if since is not None and email.utils.parsedate_to_datetime(since).timestamp() >= MODIFIED:
            self.send_response(304)
            self.end_headers()
            return
        start = int(asked[0] or 0)
        end = int(asked[1]) + 1 if len(asked) > 1 and asked[1] else len(DATA)
        self.send_response(206 if "Range" in self.headers else 200)
        if "Range" in self.headers:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(DATA)}")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(end - start))
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Last-Modified", email.utils.formatdate(MODIFIED, usegmt=True))
        self.end_headers()
        if body:
            self.wfile.write(DATA[start:end])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/f.bin"
        server.shutdown()
        thread.join()


def test_curl(article: Article, url: str, needs: Needs) -> None:
    """``curl -o`` new and over; ``-OR`` with the server's time: one upload each, none for the same bytes."""
    needs("curl")
    article.put({"a.bin": OLD})
    run("curl", "-sSf", "-o", "a.bin", url, cwd=article.path)
    article.will_hold({"a.bin": DATA})
    run("curl", "-sSf", "-OR", url, cwd=article.path)
    article.will_hold({"a.bin": DATA, "f.bin": DATA})
    assert (article / "f.bin").stat().st_mtime == MODIFIED
    assert article.uploads() == 2
    run("curl", "-sSf", "-OR", url, cwd=article.path)
    article.will_hold({"a.bin": DATA, "f.bin": DATA})
    assert article.uploads() == 2


def test_curl_goes_on(article: Article, url: str, needs: Needs) -> None:
    """``curl -C -`` writes on behind a stored part of the file."""
    needs("curl")
    article.put({"f.bin": DATA[:1_300_000]})
    run("curl", "-sSf", "-C", "-", "-O", url, cwd=article.path)
    article.will_hold({"f.bin": DATA})
    assert article.uploads() == 1


def test_curl_to_a_folder(article: Article, url: str, needs: Needs) -> None:
    """``curl --create-dirs``, several at once (``-Z``)."""
    needs("curl")
    run("curl", "-sSfZ", "--create-dirs", "-o", "a/b/f", url, "-o", "a/g", url, cwd=article.path)
    article.holds({"a/b/f": DATA, "a/g": DATA})
    assert article.uploads() == 2


def test_curl_that_fails(article: Article, needs: Needs) -> None:
    """Nobody answers: an error of curl's, and nothing in the article."""
    needs("curl")
    run("curl", "-sSf", "-o", "f", "http://127.0.0.1:9/f", cwd=article.path, code=7)
    article.shows({})


def test_wget(article: Article, url: str, needs: Needs) -> None:
    """``wget``, ``-O``, ``-N`` again: the server's time is kept, so nothing is fetched or uploaded again."""
    needs("wget")
    run("wget", "-q", url, cwd=article.path)
    article.holds({"f.bin": DATA})
    assert (article / "f.bin").stat().st_mtime == MODIFIED
    run("wget", "-q", "-O", "g.bin", url, cwd=article.path)
    run("wget", "-q", "-N", url, cwd=article.path)
    article.holds({"f.bin": DATA, "g.bin": DATA})
    assert article.uploads() == 2


def test_wget_goes_on(article: Article, url: str, needs: Needs) -> None:
    """``wget -c`` appends to a stored part of the file; once more: nothing to do."""
    needs("wget")
    article.put({"f.bin": DATA[:123_457]})
    run("wget", "-q", "-c", url, cwd=article.path)
    article.will_hold({"f.bin": DATA})
    assert article.uploads() == 1


def test_aria2(article: Article, url: str, needs: Needs) -> None:
    """aria2c in two pieces at once: its control file is not uploaded, and is gone."""
    needs("aria2c")
    run("aria2c", "-q", "--no-conf", "-x2", "-s2", "-k1M", url, cwd=article.path)
    article.shows({"f.bin": DATA})
    article.will_hold({"f.bin": DATA})
    assert article.uploads() == 1


# -- git ------------------------------------------------------------

GIT = {
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_SYSTEM": "/dev/null",
    "GIT_AUTHOR_NAME": "A",
    "GIT_AUTHOR_EMAIL": "a@example.org",
    "GIT_COMMITTER_NAME": "A",
    "GIT_COMMITTER_EMAIL": "a@example.org",
}


def git(directory: Path, *words: str | Path) -> str:
    return run("git", "-C", directory, *words, env=GIT).stdout


@pytest.fixture
def repository(tmp_path: Path, needs: Needs) -> Path:
    needs("git")
    path = write_tree(tmp_path / "repository", {"README": b"read me\n", "src/a.py": b"a = 1\n" * 500})
    git(path, "init", "-q", "-b", "main", "--template=")
    git(path, "add", ".")
    git(path, "commit", "-q", "-m", "first")
    return path


#: git asks whether it can make a link, and keeps links as files where it cannot.
PROBE = "WARNING figfs.verbs.linking: the link .* is refused: 'testing'"


def test_git_clone(article: Article, repository: Path) -> None:
    """``git clone`` into an article: every file is there, no lock, no temporary name; git finds it sound."""
    article.mount.claim(PROBE)
    git(repository, "clone", "-q", "--no-local", "--template=", repository, article / "clone")
    clone = article / "clone"
    assert git(clone, "status", "--porcelain") == ""
    git(clone, "fsck", "--strict")
    shown = {name: data for name, data in children(article.path).items() if data}
    article.will_hold(shown)
    assert shown["clone/src/a.py"] == b"a = 1\n" * 500
    assert not [name for name in shown if name.endswith(".lock") or "/tmp_" in name]
    assert article.uploads() < 45  # about 13 files; git writes its configuration anew for each line of it


def test_git_works_in_the_mount(article: Article, repository: Path, elsewhere: Mount) -> None:
    """init, add, commit, commit -a, gc in an article; a mount elsewhere finds a sound repository."""
    article.mount.claim(PROBE)
    (article / "a.py").write_bytes(b"a = 1\n")
    git(article.path, "init", "-q", "-b", "main", "--template=")
    git(article.path, "add", ".")
    git(article.path, "commit", "-q", "-m", "first")
    (article / "a.py").write_bytes(b"a = 2\n")
    git(article.path, "commit", "-q", "-am", "second")
    article.will_hold({name: data for name, data in children(article.path).items() if data})
    there = elsewhere.articles / article.title
    assert git(there, "log", "--format=%s").split() == ["second", "first"]
    git(there, "fsck", "--strict")
    git(article.path, "gc", "-q", "--prune=now")
    assert git(article.path, "status", "--porcelain") == ""
    assert git(article.path, "log", "--format=%s").split() == ["second", "first"]
