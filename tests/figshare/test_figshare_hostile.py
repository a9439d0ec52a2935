"""Whatever a server answers: a result of the promised type, or a ``FigfsError``. Nothing else, and soon.

Every function of every module that asks, with bodies, statuses and headers of any kind.
"""

from __future__ import annotations

import inspect
import json
import math
import time
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import msgspec
import pytest
import trio
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from figfs.errors import FigfsError
from figfs.figshare import (
    accounts,
    articles,
    cards,
    collections,
    downloads,
    files,
    institution,
    links,
    metadata,
    notes,
    oai,
    oauth,
    projects,
    public,
    records,
    resourcesync,
    searching,
    stats,
    uploads,
)
from figfs.figshare.client import Client, open_client
from figfs.settings import Token

API = "https://api.test/v2"
TOKEN = Token("t0ken")
PART = records.Part(part_no=1, start_offset=0, end_offset=3)
FILE = records.File(id=7, name="a.csv", size=4, download_url="https://storage.test/7")

Ask = Callable[[Client], Awaitable[object]]


async def _four_bytes() -> Any:
    yield b"data"


#: Every function that asks. ``test_every_endpoint_is_asked`` sees that none is forgotten.
ASKED: dict[str, Ask] = {
    "accounts.get_account": accounts.get_account,
    "articles.list_own": articles.list_own,
    "articles.search_own": lambda c: articles.search_own(c, search_for="x", modified_since=1.0),
    "articles.get": lambda c: articles.get(c, 1),
    "articles.create": lambda c: articles.create(c, "title"),
    "articles.update": lambda c: articles.update(c, 1, title="title"),
    "articles.delete": lambda c: articles.delete(c, 1),
    "cards.get_own": lambda c: cards.get_own(c, "article", 1, project_id=2),
    "cards.get_own_whole": lambda c: cards.get_own_whole(c, "article", 1),
    "cards.get_public": lambda c: cards.get_public(c, "collection", 1),
    "cards.publish": lambda c: cards.publish(c, "article", 1),
    "cards.reserve_doi": lambda c: cards.reserve_doi(c, "article", 1),
    "collections.list_own": collections.list_own,
    "collections.create": lambda c: collections.create(c, "title"),
    "collections.update": lambda c: collections.update(c, 1, title="title"),
    "collections.delete": lambda c: collections.delete(c, 1),
    "collections.list_articles": lambda c: collections.list_articles(c, 1),
    "collections.add_articles": lambda c: collections.add_articles(c, 1, [2, 3]),
    "collections.remove_article": lambda c: collections.remove_article(c, 1, 2),
    "downloads.fetch_into": lambda c: downloads.fetch_into(c, FILE, 0, 4, memoryview(bytearray(4))),
    "downloads.fetch_range": lambda c: downloads.fetch_range(c, FILE, 1, 3),
    "files.list_files": lambda c: files.list_files(c, 1),
    "files.initiate": lambda c: files.initiate(c, 1, name="a", size=1, md5=""),
    "files.initiate_link": lambda c: files.initiate_link(c, 1, "https://x.test/"),
    "files.get_file": lambda c: files.get_file(c, 1, 2),
    "files.complete": lambda c: files.complete(c, 1, 2),
    "files.delete_file": lambda c: files.delete_file(c, 1, 2),
    "institution.is_administrator": institution.is_administrator,
    "institution.list_accounts": institution.list_accounts,
    "institution.find_account": lambda c: institution.find_account(c, "5"),
    "institution.find_accounts": lambda c: institution.find_accounts(c, "a@b"),
    "institution.list_articles": institution.list_articles,
    "institution.list_public_articles": institution.list_public_articles,
    "institution.custom_fields": institution.custom_fields,
    "institution.upload_values": lambda c: institution.upload_values(c, 1, "a.csv", b"a"),
    "institution.upload_feed": lambda c: institution.upload_feed(c, "a.csv", b"a"),
    "links.list_links": lambda c: links.list_links(c, "article", 1),
    "links.create": lambda c: links.create(c, "article", 1),
    "links.update": lambda c: links.update(c, "article", 1, 2, expires_date="2030-01-01"),
    "links.delete": lambda c: links.delete(c, "article", 1, 2),
    "metadata.get_own": lambda c: metadata.get_own(c, "article", 1),
    "metadata.get_public": lambda c: metadata.get_public(c, "article", 1, version=2),
    "metadata.update": lambda c: metadata.update(c, "article", 1, {"title": "title"}),
    "metadata.get_account": metadata.get_account,
    "metadata.list_licenses": metadata.list_licenses,
    "metadata.list_categories": metadata.list_categories,
    "metadata.list_articles": lambda c: metadata.list_articles(c, "project", 1, public=True),
    "metadata.list_collaborators": lambda c: metadata.list_collaborators(c, 1),
    "metadata.list_versions": lambda c: metadata.list_versions(c, 1),
    "notes.list_notes": lambda c: notes.list_notes(c, 1),
    "notes.get": lambda c: notes.get(c, 1, 2),
    "notes.create": lambda c: notes.create(c, 1, "text"),
    "notes.update": lambda c: notes.update(c, 1, 2, "text"),
    "notes.delete": lambda c: notes.delete(c, 1, 2),
    "oai.get_record": lambda c: oai.get_record(c, 1, "oai_dc"),
    "oauth.redeem": lambda c: oauth.redeem(c, "code", client_id="id", client_secret=TOKEN),
    "oauth.refresh": lambda c: oauth.refresh(c, TOKEN, client_id="id", client_secret=TOKEN),
    "projects.list_own": projects.list_own,
    "projects.create": lambda c: projects.create(c, "title"),
    "projects.update": lambda c: projects.update(c, 1, title="title"),
    "projects.delete": lambda c: projects.delete(c, 1),
    "projects.list_articles": lambda c: projects.list_articles(c, 1),
    "projects.create_article": lambda c: projects.create_article(c, 1, "title"),
    "projects.get_article": lambda c: projects.get_article(c, 1, 2),
    "projects.list_files": lambda c: projects.list_files(c, 1, 2),
    "projects.delete_article": lambda c: projects.delete_article(c, 1, 2),
    "public.get_article": lambda c: public.get_article(c, 1, 2),
    "public.list_files": lambda c: public.list_files(c, 1),
    "public.get_project": lambda c: public.get_project(c, 1),
    "public.list_project_articles": lambda c: public.list_project_articles(c, 1),
    "public.get_collection": lambda c: public.get_collection(c, 1),
    "public.list_collection_articles": lambda c: public.list_collection_articles(c, 1),
    "public.articles_with_doi": lambda c: public.articles_with_doi(c, "10.5072/x1"),
    "public.collections_with_doi": lambda c: public.collections_with_doi(c, "10.5072/x1"),
    "resourcesync.find_lists": lambda c: resourcesync.find_lists(c, "https://portal.test"),
    "resourcesync.read_lists": lambda c: resourcesync.read_lists(
        c, "https://portal.test", ["https://portal.test/a", "https://portal.test/b"], 0
    ),
    "searching.own": lambda c: searching.own(c, "x", 20),
    "searching.public": lambda c: searching.public(c, "x", 20),
    "stats.get_totals": lambda c: stats.get_totals(c, "article", 1),
    "uploads.get_upload": lambda c: uploads.get_upload(c, "https://up.test/u/1"),
    "uploads.put_part": lambda c: uploads.put_part(c, "https://up.test/u/1", PART, _four_bytes),
    "uploads.reset_part": lambda c: uploads.reset_part(c, "https://up.test/u/1", 1),
}  # fmt: skip

MODULES = [
    accounts, articles, cards, collections, downloads, files, institution, links, metadata, notes, oai, oauth,
    projects, public, resourcesync, searching, stats, uploads,
]  # fmt: skip


def test_every_endpoint_is_asked() -> None:
    found = {
        f"{module.__name__.rpartition('.')[2]}.{name}"
        for module in MODULES
        for name, value in vars(module).items()
        if inspect.iscoroutinefunction(value) and value.__module__ == module.__name__ and name[0] != "_"
    }
    assert found - set(ASKED) == set(), "not in ASKED yet"
    assert set(ASKED) - found == set()


# -- answers ---------------------------------------------------------------------------------

EVIL = "\x1b]0;owned\x07\u202e\x9b2J\r\n\0../..\ud800"
ODD: list[object] = [
    None, True, -1, 0, 2**63, 2**64, 10**400, 1e300, math.nan, math.inf, "", EVIL, "x" * 300, "..", "12",
    "9" * 400, "2024-05-20T14:45:00Z", "0001-01-01T00:00:00+23:59", "file:///etc/passwd", "http://[",
    [], {}, [[]], [None], [EVIL], {"a": {}},
]  # fmt: skip


def as_json(raw: object) -> bytes:
    return json.dumps(raw).encode()


values = st.recursive(
    st.sampled_from(ODD),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["id", "x", EVIL]), inner),
    max_leaves=5,
)
FIELDS = sorted(
    {"uuid", "doi", "totals", "access_token", "refresh_token", "location", "entity_id", "message", "parts"}
    | {field.encode_name for cls in (records.Account, records.ArticleDetails, records.Part, records.Upload,
                                     records.Project, records.File, cards.Card, links.PrivateLink, notes.Note,
                                     records.CustomField)
       for field in msgspec.structs.fields(cls)}
)  # fmt: skip
objects = st.dictionaries(st.sampled_from(FIELDS), values, max_size=8) | st.builds(
    lambda id_, more: {**more, "id": id_},
    st.sampled_from([1, "1", "a1"]),
    st.dictionaries(st.sampled_from(FIELDS), values, max_size=8),
)
#: As of ResourceSync: what it begins with, and lists of changes.
SITEMAPS = [
    f'''<?xml version="1.0"?><{kind} xmlns="http://www.sitemaps.org/schemas/sitemap/0.9"
    xmlns:rs="http://www.openarchives.org/rs/terms/">
    <rs:md capability="{capability}" from="{when}" until="{when}"/>
    <{inside}><loc>{place}</loc><lastmod>{when}</lastmod><rs:md capability="{capability}" datetime="{when}"/>
    <rs:ln rel="x" href="{place}{"9" * 5_000}"/></{inside}></{kind}>'''.encode()
    for kind, inside in (("urlset", "url"), ("sitemapindex", "sitemap"))
    for capability in ("description", "capabilitylist", "changelist", "")
    for when, place in (
        ("9999-12-31T23:59:59-23:59", "https://portal.test/b"),
        ("0001", "file:///etc/articles/9"),
        ("x", ""),
    )
]

#: Bytes, and how many times: what is long would drown what Hypothesis reports.
Body = tuple[bytes, int]
bodies: st.SearchStrategy[Body] = st.one_of(
    st.tuples((objects | st.lists(objects, max_size=3) | values).map(as_json), st.just(1)),
    st.sampled_from(
        [
            (b"", 1), (b"\xff\xfe", 1), (b"[", 100_000), (b'{"id":', 50_000), (b"1", 5_000),
            (b"<!--", 30_000),
            (b'{"id": 1, "id": 2, "id": null}', 1), (b'{"id": 1, "title": 1' + b"9" * 5_000 + b"}", 1),
            (b"<html><script>" + EVIL.encode("utf-8", "replace"), 1), (b"\x1b]0;owned\x07", 10),
            (b"<urlset xmlns='http://www.sitemaps.org/schemas/sitemap/0.9' "
             b"xmlns:rs='http://www.openarchives.org/rs/terms/'><rs:md capability='changelist' from='0'/>"
             b"<url><loc>https://portal.test/articles/_/1</loc><rs:md datetime='9999'/></url></urlset>", 1),
            (b"<sitemapindex xmlns='http://www.sitemaps.org/schemas/sitemap/0.9' "
             b"xmlns:rs='http://www.openarchives.org/rs/terms/'><rs:md capability='description'/>"
             b"<sitemap><loc>https://portal.test/a</loc></sitemap></sitemapindex>", 1),
            (b'<?xml version="1.0"?><OAI-PMH>\x1b&x;</OAI-PMH>', 1), (b"data", 1), (b"ab", 1),
            (b'"\\ud800"', 1),
            (b"[1,", 1), *((entry, 1) for entry in SITEMAPS), (b'{"message": "\\u001b]0;x"}', 1),
        ]
    ),
)  # fmt: skip
HEADERS = (
    "ETag", "Last-Modified", "Date", "Retry-After", "Location", "Content-Type", "Content-Range",
    "Cache-Control", "X-Amzn-Waf-Action",
)  # fmt: skip
header_values = st.sampled_from(
    [
        b"", b" ", b'"\xff\xfe"', '"é\u202e"'.encode(), b"x" * 2_000, b"-1", b"0", b"9" * 400, b"1e9", b"nan",
        b"Mon, 01 Jan 2024 00:00:00 GMT", b"Mon, 01 Jan 2024 00:00:00 +9999999999999999999999",
        b"Mon, 01 Jan 99999999999999999999 00:00:00 GMT", b"file:///etc/passwd", b"javascript:alert(1)",
        b"http://[", b"//", b"https://api.test:99999999/", b"http://127.0.0.1:1/", b"/v2/account", b"../../9",
        b"bytes 0-3/4", b"bytes 0-3/*", b"bytes 9-1/0", b"text/html", b"W/",
        b"https://a" + b"a" * 300 + b"/x",
        b"https://\xff/", b"https://xn--/1", b"https://x/ \t\x1b[31m",
    ]
)  # fmt: skip
headers = st.dictionaries(st.sampled_from(HEADERS), header_values, max_size=3)
STATUSES = [200, 201, 202, 204, 205, 206, 301, 302, 304, 307, 400, 401, 403, 404, 405, 409, 413, 416, 422]
STATUSES += [429, 500, 501, 503, 999]
answers = st.tuples(
    st.sampled_from([200, 200, 200, 206, 302]) | st.sampled_from(STATUSES),
    headers,
    bodies,
)


#: Status, headers, body.
Answer = tuple[int, dict[str, bytes], Body]


def ask(ask: Ask, given: list[Answer]) -> object:
    """Ask a server that gives these answers in order, the last one for ever. Seen by ``Authorization``."""
    left = list(given)

    async def serve(request: httpx.Request) -> httpx.Response:
        if "Authorization" in request.headers:
            assert request.url.host == "api.test", "the token goes to the API only"
        assert request.url.scheme in ("http", "https")
        await request.aread()
        status, head, (body, times) = left.pop(0) if len(left) > 1 else left[0]
        fields = [(name.encode(), value) for name, value in head.items()]
        return httpx.Response(status, headers=fields, stream=httpx.ByteStream(body * times))

    async def main() -> object:
        transport = httpx.MockTransport(serve)
        with trio.fail_after(3600):
            async with open_client(api=API, token=TOKEN, rate=0, transport=transport) as client:
                try:
                    return await ask(client)
                except FigfsError as exc:
                    return exc
                finally:
                    assert client.statistics().in_flight == 0

    return trio.run(main, clock=MockClock(autojump_threshold=0))


def check_any_answer(which: str, given: list[Answer]) -> None:
    """Twice, as the second may be asked by what the first has told (validators, redirects)."""

    async def twice(client: Client) -> object:
        found = None
        for _ in range(2):
            try:
                found = await ASKED[which](client)
            except FigfsError as exc:
                found = exc
        return found

    began = time.process_time()
    result = ask(twice, given)
    assert time.process_time() - began < 5
    if isinstance(result, FigfsError):
        assert TOKEN.reveal() not in str(result)
        assert len(str(result)) < 2_000
        assert str(result).isprintable(), str(result)


chosen = {"which": st.sampled_from(sorted(ASKED)), "given": st.lists(answers, min_size=1, max_size=4)}
unhurried = {"suppress_health_check": list(HealthCheck), "deadline": None}


@settings(max_examples=400, **unhurried)
@given(**chosen)
@example(which="projects.list_own", given=[(200, {"ETag": '"é"'.encode()}, (b'[{"id": 1}]', 1))])
@example(which="accounts.get_account", given=[(302, {"Location": b"https://xn--/1"}, (b"", 1))])
def test_any_answer(which: str, given: list[Answer]) -> None:
    check_any_answer(which, given)


@pytest.mark.long
@settings(max_examples=10_000, **unhurried)
@given(**chosen)
def test_any_answer_for_long(which: str, given: list[Answer]) -> None:
    check_any_answer(which, given)
