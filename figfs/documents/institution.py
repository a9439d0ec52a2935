"""``institution/``: what the administrator of an institution has beside an account of one's own.

A file that is closed in ``hrfeed/`` is submitted as the HR feed, one in ``custom-fields/<id> <name>/`` as
that field's values (api.md §7). Figshare accepts a file or refuses it, and imports it later without a word,
so it does not stay there: ``status.json`` says what was submitted last, and what Figshare answered.
``articles/`` has links to what its members have published, by their titles; drafts have no public place.
"""

from __future__ import annotations

import datetime
import errno
from collections.abc import Callable

import cachetools
import trio

from figfs.documents.entries import Entry, Item
from figfs.documents.texts import to_json
from figfs.errors import FigfsError, UnknownOutcome
from figfs.figshare import institution
from figfs.figshare.client import Client
from figfs.figshare.records import Account, CustomField
from figfs.namespace import naming

ITEM = Item("institution", 0, False)
FEED, FIELDS, PUBLISHED, STATUS = "hrfeed", "custom-fields", "articles", "status.json"
COLLEAGUES = "accounts"
ACCOUNTS, ARTICLES = "accounts.json", "articles.json"
#: Seconds for which the list of custom fields is kept, which changes on the web page only, and that of the
#: articles: an institution has thousands, a page of a thousand each second.
KEPT = 600.0
TYPES = {FEED: (".xml", ".csv"), FIELDS: (".csv",)}


class Institution:
    """The documents of an institution. ``now``: wall clock, seconds."""

    def __init__(self, *, client: Client, now: Callable[[], float]) -> None:
        self._client = client
        self._now = now
        self._submitted: dict[str, bytes] = {}  #: by directory: what status.json says
        self._fields: cachetools.TTLCache[None, dict[str, CustomField]] = cachetools.TTLCache(
            1, KEPT, timer=trio.current_time
        )

        self._published: cachetools.TTLCache[None, list[Entry]] = cachetools.TTLCache(
            1, KEPT, timer=trio.current_time
        )

    def forget(self) -> None:
        """All lists are asked for anew."""
        self._fields.clear()
        self._published.clear()

    async def entries(self, directory: str) -> list[Entry]:
        if directory == "":
            return [
                Entry(FEED, "directory", writable=True),
                Entry(FIELDS, "directory"),
                Entry(COLLEAGUES, "accounts"),
                Entry(PUBLISHED, "directory"),
                Entry(ACCOUNTS, "file"),
                Entry(ARTICLES, "file"),
            ]
        if directory == FIELDS:
            return [Entry(name, "directory", writable=True) for name in await self._custom_fields()]
        if directory == PUBLISHED:
            return await self._published_articles()
        await self._check_directory(directory)
        return [Entry(STATUS, "file")] if directory in self._submitted else []

    async def read(self, path: str) -> bytes:
        directory, _, name = path.rpartition("/")
        if path == ACCOUNTS:
            return to_json([_account(account) for account in await institution.list_accounts(self._client)])
        if path == ARTICLES:
            return to_json(await institution.list_articles(self._client))
        if name == STATUS and directory in self._submitted:
            return self._submitted[directory]
        raise OSError(errno.ENOENT, f"no {path!r} here")

    async def create(self, path: str, content: bytes) -> None:
        """Submit a file. Raises what Figshare refuses it with, and ``OSError(EINVAL)`` for what it would not
        take; ``status.json`` says the same.
        """
        directory, _, name = path.rpartition("/")
        field = await self._check_directory(directory)
        try:
            self._check_file(FEED if field is None else FIELDS, name, content)
            if field is None:
                await institution.upload_feed(self._client, name, content)
            else:
                await institution.upload_values(self._client, field.id, name, content)
        except (OSError, FigfsError) as exc:
            reason = exc.strerror if isinstance(exc, OSError) else None
            outcome = "not known" if isinstance(exc, UnknownOutcome) else "refused"
            self._note(directory, name, content, f"{outcome}: {reason or exc}")
            raise
        except trio.Cancelled:
            self._note(directory, name, content, "not known: given up before there was an answer")
            raise
        self._note(directory, name, content, "accepted; Figshare imports it later")

    async def _check_directory(self, directory: str) -> CustomField | None:
        """The field of a directory, None for the feed's. ``OSError(ENOENT)``: no such directory."""
        if directory == FEED:
            return None
        above, _, name = directory.rpartition("/")
        if above == FIELDS and (field := (await self._custom_fields()).get(name)) is not None:
            return field
        raise OSError(errno.ENOENT, f"no {directory!r} here")

    @staticmethod
    def _check_file(kind: str, name: str, content: bytes) -> None:
        types = TYPES[kind]
        if not name.lower().endswith(types):
            raise OSError(errno.EINVAL, f"a file {' or '.join(types)} is needed")
        if not content.strip():
            raise OSError(errno.EINVAL, "an empty file says nothing")

    async def _published_articles(self) -> list[Entry]:
        """A link for each, named as in any listing of articles."""
        known = self._published.get(None)
        if known is None:
            listed = await institution.list_public_articles(self._client)
            titles = [(article.id, naming.name_from_title(article.title)) for article in listed]
            known = [
                Entry(name, "link", target=f"public/articles/{place}", alias=place)
                for article_id, name in naming.assign_names(titles, extension=False).items()
                for place in [naming.name_from_id(article_id)]
            ]
            self._published[None] = known
        return known

    async def _custom_fields(self) -> dict[str, CustomField]:
        known = self._fields.get(None)
        if known is None:
            known = {
                naming.name_from_filename(f"{field.id} {field.name}".strip()): field
                for field in await institution.custom_fields(self._client)
            }
            self._fields[None] = known
        return known

    def _note(self, directory: str, name: str, content: bytes, answer: str) -> None:
        when = datetime.datetime.fromtimestamp(self._now(), datetime.UTC).isoformat(timespec="seconds")
        self._submitted[directory] = to_json(
            {"file": name, "bytes": len(content), "submitted": when, "answer": answer}
        )


def _account(account: Account) -> dict[str, object]:
    return {
        "id": account.id,
        "institution_user_id": account.institution_user_id,
        "email": account.email,
        "first_name": account.first_name,
        "last_name": account.last_name,
        "quota": account.quota,
        "used_quota": account.used_quota,
    }
