"""Speaks to Figshare; the only package of the mount that imports httpx."""
