"""What no verb may do, through a real mount: lose, or change, what its user did not mean."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from processes import Article, MakeMount, Mount, errno_of, names, new_article, run, title_of, wait_until


@pytest.fixture
def mount(make_mount: MakeMount) -> Mount:
    return make_mount("--grace", "0.2")


@pytest.fixture
def article(mount: Mount, request: pytest.FixtureRequest) -> Article:
    return new_article(mount, title_of(request))


def test_a_file_called_like_an_id(article: Article, tmp_path: Path) -> None:
    """``cp``, ``mv`` and ``rm`` of a number are of a file of that name, not of the file that has that id."""
    article.put({"data.csv": b"the only copy"})
    number = os.getxattr(article / "data.csv", "user.figshare.id").decode()
    (tmp_path / "f").write_bytes(b"another file")
    run("cp", tmp_path / "f", article / number)
    article.shows({"data.csv": b"the only copy", number: b"another file"})
    run("rm", article / number)
    (article / "tmp").write_bytes(b"a third file")
    run("mv", "-f", article / "tmp", article / number)
    assert names(article.path) == {"data.csv", number}
    article.will_hold({"data.csv": b"the only copy", number: b"a third file"})


def test_a_url_that_climbs(article: Article) -> None:
    """A target is a relative path, and a folder may be called "http:": no link leads out of the mount."""
    (article / "http:").mkdir()
    climbing = "http://" + "../" * 12 + "etc/hostname"
    article.mount.claim("which the system would follow")
    assert errno_of(lambda: os.symlink(climbing, article / "x")) == errno.EINVAL
    made = f"/v2/account/articles/{article.id}/files"
    article.sandbox.ask("POST", made, {"link": climbing, "name": "x"})
    article.mount.remount()
    assert os.readlink(article / "x") == climbing.replace("..", "%2E%2E")
    assert errno_of(lambda: (article / "x").stat()) == errno.ENOENT
    assert os.path.realpath(article / "x").startswith(str(article.path))


def test_rm_of_an_article_that_somebody_fills(article: Article, make_mount: MakeMount) -> None:
    """A file that another machine has closed, and that Figshare is still putting together, is not shown:
    ``rm -r`` does not delete it with its article.
    """
    article.sandbox.change_settings(assembly_delay=2.0)
    elsewhere = make_mount("--close-timeout", "0", sandbox=article.sandbox)
    (elsewhere.articles / article.title / "f").write_bytes(b"the only copy")
    wait_until(lambda: [status for *_, status in article.remote()] == ["ic_checking"])
    assert names(article.path) == set()
    article.mount.claim("Figshare has files in it that are not shown: 'f' .ic_checking.")
    assert "not empty" in run("rm", "-r", article.path, code=1).stderr
    article.will_hold({"f": b"the only copy"})


def test_what_is_written_through_a_collection(mount: Mount) -> None:
    """Reaches the member, whatever it is called by now, and not the article that has its title now."""
    old = new_article(mount, "gamma")
    link = mount / "collections" / "Sel" / "gamma"
    link.parent.mkdir()
    link.symlink_to("../../articles/gamma")
    assert os.readlink(link) == "../../articles/gamma"
    run("mv", old.path, mount.articles / "gamma of 2023")
    new_article(mount, "gamma")
    (link / "results.csv").write_bytes(b"new")
    assert mount.sandbox.remote_files("gamma") == []
    assert [name for name, *_ in mount.sandbox.remote_files("gamma of 2023")] == ["results.csv"]
    assert os.readlink(link) == "../../articles/gamma of 2023"
