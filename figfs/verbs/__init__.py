"""What ``figfs.filesystem`` hands on: containers, queries, public items, links, extended attributes."""
