"""Listings: when Figshare is asked what is in a container, and how fresh the answer is.

What an earlier mount has kept on disk is shown at once, and refreshed behind (``keeping.py`` says what of it
may be believed meanwhile).

A listing is fetched once however many ask, in the services nursery, so that a reader who gives up does not
stop it for the others. A listing that fails changes nothing: the last known one stays.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import errno
import logging
import math
from collections.abc import Callable

import trio

from figfs.errors import (
    AWAY,
    Changed,
    FigfsError,
    NotFound,
    RemoteError,
    Unauthorized,
    Unreachable,
)
from figfs.figshare.client import Client
from figfs.figshare.records import Id
from figfs.namespace import publicsources, sources
from figfs.namespace.freshness import Freshness
from figfs.namespace.keeping import Keeping, stamp
from figfs.namespace.listingstore import Kept
from figfs.namespace.merging import merge
from figfs.namespace.nodes import PUBLIC_ITEMS, Container, Kind
from figfs.namespace.placing import Places
from figfs.namespace.sources import Contents, Entry
from figfs.namespace.tree import Tree

log = logging.getLogger(__name__)

#: After a listing failed, the same is not asked for again for this long (seconds): a program that looks at a
#: hundred names while Figshare is away must not cause a hundred requests.
RETRY_AFTER_FAILURE = 5.0


@dataclasses.dataclass(slots=True)
class _Loading:
    """A listing that is on its way."""

    client: Client  #: which also knows how urgent it is
    kept: Kept | None  #: what an earlier mount knew, where this one knows nothing yet
    itself: bool  #: see ``Listings._start_loading``
    done: trio.Event = dataclasses.field(default_factory=trio.Event)


class Listings:
    """The listings of one mount.

    Args:
        nursery: the services nursery; a listing must outlive the program that asked first.
        dir_timeout: seconds for which a listing is fresh.
        patience: seconds to wait for a fresh listing where an older one can be shown.
        keeping: the listings on disk, if there are any.
        freshness: who may know that a public article has not changed.
        search_limit: so many articles a query shows, at most.
        account_id: whose mount it is.
    """

    def __init__(
        self,
        *,
        client: Client,
        tree: Tree,
        nursery: trio.Nursery,
        dir_timeout: float,
        patience: float,
        keeping: Keeping | None = None,
        freshness: Freshness | None = None,
        search_limit: int = 200,
        account_id: Id | None = None,
    ) -> None:
        self._client = client
        self._tree = tree
        self._nursery = nursery
        self._dir_timeout = dir_timeout
        self._patience = patience
        self._keeping = keeping
        self._freshness = freshness
        self._said_away = False
        self._search_limit = search_limit
        self._account_id = account_id
        self._loading: dict[Container, _Loading] = {}
        self._places = Places(client, tree, self.ensure_listed, lambda place: place in self._loading)
        #: Called with each container right after its listing was merged, without a checkpoint between.
        self.on_listed: Callable[[Container], None] = lambda container: None

    async def ensure_listed(
        self,
        container: Container,
        *,
        stale_is_fine: bool = False,
        max_age: float | None = None,
        must_succeed: bool = False,
    ) -> None:
        """Return once the container's listing may be used.

        A fresh one (of at most ``max_age`` seconds, else ``dir_timeout``) returns at once; a stale one is
        asked for again, and waited for unless ``stale_is_fine``. If that fails the last known listing stays;
        with none, the error is raised (``RemoteError``), and with ``must_succeed`` in any case. Cancellation
        leaves the request running for the others.
        """
        lister = container.lister
        status = lister.status
        if lister.parent is None and lister is not self._tree.root:
            raise OSError(errno.ESTALE, "this directory is not there any more")
        age = self._dir_timeout if max_age is None else max_age
        if self._is_fresh(lister, age, confirmed=must_succeed):
            if max_age is None:
                self._confirm_behind(lister)
            return
        again = status.failed_at is None or trio.current_time() >= status.failed_at + RETRY_AFTER_FAILURE
        if again or (isinstance(status.failure, Unauthorized) and self._client.may_be_mended):
            must_wait = status.listed_at is None or must_succeed
            waits = must_wait or not (stale_is_fine or self._just_restored(lister))
            event = self._start_loading(lister, behind=not waits, itself=must_succeed)
            if must_wait:
                await event.wait()
                if max_age is None:
                    self._confirm_behind(lister)
            elif waits:
                with trio.move_on_after(self._patience):
                    await event.wait()
                    if status.failure is None and not self._is_fresh(lister, age, confirmed=False):
                        await self._start_loading(lister).wait()  # it expired meanwhile
            if must_succeed and status.failure is None and not self._is_fresh(lister, age, confirmed=True):
                # It expired while an older request was under way, or came from disk.
                await self._start_loading(lister, itself=True).wait()
        if status.failure is not None and (status.listed_at is None or must_succeed):
            raise copy.copy(
                status.failure
            )  # each waiter its own: a shared exception would collect their tracebacks

    @staticmethod
    def _is_fresh(lister: Container, age: float, *, confirmed: bool) -> bool:
        """``confirmed``: by Figshare, in this mount."""
        status = lister.status
        if status.restored_at is not None and (confirmed or stamp(lister) != status.stamp):
            return False
        listed_at, seen_at = status.listed_at, status.seen_at
        if listed_at is None or seen_at is None or listed_at < status.expired_at:
            return False
        return trio.current_time() < seen_at + age

    async def confirm(self, container: Container) -> bool:
        """Before something in it is changed, or said not to be there: what is known from disk only is
        compared with Figshare. True if it was.

        Where Figshare is away, what is known is all there is, as it is with any listing that has got old.
        """
        lister = container.lister
        status = lister.status
        if status.restored_at is None:
            return False
        if status.failed_at is None or trio.current_time() >= status.failed_at + RETRY_AFTER_FAILURE:
            with trio.move_on_after(self._patience):
                await self._start_loading(lister, itself=True).wait()
        return status.restored_at is None

    def _just_restored(self, lister: Container) -> bool:
        status = lister.status
        if status.restored_at is None or status.restored_at < status.expired_at:
            return False
        return trio.current_time() < status.restored_at + self._dir_timeout

    def _confirm_behind(self, lister: Container) -> None:
        """Somebody looks at it: if it is from disk, the truth is to follow."""
        fresh = lister.status.failure is None and lister not in self._loading
        restored = lister.status.restored_at is not None
        if restored and fresh and self._keeping is not None and self._keeping.may_confirm():
            self._start_loading(lister, behind=True, itself=True)

    async def show_new(self, container: Container, parent: Container, name: str) -> None:
        """Ask what is in ``container``, which is in no directory yet, and put it there. Raises why it cannot
        be listed; nothing has changed then.
        """
        started = trio.current_time()
        contents = await self._fetch(container, self._client)
        self._tree.attach(container, parent, name)
        merge(self._tree, container, contents, started)
        self.on_listed(container)
        container.status.listed_at = started

    async def warm_up(self) -> None:
        """List the projects, which the listing of ``articles/`` needs, while nobody waits. Failures are
        logged only.
        """
        with contextlib.suppress(FigfsError):
            await self._places.list_projects()

    def remember(self) -> None:
        """The mount ends: keep what is known, for one that starts without Figshare."""
        if self._keeping is not None:
            self._keeping.remember()

    def prefetch(self, container: Container) -> None:
        """List a container that is likely to be asked for next; requests that somebody waits for go first."""
        lister = container.lister
        if lister.status.listed_at is None and lister.status.failed_at is None:
            self._start_loading(lister, behind=True)

    def _start_loading(self, lister: Container, *, behind: bool = False, itself: bool = False) -> trio.Event:
        """``behind``: nobody waits for it. ``itself``: it is to be asked for, whoever else may know that it
        has not changed.
        """
        loading = self._loading.get(lister)
        if loading is None:
            kept = None
            if lister.status.listed_at is None and self._keeping is not None:
                kept = self._keeping.find(lister)
                if kept is not None and not kept.lasting and lister.status.expired_at > -math.inf:
                    kept = kept._replace(outdated=True)  # something was heard of it before its first look
            client = self._client.background() if behind else self._client
            loading = self._loading[lister] = _Loading(client, kept, itself)
            self._nursery.start_soon(self._load, lister, loading, name=f"list {lister.path()}")
        elif not behind:
            loading.client.hurry()  # behind a walk through all of them its turn would be minutes away
        return loading.done

    async def _load(self, lister: Container, loading: _Loading) -> None:
        status = lister.status
        try:
            if not loading.itself and await self._is_unchanged(lister):
                status.failed_at, status.failure = None, None
            elif loading.kept is None or loading.kept.outdated:
                await self._ask(lister, loading.client, otherwise=loading.kept)
            else:
                await self._restore(lister, loading.kept)
        except FigfsError as exc:
            self._listing_failed(lister, exc)
        except Exception as exc:
            log.exception("listing of %s failed", lister.path())
            self._listing_failed(lister, RemoteError(f"internal error: {exc!r}"))
        finally:
            del self._loading[lister]
            loading.done.set()
        if status.seen_at == -math.inf and status.failure is None:
            self._start_loading(lister, behind=True)

    async def _is_unchanged(self, lister: Container) -> bool:
        """Whether what is shown is known to be what Figshare has, without asking for it."""
        if self._freshness is None:
            return False
        seen_at = await self._freshness.unchanged_at(lister)
        if seen_at is None:
            return False
        lister.status.unchanged_at = seen_at
        return True

    async def _ask(self, lister: Container, client: Client, *, otherwise: Kept | None) -> None:
        """``otherwise``: shown where Figshare is away."""
        started = trio.current_time()
        status = lister.status
        before, date = lister.record, status.date
        try:
            contents = await self._fetch(lister, client)
        except AWAY:
            if otherwise is not None:
                await self._restore(lister, otherwise)
            raise
        self._check_is_there(lister)
        merge(self._tree, lister, contents, started)
        self.on_listed(lister)
        if lister.kind is Kind.PROJECT:
            self._places.note_articles_of(lister)
        listed_at = math.inf if publicsources.is_fixed(lister.key, contents) else started
        status.listed_at, status.failed_at, status.failure = listed_at, None, None
        status.restored_at, self._said_away = None, False
        status.date = contents.date
        if self._freshness is not None:
            self._freshness.asked(lister, before, date)
        if self._keeping is not None:
            self._keeping.keep(lister, contents, started)

    async def _restore(self, lister: Container, kept: Kept) -> None:
        """Show what an earlier mount has kept."""
        if lister.kind is Kind.COLLECTION:
            with contextlib.suppress(FigfsError):
                await self._places.find(entry.record.id for entry in kept.contents.entries)
        self._check_is_there(lister)
        assert self._keeping is not None
        believed = self._keeping.is_believed(lister, kept)
        known, record = stamp(lister), lister.record
        merge(self._tree, lister, kept.contents, -math.inf)  # whatever was decided here is newer
        if record is not None and known != kept.stamp:
            lister.record = record  # the list knows of a change that is not in here
        self.on_listed(lister)
        status = lister.status
        now = trio.current_time()
        if kept.lasting:
            status.listed_at, status.failed_at, status.failure = math.inf, None, None
            return
        status.restored_at, status.stamp = -math.inf if kept.outdated else now, kept.stamp
        status.date = kept.contents.date
        status.listed_at = now if believed else -math.inf

    def _check_is_there(self, lister: Container) -> None:
        """Raises ``Changed`` where the container went while its listing was on its way: what is in it may
        have a place elsewhere by now.
        """
        if lister.parent is None and lister is not self._tree.root:
            raise Changed("it is not there any more")

    def _listing_failed(self, lister: Container, exc: FigfsError) -> None:
        status = lister.status
        # A token that is refused is told once, by who has it (``renewing.py``).
        known = str(status.failure) == str(exc) or isinstance(exc, Unauthorized | Changed)
        if status.restored_at is not None and isinstance(exc, Unreachable):
            # A walk through what is known, without a network, would say so for each directory.
            known, self._said_away = known or self._said_away, True
        status.failed_at, status.failure = trio.current_time(), exc
        if isinstance(exc, NotFound) and lister.kind in PUBLIC_ITEMS:
            if status.listed_at is not None:  # else who looked it up says that it is not there
                log.warning("%s was public, and is withdrawn, or under an embargo: %s", lister.path(), exc)
            self._tree.detach(lister, vanished=True)
            if self._keeping is not None:
                self._keeping.forget(lister)
            return
        shown = "nothing is known of it" if status.listed_at is None else "the last known listing is shown"
        log.log(
            logging.DEBUG if known else logging.WARNING, "cannot list %s: %s (%s)", lister.path(), exc, shown
        )

    async def _fetch(self, lister: Container, client: Client) -> Contents:
        match lister.kind:
            case Kind.ARTICLES:
                return Contents(await self._places.outside_projects(await sources.own_articles(client)))
            case Kind.PROJECTS:
                return Contents(await sources.own_projects(client))
            case Kind.COLLECTIONS:
                return Contents(await sources.own_collections(client))
            case Kind.PROJECT:
                return Contents(await sources.project_articles(client, lister.key.id))
            case Kind.COLLECTION:
                entries = await sources.collection_articles(client, lister.key.id)
                await self._places.find(entry.record.id for entry in entries)
                return Contents(entries)
            case Kind.QUERY:
                return Contents(await self._found(lister, client))
            case Kind.ARTICLE:
                return await sources.article_files(client, lister)
            case Kind.ACCOUNTS:
                return Contents(await sources.accounts(client, self._account_id))
            case Kind.PUBLIC_ARTICLE | Kind.PUBLIC_PROJECT | Kind.PUBLIC_COLLECTION:
                return await publicsources.contents(client.without_token(), lister)
            case _:
                return Contents([])

    async def _found(self, query: Container, client: Client) -> list[Entry]:
        """What a query finds. Articles are listed, so that links bear the names that are shown there."""
        own = self._tree.articles.parent is not None
        entries = await sources.found_articles(client, query, self._search_limit, own=own)
        await self._places.name(entry.record.id for entry in entries if "/articles/" in entry.place)
        return entries
