"""The card of an item, of whatever a server says: it is made, and shown without what a terminal obeys."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from inprocess import open_world

from figfs.commandline import itemcli
from figfs.control.itemcommands import of_item, page
from figfs.dotfigshare.directories import item_of
from figfs.errors import FigfsError
from figfs.figshare.cards import Card
from figfs.figshare.items import public_path
from figfs.namespace.nodes import OWN_ITEMS, Container, Key, Kind

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=30)
JSON = st.recursive(
    SCALARS | st.sampled_from(["\x1b[2J", "\u202eevil", "../../etc", "javascript:alert(1)", "\udcff"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=6,
)
UUID = "6a1c2d3e-0000-4000-8000-00000000abcd"
PERSON = {"id": 1, "full_name": "Ada"}
FIELDS = [
    "title", "doi", "status", "is_public", "public", "version", "description", "tags", "keywords",
    "categories", "authors", "license", "defined_type_name", "size", "articles_count", "is_embargoed",
    "embargo_date", "is_confidential", "is_metadata_record", "role", "collaborators", "figshare_url",
    "url_public_html", "url_private_html", "created_date", "modified_date", "published_date", "fields",
]  # fmt: skip


def node(kind: Kind) -> Container:
    return Container(Key(kind, 7), 1)


@given(st.sampled_from([*OWN_ITEMS]), st.dictionaries(st.sampled_from(FIELDS), JSON))
def test_hostile_records(kind: Kind, fields: dict[str, object]) -> None:
    """No record breaks the card; nothing of it reaches the terminal raw, or a browser that is no web page."""
    card = of_item(node(kind), Card.from_json({"id": 7, **fields}))
    said = json.loads(json.dumps(card))  # as it goes over the control socket
    for _, text in itemcli._lines({**said, "path": "x", "owed": 0, "parked": 0}):
        assert itemcli.visible(text).isprintable()
    assert card["page"] is None or card["page"].lower().startswith(("http://", "https://"))


def test_people_and_licences() -> None:
    """Authors by their names, categories by their titles, keywords as they are, however they are sent."""
    raw: dict[str, Any] = {
        "id": 7,
        "authors": [PERSON, {"name": "Bob"}, "Eve", {"id": 3}, None],
        "categories": [{"title": "Glaciology"}],
        "tags": ["ice", "", " "],
        "license": {"value": 1, "name": "CC0", "url": "https://x.example"},
    }
    card = Card.from_json(raw)
    assert card.authors == ("Ada", "Bob", "Eve")
    assert (card.categories, card.all_keywords) == (("Glaciology",), ("ice",))
    assert card.license is not None
    assert card.license.name == "CC0"


@pytest.mark.parametrize(
    ("url", "good"),
    [
        ("https://figshare.com/articles/_/1", True),
        ("http://127.0.0.1:8100/x", True),
        ("javascript:alert(1)", False),
        ("file:///etc/passwd", False),
        ("https://", False),
        ("https://a b", False),
        ("https://a/" + "b" * 2000, False),
        ("https://a\x1b[2J", False),
        ("https://[", False),
        ("--help", False),
    ],
)
def test_what_a_browser_gets(url: str, good: bool) -> None:
    """Web pages, nothing else."""
    assert itemcli.is_web_page(url) is good


@pytest.mark.parametrize(
    "doi", ["10.6084/" + "x" * 501, "\x1b[31m", "../../etc", "10.6084/é", "x" * 10_000, ""]
)
def test_a_page_is_none_for_what_is_no_doi(doi: str) -> None:
    """A collection's page is where its DOI leads; other URLs of a record may be anything."""
    urls = {"figshare_url": "https://a/\x1b[31m", "url_public_html": "https://a/" + "b" * 2000}
    assert page(Card(id=1, doi=doi, **urls), draft=False) is None
    good = Card(id=1, doi="10.6084/x<1>", **urls)
    assert page(good, draft=False) == "https://doi.org/10.6084/x%3C1%3E"


@pytest.mark.parametrize(
    ("name", "path"),
    [("7", "7"), ("7.v3", "7/versions/3"), (UUID, UUID), (f"{UUID}.v2", f"{UUID}/versions/2")],
)
async def test_which_public_item(name: str, path: str, tmp_path: Path) -> None:
    """``info`` asks for the one that its documents are of."""
    item = Container(Key(Kind.PUBLIC_ARTICLE, name), 1)
    about = item_of(item)
    assert about is not None
    assert public_path(about.kind, about.id, about.version) == f"/articles/{path}"
    async with open_world(tmp_path) as world:
        with contextlib.suppress(FigfsError):
            await world.parts.items._card(item)
        assert world.wire.asked[-1] == f"GET /v2/articles/{path}"
