"""figfs login --oauth, logout, accounts, against a sandbox; a thread that follows redirects is a browser."""

from __future__ import annotations

import io
import json
import re
import socket
import stat
import struct
import subprocess
import sys
import threading
import types
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from figfs.cli import main
from figfs.commandline.options import load
from figfs.errors import ConfigurationError
from figfs.settings import Token
from figfs.tokens import credentials
from figfs.tokens.credentials import Credential, account_file

SECRET = "sandbox-client-secret"
CLIENT = {"client_id": "sandbox-client", "client_secret": SECRET}
WHO = "Ada Sandbox <ada@example.org>"


class Sandbox:
    """In a process of its own."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "figfs.cli", "sandbox"], stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        ready = json.loads(self.process.stdout.readline())
        self.api: str = ready["api"]
        self.token: str = ready["token"]
        self.origin = self.api.removesuffix("/v2")

    def ask(self, method: str, path: str, body: object = None) -> Any:
        request = urllib.request.Request(
            f"{self.origin}/_sandbox/{path}",
            method=method,
            headers={"Content-Type": "application/json"},
            data=None if body is None else json.dumps(body).encode(),
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(20)
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture(scope="module")
def running() -> Iterator[Sandbox]:
    sandbox = Sandbox()
    yield sandbox
    sandbox.stop()


@pytest.fixture
def sandbox(running: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    monkeypatch.setenv("FIGFS_API", running.api)
    running.ask("DELETE", "requests")
    yield running
    running.ask("PUT", "settings", {"oauth_seconds": 3600, "oauth_consent": True})


@pytest.fixture
def client(tmp_path: Path) -> Path:
    path = tmp_path / "client.json"
    path.write_text(json.dumps(CLIENT))
    return path


class Browser:
    """What ``webbrowser.open`` starts: it goes where it is sent, and keeps the pages."""

    def __init__(self) -> None:
        self.opened: list[str] = []
        self.pages: list[str] = []
        self.threads: list[threading.Thread] = []
        self.visit: Callable[[str], object] = self.go

    def open(self, url: str) -> bool:
        self.opened.append(url)
        self.threads.append(threading.Thread(target=self.visit, args=(url,)))
        self.threads[-1].start()
        return True

    def go(self, url: str) -> None:
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                self.pages.append(answer.read().decode())
        except urllib.error.HTTPError as exc:
            self.pages.append(exc.read().decode())

    def seen(self) -> list[str]:
        """All pages, once the last one is there."""
        for thread in self.threads:
            thread.join(30)
        return self.pages

    def asked(self) -> dict[str, str]:
        return dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(self.opened[-1]).query))


@pytest.fixture
def browser(monkeypatch: pytest.MonkeyPatch) -> Iterator[Browser]:
    browser = Browser()
    monkeypatch.setattr("webbrowser.open", browser.open)
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    yield browser
    for thread in browser.threads:
        thread.join(30)


def login(*arguments: str | Path) -> int:
    return main(["login", "--oauth", "--browser", *map(str, arguments)])


def error(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that says what went wrong, after the URL to open."""
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("figfs: ")]
    assert len(lines) == 1
    assert SECRET not in lines[0]
    return lines[0]


def test_a_login_in_the_browser(
    sandbox: Sandbox, browser: Browser, client: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Tokens and what renews them are kept, for the owner only; no secret is printed; a mount finds them."""
    assert login("--client", client, "--account", "work") == 0
    asked = browser.asked()
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", asked.pop("redirect_uri"))
    assert len(asked.pop("state")) >= 32
    assert asked == {"response_type": "code", "client_id": "sandbox-client", "scope": "all"}
    assert "You can close this page" in browser.seen()[0]
    path = account_file("work")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    kept = credentials.read(path)
    assert kept.oauth is not None
    assert (kept.api, kept.who) == (sandbox.api, WHO)
    printed = capsys.readouterr()
    assert printed.out.splitlines()[0] == WHO
    assert f"The tokens are kept in {path}." in printed.out
    for secret in (kept.token, kept.oauth.refresh_token, kept.oauth.client_secret):
        assert secret is not None
        assert secret.reveal() not in printed.out + printed.err
    settings = load(Path("/mnt"), flags={"account": "work"}, environ={}).settings
    assert (settings.token, settings.api, settings.token_file) == (kept.token, sandbox.api, path)


def test_again_without_the_client(sandbox: Sandbox, browser: Browser, client: Path) -> None:
    """What is kept knows the application; as TOML it is understood as well."""
    toml = client.with_name("client.toml")
    toml.write_text(f'client_id = "sandbox-client"\nclient_secret = "{SECRET}"\n')
    assert login("--client", toml) == 0
    first = credentials.read(credentials.token_file())
    assert login() == 0
    assert credentials.read(credentials.token_file()).token != first.token


def test_the_port_of_the_redirect(sandbox: Sandbox, browser: Browser, client: Path) -> None:
    """As it is registered with the application."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        assert login("--client", client, "--port", str(port)) == 1  # taken
    assert browser.opened == []
    assert login("--client", client, "--port", str(port)) == 0
    assert browser.asked()["redirect_uri"] == f"http://127.0.0.1:{port}/"


@pytest.mark.parametrize(
    "query", ["code=stolen&state=guessed", "error=access_denied&state=guessed", "code=stolen"]
)
@pytest.mark.parametrize("then", [False, True])
def test_a_wrong_state(
    query: str,
    then: bool,
    sandbox: Sandbox,
    browser: Browser,
    client: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A code of somebody else's is not taken, no token asked for with it, and no login ended by it."""

    def attack(url: str) -> None:
        back = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(url).query))["redirect_uri"]
        browser.go(f"{back}?{query}")
        if then:
            browser.go(url)

    browser.visit = attack
    assert login("--client", client, "--timeout", "20" if then else "0.5") == (0 if then else 1)
    assert "does not belong to the login" in browser.seen()[0]
    if not then:
        assert "its state is wrong" in error(capsys)
        assert credentials.accounts() == {}
        assert sandbox.ask("GET", "requests") == []


def test_a_browser_that_does_not_wait_for_its_page(sandbox: Sandbox, browser: Browser, client: Path) -> None:
    """It closes, or resets, the connection once it has sent the code: that counts."""

    class NoRedirect(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_: object, **__: object) -> None:
            return None

    def visit(url: str) -> None:
        try:
            urllib.request.build_opener(NoRedirect).open(url, timeout=30)
        except urllib.error.HTTPError as exc:
            to = urllib.parse.urlsplit(exc.headers["Location"])
            with socket.create_connection((to.hostname, to.port)) as connection:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                connection.sendall(f"GET /?{to.query} HTTP/1.1\r\n\r\n".encode())

    browser.visit = visit
    assert login("--client", client, "--timeout", "20") == 0


def test_the_person_says_no(
    sandbox: Sandbox, browser: Browser, client: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the words of the page."""
    sandbox.ask("PUT", "settings", {"oauth_consent": False})
    assert login("--client", client) == 1
    assert "the login was refused: access_denied The resource owner denied the request" in error(capsys)
    assert credentials.accounts() == {}


def test_nobody_comes(browser: Browser, client: Path, capsys: pytest.CaptureFixture[str]) -> None:
    browser.visit = lambda url: None
    assert login("--client", client, "--timeout", "0.1", "--api", "http://127.0.0.1:1/v2") == 1
    assert "nobody has logged in within 0.1 seconds" in error(capsys)


def test_a_wrong_secret(
    sandbox: Sandbox, browser: Browser, client: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    client.write_text(json.dumps(CLIENT | {"client_secret": "wr0ng-s3cret"}))
    assert login("--client", client) == 1
    line = error(capsys)
    assert "gives no token for this login" in line
    assert "wr0ng" not in line
    assert credentials.accounts() == {}


def test_other_requests_do_not_disturb(sandbox: Sandbox, browser: Browser, client: Path) -> None:
    """A browser asks for an icon; others send garbage, too much, or nothing."""

    def visit(url: str) -> None:
        back = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(url).query))["redirect_uri"]
        port = urllib.parse.urlsplit(back).port
        for garbage in (b"", b"\xff\n\r\n\r\n", b"POST /?code=a&state=b HTTP/1.1\r\n\r\n", b"G" * 100_000):
            with socket.create_connection(("127.0.0.1", port)) as other:
                try:
                    other.sendall(garbage)
                    other.shutdown(socket.SHUT_WR)
                    while other.recv(4096):
                        pass
                except ConnectionError:
                    pass
        for path in ("favicon.ico", "", "?state=x", "other?code=a&state=b"):
            browser.go(back + path)
        browser.go(url)

    browser.visit = visit
    assert login("--client", client) == 0
    assert ["close this page" in page for page in browser.seen()] == [False] * 4 + [True]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, "cannot read"),
        ("s3cret = ", "neither JSON nor TOML"),
        ('{"client_id": ', "neither JSON nor TOML"),
        ('client_secret = "s3cret"', "no client_id"),
        ('{"client_id": "a", "client_secret": 7}', "no client_secret"),
        ('{"client_id": "a", "client_secret": " "}', "no client_secret"),
    ],
)
def test_files_that_name_no_application(
    text: str | None, expected: str, tmp_path: Path, browser: Browser, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line, which does not quote the file; nothing is opened."""
    path = tmp_path / "client"
    if text is not None:
        path.write_text(text)
    assert login("--client", path) == 2
    line = error(capsys)
    assert expected in line
    assert "s3cret" not in line
    assert browser.opened == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["--oauth"],
        ["--client", "x"],
        ["--port", "1"],
        ["--account", "../token"],
        ["--account", ".hidden"],
        ["--account", ""],
        ["--account", "a/b"],
        ["--account", "a", "--token-file", "/tmp/b"],
        ["--oauth", "--client", "x", "--timeout", "soon"],
    ],
)
def test_what_makes_no_sense(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["login", *arguments]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_the_page_must_be_safe(client: Path, browser: Browser, capsys: pytest.CaptureFixture[str]) -> None:
    """The code would go over the network for all to see."""
    assert login("--client", client, "--page", "http://figshare.example.org/authorize") == 1
    assert "https is needed" in error(capsys)
    assert browser.opened == []


# ---- several accounts --------------------------------------------------------------------------------------


def personal(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.stdin", io.StringIO(sandbox.token))
    return main(["login", *arguments])


def test_several_accounts(
    sandbox: Sandbox,
    browser: Browser,
    client: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Listed without a request; with --check renewed and asked for; forgotten one by one."""
    assert main(["accounts"]) == 0
    assert "Nobody is logged in" in capsys.readouterr().err
    assert personal(sandbox, monkeypatch) == 0
    assert personal(sandbox, monkeypatch, "--account", "lab-2") == 0
    assert login("--client", client, "--account", "work") == 0
    sandbox.ask("DELETE", "requests")
    capsys.readouterr()
    assert main(["accounts"]) == 0
    assert [re.split(r"  +", line) for line in capsys.readouterr().out.splitlines()] == [
        ["Name", "Kind", "Who", "Token expires"],
        ["default", "personal token", WHO, "never"],
        ["lab-2", "personal token", WHO, "never"],
        ["work", "OAuth", WHO, "in 1 h, then renewed"],
    ]
    assert sandbox.ask("GET", "requests") == []

    sandbox.ask("DELETE", "oauth/access")
    assert main(["accounts", "--check"]) == 0
    assert [line.split()[-1] for line in capsys.readouterr().out.splitlines()[1:]] == ["good"] * 3
    sandbox.ask("DELETE", "oauth/refresh")
    sandbox.ask("DELETE", "oauth/access")
    assert main(["accounts", "--check"]) == 1
    assert "refuses it" in capsys.readouterr().out

    assert main(["logout", "--account", "work"]) == 0
    said = capsys.readouterr().out
    path = account_file("work")
    assert f"Forgotten: account work, the OAuth tokens of {WHO}; {path} is removed." in said
    assert "A mount that runs goes on until" in said
    assert sorted(path.parent.iterdir()) == [account_file("lab-2")]
    assert main(["logout", "--account", "work"]) == 1
    assert "nobody is logged in" in capsys.readouterr().err
    assert main(["logout"]) == 0
    assert list(credentials.accounts()) == ["lab-2"]


def keep_alone(path: Path) -> None:
    """A token of which nothing else is known."""
    credentials.write(Credential(token=Token("alone")), path)


def test_a_token_alone_is_one_of_figshare(
    tmp_path: Path, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of an account it goes to no other API, not to be checked either; a named file is of the named API."""
    assert personal(sandbox, monkeypatch) == 0
    assert personal(sandbox, monkeypatch, "--token-file", str(tmp_path / "own")) == 0
    monkeypatch.delenv("FIGFS_API")
    assert load(Path("/mnt"), environ={}).settings.api == sandbox.api  # not the usual one
    named = {"token-file": str(tmp_path / "own")}
    assert load(Path("/mnt"), environ={}, flags=named).settings.api == sandbox.api
    keep_alone(account_file("default"))
    with pytest.raises(
        ConfigurationError, match=r"is one of https://api\.figshare\.com/v2.*'figfs login --api'"
    ):
        load(Path("/mnt"), environ={}, flags={"api": sandbox.api})
    asked: list[str] = []

    async def check(path: Path, *, api: str) -> None:
        asked.append(credentials.read(path).api or api)
        raise ConfigurationError("not asked")

    monkeypatch.setattr("figfs.commandline.login.check_kept", check)
    assert main(["accounts", "--check", "--api", sandbox.api]) == 1
    assert asked == ["https://api.figshare.com/v2"]
    keep_alone(tmp_path / "named")
    named = {"token-file": str(tmp_path / "named"), "api": sandbox.api}
    assert load(Path("/mnt"), environ={}, flags=named).settings.token == Token("alone")


def test_an_account_in_all_ways(tmp_path: Path, sandbox: Sandbox) -> None:
    """Flag, -o, environment and file; before and behind FIGFS_TOKEN as a token file is."""
    for name in ("a", "b"):
        credentials.write(
            Credential(token=Token(f"token-{name}"), api=sandbox.api), account_file(name, tmp_path)
        )

    def token(**said: Any) -> str:
        return load(Path("/mnt"), **{"directory": tmp_path, "environ": {}, **said}).settings.token.reveal()

    assert token(flags={"account": "a"}, environ={"FIGFS_TOKEN": "t"}) == "token-a"
    assert token(mount_options=["account=a"]) == "token-a"
    assert token(flags={"account": "a"}, environ={"FIGFS_ACCOUNT": "b"}) == "token-a"
    (tmp_path / "config.toml").write_text('account = "b"')
    assert token() == "token-b"
    assert token(environ={"FIGFS_TOKEN": "t"}) == "t"
    assert token(environ={"FIGFS_ACCOUNT": "a"}) == "token-a"
    file = tmp_path / "file"
    file.write_text("in-file")
    assert token(flags={"token-file": str(file)}) == "in-file"
    with pytest.raises(ConfigurationError, match="one of them is it"):
        token(flags={"token-file": str(file), "account": "a"})
    with pytest.raises(ConfigurationError, match="figfs login --account c"):
        token(flags={"account": "c"})
    with pytest.raises(ConfigurationError, match="is one of http"):  # not to be sent to another API
        token(flags={"account": "a", "api": "https://api.figshare.com/v2"})
    keep_alone(account_file("default", tmp_path))
    assert token(flags={"account": "default"}) == "alone"
    with pytest.raises(ConfigurationError, match=r"is one of https://api\.figshare\.com/v2, not of http"):
        token(flags={"account": "default", "api": sandbox.api})
    account_file("a", tmp_path).chmod(0o644)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        token(flags={"account": "a"})


@pytest.mark.parametrize("text", ["{", '{"kind": "oauth"}', '{"access_token": "a b"}', "{}", "{\x00}"])
def test_files_that_hold_nothing(text: str, tmp_path: Path) -> None:
    """One line that names the file and shows nothing of it."""
    path = tmp_path / "token"
    path.write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        credentials.read(path)
    assert str(path) in str(caught.value)
    assert "a b" not in str(caught.value)


# ---- the keyring -------------------------------------------------------------------------------------------


@pytest.fixture
def keyring(monkeypatch: pytest.MonkeyPatch) -> dict[tuple[str, str], str]:
    """A package ``keyring`` that keeps things in a dictionary."""
    entries: dict[tuple[str, str], str] = {}
    module = types.SimpleNamespace(
        get_password=lambda service, name: entries.get((service, name)),
        set_password=lambda service, name, text: entries.__setitem__((service, name), text),
        delete_password=lambda service, name: entries.pop((service, name)),
    )
    monkeypatch.setitem(sys.modules, "keyring", module)  # type: ignore[arg-type]
    return entries


def test_secrets_in_the_keyring(
    sandbox: Sandbox,
    browser: Browser,
    client: Path,
    keyring: dict[tuple[str, str], str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """None is in the file; a logout, and a login without --keyring, take them out of the keyring."""
    assert login("--client", client, "--account", "work", "--keyring") == 0
    path = account_file("work")
    assert list(keyring) == [("figfs", str(path))]
    kept = credentials.read(path)
    assert kept.oauth is not None
    assert kept.oauth.refresh_token is not None
    assert kept.login
    for secret in (kept.token, kept.oauth.refresh_token, kept.oauth.client_secret):
        assert secret.reveal() not in path.read_text()
    assert main(["accounts", "--check"]) == 0
    assert "OAuth, keyring" in capsys.readouterr().out
    assert login("--account", "work") == 0
    assert keyring == {}
    assert login("--account", "work", "--keyring") == 0
    assert main(["logout", "--account", "work"]) == 0
    assert keyring == {}
    assert credentials.accounts() == {}


def test_no_keyring(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Told before anything is asked for."""
    monkeypatch.setitem(sys.modules, "keyring", None)
    assert main(["login", "--keyring"]) == 1
    assert "pip install 'figfs[keyring]'" in capsys.readouterr().err


def test_a_keyring_that_refuses(
    keyring: dict[tuple[str, str], str],
    sandbox: Sandbox,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Locked, or without a service: one line, nothing in the file."""

    def locked(*given: str) -> None:
        raise RuntimeError(f"locked: {given}")

    monkeypatch.setattr(sys.modules["keyring"], "set_password", locked)
    assert personal(sandbox, monkeypatch, "--account", "work", "--keyring") == 1
    line = capsys.readouterr().err
    assert "the keyring refuses: RuntimeError" in line
    assert sandbox.token not in line
    assert credentials.accounts() == {}
