"""Ids and DOIs as people write them in paths."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from figfs.namespace.identifiers import base_of, parse_doi, parse_reference


@pytest.mark.parametrize(
    ("prefix", "name", "base", "version", "collection", "number"),
    [
        ("10.6084", "m9.figshare.1234.v2", "10.6084/m9.figshare.1234", 2, False, 1234),
        ("10.6084", "m9.figshare.c.1234.v1", "10.6084/m9.figshare.c.1234", 1, True, 1234),
        ("10.17028", "RD.Lboro.1234.V1", "10.17028/rd.lboro.1234", 1, False, 1234),
        ("10.25376", "hra.1234", "10.25376/hra.1234", None, False, 1234),
        ("10.25384", "sage.c.1234", "10.25384/sage.c.1234", None, True, 1234),
        ("10.1234", "uni.thesis.5678", "10.1234/uni.thesis.5678", None, False, 5678),
        ("10.1234", "uni%2Fthesis%2f5678.v3", "10.1234/uni/thesis/5678", 3, False, 5678),
        ("10.1234", "uni\u2215c.5678", "10.1234/uni/c.5678", None, True, 5678),
        ("10.1234", "uni.thesis.a17", "10.1234/uni.thesis.a17", None, False, 17),
        ("10.1234", "2024.ice", "10.1234/2024.ice", None, False, None),
        ("10.1234.5", "%28ice%29.7", "10.1234.5/(ice).7", None, False, 7),
    ],
)
def test_dois(
    prefix: str, name: str, base: str, version: int | None, collection: bool, number: int | None
) -> None:
    """Of any portal's shape: what it is called without its version, and whose it may be."""
    doi = parse_doi(prefix, name)
    assert doi is not None
    assert (doi.base, doi.version, doi.is_collection, doi.id) == (base, version, collection, number)
    assert base_of(doi.text) == base_of(f"https://doi.org/{doi.text.upper()}") == base


@pytest.mark.parametrize(
    ("prefix", "name"),
    [("11.1", "a1"), ("10.1", "a1"), ("10.1234", ".a1"), ("10.1234", "abc"), ("10.1234", "%2F1"), ("10", "1"),
     ("10.1234", "a%0A1"), ("10.1234", "a%ff1"), ("10.1234", "a 1"), ("10.1234", "é1")],
)  # fmt: skip
def test_what_is_no_doi(prefix: str, name: str) -> None:
    assert parse_doi(prefix, name) is None


@given(st.text(max_size=40))
def test_any_name(name: str) -> None:
    """Whatever is looked for is told apart; what a DOI's text is, can be sent and shown."""
    doi = parse_doi("10.1234", name)
    if doi is not None:
        assert doi.text.isascii()
        assert doi.text.isprintable()
        assert " " not in doi.text
    reference = parse_reference(name)
    assert reference is None or str(reference.id).isalnum() or "-" in str(reference.id)
