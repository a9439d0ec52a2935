"""The token: where it is looked for, and that it is never shown."""

from __future__ import annotations

import dataclasses
import errno
import os
import sys
import tempfile
import threading
import types
from pathlib import Path

import pytest

from figfs.commandline import login
from figfs.commandline.options import load
from figfs.errors import ConfigurationError
from figfs.settings import Token, check_token
from figfs.tokens import credentials
from figfs.tokens.credentials import Credential, OAuth, find_token, token_file


def keep(path: Path, text: str, mode: int = 0o600) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return path


def test_the_order_in_which_a_token_is_looked_for(tmp_path: Path) -> None:
    """A named file, FIGFS_TOKEN, the file of config.toml, the systemd credential, the file of figfs login."""
    directory = tmp_path / "config"
    keep(token_file(directory), "kept")
    keep(tmp_path / "credentials" / "figfs-token", "credential")
    configured = keep(tmp_path / "configured", "configured")
    named = keep(tmp_path / "named", "named")
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path / "credentials")}

    def found(**said: object) -> str:
        return find_token(**{"directory": directory, **said})[0].reveal()  # type: ignore[arg-type]

    with_variable = environ | {"FIGFS_TOKEN": "variable"}
    assert found(environ=with_variable, named=named, configured=configured) == "named"
    assert found(environ=with_variable, configured=configured) == "variable"
    assert found(environ=environ, configured=configured) == "configured"
    assert found(environ=environ) == "credential"
    assert found(environ={"CREDENTIALS_DIRECTORY": str(tmp_path)}) == "kept"
    assert found(environ={}) == "kept"


def test_a_file_named_in_any_way_counts_by_its_way(tmp_path: Path) -> None:
    """FIGFS_TOKEN_FILE comes before FIGFS_TOKEN, token-file of config.toml after it."""
    named = keep(tmp_path / "named", "named")
    (tmp_path / "config.toml").write_text(f'token-file = "{named}"')
    environ = {"FIGFS_TOKEN": "variable"}

    def found(**said: object) -> tuple[str, str]:
        loaded = load(Path("/mnt"), **{"directory": tmp_path, **said})  # type: ignore[arg-type]
        return loaded.settings.token.reveal(), loaded.token_origin

    assert found(environ=environ) == ("variable", "FIGFS_TOKEN")
    assert found(environ={}) == ("named", str(named))
    assert found(environ=environ | {"FIGFS_TOKEN_FILE": str(named)}) == ("named", str(named))
    assert found(environ=environ, mount_options=[f"token_file={named}"]) == ("named", str(named))
    assert found(environ=environ, flags={"token-file": str(named)}) == ("named", str(named))


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o601])
def test_a_kept_token_that_others_can_read_is_refused(mode: int, tmp_path: Path) -> None:
    """The file of figfs login is for its owner only; the message says which command mends it."""
    path = keep(token_file(tmp_path), "kept", mode)
    with pytest.raises(ConfigurationError, match=f"chmod 600 {path}"):
        find_token(environ={}, directory=tmp_path)


def test_a_named_file_may_have_any_mode(tmp_path: Path) -> None:
    """What somebody names is their choice: secrets of containers are mounted readable for all."""
    named = keep(tmp_path / "named", "named", 0o644)
    assert find_token(named=named, environ={}, directory=tmp_path)[0].reveal() == "named"


def test_white_space_around_a_token_is_taken_off(tmp_path: Path) -> None:
    """A trailing newline, of any editor, is not part of it."""
    named = keep(tmp_path / "named", "\ufeff".encode().decode("latin-1")[:0] + " abc\r\n\n")
    assert find_token(named=named, environ={})[0].reveal() == "abc"


@pytest.mark.parametrize(
    "text", ["", " \n", "s3cr3t s3cr3t", "s3cr3t\ns3cr3t", "s3cr3t\x00", "s3cr3t\x1b[0m", "s3cr3té"]
)
def test_an_odd_token_is_refused_without_showing_it(text: str) -> None:
    """It would end up in an HTTP header; the message names where it came from, not what it is."""
    with pytest.raises(ConfigurationError) as caught:
        check_token(text, "FIGFS_TOKEN")
    assert "FIGFS_TOKEN" in str(caught.value)
    assert "s3cr3t" not in str(caught.value)
    assert caught.value.exit_code == 1


def test_what_to_do_without_a_token(tmp_path: Path) -> None:
    """Exit code 1, and the three ways to give one."""
    with pytest.raises(ConfigurationError) as caught:
        find_token(environ={"FIGFS_TOKEN": ""}, directory=tmp_path)
    assert str(caught.value) == "no token: run 'figfs login', or give --token-file FILE or FIGFS_TOKEN"
    assert caught.value.exit_code == 1


def test_a_named_file_that_cannot_be_read(tmp_path: Path) -> None:
    """No other source is taken instead of a file that was asked for."""
    keep(token_file(tmp_path), "kept")
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(ConfigurationError, match=f"cannot read the token in {path}"):
            find_token(named=path, environ={"FIGFS_TOKEN": "variable"}, directory=tmp_path)


# ---- one file, whatever leads to it, and one process at a time ---------------------------------------------


def oauth(token: str, refresh: str) -> Credential:
    return Credential(
        token=Token(token),
        oauth=OAuth(client_id="app", client_secret=Token("secret"), refresh_token=Token(refresh)),
        api="https://a.test/v2",
    )


def test_a_link_is_another_name_of_its_file(tmp_path: Path) -> None:
    """One lock, one file, which is replaced; the link stays one. Logging out removes both."""
    path, link = tmp_path / "vault" / "work.json", tmp_path / "work.json"
    credentials.write(oauth("old", "r1"), path)
    link.symlink_to("vault/work.json")
    held = credentials.try_lock(link)
    assert held is not None
    assert credentials.try_lock(path) is None
    os.close(held)
    credentials.write(oauth("new", "r2"), link)
    assert link.is_symlink()
    assert credentials.read(path).token == Token("new")
    credentials.forget(link)
    assert not link.is_symlink()
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("command", ["login", "logout"])
def test_a_renewal_is_waited_for(command: str, tmp_path: Path) -> None:
    """What it writes is not the last word; the first login has a lock as well, and none is left behind."""
    path = tmp_path / "new" / "work.json"
    with credentials.locked(path):
        assert credentials.try_lock(path) is None
    login.keep(oauth("old", "r1"), path)
    held = credentials.try_lock(path)
    assert held is not None

    def act() -> None:
        if command == "login":
            login.keep(oauth("typed", "r9"), path)
        else:
            credentials.forget(path)

    thread = threading.Thread(target=act)
    thread.start()
    thread.join(0.2)
    assert thread.is_alive()
    credentials.write(oauth("renewed", "r2"), path)
    os.close(held)
    thread.join(20)
    if command == "login":
        assert credentials.read(path).token == Token("typed")
        assert list(path.parent.iterdir()) == [path]
    else:
        assert list(path.parent.iterdir()) == []


def test_a_renewal_that_does_not_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said, and nothing is touched."""
    monkeypatch.setattr(credentials, "LOCK_TIMEOUT", 0.1)
    path = tmp_path / "work.json"
    login.keep(oauth("old", "r1"), path)
    held = credentials.try_lock(path)
    assert held is not None
    with pytest.raises(ConfigurationError, match="a mount is renewing"):
        credentials.forget(path)
    assert credentials.read(path).token == Token("old")
    os.close(held)


@pytest.fixture
def keyring(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    entries: dict[str, str] = {}
    module = types.SimpleNamespace(
        get_password=lambda service, name: entries.get(name),
        set_password=lambda service, name, text: entries.__setitem__(name, text),
        delete_password=lambda service, name: entries.pop(name),
    )
    monkeypatch.setitem(sys.modules, "keyring", module)  # type: ignore[arg-type]
    return entries


@pytest.mark.parametrize("to_keyring", [False, True])
def test_a_login_that_cannot_be_kept(
    to_keyring: bool, keyring: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk: there is a good login still, all of one state; and no secrets without a file."""
    path, other = tmp_path / "x.json", tmp_path / "y.json"
    login.keep(dataclasses.replace(oauth("old", "r1"), in_keyring=True), path)
    monkeypatch.setattr(tempfile, "mkstemp", full)
    new = Credential(token=Token("new"), api="https://a.test/v2", in_keyring=to_keyring)
    for place in (path, other):
        with pytest.raises(ConfigurationError, match="No space left"):
            login.keep(new, place)
    kept = credentials.read(path)
    assert (kept.token, kept.oauth is None) == (Token("new" if to_keyring else "old"), to_keyring)
    assert list(keyring) == [str(path)]


def full(*_: object, **__: object) -> tuple[int, str]:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_what_the_keyring_had_goes_last(keyring: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    login.keep(dataclasses.replace(oauth("old", "r1"), in_keyring=True), path)
    assert list(keyring) == [str(path)]
    login.keep(oauth("new", "r2"), path)
    assert keyring == {}
    assert credentials.read(path).token == Token("new")
