"""What exists and what it is called."""
