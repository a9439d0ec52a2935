"""Rows of the database as the API shows them.

Blank fields are null or "" as captured answers have them (L12, L14).
"""

from __future__ import annotations

import json
import mimetypes
from typing import Any
from urllib.parse import quote

from figfs.sandbox import collection_versions, files, reference, sharing
from figfs.sandbox.clock import without_zone
from figfs.sandbox.state import Sandbox
from figfs.sandbox.store import Row

#: "List of up to 10 article files" (quirk L5).
FILES_IN_DETAILS = 10

_types = mimetypes.MimeTypes(filenames=())


def article(sandbox: Sandbox, row: Row, *, public: bool) -> dict[str, Any]:
    """An article as lists show it."""
    base, number = sandbox.base_url, row["id"]
    metadata = json.loads(row["metadata"])
    public_api, private_api = f"{base}/v2/articles/{number}", f"{base}/v2/account/articles/{number}"
    return {
        "id": number,
        "title": row["title"],
        "doi": row["doi"],
        "handle": metadata.get("handle", ""),
        "url": public_api if public else private_api,
        "published_date": row["published"],
        "thumb": "",
        "defined_type": row["defined_type"],
        "defined_type_name": reference.ITEM_TYPE_NAMES[row["defined_type"]],
        "group_id": metadata.get("group_id"),
        "url_private_api": private_api,
        "url_public_api": public_api,
        "url_private_html": f"{base}/account/articles/{number}",
        "url_public_html": f"{base}/articles/_/{number}",
        "timeline": _timeline(row, metadata),
        "resource_title": metadata.get("resource_title"),
        "resource_doi": metadata.get("resource_doi"),
        "created_date": row["created"],
        "modified_date": row["modified"],
    }


def article_with_project(sandbox: Sandbox, row: Row, *, public: bool) -> dict[str, Any]:
    """An article as searches show it. No project is null (api.md §2), though the description says 0."""
    return article(sandbox, row, public=public) | {"project_id": row["project_id"]}


def article_details(sandbox: Sandbox, row: Row, *, public: bool) -> dict[str, Any]:
    """An article in full; ``public``: one of its versions, with the fields that everyone may see."""
    metadata = json.loads(row["metadata"])
    if public:
        hidden = "file_embargo" in metadata
        present = [] if hidden else files.version_files(sandbox, row["id"], row["version"])
    else:
        present = files.draft_files(sandbox, row["id"])
    shape = public_file if public else private_file
    tags = json.loads(row["tags"])
    details = article(sandbox, row, public=public) | {
        "citation": _citation(row, metadata),
        "confidential_reason": "",
        "is_confidential": False,
        "size": sum(file["size"] for file in present),
        "funding": metadata.get("funding", ""),
        "funding_list": metadata.get("funding_list", []),
        "tags": tags,
        "keywords": tags,
        "version": row["version"],
        "is_metadata_record": metadata.get("is_metadata_record", False),
        "metadata_reason": metadata.get("metadata_reason", ""),
        "status": "draft" if row["edited"] or not row["version"] else "public",
        "description": row["description"],
        "is_embargoed": "file_embargo" in metadata,
        "is_public": row["version"] > 0,
        "has_linked_file": any(file["link"] is not None for file in present),
        "categories": [reference.category(number) for number in metadata.get("categories", [])],
        "license": reference.license_entry(metadata.get("license", reference.DEFAULT_LICENSE)),
        "embargo_title": "",
        "embargo_reason": "",
        "embargo_date": metadata.get("file_embargo") or None,
        "embargo_type": "file" if "file_embargo" in metadata else None,
        "embargo_options": [],
        "references": metadata.get("references", []),
        "related_materials": metadata.get("related_materials", []),
        "figshare_url": f"{sandbox.base_url}/articles/_/{row['id']}",
        "download_disabled": metadata.get("download_disabled", False),
        "files": [shape(sandbox, file) for file in present[:FILES_IN_DETAILS]],
        "folder_structure": {str(file["id"]): file["folder"] for file in present if file["folder"]},
        "authors": metadata.get("authors", []),
        "custom_fields": metadata.get("custom_fields", []),
    }
    if not public:
        details |= {"account_id": row["owner"], "curation_status": "", "group_resource_id": ""}
    return details


def public_file(sandbox: Sandbox, file: Row) -> dict[str, Any]:
    linked = file["link"] is not None
    return {
        "id": file["id"],
        "name": file["name"],
        "size": file["size"],
        "is_link_only": linked,
        "download_url": file["link"] if linked else f"{sandbox.base_url}/ndownloader/files/{file['id']}",
        "supplied_md5": file["supplied_md5"],
        "computed_md5": file["computed_md5"],
        "mimetype": _mimetype(file),
    }


def private_file(sandbox: Sandbox, file: Row) -> dict[str, Any]:
    """``upload_url`` is "" once the upload is completed (quirk U13); ``upload_token`` stays (quirk L14)."""
    open_session = file["token"] and not file["completed"]
    return public_file(sandbox, file) | {
        "viewer_type": "",
        "preview_state": "preview_not_available",
        "upload_url": f"{sandbox.base_url}/upload/{file['token']}" if open_session else "",
        "upload_token": file["token"],
        "is_attached_to_public_version": bool(file["public"]),
        "status": file["status"],
    }


def _mimetype(file: Row) -> str:
    """'' before assembly, and ``undefined`` for unknown names (quirk U18)."""
    if file["status"] != "available" or file["link"] is not None:
        return ""
    return _types.guess_type(file["name"])[0] or "undefined"


def project(sandbox: Sandbox, row: Row) -> dict[str, Any]:
    return {
        "url": f"{sandbox.base_url}/v2/account/projects/{row['id']}",
        "id": row["id"],
        "title": row["title"],
        "created_date": row["created"],
        "modified_date": row["modified"],
        "published_date": row["published"],
        "role": json.loads(row["metadata"]).get("shared_as", "Owner"),
        "storage": "individual" if row["group_id"] is None else "group",
    }


def project_details(sandbox: Sandbox, row: Row) -> dict[str, Any]:
    metadata = json.loads(row["metadata"])
    hidden, shown = files.used_quota(sandbox, row["id"])
    group = row["group_id"] is not None
    return project(sandbox, row) | {
        "description": row["description"],
        "funding": metadata.get("funding", ""),
        "funding_list": metadata.get("funding_list", []),
        "collaborators": [
            {"role_name": role, "user_id": account.user_id, "name": account.full_name}
            for role, account in sharing.people(sandbox, row)
        ],
        "custom_fields": metadata.get("custom_fields", []),
        "figshare_url": f"{sandbox.base_url}/projects/_/{row['id']}",
        "quota": sandbox.settings.group_quota if group else sandbox.settings.quota,
        "used_quota": hidden + shown,
        "used_quota_private": hidden,
        "used_quota_public": shown,
        "group_id": row["group_id"] or 0,
        "account_id": row["owner"],
    }


def collection(sandbox: Sandbox, row: Row) -> dict[str, Any]:
    """A collection as lists show it: without dates but the publication's."""
    metadata = json.loads(row["metadata"])
    return {
        "id": row["id"],
        "title": row["title"],
        "doi": row["doi"],
        "handle": metadata.get("handle", ""),
        "url": f"{sandbox.base_url}/v2/account/collections/{row['id']}",
        "timeline": _timeline(row, metadata),
        "published_date": row["published"],
    }


def collection_details(sandbox: Sandbox, row: Row) -> dict[str, Any]:
    """In full: as its owner sees it, or as it was published (``collection_versions.as_published``)."""
    metadata = json.loads(row["metadata"])
    tags = json.loads(row["tags"])
    inside = row["articles"] if "articles" in row else collection_versions.members(sandbox, row["id"])
    return collection(sandbox, row) | {
        "articles_count": len(inside),
        "public": row["version"] > 0,
        "version": row["version"],
        "created_date": row["created"],
        "modified_date": row["modified"],
        "description": row["description"],
        "authors": metadata.get("authors", []),
        "categories": [reference.category(number) for number in metadata.get("categories", [])],
        "tags": tags,
        "keywords": tags,
        "references": metadata.get("references", []),
        "related_materials": metadata.get("related_materials", []),
        "funding": metadata.get("funding_list", []),
        "citation": _citation(row, metadata),
        "custom_fields": metadata.get("custom_fields", []),
        "institution_id": sandbox.account.institution_id,
        "group_id": metadata.get("group_id"),
        "group_resource_id": "",
        "resource_id": metadata.get("resource_id", ""),
        "resource_doi": metadata.get("resource_doi", ""),
        "resource_title": metadata.get("resource_title", ""),
        "resource_link": metadata.get("resource_link", ""),
        "resource_version": metadata.get("resource_version", 0),
        "account_id": row["owner"],
    }


def storage_name(file: Row) -> str:
    """The last part of the storage key: the name without all that is not ``[A-Za-z0-9._]`` (quirk D13)."""
    kept = "".join(c for c in file["name"] if c.isascii() and (c.isalnum() or c in "._"))
    return quote(kept or "file")


def _timeline(row: Row, metadata: dict[str, Any]) -> dict[str, str]:
    """With ``posted``, which is not described but seen, and without time zones (api.md §2)."""
    timeline: dict[str, str] = dict(metadata.get("timeline", {}))
    if row["published"]:
        timeline["posted"] = without_zone(row["published"])
    return timeline


def _citation(row: Row, metadata: dict[str, Any]) -> str:
    people = "; ".join(f"{a['last_name']}, {a['first_name']}" for a in metadata.get("authors", []))
    doi = f" https://doi.org/{row['doi']}" if row["doi"] else ""
    return f"{people} ({row['created'][:4]}): {row['title']}. figshare.{doi}"
