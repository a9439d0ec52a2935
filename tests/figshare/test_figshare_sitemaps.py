"""Documents of ResourceSync as records: what the standard has, and what a hostile server may send."""

from __future__ import annotations

import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from figfs.errors import BadAnswer
from figfs.figshare import sitemaps
from figfs.figshare.resourcesync import articles_of
from figfs.figshare.sitemaps import Document, Entry, moments, parse

HEAD = 'xmlns="http://www.sitemaps.org/schemas/sitemap/0.9" xmlns:rs="http://www.openarchives.org/rs/terms/"'
NOON = 1716206400.0  # 2024-05-20T12:00:00Z


def document(inside: str, root: str = "urlset") -> bytes:
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<{root} {HEAD}>{inside}</{root}>'.encode()


def entry(inside: str) -> Entry:
    [found] = parse(document(f"<url>{inside}</url>")).entries
    return found


# ---- what the standard has ------------------------------------------------------------


def test_a_change_list() -> None:
    """The example of the standard, §12.1, with what may be beside it."""
    found = parse(
        document("""
          <rs:ln rel="up" href="http://example.com/dataset1/capabilitylist.xml"/>
          <rs:md capability="changelist" from="2013-01-03T00:00:00Z"/>
          <url>
            <loc>http://example.com/res1.html</loc>
            <lastmod>2013-01-03T11:00:00Z</lastmod>
            <rs:md change="created" datetime="2013-01-03T11:00:00Z" hash="md5:1584"/>
            <other xmlns="urn:x"><loc>http://example.com/not-this</loc></other>
          </url>
          <url>
            <loc>http://example.com/res2.pdf</loc>
            <rs:md change="deleted" datetime="2013-01-03T18:00:00Z"/>
            <rs:ln rel="describedby" href="http://example.com/res2"/>
          </url>""")
    )
    assert found == Document(
        "changelist",
        is_index=False,
        since=1357171200.0,
        until=None,
        entries=(
            Entry("http://example.com/res1.html", changed=1357210800.0),
            Entry("http://example.com/res2.pdf", changed=1357236000.0, links=("http://example.com/res2",)),
        ),
    )


def test_an_index_of_change_lists() -> None:
    """§12.2: the parts with their periods."""
    found = parse(
        document(
            """
          <rs:md capability="changelist" from="2013-01-01T00:00:00Z"/>
          <sitemap><loc>http://example.com/1.xml</loc>
            <rs:md from="2013-01-01T00:00:00Z" until="2013-01-02T00:00:00Z"/></sitemap>
          <sitemap><loc>http://example.com/2.xml</loc><rs:md from="2013-01-02T00:00:00Z"/></sitemap>""",
            "sitemapindex",
        )
    )
    assert found.is_index
    assert [(each.since, each.until) for each in found.entries] == [
        (1356998400.0, 1357084800.0),
        (1357084800.0, None),
    ]


def test_where_it_begins() -> None:
    """A Source Description, and a Capability List: what leads on says to what."""
    found = parse(
        document(
            '<rs:md capability="description"/><url><loc>a</loc><rs:md capability="capabilitylist"/></url>'
        )
    )
    assert (found.capability, found.since) == ("description", math.inf)
    assert found.entries == (Entry("a", capability="capabilitylist"),)


def test_a_sitemap_that_is_no_more_than_that() -> None:
    assert parse(document("<url><loc>a</loc></url>")).capability == ""


def test_lastmod_is_the_date_of_a_change_before_version_1_1() -> None:
    assert entry("<lastmod>2024-05-20T12:00:00Z</lastmod><rs:md change='updated'/>").changed == NOON
    assert entry("<lastmod>2024-05-20</lastmod><rs:md datetime='2024-05-20T12:00:00Z'/>").changed == NOON
    assert entry("<rs:md change='updated'/>").changed is None


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("2024-05-20T12:00:00Z", NOON, NOON),
        (" 2024-05-20T12:00:00.123456Z\n", NOON, NOON),
        ("2024-05-20T14:00:00+02:00", NOON, NOON),
        ("2024-05-20T12:00:00", NOON, NOON),
        ("2024-05-20T12:00Z", NOON, NOON + 60),
        ("2024-05-20", NOON - 43200, NOON + 43200),
        ("2024-05", 1714521600.0, 1714521600.0 + 31 * 86400),
        ("2024", 1704067200.0, 1704067200.0 + 366 * 86400),
    ],
)
def test_dates(text: str, first: float, last: float) -> None:
    """All that a date may mean: what is less exact is read to both sides."""
    assert moments(text) == (first, last)


@pytest.mark.parametrize(
    "text",
    ["", "today", "2024-13-01", "2024-02-30", "0000", "2024-05-20T25:00:00Z", "2024-05-20 12:00:00Z",
     "２０２４", "2024-05-20T12:00:00+99:99", "9" * 400, "2024-05-20T12:00:00.Z"],
)  # fmt: skip
def test_what_is_no_date(text: str) -> None:
    assert moments(text) is None


def test_a_period_that_cannot_be_read_covers_nothing() -> None:
    found = parse(document('<rs:md capability="changelist" from="whenever" until="soon"/>'))
    assert (found.since, found.until) == (math.inf, -math.inf)


@given(st.text())
def test_any_text_as_a_date(text: str) -> None:
    found = moments(text)
    assert found is None or found[0] <= found[1]


# ---- hostile ------------------------------------------------------------

BOMB = """<?xml version="1.0"?><!DOCTYPE urlset [<!ENTITY a "aaaaaaaaaa">
<!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;">]><urlset>&c;</urlset>"""
EXTERNAL = """<!DOCTYPE urlset [<!ENTITY x SYSTEM "file:///etc/passwd">]>
<urlset><url><loc>&x;</loc></url></urlset>"""


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (BOMB.encode(), "DTD"),
        (EXTERNAL.encode(), "DTD"),
        (b'<!DOCTYPE urlset SYSTEM "http://169.254.169.254/x.dtd"><urlset/>', "DTD"),
        (b"<!DOCTYPE html><html><body>Please wait</body></html>", "DTD"),
        (b"<html/>", "not a sitemap"),
        (b"<urlset/>", "not a sitemap"),  # no namespace
        (document("<url>&undefined;</url>"), "not XML"),
        (document("<url>"), "not XML"),
        (document("\x1b"), "not XML"),
        (document("<url a='1' a='2'/>"), "not XML"),
        (b'<?xml version="1.0" encoding="rot13"?>' + document("").partition(b"?>")[2] + b"\xff", "not XML"),
        (b"", "not XML"),
        (b"{}", "not XML"),
        (b"\0" * 1000, "not XML"),
        (document("<url>" * 20 + "</url>" * 20), "too deep"),
        (document("<a>" * 100_000), "too deep"),
        (document(f"<url><loc>{'x' * 3000}</loc></url>"), "2048 characters"),
        (document("<url/>" * 50_001), "50000 entries"),
        (b" " * (sitemaps.LARGEST + 1), "bytes"),
    ],
    ids=range(19),
)
def test_what_is_refused(body: bytes, why: str) -> None:
    """Entities, other formats, and what is out of bounds: at once, with a reason."""
    began = time.monotonic()
    with pytest.raises(BadAnswer, match=why):
        parse(body)
    assert time.monotonic() - began < 2


def test_much_that_is_let_pass() -> None:
    """What is long where nobody reads it costs no memory and no trouble."""
    attributes = " ".join(f"a{number}='x'" for number in range(20_000))
    links = "<rs:ln href='y'/>" * 1000
    found = entry(f"<x {attributes}>{'z' * 1_000_000}</x><loc>a</loc><loc>b</loc>{links}")
    assert (found.location, len(found.links)) == ("a", sitemaps.MOST_LINKS)


PIECES = st.sampled_from(
    ["<url>", "</url>", "<sitemap>", "<loc>", "</loc>", "<lastmod>", "<rs:md ", "<rs:ln ", "/>", ">", "<!--",
     "-->", "<![CDATA[", "]]>", "&amp;", "&x;", "<?pi ?>", "capability='changelist'", "from='2024'", "x",
     "\x01", "<!DOCTYPE a>", "until='never'", "href='h'", "datetime='2024-01-01'", "<a:b xmlns:a='urn:a'/>"]
)  # fmt: skip


@given(st.lists(PIECES).map("".join), st.sampled_from(["urlset", "sitemapindex"]))
def test_any_document(inside: str, root: str) -> None:
    """It is read or refused; nothing else happens."""
    try:
        found = parse(document(inside, root))
    except BadAnswer:
        return
    assert all(len(each.location) <= sitemaps.LONGEST for each in found.entries)


@given(st.binary())
def test_any_bytes(body: bytes) -> None:
    with pytest.raises(BadAnswer):
        parse(body)


# ---- what an entry is about ------------------------------------------------------------

FIGSHARE = "https://figshare.com"


@pytest.mark.parametrize(
    ("location", "articles"),
    [
        (f"{FIGSHARE}/articles/_/123", {123}),
        (f"{FIGSHARE}/articles/dataset/Frog_calls/123", {123}),
        (f"{FIGSHARE}/articles/dataset/Frog_calls/123/2", {123, 2}),
        (f"{FIGSHARE}/articles/dataset/2019/123?file=9", {2019, 123}),
        (f"{FIGSHARE}/articles/Title/123#anchor9", {123}),
        ("https://api.figshare.com/v2/articles/123", {123}),
        ("https://api.figshare.com/v2/articles/123/versions/4", {123, 4}),
        ("https://api.figshare.com/v2/oai?verb=GetRecord&identifier=oai:figshare.com:article/123&x=1", {123}),
        ("https://doi.org/10.6084/m9.figshare.123.v2", {123}),
        ("https://doi.org/10.25446/oxford.123", {123}),
        (f"{FIGSHARE}/collections/Some_title/55", set()),
        (f"{FIGSHARE}/projects/Some_title/55", set()),
        ("https://doi.org/10.6084/m9.figshare.c.55.v1", set()),
        (f"{FIGSHARE}/projects/x/55/articles/123", {123}),
        ("https://ndownloader.figshare.com/files/987", None),
        (f"{FIGSHARE}/ndownloader/articles", None),
        (f"{FIGSHARE}/articles/dataset/no-number", None),
        (f"{FIGSHARE}/", None),
        ("", None),
        ("%", None),
    ],
)
def test_which_articles(location: str, articles: set[int] | None) -> None:
    """All that it may be; None, if it may be any."""
    assert articles_of(Entry(location)) == articles


def test_a_file_is_of_the_article_it_links_to() -> None:
    """And of none that is known if it says no more than that it is in a collection."""
    file = "https://ndownloader.figshare.com/files/987"
    page, collection = f"{FIGSHARE}/articles/_/123", f"{FIGSHARE}/collections/_/5"
    assert articles_of(Entry(file, links=(page,))) == {123}
    assert articles_of(Entry(file, links=(collection,))) is None
    assert articles_of(Entry(collection, links=(page,))) == {123}


@given(st.text(max_size=sitemaps.LONGEST), st.lists(st.text()))
def test_any_address(location: str, links: list[str]) -> None:
    found = articles_of(Entry(location, links=tuple(links)))
    assert found is None or all(number > 0 for number in found)


@pytest.mark.parametrize("unit", ["/collection/", "10.1234/", "/articles/1", "1.v1", "=article:", "c.1"])
def test_long_addresses_cost_nothing(unit: str) -> None:
    """As many as a document may have, with what makes regular expressions slow."""
    address = (unit * sitemaps.LONGEST)[: sitemaps.LONGEST]
    began = time.monotonic()
    for _ in range(sitemaps.LARGEST // sitemaps.LONGEST // 10):
        articles_of(Entry(address))
    assert time.monotonic() - began < 2
