"""Titles of articles, projects and collections, as directories are made and renamed (semantics.md): too
short, too long, HTML.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from processes import FIGFS, MakeMount, Mount, Sandbox, errno_of, names, run

PROJECT = "projects/Glacier mass balance 2019–2023"
PLACES = ["articles", "projects", "collections", PROJECT]
KINDS = {"articles": "article", "projects": "project", "collections": "collection", PROJECT: "article"}
WATER = "H<sub>2</sub>O &amp; CO<sub>2</sub> fluxes <i>in situ</i>"


@pytest.fixture
def mount(make_mount: MakeMount, make_sandbox: Callable[..., Sandbox]) -> Mount:
    """The example account."""
    return make_mount(sandbox=make_sandbox("example"))


def figfs(mount: Mount, *words: str | Path) -> str:
    return run(*FIGFS, *words, "--state-dir", mount.state, env=mount.environment()).stdout


def titles(mount: Mount, where: str) -> set[str]:
    kind = f"{KINDS[where]}s"
    return {item["title"] for item in mount.sandbox.account()[kind]}


@pytest.mark.parametrize("where", PLACES)
def test_too_short(mount: Mount, where: str) -> None:
    """Fewer than three characters, white space at the ends apart: EINVAL, mkdir and rename; the log has the
    reason and the path. Nothing is made.
    """
    mount.claim("Figshare takes no title of fewer than 3 characters")
    place = mount / where
    good = place / "Long enough"
    good.mkdir()
    before, shown = titles(mount, where), names(place)
    for short in ("a", "ab", "  ", " ", " a ", "日本", "<>"):
        for act in ((place / short).mkdir, lambda short=short: good.rename(place / short)):
            assert errno_of(act) == errno.EINVAL
        assert f"(/{where}/{short}): Figshare takes no title" in mount.log()
    assert (titles(mount, where), names(place)) == (before, shown)
    (place / "日本語").mkdir()
    assert "日本語" in titles(mount, where)


@pytest.mark.parametrize("where", PLACES)
def test_too_long(mount: Mount, where: str) -> None:
    """A name of more than 255 bytes is ENAMETOOLONG; what Figshare finds too long is EINVAL in its words."""
    mount.claim("must have 3 to 1000 characters")
    place = mount / where
    good = place / ("é" * 127)
    good.mkdir()
    before = titles(mount, where)
    assert good.name in before
    escaped = "<b>" + "&" * 252  # each sent as five characters, so that it is not read as HTML
    for name, number in (("é" * 128, errno.ENAMETOOLONG), (escaped, errno.EINVAL)):
        for act in ((place / name).mkdir, lambda name=name: good.rename(place / name)):
            assert errno_of(act) == number
    assert titles(mount, where) == before
    assert good.name in names(place)


@pytest.mark.parametrize("where", PLACES)
def test_html(mount: Mount, where: str) -> None:
    """What is made here keeps its name, HTML or not; what others have written shows as its text."""
    place = mount / where
    for name in ("a & b", "a < b & c > d", "<i>water<∕i> 2∕3", "&lt;gene&gt; & <gene>", " spaced "):
        (place / name).mkdir()
        assert name in names(place)
        card = json.loads(figfs(mount, "info", "--json", place / name))
        assert (card["kind"], card["name"].strip()) == (KINDS[where], name.replace("∕", "/").strip())
        assert card["title"] in titles(mount, where)
        assert names(place / name) == set()
    mount.remount()
    assert {"a < b & c > d", "<i>water<∕i> 2∕3", "&lt;gene&gt; & <gene>", " spaced "} <= names(place)
    renamed = place / "<b>bold<∕b>"
    (place / "a & b").rename(renamed)
    assert "&lt;b&gt;bold&lt;/b&gt;" in titles(mount, where)
    number = json.loads(figfs(mount, "info", "--json", renamed))["id"]
    kind = KINDS[where]
    mount.sandbox.ask("PATCH", f"/v2/account/{kind}s/{number}", {"title": WATER})
    figfs(mount, "refresh", place)
    shown = place / "H2O & CO2 fluxes in situ"
    if where == "articles":  # there is one of that title
        shown = place / f"{shown.name} [{number}]"
    assert shown.name in names(place)
    said = figfs(mount, "info", shown)
    assert said.startswith("H2O & CO2 fluxes in situ\n")
    if kind != "project":
        done = run(
            *FIGFS, "publish", "--dry-run", shown, "--state-dir", mount.state, env=mount.environment(), code=1
        )
        assert "title" in done.stdout
        assert "<sub>" not in done.stdout


@pytest.mark.parametrize("where", PLACES)
def test_in_the_metadata(mount: Mount, where: str) -> None:
    """A title of two, or of a thousand and one characters: EINVAL at close, ``last-error`` says what and how
    many; one of a thousand is taken, and the directory's name is cut.
    """
    mount.claim("flush of inode")
    path = mount / where / "Long enough"
    path.mkdir()
    inode = os.stat(path).st_ino
    document = path / ".figshare/metadata.json"
    for title in ("ab", "x" * 1001):
        assert errno_of(lambda title=title: document.write_text(json.dumps({"title": title}))) == errno.EINVAL
        said = (path / ".figshare/last-error").read_text()
        assert f"title: has {len(title):,} characters, Figshare takes 3 to 1,000" in said
    assert "Long enough" in titles(mount, where)
    document.write_text(json.dumps({"title": "é" * 1000}))
    assert "é" * 1000 in titles(mount, where)
    assert "é" * 127 in names(mount / where)
    assert os.stat(mount / where / ("é" * 127)).st_ino == inode
