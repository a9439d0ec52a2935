"""Who is let in: the personal token, and the tokens that OAuth gives (api.md §7).

Codes are good for one use within ``CODE_SECONDS``. An access token lives for the setting ``oauth_seconds``. A
refresh token is good once: its use gives a new pair, and leaves the access token from
before alive. Only hashes are kept, as any server would.
"""

from __future__ import annotations

import dataclasses
import hashlib
import secrets

from figfs.sandbox.errors import bad_request
from figfs.sandbox.state import Sandbox

CLIENT_ID = "sandbox-client"
CLIENT_SECRET = "sandbox-client-secret"  # noqa: S105 - opens nothing but a sandbox on this machine
CODE_SECONDS = 60


@dataclasses.dataclass(frozen=True, slots=True)
class Pair:
    access: str
    refresh: str
    seconds: int  #: life of the access token


def is_valid(sandbox: Sandbox, token: str) -> bool:
    """Whether it is the personal token or a living access token."""
    return token == sandbox.token or seconds_left(sandbox, token) is not None


def seconds_left(sandbox: Sandbox, token: str) -> int | None:
    """Of an access token; None if it is none that lives."""
    expires = sandbox.store.value(
        "SELECT expires FROM grants WHERE kind = 'access' AND hash = ?", _hash(token)
    )
    left = None if expires is None else expires - sandbox.clock.time()
    return None if left is None or left <= 0 else int(left)


def new_code(sandbox: Sandbox) -> str:
    return _grant(sandbox, "code", CODE_SECONDS)


def redeem_code(sandbox: Sandbox, code: str) -> Pair:
    """400 unless it is a code that nobody has used yet, and not too old."""
    if not _use(sandbox, "code", code):
        raise bad_request("Invalid authorization code", "InvalidGrant")
    return _pair(sandbox)


def redeem_refresh(sandbox: Sandbox, token: str) -> Pair:
    """400 unless it is a refresh token that was neither used nor revoked."""
    if not _use(sandbox, "refresh", token):
        raise bad_request("Invalid refresh token", "InvalidGrant")
    return _pair(sandbox)


def revoke(sandbox: Sandbox, kind: str) -> int:
    """Forget all tokens of a kind (``access``, ``refresh``); how many there were."""
    return sandbox.store.run("DELETE FROM grants WHERE kind = ?", kind)


def counts(sandbox: Sandbox) -> dict[str, int]:
    """Living codes and tokens, by kind."""
    rows = sandbox.store.rows(
        "SELECT kind, count(*) AS number FROM grants WHERE expires IS NULL OR expires > ? GROUP BY kind",
        sandbox.clock.time(),
    )
    return {"code": 0, "access": 0, "refresh": 0} | {row["kind"]: row["number"] for row in rows}


def _pair(sandbox: Sandbox) -> Pair:
    seconds = sandbox.settings.oauth_seconds
    return Pair(_grant(sandbox, "access", seconds), _grant(sandbox, "refresh", None), seconds)


def _grant(sandbox: Sandbox, kind: str, seconds: int | None) -> str:
    secret = secrets.token_hex(32)
    expires = None if seconds is None else sandbox.clock.time() + seconds
    sandbox.store.insert("grants", {"hash": _hash(secret), "kind": kind, "expires": expires})
    return secret


def _use(sandbox: Sandbox, kind: str, secret: str) -> bool:
    """Take it out; False if it was not there, or is too old."""
    now = sandbox.clock.time()
    sandbox.store.run("DELETE FROM grants WHERE expires <= ?", now)
    return sandbox.store.run("DELETE FROM grants WHERE kind = ? AND hash = ?", kind, _hash(secret)) > 0


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
