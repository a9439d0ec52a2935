"""What a mount answers about single items: what they are, their DOI and page, and publishing them."""

from __future__ import annotations

import contextlib
import datetime
import errno
import urllib.parse
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

import trio

from figfs.content.storedfiles import StoredFiles
from figfs.control.ledger import Ledger
from figfs.control.publishing import CheckList, Publishing
from figfs.control.server import Answer, Request, Send, describe
from figfs.errors import AWAY, FigfsError, UnknownOutcome
from figfs.figshare import cards, records
from figfs.figshare.cards import Card
from figfs.figshare.client import Client
from figfs.figshare.records import ArticleDetails
from figfs.namespace import identifiers, naming, standing
from figfs.namespace.keeping import Keeping
from figfs.namespace.listings import Listings
from figfs.namespace.nodes import OWN_ITEMS, PUBLIC_ITEMS, Container, FileNode, Kind, LinkNode, Node
from figfs.namespace.tree import Tree

LONGEST_CHAIN = 40  #: symbolic links that are followed, as in the kernel
RESERVED_LOOKS = (1.0, 2.0, 4.0)  #: seconds between looks for a DOI whose answer was lost
LONGEST_URL = 2000  #: characters of one that is opened
FULL_LOOK = 30.0  #: seconds for the listing that a refresh waits for

#: What the kernel may still answer by itself: the inode of a directory, and a name in it.
LetGo = Callable[[int, str], None]


class ItemCommands:
    """Of one mount. ``lookup``: the file system's, so that a path means what it means to a program.
    ``keeping``: what is on disk of public items, or None.
    """

    def __init__(
        self,
        *,
        client: Client,
        tree: Tree,
        listings: Listings,
        ledger: Ledger,
        publishing: Publishing,
        stored_files: StoredFiles,
        lookup: Callable[[int, bytes], Awaitable[Node]],
        keeping: Keeping | None = None,
    ) -> None:
        self._keeping = keeping
        self._client = client
        self._tree = tree
        self._listings = listings
        self._ledger = ledger
        self._publishing = publishing
        self._stored_files = stored_files
        self._lookup = lookup
        self.on_changed: Callable[[Container], None] = lambda item: None  #: see ``Publishing``
        self.let_go: LetGo = lambda parent, name: None  #: told by the root, which has a kernel

    def table(self) -> Mapping[str, Answer]:
        return {
            "item": self._where,
            "info": self._info,
            "check": self._check,
            "publish": self._publish,
            "reserve-doi": self._reserve_doi,
            "refresh": self._refresh,
            "content": self._content,
        }

    # -- which ------------------------------------------------------------

    async def find(self, path: str) -> Node:
        """What is at ``path`` below the mount point; links inside the mount are followed. ``OSError``."""
        node: Node = self._tree.root
        names = [name for name in path.split("/") if name not in ("", ".")]
        for _ in range(LONGEST_CHAIN):
            node, names = await self._walk(node, names)
            if not names:
                return node
        raise OSError(errno.ELOOP, "too many symbolic links")

    async def _walk(self, node: Node, names: list[str]) -> tuple[Node, list[str]]:
        """Along ``names`` until one is a link into this mount, or there are no more."""
        for done, name in enumerate(names, 1):
            if not isinstance(node, Container):
                raise OSError(errno.ENOTDIR, f"{node.path()} is not a directory")
            directory, node = node, await self._lookup(node.inode, name.encode("utf-8", "surrogateescape"))
            target = self._tree.target_of(node) if isinstance(node, LinkNode) else "/"
            if "://" not in target and not target.startswith("/"):
                return directory, [*filter(None, target.split("/")), *names[done:]]
        return node, []

    async def _item(self, request: Request) -> Container:
        """The item that a path is, or is in."""
        node: Node | None = await self.find(str(request.get("path") or ""))
        while node is not None and node.key.kind not in OWN_ITEMS and node.key.kind not in PUBLIC_ITEMS:
            node = node.parent
        if not isinstance(node, Container):
            raise OSError(errno.EINVAL, "name an article, a project, a collection, or something in one")
        return node

    async def _itself(self, request: Request) -> Container:
        """The item that a path is: what is published is never guessed."""
        node = await self.find(str(request.get("path") or ""))
        if not isinstance(node, Container) or node.kind not in OWN_ITEMS:
            raise OSError(errno.EINVAL, "name the directory of an own article, collection or project")
        return node

    # -- publishing ------------------------------------------------------------

    async def _check(self, request: Request, send: Send) -> None:
        node = await self._itself(request)
        await send(_told(node, await self._publishing.look(node)))

    async def _publish(self, request: Request, send: Send) -> None:
        """``stamp``: of the check list that was shown."""
        node = await self._itself(request)

        async def tell(text: str) -> None:
            await send({"step": text})

        outcome = await self._publishing.publish(node, str(request.get("stamp") or ""), tell)
        card = outcome.card
        await send(
            {"published": outcome.done, "seen": outcome.seen, "kind": OWN_ITEMS[node.kind],
             "version": card.version, "doi": card.doi, "page": page(card, draft=not outcome.done),
             "review": card.curation_status}
        )  # fmt: skip

    async def _reserve_doi(self, request: Request, send: Send) -> None:
        """The DOI of an item that has one is told; for others one is reserved, once."""
        node = await self._itself(request)
        if node.kind is Kind.PROJECT:
            raise OSError(errno.EINVAL, "a project has no DOI: the articles in it have")
        card = await self._publishing.card(node)
        if card.doi:
            await send({"doi": card.doi, "new": False})
            return
        if self._publishing.read_only:
            raise OSError(errno.EROFS, "it has no DOI, and this mount is read-only")
        try:
            doi = await cards.reserve_doi(self._client, OWN_ITEMS[node.kind], node.key.id)
        except UnknownOutcome:
            doi = await self._reserved(node)
            if not doi:
                raise
        self.on_changed(node)
        await send({"doi": doi, "new": True})

    async def _reserved(self, node: Container) -> str:
        """The DOI that came of a request whose answer was lost; "" if none is seen."""
        for pause in RESERVED_LOOKS:
            await trio.sleep(pause)
            with contextlib.suppress(FigfsError):
                card = await self._publishing.card(node)
                if card.doi:
                    return card.doi
        return ""

    # -- showing ------------------------------------------------------------

    async def _where(self, request: Request, send: Send) -> None:
        """The path of the item that a path is, or is in. Asks Figshare for no more than a program would."""
        item = await self._item(request)
        await send({"path": item.path().lstrip("/"), "id": item.key.id})

    async def _info(self, request: Request, send: Send) -> None:
        node = await self.find(str(request.get("path") or ""))
        item = await self._item(request)
        path = node.path().lstrip("/")
        report = await self._ledger.report(path, 0)
        owed = {"path": path, "owed": report["owed"], "parked": report["parked"]}
        card = await self._card(item)
        if item.kind is Kind.COLLECTION:
            await self._publishing.compare(item, card)
        with contextlib.suppress(FigfsError):
            await self._listings.ensure_listed(item)
        if isinstance(node, FileNode | LinkNode) and (node.stored is not None or _is_here(node)):
            await send({**self._of_file(node, item, card), **owed})
            return
        await send({**of_item(item, card), **owed, "path": item.path().lstrip("/")})

    async def _card(self, item: Container) -> Card:
        if item.kind in OWN_ITEMS:
            return await self._publishing.card(item)
        reference = identifiers.parse_reference(str(item.key.id))
        assert reference is not None
        kept = b""
        if self._keeping is not None and item.kind is Kind.PUBLIC_ARTICLE:
            kept = self._keeping.answer(*reference)
        if reference.version is None or not kept:
            client, kind = self._client.without_token(), PUBLIC_ITEMS[item.kind]
            try:
                return await cards.get_public(client, kind, reference.id, version=reference.version)
            except AWAY:
                if not kept:
                    raise
        return Card.from_json(records.decode(kept))

    def _of_file(self, node: FileNode | LinkNode, item: Container, card: Card) -> dict[str, Any]:
        found: dict[str, Any] = {"kind": "file", "title": node.name, "size": node.size}
        if node.stored is not None:
            file = node.stored.file
            found |= {
                "id": file.id,
                "type": file.mimetype if "/" in file.mimetype else None,
                "status": file.status,
            }
            if file.is_link_only:
                found |= {"kind": "linked file", "target": file.download_url, "size": None}
            else:
                told = self._stored_files.attributes(file)
                found |= {"md5": told.get("md5"), "verified": told.get("verified")}
        if isinstance(node, FileNode) and node.local_size is not None:
            found["status"] = "on this machine, not on Figshare yet"
        whole = of_item(item, card)
        return found | {
            "article": whole["name"],
            "article_id": whole["id"],
            "doi": whole["doi"],
            "license": whole["license"],
            "page": whole["page"],
        }

    async def _content(self, request: Request, send: Send) -> None:
        """Which cache the mount has, then for each of ``paths`` the key of its content, or the ``reason`` why
        there is none: what extended attributes tell, where a mount has them.
        """
        store = self._stored_files.cache.store
        await send({"cache": str(store.directory) if store is not None else None})
        for path in request.get("paths") or []:
            try:
                node = await self.find(str(path))
            except (FigfsError, OSError) as exc:
                await send({"reason": describe(exc)})
            else:
                stored = node.stored if isinstance(node, FileNode) and node.local_size is None else None
                key = self._stored_files.source(stored.file).key if stored is not None else None
                await send({"key": key})

    # -- refresh ------------------------------------------------------------

    async def _refresh(self, request: Request, send: Send) -> None:
        """What is at or below ``path`` is asked of Figshare at the next look, ``path`` itself now."""
        node = await self.find(str(request.get("path") or ""))
        container = node if isinstance(node, Container) else node.parent
        while container is not None and container.kind is Kind.DOT_FIGSHARE:
            container = container.parent
        if container is None:
            raise OSError(errno.ESTALE, "it is not there any more")
        lister = container.lister
        number = 0
        for each in (lister, *_below(lister)):
            self.on_changed(each)
            if each.lister is each and each.status.listed_at is not None:
                self._tree.expire(each)
                number += 1
        before = _shown(lister)
        if lister.status.listed_at is not None:  # else nothing of it was seen
            with trio.move_on_after(FULL_LOOK) as scope:
                await self._listings.ensure_listed(lister, must_succeed=True)
            if scope.cancelled_caught:
                raise OSError(errno.ETIMEDOUT, "Figshare does not answer; it is asked again at the next look")
        after = _shown(lister)
        for key, shown in before.items():
            if after.get(key) != shown:
                self.let_go(*key)
        await send({"path": lister.path().lstrip("/"), "listings": number})


def _below(container: Container) -> Iterator[Container]:
    for child in [*container.children.values(), *container.unlisted.values()]:
        if isinstance(child, Container):
            yield child
            yield from _below(child)


def _shown(lister: Container) -> dict[tuple[int, str], tuple[int, int, int]]:
    """What the kernel may have heard of the names in a listing, folders included: inode, size, time."""
    found = {}
    for child in lister.descendants():
        if child.parent is not None and child.parent.lister is lister:
            time = child.remote_time_ns if child.mtime_ns is None else child.mtime_ns
            found[child.parent.inode, child.name] = (child.inode, child.size, time)
    return found


def _is_here(node: FileNode | LinkNode) -> bool:
    return isinstance(node, FileNode) and node.key.kind is Kind.PENDING


# ---- records for a person --------------------------------------------------------------------------------


def _told(node: Container, found: CheckList) -> dict[str, Any]:
    return {
        "kind": OWN_ITEMS[node.kind],
        "id": node.key.id,
        "path": node.path().lstrip("/"),
        "title": naming.plain_text(found.card.title),
        "status": status_of(OWN_ITEMS[node.kind], found.card, edited=_is_edited(node)),
        "points": [[str(point.verdict), point.what, point.text] for point in found.points],
        "may_be_published": found.may_be_published,
        "stamp": found.stamp,
    }


def of_item(item: Container, card: Card) -> dict[str, Any]:
    """The card of an item, as plain data. What its kind does not have is None, or empty."""
    own = item.kind in OWN_ITEMS
    kind = OWN_ITEMS.get(item.kind) or PUBLIC_ITEMS[item.kind]
    draft = own and not card.is_published
    license_ = card.license
    return {
        "kind": kind,
        "id": card.id,
        "title": card.title,
        "name": naming.plain_text(card.title),
        "doi": card.doi or None,
        "status": status_of(kind, card, edited=own and _is_edited(item)),
        "version": card.version or None,
        "type": card.defined_type_name or None,
        "created": _date(card.created_date),
        "modified": _date(card.modified_date),
        "published": _date(card.published_date),
        "license": license_.name if license_ is not None else None,
        "license_url": license_.url if license_ is not None else None,
        "authors": list(card.authors),
        "collaborators": list(card.collaborators),
        "keywords": list(card.all_keywords),
        "categories": list(card.categories),
        "role": card.role or None,
        "size": card.size,
        "files": _file_count(item),
        "articles": card.articles_count if kind == "collection" else _article_count(item),
        "page": page(card, draft=draft),
    }


def status_of(kind: str, card: Card, *, edited: bool = False) -> str:
    """How an item stands, in the words of ``user.figshare.status``. ``edited``: a collection, since it was
    published.
    """
    if kind == "project":
        return standing.PUBLIC if card.is_published else standing.PRIVATE
    if kind == "collection":
        shown = f"{standing.PUBLIC}, {standing.EDITED}" if edited else standing.PUBLIC
        return shown if card.is_published else standing.DRAFT
    names = ("id", "status", "is_embargoed", "embargo_date", "is_confidential", "is_metadata_record")
    fields: dict[str, Any] = {name: getattr(card, name) for name in names}
    return standing.status_of(ArticleDetails(**fields, is_public=card.is_published))


def _is_edited(item: Container) -> bool:
    """Whether an own collection was changed since it was published, as far as is known."""
    return item.record is not None and standing.status_of(item.record, item.edited).endswith(standing.EDITED)


def page(card: Card, *, draft: bool) -> str | None:
    """The item's web page: the public one, of a draft its owner's. None without one that can be opened."""
    if draft:
        urls = [card.url_private_html, card.figshare_url]
    else:  # a collection tells none: its DOI leads there
        resolver = f"https://doi.org/{urllib.parse.quote(card.doi)}" if identifiers.is_doi(card.doi) else ""
        urls = [card.figshare_url, card.url_public_html, resolver]
    return next((url for url in urls if _may_be_opened(url)), None)


def _may_be_opened(url: str) -> bool:
    return url.lower().startswith(("https://", "http://")) and url.isprintable() and len(url) <= LONGEST_URL


def _date(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    with contextlib.suppress(ValueError, OverflowError, OSError):
        return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return None


def _file_count(item: Container) -> int | None:
    """Files that Figshare has of an article that has been listed."""
    if item.kind not in (Kind.ARTICLE, Kind.PUBLIC_ARTICLE) or item.status.listed_at is None:
        return None
    return sum(
        isinstance(child, FileNode | LinkNode) and child.stored is not None for child in item.descendants()
    )


def _article_count(item: Container) -> int | None:
    if item.kind not in (Kind.PROJECT, Kind.PUBLIC_PROJECT) or item.status.listed_at is None:
        return None
    return len(item.children)
