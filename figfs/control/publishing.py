"""Publishing an article, a collection or a project: the check list, of what Figshare and this mount know, and
the act.

Nothing is ever published but by this command. From the second look to the answer nothing of this mount
changes the item (``holding.py``). The request is sent once; where its answer is lost, the version that
Figshare shows (of a project, which has none: that it is public) tells what became of it, and it is not sent
again.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Awaitable, Callable, Sequence
from errno import EBUSY, EINVAL, EROFS, ESTALE, ETIMEDOUT
from typing import TypeVar

import trio

from figfs.content.settling import Settler
from figfs.content.storedfiles import StoredFiles
from figfs.control import checklist
from figfs.control.checklist import Local, Point, Published
from figfs.control.holding import Holding
from figfs.control.ledger import Ledger, parked_in
from figfs.errors import FigfsError, Forbidden, NotFound, UnknownOutcome
from figfs.figshare import cards, collections, files, projects, public
from figfs.figshare.cards import Card
from figfs.figshare.client import Client
from figfs.figshare.records import Article, ArticleDetails, File, Id
from figfs.namespace import standing
from figfs.namespace.listings import Listings
from figfs.namespace.nodes import OWN_ITEMS, Container, FileNode, Key, Kind
from figfs.namespace.tree import Tree
from figfs.writing import tempnames

T = TypeVar("T")

#: Seconds between looks at what came of a request whose answer was lost.
LOOKS_AFTER_LOSS = (1.0, 2.0, 4.0, 8.0)
PUBLIC_TIMEOUT = 60.0  #: seconds in which the public version should be there (quirks L11)
PUBLIC_PAUSE = 2.0  #: seconds between looks for it
LOOK_TIMEOUT = 10.0  #: seconds for one of these looks
SECOND_LOOK_TIMEOUT = 120.0  #: seconds for the list that is made before publishing, while changes wait
PUBLISH_TIMEOUT = 90.0  #: seconds for the request, the wait for its turn included


@dataclasses.dataclass(frozen=True, slots=True)
class CheckList:
    """``stamp``: of what was shown; publishing asks for the same one."""

    card: Card
    points: Sequence[Point]
    stamp: str

    @property
    def may_be_published(self) -> bool:
        return checklist.may_be_published(self.points)


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """``card``: as the public sees it, or as its owner does where the public does not yet (not ``seen``).

    ``done``: it is published for certain. Figshare also accepts what a reviewer has to look at first. None:
    it was accepted, and Figshare does not tell now what came of that; ``card`` is of before then.
    """

    card: Card
    seen: bool
    done: bool | None = True


class Publishing:
    """Of one running mount. Raises ``OSError`` with a text for a person where it will not, and
    ``FigfsError`` where Figshare refuses or does not answer.
    """

    def __init__(
        self,
        *,
        client: Client,
        tree: Tree,
        listings: Listings,
        ledger: Ledger,
        settler: Settler,
        stored_files: StoredFiles,
        holding: Holding,
    ) -> None:
        self._client = client
        self._public = client.without_token()  #: what the public sees is asked as the public
        self._tree = tree
        self._listings = listings
        self._ledger = ledger
        self._settler = settler
        self._stored_files = stored_files
        self._holding = holding
        self.read_only = False  #: told by the root
        #: Called with an item that may be another now, without a checkpoint between.
        self.on_changed: Callable[[Container], None] = lambda item: None
        self._busy: set[Key] = set()

    async def card(self, node: Container) -> Card:
        """The item as its owner sees it now."""
        return await cards.get_own(
            self._client, OWN_ITEMS[node.kind], node.key.id, project_id=_project_of(node)
        )

    async def look(self, node: Container) -> CheckList:
        """The check list of ``node``, asked of Figshare anew."""
        if node.kind not in OWN_ITEMS:
            raise OSError(EINVAL, "only an article, a collection or a project can be published")
        known = _known(node)
        self._tree.expire(node)
        await self._listings.ensure_listed(node, must_succeed=True)
        kind = OWN_ITEMS[node.kind]
        card, details = await cards.get_own_whole(
            self._client, kind, node.key.id, project_id=_project_of(node)
        )
        if node.kind is Kind.PROJECT:
            inside = await projects.list_articles(self._client, node.key.id)
            local = await self._local(node, known, [])
            points = checklist.of_project(card, _named(node, inside), local, edited=_edited(node))
            return CheckList(card, points, checklist.stamp(points, kind, details, articles=inside))
        published = await self._published(node, card)
        if node.kind is Kind.COLLECTION:
            members = await collections.list_articles(self._client, node.key.id)
            local = await self._local(node, known, [])
            points = checklist.of_collection(card, members, published, local)
            if published is not None and checklist.changes_of_collection(card, members, published):
                self._tree.collection_edited(node)
            return CheckList(card, points, checklist.stamp(points, kind, details, articles=members))
        held = await self._files(node)
        local = await self._local(node, known, held)
        points = checklist.of_article(card, held, published, local)
        return CheckList(card, points, checklist.stamp(points, kind, details, files=held))

    async def publish(self, node: Container, stamp: str, tell: Callable[[str], Awaitable[None]]) -> Outcome:
        """Publish ``node`` if the list of ``stamp`` is still true, and wait until the public sees it.

        ``tell``: what is being done, for a person who waits.
        """
        if self.read_only:
            raise OSError(EROFS, "this mount is read-only")
        if node.key in self._busy:
            raise OSError(EBUSY, "it is being published already")
        self._busy.add(node.key)
        try:
            async with self._holding.still(node.key):
                before = await self._as_shown(node, stamp)
                await self._send(node, before, tell)
                edited = node.edited
                self._tree.collection_edited(node, edited=False)  # what is changed from now on is not in it
            done: bool | None = False
            try:
                outcome = await self._accepted(node, before, tell)
                done = outcome.done
            finally:
                if edited and not done:
                    self._tree.collection_edited(node)
            return outcome
        finally:
            self._busy.discard(node.key)

    async def _as_shown(self, node: Container, stamp: str) -> Card:
        """The item, if the list of ``stamp`` is still true."""
        with trio.move_on_after(SECOND_LOOK_TIMEOUT) as scope:
            found = await self.look(node)
        if scope.cancelled_caught:
            raise OSError(ETIMEDOUT, "Figshare does not answer in time: nothing is published")
        if not found.may_be_published:
            raise OSError(EINVAL, "it cannot be published as it is")
        if found.stamp != stamp:
            raise OSError(ESTALE, "it has changed since the list was shown: look at it again")
        return found.card

    async def _send(self, node: Container, before: Card, tell: Callable[[str], Awaitable[None]]) -> None:
        """Have it accepted. ``UnknownOutcome`` where nothing tells that it was."""
        try:
            # Shielded, within bounds: who gives up the answer does not take the publication back.
            with trio.CancelScope(shield=True, deadline=trio.current_time() + PUBLISH_TIMEOUT) as scope:
                await cards.publish(self._client, OWN_ITEMS[node.kind], node.key.id)
            if scope.cancelled_caught:
                raise UnknownOutcome(f"no answer within {PUBLISH_TIMEOUT:.0f} s")
        except UnknownOutcome as lost:
            await tell("the answer of Figshare was lost: looking what became of it")
            if not await self._was_published(node, before):
                raise UnknownOutcome(
                    "the answer of Figshare was lost, and it shows nothing new yet. Nothing is sent "
                    "again: look with 'figfs info' before you publish it anew"
                ) from lost
        finally:  # whatever came of it, and though nobody may wait for that: what is known is of before
            self._tree.expire(node)
            if node.parent is not None:
                self._tree.expire(node.parent)
            self.on_changed(node)

    async def _accepted(
        self, node: Container, before: Card, tell: Callable[[str], Awaitable[None]]
    ) -> Outcome:
        """What comes of a publication that was accepted."""
        kind, number = OWN_ITEMS[node.kind], before.version or 0
        if before.is_embargoed and before.embargo_type != "file":
            return await self._unseen(node, before)
        await tell("accepted; waiting until the public sees it")
        deadline = trio.current_time() + PUBLIC_TIMEOUT
        while trio.current_time() < deadline:
            seen = await self._quietly(cards.get_public(self._public, kind, node.key.id))
            if seen is not None and (seen.version or 0) > number:
                return await self._seen(node, seen)
            own = await self._quietly(self.card(node))
            if (
                seen is not None
                and own is not None
                and _is_newer(own, before)
                and own.version == seen.version
            ):
                return await self._seen(node, seen)
            if own is not None and own.curation_status and own.curation_status != before.curation_status:
                return await self._unseen(node, before)  # a reviewer has it
            await tell("")
            await trio.sleep(PUBLIC_PAUSE)
        return await self._unseen(node, before)

    async def compare(self, collection: Container, card: Card) -> None:
        """Find out whether a published collection was changed elsewhere since: one request, or three.

        No field says so. Both dates of modification are the same after a publication, so they can tell that
        there is no change; that there is one has to be seen. What is known here to be changed stays so: dates
        are whole seconds.
        """
        if not card.is_published:
            return
        number = collection.key.id
        seen = await self._quietly(cards.get_public(self._public, "collection", number))
        if seen is None:
            return
        changed = bool(checklist.changes_of_collection(card, (), Published(seen)))
        if not changed and not _is_as_old(card, seen):
            inside = await self._quietly(public.list_collection_articles(self._public, number))
            members = await self._quietly(collections.list_articles(self._client, number))
            if inside is not None and members is not None:
                there = Published(seen, articles=inside)
                changed = bool(checklist.changes_of_collection(card, members, there))
        if changed:
            self._tree.collection_edited(collection)

    async def _seen(self, node: Container, card: Card) -> Outcome:
        """It is public from now on, and so are its files: that is listed at once, for the kernel does not ask
        again. Of what is no article, only the list that it is in tells.
        """
        listed = node if node.kind is Kind.ARTICLE else node.parent
        with contextlib.suppress(OSError):  # it may have been removed meanwhile
            if listed is not None:
                await self._quietly(self._listings.ensure_listed(listed, must_succeed=True))
        return Outcome(card, seen=True)

    async def _unseen(self, node: Container, before: Card) -> Outcome:
        card = await self._quietly(self.card(node))
        if card is None:
            return Outcome(before, seen=False, done=None)
        return Outcome(card, seen=False, done=_is_newer(card, before))

    async def _was_published(self, node: Container, before: Card) -> bool:
        for pause in LOOKS_AFTER_LOSS:
            await trio.sleep(pause)
            card = await self._quietly(self.card(node))
            if card is not None and _is_newer(card, before):
                return True
        return False

    @staticmethod
    async def _quietly(look: Awaitable[T]) -> T | None:
        """What ``look`` finds; None if it fails, or takes too long."""
        with trio.move_on_after(LOOK_TIMEOUT):
            try:
                return await look
            except FigfsError:
                return None
        return None

    # -- what is known ------------------------------------------------------------

    async def _published(self, node: Container, card: Card) -> Published | None:
        if not card.is_published:
            return None
        try:
            seen = await cards.get_public(self._public, OWN_ITEMS[node.kind], node.key.id)
            if node.kind is Kind.COLLECTION:
                inside = await public.list_collection_articles(self._public, node.key.id)
                return Published(seen, articles=inside)
            held = await public.list_files(self._public, node.key.id)
            return Published(seen, held if held or not seen.is_embargoed else None)
        except NotFound:  # published a moment ago, or under an embargo
            return Published(card) if card.version else None

    async def _files(self, article: Container) -> list[File]:
        try:
            return await files.list_files(self._client, article.key.id)
        except (Forbidden, NotFound):
            project = _project_of(article)
            if project is None:
                raise
            return await projects.list_files(self._client, project, article.key.id)

    async def _local(
        self, node: Container, known: dict[Id, tuple[int, str]], held_there: Sequence[File]
    ) -> Local:
        base = node.path().lstrip("/")
        report = await self._ledger.report(base)
        # No await from here: names and states belong together.
        entries = [*report["uploads"], *report["deletions"]]
        writing: list[str] = []
        held: list[str] = []
        emptied: list[str] = []
        only_here: list[str] = []
        held += [_below(entry["path"], base) for entry in entries if entry["state"] == "held"]
        only_here += [_below(entry["path"], base) for entry in entries if entry["state"] == "local"]
        for child in node.descendants():
            name = child.path().lstrip("/")[len(base) + 1 :]
            if isinstance(child, Container):
                if child.kind is Kind.FOLDER and not child.children:
                    only_here.append(f"{name}/")
                continue
            if child.key.kind is Kind.HELD_LINK:
                only_here.append(name)
            if not isinstance(child, FileNode):
                continue
            local = self._settler.known(child)
            if local is not None and local.being_written and local.handles:
                writing.append(name)
            elif child.local_size == 0:
                (only_here if child.stored is None else emptied).append(name)
            elif child.local_size is not None and (local is None or local.upload is None):
                if tempnames.classify(child.name).kind is tempnames.Kind.LOCAL or _is_in_local(child):
                    only_here.append(name)
                elif local is not None and self._settler.wanted(local) is None:
                    held.append(name)
        return Local(
            owed=report["owed"],
            parked=[_below(entry["path"], base) for entry in parked_in(report)],
            writing=writing,
            held=sorted({*held}),
            emptied=emptied,
            only_here=sorted({*only_here}),
            unclosed=[_below(entry["path"] or entry["name"], base) for entry in report["never_closed"]],
            known=known,
            mismatched=frozenset(
                file.id
                for file in held_there
                if self._stored_files.attributes(file).get("verified") == "mismatch"
            ),
        )


def _is_newer(card: Card, before: Card) -> bool:
    """Whether ``before`` has been published. A change of metadata alone makes no new version (quirks P2), and
    projects have none.
    """
    published = card.status == "public" and before.status == "draft"
    first = card.is_published and not before.is_published
    return published or first or (card.version or 0) > (before.version or 0)


def _is_as_old(own: Card, seen: Card) -> bool:
    if own.modified_date is None or seen.modified_date is None:
        return False
    return own.modified_date <= seen.modified_date


def _known(node: Container) -> dict[Id, tuple[int, str]]:
    """Size and MD5 of the stored files below ``node``, as the tree has them."""
    return {
        child.stored.file.id: (child.stored.file.size, child.stored.file.md5)
        for child in node.descendants()
        if isinstance(child, FileNode) and child.stored is not None and child.stored.article_id == node.key.id
    }


def _project_of(article: Container) -> Id | None:
    parent = article.parent
    return parent.key.id if parent is not None and parent.kind is Kind.PROJECT else None


def _named(project: Container, articles: Sequence[Article]) -> list[tuple[str, Article]]:
    """The articles of a project, each with its path in the mount; its title, if it came a moment ago."""
    paths = {child.key.id: child.path().lstrip("/") for child in project.children.values()}
    return [(paths.get(article.id, article.title), article) for article in articles]


def _edited(project: Container) -> list[str]:
    return [
        child.path().lstrip("/")
        for child in project.children.values()
        if isinstance(child, Container)
        and isinstance(child.record, ArticleDetails)
        and standing.is_edited(child.record)
    ]


def _is_in_local(file: FileNode) -> bool:
    return file.parent is not None and file.parent.local


def _below(path: str, base: str) -> str:
    return path[len(base) + 1 :] if path.startswith(f"{base}/") else path
