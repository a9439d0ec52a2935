"""Citations in four formats. Pure; each is valid whatever the metadata says."""

from __future__ import annotations

import re
import unicodedata

from figfs.documents.texts import quoted
from figfs.documents.works import Person, Work

PUBLISHER = "figshare"


def text(work: Work) -> str:
    """One line, as Figshare words it where it does."""
    return f"{work.citation or _worded(work)}\n"


def _worded(work: Work) -> str:
    people = "; ".join(person.sorted_name for person in work.people)
    year = f"({work.year or 'n.d.'}):"
    title = work.title if work.title[-1] in ".?!" else f"{work.title}."
    parts = [people, year, title, f"{PUBLISHER}.", f"{work.type.capitalize()}.", work.url]
    return " ".join(part for part in parts if part)


# -- BibTeX ------------------------------------------------------------------------

# BibTeX counts braces also behind a backslash, so that a single one needs a name.
_TEX = {
    "\\": r"\textbackslash{}",
    "{": r"\textbraceleft{}",
    "}": r"\textbraceright{}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
}
_TEX_CHARACTERS = re.compile(r"[\\{}$&#%_~^]")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")


def bibtex(work: Work) -> str:
    """An entry for BibTeX and biber: ``@misc``, which every style knows."""
    fields = [
        ("author", _in_braces(" and ".join(_bibtex_name(person) for person in work.people))),
        ("title", _in_braces(f"{{{_tex(work.title)}}}")),  # twice: styles change no capital letter
        ("year", _in_braces(work.year)),
        ("month", _MONTHS[int(work.date[5:7]) - 1] if work.date else ""),  # a name that BibTeX knows
        ("publisher", _in_braces(PUBLISHER)),
        ("howpublished", _in_braces(_tex(work.type.capitalize()))),
        ("version", _in_braces(_tex(work.version))),
        ("doi", _in_braces(_address(work.doi))),
        ("url", _in_braces(_address(work.url))),
        ("keywords", _in_braces(", ".join(_tex(word.replace(",", ";")) for word in work.keywords))),
        ("copyright", _in_braces(_tex(work.license))),
    ]
    written = [f"  {name:12} = {value}" for name, value in fields if value]
    return f"@misc{{{_key(work)},\n" + ",\n".join(written) + "\n}\n"


def _key(work: Work) -> str:
    """Of letters, digits and "_" only: ``sandbox_2024_20000005``."""
    first = work.people[0] if work.people else None
    parts = [(first.last or first.name) if first else work.kind, work.year, work.id]
    return "_".join(word for part in parts if (word := _ascii(part))) or "figshare"


def _ascii(value: str) -> str:
    plain = unicodedata.normalize("NFKD", value[:100]).encode("ascii", "ignore").decode()
    return re.sub("[^a-z0-9]", "", plain.lower())


def _bibtex_name(person: Person) -> str:
    if person.is_organisation:
        return f"{{{_tex(person.name)}}}"
    if not (person.first and person.last):
        return _bibtex_part(person.name)  # which BibTeX takes apart
    return f"{_bibtex_part(person.last)}, {_bibtex_part(person.first)}"


def _bibtex_part(part: str) -> str:
    """A comma or an "and" would be taken for the end of the name."""
    written = _tex(part)
    return f"{{{written}}}" if "," in part or re.search(r"\band\b", part, re.IGNORECASE) else written


def _tex(value: str) -> str:
    return _TEX_CHARACTERS.sub(lambda match: _TEX[match[0]], value)


def _in_braces(value: str) -> str:
    return f"{{{value}}}" if value else ""


def _address(value: str) -> str:
    """Addresses are typeset as they are; what would end the field is written as in a URL."""
    return re.sub(r"[\\{}]", lambda match: f"%{ord(match[0]):02X}", value)


# -- RIS ---------------------------------------------------------------------------

_RIS_TYPES = {
    "dataset": "DATA",
    "software": "COMP",
    "figure": "FIGURE",
    "media": "VIDEO",
    "presentation": "SLIDE",
    "thesis": "THES",
    "book": "BOOK",
    "chapter": "CHAP",
    "report": "RPRT",
    "journal contribution": "JOUR",
    "conference contribution": "CPAPER",
    "preprint": "UNPB",
    "online resource": "ELEC",
}


def ris(work: Work) -> str:
    """A reference for Zotero, EndNote, Mendeley: one tag a line."""
    fields = [
        ("TY", _RIS_TYPES.get(work.type.lower(), "GEN")),
        *(("AU", _ris_name(person)) for person in work.people),
        ("TI", work.title),
        ("PY", work.year),
        ("DA", work.date.replace("-", "/") + "/" if work.date else ""),
        ("PB", PUBLISHER),
        ("ET", work.version),
        ("DO", work.doi),
        ("UR", work.url),
        *(("KW", word) for word in work.keywords),
        ("AB", work.description),
        ("C1", work.license),
    ]
    return "".join(f"{tag}  - {value}\n" for tag, value in fields if value) + "ER  - \n"


def _ris_name(person: Person) -> str:
    """A comma is always before the first name: there is no way to write one in a name."""
    return person.sorted_name if person.first and person.last else person.name.replace(",", "")


# -- CFF ---------------------------------------------------------------------------

_CFF_DOI = re.compile(r"10\.\d{4,9}(\.\d+)?/[A-Za-z0-9:/_;\-.()\[\]\\]+")


def cff(work: Work) -> str:
    """A ``CITATION.cff`` 1.2.0. It knows two types: what is no software is a dataset."""
    kind = "software" if work.type.lower() == "software" else "dataset"
    written = [
        "cff-version: 1.2.0",
        f"message: {quoted(f'If you use this {kind}, please cite it as below.')}",
        f"type: {kind}",
        f"title: {quoted(work.title)}",
        "authors:",
        *(row for person in work.people or (Person("Anonymous"),) for row in _cff_person(person)),
    ]
    for name, value in (
        ("version", work.version),
        ("doi", work.doi if _CFF_DOI.fullmatch(work.doi) else ""),
        ("date-released", work.date if work.is_public else ""),
        ("url", work.url),
        ("license-url", work.license_url),
        ("abstract", work.description),
    ):
        if value:
            written.append(f"{name}: {quoted(value)}")
    if work.keywords:
        written += ["keywords:", *(f"  - {quoted(word)}" for word in work.keywords)]
    return "\n".join(written) + "\n"


def _cff_person(person: Person) -> list[str]:
    if person.first and person.last:
        fields = [("family-names", person.last), ("given-names", person.first)]
    else:
        fields = [("name", person.name)]
    if person.orcid:
        fields.append(("orcid", f"https://orcid.org/{person.orcid}"))
    rows = [f"{name}: {quoted(value)}" for name, value in fields]
    return [f"  - {rows[0]}", *(f"    {row}" for row in rows[1:])]
