"""One item's OAI-PMH record, as the server sends it, so far as it is safe to read.

The protocol wants well-formed XML in UTF-8, and has no document type. Who opens the document must not meet
entities that grow to gigabytes or name files, half an answer, or what a terminal obeys.
"""

from __future__ import annotations

import re
from typing import NoReturn
from xml.parsers import expat

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

#: What XML cannot hold, or nobody means, and a terminal would obey.
_CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ufffe\uffff]")

#: What XML can hold and a terminal would obey: C1 controls, marks that turn the direction of writing.
_TO_ESCAPE = re.compile("[\x80-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


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
    try:
        text = answer.body.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise BadAnswer("an OAI-PMH answer that is not UTF-8") from None
    text = text.replace("\r\n", "\n").replace("\r", "\n")  # as XML reads line ends
    text = _TO_ESCAPE.sub(lambda match: f"&#x{ord(match[0]):x};", _CONTROLS.sub("", text))
    if not re.match(r"\s*<(\?xml|(\w+:)?OAI-PMH)", text):
        raise BadAnswer("not an OAI-PMH answer")
    body = text.encode()
    _check(body)
    return body


def _check(body: bytes) -> None:
    """``BadAnswer`` unless it is well-formed, of the encoding that it says, and without a document type."""
    parser = expat.ParserCreate("utf-8")
    parser.StartDoctypeDeclHandler = _refuse_doctype
    parser.XmlDeclHandler = _check_declaration
    try:
        parser.Parse(body, True)
    except expat.ExpatError as exc:
        raise BadAnswer(f"an OAI-PMH answer that is no well-formed XML ({exc})") from None


def _refuse_doctype(*declared: object) -> NoReturn:
    raise BadAnswer("an OAI-PMH answer with a document type of its own")


def _check_declaration(version: str, encoding: str | None, standalone: int) -> None:
    if encoding is not None and encoding.lower() != "utf-8":
        raise BadAnswer("an OAI-PMH answer that is not UTF-8")
