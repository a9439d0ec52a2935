"""The documents of ``.figshare/``, asked for and changed on Figshare: implements ``entries.Documents``.

Each document is made when it is read. What several of them are made of is kept for a moment (``items.py``);
``metadata.json`` itself, and what it is compared with when it is written, is always asked for.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import cachetools

from figfs.documents import checksums, citations, editing, institution, names, ro_crate
from figfs.documents.entries import Entry, Item, Seen, Versions
from figfs.documents.items import Items, Shown, not_known
from figfs.documents.texts import to_json
from figfs.documents.works import Work, work_of
from figfs.errors import AWAY, Changed, FigfsError, Forbidden, NotFound, UnknownOutcome
from figfs.figshare import links, metadata, notes, oai, stats
from figfs.figshare.client import Client
from figfs.figshare.items import KINDS
from figfs.figshare.links import PrivateLink
from figfs.figshare.records import Id, read_id
from figfs.namespace import naming
from figfs.terminal import visible

_MOST_MADE = 16 << 20  #: bytes of what Figshare made of documents that were written here

METADATA = "metadata.json"
MD5SUMS = "md5sums"
STATS = "stats.json"
ALL_LINKS = "links.json"
COLLABORATORS = "collaborators.json"
LINKS, NOTES, VERSIONS = "links", "notes", "versions"  # directories

_CITATIONS: dict[str, Callable[[Work], str]] = {
    "citation.txt": citations.text,
    "citation.bib": citations.bibtex,
    "citation.ris": citations.ris,
    "citation.cff": citations.cff,
}
_OAI = {f"{prefix}.xml": prefix for prefix in oai.FORMATS}

#: Of the root; those of the account only with a token.
_ACCOUNT = ("account.json", "quota.json")
_EVERYBODYS = ("licenses.json", "categories.json", "status.json")
_QUOTA = ("quota", "used_quota", "used_quota_private", "used_quota_public", "maximum_file_size")


class FigshareDocuments:
    """The content of every ``.figshare`` of one mount.

    ``status``: what ``status.json`` says, as JSON. ``shown``: the names of files in the mount, where it knows
    them; else they are what a directory that shows Figshare's list would give them. ``kept``: what is on disk
    of public articles, or None. ``on_changed`` is called when the metadata of an item was changed here: its
    name may be another one now.
    """

    def __init__(
        self,
        *,
        client: Client,
        status: Callable[[], Awaitable[object]],
        shown: Shown = not_known,
        kept: Versions | None = None,
    ) -> None:
        self._client = client
        self._kept = kept
        self._status = status
        self._items = Items(client=client, shown=shown, kept=kept)
        self._institution = institution.Institution(client=client, now=time.time)
        self.on_changed: Callable[[Item], None] = lambda item: None
        #: By item and digest of a metadata.json that was written here: the document as Figshare had it then.
        #: So an editor can write several times without reading in between.
        self._made: cachetools.LRUCache[tuple[Item, bytes], bytes] = cachetools.LRUCache(
            _MOST_MADE, getsizeof=len
        )

    # -- what is there -------------------------------------------------------------

    async def entries(self, item: Item, directory: str) -> list[Entry]:
        if item == institution.ITEM:
            return await self._institution.entries(directory)
        if directory == "":
            return await self._own_entries(item)
        if directory == VERSIONS and item.kind == "article":
            try:
                numbers = await metadata.list_versions(self._client, item.id)
            except AWAY:
                if not (known := self.known(item, VERSIONS)):
                    raise
                return known
            return [_version_entry(item, number) for number in numbers]
        if directory == NOTES and self._has_notes(item):
            return [
                Entry(names.note_name(note.id, note.abstract), "file", writable=True, removable=True)
                for note in await notes.list_notes(self._client, item.id)
            ]
        if directory == LINKS and self._has_links(item):
            return [
                Entry(names.link_name(link.id), "file", writable=True, removable=True)
                for link in await links.list_links(self._client, item.kind, item.id)
            ]
        raise _missing(directory)

    def known(self, item: Item, directory: str) -> list[Entry]:
        if item.kind != "article":
            return []
        if directory == "":
            return [Entry(VERSIONS, "directory")]
        if directory == VERSIONS and self._kept is not None:
            return [_version_entry(item, number) for number in self._kept.versions(item.id)]
        return []

    async def _own_entries(self, item: Item) -> list[Entry]:
        if item.kind == "root":
            known = _EVERYBODYS if self._client.token is None else _ACCOUNT + _EVERYBODYS
            return [Entry(name, "file") for name in known]
        found = [Entry(METADATA, "file", writable=not item.public)]
        found += [Entry(name, "file") for name in (*_CITATIONS, ro_crate.NAME)]
        if item.kind == "article":
            found += [Entry(MD5SUMS, "file"), Entry(VERSIONS, "directory")]
        if _is_public(item, await self._items.known(item)):
            found.append(Entry(STATS, "file"))
            if item.kind == "article":
                found += [Entry(name, "file") for name in _OAI]
        if self._has_links(item):
            found += [Entry(ALL_LINKS, "file"), Entry(LINKS, "directory", writable=True)]
        if self._has_notes(item):
            found += [Entry(COLLABORATORS, "file"), Entry(NOTES, "directory", writable=True)]
        return found

    @staticmethod
    def _has_links(item: Item) -> bool:
        return item.kind in ("article", "collection") and not item.public

    @staticmethod
    def _has_notes(item: Item) -> bool:
        return item.kind == "project" and not item.public

    # -- reading -------------------------------------------------------------------

    async def read(self, item: Item, path: str) -> bytes:
        if item == institution.ITEM:
            return await self._institution.read(path)
        directory, _, name = path.rpartition("/")
        if directory == NOTES and self._has_notes(item):
            note = await notes.get(self._client, item.id, names.id_of_note(name))
            return names.note_document(note.text)
        if directory == LINKS and self._has_links(item):
            return to_json(_plain(await self._link(item, name)))
        if directory:
            raise _missing(path)
        if item.kind == "root":
            return await self._read_of_root(name)
        if name == METADATA:
            return to_json(await self._items.ask(item))
        if name in _CITATIONS:
            return _CITATIONS[name](await self._work(item)).encode()
        if name == ro_crate.NAME:
            if item.kind == "article":
                return ro_crate.render(await self._work(item), await self._items.shown_files(item))
            articles = await metadata.list_articles(self._client, item.kind, item.id, public=item.public)
            return ro_crate.render(await self._work(item), articles=articles)
        if name == COLLABORATORS and self._has_notes(item):
            return to_json(await metadata.list_collaborators(self._client, item.id))
        if name == ALL_LINKS and self._has_links(item):
            found = await links.list_links(self._client, item.kind, item.id)
            return to_json([_plain(link) for link in found])
        if name == STATS:
            if not _is_public(item, await self._items.known(item)):
                raise _missing(path)
            return await self._items.record(item, name, lambda: self._statistics(item))
        if item.kind == "article":
            return await self._read_of_article(item, name)
        raise _missing(path)

    async def _read_of_article(self, item: Item, name: str) -> bytes:
        if name == MD5SUMS:
            return checksums.md5sums(await self._items.shown_files(item)).encode()
        if name in _OAI:
            prefix = _OAI[name]
            return await self._items.record(item, name, lambda: oai.get_record(self._client, item.id, prefix))
        raise _missing(name)

    async def _statistics(self, item: Item) -> bytes:
        return to_json(await stats.get_totals(self._client, item.kind, item.id))

    async def _read_of_root(self, name: str) -> bytes:
        if name == "licenses.json":
            return to_json(await metadata.list_licenses(self._client))
        if name == "categories.json":
            return to_json(await metadata.list_categories(self._client))
        if name == "status.json":
            return to_json(await self._status())
        if name in _ACCOUNT and self._client.token is not None:
            account = await metadata.get_account(self._client)
            return to_json(account if name == "account.json" else {key: account.get(key) for key in _QUOTA})
        raise _missing(name)

    def forget(self, item: Item) -> None:
        if item == institution.ITEM:
            self._institution.forget()
        self._items.forget(item)

    async def _work(self, item: Item) -> Work:
        return work_of(item.kind, await self._items.known(item))

    async def _link(self, item: Item, name: str) -> PrivateLink:
        for link in await links.list_links(self._client, item.kind, item.id):
            if names.link_name(link.id) == name:
                return link
        raise _missing(name)

    # -- changing ------------------------------------------------------------------

    async def write(self, item: Item, path: str, content: bytes, seen: Seen) -> None:
        directory, _, name = path.rpartition("/")
        if directory == NOTES and self._has_notes(item):
            await self._write_note(item, names.id_of_note(name), content, seen.likeliest)
        elif directory == LINKS and self._has_links(item):
            link = await self._link(item, name)
            date = names.expiry(content, _plain(link))
            if date and date != link.expires_date:
                if seen.likeliest is not None and not names.is_expiry(seen.likeliest, link.expires_date):
                    raise Changed("the link was changed on Figshare since it was read: read it again")
                with _changing():
                    await links.update(self._client, item.kind, item.id, link.id, expires_date=date)
        elif path == METADATA and item.kind in KINDS and not item.public:
            await self._write_metadata(item, content, seen)
        else:
            raise _not_to_be_changed(item, path)

    async def _write_metadata(self, item: Item, content: bytes, seen: Seen) -> None:
        """Between the look at what is there and the change somebody else may change it as well: Figshare has
        no conditional requests for that.
        """
        new = editing.parse(content)
        current = editing.parse(to_json(await self._items.ask(item)))
        own = None if seen.own is None else self._state(item, seen.own)
        others = [editing.State.read(editing.parse(other)) for other in seen.others]
        base = editing.made_from(item.kind, new, own, others)
        editing.refuse_stale(item.kind, new, base, current)
        before = current if base is None else base.shown
        sent = editing.changes(item.kind, new, before)
        if sent:
            choices = await self._choices(sent)
            if choices is not None:
                sent = editing.changes(item.kind, new, before, choices)
            try:
                with _changing():
                    await metadata.update(self._client, item.kind, item.id, sent)
            except NotFound as exc:
                raise Forbidden(f"this {item.kind} is another's, who alone can change it") from exc
            finally:
                self._items.drop_metadata(item)
            self.on_changed(item)
            with contextlib.suppress(FigfsError):  # it has been changed: who writes again then reads before
                self._remember(item, content, to_json(await self._items.ask(item)))
        else:
            self._remember(item, content, to_json(current))

    def _state(self, item: Item, own: bytes) -> editing.State:
        made = self._made.get((item, _digest(own)))
        shown = editing.parse(own)
        return (
            editing.State.read(shown) if made is None else editing.State.written(shown, editing.parse(made))
        )

    def _remember(self, item: Item, written: bytes, document: bytes) -> None:
        """``written`` was written here, and Figshare has made ``document`` of it."""
        if len(document) <= self._made.maxsize:
            self._made[item, _digest(written)] = document

    async def _choices(self, sent: dict[str, object]) -> editing.Choices | None:
        """What the account may choose from, as far as it is needed. None: nothing is."""
        licenses, categories = editing.asks_for(sent)
        if not (licenses or categories):
            return None
        return editing.Choices(
            _by_number(await metadata.list_licenses(self._client), "value") if licenses else None,
            _by_number(await metadata.list_categories(self._client), "id") if categories else None,
        )

    async def _write_note(self, item: Item, note_id: Id, content: bytes, base: bytes | None) -> None:
        text = names.note_text(content)
        note = await notes.get(self._client, item.id, note_id)
        current, written = names.note_document(note.text), names.note_document(text)
        if base is not None and current not in (names.note_as_read(base), written):
            raise Changed("the note was changed on Figshare since it was read: read it again")
        if written != current:
            text = names.with_hidden(text, note.text)
            with _changing():
                await notes.update(self._client, item.id, note_id, text)

    async def create(self, item: Item, path: str, content: bytes) -> None:
        directory, _, _ = path.rpartition("/")
        if item == institution.ITEM:
            await self._institution.create(path, content)
        elif directory == NOTES and self._has_notes(item):
            await notes.create(self._client, item.id, names.note_text(content))
        elif directory == LINKS and self._has_links(item):
            date = names.expiry(content)
            await links.create(self._client, item.kind, item.id, expires_date=date)
        else:
            raise _not_to_be_changed(item, path)

    async def remove(self, item: Item, path: str) -> None:
        directory, _, name = path.rpartition("/")
        if directory == NOTES and self._has_notes(item):
            with _changing():
                await notes.delete(self._client, item.id, names.id_of_note(name))
        elif directory == LINKS and self._has_links(item):
            link = await self._link(item, name)
            with _changing():
                await links.delete(self._client, item.kind, item.id, link.id)
        else:
            raise _not_to_be_changed(item, path)


@contextlib.contextmanager
def _changing() -> Iterator[None]:
    """Around a request that changes something, and no other: without an answer its outcome is not known."""
    try:
        yield
    except AWAY as exc:
        raise UnknownOutcome(f"{exc}: look whether it was changed", status=exc.status) from exc


def _version_entry(item: Item, number: int) -> Entry:
    return Entry(f"{number}", "link", target=f"public/articles/{naming.name_from_id(item.id)}.v{number}")


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=16).digest()


def _is_public(item: Item, raw: dict[str, Any]) -> bool:
    return item.public or any(raw.get(name) for name in ("is_public", "public", "published_date"))


def _plain(link: PrivateLink) -> dict[str, object]:
    return {
        "id": link.id,
        "is_active": link.is_active,
        "expires_date": link.expires_date,
        "html_location": link.html_location,
    }


def _by_number(entries: list[Any], key: str) -> dict[int, dict[str, Any]]:
    """A list by its ids; without headings, which cannot be chosen."""
    return {
        number: entry
        for entry in entries
        if isinstance(entry, dict) and entry.get("is_selectable") is not False
        for number in [read_id(entry.get(key))]
        if isinstance(number, int)
    }


def _missing(path: str) -> OSError:
    return OSError(errno.ENOENT, f"no document {visible(path, 100)}")


def _not_to_be_changed(item: Item, path: str) -> OSError:
    if item.public:
        return OSError(errno.EROFS, "public items are read-only")
    return OSError(errno.EPERM, f"{visible(path, 100)} is made by figfs, and cannot be changed")
