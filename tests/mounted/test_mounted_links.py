"""Symlinks through a real mount: collections built with ln, linked files made by ln, cp and rsync."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from processes import Article, MakeMount, Mount, errno_of, names, new_article, run, title_of

URL = "https://data.example.org/ice/extent.nc"
OTHER = "https://data.example.org/ice/thickness.nc"
GUEST = "Airborne radar of the same glacier"


@pytest.fixture
def mount(make_mount: MakeMount) -> Mount:
    return make_mount("--grace", "0.2")


@pytest.fixture
def article(mount: Mount, request: pytest.FixtureRequest) -> Article:
    return new_article(mount, title_of(request))


def members(mount: Mount, title: str) -> list[int]:
    [found] = [each for each in mount.sandbox.account()["collections"] if each["title"] == title]
    ids: list[int] = found["articles"]
    return ids


def test_a_collection_built_with_ln(mount: Mount, article: Article) -> None:
    """``ln -s``, ``ln -sr``, an absolute path, ``ln -sf`` twice; ``rm -r`` ends it, and no article."""
    article.put({"f": b"content"})
    collection = mount / "collections" / "A selection"
    collection.mkdir()
    run("ln", "-s", f"../../articles/{article.title}", collection)
    assert members(mount, "A selection") == [article.id]
    assert (collection / article.title / "f").read_bytes() == b"content"
    assert errno_of(lambda: os.symlink(str(article.id), collection / "again")) == errno.EEXIST
    run("rm", collection / article.title)
    assert members(mount, "A selection") == []
    run("ln", "-sr", article.path, collection / "mine")
    run("ln", "-sfn", article.path, collection / "mine")
    assert members(mount, "A selection") == [article.id]
    second = new_article(mount, "second of them")
    run("ln", "-s", second.path, collection)
    assert sorted(members(mount, "A selection")) == sorted([article.id, second.id])
    mount.claim("the link /collections/A selection/x is refused: there is no '../../articles/nothing'")
    assert errno_of(lambda: os.symlink("../../articles/nothing", collection / "x")) == errno.EINVAL
    assert errno_of(lambda: os.rename(collection / "mine", collection / "yours")) == errno.EPERM
    run("rm", "-r", collection)
    article.holds({"f": b"content"})
    assert {article.title, second.title} <= names(mount.articles)


def test_rsync_and_cp_of_linked_files(article: Article, tmp_path: Path) -> None:
    """Twice, then with another URL, which replaces; and back out of the mount."""
    source = tmp_path / "source"
    source.mkdir()
    link = source / "extent.nc"
    for url in (URL, OTHER):
        link.unlink(missing_ok=True)
        link.symlink_to(url)
        run("rsync", "-a", f"{source}/", article.path)
        assert os.readlink(article / "extent.nc") == url
        assert run("rsync", "-ai", f"{source}/", article.path).stdout == ""
    assert [name for name, *_ in article.remote()] == ["extent.nc"]
    run("rsync", "-aX", f"{article.path}/", tmp_path / "copy")
    assert os.readlink(tmp_path / "copy" / "extent.nc") == OTHER
    other = new_article(article.mount, article.title + " again")
    for _ in range(2):
        run("cp", "-a", link, other.path)
    assert os.readlink(other / "extent.nc") == OTHER
    article.mount.remount()
    assert os.readlink(other / "extent.nc") == OTHER
    assert names(article.path) == {"extent.nc"}


def test_ln_of_a_url(article: Article) -> None:
    """``ln -s``, ``ln -sf``, ``mv``, ``rm``; what is no URL, and an article with files, are refused."""
    run("ln", "-s", URL, article / "ice.nc")
    assert os.readlink(article / "ice.nc") == URL
    run("ln", "-sf", OTHER, article / "ice.nc")
    assert os.readlink(article / "ice.nc") == OTHER
    run("mv", article / "ice.nc", article / "sea ice.nc")
    assert [name for name, *_ in article.remote()] == ["sea ice.nc"]
    article.mount.claim("/x is refused: 'file:///etc/passwd': a link in an article leads to an http, https")
    assert errno_of(lambda: os.symlink("file:///etc/passwd", article / "x")) == errno.EINVAL
    run("rm", article / "sea ice.nc")
    article.will_hold({})
    article.put({"f": b"x"})
    article.mount.claim("422 FilesExist")
    assert errno_of(lambda: os.symlink(URL, article / "x")) == errno.EINVAL
    assert names(article.path) == {"f"}
