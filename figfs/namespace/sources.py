"""What Figshare has in a container: one function a kind of container, each a handful of requests, as
``Entry`` records.

No state and no decisions about names: ``listings.py`` asks here, and ``merging.py`` brings the tree up to the
answer.
"""

from __future__ import annotations

import dataclasses

from figfs.errors import Forbidden, NotFound, NotSupported
from figfs.figshare import articles, collections, files, institution, projects, searching
from figfs.figshare.client import Client
from figfs.figshare.records import Account, Article, ArticleDetails, Collection, File, Id, Project
from figfs.namespace import naming
from figfs.namespace.nodes import Container, Key, Kind

#: ``GET /account/articles/{id}`` shows ten files at most (api.md §2), so fewer are all of them: one request
#: saved for most articles (median 1 file, quirks §6).
FILES_IN_DETAILS = 10

#: Files being assembled, or never completed, are not readable (quirks U11, U14). ``moving_to_final`` can be
#: where a file stays for good, with its MD5 computed: then it is shown.
UNFINISHED = frozenset({"created", "ic_checking", "aborted"})

LINK_SCHEMES = ("http://", "https://", "ftp://")


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """One thing in a container: what it is, its legal name before duplicates are told apart, its folder, its
    record.
    """

    key: Key
    base: str
    record: Article | Project | Collection | File | Account
    time: float  #: POSIX seconds, 0 if Figshare has none
    folder: tuple[str, ...] = ()
    place: str = ""  #: of a link: where what it stands for is in this mount, if the tree does not know


@dataclasses.dataclass(frozen=True, slots=True)
class Contents:
    """A listing: the entries, for an article also its details. ``settled``: no upload in it is unfinished.

    ``unshown``: what Figshare has in the article beside the entries, that could be lost with it.
    """

    entries: list[Entry]
    details: ArticleDetails | None = None
    settled: bool = True
    record: Project | Collection | None = None  #: of the container, where it is no article
    time: float = 0.0  #: POSIX seconds, of the container itself where nothing above it tells
    answer: bytes = b""  #: of a public article: all that Figshare says of it, as it said it
    date: float | None = None  #: of a public article: what Figshare's clock was when it was asked for
    unshown: tuple[File, ...] = ()


def time_of(*dates: float | None) -> float:
    return next((date for date in dates if date is not None), 0.0)


def article_entry(article: Article) -> Entry:
    """The entry of an article among others."""
    time = time_of(article.modified_date, article.published_date, article.created_date)
    return Entry(Key(Kind.ARTICLE, article.id), naming.name_from_title(article.title), article, time)


def project_entry(project: Project) -> Entry:
    time = time_of(project.modified_date, project.published_date, project.created_date)
    return Entry(Key(Kind.PROJECT, project.id), naming.name_from_title(project.title), project, time)


def collection_entry(collection: Collection) -> Entry:
    time = time_of(collection.modified_date, collection.published_date, collection.created_date)
    return Entry(
        Key(Kind.COLLECTION, collection.id), naming.name_from_title(collection.title), collection, time
    )


async def own_articles(client: Client) -> list[Entry]:
    """Every own article; whether those in projects are among them is not documented (api.md §3)."""
    return [article_entry(article) for article in await articles.list_own(client)]


async def own_projects(client: Client) -> list[Entry]:
    try:
        return [project_entry(project) for project in await projects.list_own(client)]
    except NotFound as exc:
        raise NotSupported("this server has no projects") from exc


async def own_collections(client: Client) -> list[Entry]:
    try:
        return [collection_entry(collection) for collection in await collections.list_own(client)]
    except NotFound as exc:
        raise NotSupported("this server has no collections") from exc


async def project_articles(client: Client, project_id: Id) -> list[Entry]:
    return [article_entry(article) for article in await projects.list_articles(client, project_id)]


async def collection_articles(client: Client, collection_id: Id) -> list[Entry]:
    """Its articles, keyed as members of this collection: they are links, the articles live elsewhere."""
    return [
        dataclasses.replace(article_entry(article), key=Key(Kind.MEMBER, f"{collection_id}/{article.id}"))
        for article in await collections.list_articles(client, collection_id)
    ]


async def found_articles(client: Client, query: Container, limit: int, *, own: bool) -> list[Entry]:
    """What a query finds, in Figshare's order: the account's own first (``own``), then anybody's public ones;
    no article twice, at most ``limit``. They are links, keyed as results of this query.
    """
    text = str(query.key.id).replace(naming.SLASH, "/")
    found: dict[Id, Entry] = {}
    if own:
        for article in await searching.own(client, text, limit):
            name = naming.name_from_id(article.id)
            place = f"../../articles/{name}"
            if article.project_id is not None:
                place = f"../../projects/{naming.name_from_id(article.project_id)}/{name}"
            found[article.id] = dataclasses.replace(_result(query, article), place=place)
    if len(found) < limit:
        for article in await searching.public(client, text, limit):
            found.setdefault(article.id, _result(query, article))
    return list(found.values())[:limit]


def _result(query: Container, article: Article) -> Entry:
    return dataclasses.replace(article_entry(article), key=Key(Kind.RESULT, f"{query.key.id}/{article.id}"))


async def accounts(client: Client, own: Id | None) -> list[Entry]:
    """The accounts of the institution; the one with the id ``own`` is the mount itself."""
    return [account_entry(account, own) for account in await institution.list_accounts(client)]


def account_entry(account: Account, own: Id | None) -> Entry:
    """An account bears its e-mail address, else its id."""
    base = naming.name_from_filename(account.email.strip() or str(account.id))
    if account.id == own:
        return Entry(Key(Kind.REFERENCE, f"account/{account.id}"), base, account, 0.0, place="../..")
    return Entry(Key(Kind.ACCOUNT, account.id), base, account, 0.0)


async def article_files(client: Client, article: Container) -> Contents:
    """The files of an article, in their folders, and its details. One request; from ten files on, more."""
    article_id = article.key.id
    project = article.parent
    if project is not None and project.kind is Kind.PROJECT:
        # A collaborator's article is not under /account/articles: 403 or 404 there (api.md §4).
        details = await projects.get_article(client, project.key.id, article_id)
    else:
        details = await articles.get(client, article_id)
    listed = list(details.files)
    if details.files_sent != len(listed) or len(listed) >= FILES_IN_DETAILS:
        try:
            listed = await files.list_files(client, article_id)
        except (Forbidden, NotFound):
            if project is None or project.kind is not Kind.PROJECT:
                raise
            listed = await projects.list_files(client, project.key.id, article_id)
    date = time_of(details.modified_date, details.published_date, details.created_date)
    entries: list[Entry] = []
    unshown: list[File] = []
    for file in listed:
        entry = file_entry(file, details.folder_structure.get(str(file.id), ""), date)
        if entry is not None:
            entries.append(entry)
        elif not is_announced_only(file):
            unshown.append(file)
    if details.files_sent is not None and details.files_sent > len(details.files):
        unshown.append(File(id="?", name="a file without an id"))
    settled = all(file.is_link_only or is_finished(file) for file in listed)
    return Contents(entries, details, settled, unshown=tuple(unshown))


def file_entry(file: File, folder_path: str, time: float) -> Entry | None:
    """The entry of a file; None for what must not be shown (unfinished uploads, links of odd schemes)."""
    folder = naming.split_folder_path(folder_path)
    base = naming.name_from_filename(file.name)
    if file.is_link_only:
        if not file.download_url.lower().startswith(LINK_SCHEMES):
            return None
        if not file.name:  # quirks D14: links often have no name
            base = naming.name_from_filename(file.download_url.rstrip("/").rsplit("/", 1)[-1])
        return Entry(Key(Kind.LINK, file.id), base, file, time, folder)
    if not is_finished(file):
        return None
    return Entry(Key(Kind.FILE, file.id), base, file, time, folder)


def is_finished(file: File) -> bool:
    """Whether Figshare holds all of the file (quirks U11); a server that gives no status is believed."""
    if file.status in UNFINISHED or is_announced_only(file):
        return False
    return file.status != "moving_to_final" or bool(file.computed_md5)


def is_announced_only(file: File) -> bool:
    """Whether Figshare holds nothing that anybody has completed."""
    if file.is_link_only:
        return False
    if file.status:
        return file.status in ("created", "aborted")
    return bool(file.upload_url) and not file.computed_md5  # the URL is "" once it is completed (quirks U13)
