"""The commands about what is owed: ``status``, ``wait``, ``retry``, ``discard``, ``recover``."""
