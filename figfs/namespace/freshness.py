"""Public articles that have not changed: told by the change lists of their portals, where those have any
(ResourceSync), so that many of them in use cost one request a period and not one each.

A change list is believed for no more than this: that an article need not be asked for again yet. It is no
part of the API, and what it covers is its own word. So:

* An article is asked for itself at least once an hour, one that was kept on disk at least once a day, and
  when its portal's list names it, does not go back to when the article was asked for last, or names something
  that may be any article.
* A portal whose list kept silent about a change, that was found when the article itself was asked for, is
  not asked again; nor is one whose list was of no use three times.
* Only articles: what a collection or a project shows depends on its articles, of any portal. Only what the
  public sees in full: an embargo ends without a change.
* A portal is not asked before three of its articles are in use, nor when its lists cost more than they do.

Times of change are compared with what the API's clock was when the article was asked for (``Date``), so this
machine's clocks, which stop while it sleeps, decide nothing.
"""

from __future__ import annotations

import logging
import math

import trio

from figfs.errors import AWAY, BadAnswer, RemoteError
from figfs.figshare import resourcesync
from figfs.figshare.client import Client
from figfs.figshare.records import ArticleDetails
from figfs.figshare.resourcesync import Changes
from figfs.namespace import identifiers, standing
from figfs.namespace.nodes import Container, Kind, ListingStatus
from figfs.namespace.tree import Tree
from figfs.terminal import visible

log = logging.getLogger(__name__)

TRUSTED = 3600.0  #: seconds after which an article is asked for itself, whatever lists say
FEWEST = 3  #: articles of a portal in use
ARTICLE_BYTES = 20_000  #: that an article costs, to compare with what a list does
MOST_PORTALS = 8  #: asked in one mount
MOST_VAIN = 3  #: looks of no use, one after the other

#: Seconds: a change shows a little later than it is dated (quirks L11), and clocks of servers differ.
SETTLING = 60.0

HOUR, DAY = 3600.0, 86400.0  #: for which a portal is left alone that did not answer, or has nothing to offer


class _Portal:
    def __init__(self, origin: str) -> None:
        self.origin = origin
        self.lists: tuple[str, ...] = ()
        self.found_at = -math.inf
        self.changes: Changes | None = None
        self.asked_at = -math.inf
        self.rests_until = -math.inf
        self.vain = 0
        self.cost = 0  #: of its lists, in articles
        self.asking: trio.Event | None = None


class Freshness:
    """Of one mount. ``dir_timeout``: seconds for which what is shown is taken as fresh."""

    def __init__(self, *, client: Client, tree: Tree, dir_timeout: float) -> None:
        self._client = client.without_token()
        self._tree = tree
        self._dir_timeout = dir_timeout
        self._portals: dict[str, _Portal] = {}
        self._clock: float | None = None  #: what the API's was when Trio's was 0, as of the last answer

    async def unchanged_at(self, article: Container) -> float | None:
        """When, by Trio's clock, what is shown of ``article`` was still what Figshare has. None: ask for it.

        Raises nothing; it asks its portal at most once a ``dir_timeout``, however many articles ask here.
        """
        number, place = self._told_of(article)
        if number is None or place is None:
            return None
        portal = self._portals.get(place)
        if portal is None:
            if len(self._portals) >= MOST_PORTALS:
                return None
            portal = self._portals[place] = _Portal(place)
        if self._may_ask(portal):
            if not self._is_worth_it(portal):
                return None
            await self._ask(portal)
        elif portal.asking is not None:
            await portal.asking.wait()
        changes, status = portal.changes, article.status
        # No await from here on. While it was waited for, the article may have been asked for, or expired.
        if changes is None or trio.current_time() < portal.rests_until:
            return None
        if (
            self._told_of(article)[0] is None
            or not self._covers(changes, status)
            or _names(changes, number, status)
        ):
            return None
        if trio.current_time() >= changes.horizon + self._dir_timeout:
            return None
        portal.vain = 0
        return changes.horizon

    def asked(self, article: Container, before: object, date: float | None) -> None:
        """``article`` was asked for itself; the record ``before``, asked for at ``date``, was known of it.

        Where it has changed long before the portal's list was written, which does not name it, that list is
        not to be believed.
        """
        number, place = self._told_of(article)
        record, status = article.record, article.status
        if number is None or place is None or status.date is None or status.listed_at is None:
            return
        self._clock = status.date - status.listed_at
        portal = self._portals.get(place)
        if portal is None or portal.changes is None or date is None or not isinstance(record, ArticleDetails):
            return
        changed, changes = record.modified_date, portal.changes
        if not isinstance(before, ArticleDetails) or changed is None:
            return
        same = (before.version, before.modified_date) == (record.version, changed)
        if same or not max(date, changes.since) + SETTLING < changed < changes.until - 10 * SETTLING:
            return
        if changes.articles.get(number, -math.inf) < date and changes.unclear < date:
            self._rest(portal, DAY, f"its change list does not tell of a change of article {number}")

    # -- which articles ------------------------------------------------------------

    def _told_of(self, article: Container) -> tuple[int | None, str | None]:
        """The id of an article that lists may be asked about, and the portal that has it."""
        record, status = article.record, article.status
        if article.kind is not Kind.PUBLIC_ARTICLE or not isinstance(record, ArticleDetails):
            return None, None
        reference = identifiers.parse_reference(str(article.key.id))
        if reference is None or reference.version is not None or not isinstance(reference.id, int):
            return None, None
        if status.date is None or status.listed_at is None or status.listed_at < status.expired_at:
            return None, None
        known_at = status.listed_at if status.restored_at is None else status.restored_at
        if trio.current_time() >= known_at + TRUSTED or standing.hides_files(record):
            return None, None
        pages = (record.url_public_html, record.figshare_url)
        place = next((found for page in pages if (found := self._portal_of(page)) is not None), None)
        return (reference.id, place) if place is not None else (None, None)

    def _portal_of(self, page: str) -> str | None:
        return resourcesync.portal_of(page, self._client.api) if page else None

    def _in_use(self, place: str) -> list[Container]:
        """The articles of a portal that its lists may be asked about."""
        return [
            node
            for node in self._tree.public_articles.unlisted.values()
            if isinstance(node, Container) and self._told_of(node)[1] == place
        ]

    def _is_worth_it(self, portal: _Portal) -> bool:
        return self._dir_timeout > 0 and len(self._in_use(portal.origin)) >= max(FEWEST, portal.cost)

    def _covers(self, changes: Changes, status: ListingStatus) -> bool:
        """Whether the lists tell of all that has happened since the article was asked for."""
        if status.date is None or self._clock is None or changes.date - status.date > DAY:
            return False
        # A portal whose clock is behind the API's dates its changes before what was asked for after them.
        in_time = changes.date - changes.taken_at > self._clock - SETTLING
        return in_time and changes.since <= status.date - SETTLING

    # -- portals ------------------------------------------------------------

    def _may_ask(self, portal: _Portal) -> bool:
        """Once a ``dir_timeout``; a list that is behind a little sooner, so that no article falls between."""
        now, behind = trio.current_time(), 0.0
        if portal.changes is not None:
            behind = min(portal.asked_at - portal.changes.horizon, self._dir_timeout / 2)
        resting = now < portal.rests_until or portal.asking is not None
        return not resting and now >= portal.asked_at + self._dir_timeout - max(0.0, behind)

    async def _ask(self, portal: _Portal) -> None:
        """Read the lists of ``portal``, for all who wait for that. No await before ``asking`` is set."""
        portal.asking = asking = trio.Event()
        portal.asked_at = trio.current_time()
        portal.changes = None
        try:
            await self._read(portal)
        except AWAY as exc:
            self._rest(portal, DAY if isinstance(exc, BadAnswer) else HOUR, str(exc))
        except RemoteError as exc:
            self._rest(portal, DAY, str(exc))
        except Exception:  # whatever a portal sends, the article is still to be had from the API
            log.exception("%s: a bug in figfs", portal.origin)
            portal.rests_until = math.inf
        finally:
            portal.asking = None
            asking.set()

    async def _read(self, portal: _Portal) -> None:
        if portal.vain >= MOST_VAIN:
            self._rest(portal, DAY, "its change lists were of no use")
            return
        if trio.current_time() >= portal.found_at + DAY:
            portal.found_at = trio.current_time()
            portal.lists = await resourcesync.find_lists(self._client, portal.origin)
            log.debug("%s: change lists: %s", portal.origin, len(portal.lists))
        if not portal.lists:
            self._rest(portal, DAY, "it offers none")
            return
        oldest = min((node.status.date or 0.0 for node in self._in_use(portal.origin)), default=0.0)
        portal.changes = await resourcesync.read_lists(
            self._client, portal.origin, portal.lists, oldest - SETTLING
        )
        portal.cost = max(portal.changes.requests, portal.changes.bytes // ARTICLE_BYTES)
        portal.vain += 1

    def _rest(self, portal: _Portal, seconds: float, why: str) -> None:
        portal.rests_until = trio.current_time() + seconds
        portal.found_at, portal.changes, portal.vain = -math.inf, None, 0
        log.info(
            "%s: public articles are asked for one by one: no change list (%s)",
            visible(portal.origin),
            visible(why),
        )


def _names(changes: Changes, number: int, status: ListingStatus) -> bool:
    """Whether they tell of a change of the article since then, or of one that may be."""
    assert status.date is not None
    changed = max(changes.articles.get(number, -math.inf), changes.unclear)
    return changed >= status.date - SETTLING
