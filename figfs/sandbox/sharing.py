"""Projects of a colleague's that are shared with the account, in a role (api.md §4).

Who owns a project shares it on its web page; the sandbox is asked by its control. What the role is worth: a
viewer reads, a collaborator makes articles as well; what is another's is changed by its owner only.
"""

from __future__ import annotations

import json

from figfs.sandbox import articles, search
from figfs.sandbox.errors import forbidden, not_found
from figfs.sandbox.members import COLLEAGUE
from figfs.sandbox.state import Account, Sandbox
from figfs.sandbox.store import Row

OWNER, COLLABORATOR, VIEWER = "Owner", "Collaborator", "Viewer"

#: A condition in SQL on a row of ``projects``; its value is the account's id.
VISIBLE = "(owner = ? OR json_extract(metadata, '$.shared_as') IS NOT NULL)"


def share(sandbox: Sandbox, project_id: int, role: str) -> None:
    """The project and what is in it are the colleague's, and the account has ``role`` there; as its owner it
    gets them back. 404 for none.
    """
    row = visible(sandbox, project_id)
    owner = sandbox.account.id if role == OWNER else COLLEAGUE.id
    metadata = json.loads(row["metadata"])
    metadata.pop("shared_as", None)
    if role != OWNER:
        metadata["shared_as"] = role
    with sandbox.store.transaction():
        sandbox.store.update("projects", project_id, {"owner": owner, "metadata": json.dumps(metadata)})
        search.changed(sandbox, "projects", project_id)
        inside = sandbox.store.rows("SELECT id FROM articles WHERE project_id = ?", project_id)
        sandbox.store.run("UPDATE articles SET owner = ? WHERE project_id = ?", owner, project_id)
        for article in inside:
            search.changed(sandbox, "articles", article["id"])


def visible(sandbox: Sandbox, project_id: int) -> Row:
    """A project of the account or shared with it; else 404."""
    row = sandbox.store.row(
        f"SELECT * FROM projects WHERE id = ? AND {VISIBLE}", project_id, sandbox.account.id
    )
    if row is None:
        raise not_found("project", project_id)
    return row


def role_in(sandbox: Sandbox, project: Row) -> str:
    if project["owner"] == sandbox.account.id:
        return OWNER
    role: str = json.loads(project["metadata"])["shared_as"]
    return role


def people(sandbox: Sandbox, project: Row) -> list[tuple[str, Account]]:
    """Who is in a project, and as what: its owner first."""
    role = role_in(sandbox, project)
    if role == OWNER:
        return [(OWNER, sandbox.account)]
    return [(OWNER, COLLEAGUE), (role, sandbox.account)]


def require(sandbox: Sandbox, project: Row, *roles: str) -> None:
    """403 unless the account has one of ``roles``."""
    role = role_in(sandbox, project)
    if role not in roles:
        raise forbidden(f"A {role.lower()} may not do that")


def may_read(sandbox: Sandbox, article: Row) -> bool:
    """Whether the account may have the files: it owns the article, or has a role in its project and there is
    no embargo.
    """
    if article["owner"] == sandbox.account.id:
        return True
    if "file_embargo" in json.loads(article["metadata"]):
        return False
    found = sandbox.store.value(
        f"SELECT 1 FROM projects WHERE id = ? AND {VISIBLE}", article["project_id"], sandbox.account.id
    )
    return found is not None


def article_in(sandbox: Sandbox, project: Row, article_id: int) -> Row:
    """An article of a project that the account sees, whosever it is; else 404."""
    row = sandbox.store.row(
        "SELECT * FROM articles WHERE id = ? AND project_id = ?", article_id, project["id"]
    )
    if row is None:
        raise not_found("article", article_id)
    return row


def delete_article(sandbox: Sandbox, article: Row) -> None:
    """403 for another's: its owner deletes it."""
    if article["owner"] != sandbox.account.id:
        raise forbidden("Only its owner may delete an article")
    articles.delete(sandbox, article)
