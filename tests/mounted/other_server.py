"""Another server that speaks the API: nothing of figfs in it, and not like the sandbox. A process of its own.

``--dialect uuid``: ids are UUIDs (``id`` is null, ``uuid`` has it, as with djehuty), paging is ignored, null
wherever there is room for it, a create answers 200 with a location only, dates have no zone, no projects, no
quota, no MD5, no status, PATCH is unknown, and files are downloaded at their ``download_url`` only.

``--dialect text``: every number is a string, no page is longer than ``--page-cap``, errors are HTML, folders
are not kept, no collections, and the API streams downloads itself: 200, no length, no ranges.

``--plain-ids``: ``id`` has the UUID. ``--no-upload``: files can be announced, and that is all.

In all of them the uploader is a service of its own, at another port. ``/v2/_control`` is for the tests: GET
tells what there is and what was asked; POST adds an article; PUT sets answers that are given as they are;
PATCH renames files.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import dataclasses
import hashlib
import http.server
import itertools
import json
import re
import signal
import sys
import threading
import urllib.parse
import uuid
from collections.abc import Callable
from typing import Any

TOKEN = "another-servers-token"
DATE = "2023-05-06T07:08:09"
PART = 200_000  #: bytes of a part, another number than Figshare's
DOWNLOADS = r"/files/|/v2/file/download/"


@dataclasses.dataclass
class File:
    id: str
    name: str
    size: int
    folder: str = ""
    data: bytes | None = None  #: None until completed
    parts: dict[int, bytes] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Article:
    id: str
    title: str
    project: str = ""
    files: dict[str, File] = dataclasses.field(default_factory=dict)


class State:
    def __init__(self, options: argparse.Namespace) -> None:
        self.uuids = options.dialect == "uuid"
        self.options = options
        self.articles: dict[str, Article] = {}
        self.projects = {} if self.uuids else {"21": "A project of numbers"}
        self.requests: list[dict[str, Any]] = []
        self.canned: list[dict[str, Any]] = []
        self.lock = threading.RLock()
        self.api = self.uploader = ""
        self._numbers = itertools.count(100)
        self.account = self.new_id()

    def new_id(self) -> str:
        return str(uuid.uuid4() if self.uuids else next(self._numbers))

    def file(self, file_id: str) -> File:
        with self.lock:
            return next(a.files[file_id] for a in self.articles.values() if file_id in a.files)

    # -- what records look like ------------------------------------------------------------

    def ids(self, value: str) -> dict[str, Any]:
        if not self.uuids or self.options.plain_ids:
            return {"id": value}
        return {"id": None, "uuid": value}

    def article_record(self, article: Article) -> dict[str, Any]:
        nothing = None if self.uuids else ""
        return {
            **self.ids(article.id),
            "title": article.title,
            "doi": nothing,
            "url": nothing,
            "created_date": None if self.uuids else DATE,
            "modified_date": DATE,
            "published_date": nothing,
            "timeline": nothing,
            "project_id": None if self.uuids else article.project or "0",
        }

    def article_details(self, article: Article) -> dict[str, Any]:
        details = self.article_record(article)
        files = [self.file_record(file) for file in article.files.values()]
        if self.uuids:
            folders = {file.id: f"/{file.folder}" for file in article.files.values() if file.folder}
            return details | {"status": None, "is_public": None, "files": files, "folder_structure": folders}
        return details | {"status": "draft", "is_public": "false", "version": "0", "files": files[:10]}

    def file_record(self, file: File) -> dict[str, Any]:
        record = {**self.ids(file.id), "name": file.name, "is_link_only": None if self.uuids else "0"}
        upload_url = f"{self.uploader}/u/{file.id}" if file.data is None else None
        if self.options.no_upload:
            upload_url = None
        if self.uuids:
            nulls = {"supplied_md5": None, "computed_md5": None, "mimetype": None, "status": None}
            url = f"{self.api.removesuffix('/v2')}/files/{file.id}"
            return record | nulls | {"size": file.size, "download_url": url, "upload_url": upload_url}
        md5 = "" if file.data is None else hashlib.md5(file.data, usedforsecurity=False).hexdigest().upper()
        return record | {
            "size": str(file.size),
            "computed_md5": md5,
            "status": "created" if file.data is None else "available",
            "upload_url": upload_url or "",
        }

    def part_records(self, file: File) -> list[dict[str, Any]]:
        number: Callable[[int], Any] = int if self.uuids else str
        return [
            {
                "partNo": number(no),
                "startOffset": number(start),
                "endOffset": number(min(start + PART, file.size) - 1),
                "status": "COMPLETE" if no in file.parts else None if self.uuids else "PENDING",
                "locked": None,
            }
            for no, start in enumerate(range(0, file.size, PART), 1)
        ]


class Handler(http.server.BaseHTTPRequestHandler):
    state: State
    disable_nagle_algorithm = True  # a head and a body are two sends: the second waited 40 ms for nothing

    def handle_one(self) -> None:
        self.url = urllib.parse.urlsplit(self.path)
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.url.path == "/v2/_control":
            with self.state.lock:
                self.control()
        elif not self.give_canned():
            # A download takes as long as its reader likes: nobody is to wait for that.
            with contextlib.nullcontext() if re.match(DOWNLOADS, self.url.path) else self.state.lock:
                self.route()

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = handle_one

    def route(self) -> None:
        """The first of ``ROUTES`` that fits."""
        if self.headers.get("Authorization") != f"token {TOKEN}":
            self.fail(403)
            return
        for method, pattern, act in ROUTES:
            found = re.fullmatch(pattern, self.url.path)
            if found is not None and method == self.command:
                try:
                    act(self, *found.groups())
                except (KeyError, StopIteration):
                    self.fail(404)
                return
        self.fail(405 if self.command == "PATCH" else 404)

    # -- answers ------------------------------------------------------------

    def send(self, status: int, data: bytes, headers: dict[str, str], *, length: bool = True) -> None:
        entry = {"method": self.command, "path": self.url.path, "status": status, "bytes": 0}
        entry |= {"port": self.server.server_port, "authorized": "Authorization" in self.headers}
        if self.url.path != "/v2/_control":
            self.state.requests.append(entry)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if length:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        try:
            for at in range(0, len(data), 65536):
                self.wfile.write(data[at : at + 65536])
                entry["bytes"] = at + len(data[at : at + 65536])
        except OSError:  # who asked has enough
            self.close_connection = True

    def answer(self, body: object, status: int = 200) -> None:
        self.send(status, json.dumps(body).encode(), {"Content-Type": "application/json"})

    def fail(self, status: int) -> None:
        if self.state.uuids:
            self.answer({"message": None, "code": None, "data": None}, status)
        else:
            page = f"<!DOCTYPE html><html><title>{status}</title><h1>No &amp; no</h1></html>".encode()
            self.send(status, page, {"Content-Type": "text/html"})

    def page(self, records: list[dict[str, Any]]) -> None:
        if not self.state.uuids:
            query = dict(urllib.parse.parse_qsl(self.url.query))
            size = min(int(query.get("page_size", 10)), self.state.options.page_cap)
            start = (int(query.get("page", 1)) - 1) * size
            records = records[start : start + size]
        self.answer(records)

    def made(self, path: str, new_id: str) -> None:
        if self.state.uuids:
            self.answer({"location": f"{self.state.api}{path}/{new_id}", "warnings": None})
        else:
            self.answer({"entity_id": new_id, "location": ""}, 201)

    # -- the tests' own ------------------------------------------------------------

    def control(self) -> None:
        state = self.state
        if self.command == "GET":
            articles = [
                {
                    "title": article.title,
                    "files": [
                        {
                            "path": f"{file.folder}/{file.name}".strip("/"),
                            "size": file.size,
                            "data": None if file.data is None else base64.b64encode(file.data).decode(),
                        }
                        for file in article.files.values()
                    ],
                }
                for article in state.articles.values()
            ]
            self.answer({"articles": articles, "requests": state.requests[:]})
        elif self.command == "POST":
            wanted = json.loads(self.body)
            article = Article(state.new_id(), wanted["title"], wanted.get("project", ""))
            state.articles[article.id] = article
            for path, text in wanted["files"].items():
                folder, _, name = path.rpartition("/")
                data = base64.b64decode(text)
                file = File(state.new_id(), name, len(data), folder, data)
                article.files[file.id] = file
            self.answer({})
        elif self.command == "PUT":
            state.canned = json.loads(self.body)
            self.answer({})
        elif self.command == "PATCH":
            wanted = json.loads(self.body)
            for article in state.articles.values():
                for file in article.files.values():
                    file.name = wanted["new"] if file.name == wanted["old"] else file.name
            self.answer({})
        else:
            state.requests.clear()
            self.answer({})

    def give_canned(self) -> bool:
        """``{"method" and "path" (regular expressions), "status", "headers", "body" or "text" or "base64"}``.

        A list has one page, unless the test asks for the second itself.
        """
        for rule in self.state.canned:
            asked = re.fullmatch(rule.get("method", "GET"), self.command)
            if asked and re.fullmatch(rule["path"], self.url.path):
                if "base64" in rule:
                    data = base64.b64decode(rule["base64"])
                elif "text" in rule:
                    data = rule["text"].encode()
                else:
                    later = re.search(r"\bpage=([2-9]|\d\d)", self.url.query) is not None
                    data = json.dumps([] if later else rule.get("body")).encode()
                headers = {"Content-Type": "application/json"} | rule.get("headers", {})
                self.send(rule.get("status", 200), data, headers)
                return True
        return False

    # -- the API ------------------------------------------------------------

    def account(self) -> None:
        record: dict[str, Any] = {**self.state.ids(self.state.account), "email": None, "first_name": None}
        if not self.state.uuids:
            record |= {"quota": "1000000000", "used_quota": "1000000", "maximum_file_size": "500000000"}
        self.answer(record)

    def list_articles(self) -> None:
        self.page([self.state.article_record(article) for article in self.state.articles.values()])

    def create_article(self, project: str = "") -> None:
        article = Article(self.state.new_id(), json.loads(self.body)["title"], project)
        self.state.articles[article.id] = article
        self.made("/account/articles", article.id)

    def article_get(self, article_id: str) -> None:
        self.answer(self.state.article_details(self.state.articles[article_id]))

    def article_put(self, article_id: str) -> None:
        self.state.articles[article_id].title = json.loads(self.body)["title"]
        self.send(205, b"", {})

    def article_delete(self, article_id: str) -> None:
        del self.state.articles[article_id]
        self.send(204, b"", {}, length=False)

    def list_files(self, article_id: str) -> None:
        self.page([self.state.file_record(file) for file in self.state.articles[article_id].files.values()])

    def announce(self, article_id: str) -> None:
        wanted = json.loads(self.body)
        file = File(self.state.new_id(), wanted["name"], int(wanted["size"]))
        file.folder = wanted.get("folder_path", "") if self.state.uuids else ""
        self.state.articles[article_id].files[file.id] = file
        self.made(f"/account/articles/{article_id}/files", file.id)

    def file_get(self, article_id: str, file_id: str) -> None:
        self.answer(self.state.file_record(self.state.articles[article_id].files[file_id]))

    def complete(self, article_id: str, file_id: str) -> None:
        file = self.state.articles[article_id].files[file_id]
        data = b"".join(data for _no, data in sorted(file.parts.items()))
        if len(data) != file.size:
            self.fail(400)
            return
        file.data = data
        self.send(200, b"", {})

    def file_delete(self, article_id: str, file_id: str) -> None:
        del self.state.articles[article_id].files[file_id]
        self.send(204, b"", {}, length=False)

    def list_projects(self) -> None:
        if self.state.uuids:
            self.fail(404)
        else:
            self.page([{"id": id_, "title": title} for id_, title in self.state.projects.items()])

    def project_articles(self, project: str) -> None:
        inside = [article for article in self.state.articles.values() if article.project == project]
        self.page([self.state.article_record(article) for article in inside])

    def project_article_get(self, project: str, article_id: str) -> None:
        self.article_get(article_id)

    def project_article_delete(self, project: str, article_id: str) -> None:
        self.article_delete(article_id)

    def list_collections(self) -> None:
        if self.state.uuids:
            self.answer([])
        else:
            self.fail(404)

    # -- downloads ------------------------------------------------------------

    def download(self, file_id: str) -> None:
        """Where ranges are known their total is not told: ``bytes 0-99/*``."""
        data = self.state.file(file_id).data
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range") or "")
        if data is None:
            self.fail(404)
        elif not self.state.uuids:
            self.send(200, data, {"Content-Type": "application/octet-stream"}, length=False)
            self.close_connection = True
        elif wanted:
            first, end = int(wanted[1]), min(int(wanted[2]) + 1, len(data))
            self.send(206, data[first:end], {"Content-Range": f"bytes {first}-{end - 1}/*"})
        else:
            self.send(200, data, {"Content-Type": "application/octet-stream"})

    def download_by_api(self, file_id: str) -> None:
        if self.state.uuids:
            self.fail(404)
        else:
            self.download(file_id)

    def log_message(self, format: str, *args: object) -> None:
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Who has asked may go away before the end of an answer; all else is a bug in here."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class UploadHandler(Handler):
    """The uploader service: no token of the API is wanted here."""

    def handle_one(self) -> None:
        self.url = urllib.parse.urlsplit(self.path)
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        found = re.fullmatch(r"/u/([^/]+)(?:/(\d+))?", self.url.path)
        if self.give_canned():
            return
        with self.state.lock:
            try:
                if found is None or "Authorization" in self.headers:
                    self.fail(400)
                    return
                file = self.state.file(found[1])
                if found[2] is not None and self.command == "PUT":
                    file.parts[int(found[2])] = self.body
                    self.send(200, b"OK", {})
                else:
                    parts = self.state.part_records(file)
                    whole = {"token": None, "name": file.name, "size": str(file.size), "parts": parts}
                    self.answer(whole if found[2] is None else parts[int(found[2]) - 1])
            except StopIteration:
                self.fail(404)

    do_GET = do_PUT = do_DELETE = handle_one


ID = "([^/]+)"
ROUTES: list[tuple[str, str, Callable[..., None]]] = [
    ("GET", "/v2/account", Handler.account),
    ("GET", "/v2/account/articles", Handler.list_articles),
    ("POST", "/v2/account/articles", Handler.create_article),
    ("GET", f"/v2/account/articles/{ID}", Handler.article_get),
    ("PUT", f"/v2/account/articles/{ID}", Handler.article_put),
    ("DELETE", f"/v2/account/articles/{ID}", Handler.article_delete),
    ("GET", f"/v2/account/articles/{ID}/files", Handler.list_files),
    ("POST", f"/v2/account/articles/{ID}/files", Handler.announce),
    ("GET", f"/v2/account/articles/{ID}/files/{ID}", Handler.file_get),
    ("POST", f"/v2/account/articles/{ID}/files/{ID}", Handler.complete),
    ("DELETE", f"/v2/account/articles/{ID}/files/{ID}", Handler.file_delete),
    ("GET", "/v2/account/projects", Handler.list_projects),
    ("GET", f"/v2/account/projects/{ID}/articles", Handler.project_articles),
    ("POST", f"/v2/account/projects/{ID}/articles", Handler.create_article),
    ("GET", f"/v2/account/projects/{ID}/articles/{ID}", Handler.project_article_get),
    ("DELETE", f"/v2/account/projects/{ID}/articles/{ID}", Handler.project_article_delete),
    ("GET", "/v2/account/collections", Handler.list_collections),
    ("GET", f"/v2/file/download/{ID}", Handler.download_by_api),
    ("GET", f"/files/{ID}", Handler.download),
]


def main() -> None:
    """Serve until SIGTERM; prints one line when it is ready, like ``figfs sandbox``."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--dialect", choices=["uuid", "text"], required=True)
    parser.add_argument("--page-cap", type=int, default=10)
    parser.add_argument("--plain-ids", action="store_true")
    parser.add_argument("--no-upload", action="store_true")
    state = State(parser.parse_args())
    # HTTP/1.0 ends a body without a length by closing the connection.
    settings = {"state": state, "protocol_version": "HTTP/1.1" if state.uuids else "HTTP/1.0"}
    servers = [
        Server(("127.0.0.1", 0), type(base.__name__, (base,), settings)) for base in (Handler, UploadHandler)
    ]
    state.api, state.uploader = (f"http://127.0.0.1:{server.server_address[1]}" for server in servers)
    state.api += "/v2"
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    print(json.dumps({"api": state.api, "token": TOKEN, "uploader": state.uploader}), flush=True)
    signal.pause()


if __name__ == "__main__":
    main()
