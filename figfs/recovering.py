"""Copying out bytes that Figshare does not have: ``figfs recover``."""
