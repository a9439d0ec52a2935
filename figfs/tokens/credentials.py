"""What proves who we are: a personal token, or the tokens of OAuth; and the file of an account.

A file holds a personal token alone, in one line, or a JSON object: what else is known of the account, and
what OAuth needs to get the next token. The default account is in ``token``, the others in
``accounts/NAME.json``, beside config.toml; ``--token-file`` names any other. A token alone in the file of an
account is one of Figshare's own API; in any other file it is one of the API that is named with it. With
``--keyring`` the secrets are in the keyring, and the file says so. A file is replaced whole, so that who
reads it has all of one state. Where it is a symbolic link, what it leads to is the file: that is locked and
replaced.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import importlib
import json
import math
import os
import re
import secrets
import time
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from figfs.durable import replace_file
from figfs.errors import ConfigurationError
from figfs.settings import DEFAULT_API, Token, check_token, config_dir

DEFAULT_ACCOUNT = "default"
SERVICE = "figfs"  #: under which the keyring has them
LARGEST_FILE = 65536  #: bytes; a token has about a hundred
LOCK_TIMEOUT = 150.0  #: seconds for a login or a logout: no renewal takes longer
LOCK_PAUSE = 0.05  #: seconds between looks at a lock that another process holds


class KeyringRefuses(ConfigurationError):
    """It is locked, or does not answer; that may be otherwise in a moment."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class OAuth:
    """What it takes to get the next access token. ``expires_at``: POSIX time; None: not known."""

    client_id: str
    client_secret: Token
    refresh_token: Token | None
    expires_at: float | None = None
    lifetime: float | None = None  #: seconds that the access token had when it was new


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """``token`` is what goes to the API. ``api``, ``who``: "" where that is not known."""

    token: Token
    oauth: OAuth | None = None
    api: str = ""  #: the API it is good for, as ``Settings.api``
    who: str = ""
    in_keyring: bool = False
    #: Of OAuth: the login that all its tokens came from, each by renewing the one before. A mount that starts
    #: without Figshare knows its account by it. "" where it is not certain.
    login: str = ""

    @property
    def kind(self) -> str:
        return "personal token" if self.oauth is None else "OAuth"


@dataclasses.dataclass(frozen=True, slots=True)
class Application:
    """What Figshare knows an application by."""

    client_id: str
    client_secret: Token


class Found(NamedTuple):
    """A token, and where it was found: for a person, and the file to be read again, if it is one."""

    token: Token
    origin: str
    credential: Credential
    file: Path | None


# ---- accounts and their files ------------------------------------------------------------------------------


def account_name(text: str) -> str:
    """A name of an account, as it becomes the name of a file. ``ValueError`` with what is wrong with it."""
    if re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}", text) is None:
        raise ValueError(
            f"{text!r} is not a name of an account: letters, digits, '.', '_' and '-', at most 64 of them"
        )
    return text


def token_file(directory: Path | None = None) -> Path:
    """The file of the default account; ``directory`` is ``config_dir()`` unless given."""
    return (directory or config_dir()) / "token"


def account_file(name: str, directory: Path | None = None) -> Path:
    if name == DEFAULT_ACCOUNT:
        return token_file(directory)
    return (directory or config_dir()) / "accounts" / f"{name}.json"


def accounts(directory: Path | None = None) -> dict[str, Path]:
    """All accounts that are logged in, the default one first, and their files."""
    found = {}
    if token_file(directory).exists():
        found[DEFAULT_ACCOUNT] = token_file(directory)
    for path in sorted(((directory or config_dir()) / "accounts").glob("*.json")):
        with contextlib.suppress(ValueError):
            found[account_name(path.stem)] = path
    return found


def how_to_log_in(path: Path, *, oauth: bool, directory: Path | None = None) -> str:
    """The command that puts a new token into ``path``."""
    words = ["figfs login"]
    if path != token_file(directory):
        own = path == account_file(path.stem, directory)
        words.append(f"--account {path.stem}" if own else f"--token-file {path}")
    return " ".join(words + (["--oauth"] if oauth else []))


# ---- where the token comes from ----------------------------------------------------------------------------


def find_token(
    *,
    named: Path | None = None,
    configured: Path | None = None,
    account: str | None = None,
    configured_account: str | None = None,
    environ: Mapping[str, str] = os.environ,
    directory: Path | None = None,
) -> Found:
    """The token, and where it was found.

    Looked for in this order: ``named``, the file that a flag, ``-o`` or the environment names, or
    ``account``, named in one of these ways; ``FIGFS_TOKEN``; ``configured`` or ``configured_account``, which
    config.toml names; the systemd credential ``figfs-token``; the default account, the file of which nobody
    but its owner may be able to read, as those of all accounts. Raises ConfigurationError with what to do;
    its text never holds the token.
    """
    for file, name in ((named, account), (configured, configured_account)):
        if file is not None and name is not None:
            raise ConfigurationError("an account and a token file are named: one of them is it", exit_code=2)
    if named is not None:
        return _found_in(named)
    if account is not None:
        return _of_account(account, directory)
    if text := environ.get("FIGFS_TOKEN"):
        token = check_token(text, "FIGFS_TOKEN")
        return Found(token, "FIGFS_TOKEN", Credential(token=token), None)
    if configured is not None:
        return _found_in(configured)
    if configured_account is not None:
        return _of_account(configured_account, directory)
    if credentials := environ.get("CREDENTIALS_DIRECTORY"):
        credential = Path(credentials) / "figfs-token"
        if credential.exists():
            return _found_in(credential)
    return _of_account(DEFAULT_ACCOUNT, directory)


def _found_in(path: Path) -> Found:
    credential = read(path)
    return Found(credential.token, str(path), credential, path)


def _of_account(name: str, directory: Path | None) -> Found:
    kept = account_file(name, directory)
    try:
        mode = kept.stat().st_mode
    except (FileNotFoundError, NotADirectoryError) as exc:
        if name == DEFAULT_ACCOUNT:
            raise ConfigurationError(
                "no token: run 'figfs login', or give --token-file FILE or FIGFS_TOKEN"
            ) from exc
        raise ConfigurationError(
            f"there is no account {name!r}: run 'figfs login --account {name}' ('figfs accounts' lists them)"
        ) from exc
    except OSError as exc:
        raise ConfigurationError(f"cannot read the token in {kept}: {exc.strerror}") from exc
    if mode & 0o077:
        raise ConfigurationError(f"others can read the token in {kept}: run 'chmod 600 {kept}'")
    found = _found_in(kept)
    credential = _of_figshare(found.credential)
    return found._replace(credential=credential)


def _of_figshare(credential: Credential) -> Credential:
    """Of an account; where nothing says which API it is of, it is of this one, and is sent to no other."""
    return credential if credential.api else dataclasses.replace(credential, api=DEFAULT_API)


# ---- reading and writing -----------------------------------------------------------------------------------


def read(path: Path) -> Credential:
    """What is in the file. Raises ConfigurationError, which never holds a secret."""
    credential = _read(path)
    is_account = path in (token_file(), account_file(path.stem))
    return _of_figshare(credential) if is_account else credential


def _read(path: Path) -> Credential:
    try:
        with path.open("rb") as file:
            text = file.read(LARGEST_FILE).decode("ascii", errors="replace")
    except OSError as exc:
        raise ConfigurationError(f"cannot read the token in {path}: {exc.strerror}") from exc
    if not text.lstrip().startswith("{"):
        return Credential(token=check_token(text, str(path)))
    said = _object(text, path)
    in_keyring = said.get("keyring") is True
    if in_keyring:
        hidden = _keyring("get_password", SERVICE, str(real(path)))
        if not isinstance(hidden, str):
            raise ConfigurationError(f"the keyring has no token for {path}: log in again")
        said |= _object(hidden, path)
    return _credential(said, str(path), in_keyring=in_keyring)


def _object(text: str, path: Path) -> dict[str, Any]:
    try:
        said = json.loads(text)
    except ValueError:
        said = None
    if not isinstance(said, dict):
        raise ConfigurationError(f"what is in {path} is no token, and not of figfs either: log in again")
    return said


def _credential(said: Mapping[str, Any], origin: str, *, in_keyring: bool) -> Credential:
    def text(name: str) -> str:
        value = said.get(name)
        return value if isinstance(value, str) else ""

    def number(name: str) -> float | None:
        value = said.get(name)
        if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
            return None
        return float(value)

    oauth = None
    if said.get("kind") == "oauth":
        refresh = text("refresh_token")
        oauth = OAuth(
            client_id=text("client_id"),
            client_secret=Token(text("client_secret")),
            refresh_token=check_token(refresh, origin) if refresh else None,
            expires_at=number("expires_at"),
            lifetime=number("lifetime"),
        )
    return Credential(
        token=check_token(text("access_token"), origin),
        oauth=oauth,
        api=text("api"),
        who=text("who"),
        in_keyring=in_keyring,
        login=_login(text("login"), said),
    )


def new_login() -> str:
    """A name for a login that has just been made."""
    return secrets.token_hex(16)


def _login(text: str, said: Mapping[str, Any]) -> str:
    """The login that is kept with the tokens, if it is theirs: not if somebody has put others there."""
    name = text.partition(".")[0]
    return name if name and text == _with_proof(name, said) else ""


def _with_proof(login: str, said: Mapping[str, Any]) -> str:
    """The name of a login, with what binds it to the tokens beside it."""
    tokens = f"{login}\0{said.get('access_token')}\0{said.get('refresh_token')}"
    proof = hashlib.blake2b(tokens.encode(), digest_size=16, person=b"figfs login")
    return f"{login}.{proof.hexdigest()}"


def write(credential: Credential, path: Path) -> None:
    """Put it into the file, readable by its owner only; there is never half of it in there.

    A personal token of which nothing else is known is kept as it is, in one line. Raises ConfigurationError
    if it cannot be written.
    """
    hidden: dict[str, object] = {"access_token": credential.token.reveal()}
    about: dict[str, object] = {"api": credential.api, "who": credential.who}
    if credential.oauth is not None:
        oauth = credential.oauth
        refresh = oauth.refresh_token
        hidden["client_secret"] = oauth.client_secret.reveal()
        hidden["refresh_token"] = refresh.reveal() if refresh is not None else None
        if credential.login:
            hidden["login"] = _with_proof(credential.login, hidden)
        about |= {"client_id": oauth.client_id, "expires_at": oauth.expires_at, "lifetime": oauth.lifetime}
    kind = "personal" if credential.oauth is None else "oauth"
    if credential.in_keyring:
        # Before the file, which tells those who have read it that there is something new. All of it: what is
        # there counts, should the file not come to be written.
        everything = json.dumps({"kind": kind, **about, **hidden})
        _keyring("set_password", SERVICE, str(real(path)), everything)
        text = json.dumps({"kind": kind, **about, "keyring": True}, indent=1)
    elif credential.oauth is None and not credential.api and not credential.who:
        text = credential.token.reveal()
    else:
        text = json.dumps({"kind": kind, **about, **hidden}, indent=1)
    _write(text + "\n", real(path))


def real(path: Path) -> Path:
    """The file itself, which other names may lead to."""
    return Path(os.path.realpath(path))


def _write(text: str, path: Path) -> None:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace_file(path, text.encode("ascii"))
    except OSError as exc:
        raise ConfigurationError(f"cannot keep the token in {path}: {exc.strerror}") from exc


def read_application(path: Path) -> Application:
    """``client_id`` and ``client_secret`` from a file, JSON or TOML. Raises ConfigurationError."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as exc:
        raise ConfigurationError(f"cannot read {path}: {exc.strerror}", exit_code=2) from exc
    except ValueError as exc:
        raise ConfigurationError(f"{path} is neither JSON nor TOML", exit_code=2) from exc
    try:
        said = json.loads(text) if text.lstrip().startswith("{") else tomllib.loads(text)
    except ValueError:  # whose text would quote the file
        raise ConfigurationError(f"{path} is neither JSON nor TOML", exit_code=2) from None
    found = []
    for name in ("client_id", "client_secret"):
        value = said.get(name)
        if not isinstance(value, str) or not value.strip():
            raise ConfigurationError(f"there is no {name} in {path}, or it is no text", exit_code=2)
        found.append(value.strip())
    return Application(found[0], Token(found[1]))


def is_in_keyring(path: Path) -> bool:
    """Whether the file says that its secrets are there; False if there is no such file."""
    try:
        return _object(path.read_text("ascii", "replace")[:LARGEST_FILE], path).get("keyring") is True
    except (OSError, ConfigurationError):
        return False


def forget_secrets(path: Path) -> None:
    """Those that the keyring has for the file."""
    _keyring("delete_password", SERVICE, str(real(path)))


def forget(path: Path) -> None:
    """Remove the file, and what the keyring has for it. A mount that is renewing it is waited for: it would
    write it anew. Raises ConfigurationError.
    """
    with locked(path):
        if is_in_keyring(path):
            forget_secrets(path)
        try:
            real(path).unlink(missing_ok=True)
            if path.is_symlink():
                path.unlink()
        except OSError as exc:
            raise ConfigurationError(f"cannot remove {path}: {exc.strerror}") from exc


def signature(path: Path) -> tuple[int, int, int] | None:
    """Changes when the file is written anew; None if it cannot be looked at."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size


# ---- one process at a time ---------------------------------------------------------------------------------


def _lock_file(path: Path) -> Path:
    file = real(path)
    return file.with_name(file.name + ".lock")


def try_lock(path: Path) -> int | None:
    """A descriptor that holds the lock of ``path`` until it is closed; None: another process has it.

    Raises ConfigurationError where there can be no lock, so that nothing could be kept there either.
    """
    lock = _lock_file(path)
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        raise ConfigurationError(f"cannot write beside {path}: {exc.strerror}") from exc
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(descriptor).st_nlink:  # else a login or a logout has removed it
            return descriptor
    except BlockingIOError:
        pass
    except OSError as exc:
        os.close(descriptor)
        raise ConfigurationError(f"cannot lock {lock}: {exc.strerror}") from exc
    os.close(descriptor)
    return None


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """While a person's command writes or removes a token: a mount that is renewing the old one is waited for,
    and none begins to. Raises ConfigurationError if that takes too long.
    """
    lock, deadline = _lock_file(path), time.monotonic() + LOCK_TIMEOUT
    try:
        lock.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        while (descriptor := try_lock(path)) is None:
            if time.monotonic() > deadline:
                raise TimeoutError
            time.sleep(LOCK_PAUSE)
    except TimeoutError:
        raise ConfigurationError(
            f"a mount is renewing the token in {path}, and that takes long: try again"
        ) from None
    except (OSError, ConfigurationError):  # where nobody can lock it, nobody renews it
        descriptor = None
    try:
        yield
    finally:
        if descriptor is not None:
            with contextlib.suppress(OSError):
                lock.unlink()  # as ``try_lock`` expects
            os.close(descriptor)


# ---- the keyring -------------------------------------------------------------------------------------------


def require_keyring() -> None:
    """Raises ConfigurationError, with what to do, if there is no package for the keyring."""
    try:
        importlib.import_module("keyring")
    except ImportError as exc:
        raise ConfigurationError(
            "the keyring needs the package 'keyring': run \"pip install 'figfs[keyring]'\""
        ) from exc


def _keyring(function: str, *arguments: str) -> object:
    require_keyring()
    keyring: Any = importlib.import_module("keyring")
    try:
        return getattr(keyring, function)(*arguments)
    except Exception as exc:
        raise KeyringRefuses(f"the keyring refuses: {type(exc).__name__}") from exc
