"""What ``.figshare/`` is made of, on the side of the sandbox: OAI-PMH, statistics, private links, notes."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import httpx
import pytest

from figfs.sandbox.api_oai import FORMATS

PUBLISHED, DRAFT, PROJECT, COLLECTION = 20000005, 20000006, 150001, 6000001
OAI = "{http://www.openarchives.org/OAI/2.0/}"


async def _oai(api: httpx.AsyncClient, **given: object) -> ET.Element:
    response = await api.get("/v2/oai", params={name: str(value) for name, value in given.items()})
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "text/xml; charset=utf-8"
    return ET.fromstring(response.content)


def _error(answer: ET.Element) -> str | None:
    error = answer.find(f"{OAI}error")
    return None if error is None else error.get("code")


async def _record(api: httpx.AsyncClient, number: object, prefix: str = "oai_dc") -> ET.Element:
    identifier = f"oai:figshare.com:article/{number}"
    return await _oai(api, verb="GetRecord", metadataPrefix=prefix, identifier=identifier)


@pytest.mark.parametrize("prefix", FORMATS)
async def test_a_record_in_every_format(prefix: str, example_api: httpx.AsyncClient) -> None:
    """Well-formed, with the header the protocol wants and metadata in the format's own namespace."""
    answer = await _record(example_api, PUBLISHED, prefix)
    assert _error(answer) is None
    record = answer.find(f"{OAI}GetRecord/{OAI}record")
    assert record is not None
    assert record.findtext(f"{OAI}header/{OAI}identifier") == f"oai:figshare.com:article/{PUBLISHED}"
    assert record.findtext(f"{OAI}header/{OAI}datestamp") == "2024-03-02T09:00:00Z"
    metadata = record.find(f"{OAI}metadata")
    assert metadata is not None
    assert [child.tag.startswith(f"{{{FORMATS[prefix][1]}}}") for child in metadata] == [True]
    assert "Frog calls of the Atlantic forest" in ET.tostring(metadata, encoding="unicode")


@pytest.mark.parametrize("number", [DRAFT, 1, "x", "9" * 40])
async def test_no_record_of_what_is_not_public(number: object, example_api: httpx.AsyncClient) -> None:
    assert _error(await _record(example_api, number)) == "idDoesNotExist"


async def test_what_oai_refuses(example_api: httpx.AsyncClient) -> None:
    """Each error of the protocol, in an answer of 200."""
    assert _error(await _record(example_api, PUBLISHED, "marc21")) == "cannotDisseminateFormat"
    assert _error(await _oai(example_api, verb="Nothing")) == "badVerb"
    assert _error(await _oai(example_api, verb="GetRecord")) == "badArgument"
    assert _error(await _oai(example_api, verb="Identify", x=1)) == "badArgument"
    assert _error(await _oai(example_api, verb="Identify")) is None
    formats = await _oai(example_api, verb="ListMetadataFormats")
    assert {entry.text for entry in formats.iter(f"{OAI}metadataPrefix")} == set(FORMATS)


async def test_statistics(example_api: httpx.AsyncClient) -> None:
    """Totals of public items, the same every time; nothing for others; no such counter is 404."""
    path = f"/stats/total/views/article/{PUBLISHED}"
    views = (await example_api.get(path)).json()
    assert views["totals"] > 0
    assert (await example_api.get(path)).json() == views
    for empty in (f"/stats/total/views/article/{DRAFT}", "/stats/total/shares/collection/1"):
        response = await example_api.get(empty)
        assert (response.status_code, response.json()) == (200, {})
    assert (await example_api.get(f"/stats/total/likes/article/{PUBLISHED}")).status_code == 404


@pytest.mark.parametrize("item", [f"articles/{DRAFT}", f"collections/{COLLECTION}"])
async def test_private_links(item: str, example_api: httpx.AsyncClient) -> None:
    """Made, changed, listed, deleted; a year unless a date is given; a date of the past is refused."""
    path = f"/v2/account/{item}/private_links"
    made = await example_api.post(path)
    assert made.headers["Location"] == made.json()["location"]
    [link] = (await example_api.get(path)).json()
    assert link["is_active"] is True
    assert link["html_location"] == made.json()["html_location"]
    assert made.json()["token"] in link["html_location"]
    one = f"{path}/{link['id']}"
    assert (await example_api.put(one, json={"expires_date": "2100-01-02"})).status_code == 205
    assert (await example_api.get(path)).json()[0]["expires_date"] == "2100-01-02T00:00:00"
    for wrong in ("2001-01-01", "tomorrow", 7):
        assert (await example_api.post(path, json={"expires_date": wrong})).status_code == 422
    assert (await example_api.delete(one)).status_code == 204
    assert (await example_api.delete(one)).status_code == 404
    assert (await example_api.get(path)).json() == []
    assert (await example_api.post("/v2/account/articles/1/private_links")).status_code == 404


async def test_notes(example_api: httpx.AsyncClient) -> None:
    """Listed without their texts, in pages; texts of fewer than three characters are refused."""
    path = f"/v2/account/projects/{PROJECT}/notes"
    text = "The stakes of 2021 were read twice. " * 5
    locations = [
        (await example_api.post(path, json={"text": f"{n}: {text}"})).json()["location"] for n in (1, 2)
    ]
    listed = (await example_api.get(path, params={"page_size": 1})).json()
    assert len(listed) == 1
    assert listed[0]["abstract"] == f"2: {text}"[:80]
    assert "text" not in listed[0]
    assert (await example_api.get(locations[0])).json()["text"] == f"1: {text}"
    assert (await example_api.put(locations[0], json={"text": "Once."})).status_code == 205
    assert (await example_api.get(locations[0])).json()["text"] == "Once."
    for wrong in ({}, {"text": "ab"}, {"text": 12}):
        assert (await example_api.post(path, json=wrong)).status_code == 422
    assert (await example_api.delete(locations[0])).status_code == 204
    assert (await example_api.get(locations[0])).status_code == 404
    assert (await example_api.get("/v2/account/projects/1/notes")).status_code == 404
