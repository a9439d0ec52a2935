"""Projects shared with the account, and embargoed files, through a real mount."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable

from processes import MakeMount, Sandbox, errno_of, names, run, shell

ICE, BALANCE, FROGS = 150001, 20000001, 20000005


def test_a_project_shared_with_a_viewer(
    make_sandbox: Callable[..., Sandbox], make_mount: MakeMount, needs: Callable[..., None]
) -> None:
    """README: 0444 and 0555; every change is EACCES at once, with the reason in the log; all is read, and
    notes are written."""
    needs("rsync")
    sandbox = make_sandbox("example")
    sandbox.ask("POST", "/_sandbox/share", {"project": ICE, "role": "Viewer"})
    mount = make_mount(sandbox=sandbox)
    project = mount / f"projects/{ICE}"
    article = mount / f"projects/{ICE}/{BALANCE}"
    before = names(article)
    told = shell('stat -c "%a" "$1" "$2" "$2/data" "$2/README.md"', project, article)
    assert told.split() == ["555", "555", "555", "444"]
    for act in (
        lambda: (article / "new").write_bytes(b"x"),
        lambda: (article / "README.md").write_bytes(b"x"),
        lambda: (article / "README.md").unlink(),
        lambda: (article / "README.md").rename(article / "other"),
        lambda: (article / "new").mkdir(),
        lambda: (project / "New article").mkdir(),
        lambda: article.rename(project / "Another"),
        lambda: project.rename(mount / "projects/Another"),
        lambda: article.rmdir(),
        lambda: os.chmod(article / "README.md", 0o600),
    ):
        assert errno_of(act) == errno.EACCES
    assert "Permission denied" in run("cp", "/etc/hostname", article / "x", code=1).stderr
    assert run("rm", "-rf", article, code=1).stderr.count("Permission denied") > 1
    assert names(article) == before
    told = "WARNING.* is shared with this account as a viewer only$"
    assert len(re.findall(told, mount.log(), re.MULTILINE)) == 1
    mount.claim("is shared with this account as a viewer only")
    copy = mount.base / "copy"
    run("rsync", "-a", f"{article}/data/", f"{copy}/")
    assert (copy / "2019/stakes.csv").read_bytes() == (article / "data/2019/stakes.csv").read_bytes()
    assert [entry for entry in sandbox.requests("api") if entry["method"] != "GET"] == []
    notes = project / ".figshare/notes"
    (notes / "remark").write_text("A viewer writes notes.\n")
    assert names(notes) == {"1 A viewer writes notes.txt"}


def test_files_under_an_embargo(make_sandbox: Callable[..., Sandbox], make_mount: MakeMount) -> None:
    """README: the public directory says why it is empty; the owner reads on."""
    sandbox = make_sandbox("example")
    until = {"article": FROGS, "until": "2027-01-01T00:00:00"}
    sandbox.ask("POST", "/_sandbox/embargo", until)
    mount = make_mount(sandbox=sandbox)
    public = mount / f"public/articles/{FROGS}"
    assert names(public) == set()
    assert os.getxattr(public, "user.figshare.state") == b"embargoed until 2027-01-01"
    own = mount / f"articles/{FROGS}"
    assert os.getxattr(own, "user.figshare.state") == b"clean"
    assert (own / "README.txt").read_text() == "Recordings of 2019 and their annotations.\n"


def test_anothers_files_under_an_embargo(make_sandbox: Callable[..., Sandbox], make_mount: MakeMount) -> None:
    """README: EACCES at ``open``, with the reason in ``user.figshare.state`` and the log."""
    sandbox = make_sandbox("example")
    sandbox.ask("POST", f"/v2/account/articles/{BALANCE}/publish")
    sandbox.ask("POST", "/_sandbox/embargo", {"article": BALANCE, "until": ""})
    sandbox.ask("POST", "/_sandbox/share", {"project": ICE, "role": "Collaborator"})
    mount = make_mount(sandbox=sandbox)
    path = mount / f"projects/{ICE}/{BALANCE}/README.md"
    assert path.stat().st_size > 0
    assert errno_of(path.read_bytes) == errno.EACCES
    assert os.getxattr(path, "user.figshare.state") == b"embargoed for good"
    assert errno_of((path.parent / "rasters/dem_2023.tif").read_bytes) == errno.EACCES
    told = "WARNING.* are another's, and embargoed for good$"
    assert len(re.findall(told, mount.log(), re.MULTILINE)) == 1
    mount.claim("are another's, and embargoed for good")
    assert [entry for entry in sandbox.requests() if "download" in entry["path"]] == []
