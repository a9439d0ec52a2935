"""What a person can say: it becomes a ``Settings``, or a request to a mount. ``figfs.cli`` joins them."""
