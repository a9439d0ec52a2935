"""OAuth: the page where a person lets figfs in, and how a code or a refresh token becomes tokens (api.md §7).

``POST /token`` answers 200 or 400, also where authentication fails. It is never repeated where its answer was
lost: a code is good once, and so may be a refresh token; ``UnknownOutcome`` lets the caller decide.
"""

from __future__ import annotations

import urllib.parse

from figfs.errors import BadAnswer, ConfigurationError, Forbidden, Invalid, Unauthorized
from figfs.figshare.client import Answer, Client
from figfs.figshare.records import Record
from figfs.settings import Token

LONGEST_LIFE = 10 * 365 * 86400.0  #: seconds; more is no life of a token


class Tokens(Record, frozen=True, kw_only=True):
    """What ``POST /token`` answers. ``expires_in``: seconds."""

    access_token: str
    refresh_token: str = ""
    expires_in: int | None = None

    @property
    def lifetime(self) -> float | None:
        """None where that is not known: then a 401 tells that it is over."""
        known = self.expires_in is not None and 0 < self.expires_in < LONGEST_LIFE
        return self.expires_in if known else None

    def __repr__(self) -> str:
        return f"Tokens(expires_in={self.expires_in})"


def authorize_page(api: str) -> str:
    """The web page that belongs to an API: ``https://figshare.com/…`` for ``https://api.figshare.com/v2``."""
    parts = urllib.parse.urlsplit(api)
    return f"{parts.scheme}://{parts.netloc.removeprefix('api.')}/account/applications/authorize"


def authorize_url(page: str, *, client_id: str, redirect_uri: str, state: str) -> str:
    """What the person has to open. PKCE is not documented by Figshare, so there is none."""
    query = {
        "response_type": "code",
        "client_id": client_id,
        "redirect_uri": redirect_uri,
        "state": state,
        "scope": "all",
    }
    return f"{page}{'&' if '?' in page else '?'}{urllib.parse.urlencode(query)}"


async def redeem(client: Client, code: str, *, client_id: str, client_secret: Token) -> Tokens:
    """The tokens for an authorization code. Raises ``Unauthorized`` if they are refused."""
    return await _ask(client, {"grant_type": "authorization_code", "code": code}, client_id, client_secret)


async def refresh(client: Client, token: Token, *, client_id: str, client_secret: Token) -> Tokens:
    """The next tokens; the refresh token may be used up by it, and ``token`` stays good if none comes back.

    Raises ``Unauthorized`` if it is refused: it has expired, was revoked, or was used.
    """
    asked = {"grant_type": "refresh_token", "refresh_token": token.reveal()}
    return await _ask(client, asked, client_id, client_secret)


async def _ask(client: Client, asked: dict[str, str], client_id: str, client_secret: Token) -> Tokens:
    secret = client_secret.reveal()
    body = {"client_id": client_id, "client_secret": secret} | asked
    secrets = [secret, *(text for name, text in asked.items() if name != "grant_type")]
    try:
        return await client.call(
            "POST",
            "/token",
            body=body,
            read=_read,
            anonymous=True,
            secrets=[text for text in secrets if text],
        )
    except (Invalid, Forbidden) as exc:
        raise Unauthorized(str(exc), status=exc.status) from None


def _read(answer: Answer) -> Tokens:
    tokens = Tokens.from_json(answer.json())
    for text in (tokens.access_token, tokens.refresh_token):
        if text and not (text.isascii() and text.isprintable() and " " not in text):
            raise BadAnswer("a token that cannot be one")
    if not tokens.access_token:
        raise BadAnswer("no access token")
    return tokens


def check_page(page: str) -> str:
    """``page``, if a browser can be sent there with a state that nobody else is to see."""
    parts = urllib.parse.urlsplit(page)
    local = parts.hostname in ("127.0.0.1", "localhost", "::1")
    if parts.scheme != "https" and not (parts.scheme == "http" and local):
        raise ConfigurationError(f"not a page to log in on: {page!r} (https is needed)")
    return page
