"""What a mount tells its owner, and what it is told to do: the control socket and its commands."""
