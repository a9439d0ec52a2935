"""The project itself: format, lint, types, and which module may import which. The same as scripts/check."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TOOLS = Path(sys.executable).parent


@pytest.mark.parametrize(
    "command",
    [["ruff", "format", "--check", "."], ["ruff", "check", "."], ["mypy"], ["lint-imports"]],
    ids=["format", "lint", "types", "layers"],
)
def test_check(command: list[str]) -> None:
    """What scripts/check looks at is as it should be."""
    assert " ".join(command) in (ROOT / "scripts" / "check").read_text().replace('"$venv/bin/', "").replace(
        '"', ""
    )
    done = subprocess.run(
        [TOOLS / command[0], *command[1:]], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
