"""OAI-PMH 2.0: one record of a published article at a time, in seven formats (api.md §10).

Errors are 200 with an ``<error>`` in the answer, as the protocol wants. Harvesting (lists, sets, resumption)
is not here: verbs that exist but are not served answer ``badVerb`` too.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree as ET

from starlette.requests import Request
from starlette.responses import Response

from figfs.sandbox import articles, reference
from figfs.sandbox.errors import ApiError
from figfs.sandbox.http import public
from figfs.sandbox.state import Sandbox
from figfs.sandbox.store import Row

_OAI = "http://www.openarchives.org/OAI/2.0/"
_XSI = "http://www.w3.org/2001/XMLSchema-instance"
_DC = "http://purl.org/dc/elements/1.1/"
_TERMS = "http://purl.org/dc/terms/"
_DATACITE = "http://datacite.org/schema/kernel-4"
_PREFIX = "oai:figshare.com:article/"

#: Prefix -> schema, namespace of the format.
FORMATS = {
    "oai_dc": (
        "http://www.openarchives.org/OAI/2.0/oai_dc.xsd",
        "http://www.openarchives.org/OAI/2.0/oai_dc/",
    ),
    "oai_datacite": (
        "http://schema.datacite.org/oai/oai-1.1/oai.xsd",
        "http://schema.datacite.org/oai/oai-1.1/",
    ),
    "qdc": (
        "http://dublincore.org/schemas/xmls/qdc/2008/02/11/qualifieddc.xsd",
        "http://www.rdn.ac.uk/oai/rdn_dc/",
    ),
    "rdf": (
        "http://www.openarchives.org/OAI/2.0/rdf.xsd",
        "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
    ),
    "cerif": (
        "https://www.openaire.eu/schema/cris/1.1/openaire-cerif-profile.xsd",
        "https://www.openaire.eu/cerif-profile/1.1/",
    ),
    "mets": ("http://www.loc.gov/standards/mets/mets.xsd", "http://www.loc.gov/METS/"),
    "uketd_dc": (
        "http://naca.central.cranfield.ac.uk/ethos-oai/2.0/uketd_dc.xsd",
        "http://naca.central.cranfield.ac.uk/ethos-oai/2.0/",
    ),
}

for _name, _uri in (
    ("", _OAI),
    ("xsi", _XSI),
    ("dc", _DC),
    ("dcterms", _TERMS),
    *((name, uri) for name, (_, uri) in FORMATS.items() if name != "rdf"),
):
    ET.register_namespace(_name, _uri)


class _Refusal(Exception):
    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


async def answer(sandbox: Sandbox, request: Request) -> Response:
    given = dict(request.query_params)
    root = ET.Element(f"{{{_OAI}}}OAI-PMH")
    root.set(f"{{{_XSI}}}schemaLocation", f"{_OAI} http://www.openarchives.org/OAI/2.0/OAI-PMH.xsd")
    _add(root, _OAI, "responseDate", sandbox.clock.stamp())
    echo = _add(root, _OAI, "request", f"{sandbox.base_url}/v2/oai")
    try:
        verb = given.get("verb", "")
        if verb not in _VERBS:
            raise _Refusal("badVerb", "Illegal or unknown OAI verb")
        served = _VERBS[verb](sandbox, given)
        for name, value in given.items():
            echo.set(name, value)
        root.append(served)
    except _Refusal as refused:
        _add(root, _OAI, "error", str(refused)).set("code", refused.code)
    body = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return Response(body, media_type="text/xml; charset=utf-8")


def _arguments(given: dict[str, str], required: set[str], optional: frozenset[str] = frozenset()) -> None:
    names = set(given) - {"verb"}
    if not required <= names <= required | optional:
        raise _Refusal("badArgument", "An argument is missing, or is not one of this verb's")


def _identify(sandbox: Sandbox, given: dict[str, str]) -> ET.Element:
    _arguments(given, set())
    served = ET.Element(f"{{{_OAI}}}Identify")
    for name, value in (
        ("repositoryName", "figshare (sandbox)"),
        ("baseURL", f"{sandbox.base_url}/v2/oai"),
        ("protocolVersion", "2.0"),
        ("adminEmail", sandbox.account.email),
        ("earliestDatestamp", "2010-01-08T00:00:00Z"),
        ("deletedRecord", "transient"),
        ("granularity", "YYYY-MM-DDThh:mm:ssZ"),
    ):
        _add(served, _OAI, name, value)
    return served


def _list_formats(sandbox: Sandbox, given: dict[str, str]) -> ET.Element:
    _arguments(given, set(), frozenset({"identifier"}))
    if "identifier" in given:
        _published(sandbox, given["identifier"])
    served = ET.Element(f"{{{_OAI}}}ListMetadataFormats")
    for prefix, (schema, namespace) in FORMATS.items():
        entry = _add(served, _OAI, "metadataFormat")
        _add(entry, _OAI, "metadataPrefix", prefix)
        _add(entry, _OAI, "schema", schema)
        _add(entry, _OAI, "metadataNamespace", namespace)
    return served


def _get_record(sandbox: Sandbox, given: dict[str, str]) -> ET.Element:
    _arguments(given, {"identifier", "metadataPrefix"})
    prefix = given["metadataPrefix"]
    if prefix not in FORMATS:
        raise _Refusal("cannotDisseminateFormat", f"{prefix} is not a format of this repository")
    row = _published(sandbox, given["identifier"])
    served = ET.Element(f"{{{_OAI}}}GetRecord")
    record = _add(served, _OAI, "record")
    header = _add(record, _OAI, "header")
    _add(header, _OAI, "identifier", given["identifier"])
    _add(header, _OAI, "datestamp", row["published"])
    metadata = json.loads(row["metadata"])
    for number in metadata.get("categories", []):
        _add(header, _OAI, "setSpec", f"category_{number}")
    _add(header, _OAI, "setSpec", f"item_type_{row['defined_type']}")
    _RECORDS[prefix](_add(record, _OAI, "metadata"), sandbox, row, metadata)
    return served


def _published(sandbox: Sandbox, identifier: str) -> Row:
    """The latest version; ``idDoesNotExist`` for drafts, for what is unknown and for other repositories."""
    number = identifier.removeprefix(_PREFIX)
    if identifier.startswith(_PREFIX) and number.isascii() and number.isdigit() and len(number) < 19:
        try:
            return articles.public_version(sandbox, int(number))
        except ApiError:
            pass
    raise _Refusal("idDoesNotExist", f"There is no item {identifier}")


def _dublin_core(into: ET.Element, sandbox: Sandbox, row: Row, metadata: dict[str, Any]) -> None:
    """The fifteen elements, as far as there is something to say."""
    _add(into, _DC, "title", row["title"])
    for author in metadata.get("authors", []):
        _add(into, _DC, "creator", f"{author['full_name']} ({author['id']})")
    for number in metadata.get("categories", []):
        _add(into, _DC, "subject", reference.category(number)["title"])
    for tag in json.loads(row["tags"]):
        _add(into, _DC, "subject", tag)
    _add(into, _DC, "description", row["description"])
    _add(into, _DC, "date", row["published"])
    _add(into, _DC, "type", reference.ITEM_TYPE_NAMES[row["defined_type"]].capitalize())
    _add(into, _DC, "identifier", row["doi"])
    _add(into, _DC, "relation", f"{sandbox.base_url}/articles/_/{row['id']}")
    licence = reference.license_entry(metadata.get("license", reference.DEFAULT_LICENSE))
    _add(into, _DC, "rights", licence["name"])


def _within(prefix: str, name: str) -> Callable[[ET.Element, Sandbox, Row, dict[str, Any]], None]:
    """Dublin Core in the format's own element ``name``."""

    def render(into: ET.Element, sandbox: Sandbox, row: Row, metadata: dict[str, Any]) -> None:
        _dublin_core(_add(into, FORMATS[prefix][1], name), sandbox, row, metadata)

    return render


def _datacite(into: ET.Element, sandbox: Sandbox, row: Row, metadata: dict[str, Any]) -> None:
    outer = _add(into, FORMATS["oai_datacite"][1], "oai_datacite")
    payload = _add(outer, FORMATS["oai_datacite"][1], "payload")
    resource = _add(payload, _DATACITE, "resource")
    _add(resource, _DATACITE, "identifier", row["doi"]).set("identifierType", "DOI")
    creators = _add(resource, _DATACITE, "creators")
    for author in metadata.get("authors", []):
        creator = _add(creators, _DATACITE, "creator")
        _add(creator, _DATACITE, "creatorName", f"{author['last_name']}, {author['first_name']}")
    _add(_add(resource, _DATACITE, "titles"), _DATACITE, "title", row["title"])
    _add(resource, _DATACITE, "publisher", "figshare")
    _add(resource, _DATACITE, "publicationYear", row["published"][:4])
    _add(resource, _DATACITE, "version", str(row["version"]))


def _rdf(into: ET.Element, sandbox: Sandbox, row: Row, metadata: dict[str, Any]) -> None:
    namespace = FORMATS["rdf"][1]
    description = _add(_add(into, namespace, "RDF"), namespace, "Description")
    description.set(f"{{{namespace}}}about", f"https://doi.org/{row['doi']}")
    _dublin_core(description, sandbox, row, metadata)


def _cerif(into: ET.Element, sandbox: Sandbox, row: Row, metadata: dict[str, Any]) -> None:
    namespace = FORMATS["cerif"][1]
    product = _add(into, namespace, "Product")
    product.set("id", f"article/{row['id']}")
    _add(product, namespace, "Name", row["title"])
    _add(product, namespace, "VersionInfo", str(row["version"]))
    _add(product, namespace, "DOI", row["doi"])
    creators = _add(product, namespace, "Creators")
    for author in metadata.get("authors", []):
        _add(_add(creators, namespace, "Creator"), namespace, "DisplayName", author["full_name"])


def _mets(into: ET.Element, sandbox: Sandbox, row: Row, metadata: dict[str, Any]) -> None:
    namespace = FORMATS["mets"][1]
    root = _add(into, namespace, "mets")
    root.set("OBJID", f"{_PREFIX}{row['id']}")
    section = _add(root, namespace, "dmdSec")
    section.set("ID", "DMD1")
    wrap = _add(section, namespace, "mdWrap")
    wrap.set("MDTYPE", "DC")
    _dublin_core(_add(wrap, namespace, "xmlData"), sandbox, row, metadata)
    _add(root, namespace, "structMap")


_RECORDS = {
    "oai_dc": _within("oai_dc", "dc"),
    "oai_datacite": _datacite,
    "qdc": _within("qdc", "qualifieddc"),
    "rdf": _rdf,
    "cerif": _cerif,
    "mets": _mets,
    "uketd_dc": _within("uketd_dc", "uketddc"),
}
_VERBS = {"Identify": _identify, "ListMetadataFormats": _list_formats, "GetRecord": _get_record}


def _add(parent: ET.Element, namespace: str, name: str, text: str = "") -> ET.Element:
    element = ET.SubElement(parent, f"{{{namespace}}}{name}")
    if text:
        element.text = "".join(c for c in text if c >= " " or c in "\t\n\r")
    return element


routes = [public("/v2/oai", "GET", answer)]
