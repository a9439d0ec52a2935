"""Uploads through a mount: how many requests, how much memory (issue 4, seen by 5; performance.md)."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from processes import Mount, content, new_article, run

MakeMount = Callable[..., Mount]
MIB = 1 << 20

pytestmark = pytest.mark.fuse


def peak(mount: Mount) -> int:
    """Most bytes of memory that the daemon has had."""
    assert mount.process is not None
    status = Path(f"/proc/{mount.process.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def test_small_files_cost_at_most_five_api_requests_each(make_mount: MakeMount, tmp_path: Path) -> None:
    """Announcement, upload URL, completion, status; the uploader is asked once or twice."""
    mount = make_mount()
    article = new_article(mount, "Many small ones")
    source = tmp_path / "source"
    source.mkdir()
    files = {f"f{number:02}": content(str(number), 30_000) for number in range(30)}
    for name, data in files.items():
        (source / name).write_bytes(data)
    mount.sandbox.clear_requests()
    run("cp", "-r", f"{source}/.", article.path)
    article.holds(files)
    asked = [request["role"] for request in mount.sandbox.requests()]
    assert asked.count("api") <= 5 * len(files)
    assert asked.count("upload") <= len(files) + 1


@pytest.mark.parametrize("size", [200 * MIB, pytest.param(2000 * MIB, marks=pytest.mark.long)])
def test_a_large_file_takes_little_memory(make_mount: MakeMount, tmp_path: Path, size: int) -> None:
    """Under 150 MB, whatever the size; what arrives is what was written."""
    if shutil.disk_usage(tmp_path).free < 4 * size:
        pytest.skip("there is no room on the disk")
    mount = make_mount("--close-timeout", "20m", "--cache-size", "0")
    article = new_article(mount, "A large one")
    block = content("block", 4 * MIB)
    digest = hashlib.md5(usedforsecurity=False)
    with (article.path / "large").open("wb") as file:
        for number in range(size // len(block)):
            piece = number.to_bytes(8, "big") + block[8:]
            file.write(piece)
            digest.update(piece)
    assert peak(mount) < 150e6
    [stored] = mount.sandbox.ask("GET", f"/v2/account/articles/{article.id}/files")
    assert (stored["status"], stored["size"]) == ("available", size)
    assert stored["computed_md5"] == digest.hexdigest()
