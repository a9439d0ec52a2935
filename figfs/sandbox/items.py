"""Metadata of articles, projects and collections: from checked fields to columns of the database."""

from __future__ import annotations

import itertools
import json
from typing import Any

from figfs.sandbox.errors import invalid, not_found
from figfs.sandbox.state import Sandbox
from figfs.sandbox.store import Row, Store

#: Fields that are columns of their own; all others are in the column ``metadata``.
_COLUMNS = ("title", "description", "defined_type", "doi")


def columns(sandbox: Sandbox, fields: dict[str, Any], old: Row | None = None) -> Row:
    """Columns to write for checked ``fields`` of a new item, or of one whose row is ``old``.

    Authors and funding are stored as items show them. 404 for an unknown author id.
    """
    changes: Row = {name: fields[name] for name in _COLUMNS if name in fields}
    if tags := fields.get("tags", fields.get("keywords")):
        changes["tags"] = json.dumps(tags)
    elif "tags" in fields or "keywords" in fields:
        changes["tags"] = "[]"
    metadata = json.loads(old["metadata"]) if old else {}
    for name, value in fields.items():
        match name:
            case "authors":
                metadata["authors"] = [_author(sandbox, given) for given in value]
            case "funding_list":
                metadata["funding_list"] = _funding(metadata.get("funding_list", []), value)
            case "related_materials":
                metadata["related_materials"] = [_related(n, given) for n, given in enumerate(value, 1)]
            case "categories" | "categories_by_source_id":
                metadata["categories"] = value
            case "title" | "description" | "defined_type" | "doi" | "tags" | "keywords" | "articles":
                pass
            case "custom_fields" | "custom_fields_list":
                _set_custom_fields(metadata.get("custom_fields", []), value)
            case "group_id":
                check_group(sandbox, value)
                metadata["group_id"] = value
            case _:
                metadata[name] = value
    changes["metadata"] = json.dumps(metadata)
    return changes


def check_group(sandbox: Sandbox, group_id: int) -> None:
    if group_id != sandbox.account.group_id:
        raise not_found("group", group_id)


def own_author(sandbox: Sandbox) -> dict[str, Any]:
    """The account as an author: who creates an item becomes one by itself (quirk P6)."""
    account = sandbox.account
    return {
        "id": account.user_id,
        "full_name": account.full_name,
        "first_name": account.first_name,
        "last_name": account.last_name,
        "is_active": True,
        "url_name": account.full_name.replace(" ", "_"),
        "orcid_id": "",
    }


def new_author(store: Store, person: dict[str, Any]) -> dict[str, Any]:
    """Add a person who has no account to the known authors."""
    full_name = person.get("name") or f"{person['first_name']} {person['last_name']}"
    first, _, last = full_name.rpartition(" ")
    author = {
        "id": 0,
        "full_name": full_name,
        "first_name": person.get("first_name", first),
        "last_name": person.get("last_name", last),
        "is_active": False,
        "url_name": "_",
        "orcid_id": person.get("orcid_id", ""),
    }
    author["id"] = store.insert("authors", {"document": "{}"})
    store.update("authors", author["id"], {"document": json.dumps(author)})
    return author


def _author(sandbox: Sandbox, given: dict[str, Any]) -> dict[str, Any]:
    if "id" not in given:
        return new_author(sandbox.store, given)
    if given["id"] == sandbox.account.user_id:
        return own_author(sandbox)
    known = sandbox.store.value("SELECT document FROM authors WHERE id = ?", given["id"])
    if known is None:
        raise not_found("author", given["id"])
    author: dict[str, Any] = json.loads(known)
    return author


def _funding(old: list[dict[str, Any]], given: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those that the item has go by id; there is no search for others."""
    known = {fund["id"]: fund for fund in old}
    ids = itertools.count(max(known, default=0) + 1)
    funds = []
    for fund in given:
        if "id" in fund and fund["id"] not in known:
            raise invalid("funding_list", f"no known funding {fund['id']}")
        funds.append(known[fund["id"]] if "id" in fund else _new_funding(next(ids), fund["title"]))
    return funds


def _new_funding(number: int, title: str) -> dict[str, Any]:
    return {
        "id": number,
        "title": title,
        "grant_code": "",
        "funder_name": "",
        "is_user_defined": 1,
        "url": "",
    }


def _set_custom_fields(fields: list[dict[str, Any]], values: dict[str, Any]) -> None:
    """Of those that the item has; an institution sets up which these are."""
    known = {field["name"]: field for field in fields}
    for name, value in values.items():
        if name not in known:
            raise invalid("custom_fields", f"there is no custom field {name}")
        known[name]["value"] = "" if value is None else value


def _related(number: int, given: dict[str, Any]) -> dict[str, Any]:
    identifier = given["identifier"]
    return {
        "id": number,
        "identifier": identifier,
        "title": given.get("title", ""),
        "relation": given.get("relation", "References"),
        "identifier_type": given.get("identifier_type", "URL"),
        "is_linkout": given.get("is_linkout", False),
        "link": identifier if "://" in identifier else "",
    }
