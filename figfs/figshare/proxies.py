"""Proxies of the environment (HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY), by httpx's rules.

httpx reads them itself only where it may also make its own transport for everything else.
"""

from __future__ import annotations

import ipaddress
import urllib.request

import httpx


def mounts() -> dict[str, httpx.AsyncBaseTransport | None]:
    """For ``httpx.AsyncClient(mounts=…)``: patterns of URLs with their proxy, or None where none is used."""
    found = urllib.request.getproxies()
    direct = [name for name in (name.strip() for name in found.get("no", "").split(",")) if name]
    if "*" in direct:
        return {}
    result: dict[str, httpx.AsyncBaseTransport | None] = {}
    for scheme in ("http", "https", "all"):
        proxy = found.get(scheme)
        if proxy:
            url = proxy if "://" in proxy else f"http://{proxy}"
            result[f"{scheme}://"] = httpx.AsyncHTTPTransport(proxy=url)
    return result | {_pattern(name): None for name in direct}


def _pattern(name: str) -> str:
    if "://" in name:
        return name
    try:
        address = ipaddress.ip_address(name.partition("/")[0])
    except ValueError:
        # "example.org" and ".example.org" stand for the sub-domains too.
        return f"all://{name}" if name.lower() == "localhost" else f"all://*{name}"
    return f"all://[{name}]" if address.version == 6 else f"all://{name}"
