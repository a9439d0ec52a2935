"""Citations, checksums, RO-Crates: right for what is right, harmless for everything else."""

from __future__ import annotations

import json
import re
import subprocess
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hostile import files, folders, records, values
from hypothesis import given, settings
from hypothesis import strategies as st

from figfs.documents import checksums, citations, ro_crate, texts
from figfs.documents.works import work_of
from figfs.errors import BadAnswer
from figfs.figshare.records import Article, File

FROGS: dict[str, Any] = {
    "id": 20000005,
    "title": "Frog <i>calls</i> &amp; noise: 50% of {all}",
    "doi": "10.6084/m9.figshare.20000005.v2",
    "version": 2,
    "defined_type_name": "dataset",
    "published_date": "2024-05-20T14:45:00Z",
    "created_date": "2024-03-01T12:00:00Z",
    "description": "<p>Calls of <b>frogs</b>.</p><p>And noise.</p>",
    "license": {"value": 1, "name": "CC BY 4.0", "url": "https://creativecommons.org/licenses/by/4.0/"},
    "keywords": ["frogs", "C#", "R&D", "frogs"],
    "authors": [
        {"first_name": "Ada", "last_name": "Sandbox", "orcid_id": "0000-0002-1825-0097"},
        {"full_name": "The {Frog} Consortium"},
        {"first_name": "Jo", "last_name": "Sand and Gravel", "full_name": "Jo Sand and Gravel"},
    ],
}


def _bibtex_fields(entry: str) -> dict[str, str]:
    """The fields of one entry, read as BibTeX does: braces are counted, whatever is before them."""
    head = re.match(r"@misc\{([A-Za-z0-9_]+),\n", entry)
    assert head is not None, entry
    fields: dict[str, str] = {"": head[1]}
    at = head.end()
    while (name := re.compile(r"\s*(\w+)\s*= ").match(entry, at)) is not None:
        at = name.end()
        if entry[at] != "{":
            word = re.compile(r"\w+").match(entry, at)
            assert word is not None
            fields[name[1]], at = word[0], word.end()
        else:
            depth, begin = 0, at
            while True:
                depth += {"{": 1, "}": -1}.get(entry[at], 0)
                at += 1
                if not depth:
                    break
            fields[name[1]] = entry[begin + 1 : at - 1]
        at += entry[at] == ","
    assert entry[at:] == "\n}\n"
    return fields


def _ris_fields(text: str) -> list[tuple[str, str]]:
    rows = text.splitlines()
    assert rows[-1] == "ER  - "
    found = [re.fullmatch(r"([A-Z][A-Z0-9])  - (.*)", row) for row in rows[:-1]]
    assert None not in found, text
    return [(row[1], row[2]) for row in found if row is not None]


_CFF_ROW = re.compile(r'(?:  - |    |)(?:([a-z-]+): )?("(?:[^"\\]|\\.)*"|[\w.-]+)|(authors|keywords):')


def _cff_rows(text: str) -> list[tuple[str, str]]:
    """Name and value of every line. Only what YAML and JSON read alike is in quotes."""
    rows = []
    for row in text.removesuffix("\n").split("\n"):
        match = _CFF_ROW.fullmatch(row)
        assert match is not None, row
        value = match[2] or ""
        rows.append((match[1] or match[3] or "", json.loads(value) if value.startswith('"') else value))
    return rows


def _harmless(text: str) -> None:
    """Nothing in it that a terminal obeys, and no half characters."""
    text.encode()
    bad = {c for c in text if unicodedata.category(c) in ("Cc", "Cs") and c != "\n"}
    bad |= set(text) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c")
    assert not bad


def test_bibtex() -> None:
    """Special characters by their names, braces that never unbalance, names as BibTeX takes them apart."""
    fields = _bibtex_fields(citations.bibtex(work_of("article", FROGS)))
    assert fields == {
        "": "sandbox_2024_20000005",
        "author": r"Sandbox, Ada and {The \textbraceleft{}Frog\textbraceright{} Consortium}"
        " and {Sand and Gravel}, Jo",
        "title": r"{Frog calls \& noise: 50\% of \textbraceleft{}all\textbraceright{}}",
        "year": "2024",
        "month": "may",
        "publisher": "figshare",
        "howpublished": "Dataset",
        "version": "2",
        "doi": "10.6084/m9.figshare.20000005.v2",
        "url": "https://doi.org/10.6084/m9.figshare.20000005.v2",
        "keywords": r"frogs, C\#, R\&D",
        "copyright": "CC BY 4.0",
    }


def test_ris() -> None:
    fields = _ris_fields(citations.ris(work_of("article", FROGS | {"defined_type_name": "software"})))
    assert fields == [
        ("TY", "COMP"),
        ("AU", "Sandbox, Ada"),
        ("AU", "The {Frog} Consortium"),
        ("AU", "Sand and Gravel, Jo"),
        ("TI", "Frog calls & noise: 50% of {all}"),
        ("PY", "2024"),
        ("DA", "2024/05/20/"),
        ("PB", "figshare"),
        ("ET", "2"),
        ("DO", "10.6084/m9.figshare.20000005.v2"),
        ("UR", "https://doi.org/10.6084/m9.figshare.20000005.v2"),
        ("KW", "frogs"),
        ("KW", "C#"),
        ("KW", "R&D"),
        ("AB", "Calls of frogs. And noise."),
        ("C1", "CC BY 4.0"),
    ]


def test_cff() -> None:
    rows = _cff_rows(citations.cff(work_of("article", FROGS)))
    assert rows[:2] == [
        ("cff-version", "1.2.0"),
        ("message", "If you use this dataset, please cite it as below."),
    ]
    assert ("title", "Frog calls & noise: 50% of {all}") in rows
    assert [row for row in rows if row[0] in ("family-names", "given-names", "orcid", "name")] == [
        ("family-names", "Sandbox"),
        ("given-names", "Ada"),
        ("orcid", "https://orcid.org/0000-0002-1825-0097"),
        ("name", "The {Frog} Consortium"),
        ("family-names", "Sand and Gravel"),
        ("given-names", "Jo"),
    ]
    assert ("date-released", "2024-05-20") in rows
    assert rows[-4:] == [("keywords", ""), ("", "frogs"), ("", "C#"), ("", "R&D")]


def test_an_edited_draft() -> None:
    """What was published since is another text: neither its DOI nor its date and words are of this."""
    edited = FROGS | {"status": "draft", "modified_date": "2025-01-02T00:00:00Z", "citation": "As published."}
    work = work_of("article", edited)
    assert (work.doi, work.version, work.date, work.is_public) == ("", "", "2025-01-02", False)
    for render in (citations.text, citations.bibtex, citations.ris, citations.cff):
        text = render(work)
        assert "figshare.20000005" not in text
        assert "2024" not in text
        assert "As published" not in text
    root = check_crate(ro_crate.render(work))["./"]
    assert (root["creativeWorkStatus"], root["dateModified"]) == ("Draft", "2025-01-02")
    assert "identifier" not in root
    public = check_crate(ro_crate.render(work_of("article", FROGS | {"status": "public"})))["./"]
    assert "creativeWorkStatus" not in public
    assert work_of("article", FROGS | {"published_date": None, "status": "draft"}).doi == FROGS["doi"]


def test_people_of_a_project() -> None:
    """Accounts, so no organisations; viewers have no part in it."""
    people = [
        {"role_name": "Owner", "user_id": 1, "name": "Ada Owner"},
        {"role_name": "Viewer", "user_id": 2, "name": "Eve Viewer"},
        {"role_name": "Collaborator", "user_id": 3, "name": "Jo and Co"},
    ]
    work = work_of("project", {"id": 1, "title": "P", "collaborators": people})
    assert _bibtex_fields(citations.bibtex(work))["author"] == "Ada Owner and {Jo and Co}"
    assert [name for tag, name in _ris_fields(citations.ris(work)) if tag == "AU"] == [
        "Ada Owner",
        "Jo and Co",
    ]
    entities = check_crate(ro_crate.render(work))
    assert entities["#person-1"]["@type"] == "Person"


def test_organisations() -> None:
    """Each is one name to every reader: RIS has commas before first names only."""
    authors = [{"full_name": "University of California, Davis"}, {"full_name": "CERN", "last_name": "CERN"}]
    work = work_of("article", FROGS | {"authors": authors})
    assert _bibtex_fields(citations.bibtex(work))["author"] == "{University of California, Davis} and {CERN}"
    assert [name for tag, name in _ris_fields(citations.ris(work)) if tag == "AU"] == [
        "University of California Davis",
        "CERN",
    ]
    entities = check_crate(ro_crate.render(work))
    assert {entities[f"#person-{n}"]["@type"] for n in (1, 2)} == {"Organization"}


def test_text() -> None:
    """Figshare's own words where it has some."""
    assert citations.text(work_of("article", FROGS)) == (
        "Sandbox, Ada; The {Frog} Consortium; Sand and Gravel, Jo (2024): Frog calls & noise: 50% of {all}."
        " figshare. Dataset. https://doi.org/10.6084/m9.figshare.20000005.v2\n"
    )
    assert citations.text(work_of("article", FROGS | {"citation": "As <i>said</i>."})) == "As said.\n"
    assert citations.text(work_of("project", {})) == "(n.d.): Untitled. figshare. Project.\n"


@given(record=records, kind=st.sampled_from(("article", "project", "collection")))
@settings(max_examples=300)
def test_citations_of_anything(record: dict[str, Any], kind: str) -> None:
    """Whatever a server sends: no exception, valid in its format, nothing that a terminal obeys."""
    work = work_of(kind, record)
    _bibtex_fields(citations.bibtex(work))
    assert _ris_fields(citations.ris(work))[0][0] == "TY"
    rows = _cff_rows(citations.cff(work))
    assert {"cff-version", "message", "title", "authors"} <= {name for name, _ in rows}
    for render in (citations.text, citations.bibtex, citations.ris, citations.cff):
        text = render(work)
        assert text.endswith("\n")
        _harmless(text)


# -- JSON --------------------------------------------------------------------------


@given(values)
def test_json_of_anything(value: object) -> None:
    """Loses nothing but NaN and infinity, and is harmless all the same."""
    text = texts.to_json(value).decode()
    _harmless(text)
    without = json.loads(json.dumps(value), parse_constant=lambda name: None)
    assert json.loads(text) == without


def test_json_is_the_same_whatever_the_order() -> None:
    assert (
        texts.to_json({"b": 1, "a": "ü"})
        == texts.to_json({"a": "ü", "b": 1})
        == b'{\n  "a": "\xc3\xbc",\n  "b": 1\n}\n'
    )


def test_json_nested_without_end() -> None:
    deep: Any = []
    for _ in range(5000):
        deep = [deep]
    with pytest.raises(BadAnswer):
        texts.to_json(deep)


# -- md5sums -----------------------------------------------------------------------


def _files(raw: list[dict[str, Any]]) -> list[File]:
    return [File.from_json(entry) for entry in raw]


def test_names_as_the_mount_shows_them() -> None:
    """Doubles, folders in a file's way, folders from a mapping with and without slashes, links without a
    name.
    """
    given = [
        {"id": 3, "name": "a.csv"},
        {"id": 1, "name": "a.csv"},
        {"id": 2, "name": "raw"},
        {"id": 4, "name": "x.csv"},
        {"id": 5, "name": "a/b.csv"},
        {"id": 6, "name": "", "is_link_only": True, "download_url": "https://example.org/data/ice.nc"},
    ]
    shown = checksums.shown_files(_files(given), {"4": "/raw//2023/"})
    assert [(entry.file.id, entry.path) for entry in shown] == [
        (3, "a [3].csv"),
        (1, "a.csv"),
        (5, "a∕b.csv"),
        (6, "ice.nc"),
        (2, "raw [2]"),
        (4, "raw/2023/x.csv"),
    ]


def test_md5sum_accepts_it(tmp_path: Path) -> None:
    """The real program, with every odd name: backslashes, spaces at the ends, a lone dash."""
    names = ["back\\slash\\n.txt", " leading", "-", "-c", "*star", "été 2023/août.csv", "plain", "C:\\x"]
    shown = []
    for number, name in enumerate(names, 1):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(name)
        md5 = subprocess.run(["md5sum"], input=name.encode(), capture_output=True, check=True).stdout[:32]
        file = File(id=number, name=name, computed_md5=md5.decode())
        shown.append(checksums.ShownFile(name, file))
    (tmp_path / "sums").write_text(checksums.md5sums(shown))
    done = subprocess.run(
        ["md5sum", "--strict", "-c", "sums"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(done.stdout.splitlines()) == len(names)


@given(files, folders)
def test_md5sums_of_anything(raw: list[dict[str, Any]], structure: dict[str, str]) -> None:
    """A line a file that has an MD5; no name twice, none that leaves the directory."""
    shown = checksums.shown_files(_files(raw), structure)
    paths = [entry.path for entry in shown]
    assert len(set(paths)) == len(paths) == len(raw)
    assert not any({"..", ".", ""} & set(path.split("/")) for path in paths)
    text = checksums.md5sums(shown)
    # Names are what they are in the directory, or md5sum would not find them.
    assert not any(unicodedata.category(c) in ("Cc", "Cs") and c != "\n" for c in text)
    with_sums = [entry for entry in raw if entry["computed_md5"] and not entry["is_link_only"]]
    assert text.count("\n") == sum(len(entry["computed_md5"]) == 32 for entry in with_sums)
    assert all(re.fullmatch(r"\\?[0-9a-f]{32}  .+", row) for row in text.splitlines())


# -- RO-Crate ----------------------------------------------------------------------


def check_crate(content: bytes) -> dict[str, dict[str, Any]]:
    """What RO-Crate 1.1 demands ("Root Data Entity", "Data Entities", "Appendix JSON-LD"): MUST by MUST. The
    entities by id.
    """
    crate = json.loads(content)
    assert set(crate) == {"@context", "@graph"}
    assert crate["@context"] == "https://w3id.org/ro/crate/1.1/context"
    graph = crate["@graph"]
    assert isinstance(graph, list)
    entities = {entity["@id"]: entity for entity in graph}
    assert len(entities) == len(graph), "an @id twice"
    for entity in graph:  # flat: what is inside is a scalar or a reference
        assert isinstance(entity["@type"], str)
        for value in entity.values():
            for single in value if isinstance(value, list) else [value]:
                assert isinstance(single, str | int | float | bool) or set(single) == {"@id"}, single
    descriptor = entities["ro-crate-metadata.json"]
    assert descriptor["@type"] == "CreativeWork"
    assert descriptor["conformsTo"] == {"@id": "https://w3id.org/ro/crate/1.1"}
    assert descriptor["about"] == {"@id": "./"}
    root = entities["./"]
    assert root["@type"] == "Dataset"
    assert root["name"]
    assert root["description"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", root["datePublished"])
    for name in ("author", "publisher", "hasPart", "license"):
        value = root.get(name, [])
        for reference in value if isinstance(value, list) else [value]:
            assert reference["@id"] in entities, f"{name}: nothing describes {reference}"
    parts = {reference["@id"] for reference in root["hasPart"]}
    described = {entity["@id"] for entity in graph if entity["@type"] in ("File", "Dataset")} - {"./"}
    assert described == parts
    for path in parts:  # URI references: relative below the root, or absolute
        assert re.fullmatch(r"[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%-]+", path), path
        assert "://" in path or not path.startswith("/")
        entity = entities[path]
        assert entity["name"]
        assert isinstance(entity.get("contentSize", ""), str)
    return entities


def test_ro_crate() -> None:
    given = [
        {"id": 1, "name": "a b.csv", "size": 12, "mimetype": "undefined"},
        {"id": 2, "name": "été.nc", "size": 7, "mimetype": "application/x-netcdf"},
        {"id": 3, "name": "", "is_link_only": True, "download_url": "https://example.org/ice.nc"},
    ]
    shown = checksums.shown_files(_files(given), {"2": "raw"})
    entities = check_crate(ro_crate.render(work_of("article", FROGS), shown))
    assert entities["./"]["identifier"] == "https://doi.org/10.6084/m9.figshare.20000005.v2"
    assert entities["./"]["license"] == {"@id": "https://creativecommons.org/licenses/by/4.0/"}
    assert entities["a%20b.csv"] == {
        "@id": "a%20b.csv",
        "@type": "File",
        "name": "a b.csv",
        "encodingFormat": "text/csv",
        "contentSize": "12",
    }
    assert entities["raw/%C3%A9t%C3%A9.nc"]["encodingFormat"] == "application/x-netcdf"
    assert entities["https://example.org/ice.nc"]["@type"] == "File"
    assert entities["https://orcid.org/0000-0002-1825-0097"]["familyName"] == "Sandbox"


def test_a_crate_in_the_article() -> None:
    """The descriptor describes the directory, and is no part of it; what is called so elsewhere is."""
    given = [{"id": n, "name": ro_crate.NAME, "size": 12} for n in (1, 2)]
    shown = checksums.shown_files(_files(given), {"2": "raw"})
    entities = check_crate(ro_crate.render(work_of("article", FROGS), shown))
    assert entities["./"]["hasPart"] == [{"@id": f"raw/{ro_crate.NAME}"}]


@given(records, files, folders)
@settings(max_examples=200)
def test_ro_crate_of_anything(
    record: dict[str, Any], raw: list[dict[str, Any]], structure: dict[str, str]
) -> None:
    members = [
        Article.from_json(record | {"id": 1}),
        Article.from_json({"id": 2, **structure, "doi": "10.1/x"}),
    ]
    for content in (
        ro_crate.render(work_of("article", record), checksums.shown_files(_files(raw), structure)),
        ro_crate.render(work_of("collection", record), articles=members),
    ):
        check_crate(content)
        _harmless(content.decode())


def test_the_check_of_crates_can_fail() -> None:
    good = ro_crate.render(work_of("article", FROGS), [])
    for old, new in ((b'"Dataset"', b'"Thing"'), (b'"about"', b'"abut"'), (b'"datePublished"', b'"date"')):
        with pytest.raises((AssertionError, KeyError)):
            check_crate(good.replace(old, new))
