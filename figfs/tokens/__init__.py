"""Where tokens are kept, how they are won and renewed."""
