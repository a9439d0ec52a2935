"""``figfs login``: a token is checked, and kept for the mounts to come. What is typed and said is in
``logincli.py``.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable
from pathlib import Path

import trio

from figfs.errors import ConfigurationError, RemoteError, TooSlow, Unauthorized
from figfs.figshare import oauth
from figfs.figshare.accounts import get_account
from figfs.figshare.client import open_client
from figfs.figshare.records import Account
from figfs.settings import Token
from figfs.terminal import visible
from figfs.tokens import credentials, loopback, renewing
from figfs.tokens.credentials import Application, Credential, OAuth

#: Somebody sits there and waits.
PATIENCE = 30.0


async def check(token: Token, *, api: str) -> Account:
    """Whose token this is. Raises ConfigurationError if the server refuses it, RemoteError if it cannot
    say.
    """
    try:
        with trio.fail_after(PATIENCE):
            async with open_client(api=api, token=token, rate=0) as client:
                return await get_account(client)
    except trio.TooSlowError as exc:
        raise TooSlow(f"{api} did not answer within {PATIENCE:.0f} seconds") from exc
    except Unauthorized as exc:
        raise ConfigurationError(f"{api} refuses this token: make a new one, and log in with that") from exc


async def check_kept(path: Path, *, api: str) -> Account:
    """Whose the token in a file is, which is renewed first if it has to be. Raises as ``check``."""
    kept = credentials.read(path)
    try:
        with trio.fail_after(PATIENCE):
            async with (
                open_client(api=kept.api or api, token=kept.token, rate=0) as client,
                renewing.kept_valid(client, path),
            ):
                return await get_account(client)
    except trio.TooSlowError as exc:
        raise TooSlow(f"{kept.api or api} did not answer within {PATIENCE:.0f} seconds") from exc
    except Unauthorized as exc:
        raise ConfigurationError(f"{kept.api or api} refuses it") from exc


def keep(credential: Credential, path: Path) -> None:
    """Write it to ``path``, readable by its owner only; there is never half of it in there.

    What the keyring has for that file from before goes, last of all. Raises ConfigurationError if it cannot
    be written: then what was kept before still is.
    """
    with credentials.locked(path):
        before = credentials.is_in_keyring(path)
        try:
            credentials.write(credential, path)
        except ConfigurationError:
            if credential.in_keyring and not before:
                with contextlib.suppress(ConfigurationError):
                    credentials.forget_secrets(path)
            raise
        if before and not credential.in_keyring:
            try:
                credentials.forget_secrets(path)
            except ConfigurationError as exc:
                raise ConfigurationError(
                    f"it is kept in {path}, but the old secrets stay in the keyring: {exc}"
                ) from exc


# ---- in the browser ----------------------------------------------------------------------------------------


async def by_browser(
    application: Application,
    *,
    api: str,
    page: str | None,
    port: int,
    timeout: float,
    show: Callable[[str], None],
) -> tuple[Credential, Account]:
    """Have a person let figfs in, and get tokens for that.

    ``page``: where they say so, if it is not the page that belongs to ``api``; ``port``: of the redirect, 0
    for any; ``show``: called with the URL to open.
    Raises ConfigurationError if they do not, within ``timeout`` seconds, or if Figshare refuses the code.
    """
    page = oauth.check_page(page or oauth.authorize_page(api))
    state = secrets.token_urlsafe(32)
    listening = loopback.listen(port)
    back = f"http://{loopback.HOST}:{listening.getsockname()[1]}/"
    show(oauth.authorize_url(page, client_id=application.client_id, redirect_uri=back, state=state))
    code = await loopback.wait_for_code(listening, state=state, timeout=timeout)
    try:
        with trio.fail_after(PATIENCE):
            async with open_client(api=api, token=None, rate=0) as client:
                tokens = await oauth.redeem(
                    client, code, client_id=application.client_id, client_secret=application.client_secret
                )
                client.token = Token(tokens.access_token)
                account = await get_account(client)
    except trio.TooSlowError as exc:
        raise TooSlow(f"{api} did not answer within {PATIENCE:.0f} seconds") from exc
    except Unauthorized as exc:
        raise ConfigurationError(f"{api} gives no token for this login: {exc}") from exc
    except RemoteError as exc:
        raise ConfigurationError(f"{api} gives no token for this login: {exc}; log in again") from exc
    empty = OAuth(
        client_id=application.client_id, client_secret=application.client_secret, refresh_token=None
    )
    credential = Credential(token=Token("-"), oauth=empty, api=api, who=name_of(account))
    return renewing.following(credential, tokens, time.time()), account


# ---- for a person ------------------------------------------------------------------------------------------


def name_of(account: Account) -> str:
    """Who it is, in a line that does not move the cursor."""
    name = (
        " ".join(part for part in (account.first_name, account.last_name) if part) or f"account {account.id}"
    )
    who = f"{name} <{account.email}>" if account.email else name
    return visible("".join(c for c in who if c.isprintable()), 200)


def describe(account: Account) -> str:
    """Two lines for a person: who it is, and how much room there is."""
    used = _size(account.used_quota or 0)
    room = f"{used} used" if account.quota is None else f"{used} of {_size(account.quota)} used"
    return name_of(account) + "\n" + room


def _size(number: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "bytes" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"
