"""The sandbox as a server: real connections, real trouble, restarts."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from figfs.sandbox.server import serve

PROGRAM = "import sys; from figfs.sandbox.server import main; main(0, None, 'empty')"


@dataclasses.dataclass(frozen=True)
class Server:
    root: str
    client: httpx.AsyncClient

    async def faults(self, *rules: dict[str, Any]) -> None:
        answer = await self.client.put(f"{self.root}/_sandbox/faults", json=list(rules))
        assert answer.status_code == 200, answer.text

    async def requests(self) -> list[dict[str, Any]]:
        entries: list[dict[str, Any]] = (await self.client.get(f"{self.root}/_sandbox/requests")).json()
        return entries

    async def article(self, **order: object) -> str:
        order = {"count": 1} | order
        [number] = (await self.client.post(f"{self.root}/_sandbox/articles", json=order)).json()["ids"]
        return f"{self.root}/v2/account/articles/{number}"


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with running() as ready:
        yield ready


@contextlib.asynccontextmanager
async def running(directory: Path | None = None) -> AsyncIterator[Server]:
    """A server that is stopped, and a client that is closed, at the end."""
    sender, receiver = trio.open_memory_channel[tuple[str, str]](1)

    async def run() -> None:
        await serve(
            directory=directory,
            seed="empty",
            on_ready=lambda api, token: sender.send_nowait((api, token)),
        )

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        api, token = await receiver.receive()
        assert api.endswith("/v2")
        async with httpx.AsyncClient(headers={"Authorization": f"token {token}"}, timeout=20) as client:
            yield Server(api.removesuffix("/v2"), client)
        nursery.cancel_scope.cancel()


async def target_of(server: Server, size: int) -> str:
    """A presigned URL of a seeded file."""
    article = await server.article(files=[size])
    file = (await server.client.get(f"{article}/files")).json()[0]
    redirect = await server.client.get(f"{server.root}/v2/file/download/{file['id']}")
    location: str = redirect.headers["Location"]
    return location


async def fetch(target: str, **headers: str) -> httpx.Response:
    async with httpx.AsyncClient(timeout=20) as plain:
        return await plain.get(target, headers=headers)


async def test_a_large_file_up_and_down(server: Server) -> None:
    """Several parts at once, then ranges at once: the bytes are those that were sent."""
    content = os.urandom(1_000_000) * 25
    md5 = hashlib.md5(content).hexdigest()
    article = await server.article()
    body = {"name": "large.bin", "size": len(content), "md5": md5}
    location = (await server.client.post(f"{article}/files", json=body)).json()["location"]
    upload_url = (await server.client.get(location)).json()["upload_url"]
    parts = (await server.client.get(upload_url)).json()["parts"]
    assert len(parts) == 3

    async def put(part: dict[str, Any]) -> None:
        piece = content[part["startOffset"] : part["endOffset"] + 1]
        assert (await server.client.put(f"{upload_url}/{part['partNo']}", content=piece)).status_code == 200

    async with trio.open_nursery() as nursery:
        for part in parts:
            nursery.start_soon(put, part)
    assert (await server.client.post(location)).status_code == 202
    for _ in range(1000):
        file = (await server.client.get(location)).json()
        if file["status"] == "available":
            break
        await trio.sleep(0.01)
    assert file["computed_md5"] == md5
    target = (await server.client.get(file["download_url"])).headers["Location"]
    pieces: dict[int, bytes] = {}

    async def get(start: int) -> None:
        answer = await fetch(target, Range=f"bytes={start}-{start + 4_999_999}")
        assert answer.status_code == 206
        pieces[start] = answer.content

    async with trio.open_nursery() as nursery:
        for start in range(0, len(content), 5_000_000):
            nursery.start_soon(get, start)
    assert b"".join(pieces[start] for start in sorted(pieces)) == content


async def test_many_requests_at_once(server: Server) -> None:
    """Sixteen clients get each its own answer."""
    article = await server.article(file_count=16)
    files = (await server.client.get(f"{article}/files?page_size=100")).json()
    names: list[str] = []

    async def get(number: int) -> None:
        names.append((await server.client.get(f"{article}/files/{number}")).json()["name"])

    async with trio.open_nursery() as nursery:
        for file in files:
            nursery.start_soon(get, file["id"])
    assert sorted(names) == [file["name"] for file in files]


@pytest.mark.parametrize("limit", [0, 1, 100_000, 2_999_999])
async def test_cut_answers(server: Server, limit: int) -> None:
    """The client sees a connection that ended early, after just so many bytes; the next one is whole."""
    target = await target_of(server, 3_000_000)
    await server.faults({"role": "storage", "action": "cut", "bytes": limit, "times": 1})
    got = 0
    async with httpx.AsyncClient() as plain:

        async def count() -> None:
            nonlocal got
            async with plain.stream("GET", target) as answer:
                assert answer.headers["Content-Length"] == "3000000"
                async for chunk in answer.aiter_raw():
                    got += len(chunk)

        with pytest.raises(httpx.RemoteProtocolError):
            await count()
        assert got == limit
        assert len((await plain.get(target)).content) == 3_000_000
    entries = [entry for entry in await server.requests() if entry["role"] == "storage"]
    assert [(entry["status"], entry["bytes"]) for entry in entries] == [(200, limit), (200, 3_000_000)]


async def test_cut_parts(server: Server) -> None:
    """A PUT whose connection is closed midway leaves the part PENDING and unlocked."""
    article = await server.article()
    body = {"name": "a", "size": 3_000_000}
    location = (await server.client.post(f"{article}/files", json=body)).json()["location"]
    upload_url = (await server.client.get(location)).json()["upload_url"]
    await server.faults({"role": "upload", "method": "PUT", "action": "cut", "bytes": 1_000_000, "times": 1})
    with pytest.raises(httpx.TransportError):  # in a thread: httpx leaves an async generator behind here
        await trio.to_thread.run_sync(lambda: httpx.put(f"{upload_url}/1", content=b"x" * 3_000_000))
    part = (await server.client.get(f"{upload_url}/1")).json()
    assert (part["status"], part["locked"]) == ("PENDING", False)
    assert (await server.client.put(f"{upload_url}/1", content=b"x" * 3_000_000)).status_code == 200
    assert [entry["status"] for entry in await server.requests() if entry["method"] == "PUT"] == [0, 200]


async def test_lost_answers(server: Server) -> None:
    """The act is carried out, the client learns nothing."""
    await server.faults({"method": "POST", "path": "articles$", "action": "lose_answer", "times": 1})
    with pytest.raises(httpx.RemoteProtocolError):
        await server.client.post(f"{server.root}/v2/account/articles", json={"title": "Made all the same"})
    listed = (await server.client.get(f"{server.root}/v2/account/articles")).json()
    assert [article["title"] for article in listed] == ["Made all the same"]
    assert (await server.requests())[0]["status"] == 0


async def test_hanging(server: Server) -> None:
    """No answer until the client leaves, or until the time is over; then the connection is closed."""
    await server.faults({"path": "/v2/account$", "action": "hang"})
    with pytest.raises(httpx.ReadTimeout):
        await server.client.get(f"{server.root}/v2/account", timeout=0.1)
    await server.faults({"path": "/v2/account$", "action": "hang", "seconds": 0.05})
    with pytest.raises(httpx.RemoteProtocolError):
        await server.client.get(f"{server.root}/v2/account")
    await server.faults()
    assert (await server.client.get(f"{server.root}/v2/account")).status_code == 200


async def test_a_client_that_leaves_ends_its_download(server: Server) -> None:
    """The rest of the file is not read; the record shows that it was not sent."""
    target = await target_of(server, 200_000_000)

    def leave() -> None:
        with httpx.stream("GET", target) as answer:
            next(answer.iter_raw())

    await trio.to_thread.run_sync(leave)
    for _ in range(1000):
        entries = [entry for entry in await server.requests() if entry["role"] == "storage"]
        if entries:
            break
        await trio.sleep(0.01)
    assert entries[0]["bytes"] < 100_000_000


async def test_a_part_refused_early_still_gets_its_answer(server: Server) -> None:
    """409 for a complete part arrives although the client was still sending megabytes."""
    article = await server.article()
    location = (await server.client.post(f"{article}/files", json={"name": "a", "size": 9_000_000})).json()
    upload_url = (await server.client.get(location["location"])).json()["upload_url"]
    for status in (200, 409, 409):
        answer = await server.client.put(f"{upload_url}/1", content=b"x" * 9_000_000)
        assert answer.status_code == status


async def test_short_connections_are_let_go(server: Server) -> None:
    """A connection that its client closes does not keep an open file."""
    host, port = server.root.removeprefix("http://").split(":")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(50):
        connection = await trio.open_tcp_stream(host, int(port))
        await connection.send_all(b"GET /v2/licenses HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert (await connection.receive_some(100)).startswith(b"HTTP/1.1 200")
        await connection.aclose()
    for _ in range(1000):
        if len(os.listdir("/proc/self/fd")) < before + 10:
            return
        await trio.sleep(0.01)
    pytest.fail("open files are left")


async def test_ten_thousand_articles(server: Server) -> None:
    """Seeded and listed page by page within seconds, each once."""
    begin = trio.current_time()
    order = {"count": 10_000, "files": [1000]}
    ids = (await server.client.post(f"{server.root}/_sandbox/articles", json=order)).json()["ids"]
    seeded = trio.current_time()
    seen: list[int] = []
    for page in range(1, 11):
        query = {"page": page, "page_size": 1000}
        answer = await server.client.get(f"{server.root}/v2/account/articles", params=query)
        seen += [article["id"] for article in answer.json()]
    assert seen == ids[::-1]
    # Measured 0.3 s and 0.2 s; the goal is 2 s each. Twice that here, as the machine may be busy.
    assert seeded - begin < 4
    assert trio.current_time() - seeded < 4


async def test_a_restart_keeps_everything(tmp_path: Path) -> None:
    """Ids, files, settings, half an upload; only the port changes, and all addresses with it."""
    content = b"0123456789"
    md5 = hashlib.md5(content).hexdigest()
    async with running(tmp_path) as server:
        await server.client.put(
            f"{server.root}/_sandbox/settings", json={"part_size": 5, "assembly_delay": 60}
        )
        article = await server.article(files=[100])
        locations = []
        for name, parts in (("whole", 2), ("half", 1)):
            body = {"name": name, "size": 10, "md5": md5}
            location = (await server.client.post(f"{article}/files", json=body)).json()["location"]
            upload_url = (await server.client.get(location)).json()["upload_url"]
            for n in range(parts):
                await server.client.put(f"{upload_url}/{n + 1}", content=content[5 * n : 5 * n + 5])
            locations.append(httpx.URL(location).path)
        assert (await server.client.post(f"{server.root}{locations[0]}")).status_code == 202
        before = (await server.client.get(f"{server.root}/_sandbox/account")).json()
        await server.client.put(f"{server.root}/_sandbox/settings", json={"assembly_delay": 0})
    async with running(tmp_path) as server:
        for _ in range(1000):
            whole = (await server.client.get(f"{server.root}{locations[0]}")).json()
            if whole["status"] == "available":
                break
            await trio.sleep(0.01)
        assert whole["computed_md5"] == md5
        after = (await server.client.get(f"{server.root}/_sandbox/account")).json()
        whole_before = before["articles"][0]["files"][1]
        assert whole_before.pop("status") == "created"
        assert after["articles"][0]["files"][1].pop("status") == "available"
        assert after == before
        half = (await server.client.get(f"{server.root}{locations[1]}")).json()
        assert half["upload_url"].startswith(server.root)
        session = (await server.client.get(half["upload_url"])).json()
        assert [part["status"] for part in session["parts"]] == ["COMPLETE", "PENDING"]
        new = await server.client.post(f"{server.root}/v2/account/articles", json={"title": "abc"})
        assert new.json()["entity_id"] == after["articles"][0]["id"] + 1


async def test_one_folder_has_one_sandbox(tmp_path: Path) -> None:
    """A second one in the same folder is refused with OSError; what is there stays."""
    async with running(tmp_path) as server:
        with pytest.raises(OSError, match="another sandbox"):
            await serve(directory=tmp_path, on_ready=lambda api, token: None)
        assert (await server.client.get(f"{server.root}/v2/account")).status_code == 200


async def test_a_port_in_use() -> None:
    """OSError, which the command line words."""
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):
        await serve(port=taken.getsockname()[1], on_ready=lambda api, token: None)


async def test_a_stopped_sandbox_in_memory_leaves_nothing(tmp_path: Path, monkeypatch: Any) -> None:
    """Its temporary folder is removed."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    async with running():
        assert os.listdir(tmp_path)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_program(number: int) -> None:
    """One JSON line when it is ready; answers; stops on a signal with 0, with nothing on standard error."""
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert program.stdout is not None
        ready = json.loads(program.stdout.readline())
        assert list(ready) == ["api", "token"]
        headers = {"Authorization": f"token {ready['token']}"}
        root = ready["api"].removesuffix("/v2")
        with httpx.Client(headers=headers) as client:
            assert client.get(f"{ready['api']}/account").status_code == 200
            rule = {"path": "account$", "action": "cut", "bytes": 10}
            client.put(f"{root}/_sandbox/faults", json=[rule])
            with pytest.raises(httpx.RemoteProtocolError):
                client.get(f"{ready['api']}/account")
            order = {"count": 1, "files": [100_000_000]}
            [number_of] = client.post(f"{root}/_sandbox/articles", json=order).json()["ids"]
            file = client.get(f"{ready['api']}/account/articles/{number_of}/files").json()[0]
            target = client.get(f"{ready['api']}/file/download/{file['id']}").headers["Location"]
        with httpx.stream("GET", target) as answer:  # left in the middle
            next(answer.iter_raw())
        program.send_signal(number)
        out, errors = program.communicate(timeout=20)
    finally:
        program.kill()
        program.wait()
    assert (program.returncode, out, errors) == (0, "", "")
