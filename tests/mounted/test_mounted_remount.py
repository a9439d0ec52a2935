"""Listings on disk, as a user sees them: remounts, offline, after changes elsewhere, after kill -9."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest
from processes import (
    FIGFS,
    MakeMount,
    Mount,
    Sandbox,
    content,
    errno_of,
    names,
    run,
    shell,
    stored,
    wait_until,
)

AWAY = (r"WARNING figfs.mount: .*mounted from what is known", "cannot list .*last known listing is shown")


def walk(mount: Mount) -> str:
    """Without times: directories that Figshare has no date for bear that of the mount."""
    return shell('ls -lR --time-style=+ "$1"', mount.path)


def a_tree(sandbox: Sandbox, *, projects: int, articles: int, files: int) -> None:
    """Half of the articles are in projects."""
    each = articles // 2 // projects
    for number in range(projects):
        made = sandbox.ask("POST", "/v2/account/projects", {"title": f"Project {number:03}"})
        sandbox.seed(count=each, project_id=made["entity_id"], file_count=files, title=f"Of {number}")
    sandbox.seed(count=articles - each * projects, file_count=files)


def status(mount: Mount) -> dict[str, object]:
    told = run(*FIGFS, "status", "--json", mount.path, env=mount.environment()).stdout
    report: dict[str, object] = json.loads(told)
    return report


def test_requests_of_a_walk_and_of_one_after_a_remount(make_mount: MakeMount) -> None:
    """50 projects, 1,000 articles, 5,000 files (issue 5, Seen by 3)."""
    mount = make_mount(start=False)
    a_tree(mount.sandbox, projects=50, articles=1000, files=5)
    mount.sandbox.clear_requests()
    mount.start()
    seen = walk(mount)
    assert seen.count("file-0005.bin") == 1000
    assert len(mount.sandbox.requests("api")) <= 10 + 50 + 2 * 1000
    mount.unmount()
    mount.sandbox.clear_requests()
    mount.start()
    assert walk(mount) == seen
    wait_until(lambda: mount.sandbox.requests(path="/account/collections$"), what="refreshed behind")
    assert len(mount.sandbox.requests()) <= 10
    assert walk(mount) == seen
    assert len(mount.sandbox.requests()) <= 10


def test_without_a_network_and_back(make_mount: MakeMount, make_sandbox: object, tmp_path: Path) -> None:
    """Mounted from disk; what is cached is read; what is written waits; then it goes on by itself."""
    sandbox = Sandbox(tmp_path / "first", seed="empty", kept=tmp_path / "kept")
    port = sandbox.api.rpartition(":")[2].partition("/")[0]
    mount = make_mount(sandbox=sandbox)
    article = mount.articles / "Ice"
    article.mkdir()
    data, more = content("old", 300_000), content("new", 200_000)
    (article / "old").write_bytes(data)
    seen = walk(mount)
    mount.unmount()
    sandbox.stop()

    mount.options = ["--close-timeout", "1"]
    mount.claim(*AWAY)
    mount.start()
    assert walk(mount) == seen
    assert (article / "old").read_bytes() == data
    assert "no connection" in str(status(mount)["away"])
    told = run(*FIGFS, "status", mount.path, env=mount.environment()).stdout
    assert "without Figshare until it answers" in told
    (article / "new").write_bytes(more)
    assert (article / "new").read_bytes() == more
    assert errno_of(lambda: (mount.articles / "another").mkdir()) != 0
    assert mount.log().count("mounted from what is known of the account") == 1

    with (tmp_path / "again.err").open("wb") as errors:
        again = subprocess.Popen(
            [*FIGFS, "sandbox", "--port", port, "--dir", str(tmp_path / "kept")],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=mount.environment(),
        )
    try:
        assert again.stdout is not None
        assert again.stdout.readline()
        wait_until(lambda: status(mount)["away"] is None, 40, "Figshare has answered")
        run(*FIGFS, "wait", mount.path, env=mount.environment())
        assert sandbox.remote_files("Ice") == stored({"old": data, "new": more})
        (mount.articles / "another").mkdir()
        mount.claim("not stored yet|no connection")
        mount.end()
    finally:
        again.terminate()
        assert again.stdout is not None
        again.stdout.close()
        assert again.wait(20) == 0


def test_a_token_that_is_refused_mounts_nothing(make_mount: MakeMount) -> None:
    """Though the account is known: the server has answered."""
    mount = make_mount()
    mount.unmount()
    mount.sandbox.set_faults([{"role": "api", "path": "/account$", "action": "status", "status": 401}])
    told = run(*mount.command(), mount.path, env=mount.environment(), code=1)
    assert "refuses the token" in told.stderr


def test_nothing_known_and_no_network(make_mount: MakeMount) -> None:
    mount = make_mount(start=False, api="http://127.0.0.1:1/v2")
    mount.path.mkdir(parents=True)
    told = run(*mount.command(), mount.path, env=mount.environment(), code=1)
    assert "cannot reach the account" in told.stderr


def test_changes_elsewhere_are_seen_after_the_refresh(make_mount: MakeMount) -> None:
    mount = make_mount()
    for name in ("Ice", "Old title"):
        (mount.articles / name).mkdir()
        (mount.articles / name / "f").write_bytes(b"first")
    mount.remount()
    walk(mount)
    mount.unmount()
    sandbox = mount.sandbox
    sandbox.ask("PATCH", f"/v2/account/articles/{sandbox.article('Old title')['id']}", {"title": "New title"})
    ice = sandbox.article("Ice")
    sandbox.ask("DELETE", f"/v2/account/articles/{ice['id']}/files/{ice['files'][0]['id']}")
    sandbox.seed(count=1, title="From elsewhere")
    mount.start()
    assert (mount.articles / "Ice" / "f").stat().st_size == 5
    wait_until(lambda: not names(mount.articles / "Ice"), what="gone")
    wait_until(lambda: names(mount.articles) == {"Ice", "New title", "From elsewhere 00001"}, what="renamed")


@pytest.mark.parametrize("listed", [1, 20, 55])
def test_killed_while_listings_are_written(make_mount: MakeMount, listed: int) -> None:
    """What is there after kill -9 is right, all of it or a part; and what was uploaded since is shown."""
    mount = make_mount()
    a_tree(mount.sandbox, projects=2, articles=60, files=2)
    (mount.articles / "Ice").mkdir()
    (mount.articles / "Ice" / "f").write_bytes(b"first")
    walker = subprocess.Popen(["ls", "-lR", mount.path], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until(lambda: len(mount.sandbox.requests("api", "GET", r"/articles/\d+$")) >= listed)
    (mount.articles / "Ice" / "g").write_bytes(b"second")
    mount.kill()
    walker.wait()
    mount.start()
    assert names(mount.articles / "Ice") == {"f", "g"}
    assert walk(mount).count("file-0002.bin") == 60
    assert "damaged" not in mount.log()


def test_a_damaged_file_of_listings_is_made_anew(make_mount: MakeMount) -> None:
    mount = make_mount()
    (mount.articles / "Ice").mkdir()
    mount.unmount()
    (mount.state / "listings.db").write_bytes(os.urandom(20_000))
    mount.start()
    assert names(mount.articles) == {"Ice"}
    assert "is made anew" in mount.log()
    mount.signal(signal.SIGTERM)
    assert mount.wait() == 0
