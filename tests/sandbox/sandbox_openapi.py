"""Figshare's own description of its API, and where real answers are known to differ from it."""

from __future__ import annotations

import copy
import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import httpx
import jsonschema

from figfs.sandbox.app import make_app
from figfs.sandbox.state import Sandbox

HOST = "http://127.0.0.1"
FACTS = Path(__file__).parent.parent / "openapi_v2.0_facts.json"

#: Properties that may be null although the description does not say so: schema, property, source.
NULLABLE = (
    ("Article", "published_date", "its text: null if not published; quirk L14"),
    ("Article", "resource_doi", "quirk L14: null in the captured answer"),
    ("Article", "resource_title", "quirk L14: null in the captured answer"),
    ("Article", "group_id", "api.md §1: blank fields are null"),
    ("ProjectArticle", "embargo_date", "its text: null if not embargoed; quirk L14"),
    ("ProjectArticle", "embargo_type", "quirk L14: null in the captured answer"),
    ("ArticleWithProject", "project_id", "api.md §2: null, not 0, in real search results"),
    ("Account", "symplectic_user_id", "api.md §1: blank fields are null"),
    ("Project", "published_date", "its text: null if not published"),
    ("Collection", "published_date", "api.md §2"),
    ("CollectionCompletePrivate", "group_id", "api.md §1: blank fields are null"),
)

#: Properties of another type than described.
OTHER_TYPE = (
    ("ErrorMessage", "code", {"type": "string"}, "api.md §1: a string in documents and real answers"),
)

#: Statuses that any endpoint may answer, although most are described without them.
STATUSES = {
    401: "api.md §1: missing or invalid token",
    404: "api.md §1: not found or no read permission",
    405: "HTTP: no such method here",
    415: "HTTP: JSON bodies only (api.md §1)",
    422: "api.md §1: valid JSON with bad values, or mixed paging styles",
}

#: Statuses of single endpoints that are not described.
OTHER_STATUSES = {("GET", "/file/download/{file_id}"): {302: "quirk D4: a redirect to storage"}}


#: Below /v2, but of another protocol than the described one.
OTHER_PROTOCOLS = {"/v2/oai": "api.md §10: OAI-PMH"}


@dataclasses.dataclass(frozen=True, slots=True)
class Operation:
    method: str
    path: str
    responses: dict[str, Any]
    pattern: re.Pattern[str]


class Description:
    def __init__(self, document: dict[str, Any]) -> None:
        self._components = _with_deviations(document["components"])
        self._operations = [
            Operation(method.upper(), path, operation["responses"], _pattern(path))
            for path, methods in document["paths"].items()
            for method, operation in methods.items()
        ]

    def operation(self, method: str, path: str) -> Operation | None:
        """The operation of a request. ``/search`` goes before ``/{id}``."""
        found = [o for o in self._operations if o.method == method and o.pattern.fullmatch(path)]
        return min(found, key=lambda o: o.path.count("{"), default=None)

    def has(self, method: str, path: str) -> bool:
        return any((o.method, o.path) == (method, path) for o in self._operations)

    def validate(self, schema: dict[str, Any], answer: object) -> None:
        """jsonschema.ValidationError if the answer is not as described."""
        whole = {**schema, "components": self._components}
        jsonschema.Draft202012Validator(whole).validate(answer)

    def check_response(self, response: httpx.Response) -> None:
        """AssertionError or ValidationError if an answer below ``/v2`` is not as described."""
        method, path = response.request.method, response.request.url.path.removeprefix("/v2")
        if not response.request.url.path.startswith("/v2/") or response.request.url.path in OTHER_PROTOCOLS:
            return
        status = response.status_code
        operation = self.operation(method, path)
        if operation is None:
            assert status in (404, 405), f"{method} {path} is not described, but answers {status}"
            return
        described = operation.responses.get(str(status))
        others = STATUSES | OTHER_STATUSES.get((method, operation.path), {})
        assert described is not None or status in others, f"{method} {operation.path} answers {status}"
        if status >= 400:
            self.validate({"$ref": "#/components/schemas/ErrorMessage"}, response.json())
            assert response.json()["message"]
            assert response.json()["code"]
            return
        schema = (described or {}).get("content", {}).get("application/json", {}).get("schema")
        if schema is not None:
            assert response.headers["Content-Type"] == "application/json; charset=UTF-8"
            self.validate(schema, response.json())
        if "Location" in (described or {}).get("headers", {}):
            assert response.headers["Location"].startswith(f"{HOST}/v2/")


def _pattern(path: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\{\w+\}", "[^/]+", path))


def _with_deviations(components: dict[str, Any]) -> dict[str, Any]:
    changed = copy.deepcopy(components)
    for schema, name, _ in NULLABLE:
        described = changed["schemas"][schema]["properties"][name]
        described["type"] = [described["type"], "null"]
        if "enum" in described:
            described["enum"] = [*described["enum"], None]
    for schema, name, actual, _ in OTHER_TYPE:
        changed["schemas"][schema]["properties"][name] = actual
    return changed


DESCRIPTION = Description(json.loads(FACTS.read_text()))


def client_of(sandbox: Sandbox, **headers: str) -> httpx.AsyncClient:
    """A client in this process that checks each answer against the description."""

    async def check(response: httpx.Response) -> None:
        await response.aread()
        DESCRIPTION.check_response(response)

    return httpx.AsyncClient(
        transport=httpx.ASGITransport(make_app(sandbox)),
        base_url=HOST,
        headers=headers,
        event_hooks={"response": [check]},
    )
