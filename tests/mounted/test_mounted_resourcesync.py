"""Public articles through a real mount, on a portal that tells what has changed, and on one that does not."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable

import pytest
from processes import MakeMount, Mount, Sandbox, errno_of, shell, wait_until

COUNT = 50
FRESH = 2  #: seconds for which a listing is fresh
WELL_KNOWN = "/.well-known/resourcesync"
LISTS = "/figshareresourcesync"


@pytest.fixture
def portal(make_sandbox: Callable[..., Sandbox]) -> Sandbox:
    return make_sandbox("empty")


def published(sandbox: Sandbox) -> list[int]:
    return sandbox.seed(count=COUNT, files=[100], published=True)


def walk(mount: Mount, ids: list[int]) -> list[str]:
    """``ls`` of all of them; what that has cost."""
    mount.sandbox.clear_requests()
    shown = shell('cd "$1" && shift && ls "$@"', mount / "public/articles", *map(str, ids))
    assert shown.count("file-0001.bin") == len(ids)
    return asked(mount.sandbox)


def asked(sandbox: Sandbox) -> list[str]:
    return [entry["path"] for entry in sandbox.requests()]


def get_old() -> None:
    """Listings get old by nothing but time."""
    time.sleep(FRESH + 0.5)


def items(ids: list[int]) -> set[str]:
    return {f"/v2/articles/{number}" for number in ids}


def test_fifty_articles_cost_one_request(portal: Sandbox, make_mount: MakeMount) -> None:
    """README: looked at again, many public articles cost the list of changes, and what is in that."""
    ids = published(portal)
    mount = make_mount("--dir-timeout", str(FRESH), sandbox=portal)
    first = walk(mount, ids)
    assert items(ids) <= set(first)
    get_old()
    found = walk(mount, ids)
    assert found == [WELL_KNOWN, f"{LISTS}/capabilitylist.xml", f"{LISTS}/changelist.xml"]
    get_old()
    assert walk(mount, ids) == [f"{LISTS}/changelist.xml"]

    title = "Another title, and another version"
    portal.ask("PUT", f"/v2/account/articles/{ids[3]}", {"title": title})
    portal.ask("POST", f"/v2/account/articles/{ids[3]}/publish")
    get_old()
    assert walk(mount, ids) == [f"{LISTS}/changelist.xml", f"/v2/articles/{ids[3]}"]
    seen = mount / f"public/articles/{ids[3]}"
    assert os.getxattr(seen, "user.figshare.version") == b"2"

    portal.ask("POST", "/_sandbox/withdraw", {"article": ids[5]})
    get_old()
    gone = mount / f"public/articles/{ids[5]}"
    wait_until(lambda: not gone.exists(), what="the withdrawn article is gone")
    assert errno_of(lambda: os.listdir(gone)) == errno.ENOENT
    mount.claim("no public article", "was public, and is withdrawn")


def test_a_remount_asks_the_list(portal: Sandbox, make_mount: MakeMount) -> None:
    """Fifty articles that an earlier mount has shown: the list, and a few of them to be on the safe side."""
    ids = published(portal)
    mount = make_mount(sandbox=portal)
    walk(mount, ids)
    mount.remount()
    walk(mount, ids)
    wait_until(lambda: f"{LISTS}/changelist.xml" in asked(portal), what="the list was asked for")
    assert {WELL_KNOWN, f"{LISTS}/capabilitylist.xml"} < set(asked(portal))
    time.sleep(1)  # for what might come behind
    assert len(asked(portal)) <= 12


def test_a_portal_without_it_is_no_error(portal: Sandbox, make_mount: MakeMount) -> None:
    """One question a mount; each article is asked for as ever."""
    ids = published(portal)
    portal.change_settings(resourcesync=False)
    mount = make_mount("--dir-timeout", str(FRESH), sandbox=portal)
    walk(mount, ids)
    get_old()
    second = walk(mount, ids)
    assert second.count(WELL_KNOWN) == 1
    assert set(second) == {WELL_KNOWN, *items(ids)}
    assert len(second) == COUNT + 1
    get_old()
    assert set(walk(mount, ids)) == items(ids)
    assert "Traceback" not in mount.log()


def test_no_token_reaches_the_portal(portal: Sandbox, make_mount: MakeMount) -> None:
    """A mount for oneself asks what a mount for anyone asks; the log holds no secret either."""
    ids = published(portal)
    mount = make_mount("--dir-timeout", str(FRESH), sandbox=portal)
    walk(mount, ids)
    get_old()
    assert WELL_KNOWN in walk(mount, ids)
    assert portal.token not in mount.log()
