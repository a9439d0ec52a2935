"""What is public across mounts, as a user sees it: versions are asked for once; without a network all that
was seen is there.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from processes import MakeMount, Mount, Sandbox, names, shell, wait_until
from test_mounted_public import Public

FROGS, RADAR = 20000005, 20000013
VERSIONS = (f"{FROGS}.v1", f"{FROGS}.v2", f"{RADAR}.v1")
AWAY = (r"WARNING figfs.mount: .*mounted from what is known", "cannot list .*last known listing is shown")


@pytest.fixture
def sandbox(make_sandbox: Callable[..., Sandbox]) -> Sandbox:
    return make_sandbox("example")


def walk(mount: Mount) -> str:
    """Names, sizes, times and bytes of three versions; what they say of themselves; where they are found."""
    articles = mount / "public" / "articles"
    script = 'ls -lR --time-style=full-iso "$1" "$2" "$3"; md5sum "$1"/* "$2"/* "$3"/*'
    told = shell(script, *VERSIONS, cwd=articles)
    for version in VERSIONS:
        told += shell(
            'cd "$1"; md5sum -c .figshare/md5sums; cd .figshare; cat metadata.json citation.* ro-crate*',
            version,
            cwd=articles,
        )
    return told


def test_a_version_is_asked_for_once(make_mount: MakeMount, sandbox: Sandbox) -> None:
    """Killed, mounted again, unmounted, mounted without a server."""
    mount = make_mount(sandbox=sandbox)
    seen = walk(mount)
    assert seen.count("README.txt: OK") == 2
    links = [
        os.readlink(mount / f"public/articles/{FROGS}.v1/.figshare/versions/{number}") for number in (1, 2)
    ]
    assert names(mount.articles)
    mount.remount()
    mount.kill()
    mount.start()
    sandbox.clear_requests()
    assert walk(mount) == seen
    own = mount.articles / "Frog calls of the Atlantic forest" / ".figshare/versions"
    assert names(own / "2") == {"README.txt", "annotations.csv", "calls_2019.zip"}
    assert not [each for each in sandbox.requests() if "/account" not in each["path"]]
    mount.unmount()
    sandbox.stop()
    mount.claim(*AWAY)
    mount.start()
    assert walk(mount) == seen
    assert names(own / "2") == {"README.txt", "annotations.csv", "calls_2019.zip"}
    assert (own / "1" / "README.txt").read_text() == "Recordings of 2019.\n"
    for number, link in enumerate(links, 1):
        assert os.readlink(mount / f"public/articles/{FROGS}.v1/.figshare/versions/{number}") == link
    mount.kill()
    mount.start()
    assert walk(mount) == seen


def test_killed_right_after_a_version_was_seen(make_mount: MakeMount, sandbox: Sandbox) -> None:
    """What is there of it is right, whether it is on the disk by then or not."""
    mount = make_mount(sandbox=sandbox)
    seen = ""
    for _ in range(3):
        told = walk(mount)
        assert not seen or told == seen
        seen = told
        mount.kill()
        mount.start()
    assert "damaged" not in mount.log()


def test_public_items_without_a_network_or_a_token(sandbox: Sandbox, tmp_path: Path) -> None:
    """``figfs mount --public``: items, DOIs and versions that were seen; what was not is unreachable."""
    mount = Public(sandbox, tmp_path / "mount", ["--public"])
    try:
        mount.start()
        doi = mount / f"public/doi/10.6084/m9.figshare.{FROGS}"
        seen = walk(mount), shell('ls -l "$1/"', doi), (doi / "README.txt").read_bytes()
        mount.remount()
        wait_until(lambda: names(doi), what="shown")
        mount.unmount()
        sandbox.stop()
        mount.claim("no connection")
        mount.start()
        assert (walk(mount), shell('ls -l "$1/"', doi), (doi / "README.txt").read_bytes()) == seen
        told = shell('ls "$1" 2>&1', mount / f"public/articles/{RADAR}", code=2)
        assert "No route to host" in told
    finally:
        mount.end()


def test_the_documents_of_a_public_mount(sandbox: Sandbox, tmp_path: Path) -> None:
    """``.figshare`` at its root: what needs no token."""
    mount = Public(sandbox, tmp_path / "mount", ["--public"])
    try:
        mount.start()
        assert names(mount / ".figshare") == {"licenses.json", "categories.json", "status.json"}
        assert ".figshare" not in names(mount.path)
        licenses = json.loads((mount / ".figshare/licenses.json").read_bytes())
        assert "CC BY 4.0" in {license_["name"] for license_ in licenses}
        assert len(json.loads((mount / ".figshare/categories.json").read_bytes())) > 5
        assert json.loads((mount / ".figshare/status.json").read_bytes())["owed"] == 0
        assert not [each for each in sandbox.requests() if "/account" in each["path"]]
        mount.unmount()
        mount.options = ["--public", "-o", "show-dotfigshare"]
        mount.start()
        assert names(mount.path) == {"public", "search", ".figshare"}
    finally:
        mount.end()
