"""What the documents of an item are made of: its metadata and its files.

Kept for ``KEPT`` seconds, of a version for good, so that ``cat .figshare/*`` asks for them once; what other
services say of it, and changes slowly, for ``RECORD_KEPT``, so that ``ls -l`` does not ask each time for
what nobody reads. Of public articles something is on disk (``entries.Versions``): of a version that is the
truth for ever, of the latest one it is what there is while Figshare is away.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import cachetools
import trio

from figfs.documents import checksums
from figfs.documents.checksums import ShownFile
from figfs.documents.entries import Item, Versions
from figfs.errors import AWAY, Forbidden, NotFound
from figfs.figshare import files, metadata, projects, public, records
from figfs.figshare.client import Client
from figfs.figshare.records import ArticleDetails, File
from figfs.namespace.sources import FILES_IN_DETAILS, LINK_SCHEMES, is_finished

KEPT = 10.0  #: seconds
RECORD_KEPT = 3600.0  #: seconds
_MOST_RECORDS = 8 << 20  #: bytes
_MOST_KEPT = 16  #: items of which something is kept

#: The files of an article as its directory shows them; None where the directory has not been listed.
Shown = Callable[[Item], Awaitable[Sequence[ShownFile] | None]]


async def not_known(item: Item) -> Sequence[ShownFile] | None:
    """Of no directory."""
    return None


class Items:
    """Those of one mount. Arguments as for ``FigshareDocuments``."""

    def __init__(self, *, client: Client, shown: Shown, kept: Versions | None) -> None:
        self._client = client
        self._shown = shown
        self._kept = kept
        self._metadata: cachetools.TTLCache[Item, dict[str, Any]] = cachetools.TTLCache(
            _MOST_KEPT, KEPT, timer=trio.current_time
        )
        #: A published version never changes.
        self._versions: cachetools.LRUCache[Item, dict[str, Any]] = cachetools.LRUCache(_MOST_KEPT)
        self._files: cachetools.TTLCache[Item, list[ShownFile]] = cachetools.TTLCache(
            _MOST_KEPT, KEPT, timer=trio.current_time
        )

        self._records: cachetools.TTLCache[tuple[Item, str], bytes] = cachetools.TTLCache(
            _MOST_RECORDS, RECORD_KEPT, timer=trio.current_time, getsizeof=len
        )

    def forget(self, item: Item) -> None:
        """What is known of ``item`` may have changed."""
        for about in [key for key in self._records if (key[0].kind, key[0].id) == (item.kind, item.id)]:
            self._records.pop(about, None)
        for known in (self._metadata, self._files):
            for key in [key for key in known if (key.kind, key.id) == (item.kind, item.id)]:
                known.pop(key, None)

    def drop_metadata(self, item: Item) -> None:
        """It is being changed here."""
        self._metadata.pop(item, None)

    async def ask(self, item: Item) -> dict[str, Any]:
        """The item's metadata as it is now."""
        if item in self._versions:
            return self._versions[item]
        if not item.public:
            found = await metadata.get_own(self._client, item.kind, item.id, project_id=item.project_id)
        elif item.version is not None and (kept := self._kept_metadata(item)) is not None:
            found = kept
        else:
            try:
                found = await metadata.get_public(self._client, item.kind, item.id, version=item.version)
            except AWAY:
                if (kept := self._kept_metadata(item)) is None:
                    raise
                return kept  # as it was known; not for longer than Figshare is away
        if item.version is None:
            self._metadata[item] = found
        else:
            self._versions[item] = found
        return found

    def _kept_metadata(self, item: Item) -> dict[str, Any] | None:
        if item.kind != "article" or self._kept is None:
            return None
        answer = self._kept.answer(item.id, item.version)
        return records.decode(answer) if answer else None

    async def known(self, item: Item) -> dict[str, Any]:
        """The item's metadata, as it was a moment ago."""
        known = self._metadata.get(item)
        return await self.ask(item) if known is None else known

    async def record(self, item: Item, name: str, ask: Callable[[], Awaitable[bytes]]) -> bytes:
        """A document of another service, of that name: of OAI-PMH, of the statistics."""
        found = self._records.get((item, name))
        if found is None:
            found = await ask()
            if len(found) <= _MOST_RECORDS:
                self._records[item, name] = found
        return found

    async def shown_files(self, item: Item) -> Sequence[ShownFile]:
        shown = await self._shown(item)
        if shown is not None:
            return shown
        found = self._files.get(item)
        if found is None:
            details = ArticleDetails.from_json(await self.known(item) | {"id": item.id})
            listed: Sequence[File] = details.files
            if details.files_sent != len(listed) or len(listed) >= FILES_IN_DETAILS:
                listed = await self._list_files(item)
            finished = [file for file in listed if _is_shown(file)]
            found = checksums.shown_files(finished, details.folder_structure)
            self._files[item] = found
        return found

    async def _list_files(self, item: Item) -> Sequence[File]:
        if item.public:
            return await public.list_files(self._client, item.id, item.version)
        try:
            return await files.list_files(self._client, item.id)
        except (Forbidden, NotFound):
            if item.project_id is None:
                raise
            return await projects.list_files(self._client, item.project_id, item.id)


def _is_shown(file: File) -> bool:
    """Whether the article's directory shows the file."""
    return file.download_url.lower().startswith(LINK_SCHEMES) if file.is_link_only else is_finished(file)
