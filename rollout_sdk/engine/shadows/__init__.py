"""Shadow runs, off the caller's path: from copying the arguments to comparing the outputs."""
