"""One item's OAI-PMH record, as the server sends it."""

from __future__ import annotations

import re

from figfs.errors import BadAnswer, NotFound, NotSupported, RemoteError
from figfs.figshare.client import Answer, Client
from figfs.figshare.metadata import LARGEST
from figfs.figshare.records import Id

#: What Figshare offers (api.md §10).
FORMATS = ("oai_dc", "oai_datacite", "qdc", "rdf", "cerif", "mets", "uketd_dc")

_ERROR = re.compile(rb"""<(?:\w+:)?error\s[^<>]*?code\s*=\s*["'](\w+)["']""")
_ERRORS: dict[bytes, type[RemoteError]] = {
    b"idDoesNotExist": NotFound,
    b"cannotDisseminateFormat": NotSupported,
}

#: What XML cannot hold, and a terminal would obey.
_CONTROLS = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


async def get_record(client: Client, article_id: Id, prefix: str) -> bytes:
    """The whole answer to GetRecord: XML. ``NotFound`` for what is not public, ``NotSupported`` for a format
    that the server does not have.
    """
    params = {
        "verb": "GetRecord",
        "metadataPrefix": prefix,
        "identifier": f"oai:figshare.com:article/{article_id}",
    }
    body = await client.call("GET", "/oai", params=params, read=_xml)
    # The protocol's errors are answers of 200 without a record.
    error = _ERROR.search(body[:10_000])
    if error is not None and not re.search(rb"<(?:\w+:)?GetRecord[\s>]", body):
        code = error[1]
        raise _ERRORS.get(code, BadAnswer)(f"no {prefix} record of {article_id}: {code.decode()[:100]}")
    return body


def _xml(answer: Answer) -> bytes:
    if len(answer.body) > LARGEST:
        raise BadAnswer(f"a record of {len(answer.body)} bytes is too large for a document")
    body = _CONTROLS.sub(b"", answer.body)
    if not re.match(rb"(\xef\xbb\xbf)?\s*<(\?xml|(\w+:)?OAI-PMH)", body):
        raise BadAnswer("not an OAI-PMH answer")
    return body
