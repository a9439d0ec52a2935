"""The accounts of an institution that are looked into: each is a mount of its own inside the mount.

A client that acts for the colleague, a tree, a journal and a spool, in a state directory of their own: so
nothing that is owed to one account can ever be sent in the name of another, whatever crashes between, and
nothing else has to know in whose name it works. An account is opened by the first look into its directory, or
because something is owed to it from an earlier mount, and let go when many others are open.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import logging
import math
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Protocol

import cachetools
import trio

from figfs.assembly import Parts, furnish, shown_name, watcher
from figfs.control.commands import Commands
from figfs.control.inside import Inner, Left, left_in
from figfs.control.offline import LISTINGS, Presence
from figfs.control.server import Control
from figfs.errors import AWAY, REFUSALS, BadAnswer, ConfigurationError, FigfsError, RemoteError, TooSlow
from figfs.figshare.accounts import get_account
from figfs.figshare.client import Client
from figfs.figshare.records import Account, Id
from figfs.filesystem import FileSystem
from figfs.namespace import naming
from figfs.namespace.attributes import Attributes, open_attributes
from figfs.namespace.listingfile import kept_account, owner_of
from figfs.namespace.listingstore import ListingStore, open_listing_store
from figfs.namespace.nodes import Container, Key, numbering_of
from figfs.reading.blockstore import BlockStore
from figfs.routing import Router
from figfs.statedirectory import accounts_in, locked, socket_path
from figfs.terminal import count, visible
from figfs.writing.journal import Journal, open_journal

log = logging.getLogger(__name__)

MOST_OPEN = 64  #: accounts, unless more are in use or owed something
ASK_AGAIN = 60.0  #: seconds after which the kernel is asked again to give back what it holds of an account
RETRY_AFTER_FAILURE = 5.0  #: seconds until an account that could not be opened is tried again
RESUME_PAUSE = 60.0  #: the same where something is owed to it
FIRST_ANSWER = 25.0  #: seconds for Figshare's first answer
KNOWN_ANSWER = 5.0  #: the same where the account is known from an earlier mount: it is opened without


class Make(Protocol):
    """Puts together the parts of an account; what is the same for all of the mount, it knows."""

    def __call__(
        self,
        *,
        client: Client,
        account: Account,
        attributes: Attributes,
        journal: Journal,
        directory: Path,
        listing_store: ListingStore | None,
        nursery: trio.Nursery,
        numbering: Callable[[Key], int],
    ) -> Parts: ...


class _Open:
    """An account that is open, or being opened. ``place``: the directory that stands for it."""

    def __init__(self, place: Container) -> None:
        self.place = place
        self.id: Id = place.key.id
        self.parts: Parts | None = None
        self.control: Control | None = None
        self.commands: Commands | None = None
        self.failure: Exception | None = None
        self.ready = trio.Event()
        self.leave = trio.Event()
        self.ended = trio.Event()
        self.asked_at = -math.inf  #: when the kernel was asked to give back what it holds

    @property
    def is_serving(self) -> bool:
        return self.parts is not None and not self.leave.is_set()


class Colleagues:
    """Those of one mount.

    Args:
        directory: where their state directories are.
        mountpoint: of the mount.
        owner: tells whose listings those on disk are.
        nursery: the services nursery of the mount.
        place_of: the directory of an account; None if the institution has no such account.
        make: see ``Make``.
        service: runs a service for as long as the account is open, whatever happens in it.
        read_only: nothing is sent.
        let_go: see ``fuse.let_go``.
    """

    def __init__(
        self,
        *,
        client: Client,
        directory: Path,
        mountpoint: Path,
        owner: str,
        nursery: trio.Nursery,
        router: Router,
        place_of: Callable[[Id], Awaitable[Container | None]],
        make: Make,
        service: Callable[[Callable[[], Awaitable[None]]], Awaitable[None]],
        store: BlockStore | None,
        read_only: bool,
        let_go: Callable[[int, str], None],
    ) -> None:
        self._client = client
        self._directory = directory
        self._mountpoint = mountpoint
        self._owner = owner
        self._nursery = nursery
        self._router = router
        self._place_of = place_of
        self._make = make
        self._service = service
        self._store = store
        self._read_only = read_only
        self._let_go = let_go
        self._open: OrderedDict[Id, _Open] = OrderedDict()  # least recently used first
        self._left: dict[Path, Left] = {}  #: of accounts that are not open
        self._failed: cachetools.TTLCache[Id, Exception] = cachetools.TTLCache(
            4096, RETRY_AFTER_FAILURE, timer=trio.current_time
        )
        router.enter = self.enter
        router.on_forgotten = self._shrink

    async def enter(self, place: Container) -> FileSystem:
        """The file system of the account that ``place`` stands for; opened once, however many ask. Raises why
        it cannot be.
        """
        account_id = place.key.id
        while True:
            known = self._open.get(account_id)
            if known is None:
                failure = self._failed.get(account_id)
                if failure is not None:
                    raise copy.copy(failure)
                known = self._start(place)
            await known.ready.wait()
            if known.failure is not None:
                raise copy.copy(known.failure)  # each waiter its own: see listings.py
            if known.parts is not None and not known.leave.is_set():
                self._open.move_to_end(account_id)
                known.place = place  # another one, should it have left the list and come back
                return known.parts.filesystem
            await known.ended.wait()

    def _start(self, place: Container) -> _Open:
        known = self._open[place.key.id] = _Open(place)
        self._nursery.start_soon(self._run, known, name=f"account {known.id}")
        self._shrink()
        return known

    # -- an account ------------------------------------------------------------

    async def _run(self, known: _Open) -> None:
        """Whatever happens in an account, the mount and the others go on."""
        try:
            await self._serve(known)
        except (FigfsError, OSError) as exc:
            known.failure = exc
        except Exception as exc:
            log.exception("account %s: a bug in figfs", known.id)
            known.failure = RemoteError(f"internal error: {exc!r}")
        finally:
            if known.failure is not None and not known.ready.is_set():
                self._failed[known.id] = known.failure
            del self._open[known.id]
            known.ready.set()
            known.ended.set()

    async def _serve(self, known: _Open) -> None:
        client = self._client.acting_for(known.id)
        directory = self._directory / naming.name_from_id(known.id)
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        presence = Presence()
        owner = owner_of(client.api, f"{self._owner}\0{known.id}")
        account = await self._ask(client, kept_account(directory / LISTINGS, owner=owner), presence)
        mountpoint = self._mountpoint / known.place.path().lstrip("/")
        with (
            locked(directory, mountpoint, socket_path(directory)),
            open_attributes(directory / "attributes.db") as attributes,
            journal_of(directory) as journal,
            open_listing_store(directory / LISTINGS, owner=owner, account=known.id) as listings,
        ):
            if listings is not None and not presence.away:
                listings.put_account(account)
            async with trio.open_nursery() as services:
                parts = self._make(
                    client=client,
                    account=account,
                    attributes=attributes,
                    journal=journal,
                    directory=directory,
                    listing_store=listings,
                    nursery=services,
                    numbering=numbering_of(known.id, known.place.inode),
                )
                known.commands = furnish(
                    parts,
                    client=client,
                    account=account,
                    presence=presence,
                    state_directory=directory,
                    mountpoint=mountpoint,
                    names=(str(mountpoint),),
                    read_only=self._read_only,
                    store=self._store,
                    let_go=self._let_go,
                )
                known.control = Control(socket_path(directory), known.commands.table())
                if not self._read_only:
                    parts.resumer.start()
                if owed := parts.resumer.owed():
                    log.warning(
                        "for %s, %s from an earlier mount %s taken up again",
                        shown_name(account), count(owed, "upload"), "is" if owed == 1 else "are",
                    )  # fmt: skip
                for service in (known.control.run, *parts.services):
                    services.start_soon(self._service, service)
                if presence.away:  # else quota and use are asked for when they matter
                    watch = watcher(
                        parts, client=client, account=account, presence=presence, listings=listings
                    )
                    services.start_soon(self._service, watch)
                known.parts = parts
                self._left.pop(directory, None)
                known.ready.set()
                await known.leave.wait()
                parts.listings.remember()
                services.cancel_scope.cancel()

    async def _ask(self, client: Client, known: Account | None, presence: Presence) -> Account:
        """The account as Figshare tells it, or, where that is away, as an earlier mount knew it."""
        try:
            with trio.fail_after(FIRST_ANSWER if known is None else KNOWN_ANSWER):
                account = await get_account(client)
        except (*AWAY, trio.TooSlowError) as exc:
            presence.away = visible(str(exc) or "no answer", 400)
            if known is not None:
                return known
            if isinstance(exc, trio.TooSlowError):
                raise TooSlow(f"account {client.impersonate}: no answer from {client.api}") from exc
            raise
        if account.id != client.impersonate:
            # Else what is written for one would go to another.
            raise BadAnswer(
                f"{client.api} answers for account {account.id}, not for {client.impersonate}:"
                " it does not impersonate"
            )
        return account

    # -- what is let go ------------------------------------------------------------

    def _shrink(self) -> None:
        """Of more than ``MOST_OPEN`` those go that were not used for longest, once nobody holds anything of
        them. The kernel, which keeps what it has seen, is asked to give it back. No await.
        """
        excess = len(self._open) - MOST_OPEN
        if excess <= 0:
            return
        now = trio.current_time()
        for known in list(self._open.values())[:-1]:
            if excess <= 0:
                return
            if not known.is_serving or not self._is_at_rest(known):
                continue
            assert known.parts is not None
            if not known.place.lookups and not self._router.is_used(known.parts.filesystem):
                known.leave.set()
            elif now >= known.asked_at + ASK_AGAIN:
                known.asked_at = now
                if known.place.parent is not None:
                    self._let_go(known.place.parent.inode, known.place.name)
            excess -= 1

    def _is_at_rest(self, known: _Open) -> bool:
        """Whether nothing is open in it, nothing owed, nothing kept that only this mount has."""
        assert known.parts is not None
        assert known.control is not None
        return not (
            self._router.has_open(known.parts.filesystem) or _owes(known.parts) or known.control.clients
        )

    # -- what is owed ------------------------------------------------------------

    async def look_for_what_is_left(self) -> None:
        """Before anybody asks what is owed: what earlier mounts have left of accounts."""
        for left in await trio.to_thread.run_sync(left_in, self._directory):
            self._left[left.directory] = left

    def resume(self) -> None:
        """Open the accounts to which an earlier mount owes something."""
        for left in self._left.values():
            self._nursery.start_soon(self._resume, left)

    async def _resume(self, left: Left) -> None:
        account_id = naming.id_from_name(left.directory.name)
        while left.directory in self._left:
            try:
                place = await self._place_of(account_id) if account_id is not None else None
                if place is None:
                    self._stays(left, "the institution has no such account")
                else:
                    await self.enter(place)
                return
            except REFUSALS as exc:
                self._stays(left, str(exc))
                return
            except (FigfsError, OSError) as exc:
                log.warning("%s waits: %s", _what(left), exc)
            except Exception:
                log.exception("%s waits: a bug in figfs", _what(left))
            await trio.sleep(RESUME_PAUSE)

    def _stays(self, left: Left, reason: str) -> None:
        left.stays = reason
        log.warning("%s cannot be sent, and stays here: %s", _what(left), reason)

    def nothing_is_sent(self) -> None:
        """The account administers no institution any more: what is owed to colleagues is not lost."""
        for left in self._left.values():
            self._stays(left, "this account administers no institution any more")

    def owing(self) -> Iterator[Inner]:
        """The accounts that something is owed to, or that have anything here which Figshare has not."""
        for known in self._open.values():
            if known.parts is not None and _owes(known.parts):
                yield Inner(known.place.path().lstrip("/"), known.parts.ledger)
        if self._left:
            known_places = {
                place: directory
                for directory, place in accounts_in(self._directory.parent, str(self._mountpoint))
            }
            for left in self._left.values():
                yield Inner(known_places.get(left.directory, left.directory.name), left)

    def end(self, *, all_closed: bool) -> None:
        """The mount has ended: see ``OpenFiles.end``."""
        for known in self._open.values():
            if known.parts is not None and known.commands is not None:
                known.commands.unmounting = True
                known.parts.filesystem.files.end(all_closed=all_closed)

    def owed(self) -> int:
        """How many uploads and deletions are owed to all of them."""
        opened = [known.parts.filesystem for known in self._open.values() if known.parts is not None]
        left = [left.owed for left in self._left.values() if not left.stays]
        return sum(filesystem.owed() for filesystem in opened) + sum(left)

    async def drain(self, timeout: float) -> int:
        """Carry out what is owed, to all at once; how much is owed still."""
        serving = [known.parts for known in self._open.values() if known.parts is not None]
        async with trio.open_nursery() as nursery:
            for parts in serving:
                nursery.start_soon(functools.partial(parts.filesystem.drain, timeout))
        for parts in serving:
            parts.listings.remember()
        return self.owed()


def _owes(parts: Parts) -> bool:
    """Whether Figshare is to hear of anything in there, or something is kept for a person."""
    return bool(
        parts.filesystem.owed()
        or parts.settler.files()
        or parts.resumer.uploads()
        or parts.journal.uploads()
        or parts.journal.deletions()
        or parts.ledger.unclosed
    )


@contextlib.contextmanager
def journal_of(directory: Path) -> Iterator[Journal]:
    """The journal in a state directory. ``ConfigurationError`` if a newer figfs has written it."""
    with contextlib.ExitStack() as stack:
        try:
            journal = stack.enter_context(open_journal(directory / "journal.db"))
        except ValueError as exc:
            raise ConfigurationError(f"{exc}; use that one, or another --state-dir") from exc
        yield journal


def _what(left: Left) -> str:
    return f"what is owed to account {left.directory.name} ({count(left.rows, 'row')}, in {left.directory})"
