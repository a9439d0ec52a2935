"""``public/doi/``: DOIs of every portal's shape, through a real mount; no token is needed."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from processes import Mount, Sandbox, errno_of, names, run

FROGS, RADAR, COLLECTION = 20000005, 20000013, 6000001
READY = {"description": "Ice, and climate", "tags": ["ice"], "categories": [24002]}


class Public(Mount):
    """``figfs mount --public``, with no token anywhere."""

    def environment(self) -> dict[str, str]:
        found = super().environment()
        del found["FIGFS_TOKEN"]
        return found


@pytest.fixture
def sandbox(make_sandbox: Callable[..., Sandbox]) -> Sandbox:
    sandbox = make_sandbox("example")
    sandbox.change_settings(search_lag=0)
    return sandbox


@pytest.fixture
def dois(sandbox: Sandbox, tmp_path: Path) -> Iterator[Path]:
    """``public/doi`` of a mount."""
    mount = Public(sandbox, tmp_path / "mount", ["--public"])
    mount.claim("no public item of")
    try:
        yield mount.start() / "public" / "doi"
    finally:
        mount.end()


@pytest.mark.parametrize(
    ("doi", "typed"),
    [
        ("10.17028/rd.lboro.{id}", "10.17028/rd.lboro.{id}"),
        ("10.17028/rd.lboro.{id}", "10.17028/RD.Lboro.{id}"),
        ("10.25376/hra.{id}", "10.25376/hra.{id}"),
        ("10.25384/sage.{id}", "10.25384/sage.{id}"),
        ("10.25384/SAGE.{id}", "10.25384/sage.{id}"),
        ("10.1234/uni.thesis.{id}", "10.1234/uni.thesis.{id}"),
        ("10.1234.5/uni-x_y.{id}", "10.1234.5/uni-x_y.{id}"),
        ("10.1234/uni/thesis/{id}", "10.1234/uni%2Fthesis%2f{id}"),
        ("10.1234/uni/thesis/{id}", "10.1234/uni\u2215thesis\u2215{id}"),
        ("10.1234/(ice)<1>.{id}", "10.1234/%28ice%29%3C1%3E.{id}"),
    ],
)
def test_an_articles_doi(doi: str, typed: str, sandbox: Sandbox, dois: Path) -> None:
    """With and without ``.v<N>``, in upper or lower case; the id at its end is guessed: one request."""
    sandbox.ask("POST", "/_sandbox/doi", {"article": FROGS, "doi": doi.format(id=FROGS)})
    path = dois / typed.format(id=FROGS)
    sandbox.clear_requests()
    assert os.readlink(path) == f"../../articles/{FROGS}"
    assert names(path) == {"README.txt", "annotations.csv", "calls_2019.zip"}
    assert [entry["path"] for entry in sandbox.requests("api")] == [f"/v2/articles/{FROGS}"]
    for mark, text in ((".v1", "Recordings of 2019.\n"), (".V2", None)):
        version = path.with_name(path.name + mark)
        assert os.readlink(version) == f"../../articles/{FROGS}{mark.lower()}"
        if text is not None:
            assert (version / "README.txt").read_text() == text
    assert errno_of(path.with_name(f"{path.name}.v3").stat) == errno.ENOENT
    assert names(path.parent) == set()


@pytest.mark.parametrize("case", [str.lower, str.upper, str])
@pytest.mark.parametrize(
    ("doi", "typed"),
    [
        ("10.1234/uni.thesis.a17", "10.1234/uni.thesis.a17"),
        ("10.1234/uni.thesis.5678", "10.1234/uni.thesis.5678"),  # an id, of nothing
        (f"10.1234/uni.thesis.{RADAR}", f"10.1234/uni.thesis.{RADAR}"),  # the id of something else
        ("10.1234/uni/2024/ice", "10.1234/uni%2F2024%2Fice"),
    ],
)
def test_a_doi_that_does_not_end_in_the_id(
    doi: str, typed: str, case: Callable[[str], str], sandbox: Sandbox, dois: Path
) -> None:
    """The filter of the lists finds it: of an item that has it as it is, whatever the version."""
    sandbox.ask("POST", "/_sandbox/doi", {"article": FROGS, "doi": doi, "versioned": False})
    path = dois / case(typed)
    assert os.readlink(path) == f"../../articles/{FROGS}"
    assert os.readlink(path.with_name(f"{path.name}.v1")) == f"../../articles/{FROGS}.v1"
    assert "calls_2019.zip" in names(path)


@pytest.mark.parametrize(
    "doi",
    [
        "10.6084/m9.figshare.c.{id}",
        "10.17028/rd.lboro.c.{id}",
        "10.25384/sage.c.{id}",
        "10.1234/uni/c.{id}",
        "10.1234/selected.papers7",
    ],
)
def test_a_collections_doi(doi: str, sandbox: Sandbox, dois: Path) -> None:
    """``.c.`` tells a collection, and the record that it is this one; its versions lead to the latest."""
    path = f"/v2/account/collections/{COLLECTION}"
    sandbox.ask("PATCH", path, READY)
    sandbox.ask("POST", f"{path}/publish")
    doi = doi.format(id=COLLECTION)
    plain = not doi.endswith(str(COLLECTION))
    sandbox.ask("POST", "/_sandbox/doi", {"collection": COLLECTION, "doi": doi, "versioned": not plain})
    prefix, _, suffix = doi.partition("/")
    link = dois / prefix / suffix.replace("/", "%2F")
    for each in (link, link.with_name(link.name.upper()), link.with_name(f"{link.name}.v1")):
        assert os.readlink(each) == f"../../collections/{COLLECTION}"
    assert names(link) == {"Airborne radar of the same glacier", "Frog calls of the Atlantic forest"}


def test_a_portals_own_dois(sandbox: Sandbox, dois: Path, tmp_path: Path) -> None:
    """An article that is published there gets one; ``figfs info`` tells it of the link."""
    sandbox.change_settings(doi_stem="10.17028/rd.lboro")
    sandbox.ask("PATCH", "/v2/account/articles/20000006", READY)
    sandbox.ask("POST", "/v2/account/articles/20000006/publish")
    path = dois / "10.17028" / "rd.lboro.20000006"
    assert names(path) == {"supplement.pdf"}
    citation = path / ".figshare" / "citation.bib"
    assert "doi          = {10.17028/rd.lboro.20000006.v1}" in run("cat", citation).stdout


@pytest.mark.parametrize(
    "typed",
    [f"10.5281/zenodo.{FROGS}", f"10.17028/rd.lboro.c.{FROGS}", f"10.6084/m9.figshare.{FROGS}.v3", "10.1/x1"],
)
def test_a_doi_of_another_repository(typed: str, sandbox: Sandbox, dois: Path) -> None:
    """ENOENT, and asked for once a minute; the reason is in the log, unless it is none at all."""
    path, log = dois / typed, dois.parent.parent.parent / "log"
    assert errno_of(path.stat) == errno.ENOENT
    if typed == "10.1/x1":  # no registrant has one digit
        assert sandbox.requests("api", "GET", "/(articles|collections)") == []
        return
    assert f"has the DOI {typed}" in log.read_text()
    sandbox.clear_requests()
    assert errno_of(path.stat) == errno.ENOENT
    assert sandbox.requests("api") == []
