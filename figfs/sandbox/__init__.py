"""A local Figshare. Shares no code with figfs.figshare, so one misreading cannot hide in both."""
