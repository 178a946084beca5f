"""Shadows: from the copy of the arguments to the comparison, off the caller's path."""
