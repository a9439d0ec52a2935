"""A mount that starts while Figshare is away: whose account it is, as an earlier mount knew it.

The account is kept beside the listings (``namespace/listingstore.py``), and told by a hash of the token; of
OAuth, which has another token every hour, by a hash of the login that it came from.
"""

from __future__ import annotations

import dataclasses
import logging
import re
import urllib.parse
from collections.abc import Awaitable, Callable
from pathlib import Path

import platformdirs
import trio

from figfs.errors import FigfsError, Unauthorized
from figfs.figshare.records import Account
from figfs.namespace.listingfile import kept_account, owner_of
from figfs.namespace.listingstore import ListingStore
from figfs.settings import Settings

log = logging.getLogger(__name__)

LISTINGS = "listings.db"  #: in the state directory
ACCOUNT_INTERVAL = 300.0  #: seconds between looks at quota and use
AWAY_INTERVAL = 10.0  #: and while Figshare has not answered this mount yet


@dataclasses.dataclass(slots=True)
class Presence:
    """Whether Figshare has answered this mount. ``away``: why not, for a person; "" once it has."""

    away: str = ""


def owner(settings: Settings) -> str:
    """Whose listings the ones of this mount are."""
    proof = settings.token.reveal() if settings.token is not None else ""
    if settings.login:
        proof = f"login\0{settings.login}"  # no token has a NUL in it
    return owner_of(settings.api, f"{proof}\0{settings.impersonate or ''}")


def known_account(settings: Settings) -> Account | None:
    """The account of this token, if an earlier mount has kept it; None where a colleague's is wanted, whose
    id only Figshare can tell.
    """
    if settings.impersonate is not None:
        return None
    wanted = owner(settings)
    for directory in [settings.state_dir] if settings.state_dir else _state_directories(settings.api):
        account = kept_account(directory / LISTINGS, owner=wanted)
        if account is not None:
            return account
    return None


def _state_directories(api: str) -> list[Path]:
    host = re.sub(r"[^A-Za-z0-9.-]", "_", urllib.parse.urlsplit(api).netloc)
    return sorted(platformdirs.user_state_path("figfs").glob(f"{host}-*"))


async def watch_account(
    ask: Callable[[], Awaitable[Account]],
    *,
    account: Account,
    presence: Presence,
    store: ListingStore | None,
    heard: Callable[[Account], None],
) -> None:
    """Ask for quota and use now and then, for ever; soon where the mount began without Figshare."""
    if store is not None and not presence.away:
        store.put_account(account)
    while True:
        await trio.sleep(AWAY_INTERVAL if presence.away else ACCOUNT_INTERVAL)
        try:
            newer = await ask()
        except FigfsError as exc:
            if not presence.away:
                log.warning("quota and use are not known anew: %s", exc)
            elif str(exc) != presence.away:
                level = logging.ERROR if isinstance(exc, Unauthorized) else logging.DEBUG
                log.log(level, "Figshare is still away: %s", exc)
                presence.away = str(exc)
            continue
        if newer.id != account.id:
            wrong = f"the token is of account {newer.id} now, not of {account.id}: mount anew"
            if presence.away != wrong:
                log.error("%s", wrong)
                presence.away = wrong
            continue
        if presence.away:
            log.info("Figshare answers again")
            presence.away = ""
        if store is not None:
            store.put_account(newer)
        heard(newer)
