"""The status, drawn."""
