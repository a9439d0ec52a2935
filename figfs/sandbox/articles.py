"""What happens to articles: made, changed, deleted, published."""

from __future__ import annotations

import json
from typing import Any

from figfs.sandbox import dois, files, history, items, reference, search
from figfs.sandbox.errors import bad_request, forbidden, not_found
from figfs.sandbox.state import Sandbox
from figfs.sandbox.store import Row


def own(sandbox: Sandbox, article_id: int) -> Row:
    """An article of the account; 404 for all others."""
    row = sandbox.store.row(
        "SELECT * FROM articles WHERE id = ? AND owner = ?", article_id, sandbox.account.id
    )
    if row is None:
        raise not_found("article", article_id)
    return row


def readable(sandbox: Sandbox, article_id: int) -> Row:
    """An article of the account, or anyone's that is public; else 404."""
    row = sandbox.store.row("SELECT * FROM articles WHERE id = ?", article_id)
    if row is None or (row["owner"] != sandbox.account.id and not row["version"]):
        raise not_found("article", article_id)
    return row


def create(sandbox: Sandbox, fields: dict[str, Any], *, project_id: int | None = None) -> int:
    """Make a draft from checked fields; its id.

    The account is its author unless authors are given (quirk P6).
    """
    now = sandbox.clock.stamp()
    row: Row = {
        "owner": sandbox.account.id,
        "project_id": project_id,
        "description": "",
        "tags": "[]",
        "defined_type": reference.ITEM_TYPES[reference.DEFAULT_ITEM_TYPE],
        "doi": "",
        "created": now,
        "modified": now,
        "published": None,
        "version": 0,
        "edited": 0,
    }
    with sandbox.store.transaction():
        row |= items.columns(sandbox, {"authors": [{"id": sandbox.account.user_id}]} | fields)
        article_id = sandbox.store.insert("articles", row)
        search.changed(sandbox, "articles", article_id)
    return article_id


def update(sandbox: Sandbox, article: Row, fields: dict[str, Any]) -> None:
    """Change the fields given. Of a published article this is the draft of the next version (quirk P2)."""
    with sandbox.store.transaction():
        changes = items.columns(sandbox, fields, article)
        changes["modified"] = sandbox.clock.stamp()
        sandbox.store.update("articles", article["id"], changes)
        files.mark_article_edited(sandbox, article["id"])
        search.changed(sandbox, "articles", article["id"])


def delete(sandbox: Sandbox, article: Row) -> None:
    """Delete a draft with its files. 403 for what is published (quirk P1)."""
    if article["version"]:
        raise forbidden()
    article_id = article["id"]
    with sandbox.store.transaction():
        for file in sandbox.store.rows("SELECT * FROM files WHERE article_id = ?", article_id):
            files.remove(sandbox, file)
        sandbox.store.run("DELETE FROM articles WHERE id = ?", article_id)
        sandbox.store.run("DELETE FROM collection_articles WHERE article_id = ?", article_id)
        search.changed(sandbox, "articles", article_id)


def publish(sandbox: Sandbox, article: Row) -> None:
    """Make the next public version, which never changes. 400 names what is missing (which code: unknown)."""
    metadata = json.loads(article["metadata"])
    present = files.draft_files(sandbox, article["id"])
    missing = [
        name
        for name, value in (
            ("description", article["description"]),
            ("tags", json.loads(article["tags"])),
            ("categories", metadata.get("categories")),
            ("authors", metadata.get("authors")),
            ("files", present or metadata.get("is_metadata_record")),
        )
        if not value
    ]
    if missing:
        raise bad_request("Mandatory fields are missing: " + ", ".join(missing), "MandatoryFieldsMissing")
    if any(file["status"] != "available" for file in present):
        raise bad_request("An upload is not complete", "UploadNotCompleted")
    article_id, version = article["id"], article["version"] + 1
    now = sandbox.clock.stamp()
    changes = {
        "version": version,
        "edited": 0,
        "doi": dois.published(sandbox, "articles", article, version),
        "published": article["published"] or now,
        "modified": now,
    }
    with sandbox.store.transaction():
        sandbox.store.update("articles", article_id, changes)
        document = json.dumps(article | changes)
        sandbox.store.run("INSERT INTO versions VALUES (?, ?, ?)", article_id, version, document)
        sandbox.store.run(
            "INSERT INTO version_files SELECT article_id, ?, id FROM files WHERE article_id = ? AND draft",
            version,
            article_id,
        )
        sandbox.store.run("UPDATE files SET public = 1 WHERE article_id = ? AND draft", article_id)
        search.changed(sandbox, "articles", article_id)
        history.record(sandbox.store, "articles", article_id, "created" if version == 1 else "updated", now)


def public_version(sandbox: Sandbox, article_id: int, version: int | None = None) -> Row:
    """The article as it was published, by default last; 404 if it was not."""
    number = version
    if number is None:
        number = sandbox.store.value("SELECT version FROM articles WHERE id = ?", article_id)
    document = sandbox.store.value(
        "SELECT document FROM versions WHERE article_id = ? AND version = ?", article_id, number
    )
    if document is None:
        raise not_found("article", article_id)
    row: Row = json.loads(document)
    return row
