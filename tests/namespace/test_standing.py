"""How an item stands, in words."""

from __future__ import annotations

from typing import Any

import pytest

from figfs.figshare.records import Article, ArticleDetails, Collection, File, Project
from figfs.namespace.standing import as_edited, file_status, is_public, status_of

DATE = "2030-01-31T00:00:00Z"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"status": "draft", "is_public": False}, "draft"),
        ({"status": "public", "is_public": True}, "public"),
        ({"status": "draft", "is_public": True}, "public, edited"),
        ({"is_public": True, "is_embargoed": True, "embargo_date": DATE}, "embargoed until 2030-01-31"),
        ({"is_public": True, "is_embargoed": True, "embargo_date": "0"}, "embargoed for good"),
        ({"is_public": True, "is_embargoed": True, "embargo_date": None}, "embargoed for good"),
        ({"is_public": True, "is_embargoed": True, "embargo_date": 9e10}, "embargoed until 4821-12-26"),
        ({"is_public": True, "is_confidential": True}, "confidential"),
        ({"is_public": True, "is_metadata_record": True}, "metadata only"),
        ({"is_public": True, "is_metadata_record": True, "status": "draft"}, "metadata only, edited"),
        ({"is_embargoed": True, "embargo_date": DATE}, "draft, embargoed until 2030-01-31"),
    ],
)
def test_an_article_in_full(fields: dict[str, Any], expected: str) -> None:
    """Its details tell all of it."""
    assert status_of(ArticleDetails.from_json({"id": 1} | fields)) == expected


def test_what_a_list_tells() -> None:
    """A date of publication, or none."""
    assert status_of(Article(id=1)) == "draft"
    assert status_of(Article(id=1, published_date=1.0)) == "public"
    assert status_of(Collection(id=1, published_date=1.0)) == "public"
    assert status_of(Project(id=1)) == "private"
    assert status_of(Project(id=1, published_date=1.0)) == "public"
    assert not is_public(None)


def test_a_file_stands_as_its_article() -> None:
    """Unless no version has it."""
    public = ArticleDetails(id=1, is_public=True, status="public")
    edited = as_edited(public)
    assert status_of(edited) == "public, edited"
    assert file_status(edited, File(id=2)) == "public"
    assert file_status(edited, File(id=2, is_attached_to_public_version=True)) == "public"
    assert file_status(edited, File(id=2, is_attached_to_public_version=False)) == "draft"
    assert file_status(None, File(id=2)) == ""
