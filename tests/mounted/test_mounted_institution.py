"""A colleague's account, mounted by the administrator of an institution (semantics.md: what a mount writes is
the account's that it shows).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from processes import FIGFS, MakeMount, Sandbox, content, environment, md5, names, run

COLLEAGUE = 1000002


@pytest.fixture
def institution(make_sandbox: Callable[..., Sandbox]) -> Sandbox:
    sandbox = make_sandbox("example")
    sandbox.change_settings(institution_admin=True)
    return sandbox


@pytest.mark.parametrize("who", ["1000002", "sven@example.org", "u002"])
def test_a_colleagues_account(institution: Sandbox, make_mount: MakeMount, who: str) -> None:
    """Found by id, e-mail or institution user id: shows what the colleague has, and writes there."""
    mount = make_mount("-o", f"impersonate={who},grace=0", sandbox=institution)
    assert names(mount.articles) == {"Airborne radar of the same glacier"}
    own = {article["id"] for article in institution.account()["articles"]}
    article = mount.articles / "For a colleague"
    article.mkdir()
    data = content("impersonated", 300_000)
    (article / "data.bin").write_bytes(data)
    found = institution.ask("GET", f"/v2/account/articles?impersonate={COLLEAGUE}")
    number = next(each["id"] for each in found if each["title"] == "For a colleague")
    (file,) = institution.ask("GET", f"/v2/account/articles/{number}/files?impersonate={COLLEAGUE}")
    assert (file["name"], file["computed_md5"], file["status"]) == ("data.bin", md5(data), "available")
    assert {each["id"] for each in institution.account()["articles"]} == own

    mount.unmount()
    other = make_mount("-o", f"impersonate={who}", sandbox=institution)  # nothing of it in this one's cache
    assert (other.articles / "For a colleague" / "data.bin").read_bytes() == data
    (other.articles / "For a colleague" / "data.bin").unlink()
    (other.articles / "For a colleague").rmdir()
    assert names(other.articles) == {"Airborne radar of the same glacier"}


def test_each_account_has_its_own_state(institution: Sandbox, tmp_path: Path) -> None:
    """What is owed to one account is never sent to another: the journal's place has the account's id."""
    home = environment(tmp_path, FIGFS_API=institution.api, FIGFS_TOKEN=institution.token)
    for number, options in enumerate(([], ["--impersonate", "u002"])):
        point = tmp_path / str(number)
        point.mkdir()
        run(*FIGFS, "mount", "--background", "--api-rate", "0", *options, point, env=home)
        run(*FIGFS, "umount", point, env=home)
    found = [path.name.rpartition("-")[2] for path in (tmp_path / "state/figfs").iterdir() if path.is_dir()]
    assert sorted(found) == ["1000001", "1000002"]


@pytest.mark.parametrize(
    ("admin", "who", "said"),
    [
        (False, "u002", "for administrators of an institution, which this token's account is not"),
        (True, "nobody@example.org", "the institution has no account 'nobody@example.org'"),
    ],
)
def test_who_cannot_be_impersonated(
    admin: bool, who: str, said: str, institution: Sandbox, tmp_path: Path
) -> None:
    """Nothing is mounted, and one line says why."""
    institution.change_settings(institution_admin=admin)
    home = environment(tmp_path, FIGFS_API=institution.api, FIGFS_TOKEN=institution.token)
    (tmp_path / "mnt").mkdir()
    done = run(*FIGFS, "mount", "--impersonate", who, tmp_path / "mnt", env=home, code=1)
    assert said in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
