"""What is in ``.figshare/``: metadata, citations, checksums, statistics, notes, private links."""
