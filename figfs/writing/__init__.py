"""From written bytes to stored files: spool, journal, uploader."""
