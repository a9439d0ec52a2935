"""From offsets to bytes: blocks, their cache, one open stored file."""
