"""The directories and documents of ``.figshare``: inodes, names and handles, not what they say."""
