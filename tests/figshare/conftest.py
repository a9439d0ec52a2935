"""A scripted server in memory for the tests of the client; no network."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

import httpx
import pytest

from figfs.figshare.client import Client, open_client
from figfs.settings import Token

API = "https://api.test/v2"
SECRET = "s3cret-t0ken-of-the-account"  # no real one


class Server:
    """Answers from a list in order, the last one for ever, or from a function. Keeps the requests."""

    def __init__(self, answers: Any) -> None:
        self._answers = list(answers) if isinstance(answers, list) else answers
        self.requests: list[httpx.Request] = []

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self._answers
        if isinstance(answer, list):
            answer = answer.pop(0) if len(answer) > 1 else answer[0]
        if callable(answer):
            answer = answer(request)
            if inspect.isawaitable(answer):
                answer = await answer
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, int):
            answer = httpx.Response(answer)
        elif not isinstance(answer, httpx.Response):
            answer = httpx.Response(200, json=answer)
        # A new one each time: a Response can be read once.
        return httpx.Response(answer.status_code, headers=answer.headers, stream=_again(answer))

    @property
    def asked(self) -> list[str]:
        return [f"{request.method} {request.url.host}{request.url.path}" for request in self.requests]


def _again(answer: httpx.Response) -> Any:
    return answer.stream if answer.stream is not None else httpx.ByteStream(b"")


class Chunks(httpx.AsyncByteStream):
    """A body in given chunks, which may end in an exception; counts how many were taken."""

    def __init__(self, chunks: Iterable[bytes | Exception]) -> None:
        self._chunks = iter(chunks)
        self.taken = 0

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        for chunk in self._chunks:
            self.taken += 1
            if isinstance(chunk, Exception):
                raise chunk
            return chunk
        raise StopAsyncIteration


@pytest.fixture
def api() -> str:
    return API


@pytest.fixture
def secret() -> str:
    return SECRET


@pytest.fixture
def chunks() -> type[Chunks]:
    return Chunks


@pytest.fixture
def connect() -> Callable[..., Any]:
    """``async with connect(answers) as (client, server)``: a client that talks to a scripted server."""

    @contextlib.asynccontextmanager
    async def connect(answers: Any, **options: Any) -> AsyncIterator[tuple[Client, Server]]:
        server = Server(answers)
        settings: dict[str, Any] = {"api": API, "token": Token(SECRET), "rate": 0, **options}
        async with open_client(transport=httpx.MockTransport(server), **settings) as client:
            yield client, server
            assert client.statistics().in_flight == 0

    return connect
