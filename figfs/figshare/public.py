"""What anyone may read: public articles and their versions, projects, collections. Give it a client
``without_token``.
"""

from __future__ import annotations

from figfs.errors import Invalid, NotFound
from figfs.figshare.client import Answer, Client
from figfs.figshare.items import public_path
from figfs.figshare.paging import list_all
from figfs.figshare.records import Article, ArticleDetails, Collection, File, Id, Project, read_list


class PublicFile(File, frozen=True, kw_only=True):
    """A file of a public article: its bytes are anybody's, so they are asked for without the token."""


async def get_article(
    client: Client, article_id: Id, version: int | None = None
) -> tuple[ArticleDetails, Answer]:
    """The latest version, or one, and the answer as it came, which says more than the record.

    ``NotFound``: never published, withdrawn, or under an embargo.
    """
    return await client.call(
        "GET",
        public_path("article", article_id, version),
        read=lambda answer: (ArticleDetails.from_json(answer.json()), answer),
    )


async def list_files(client: Client, article_id: Id, version: int | None = None) -> list[PublicFile]:
    """Those of the latest version, or of one (quirks L6)."""
    return await list_all(client, f"{public_path('article', article_id, version)}/files", PublicFile)


async def get_project(client: Client, project_id: Id) -> Project:
    return await client.call(
        "GET", public_path("project", project_id), read=lambda answer: Project.from_json(answer.json())
    )


async def list_project_articles(client: Client, project_id: Id) -> list[Article]:
    return await list_all(client, f"{public_path('project', project_id)}/articles", Article)


async def get_collection(client: Client, collection_id: Id) -> Collection:
    return await client.call(
        "GET",
        public_path("collection", collection_id),
        read=lambda answer: Collection.from_json(answer.json()),
    )


async def list_collection_articles(client: Client, collection_id: Id) -> list[Article]:
    return await list_all(client, f"{public_path('collection', collection_id)}/articles", Article)


async def articles_with_doi(client: Client, doi: str) -> list[Article]:
    """Those that the filter finds, none where the server has no such filter; the caller compares."""
    try:
        return await client.call(
            "GET", "/articles", params={"doi": doi}, read=lambda answer: read_list(Article, answer.json())
        )
    except (Invalid, NotFound):
        return []


async def collections_with_doi(client: Client, doi: str) -> list[Collection]:
    """As ``articles_with_doi``."""
    try:
        return await client.call(
            "GET",
            "/collections",
            params={"doi": doi},
            read=lambda answer: read_list(Collection, answer.json()),
        )
    except (Invalid, NotFound):
        return []
