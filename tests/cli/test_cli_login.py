"""figfs login: asks, checks, keeps."""

from __future__ import annotations

import io
import json
import stat
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from figfs.cli import main
from figfs.commandline.login import keep
from figfs.errors import ConfigurationError
from figfs.settings import Token
from figfs.tokens.credentials import Credential, find_token, read, token_file

TOKEN = "s3cr3t-t0ken"
ACCOUNT = {
    "id": 7,
    "email": "jo@example.org",
    "first_name": "Jo",
    "last_name": "D\u00e9\x1b[2J",
    "quota": 20_000_000_000,
    "used_quota": 1_500_000_000,
}


class Figshare(BaseHTTPRequestHandler):
    """Answers GET /v2/account to the right token; the server keeps a list of what was asked."""

    def do_GET(self) -> None:
        assert isinstance(self.server, Server)
        self.server.asked.append((self.path, self.headers["Authorization"]))
        right = self.headers["Authorization"] == f"token {TOKEN}"
        body = json.dumps(ACCOUNT if right else {"message": "no", "code": "x"}).encode()
        self.send_response(200 if right else 401)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


class Server(HTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Figshare)
        self.asked: list[tuple[str, str]] = []


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def login(server: Server, monkeypatch: pytest.MonkeyPatch, typed: str, *arguments: str) -> int:
    monkeypatch.setattr("sys.stdin", io.StringIO(typed))
    return main(["login", "--api", f"http://127.0.0.1:{server.server_port}/v2", *arguments])


def test_a_right_token_is_kept(
    server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """For its owner only, in a directory for its owner only; a mount finds it; whose it is is told."""
    assert login(server, monkeypatch, f" {TOKEN}\n") == 0
    assert server.asked == [("/v2/account", f"token {TOKEN}")]
    path = token_file()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert list(path.parent.iterdir()) == [path]
    assert find_token(environ={})[0] == Token(TOKEN)
    out = capsys.readouterr().out
    assert out.splitlines() == [
        "Jo Dé[2J <jo@example.org>",
        "1.5 GB of 20.0 GB used",
        f"The token is kept in {path}.",
    ]


def test_a_wrong_token_is_not_kept(
    server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The one from before stays, and the wrong one is not shown."""
    keep(Credential(token=Token("before")), token_file())
    assert login(server, monkeypatch, "wr0ng\n") == 1
    err = capsys.readouterr().err
    assert "refuses this token" in err
    assert err.count("\n") == 1
    assert "wr0ng" not in err
    assert find_token(environ={})[0] == Token("before")


def test_the_token_is_kept_where_a_mount_looks_for_it(
    server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """--token-file, or FIGFS_TOKEN_FILE; and FIGFS_TOKEN, which would be taken instead, is told of."""
    assert login(server, monkeypatch, TOKEN, "--token-file", str(tmp_path / "a")) == 0
    monkeypatch.setenv("FIGFS_TOKEN_FILE", str(tmp_path / "b"))
    monkeypatch.setenv("FIGFS_TOKEN", "other")
    assert login(server, monkeypatch, TOKEN) == 0
    assert read(tmp_path / "a") == read(tmp_path / "b")
    assert read(tmp_path / "a").token == Token(TOKEN)
    assert "FIGFS_TOKEN is set" in capsys.readouterr().err
    assert not token_file().exists()


@pytest.mark.parametrize("typed", ["", "\n", "two words\n"])
def test_what_is_no_token_is_not_sent(
    typed: str, server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An empty line, or the wrong thing pasted."""
    assert login(server, monkeypatch, typed) == 1
    assert server.asked == []
    assert capsys.readouterr().err.count("\n") == 1


def test_a_token_that_cannot_be_kept(tmp_path: Path) -> None:
    """One line; nothing is left lying about."""
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="cannot keep the token in"):
        keep(Credential(token=Token(TOKEN)), tmp_path / "file" / "token")
    (tmp_path / "token").mkdir()
    with pytest.raises(ConfigurationError, match="cannot keep the token in"):
        keep(Credential(token=Token(TOKEN)), tmp_path / "token")
    assert sorted(tmp_path.iterdir()) == [tmp_path / "file", tmp_path / "token"]
