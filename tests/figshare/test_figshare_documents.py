"""What the documents of ``.figshare/`` are made of, asked from a scripted server: odd answers, lost ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

import httpx
import pytest

from figfs.errors import BadAnswer, Forbidden, Invalid, NotFound, NotSupported, UnknownOutcome
from figfs.figshare import links, metadata, notes, oai, stats

Connect = Callable[..., Any]

_RECORD = b'<?xml version="1.0"?><OAI-PMH><GetRecord>\x1b[31m<record/></GetRecord></OAI-PMH>'


def _oai_error(code: str) -> httpx.Response:
    body = f'<?xml version="1.0"?>\n<OAI-PMH xmlns="x">\n<error code="{code}">No</error></OAI-PMH>'
    return httpx.Response(200, content=body.encode())


async def test_a_record_as_it_is_sent(connect: Connect) -> None:
    """One request; what no XML holds is left out, since a terminal would obey it."""
    async with connect(httpx.Response(200, content=_RECORD)) as (client, server):
        assert await oai.get_record(client, 7, "oai_dc") == _RECORD.replace(b"\x1b", b"")
        assert dict(server.requests[0].url.params) == {
            "verb": "GetRecord",
            "metadataPrefix": "oai_dc",
            "identifier": "oai:figshare.com:article/7",
        }


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (_oai_error("idDoesNotExist"), NotFound),
        (_oai_error("cannotDisseminateFormat"), NotSupported),
        (_oai_error("badArgument"), BadAnswer),
        (httpx.Response(200, content=b"<!DOCTYPE html><html>Please wait</html>"), BadAnswer),
        (httpx.Response(200, content=b""), BadAnswer),
        (httpx.Response(200, content=b"<?xml ?>" + b" " * metadata.LARGEST), BadAnswer),
    ],
)
async def test_no_record(
    answer: httpx.Response, error: type[Exception], connect: Connect, clock: object
) -> None:
    async with connect(answer) as (client, _):
        with pytest.raises(error):
            await oai.get_record(client, 7, "oai_dc")


@pytest.mark.parametrize(
    ("answer", "total"),
    [
        ({"totals": 12}, 12),
        ({"totals": "12"}, 12),
        ({}, None),
        ({"totals": None}, None),
        ({"totals": True}, None),
        ({"totals": -1}, None),
        ({"totals": 1 << 70}, None),
        ([], None),
        (3, 3),
    ],
)
async def test_statistics(answer: object, total: int | None, connect: Connect) -> None:
    """From the service of its own, without the token: numbers, or nothing."""
    async with connect(httpx.Response(200, json=answer)) as (client, server):
        found = await stats.get_totals(client, "article", 7)
    assert found == {"views": total, "downloads": total, "shares": total}
    assert [str(request.url) for request in server.requests] == [
        f"https://stats.figshare.com/total/{counter}/article/7"
        for counter in ("views", "downloads", "shares")
    ]
    assert not any("Authorization" in request.headers for request in server.requests)


async def test_statistics_of_a_server_on_this_machine(connect: Connect) -> None:
    """It has no other service: its own answers."""
    async with connect({"totals": 1}, api="http://127.0.0.1:8765/v2") as (client, server):
        await stats.get_totals(client, "project", 7)
    assert str(server.requests[0].url) == "http://127.0.0.1:8765/stats/total/views/project/7"


@pytest.mark.parametrize(
    ("answer", "numbers"),
    [
        ([{"version": 2}, {"version": 1}, {"version": 2}], [1, 2]),
        ([{"version": None}, {"version": True}, {"version": "x"}, 3, {}, {"version": 1 << 40}], []),
        (httpx.Response(404), []),
    ],
)
async def test_versions(answer: object, numbers: list[int], connect: Connect) -> None:
    given = answer if isinstance(answer, httpx.Response) else httpx.Response(200, json=answer)
    async with connect(given) as (client, _):
        assert await metadata.list_versions(client, 7) == numbers


@pytest.mark.parametrize("answer", [[], "text", None, 7, httpx.Response(200, content=b"<html>")])
async def test_metadata_that_is_none(answer: object, connect: Connect, clock: object) -> None:
    given = answer if isinstance(answer, httpx.Response) else httpx.Response(200, json=answer)
    async with connect(given) as (client, _):
        with pytest.raises(BadAnswer):
            await metadata.get_own(client, "article", 7)


async def test_metadata_without_end(connect: Connect, clock: object) -> None:
    """A record that is too large for a document is refused before it is parsed."""
    body = b'{"description": "' + b"x" * metadata.LARGEST + b'"}'
    async with connect(httpx.Response(200, content=body)) as (client, _):
        with pytest.raises(BadAnswer, match="too large"):
            await metadata.get_public(client, "article", 7, version=2)


async def test_where_metadata_is(connect: Connect) -> None:
    async with connect({}) as (client, server):
        await metadata.get_own(client, "article", 7, project_id=8)
        await metadata.get_own(client, "collection", 7)
        await metadata.get_public(client, "article", 7, version=2)
        await metadata.get_public(client, "project", 7)
        await metadata.update(client, "article", 7, {"title": "New"})
    assert server.asked == [
        "GET api.test/v2/account/projects/8/articles/7",
        "GET api.test/v2/account/collections/7",
        "GET api.test/v2/articles/7/versions/2",
        "GET api.test/v2/projects/7",
        "PATCH api.test/v2/account/articles/7",
    ]


LINKS_BEFORE = [{"id": "a", "expires_date": "2100-01-31T00:00:00"}]


@pytest.mark.parametrize(
    ("new", "found"),
    [
        ([], False),
        ([{"id": "b", "expires_date": "2100-01-31T00:00:00"}], True),
        ([{"id": "b", "expires_date": "2100-02-01T00:00:00"}], False),
        ([{"id": "b", "expires_date": "2100-01-31"}, {"id": "c", "expires_date": "2100-02-01"}], True),
        ([{"id": "b", "expires_date": "2100-01-31"}, {"id": "c", "expires_date": "2100-01-31"}], False),
    ],
)
async def test_a_link_whose_answer_is_lost(
    new: list[dict[str, str]], found: bool, connect: Connect, clock: object
) -> None:
    """The one new link of that expiry is it; else nobody knows. One POST in any case."""
    after = httpx.Response(200, json=[*LINKS_BEFORE, *new])
    answers = [httpx.Response(200, json=LINKS_BEFORE), httpx.ReadError("lost"), after]
    async with connect(answers) as (client, server):
        if found:
            await links.create(client, "article", 7, expires_date="2100-01-31")
        else:
            with pytest.raises(UnknownOutcome, match="nothing is sent again"):
                await links.create(client, "article", 7, expires_date="2100-01-31")
        methods = [line.partition(" ")[0] for line in server.asked]
    assert methods == ["GET", "POST", *["GET"] * (1 if found else 3)]


async def test_a_link_that_comes_late(connect: Connect, clock: object) -> None:
    """The server was still at it at the first look, away at the second. None was sent: any expiry is ours."""
    late = httpx.Response(200, json=[*LINKS_BEFORE, {"id": "b", "expires_date": "2101-01-01"}])
    before = httpx.Response(200, json=LINKS_BEFORE)
    answers = [before, httpx.Response(502), before, httpx.Response(403), late]
    async with connect(answers) as (client, server):
        await links.create(client, "collection", 7)
    assert [line.partition(" ")[0] for line in server.asked] == ["GET", "POST", "GET", "GET", "GET"]


async def test_no_link_is_made_unseen(connect: Connect, clock: object) -> None:
    """Where the links cannot be listed, none is made: it could not be told from others."""
    async with connect(httpx.Response(403)) as (client, server):
        with pytest.raises(Forbidden):
            await links.create(client, "article", 7)
    assert [line.partition(" ")[0] for line in server.asked] == ["GET"]


async def test_a_note_is_made_once(connect: Connect, clock: object) -> None:
    """A lost answer to a POST is never repeated: a second note would be made. One of the same text is it."""
    found = [{"id": 1, "abstract": "Another"}, {"id": 2, "abstract": "A no..."}]
    listed = httpx.Response(200, json=found)
    note = httpx.Response(200, json={"id": 2, "text": "A note, whole"})
    async with connect([httpx.ReadError("lost"), listed, note]) as (client, server):
        assert await notes.create(client, 7, "A note, whole") == 2
        assert [line.partition(" ")[0] for line in server.asked] == ["POST", "GET", "GET"]
    looks = [listed, note] * 3
    async with connect([httpx.ReadError("lost"), *looks]) as (client, server):
        with pytest.raises(UnknownOutcome):
            await notes.create(client, 7, "A note, changed")
        assert [line.partition(" ")[0] for line in server.asked] == ["POST", *["GET"] * 6]


async def test_refusals_have_the_servers_words(connect: Connect) -> None:
    refused = httpx.Response(422, json={"message": "expires_date must be in the future", "code": "X"})
    async with connect(refused) as (client, _):
        with pytest.raises(Invalid, match="in the future"):
            await links.update(client, "collection", 7, "abc", expires_date="2001-01-01")


_LAUGHS = b'<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">]>'
_FILES = b'<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>'


@pytest.mark.parametrize(
    "body",
    [
        b"<?xml version='1.0'?>" + _LAUGHS + b"<OAI-PMH>&b;</OAI-PMH>",
        b"<?xml version='1.0'?>" + _FILES + b"<OAI-PMH>&a;</OAI-PMH>",
        b"<?xml version='1.0'?><!DOCTYPE OAI-PMH SYSTEM 'http://127.0.0.1/x.dtd'><OAI-PMH/>",
        b"<?xml version='1.0' encoding='ISO-8859-1'?><OAI-PMH>\xe9</OAI-PMH>",
        b"<?xml version='1.0' encoding='UTF-7'?><OAI-PMH>+ABsAWw-</OAI-PMH>",
        b"<OAI-PMH>\xff</OAI-PMH>",
        _RECORD[:-10],
        b"<OAI-PMH>&nbsp;</OAI-PMH>",
        b"<OAI-PMH a='1' a='2'/>",
        "<OAI-PMH/>".encode("utf-16"),
    ],
)
async def test_a_record_that_is_not_safe_to_read(connect: Any, clock: object, body: bytes) -> None:
    """Entities that grow or name files, another encoding, half an answer: none of it becomes a document."""
    async with connect([httpx.Response(200, content=body)]) as (client, _server):
        with pytest.raises(BadAnswer):
            await oai.get_record(client, 7, "oai_dc")


async def test_what_a_terminal_obeys_is_escaped_in_a_record(connect: Any) -> None:
    body = "\ufeff<?xml version='1.0'?><OAI-PMH a='\u202e'>\x9b2J\u2066\x1b[31m\ufffeé\r\n\t\r</OAI-PMH>"
    async with connect([httpx.Response(200, content=body.encode())]) as (client, _server):
        found = (await oai.get_record(client, 7, "oai_dc")).decode()
    assert found == "<?xml version='1.0'?><OAI-PMH a='&#x202e;'>&#x9b;2J&#x2066;[31mé\n\t\n</OAI-PMH>"
    root = ElementTree.fromstring(found)
    assert (root.get("a"), root.text) == ("\u202e", "\x9b2J\u2066[31mé\n\t\n")
