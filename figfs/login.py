"""``figfs login``: a token is checked, and kept for the mounts to come."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import trio

from figfs.errors import ConfigurationError, TooSlow, Unauthorized
from figfs.figshare.accounts import get_account
from figfs.figshare.client import open_client
from figfs.figshare.records import Account
from figfs.settings import Token

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


def keep(token: Token, path: Path) -> None:
    """Write the token to ``path``, readable by its owner only; there is never half a token in it.

    Raises ConfigurationError if it cannot be written.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".token-")  # made with mode 0600
        try:
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(token.reveal() + "\n")
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(path)
        finally:
            Path(name).unlink(missing_ok=True)
    except OSError as exc:
        raise ConfigurationError(f"cannot keep the token in {path}: {exc.strerror}") from exc


def describe(account: Account) -> str:
    """Two lines for a person: who it is, and how much room there is."""
    name = (
        " ".join(part for part in (account.first_name, account.last_name) if part) or f"account {account.id}"
    )
    who = f"{name} <{account.email}>" if account.email else name
    used = _size(account.used_quota or 0)
    room = f"{used} used" if account.quota is None else f"{used} of {_size(account.quota)} used"
    # What a server sends is not to move the cursor.
    return "".join(c for c in who if c.isprintable()) + "\n" + room


def _size(number: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "bytes" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"
