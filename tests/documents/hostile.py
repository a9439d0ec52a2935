"""Records of any shape, as a hostile or broken server may send them. For Hypothesis."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

ODD = (
    "\x1b[31mred",
    "a\x00b",
    "line\nline\r\nline\tend",
    "\u202eevil\u202c",
    "\u2028\u2029\x85",
    "\ud800 half",
    "{unbalanced",
    "back\\slash",
    "quote \" and ' and `",
    "# 100% & $5_000 ~ ^",
    "<b>bold</b> &amp; &#27;[0m",
    "../../etc/passwd",
    "- key: [value]",
    "ER  - ",
    "x" * 60_000,
    "10.6084/m9.figshare.7.v2",
    "2024-05-20T14:45:00Z",
    "2024-02-31",
    "https://example.org/a b",
    "javascript:alert(1)",
    "0000-0002-1825-0097",
)
texts = st.sampled_from(ODD) | st.text(max_size=30)
scalars = (
    st.none() | st.booleans() | st.integers() | st.floats() | texts | st.sampled_from((1 << 70, -1, 1e308))
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
_people = st.lists(
    st.fixed_dictionaries(
        {},
        optional=dict.fromkeys(
            ("id", "full_name", "name", "first_name", "last_name", "orcid_id"), texts | scalars
        ),
    )
    | values,
    max_size=4,
)
_license = st.fixed_dictionaries({}, optional=dict.fromkeys(("value", "name", "url"), scalars)) | values

_FIELDS = (
    *("id", "title", "doi", "url", "figshare_url", "url_public_html", "version", "defined_type_name"),
    *("description", "citation", "published_date", "modified_date", "created_date", "is_public"),
)

#: Metadata whose known fields hold what they should, or anything.
records: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(_FIELDS, scalars | values),
        "authors": _people | values,
        "collaborators": _people,
        "license": _license,
        "keywords": st.lists(texts, max_size=4) | values,
        "tags": values,
        "fields": values,
    },
)
files = st.lists(
    st.fixed_dictionaries(
        {
            "id": st.integers(1, 50),
            "name": texts,
            "size": scalars,
            "computed_md5": st.sampled_from(("d41d8cd98f00b204e9800998ecf8427e", "", "no md5\n", None)),
            "is_link_only": st.booleans(),
            "download_url": texts,
            "mimetype": texts | scalars,
        }
    ),
    max_size=6,
    unique_by=lambda file: file["id"],
)
folders = st.dictionaries(st.integers(1, 50).map(str), texts, max_size=6)
