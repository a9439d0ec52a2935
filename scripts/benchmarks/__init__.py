"""How fast figfs reads, beside rclone mount and curl, on one machine. ``scripts/bench`` runs it.

``results.py`` (what is measured, goals; pure), ``report.py`` (table and plot; pure), ``datasets.py`` (the
files and the account that has them), ``server.py`` (nginx for everybody), ``systems.py`` (the mounts),
``scenarios.py`` (what is done with them), ``readers.py`` (reads at random offsets, as a program of its own).
"""
