"""From Figshare's files to what is cached of them: which content a file is, who reads it, what is known of
it.
"""

from __future__ import annotations

import re
import urllib.parse
from functools import partial
from pathlib import Path

from figfs.figshare import downloads
from figfs.figshare.client import Client
from figfs.figshare.records import File
from figfs.reading.blockcache import BlockCache
from figfs.reading.reader import Reader
from figfs.reading.segments import Source


class StoredFiles:
    """The stored files of one mount, as contents of its block cache. ``verify``: see ``options.VERIFY``."""

    def __init__(self, *, client: Client, cache: BlockCache, verify: str) -> None:
        self.cache = cache
        self._client = client
        self._verify = verify
        self._host = urllib.parse.urlsplit(client.api).netloc

    def source(self, file: File) -> Source:
        """The content of a stored file.

        Its key is the MD5 that Figshare has *computed*, so that the same bytes in several articles or
        versions are kept once. What a client supplied proves nothing: its file has a content of its own, by
        id; but it is good enough to compare with.
        """
        computed = _md5(file.computed_md5)
        key = computed or re.sub(r"[^A-Za-z0-9._-]", "_", f"id-{self._host}-{file.id}")[:80]
        return Source(
            key=f"{key}-{file.size}",
            size=file.size,
            md5=computed or _md5(file.supplied_md5),
            fetch=partial(downloads.fetch_into, self._client, file),
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

    def attributes(self, file: File) -> dict[str, str]:
        """What is known of the content, as extended attributes without their prefix. No request."""
        source = self.source(file)
        known = {"key": source.key, "verified": self.cache.verdict(source).value}
        if source.md5:
            known["md5"] = source.md5
        return known


def _md5(text: str) -> str:
    text = text.strip().lower()
    return text if re.fullmatch(r"[0-9a-f]{32}", text) else ""
