"""Projects, own and shared, and the articles in them."""

from __future__ import annotations

from figfs.figshare import items
from figfs.figshare.client import Client, segment
from figfs.figshare.paging import list_all
from figfs.figshare.records import Article, ArticleDetails, File, Id, Project


async def list_own(client: Client) -> list[Project]:
    """The account's projects, with those that others share with it."""
    return await list_all(client, "/account/projects", Project)


async def create(client: Client, title: str) -> Id:
    """A new project of the account; see ``items.create`` for a lost answer."""
    return await items.create(client, "/account/projects", {"title": title})


async def update(client: Client, project_id: Id, *, title: str) -> None:
    await items.update(client, _path(project_id), {"title": title})


async def delete(client: Client, project_id: Id) -> None:
    """Its articles go to their owners, or, in a group project, are deleted with it (quirks P8)."""
    await items.delete(client, _path(project_id))


async def list_articles(client: Client, project_id: Id) -> list[Article]:
    return await list_all(client, f"{_path(project_id)}/articles", Article)


async def create_article(client: Client, project_id: Id, title: str) -> Id:
    """A new draft in the project: the only way for an article to get into one (api.md §4)."""
    return await items.create(client, f"{_path(project_id)}/articles", {"title": title})


async def get_article(client: Client, project_id: Id, article_id: Id) -> ArticleDetails:
    path = f"{_path(project_id)}/articles/{segment(article_id)}"
    return await client.call("GET", path, read=lambda answer: ArticleDetails.from_json(answer.json()))


async def list_files(client: Client, project_id: Id, article_id: Id) -> list[File]:
    """Files of a project's article, also of a collaborator's, which ``/account/articles`` does not show."""
    return await list_all(client, f"{_path(project_id)}/articles/{segment(article_id)}/files", File)


async def delete_article(client: Client, project_id: Id, article_id: Id) -> None:
    """Deletes the article itself, not just its place in the project (api.md §4)."""
    await items.delete(client, f"{_path(project_id)}/articles/{segment(article_id)}")


def _path(project_id: Id) -> str:
    return f"/account/projects/{segment(project_id)}"
