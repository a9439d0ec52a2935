"""Bodies that create and change articles, projects and collections: each field checked as its schema says."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from figfs.sandbox import reference
from figfs.sandbox.errors import ApiError, invalid

Check = Callable[[str, Any], Any]

_RELATIONS = (
    "IsCitedBy Cites IsSupplementTo IsSupplementedBy IsContinuedBy Continues Describes IsDescribedBy "
    "HasMetadata IsMetadataFor HasVersion IsVersionOf IsNewVersionOf IsPreviousVersionOf IsPartOf HasPart "
    "IsPublishedIn IsReferencedBy References IsDocumentedBy Documents IsCompiledBy Compiles IsVariantFormOf "
    "IsOriginalFormOf IsIdenticalTo IsReviewedBy Reviews IsDerivedFrom IsSourceOf IsRequiredBy Requires "
    "IsObsoletedBy Obsoletes"
)
_IDENTIFIERS = (
    "ARK arXiv bibcode DOI EAN13 EISSN Handle IGSN ISBN ISSN ISTC LISSN LSID PMID PURL UPC URL URN w3id"
)


def clean(
    body: Mapping[str, Any], checks: Mapping[str, Check], *, required: tuple[str, ...] = ()
) -> dict[str, Any]:
    """The known fields of ``body``, checked.

    422 names the first wrong or missing one. Unknown fields are ignored.
    """
    for name in required:
        if name not in body:
            raise invalid(name, "required")
    return {name: check(name, body[name]) for name, check in checks.items() if name in body}


def text(low: int = 0, high: int = 100_000) -> Check:
    def check(name: str, value: Any) -> str:
        if not isinstance(value, str):
            raise invalid(name, "must be a string")
        if not low <= len(value) <= high:
            raise invalid(name, f"must have {low} to {high} characters, not {len(value)}")
        try:
            value.encode()
        except UnicodeEncodeError:
            raise invalid(name, "is no valid Unicode") from None
        return value

    return check


def number(name: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**63:
        raise invalid(name, "must be a non-negative integer")
    return value


def flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise invalid(name, "must be true or false")
    return value


def list_of(check: Check, longest: int | None = None) -> Check:
    def check_all(name: str, value: Any) -> list[Any]:
        if not isinstance(value, list):
            raise invalid(name, "must be a list")
        if longest is not None and len(value) > longest:
            raise invalid(name, f"at most {longest}")
        return [check(name, entry) for entry in value]

    return check_all


def mapping(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise invalid(name, "must be an object")
    return value


def _custom_fields(name: str, value: Any) -> dict[str, Any]:
    """Values by name. Which names there are, the item tells."""
    return {key: _custom_value(name, entry) for key, entry in mapping(name, value).items()}


def _custom_field_list(name: str, value: Any) -> dict[str, Any]:
    """``[{"name": …, "value": …}]``. A value of null empties a field; fields that are not named stay."""
    entries = list_of(mapping)(name, value)
    for entry in entries:
        for key in ("name", "value"):
            if key not in entry:
                raise invalid(name, f"an entry needs a {key}")
    return {text(1)(name, entry["name"]): _custom_value(name, entry["value"]) for entry in entries}


def _custom_value(name: str, value: Any) -> Any:
    return (
        value
        if value is None
        else list_of(text())(name, value)
        if isinstance(value, list)
        else text()(name, value)
    )


def _item_type(name: str, value: Any) -> int:
    text()(name, value)
    if value not in reference.ITEM_TYPES:
        raise invalid(name, "one of " + ", ".join(reference.ITEM_TYPES))
    return reference.ITEM_TYPES[value]


def _license(name: str, value: Any) -> int:
    number(name, value)
    if value and value not in [entry["value"] for entry in reference.LICENSES]:
        raise invalid(name, "no such licence")
    return value or reference.DEFAULT_LICENSE


def _category(name: str, value: Any) -> int:
    """Of the account's list only: 404 for others (quirk P5)."""
    number(name, value)
    if not any(entry["id"] == value and entry["is_selectable"] for entry in reference.ACCOUNT_CATEGORIES):
        raise ApiError(404, "EntityNotFound", f"Not allowed to set category {value}")
    return int(value)


def _category_source(name: str, value: Any) -> int:
    text()(name, value)
    for entry in reference.ACCOUNT_CATEGORIES:
        if entry["source_id"] == value:
            return _category(name, entry["id"])
    raise ApiError(404, "EntityNotFound", f"Not allowed to set category {value}")


def _author(name: str, value: Any) -> dict[str, Any]:
    mapping(name, value)
    if "id" in value:
        return {"id": number(name, value["id"])}
    person = clean(value, {key: text() for key in ("name", "first_name", "last_name", "email", "orcid_id")})
    if not person.get("name") and not (person.get("first_name") and person.get("last_name")):
        raise invalid(name, "an author needs an id, a name, or first_name and last_name")
    return person


def _funding(name: str, value: Any) -> dict[str, Any]:
    """An id or the title of a new one, "not both" (FundingCreate)."""
    fund = clean(mapping(name, value), {"id": number, "title": text(1)})
    if len(fund) != 1:
        raise invalid(name, "an entry needs either an id or a title")
    return fund


def _related(name: str, value: Any) -> dict[str, Any]:
    entry = clean(
        mapping(name, value),
        {
            "identifier": text(1),
            "title": text(),
            "is_linkout": flag,
            "relation": text(),
            "identifier_type": text(),
        },
        required=("identifier",),
    )
    if entry.get("relation", "References") not in _RELATIONS.split():
        raise invalid(name, "unknown relation")
    if entry.get("identifier_type", "URL") not in _IDENTIFIERS.split():
        raise invalid(name, "unknown identifier_type")
    return entry


def _link(name: str, value: Any) -> str:
    text(1, 2000)(name, value)
    if not re.match(r"(https?|ftp)://[^\s/]", value):
        raise invalid(name, "must be an http, https or ftp URL")
    return str(value)


def _timeline(name: str, value: Any) -> dict[str, str]:
    known = dict.fromkeys(("firstOnline", "publisherPublication", "publisherAcceptance"), date)
    return clean(mapping(name, value), known)


def date(name: str, value: Any) -> str:
    """A date or date and time, as ``2017-05-18`` or ``2017-05-18T11:49:03Z``."""
    text()(name, value)
    if not re.fullmatch(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d)?Z?)?", value):
        raise invalid(name, "must be a date as YYYY-MM-DD or YYYY-MM-DDThh:mm:ssZ")
    return str(value)


link = _link
TITLE = text(3, 1000)
DESCRIPTION = text(0, 20_000)
ARTICLES = list_of(number)

_COMMON: dict[str, Check] = {
    "title": TITLE,
    "description": DESCRIPTION,
    "tags": list_of(text(1)),
    "keywords": list_of(text(1)),
    "references": list_of(_link),
    "related_materials": list_of(_related),
    "categories": list_of(_category),
    "categories_by_source_id": list_of(_category_source),
    "authors": list_of(_author, 100),  # 100 authors an item (quirks §6)
    "custom_fields": _custom_fields,
    "custom_fields_list": _custom_field_list,
    "funding": text(0, 2000),
    "funding_list": list_of(_funding),
    "doi": text(),
    "handle": text(),
    "resource_doi": text(),
    "resource_title": text(0, 1000),
    "timeline": _timeline,
    "group_id": number,
}
ARTICLE_FIELDS = _COMMON | {
    "defined_type": _item_type,
    "license": _license,
    "is_metadata_record": flag,
    "metadata_reason": text(),
}
ARTICLE_UPDATE_FIELDS = ARTICLE_FIELDS | {"download_disabled": flag}
PROJECT_ARTICLE_FIELDS = {
    name: check
    for name, check in ARTICLE_FIELDS.items()
    if name not in ("group_id", "is_metadata_record", "metadata_reason")
}
COLLECTION_FIELDS = _COMMON | {
    "articles": ARTICLES,
    "resource_id": text(),
    "resource_link": text(),
    "resource_version": number,
}
PROJECT_FIELDS: dict[str, Check] = {
    "title": TITLE,
    "description": DESCRIPTION,
    "funding": text(0, 2000),
    "funding_list": list_of(_funding),
    "custom_fields": _custom_fields,
    "custom_fields_list": _custom_field_list,
}
PROJECT_CREATE_FIELDS = PROJECT_FIELDS | {"group_id": number}
