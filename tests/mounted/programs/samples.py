"""What the programs of these tests write, and how it is compared."""

from __future__ import annotations

import dataclasses
import stat
from collections.abc import Callable
from pathlib import Path

from processes import Mount, content

MakeMount = Callable[..., Mount]
Needs = Callable[..., None]

OLD = content("old", 30_000)
NEW = content("new", 50_000)
TREE = {
    "read me.txt": b"first\n",
    "data/2019/a.csv": content("a", 4_000),
    "data/2020/a.csv": content("b", 4_000),
    "data/naïve café.bin": content("c", 300_000),
    "plots/deep/er/x.png": content("x", 1),
}


@dataclasses.dataclass
class Leftovers:
    """What a test leaves in its article that is not to be on Figshare, or not yet: relative paths."""

    local: set[str] = dataclasses.field(default_factory=set)


def attributes(directory: Path) -> dict[str, tuple[int, int]]:
    """Mode and mtime of all that is below a directory."""
    return {
        str(path.relative_to(directory)): (stat.S_IMODE(path.stat().st_mode), path.stat().st_mtime_ns)
        for path in directory.rglob("*")
    }
