from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from trio.testing import MockClock

from figfs import errors
from figfs.figshare import accounts, articles, collections, files, projects
from figfs.figshare.records import File


def created(path: str) -> httpx.Response:
    return httpx.Response(201, json={"location": f"https://api.test/v2{path}"})


CALLS: dict[str, tuple[Any, httpx.Response, Any]] = {
    "GET /account": (lambda c: accounts.get_account(c), httpx.Response(200, json={"id": 1}), None),
    "GET /account/articles/5": (lambda c: articles.get(c, 5), httpx.Response(200, json={"id": 5}), None),
    "POST /account/articles": (
        lambda c: articles.create(c, "abc"),
        created("/account/articles/5"),
        {"title": "abc"},
    ),
    "PATCH /account/articles/5": (
        lambda c: articles.update(c, 5, title="abc"),
        httpx.Response(205),
        {"title": "abc"},
    ),
    "DELETE /account/articles/5": (lambda c: articles.delete(c, 5), httpx.Response(204), None),
    "GET /account/articles/5/files/7": (
        lambda c: files.get_file(c, 5, 7),
        httpx.Response(200, json={"id": 7, "size": 1}),
        None,
    ),
    "POST /account/articles/5/files": (
        lambda c: files.initiate(c, 5, name="a", size=3, md5="00", folder_path="x/y"),
        created("/account/articles/5/files/7"),
        {"name": "a", "size": 3, "md5": "00", "folder_path": "x/y"},
    ),
    "POST /account/articles/5/files/7": (
        lambda c: files.complete(c, 5, 7),
        httpx.Response(202, text="<html>Accepted</html>"),
        None,
    ),
    "DELETE /account/articles/5/files/7": (lambda c: files.delete_file(c, 5, 7), httpx.Response(204), None),
    "POST /account/projects": (
        lambda c: projects.create(c, "abc"),
        created("/account/projects/3"),
        {"title": "abc"},
    ),
    "PATCH /account/projects/3": (
        lambda c: projects.update(c, 3, title="x"),
        httpx.Response(205),
        {"title": "x"},
    ),
    "DELETE /account/projects/3": (lambda c: projects.delete(c, 3), httpx.Response(204), None),
    "POST /account/projects/3/articles": (
        lambda c: projects.create_article(c, 3, "abc"),
        created("/account/articles/5"),
        {"title": "abc"},
    ),
    "GET /account/projects/3/articles/5": (
        lambda c: projects.get_article(c, 3, 5),
        httpx.Response(200, json={"id": 5}),
        None,
    ),
    "DELETE /account/projects/3/articles/5": (
        lambda c: projects.delete_article(c, 3, 5),
        httpx.Response(204),
        None,
    ),
    "POST /account/collections": (
        lambda c: collections.create(c, "abc"),
        created("/account/collections/4"),
        {"title": "abc"},
    ),
    "PATCH /account/collections/4": (
        lambda c: collections.update(c, 4, title="x"),
        httpx.Response(205),
        {"title": "x"},
    ),
    "DELETE /account/collections/4": (lambda c: collections.delete(c, 4), httpx.Response(204), None),
    "POST /account/collections/4/articles": (
        lambda c: collections.add_articles(c, 4, [5, 6]),
        httpx.Response(201, json={"location": "x"}),
        {"articles": [5, 6]},
    ),
    "DELETE /account/collections/4/articles/5": (
        lambda c: collections.remove_article(c, 4, 5),
        httpx.Response(204),
        None,
    ),
}


@pytest.mark.parametrize("request_line", CALLS)
async def test_each_call_is_one_documented_request(connect: Any, request_line: str) -> None:
    """Method, path and body as api.md has them; the answers with and without a body."""
    call, answer, body = CALLS[request_line]
    async with connect([answer]) as (client, server):
        await call(client)
    (request,) = server.requests
    assert f"{request.method} {request.url.path.removeprefix('/v2')}" == request_line
    assert (json.loads(request.content) if request.content else None) == body
    assert request.url.query == b""


@pytest.mark.parametrize("request_line", CALLS)
async def test_a_failing_request_is_an_error(
    connect: Any, autojump_clock: MockClock, request_line: str
) -> None:
    """No call swallows a refusal."""
    call, _answer, _body = CALLS[request_line]
    async with connect([403]) as (client, _):
        with pytest.raises(errors.Forbidden):
            await call(client)


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(201, json={"location": "https://api.test/v2/account/articles/5"}),
        httpx.Response(200, json={"entity_id": "5", "location": "", "warnings": []}),
        httpx.Response(201, headers={"Location": "https://api.test/v2/account/articles/5"}),
        httpx.Response(201, headers={"location": "/v2/account/articles/5"}, text="<html>created</html>"),
    ],
)
async def test_the_new_id_wherever_it_is(connect: Any, answer: httpx.Response) -> None:
    """In the body or the header, 201 or 200 (api.md §3, issue 2)."""
    async with connect([answer]) as (client, _):
        assert await articles.create(client, "abc") == 5


async def test_a_create_that_does_not_tell_its_id(connect: Any) -> None:
    """It was made, and nobody knows what: UnknownOutcome, so that the caller lists again; one request."""
    async with connect([httpx.Response(201, json={})]) as (client, server):
        with pytest.raises(errors.UnknownOutcome):
            await articles.create(client, "abc")
    assert len(server.requests) == 1


async def test_string_ids_are_quoted(connect: Any) -> None:
    """Other servers have other ids; none may leave its place in the path."""
    async with connect([httpx.Response(200, json={"id": "x"})]) as (client, server):
        await articles.get(client, "a/../b?c=d#e")
    assert server.requests[0].url.raw_path == b"/v2/account/articles/a%2F..%2Fb%3Fc%3Dd%23e"


@pytest.mark.parametrize("status", [405, 501])
async def test_put_where_patch_is_not_known(connect: Any, status: int) -> None:
    """PATCH first, because a PUT of the title alone might clear the rest."""
    async with connect([status, 205]) as (client, server):
        await articles.update(client, 5, title="abc")
    assert [request.method for request in server.requests] == ["PATCH", "PUT"]
    assert server.requests[1].content == b'{"title":"abc"}'


async def test_initiate_leaves_out_what_is_not_given(connect: Any) -> None:
    """An empty md5 would be a wrong one (quirks U20)."""
    async with connect([created("/account/articles/5/files/7")]) as (client, server):
        assert await files.initiate(client, 5, name="a", size=3, md5="") == 7
        assert await files.initiate_link(client, 5, "https://x.test/") == 7
    assert json.loads(server.requests[0].content) == {"name": "a", "size": 3}
    assert json.loads(server.requests[1].content) == {"link": "https://x.test/"}


async def test_a_lost_announcement_is_an_unknown_outcome(connect: Any) -> None:
    """Never announced twice: the caller finds it by name, size and MD5."""
    async with connect([httpx.ReadError("reset")]) as (client, server):
        with pytest.raises(errors.UnknownOutcome):
            await files.initiate(client, 5, name="a", size=3, md5="00")
    assert len(server.requests) == 1


def file_in(status: str, **more: object) -> dict[str, object]:
    return {"id": 7, "size": 3, "status": status, "upload_url": "https://fup.test/upload/x", **more}


@pytest.mark.parametrize("status", ["ic_checking", "moving_to_final", "available"])
@pytest.mark.parametrize(
    "first", [httpx.ReadError("reset"), httpx.Response(504), httpx.Response(409), httpx.Response(422)]
)
async def test_a_lost_completion_that_has_arrived(
    connect: Any, autojump_clock: MockClock, status: str, first: Any
) -> None:
    """The file's status tells: done, no second completion."""

    def handle(request: httpx.Request) -> Any:
        if request.method == "GET":
            return httpx.Response(200, json=file_in(status))
        if isinstance(first, Exception):
            raise first
        return first

    async with connect(handle) as (client, server):
        await files.complete(client, 5, 7)
    posts = [request for request in server.requests if request.method == "POST"]
    assert len(posts) == 1 or (isinstance(first, httpx.Response) and first.status_code == 409)


async def test_a_lost_completion_that_has_not_arrived_is_sent_again(
    connect: Any, autojump_clock: MockClock
) -> None:
    """Still "created" after a while: again; and in the end, nobody knows."""
    async with connect([httpx.ReadError("reset"), file_in("created"), 202]) as (client, server):
        await files.complete(client, 5, 7)
    assert [request.method for request in server.requests] == ["POST", "GET", "POST"]

    def never(request: httpx.Request) -> Any:
        return (
            httpx.Response(200, json=file_in("created")) if request.method == "GET" else httpx.Response(500)
        )

    async with connect(never) as (client, server):
        with pytest.raises(errors.UnknownOutcome):
            await files.complete(client, 5, 7)
    assert sum(request.method == "POST" for request in server.requests) == files.COMPLETE_TRIES


async def test_a_refused_completion_is_told(connect: Any, autojump_clock: MockClock) -> None:
    """Parts are missing: Invalid, not success."""
    async with connect([422, file_in("created")]) as (client, _):
        with pytest.raises(errors.Invalid):
            await files.complete(client, 5, 7)


@pytest.mark.parametrize(
    ("file", "completed"),
    [
        (File(id=1, status="created", upload_url="x"), False),
        (File(id=1, status="created", upload_url=""), False),
        (File(id=1, status="ic_checking", upload_url="x"), True),
        (File(id=1, status="available"), True),
        (File(id=1, upload_url="x"), False),
        (File(id=1, upload_url=""), True),
        (File(id=1, upload_url="x", computed_md5="00"), True),
    ],
)
def test_what_counts_as_completed(file: File, completed: bool) -> None:
    """The status; where a server has none, the empty upload URL or a computed sum (quirks U11, U13)."""
    assert files.is_completed(file) is completed


async def test_deleting_a_file_that_is_gone(connect: Any) -> None:
    """404 is what was wanted; a refusal is not."""
    async with connect([404]) as (client, _):
        await files.delete_file(client, 5, 7)


async def test_at_most_ten_articles_in_one_request(connect: Any) -> None:
    """Figshare takes no more (api.md §5)."""
    async with connect([httpx.Response(201)]) as (client, server):
        await collections.add_articles(client, 4, range(1, 24))
        await collections.add_articles(client, 4, [])
    sent = [json.loads(request.content)["articles"] for request in server.requests]
    assert [len(ids) for ids in sent] == [10, 10, 3]
    assert [id_ for ids in sent for id_ in ids] == list(range(1, 24))


async def test_a_lost_answer_to_adding_is_settled_by_looking(connect: Any) -> None:
    """In there: fine. Not all of them: nobody knows."""
    async with connect([httpx.ReadError("x"), [{"id": 5}, {"id": 6}, {"id": 7}]]) as (client, _):
        await collections.add_articles(client, 4, [5, 6])
    async with connect([httpx.ReadError("x"), [{"id": 5}]]) as (client, _):
        with pytest.raises(errors.UnknownOutcome):
            await collections.add_articles(client, 4, [5, 6])


async def test_project_listings(connect: Any) -> None:
    """Also of files, for a collaborator's articles."""
    async with connect([[{"id": 9, "title": "t", "role": "Viewer"}]]) as (client, server):
        assert (await projects.list_own(client))[0].role == "Viewer"
        assert [article.id for article in await projects.list_articles(client, 3)] == [9]
        assert [file.id for file in await projects.list_files(client, 3, 5)] == [9]
    assert server.asked == [
        "GET api.test/v2/account/projects",
        "GET api.test/v2/account/projects/3/articles",
        "GET api.test/v2/account/projects/3/articles/5/files",
    ]
