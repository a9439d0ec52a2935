"""From Figshare's files to what is cached of them: which content a file is, who reads it, what is known of
it.
"""

from __future__ import annotations

import hashlib
import re
import urllib.parse
from functools import partial
from pathlib import Path

import cachetools

from figfs.errors import Changed
from figfs.figshare import downloads, files
from figfs.figshare.client import Client
from figfs.figshare.public import PublicFile
from figfs.figshare.records import File, Id
from figfs.reading.blockcache import BlockCache
from figfs.reading.reader import Reader
from figfs.reading.segments import Source
from figfs.writing.journal import Upload

MOVES = 32  #: stretches of stored files that uploads read from at the same time


class StoredFiles:
    """The stored files of one mount, as contents of its block cache. ``verify``: see ``options.VERIFY``."""

    def __init__(self, *, client: Client, cache: BlockCache, verify: str) -> None:
        self.cache = cache
        self._client = client
        self._anyone = client.without_token()
        self._verify = verify
        self._host = urllib.parse.urlsplit(client.api).netloc
        self._moved: cachetools.LRUCache[Id, File] = cachetools.LRUCache(MOVES)
        #: By the file and the offset at which each goes on: parts are read side by side, each from its start
        #: on, and read-ahead is of one stretch.
        self._stretches: cachetools.LRUCache[tuple[Id, int], Reader] = cachetools.LRUCache(MOVES)

    def source(self, file: File) -> Source:
        """The content of a stored file.

        Its key is the MD5 that Figshare has *computed*, so that the same bytes in several articles or
        versions are kept once. What a client supplied proves nothing: its file has a content of its own, by
        id; but it is good enough to compare with.
        """
        computed = _md5(file.computed_md5)
        key = computed or _key_of(self._host, file.id)
        return Source(
            key=f"{key}-{file.size}",
            size=file.size,
            md5=computed or _md5(file.supplied_md5),
            fetch=partial(
                downloads.fetch_into, self._anyone if isinstance(file, PublicFile) else self._client, file
            ),
        )

    def reader(self, file: File) -> Reader:
        return Reader(self.source(file), self.cache, verify=self._verify)

    def prefetch(self, file: File) -> None:
        """Fetch a small file without waiting for it, as far as there is room."""
        self.cache.prefetch(self.source(file))

    def adopt(self, file: File, path: Path) -> None:
        """Keep what was just uploaded from ``path``, verified by Figshare: it is read without a download."""
        source = self.source(file)
        if source.md5:
            self.cache.adopt(source.key, source.size, path)

    async def read_source(self, upload: Upload, start: int, end: int) -> bytes | memoryview:
        """Bytes [start, end) of the stored file that ``upload``, a move, is to become.

        Raises ``NotFound`` if it is gone, ``Changed`` if its size or MD5 is not the row's, and what
        ``Reader.read`` raises.
        """
        source, article_id = upload.source, upload.source_article
        if source is None or article_id is None:
            raise ValueError(f"row {upload.row} is no move")
        file = self._moved.get(source)
        if file is None:
            file = self._moved[source] = await files.get_file(self._client, article_id, source)
        if file.size != upload.size or _md5(file.computed_md5) != upload.md5:
            del self._moved[source]
            raise Changed(f"{upload.name}: what was to be moved here has another content by now")
        reader = self._stretches.pop((source, start), None) or self.reader(file)
        data = await reader.read(start, end - start)
        self._stretches[source, end] = reader
        return data

    def attributes(self, file: File) -> dict[str, str]:
        """What is known of the content, as extended attributes without their prefix. No request."""
        source = self.source(file)
        known = {"key": source.key, "verified": self.cache.verdict(source).value}
        if source.md5:
            known["md5"] = source.md5
        return known


def _key_of(host: str, file_id: Id) -> str:
    """Of no other file, whatever a server takes for an id: two of one key would be read as one."""
    key = f"id-{host.replace(':', '_')}-{file_id}"
    if re.fullmatch(r"[A-Za-z0-9._-]{1,80}", key):
        return key
    return f"id-{hashlib.blake2b(key.encode(), digest_size=20).hexdigest()}"


def _md5(text: str) -> str:
    text = text.strip().lower()
    return text if re.fullmatch(r"[0-9a-f]{32}", text) else ""
