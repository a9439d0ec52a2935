"""Which bytes are here, which are on Figshare, and what is owed."""
