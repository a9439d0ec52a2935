"""The token: where it is looked for, and that it is never shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from figfs.commandline.options import load
from figfs.errors import ConfigurationError
from figfs.settings import check_token
from figfs.tokens.credentials import find_token, token_file


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
