"""figfs: mount a Figshare account as a file system on Linux. The map of the package is ARCHITECTURE.md."""

__version__ = "0.1.0"
