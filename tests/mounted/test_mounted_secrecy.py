"""Seen by 5: what imports what, and where the token goes: to the API, and nowhere else."""

from __future__ import annotations

import http.server
import re
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from processes import MakeMount, Mount, content, errno_of, names, run, wait_until

ROOT = Path(__file__).parent.parent.parent
DATA = content("secret", 50_000)


def importers(module: str) -> set[str]:
    """Files of the package, as git knows them, that import a module."""
    found = subprocess.run(
        ["git", "grep", "-lE", rf"^\s*(import|from) {module}\b", "--", "figfs"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode in (0, 1), found.stderr
    return set(found.stdout.split())


def test_httpx_only_in_figshare_and_sandbox() -> None:
    """``git grep`` finds httpx in figshare/ and sandbox/ only."""
    files = importers("httpx")
    assert files
    assert {name for name in files if not name.startswith(("figfs/figshare/", "figfs/sandbox/"))} == set()


def test_pyfuse3_only_in_fuse_and_mount() -> None:
    """``git grep`` finds pyfuse3 in fuse.py and mount.py only."""
    assert importers("pyfuse3") == {"figfs/fuse.py", "figfs/mount.py"}


class Recorder(http.server.ThreadingHTTPServer):
    """Another host: what it is sent is kept, headers and all; it answers with ``body``, whole or a range."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.seen: list[str] = []
        self.body = DATA

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Recorder

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.seen.append(f"{self.command} {self.path}\n{self.headers}\n{body!r}")
        data, code = self.server.body, 200
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range") or "")
        if wanted:
            first, last = int(wanted[1]), min(int(wanted[2]), len(data) - 1)
            code = 206
        self.send_response(code)
        if wanted:
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(data)}")
            data = data[first : last + 1]
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_PUT = do_POST = do_DELETE = answer

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def elsewhere() -> Iterator[Recorder]:
    with Recorder() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def stored_file(mount: Mount) -> Path:
    """A file that Figshare has and no cache of this machine."""
    path = mount.articles / "Secrets"
    path.mkdir()
    (path / "f").write_bytes(DATA)
    mount.remount()
    return path / "f"


def test_downloads_elsewhere(make_mount: MakeMount, elsewhere: Recorder) -> None:
    """A download that leads to another host: the bytes come from there, the token does not go there."""
    mount = make_mount("--cache-size", "0")  # else it is read from what was uploaded
    path = stored_file(mount)
    mount.sandbox.set_faults(
        [
            {
                "role": "download",
                "action": "status",
                "status": 302,
                "headers": {"Location": f"{elsewhere.url}/bytes"},
            }
        ]
    )
    assert path.read_bytes() == DATA
    assert elsewhere.seen
    assert mount.sandbox.token not in "".join(elsewhere.seen)
    assert "authorization" not in "".join(elsewhere.seen).lower()
    mount.sandbox.set_faults([])


def test_download_url_elsewhere(make_mount: MakeMount, elsewhere: Recorder) -> None:
    """A ``download_url`` at another host, asked when the API's own route fails: without token."""
    mount = make_mount("--cache-size", "0")  # else it is read from what was uploaded
    mount.claim("WARNING")
    path = stored_file(mount)
    article = mount.sandbox.article("Secrets")
    (file,) = article["files"]
    shown = mount.sandbox.ask("GET", f"/v2/account/articles/{article['id']}/files/{file['id']}")
    shown["download_url"] = f"{elsewhere.url}/ndownloader/files/{file['id']}"
    details = mount.sandbox.ask("GET", f"/v2/account/articles/{article['id']}")
    details["files"] = [shown]
    mount.sandbox.set_faults(
        [
            {"method": "GET", "path": "/files$", "action": "status", "status": 200, "body": [shown]},
            {
                "method": "GET",
                "path": f"/account/articles/{article['id']}$",
                "action": "status",
                "status": 200,
                "body": details,
            },
            {"role": "download", "action": "status", "status": 403},
        ]
    )
    assert names(path.parent) == {"f"}
    assert path.read_bytes() == DATA
    assert elsewhere.seen
    assert mount.sandbox.token not in "".join(elsewhere.seen)
    mount.sandbox.set_faults([])


def test_uploads_elsewhere(make_mount: MakeMount, elsewhere: Recorder) -> None:
    """An upload service at another host gets the bytes, not the token."""
    mount = make_mount("--close-timeout", "2", "--unmount-timeout", "1")
    mount.claim("WARNING", "ERROR .* is not stored")
    (mount.articles / "Secrets").mkdir()
    record = {
        "id": 1,
        "name": "g",
        "size": len(DATA),
        "status": "created",
        "upload_url": f"{elsewhere.url}/upload/1",
    }
    mount.sandbox.set_faults(
        [{"method": "GET", "path": r"/files/\d+$", "action": "status", "status": 200, "body": record}]
    )
    run("cp", "/dev/stdin", mount.articles / "Secrets" / "g", stdin=DATA, code=None)
    wait_until(lambda: elsewhere.seen)
    assert mount.sandbox.token not in "".join(elsewhere.seen)
    mount.sandbox.set_faults([])


def test_api_that_redirects(make_mount: MakeMount, elsewhere: Recorder) -> None:
    """An API that sends its clients to another host: an error, or no token there."""
    mount = make_mount("--op-timeout", "3")
    mount.claim("WARNING")
    mount.sandbox.set_faults(
        [
            {
                "method": "GET",
                "path": "^/v2/account/articles$",
                "action": "status",
                "status": status,
                "headers": {"Location": f"{elsewhere.url}/v2/account/articles"},
            }
            for status in (302,)
        ]
    )
    errno_of(lambda: names(mount.articles))
    assert mount.sandbox.token not in "".join(elsewhere.seen)
    mount.sandbox.set_faults([])
    mount.alive()


def test_token_is_nowhere(make_mount: MakeMount, tmp_path: Path) -> None:
    """The token is in no log at --debug, no argument of the daemon, no file of its state."""
    mount = make_mount("--op-timeout", "3", "--close-timeout", "3")
    mount.claim("WARNING", "is not stored")
    token = mount.sandbox.token
    path = mount.articles / "Secrets"
    path.mkdir()
    (path / "f").write_bytes(DATA)
    echo = {
        "message": f"token {token} is not good",
        "code": "Bad",
        "data": {"Authorization": f"token {token}"},
    }
    mount.sandbox.set_faults([{"role": "api", "action": "status", "status": 422, "body": echo}])
    run("cp", "/dev/stdin", path / "g", stdin=DATA, code=1)
    errno_of(lambda: (mount.articles / "Another one").mkdir())
    mount.sandbox.set_faults([])
    assert mount.process is not None
    assert token.encode() not in Path(f"/proc/{mount.process.pid}/cmdline").read_bytes()
    assert "422" in mount.log()
    mount.unmount()
    for file in mount.base.rglob("*"):
        if file.is_file():
            assert token.encode() not in file.read_bytes(), file
